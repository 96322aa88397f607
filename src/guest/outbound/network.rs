//! What the outbound requests of all apps share: the platform's roots, and bounds for the node.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::{OnceCell, Semaphore};
use tracing::{error, info};

use super::address;

/// Names that are looked up at a time for all apps: each takes a thread until the system answers.
const MAX_LOOKUPS: usize = 64;

/// Outbound connections of all apps at the most, idle ones included.
const MAX_CONNECTIONS: usize = 1024;

/// One descriptor in this many may be an outbound connection.
const DESCRIPTORS_PER_CONNECTION: u64 = 4;

/// TLS sessions that one app keeps to resume.
const MAX_SESSIONS: usize = 64;

/// One for the whole process.
pub struct Network {
    roots: OnceCell<Arc<ClientConfig>>,
    /// A port of this machine that no guest may reach.
    forbidden: OnceLock<u16>,
    pub lookups: Arc<Semaphore>,
    pub connections: Arc<Semaphore>,
}

impl Network {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            roots: OnceCell::new(),
            forbidden: OnceLock::new(),
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)),
            connections: Arc::new(Semaphore::new(max_connections())),
        })
    }

    /// Keeps all guests from `address`, one of this machine's. The first call counts.
    pub fn forbid(&self, address: SocketAddr) {
        let _ = self.forbidden.set(address.port());
    }

    /// Whether `address` is one that guests are kept from. Whichever of the machine's addresses
    /// it names: what listens at one of them may be reached by another.
    pub fn forbids(&self, address: SocketAddr) -> bool {
        self.forbidden.get() == Some(&address.port()) && address::may_be_own(address.ip())
    }

    /// How one app speaks TLS: with the roots that all share, and with sessions of its own, which
    /// tell a server that two connections come from one client.
    pub async fn tls(&self) -> Arc<ClientConfig> {
        let load = || async {
            let loading = tokio::task::spawn_blocking(|| client(platform_roots()));
            let loaded = loading.await.unwrap_or_else(|_| client(RootCertStore::empty()));
            Arc::new(loaded)
        };
        let shared = self.roots.get_or_init(load).await;
        let mut own = ClientConfig::clone(shared);
        own.resumption = Resumption::in_memory_sessions(MAX_SESSIONS);
        Arc::new(own)
    }
}

fn client(roots: RootCertStore) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both versions of TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    client
}

/// The roots that the system trusts, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
///
/// Without any, every server is unknown: outbound HTTPS fails, and the log has said why.
fn platform_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, unusable) = roots.add_parsable_certificates(found.certs);
    match found.errors.first() {
        _ if usable > 0 => info!(usable, unusable, "loaded the platform's root certificates"),
        Some(error) => error!(%error, "no root certificates: outbound HTTPS fails"),
        None => error!("no root certificates (ca-certificates has them): outbound HTTPS fails"),
    }
    roots
}

fn max_connections() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call is given a valid `rlimit` and keeps no pointer to it.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
    // The soft limit is raised to the hard one before anything is served.
    let most = if known { limit.rlim_max / DESCRIPTORS_PER_CONNECTION } else { 0 };
    usize::try_from(most).unwrap_or(usize::MAX).clamp(16, MAX_CONNECTIONS)
}
