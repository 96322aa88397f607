//! TLS: which configuration a handshake has, and what is known of the client after it.
//!
//! Configurations are for the life of the process, so that its tickets are; certificates, authorities and
//! versions are those of the generation that serves at that moment.

use std::io;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::server::{
    Acceptor, ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert,
    ServerConnection,
};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{Error, HandshakeKind, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use super::challenge;
use crate::certificates::ClientVerifier;
use crate::challenges::Challenges;
use crate::config::{Host, TlsVersion};
use crate::generation::Current;

/// What HTTP/2 is called in a handshake.
pub const H2: &[u8] = b"h2";

/// What HTTP/3 is called in a handshake.
pub const H3: &[u8] = b"h3";

/// The protocols offered, best first.
const PROTOCOLS: [&[u8]; 2] = [H2, b"http/1.1"];

/// Bytes of a client's certificate, which goes along with each of its requests.
const CLIENT_CERTIFICATE_MAX: usize = 8 * 1024;

/// The fatal alert `unrecognized_name` (RFC 6066) as a record, which rustls has no way to send.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// What handshakes begin with.
pub struct Tls {
    current: Arc<Current>,
    /// What an authority that checks a host wants to see.
    challenges: Arc<Challenges>,
    certificate: Arc<Certificate>,
    /// For hosts that ask no client for a certificate: from TLS 1.2 on, and 1.3 alone.
    usual: [Arc<ServerConfig>; 2],
}

/// A connection whose host asks its clients for a certificate.
pub struct Verified {
    by: Arc<ClientVerifier>,
    /// The client's certificate as RFC 9440 writes it. Absent where none was required, and none was shown.
    pub identity: Option<HeaderValue>,
}

impl Tls {
    pub fn new(current: Arc<Current>, challenges: Arc<Challenges>) -> Result<Tls, Error> {
        let certificate = Arc::new(Certificate(Arc::clone(&current)));
        // One for both, so that a change of the version costs nobody a full handshake.
        let tickets = Ticketer::new()?;
        let usual = |version| configure(version, None, &certificate, &tickets).map(Arc::new);
        let usual = [usual(TlsVersion::V1_2)?, usual(TlsVersion::V1_3)?];
        Ok(Tls { current, challenges, certificate, usual })
    }

    /// Shakes hands with a client, and and asks it for a certificate if the host that it names does. None where
    /// it was an authority, and the handshake all that it wanted.
    pub async fn accept<S>(&self, stream: S) -> io::Result<Option<(TlsStream<S>, Option<Verified>)>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if self.challenges.is_empty()
            && let Some(usual) = self.whatever_is_named()
        {
            return Ok(Some((TlsAcceptor::from(usual).accept(stream).await?, None)));
        }
        let mut hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        if let Some(proof) = challenge::handshake(&self.challenges, &hello.client_hello()) {
            hello.into_stream(proof.map_err(io::Error::other)?).await?.shutdown().await?;
            return Ok(None);
        }
        let named = hello.client_hello().server_name().and_then(Host::from_authority);
        let Some(Chosen { config, clients }) =
            self.choose(named.as_ref()).map_err(io::Error::other)?
        else {
            hello.io.write_all(&UNRECOGNIZED_NAME).await?;
            hello.io.shutdown().await?;
            return Err(io::Error::other(
                "it is for no host that is served, and strict_sni is set",
            ));
        };
        let stream = hello.into_stream(config).await?;
        let Some(by) = clients else { return Ok(Some((stream, None))) };
        let identity = identity(&by, stream.get_ref().1).map_err(io::Error::other)?;
        Ok(Some((stream, Some(Verified { by, identity }))))
    }

    /// The configuration of every handshake, where it is the same for all hosts.
    fn whatever_is_named(&self) -> Option<Arc<ServerConfig>> {
        let generation = self.current.load();
        let config = &generation.config;
        let same = !config.tls.strict_sni && config.policies.is_empty();
        same.then(|| self.usual(config.tls.min_version))
    }

    /// The configuration of a handshake for the host that is `named`. None where it is refused.
    fn choose(&self, named: Option<&Host>) -> Result<Option<Chosen>, Error> {
        let generation = self.current.load();
        let tls = &generation.config.tls;
        if tls.strict_sni && !named.is_some_and(|host| generation.certificates.covers(host)) {
            return Ok(None);
        }
        let clients = named.and_then(|host| generation.client_verifier(host)).cloned();
        let config = match &clients {
            None => self.usual(tls.min_version),
            Some(by) => {
                Arc::new(configure(tls.min_version, Some(by), &self.certificate, &by.tickets)?)
            }
        };
        Ok(Some(Chosen { config, clients }))
    }

    fn usual(&self, oldest: TlsVersion) -> Arc<ServerConfig> {
        Arc::clone(&self.usual[usize::from(oldest == TlsVersion::V1_3)])
    }
}

/// What a handshake goes on with.
struct Chosen {
    config: Arc<ServerConfig>,
    clients: Option<Arc<ClientVerifier>>,
}

impl Verified {
    /// Whether it was this one that verified the client.
    pub fn is_by(&self, verifier: &Arc<ClientVerifier>) -> bool {
        Arc::ptr_eq(&self.by, verifier)
    }
}

fn configure(
    oldest: TlsVersion,
    clients: Option<&ClientVerifier>,
    certificate: &Arc<Certificate>,
    tickets: &Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, Error> {
    let versions: &[&SupportedProtocolVersion] = match oldest {
        TlsVersion::V1_2 => &[&TLS13, &TLS12],
        TlsVersion::V1_3 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(Arc::clone(&clients.verifier)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::clone(certificate) as _);
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    // Resumption without state of ours: no table for clients to fill.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Arc::clone(tickets);
    Ok(config)
}

/// Who the client is, by a certificate that `by` has verified.
fn identity(by: &ClientVerifier, session: &ServerConnection) -> Result<Option<HeaderValue>, Error> {
    let chain = session.peer_certificates().unwrap_or_default();
    let Some(leaf) = chain.first() else {
        return match by.required {
            true => Err(Error::NoCertificatesPresented),
            false => Ok(None),
        };
    };
    if leaf.len() > CLIENT_CERTIFICATE_MAX {
        return Err(Error::General("the client's certificate is larger than 8 KiB".to_owned()));
    }
    if session.handshake_kind() == Some(HandshakeKind::Resumed) {
        by.verify(chain)?;
    }
    let value = HeaderValue::try_from(format!(":{}:", STANDARD.encode(leaf)));
    value.map(Some).map_err(|error| Error::General(error.to_string()))
}

/// The configuration of every handshake over QUIC.
pub fn quic_config(current: Arc<Current>) -> Result<Arc<ServerConfig>, Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Certificate(current)));
    config.alpn_protocols = vec![H3.to_vec()];
    config.ticketer = Ticketer::new()?;
    // A request in it could be sent again by anyone who saw it.
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// Chooses by the host that the client names, in the generation that serves at that moment.
struct Certificate(Arc<Current>);

impl ResolvesServerCert for Certificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let generation = self.0.load();
        let certificates = &generation.certificates;
        let named = hello.server_name().and_then(Host::from_authority);
        let certificate = named.and_then(|host| certificates.resolve(&host));
        match generation.config.tls.strict_sni {
            true => certificate,
            // A client that names nothing we serve gets a handshake and a 404, which says more than an alert.
            false => certificate.or_else(|| certificates.fallback()),
        }
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificate")
    }
}
