//! Hosts that ask their clients for a certificate.

use std::process::Command;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;
use time::Duration;

use super::{YEAR, get_as, seen, site};
use crate::support::certificates::{Authority, Pair};
use crate::support::client::{VERSIONS, Version, ask, connect, get, status, trusting, trusting_as};
use crate::support::python::missing;
use crate::support::server::{Server, Site};

/// `required.test` and `optional.test` know the clients of one authority, `other.test` those of another.
const HOSTS: &str = r#"
"required.test" = { "/" = "p2", client_ca = "certs/ca.pem" }
"optional.test" = { "/" = "p3", client_ca = "certs/ca.pem", client_auth = "optional" }
"other.test" = { "/" = "p2", client_ca = "certs/other.pem", client_auth = "required", redirect_to_https = false }
"*.wild.test" = { "/" = "p2", client_ca = "certs/ca.pem" }
"open.wild.test" = "p3"

[tls.certificates]
"required.test" = { cert = "certs/all.pem", key = "certs/all.key" }
"optional.test" = { cert = "certs/all.pem", key = "certs/all.key" }
"other.test" = { cert = "certs/all.pem", key = "certs/all.key" }
"*.wild.test" = { cert = "certs/all.pem", key = "certs/all.key" }
"p2.test" = { cert = "certs/all.pem", key = "certs/all.key" }
"#;

/// A site with these hosts, which all have one certificate, so that browsers would bring all on one connection.
struct Secured {
    site: Site,
    server: Server,
    root: String,
    known: Pair,
    stranger: Pair,
}

impl Secured {
    fn start() -> Secured {
        let site = site(HOSTS);
        let key = rcgen::KeyPair::generate().expect("a key");
        let names = ["required.test", "optional.test", "other.test", "*.wild.test", "p2.test"]
            .map(str::to_owned);
        let params = rcgen::CertificateParams::new(names).expect("names");
        let root = params.self_signed(&key).expect("a certificate").pem();
        site.put("certs/all.key", key.serialize_pem().as_bytes());
        site.put("certs/all.pem", root.as_bytes());
        let [ca, other] = ["ca", "other"].map(|name| {
            let authority = Authority::new(name);
            site.put(&format!("certs/{name}.pem"), authority.pem().as_bytes());
            authority
        });
        let server = site.start();
        let (known, stranger) = (ca.client("known", YEAR), other.client("stranger", YEAR));
        Secured { root: format!("{root}{}", site.root()), site, server, known, stranger }
    }

    fn client(&self, version: Version, own: Option<&Pair>) -> Arc<ClientConfig> {
        trusting_as(&self.root, version, own)
    }

    /// The status of a request for `authority`, which is the handshake's `sni`, unless that fails.
    async fn status(
        &self,
        version: Version,
        own: Option<&Pair>,
        (sni, authority): (&str, &str),
    ) -> Option<u16> {
        let client = self.client(version, own);
        let target = (authority, "/inspect");
        let reply = get_as(&self.server, (version, &client), sni, target, &[]).await.ok()?;
        Some(reply.status.as_u16())
    }
}

