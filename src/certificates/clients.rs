//! Who may be a client: the authorities whose certificates hosts ask their clients for.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ProducesTickets, WebPkiClientVerifier};
use rustls::{Error, RootCertStore};

use super::given::read_chain;
use crate::config::{ClientAuth, Config, Problem};

/// Authorities in one file.
const AUTHORITIES_MAX: usize = 64;

/// Bytes of their names, from which a client learns which of its certificates is wanted. More are left out.
const NAMES_MAX: usize = 16 * 1024;

/// What verifies the clients of a host.
///
/// The same one for as long as the authorities are the same: a connection is worth what its verifier is
/// worth now, and not what its host asked for when it was opened.
pub struct ClientVerifier {
    authorities: Vec<CertificateDer<'static>>,
    pub verifier: Arc<dyn ClientCertVerifier>,
    /// Whether a client without a certificate is refused.
    pub required: bool,
    /// Sessions are resumed with the same verifier only.
    pub tickets: Arc<dyn ProducesTickets>,
}

/// Each setting and what verifies as it says.
pub type ClientVerifiers = BTreeMap<ClientAuth, Arc<ClientVerifier>>;

impl ClientVerifier {
    /// Judges a certificate again that this has verified at an earlier handshake: it may have expired.
    pub fn verify(&self, chain: &[CertificateDer<'_>]) -> Result<(), Error> {
        match chain.split_first() {
            Some((leaf, intermediates)) => self
                .verifier
                .verify_client_cert(leaf, intermediates, UnixTime::now())
                .map(|_verified| ()),
            None => Err(Error::NoCertificatesPresented),
        }
    }

    fn read(auth: &ClientAuth) -> Result<ClientVerifier, Problem> {
        let path = auth.ca.value.display();
        let unusable = |why: String| {
            auth.ca
                .place
                .problem(format!("{path} cannot be what clients' certificates are from: {why}"))
        };
        let authorities = read_chain(&auth.ca)?;
        if authorities.len() > AUTHORITIES_MAX {
            let count = authorities.len();
            return Err(unusable(format!(
                "it holds {count} authorities, and {AUTHORITIES_MAX} is the most"
            )));
        }

        let mut roots = RootCertStore::empty();
        for authority in &authorities {
            roots.add(authority.clone()).map_err(|error| unusable(error.to_string()))?;
        }
        let names: usize = roots.subjects().iter().map(|name| name.as_ref().len()).sum();
        let provider = Arc::new(default_provider());
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        if names > NAMES_MAX {
            builder = builder.clear_root_hint_subjects();
        }
        if !auth.required {
            builder = builder.allow_unauthenticated();
        }
        Ok(ClientVerifier {
            verifier: builder.build().map_err(|error| unusable(error.to_string()))?,
            required: auth.required,
            tickets: Ticketer::new().map_err(|error| unusable(error.to_string()))?,
            authorities,
        })
    }
}

/// The verifiers that `config` asks for, those of `running` where the same is asked for as before, and what is
/// wrong with others.
pub fn read_all(
    config: &Config,
    running: &ClientVerifiers,
) -> (ClientVerifiers, Vec<(ClientAuth, Problem)>) {
    let (mut read, mut failed) = (ClientVerifiers::new(), BTreeMap::new());
    for auth in config.policies.values().filter_map(|policy| policy.client_auth.as_ref()) {
        // Hosts share files, those from a folder always.
        if read.contains_key(auth) || failed.contains_key(auth) {
            continue;
        }
        match ClientVerifier::read(auth) {
            Ok(verifier) => {
                let same = running.get(auth).filter(|it| it.authorities == verifier.authorities);
                read.insert(auth.clone(), same.cloned().unwrap_or_else(|| Arc::new(verifier)));
            }
            Err(problem) => {
                failed.insert(auth.clone(), problem);
            }
        }
    }
    (read, failed.into_iter().collect())
}
