//! What responders have said of certificates, for handshakes to show beside them: OCSP stapling.
//!
//! Who asks responders is `ocsp`, and it alone puts anything in here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::sign::CertifiedKey;

/// Shared by all generations: found by the certificate itself, so that none is shown with another's.
#[derive(Default)]
pub struct Staples(ArcSwap<BTreeMap<Vec<u8>, Staple>>);

#[derive(Clone)]
struct Staple {
    /// The certificate with the response.
    certificate: Arc<CertifiedKey>,
    /// When the response expires.
    until: SystemTime,
}

impl Staples {
    /// `certificate` with what is stapled to it, if anything is that has not expired.
    pub fn on(&self, certificate: &Arc<CertifiedKey>) -> Arc<CertifiedKey> {
        let staples = self.0.load();
        if staples.is_empty() {
            return Arc::clone(certificate);
        }
        let staple = certificate.cert.first().and_then(|leaf| staples.get(leaf.as_ref()));
        // A handshake shows the chain of its generation, whatever the response came with.
        let holds =
            |it: &&Staple| it.certificate.cert == certificate.cert && SystemTime::now() < it.until;
        Arc::clone(staple.filter(holds).map_or(certificate, |it| &it.certificate))
    }

    /// Has `response` shown beside `certificate` until then.
    pub fn put(&self, certificate: &CertifiedKey, response: &[u8], until: SystemTime) {
        let Some(leaf) = certificate.cert.first() else { return };
        let stapled = CertifiedKey { ocsp: Some(response.to_vec()), ..certificate.clone() };
        let staple = Staple { certificate: Arc::new(stapled), until };
        self.0.rcu(|staples| {
            let mut staples = BTreeMap::clone(staples);
            staples.insert(leaf.to_vec(), staple.clone());
            staples
        });
    }

    /// Leaves those of these certificates only.
    pub fn retain(&self, wanted: impl Fn(&[u8]) -> bool) {
        if self.0.load().keys().all(|leaf| wanted(leaf)) {
            return;
        }
        self.0.rcu(|staples| {
            let mut staples = BTreeMap::clone(staples);
            staples.retain(|leaf, _| wanted(leaf));
            staples
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, KeyPair};
    use rustls::crypto::aws_lc_rs::sign::any_supported_type;
    use rustls::pki_types::PrivateKeyDer;

    use super::*;

    fn certificate() -> Arc<CertifiedKey> {
        let key = KeyPair::generate().unwrap();
        let leaf =
            CertificateParams::new(["a.test".to_owned()]).unwrap().self_signed(&key).unwrap();
        let key =
            any_supported_type(&PrivateKeyDer::try_from(key.serialize_der()).unwrap()).unwrap();
        Arc::new(CertifiedKey::new(vec![leaf.der().clone()], key))
    }

    #[test]
    fn a_response_is_shown_with_its_certificate_and_chain_and_no_other() {
        let (ours, other) = (certificate(), certificate());
        let staples = Staples::default();
        assert!(Arc::ptr_eq(&staples.on(&ours), &ours));
        let later = SystemTime::now() + Duration::from_secs(60);

        staples.put(&ours, b"good", later);
        assert_eq!(staples.on(&ours).ocsp.as_deref(), Some(&b"good"[..]));
        assert!(Arc::ptr_eq(&staples.on(&other), &other));
        let longer = [ours.cert.clone(), other.cert.clone()].concat();
        let longer = Arc::new(CertifiedKey::new(longer, Arc::clone(&ours.key)));
        assert!(Arc::ptr_eq(&staples.on(&longer), &longer), "the chain is this one's");

        staples.retain(|leaf| leaf != ours.cert[0].as_ref());
        assert!(Arc::ptr_eq(&staples.on(&ours), &ours));
    }

    #[test]
    fn a_response_is_not_shown_once_it_has_expired() {
        let ours = certificate();
        let staples = Staples::default();
        staples.put(&ours, b"good", SystemTime::now());
        assert!(staples.on(&ours).ocsp.is_none());
    }
}
