//! Shows the authority what it looks for: over HTTP, in a handshake, or in the DNS.

use std::sync::Arc;

use instant_acme::{ChallengeType, KeyAuthorization};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::dns::Record;
use super::failure::Failure;
use crate::challenges::{Challenges, Offer};
use crate::config::{Challenge, HostPattern};

/// Offers proofs by the manifest's challenge.
pub struct Prover {
    challenge: Challenge,
    challenges: Arc<Challenges>,
}

/// What the authority can find at the moment.
pub enum Proof {
    /// Withdrawn by its drop.
    Here(#[expect(dead_code, reason = "what counts is its drop")] Offer),
    InDns(Record),
}

impl Prover {
    pub fn new(challenge: Challenge, challenges: Arc<Challenges>) -> Prover {
        Prover { challenge, challenges }
    }

    /// The challenge, as the protocol has it.
    pub fn kind(&self) -> ChallengeType {
        match self.challenge {
            Challenge::Http01 => ChallengeType::Http01,
            Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
            Challenge::Dns01(_) => ChallengeType::Dns01,
        }
    }

    /// The challenge, as the manifest has it.
    pub fn name(&self) -> &'static str {
        self.challenge.as_str()
    }

    /// Puts the proof where the authority looks, and adds to `proofs` what has to be withdrawn, which
    /// may be something even where this fails.
    pub async fn offer(
        &self,
        host: &HostPattern,
        token: String,
        proof: &KeyAuthorization,
        proofs: &mut Vec<Proof>,
    ) -> Result<(), Failure> {
        let full = |error: crate::challenges::Full| Failure::of_host(error.to_string());
        match &self.challenge {
            Challenge::Http01 => {
                let offer = self.challenges.offer_http(token, proof.as_str().to_owned());
                proofs.push(Proof::Here(offer.map_err(full)?));
            }
            Challenge::TlsAlpn01 => {
                let HostPattern::Exact(host) = host else {
                    return Err(Failure::of_host("only dns-01 proves a wildcard"));
                };
                let certificate = certificate(host.as_str(), proof.digest().as_ref());
                let certificate = certificate.map_err(|error| {
                    Failure::of_host(format!("cannot make the certificate of a challenge: {error}"))
                })?;
                let offer = self.challenges.offer_tls(host.clone(), certificate);
                proofs.push(Proof::Here(offer.map_err(full)?));
            }
            Challenge::Dns01(dns) => {
                let record = Record::new(record_name(host), proof.dns_value());
                // Before it is there: a stop may come in the midst of it.
                proofs.push(Proof::InDns(record.clone()));
                let added = record.add(dns).await;
                added
                    .map_err(|error| Failure::of_host(error).with_help("look at [tls.acme.dns]"))?;
            }
        }
        Ok(())
    }

    /// What an operator can look at where the authority found no proof.
    pub fn help(&self, host: &HostPattern) -> String {
        match self.challenge {
            Challenge::Http01 => format!(
                "http://{host}/ must lead to this machine from anywhere, on port 80: look at the host's DNS records and the firewall"
            ),
            Challenge::TlsAlpn01 => format!(
                "https://{host}/ must lead to this machine from anywhere, on port 443, with nothing in between that speaks TLS itself: look at the host's DNS records and the firewall"
            ),
            Challenge::Dns01(_) => format!(
                "the record {} was added and not found: look whether the domain's name servers have it, and raise tls.acme.dns.wait if they take longer",
                record_name(host)
            ),
        }
    }
}

impl Proof {
    /// It is of no use any more.
    pub async fn withdraw(self, prover: &Prover) {
        if let (Proof::InDns(record), Challenge::Dns01(dns)) = (self, &prover.challenge) {
            record.remove(dns).await;
        }
    }
}

/// Where dns-01 looks. A wildcard and its domain have the same.
pub fn record_name(host: &HostPattern) -> String {
    let host = host.to_string();
    format!("_acme-challenge.{}", host.trim_start_matches("*."))
}

/// What tls-alpn-01 wants to see (RFC 8737).
fn certificate(
    host: &str,
    digest: &[u8],
) -> Result<CertifiedKey, Box<dyn std::error::Error + Send + Sync>> {
    let mut params = CertificateParams::new([host.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok(CertifiedKey::new(vec![certificate.der().clone()], any_supported_type(&key)?))
}
