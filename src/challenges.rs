//! Proofs that a host is ours, for the authority that asks: `acme` offers them, `server` gives them out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::sign::CertifiedKey;

use crate::config::Host;

/// Below this path an authority asks for a token of http-01 (RFC 8555, 8.3), over plain HTTP.
pub const WELL_KNOWN: &str = "/.well-known/acme-challenge/";

/// Proofs on offer at a time.
pub const OFFERS_MAX: usize = 64;

/// What may be asked for at the moment.
#[derive(Default)]
pub struct Challenges {
    /// How many there are, for those who would rather not lock.
    count: AtomicUsize,
    proofs: Mutex<Proofs>,
}

#[derive(Default)]
struct Proofs {
    /// By token, what a request for it is answered with.
    http: HashMap<String, String>,
    /// By host, what a handshake for it shows.
    tls: HashMap<Host, Arc<CertifiedKey>>,
}

/// A proof on offer until this is dropped.
pub struct Offer {
    challenges: Arc<Challenges>,
    of: Of,
}

enum Of {
    Http(String),
    Tls(Host),
}

/// There are [`OFFERS_MAX`] already.
#[derive(Debug, thiserror::Error)]
#[error("{OFFERS_MAX} challenges wait for the authority already")]
pub struct Full;

impl Challenges {
    /// Whether nothing is on offer, as it is nearly always.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// What a request for `token` is answered with.
    pub fn http(&self, token: &str) -> Option<String> {
        self.proofs().http.get(token).cloned()
    }

    /// What a handshake that asks about `host` shows.
    pub fn tls(&self, host: &Host) -> Option<Arc<CertifiedKey>> {
        self.proofs().tls.get(host).cloned()
    }

    /// Has requests for `token` answered with `proof`.
    ///
    /// # Errors
    /// When there are too many.
    pub fn offer_http(self: &Arc<Self>, token: String, proof: String) -> Result<Offer, Full> {
        self.offer(Of::Http(token.clone()), |proofs| {
            proofs.http.insert(token, proof);
        })
    }

    /// Has handshakes that ask about `host` show `proof`.
    ///
    /// # Errors
    /// When there are too many.
    pub fn offer_tls(self: &Arc<Self>, host: Host, proof: CertifiedKey) -> Result<Offer, Full> {
        self.offer(Of::Tls(host.clone()), |proofs| {
            proofs.tls.insert(host, Arc::new(proof));
        })
    }

    fn offer(self: &Arc<Self>, of: Of, insert: impl FnOnce(&mut Proofs)) -> Result<Offer, Full> {
        let mut proofs = self.proofs();
        if proofs.len() >= OFFERS_MAX {
            return Err(Full);
        }
        insert(&mut proofs);
        self.count.store(proofs.len(), Ordering::Release);
        Ok(Offer { challenges: Arc::clone(self), of })
    }

    fn proofs(&self) -> MutexGuard<'_, Proofs> {
        // A panic leaves at worst a proof too many.
        self.proofs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proofs {
    fn len(&self) -> usize {
        self.http.len() + self.tls.len()
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        let mut proofs = self.challenges.proofs();
        match &self.of {
            Of::Http(token) => drop(proofs.http.remove(token)),
            Of::Tls(host) => drop(proofs.tls.remove(host)),
        }
        self.challenges.count.store(proofs.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_there_for_as_long_as_it_is_offered_and_there_are_so_many() {
        let challenges = Arc::new(Challenges::default());
        assert!(challenges.is_empty());

        let offer = |number: usize| {
            challenges.offer_http(format!("token{number}"), format!("proof{number}"))
        };
        let offers: Vec<_> = (0..OFFERS_MAX).map(|n| offer(n).expect("there is room")).collect();
        assert!(offer(OFFERS_MAX).is_err());
        assert_eq!(challenges.http("token7").as_deref(), Some("proof7"));
        assert!(!challenges.is_empty());

        drop(offers);
        assert!(challenges.is_empty());
        assert_eq!(challenges.http("token7"), None);
    }
}
