//! Which certificate a client gets, by which protocol it is served, and how both change while connections go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::client::{Version, connect, get_tls, send, trusting};
use crate::support::pool::guest;
use crate::support::server::{PATIENCE, Server, Site, USUAL};

/// A certificate for `names`, signed by its own key, as its two PEM files.
fn certificate(names: &[&str]) -> (String, String) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(names).expect("names");
    let certificate = params.self_signed(&key).expect("a certificate");
    (certificate.pem(), key.serialize_pem())
}

/// The usual site, with certificates of the operator's for `hosts`.
fn site_with(certificates: &[(&str, &(String, String))]) -> Site {
    let tables: String = certificates
        .iter()
        .enumerate()
        .map(|(n, (host, _))| format!("\"{host}\" = {{ cert = \"{n}.pem\", key = \"{n}.key\" }}\n"))
        .collect();
    let site = Site::new(&format!("{USUAL}\n[tls.certificates]\n{tables}"));
    for (number, (_, (cert, key))) in certificates.iter().enumerate() {
        site.put(&format!("{number}.pem"), cert.as_bytes());
        site.put(&format!("{number}.key"), key.as_bytes());
    }
    for name in ["hello", "kit-p2", "kit-p3"] {
        site.put(&format!("apps/{name}.wasm"), &guest(name));
    }
    site
}

