//! TLS: one configuration for the life of the process, whose certificates are those of the current generation.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{Error, ServerConfig};

use crate::config::Host;
use crate::generation::Current;

/// What HTTP/2 is called in a handshake.
pub const H2: &[u8] = b"h2";

/// The protocols offered, best first.
const PROTOCOLS: [&[u8]; 2] = [H2, b"http/1.1"];

/// The configuration of every handshake.
pub fn configure(current: Arc<Current>) -> Result<Arc<ServerConfig>, Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Certificate(current)));
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    // Resumption without state of ours: no table for clients to fill.
    config.ticketer = Ticketer::new()?;
    Ok(Arc::new(config))
}

/// Chooses by the host that the client names, in the generation that serves at that moment.
struct Certificate(Arc<Current>);

impl ResolvesServerCert for Certificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let generation = self.0.load();
        let certificates = &generation.certificates;
        // A client that names nothing we serve gets a handshake and a 404, which says more than an alert.
        let named = hello.server_name().and_then(Host::from_authority);
        named.and_then(|host| certificates.resolve(&host)).or_else(|| certificates.fallback())
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificate")
    }
}
