//! Whether a response can be shown to clients: what it says, of what, until when, and by whom.

use std::time::{Duration, SystemTime};

use der::asn1::ObjectIdentifier;
use der::{Decode, Encode};
use rustls::pki_types::CertificateDer;
use x509_ocsp::{BasicOcspResponse, CertStatus, OcspResponse, OcspResponseStatus};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::signature::Signed;
use super::subject::Subject;

/// The kind of response that there is (`id-pkix-ocsp-basic`).
const BASIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.1");

/// A responder's clock may be ahead of ours by this.
const AHEAD: Duration = Duration::from_secs(300);

/// Certificates in a response that are looked at: it needs one.
const CERTIFICATES_MAX: usize = 4;

/// How long a response may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub from: SystemTime,
    pub until: SystemTime,
}

/// Why a response is not shown.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("the answer is not an OCSP response: {0}")]
    Unreadable(#[from] der::Error),
    #[error("the responder does not answer the question: {0:?}")]
    Status(OcspResponseStatus),
    #[error("the response is of a kind that is not known")]
    Kind,
    #[error("the response is not signed by the certificate's issuer, nor by a responder of its")]
    Signature,
    #[error("the response is about another certificate")]
    Another,
    #[error("the response does not say until when it holds")]
    Endless,
    #[error("the response has expired: look at this machine's clock")]
    Late,
    #[error("the response is from the future: look at this machine's clock")]
    Early,
    #[error("the certificate is revoked")]
    Revoked,
    #[error("the responder does not know the certificate")]
    Unknown,
}

/// Judges a response about `subject` at the time `now`.
///
/// # Errors
/// Why it must not be shown.
pub fn verify(response: &[u8], subject: &Subject, now: SystemTime) -> Result<Validity, Refusal> {
    let response = OcspResponse::from_der(response)?;
    let bytes = match (response.response_status, response.response_bytes) {
        (OcspResponseStatus::Successful, Some(bytes)) => bytes,
        (status, _) => return Err(Refusal::Status(status)),
    };
    if bytes.response_type != BASIC {
        return Err(Refusal::Kind);
    }
    let basic = BasicOcspResponse::from_der(bytes.response.as_bytes())?;
    let signed = Signed::read(bytes.response.as_bytes())?;
    let signer_until = signer_until(&signed, &basic, &subject.issuer, now)?;

    let mut answers = basic.tbs_response_data.responses.iter();
    let answer = answers.find(|it| subject.is(&it.cert_id)).ok_or(Refusal::Another)?;
    let from = answer.this_update.0.to_system_time();
    let until = answer.next_update.ok_or(Refusal::Endless)?.0.to_system_time();
    let until = signer_until.map_or(until, |signer| until.min(signer));
    if now >= until {
        return Err(Refusal::Late);
    }
    if from > now + AHEAD {
        return Err(Refusal::Early);
    }
    match answer.cert_status {
        CertStatus::Good(_) => Ok(Validity { from, until }),
        CertStatus::Revoked(_) => Err(Refusal::Revoked),
        CertStatus::Unknown(_) => Err(Refusal::Unknown),
    }
}

/// When the signer's right to speak for the issuer ends. None where it is the issuer itself.
fn signer_until(
    signed: &Signed<'_>,
    basic: &BasicOcspResponse,
    issuer: &CertificateDer<'_>,
    now: SystemTime,
) -> Result<Option<SystemTime>, Refusal> {
    let (_, issuer) = X509Certificate::from_der(issuer).map_err(|_| Refusal::Signature)?;
    if signed.is_by(issuer.public_key().raw) {
        return Ok(None);
    }
    for certificate in basic.certs.iter().flatten().take(CERTIFICATES_MAX) {
        let certificate = certificate.to_der()?;
        let until = appointed_until(&certificate, &issuer, now);
        if let Some((key, until)) = until
            && signed.is_by(key)
        {
            return Ok(Some(until));
        }
    }
    Err(Refusal::Signature)
}

/// The key of a certificate by which the issuer lets another one sign its responses, and when it expires.
fn appointed_until<'a>(
    certificate: &'a [u8],
    issuer: &X509Certificate<'_>,
    now: SystemTime,
) -> Option<(&'a [u8], SystemTime)> {
    let (_, x509) = X509Certificate::from_der(certificate).ok()?;
    let date = |seconds: i64| {
        let seconds = u64::try_from(seconds).ok()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
    };
    let from = date(x509.validity().not_before.timestamp())?;
    let until = date(x509.validity().not_after.timestamp())?;
    let signs = x509.extended_key_usage().ok()??.value.ocsp_signing;
    let is_appointed = signs
        && x509.issuer().as_raw() == issuer.subject().as_raw()
        && Signed::read(certificate).ok()?.is_by(issuer.public_key().raw)
        && from <= now
        && now < until;
    is_appointed.then_some((x509.tbs_certificate.subject_pki.raw, until))
}
