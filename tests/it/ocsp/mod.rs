//! OCSP responses are stapled to certificates that name a responder, where they are good.

mod responder;
mod stapling;
mod trouble;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use der::Decode;
use http::Request;
use http_body_util::Full;
use quinn::Endpoint;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};
use x509_ocsp::{BasicOcspResponse, OcspResponse};

use crate::support::certificates::Pair;
use crate::support::client::{Version, connect, send, whole};
use crate::support::server::{PATIENCE, Server, Site, USUAL};
use responder::Authority;

/// What a handshake shows.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    certificate: Vec<u8>,
    staple: Vec<u8>,
}

/// A verifier that keeps what it has seen.
#[derive(Debug)]
struct Reader {
    usual: Arc<WebPkiServerVerifier>,
    seen: Mutex<Option<Shown>>,
}

impl ServerCertVerifier for Reader {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        staple: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let seen = Shown { certificate: leaf.to_vec(), staple: staple.to_vec() };
        *self.seen.lock().expect("the lock") = Some(seen);
        self.usual.verify_server_cert(leaf, others, name, staple, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// A client that trusts `root`, and what reads for it.
fn reading(root: &str, tls: &'static SupportedProtocolVersion) -> (Arc<Reader>, ClientConfig) {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root.as_bytes()).expect("PEM")).expect("a root");
    let provider = Arc::new(default_provider());
    let usual = WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
    let usual = usual.build().expect("a verifier");
    let reader = Arc::new(Reader { usual, seen: Mutex::default() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[tls])
        .expect("a version")
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&reader) as _)
        .with_no_client_auth();
    (reader, config)
}

impl Reader {
    fn seen(&self) -> Shown {
        self.seen.lock().expect("the lock").take().expect("a full handshake")
    }
}

/// What a new connection sees, which also serves.
async fn shown_over(
    server: &Server,
    (host, root): (&str, &str),
    tls: &'static SupportedProtocolVersion,
    version: Version,
) -> Shown {
    let (reader, mut config) = reading(root, tls);
    let (protocol, request) = match version {
        Version::H1 => (&b"http/1.1"[..], Request::get("/").header("host", host)),
        Version::H2 => (&b"h2"[..], Request::get(format!("https://{host}/"))),
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    let io = connect(server.https, host, Arc::new(config)).await.expect("a handshake");
    let request = request.body(Full::<Bytes>::default()).expect("a request");
    let reply = whole(send(io, version, request).await.expect("an answer")).await;
    assert_eq!(reply.expect("an answer").status, 200);
    reader.seen()
}

/// What a handshake over QUIC sees.
async fn shown_over_quic(server: &Server, (host, root): (&str, &str)) -> Shown {
    let (reader, mut config) = reading(root, &TLS13);
    config.alpn_protocols = vec![b"h3".to_vec()];
    let config = QuicClientConfig::try_from(config).expect("a configuration");
    let client = Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a socket");
    let config = quinn::ClientConfig::new(Arc::new(config));
    let connecting = client.connect_with(config, server.https, host).expect("a host");
    connecting.await.expect("a handshake");
    reader.seen()
}

/// The same, over one or the other version.
async fn shown(server: &Server, authority: &Authority) -> Shown {
    shown_over(server, ("hello.test", &authority.root()), &TLS13, Version::H2).await
}

/// Waits until what is stapled is as it should be.
async fn until_shown(
    server: &Server,
    authority: &Authority,
    is_it: impl Fn(&Shown) -> bool,
) -> Shown {
    let end = Instant::now() + PATIENCE;
    loop {
        let shown = shown(server, authority).await;
        if is_it(&shown) {
            return shown;
        }
        let log = server.log().join("\n");
        assert!(Instant::now() < end, "waited in vain, {} bytes; {log}", shown.staple.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The number of the certificate that a response is about.
fn about(staple: &[u8]) -> u64 {
    let response = OcspResponse::from_der(staple).expect("a response");
    let bytes = response.response_bytes.expect("an answer");
    let basic = BasicOcspResponse::from_der(bytes.response.as_bytes()).expect("a basic one");
    let serial = basic.tbs_response_data.responses[0].cert_id.serial_number.as_bytes().to_vec();
    serial.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

/// The usual site, where `hello.test` has this pair.
fn site(pair: &Pair) -> Site {
    let site = Site::usual();
    std::fs::create_dir(site.path("certs")).expect("make certs/");
    pair.put(&site, "hello");
    site.write_manifest(&format!(
        "{USUAL}\n[tls.certificates]\n\"hello.test\" = {{ cert = \"certs/hello.pem\", key = \"certs/hello.key\" }}\n"
    ));
    site
}

/// Has the server ask the responder again, and waits for a line in the log about it.
fn ask_again(server: &Server, expected: &str) {
    let skipped = server.log().len();
    server.signal(libc::SIGHUP);
    server.wait_for_log_after(skipped, expected);
}
