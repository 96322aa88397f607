//! What to ask about a certificate, and whom.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use der::Encode;
use der::asn1::{Null, ObjectIdentifier, OctetString};
use http::Uri;
use rustls::pki_types::CertificateDer;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_ocsp::{CertId, OcspRequest, Request, TbsRequest, Version};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::OID_PKIX_ACCESS_DESCRIPTOR_OCSP;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::signature::Signed;

/// SHA-1, which names certificates here and protects nothing: every responder knows it (RFC 5019).
const SHA_1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");

/// A certificate that a responder can be asked about.
#[derive(Debug)]
pub struct Subject {
    pub responder: Uri,
    /// The certificate of whoever has issued it.
    pub issuer: CertificateDer<'static>,
    id: CertId,
}

impl Subject {
    /// The first certificate of `chain`. None where it names no responder.
    ///
    /// # Errors
    /// Why nothing can be asked, though it does.
    pub fn of(chain: &[CertificateDer<'static>]) -> Result<Option<Subject>, String> {
        let Some((leaf, others)) = chain.split_first() else { return Ok(None) };
        // Whoever has loaded it has read it before.
        let Ok((_, x509)) = X509Certificate::from_der(leaf) else { return Ok(None) };
        let named = responders(&x509);
        if named.is_empty() {
            return Ok(None);
        }
        let is_plain = |uri: &Uri| uri.scheme_str() == Some("http") && uri.host().is_some();
        let responder = named
            .iter()
            .find_map(|uri| uri.parse().ok().filter(is_plain))
            .ok_or_else(|| format!("its responder is not at an http:// URL: {}", named[0]))?;

        let issuer = others
            .iter()
            .find(|it| has_issued(it, &x509, leaf))
            .ok_or("its file does not have the certificate of its issuer")?;
        let id = id(issuer, &x509).map_err(|error| format!("it cannot be asked for: {error}"))?;
        Ok(Some(Subject { responder, issuer: issuer.clone(), id }))
    }

    /// The request, as responders want it. Without a nonce, so that they may answer what they have.
    ///
    /// # Errors
    /// When it cannot be written, which it always can.
    pub fn request(&self) -> der::Result<Vec<u8>> {
        let request = Request { req_cert: self.id.clone(), single_request_extensions: None };
        let tbs_request = TbsRequest {
            version: Version::V1,
            requestor_name: None,
            request_list: vec![request],
            request_extensions: None,
        };
        OcspRequest { tbs_request, optional_signature: None }.to_der()
    }

    /// Whether an answer is about this certificate.
    pub fn is(&self, id: &CertId) -> bool {
        // The algorithm's parameters are NULL, or left out.
        id.hash_algorithm.oid == self.id.hash_algorithm.oid
            && id.issuer_name_hash == self.id.issuer_name_hash
            && id.issuer_key_hash == self.id.issuer_key_hash
            && id.serial_number == self.id.serial_number
    }
}

fn responders<'a>(x509: &X509Certificate<'a>) -> Vec<&'a str> {
    let accesses = x509.extensions().iter().filter_map(|it| match it.parsed_extension() {
        ParsedExtension::AuthorityInfoAccess(access) => Some(&access.accessdescs),
        _ => None,
    });
    accesses
        .flatten()
        .filter(|it| it.access_method == OID_PKIX_ACCESS_DESCRIPTOR_OCSP)
        .filter_map(|it| match it.access_location {
            GeneralName::URI(uri) => Some(uri),
            _ => None,
        })
        .collect()
}

fn has_issued(issuer: &[u8], x509: &X509Certificate<'_>, leaf: &[u8]) -> bool {
    let Ok((_, issuer)) = X509Certificate::from_der(issuer) else { return false };
    issuer.subject().as_raw() == x509.issuer().as_raw()
        && Signed::read(leaf).is_ok_and(|leaf| leaf.is_by(issuer.public_key().raw))
}

fn id(issuer: &[u8], x509: &X509Certificate<'_>) -> Result<CertId, String> {
    let (_, issuer) = X509Certificate::from_der(issuer).map_err(|error| error.to_string())?;
    let hash = |bytes: &[u8]| {
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
        OctetString::new(hash.as_ref()).map_err(|error| error.to_string())
    };
    Ok(CertId {
        hash_algorithm: AlgorithmIdentifierOwned { oid: SHA_1, parameters: Some(Null.into()) },
        issuer_name_hash: hash(issuer.subject().as_raw())?,
        issuer_key_hash: hash(&issuer.public_key().subject_public_key.data)?,
        serial_number: SerialNumber::new(x509.raw_serial()).map_err(|error| error.to_string())?,
    })
}