/// A certificate as RFC 9440 writes it.
fn written(pair: &Pair) -> String {
    format!(":{}:", STANDARD.encode(&pair.der))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_certificate_is_verified_and_told_to_the_guest() {
    let site = Secured::start();
    let (known, stranger) = (Some(&site.known), Some(&site.stranger));

    for version in VERSIONS {
        for host in ["required.test", "a.wild.test"] {
            assert_eq!(site.status(version, None, (host, host)).await, None);
            assert_eq!(site.status(version, stranger, (host, host)).await, None);
            assert_eq!(site.status(version, known, (host, host)).await, Some(200));
        }
        assert_eq!(site.status(version, known, ("other.test", "other.test")).await, None);
        assert_eq!(site.status(version, stranger, ("other.test", "other.test")).await, Some(200));
        // An entry of its own asks for nothing that another one does.
        for host in ["open.wild.test", "p2.test", "hello.test"] {
            assert_eq!(site.status(version, None, (host, host)).await, Some(200), "{host}");
        }

        let client = site.client(version, known);
        let target = ("required.test", "/inspect");
        let reply = get_as(&site.server, (version, &client), "required.test", target, &[]).await;
        assert_eq!(seen(&reply.expect("an answer"), "client-cert"), [written(&site.known)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_optional_certificate_is_told_if_there_is_one() {
    let site = Secured::start();
    let host = "optional.test";

    for version in VERSIONS {
        for (own, expected) in [(None, vec![]), (Some(&site.known), vec![written(&site.known)])] {
            let client = site.client(version, own);
            let reply =
                get_as(&site.server, (version, &client), host, (host, "/inspect"), &[]).await;
            assert_eq!(seen(&reply.expect("an answer"), "client-cert"), expected);
        }
        let bad = site.status(version, Some(&site.stranger), (host, host)).await;
        assert_eq!(bad, None, "a bad one is not as good as none");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_can_say_who_it_is_by_itself() {
    let site = Secured::start();
    let forged = written(&site.known);
    let headers = [
        ("client-cert", forged.as_str()),
        ("Client-Cert-Chain", &forged),
        ("Client-Cert", ":AA==:"),
    ];

    for version in VERSIONS {
        for (host, own, expected) in [
            ("p2.test", None, vec![]),
            ("p2.test", Some(&site.known), vec![]),
            ("p3.test", None, vec![]),
            ("optional.test", None, vec![]),
            ("required.test", Some(&site.known), vec![forged.clone()]),
        ] {
            let client = site.client(version, own);
            let target = (host, "/inspect");
            let reply = get_as(&site.server, (version, &client), host, target, &headers).await;
            let reply = reply.expect("an answer");
            assert_eq!(seen(&reply, "client-cert"), expected, "{host}");
            assert_eq!(seen(&reply, "client-cert-chain"), [""; 0], "{host}");
        }
    }
    let forged =
        format!("host: p3.test\r\nclient-cert: {forged}\r\nclient-cert-chain: {forged}\r\n");
    let plain = ask(&site.server, "GET", "/inspect", &forged).await;
    assert_eq!(status(&plain), 200);
    assert!(!plain.contains("client-cert"), "{plain}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_connection_leads_to_a_host_that_asks() {
    let site = Secured::start();
    let (known, stranger) = (Some(&site.known), Some(&site.stranger));

    for version in VERSIONS {
        for (own, sni, authority, expected) in [
            // As a browser does that has one connection for all names of a certificate.
            (None, "p2.test", "p2.test", 200),
            (None, "p2.test", "required.test", 421),
            (known, "p2.test", "required.test", 421),
            (known, "p2.test", "optional.test", 421),
            (None, "p2.test", "a.wild.test", 421),
            (None, "open.wild.test", "a.wild.test", 421),
            // Verified, but for another host.
            (stranger, "other.test", "required.test", 421),
            (known, "required.test", "other.test", 421),
            (known, "a.wild.test", "b.wild.test", 421),
            (None, "optional.test", "required.test", 421),
            (known, "optional.test", "required.test", 421),
            (known, "required.test", "optional.test", 421),
            // The other way round there is nothing to protect, and no one to name.
            (known, "required.test", "p2.test", 200),
        ] {
            let got = site.status(version, own, (sni, authority)).await;
            assert_eq!(got, Some(expected), "{version:?} for {authority} by {sni}");
        }
    }
    // A client that names no host is asked for nothing.
    let mut unnamed = ClientConfig::clone(&site.client(Version::H1, known));
    unnamed.enable_sni = false;
    unnamed.dangerous().set_certificate_verifier(Arc::new(AnyServer));
    let client = (Version::H1, &Arc::new(unnamed));
    for (host, expected) in [("required.test", 421), ("optional.test", 421), ("p2.test", 200)] {
        let reply = get_as(&site.server, client, host, (host, "/hello"), &[]).await;
        assert_eq!(reply.expect("an answer").status, expected, "{host}");
    }
    // Plain HTTP leads nowhere either.
    let plain = async |host, path| get(&site.server, host, path).await.expect("an answer").status;
    assert_eq!(plain("required.test", "/hello").await, 308);
    assert_eq!(plain("other.test", "/hello").await, 421);
    assert_eq!(plain("required.test", "/.well-known/acme-challenge/x").await, 421);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_refused() {
    let site = Secured::start();
    let authority = Authority::new("another");
    site.site.put("certs/ca.pem", authority.pem().as_bytes());
    site.server.wait_for_log("reloaded");

    let expired = authority.client("late", Duration::minutes(-1));
    let host = ("required.test", "required.test");
    assert_eq!(site.status(Version::H1, Some(&expired), host).await, None);
    let good = authority.client("in time", YEAR);
    assert_eq!(site.status(Version::H1, Some(&good), host).await, Some(200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_too_large_to_be_told_is_refused() {
    let site = Secured::start();
    let authority = Authority::new("another");
    site.site.put("certs/ca.pem", authority.pem().as_bytes());
    site.server.wait_for_log("reloaded");

    let large = authority.client(&"x".repeat(9000), YEAR);
    let config = trusting_as(&site.root, Version::H1, Some(&large));
    let target = ("required.test", "/hello");
    let reply = get_as(&site.server, (Version::H1, &config), "required.test", target, &[]).await;
    assert!(reply.is_err());
    let small = authority.client("x", YEAR);
    let host = ("required.test", "required.test");
    assert_eq!(site.status(Version::H1, Some(&small), host).await, Some(200));
}

/// A client that is not ours.
#[tokio::test(flavor = "multi_thread")]
async fn curl_shows_its_certificate() {
    let site = Secured::start();
    site.known.put(&site.site, "known");
    let port = site.server.https.port();
    let curl = |own: &[&str]| {
        let url = format!("https://required.test:{port}/hello");
        Command::new("curl")
            .args(["--silent", "--cacert", "certs/all.pem", "--resolve"])
            .arg(format!("required.test:{port}:127.0.0.1"))
            .args(own)
            .arg(url)
            .current_dir(site.site.path(""))
            .output()
    };
    match curl(&["--cert", "certs/known.pem", "--key", "certs/known.key"]) {
        Ok(shown) => assert_eq!(String::from_utf8_lossy(&shown.stdout), "hello world\n"),
        Err(error) => return missing("curl", &error.to_string()),
    }
    let unknown = curl(&[]).expect("curl again");
    assert!(!unknown.status.success() && unknown.stdout.is_empty());
    assert!(connect(site.server.https, "p2.test", trusting(&site.root, Version::H2)).await.is_ok());
}

/// Takes any certificate: without SNI there is no name to hold it against.
#[derive(Debug)]
struct AnyServer;

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
