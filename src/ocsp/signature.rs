//! Who has signed something. Certificates and OCSP responses are of the same shape: what is signed, how,
//! and the signature.

use der::asn1::{AnyRef, BitStringRef};
use der::{Decode, Error, ErrorKind, Reader, Result, SliceReader, Tag};
use rustls::crypto::aws_lc_rs::default_provider;

/// Something signed, byte for byte.
pub struct Signed<'a> {
    message: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// # Errors
    /// When it is of another shape.
    pub fn read(der: &'a [u8]) -> Result<Signed<'a>> {
        let mut reader = SliceReader::new(AnyRef::from_der(der)?.value())?;
        Ok(Signed {
            message: reader.tlv_bytes()?,
            algorithm: AnyRef::decode(&mut reader)?.value(),
            signature: octets(&mut reader)?,
        })
    }

    /// Whether the key that this `SubjectPublicKeyInfo` has made the signature, in a way that is good enough
    /// for the certificates of a handshake.
    pub fn is_by(&self, key: &[u8]) -> bool {
        let read = || {
            let mut reader = SliceReader::new(AnyRef::from_der(key)?.value())?;
            Ok::<_, Error>((AnyRef::decode(&mut reader)?.value(), octets(&mut reader)?))
        };
        let Ok((kind, key)) = read() else { return false };
        let algorithms = default_provider().signature_verification_algorithms.all;
        algorithms
            .iter()
            .filter(|it| it.public_key_alg_id().as_ref() == kind)
            .filter(|it| it.signature_alg_id().as_ref() == self.algorithm)
            .any(|it| it.verify_signature(key, self.message, self.signature).is_ok())
    }
}

fn octets<'a>(reader: &mut SliceReader<'a>) -> Result<&'a [u8]> {
    let bits = BitStringRef::decode(reader)?;
    bits.as_bytes().ok_or_else(|| ErrorKind::Value { tag: Tag::BitString }.into())
}
