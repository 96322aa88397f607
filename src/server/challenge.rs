//! Answers an authority that checks whether a host is ours: by http-01, or by a handshake of tls-alpn-01.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{Error, ServerConfig};

use crate::challenges::{Challenges, WELL_KNOWN};
use crate::config::Host;

/// What a handshake of tls-alpn-01 speaks, and nothing beside it.
const ACME_TLS: &[u8] = b"acme-tls/1";

/// The answer to a request of http-01. None for any other, at the cost of one load.
pub fn answer<B>(challenges: &Challenges, request: &Request<B>) -> Option<Bytes> {
    if challenges.is_empty() || request.method() != Method::GET {
        return None;
    }
    let token = request.uri().path().strip_prefix(WELL_KNOWN)?;
    challenges.http(token).map(Bytes::from)
}

/// The configuration of a handshake of tls-alpn-01. None for any other hello.
///
/// A client that offers other protocols as well is none that checks, and gets what all clients get.
pub fn handshake(
    challenges: &Challenges,
    hello: &ClientHello<'_>,
) -> Option<Result<Arc<ServerConfig>, Error>> {
    if challenges.is_empty() || !hello.alpn()?.eq([ACME_TLS]) {
        return None;
    }
    let host = Host::from_authority(hello.server_name()?)?;
    challenges.tls(&host).map(configure)
}

fn configure(proof: Arc<CertifiedKey>) -> Result<Arc<ServerConfig>, Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Proof(proof)));
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    // Nobody comes back to it.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

struct Proof(Arc<CertifiedKey>);

impl ResolvesServerCert for Proof {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof")
    }
}