/// The status of `GET /` for `authority` on a connection whose handshake was for `sni`.
async fn status_for(
    server: &Server,
    root: &str,
    version: Version,
    sni: &str,
    authority: &str,
) -> u16 {
    let io = connect(server.https, sni, trusting(root, version)).await.expect("a handshake");
    let mut request = Request::get(format!("https://{authority}/hello"));
    if version == Version::H1 {
        request = Request::get("/hello").header("host", authority);
    }
    let request = request.body(Full::<Bytes>::default()).expect("a request");
    let response = send(io, version, request).await.expect("an answer");
    response.status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_host_has_a_certificate_of_its_own() {
    let given = certificate(&["p2.test"]);
    let site = site_with(&[("p2.test", &given)]);
    let server = site.start();

    for version in [Version::H1, Version::H2] {
        for host in ["hello.test", "p3.test"] {
            let reply = get_tls(&site, &server, host, "/hello", version).await.expect("a reply");
            assert_eq!(reply.status, 200);
        }
        assert_eq!(status_for(&server, &given.0, version, "p2.test", "p2.test").await, 200);
    }
    // The operator's is not the local CA's.
    assert!(get_tls(&site, &server, "p2.test", "/hello", Version::H1).await.is_err());
    // A host that is not served has no certificate that a client takes.
    assert!(
        connect(server.https, "nobody.test", trusting(&site.root(), Version::H1)).await.is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn both_protocols_are_spoken_over_both_versions_of_tls() {
    let site = Site::usual();
    let server = site.start();

    for (tls, expected) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)]
    {
        for (offered, chosen) in [
            (&[b"h2".as_slice(), b"http/1.1"][..], Some(b"h2".as_slice())),
            (&[b"http/1.1".as_slice(), b"h2"], Some(b"h2")),
            (&[b"http/1.1"], Some(b"http/1.1")),
            (&[], None),
        ] {
            let offered = offered.iter().map(|name| name.to_vec()).collect();
            let config = restricted(&site, tls, offered);
            let io = connect(server.https, "hello.test", config).await.expect("a handshake");
            let (_, session) = io.get_ref();
            assert_eq!(session.protocol_version(), Some(expected));
            assert_eq!(session.alpn_protocol(), chosen);
        }
    }
    let mut config = (*trusting(&site.root(), Version::H1)).clone();
    config.alpn_protocols = vec![b"spdy/3".to_vec()];
    assert!(connect(server.https, "hello.test", Arc::new(config)).await.is_err());
}

/// A client of one version of TLS.
fn restricted(
    site: &Site,
    tls: &'static rustls::SupportedProtocolVersion,
    protocols: Vec<Vec<u8>>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(site.root().as_bytes()).expect("a certificate");
    roots.add(root).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[tls])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols;
    Arc::new(config)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_the_hosts_of_its_certificate_and_no_other() {
    let given = certificate(&["hello.test", "p2.test"]);
    let other = certificate(&["p3.test"]);
    let pair = (given.0.clone(), given.1.clone());
    let site = site_with(&[("hello.test", &given), ("p2.test", &pair), ("p3.test", &other)]);
    let server = site.start();

    for version in [Version::H1, Version::H2] {
        let ask =
            async |authority| status_for(&server, &given.0, version, "hello.test", authority).await;
        assert_eq!(ask("hello.test").await, 200);
        assert_eq!(ask("p2.test").await, 200, "one certificate names both");
        assert_eq!(ask("p3.test").await, 421);
        assert_eq!(ask("nobody.test").await, 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_names_no_host_is_served() {
    let site = Site::new(&format!("{USUAL}\"127.0.0.1\" = \"hello\"\n"));
    for name in ["hello", "kit-p2", "kit-p3"] {
        site.put(&format!("apps/{name}.wasm"), &guest(name));
    }
    let server = site.start();

    // Clients send no SNI for an address.
    for authority in ["127.0.0.1", "hello.test"] {
        let status = status_for(&server, &site.root(), Version::H1, "127.0.0.1", authority).await;
        assert_eq!(status, 200, "{authority}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_swapped_while_connections_go_on() {
    let (old, new) = (certificate(&["hello.test"]), certificate(&["hello.test"]));
    let site = site_with(&[("hello.test", &old)]);
    let server = Arc::new(site.start());
    // A connection from before, and clients that trust both and never stop.
    let io = connect(server.https, "hello.test", trusting(&old.0, Version::H2)).await;
    let (mut before, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io.unwrap()))
            .await
            .expect("HTTP/2");
    tokio::spawn(connection);
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = [Version::H1, Version::H2]
        .into_iter()
        .map(|version| {
            let (server, stop, served) = (server.clone(), stop.clone(), served.clone());
            let both = format!("{}{}", old.0, new.0);
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let status =
                        status_for(&server, &both, version, "hello.test", "hello.test").await;
                    assert_eq!(status, 200);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();

    // The key first: until its certificate is there too, the old pair stays.
    let skipped = server.log().len();
    site.put("0.key", new.1.as_bytes());
    server.wait_for_log_after(skipped, "is not the key of");
    assert_eq!(status_for(&server, &old.0, Version::H1, "hello.test", "hello.test").await, 200);
    site.put("0.pem", new.0.as_bytes());
    server.wait_for_log_after(skipped, "reloaded");

    assert_eq!(status_for(&server, &new.0, Version::H1, "hello.test", "hello.test").await, 200);
    assert!(connect(server.https, "hello.test", trusting(&old.0, Version::H1)).await.is_err());
    let request = Request::get("https://hello.test/").body(Full::<Bytes>::default()).unwrap();
    let response = before.send_request(request).await.expect("the old connection still serves");
    assert_eq!(response.into_body().collect().await.expect("a body").to_bytes(), "hello world\n");
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no request failed");
    }
    assert!(served.load(Ordering::Relaxed) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_clients_are_left_behind_and_stop_nobody() {
    let site = Site::usual();
    let server = site.start();
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(server.https).await.expect("connect"));
    }

    for _ in 0..10 {
        let reply = get_tls(&site, &server, "hello.test", "/", Version::H1).await;
        assert_eq!(reply.expect("a reply").status, 200);
    }

    // Each is closed once its time for the handshake is over.
    for mut silent in silent {
        let mut byte = [0];
        let read = timeout(PATIENCE, silent.read(&mut byte)).await.expect("closed in time");
        assert!(matches!(read, Ok(0) | Err(_)));
    }
}
