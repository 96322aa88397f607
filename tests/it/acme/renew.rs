//! Certificates are renewed in time, and no failure takes a good one away.

use std::time::Duration;

use instant_acme::{Account, AccountCredentials, RevocationRequest};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::pebble::{Options, Pebble, kept, shown, until_shown};
use crate::support::certificates::root as own_root;
use crate::support::client::Version;
use crate::support::connection::{Connection, Transport};

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_while_requests_run() {
    let options = Options { validity: Some(15), ..Options::default() };
    let Some(pebble) = Pebble::start(options) else { return };
    let site = pebble.site(&["a.test"], "http-01", "");
    let server = site.start();
    let root = pebble.root().await;
    let mut last = until_shown(&server, "a.test", &root, None).await;

    let transport = Transport::tls(&server, Version::H2, &root);
    let mut renewals = 0;
    while renewals < 2 {
        // Each is a handshake that verifies the certificate, its dates included.
        let mut connection = Connection::open(&transport, "a.test").await.expect("a handshake");
        assert_eq!(connection.get("/").await.expect("an answer").status, 200);
        let certificate = connection.certificate.expect("a certificate");
        if certificate != last {
            renewals += 1;
            assert!(left(&last) >= 1, "renewed {} s before it would have expired", left(&last));
        }
        last = certificate;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.wait_for_log("renewed the certificate");
    assert_eq!(server.complaints(), [""; 0]);
    assert!(pebble.logged("POST /order-plz") <= 4, "not more often than it has to be");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_renewal_leaves_the_certificate_and_comes_later() {
    let options = Options { validity: Some(20), ..Options::default() };
    let Some(mut pebble) = Pebble::start(options) else { return };
    let site = pebble.site(&["a.test"], "http-01", "");
    let server = site.start();
    let root = pebble.root().await;
    let first = until_shown(&server, "a.test", &root, None).await;

    pebble.down();
    let told = server.wait_for_log("no certificates for now");
    assert!(told.contains("cannot reach the authority at localhost:"), "{told}");
    assert!(told.contains("again_in="), "{told}");
    assert_eq!(shown(&server, "a.test", &root).await, Some(first), "it is shown still");

    // It has forgotten us, and its root is another.
    pebble.up();
    server.signal(libc::SIGHUP);
    let told = server.wait_for_log("accountDoesNotExist");
    assert!(told.contains("no certificates for now"), "{told}");
    until_shown(&server, "a.test", &pebble.root().await, None).await;
    assert_eq!(server.logged("registered an account").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_the_authority_wants_renewed_is_renewed() {
    let Some(pebble) = Pebble::start(Options::default()) else { return };
    if !pebble.gives_advice().await {
        return;
    }
    let site = pebble.site(&["a.test"], "http-01", "");
    let mut server = site.start();
    let root = pebble.root().await;
    let first = until_shown(&server, "a.test", &root, None).await;
    server.signal(libc::SIGTERM);
    assert!(server.exit().success());

    // Five years are left, but it is revoked.
    revoke(&site, &first).await;
    let server = site.start();

    server.wait_for_log("the authority wants the certificate renewed at once");
    until_shown(&server, "a.test", &root, Some(&first)).await;
    // The new one is left alone.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(server.logged("asking for a certificate").len(), 1);
    assert_eq!(server.logged("ERROR"), [""; 0]);
}

/// The seconds that a certificate is valid for yet.
fn left(certificate: &[u8]) -> i64 {
    let (_, x509) = X509Certificate::from_der(certificate).expect("a certificate");
    x509.validity().not_after.timestamp() - OffsetDateTime::now_utc().unix_timestamp()
}

/// As its owner can, with the account's key.
async fn revoke(site: &crate::support::server::Site, certificate: &[u8]) {
    let text = std::fs::read(kept(site).join("account.json")).expect("the account");
    let text: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let credentials: AccountCredentials =
        serde_json::from_value(text["account"].clone()).expect("an account");
    let mut roots = rustls::RootCertStore::empty();
    let pem = own_root();
    let root: CertificateDer<'_> =
        rustls::pki_types::pem::PemObject::from_pem_slice(pem.as_bytes()).expect("a root");
    roots.add(root).expect("a root");
    let https = tidegate::acme::Https::new(roots).expect("TLS");
    let account = Account::builder_with_http(Box::new(https))
        .from_credentials(credentials)
        .await
        .expect("the account is known");
    let certificate = CertificateDer::from(certificate.to_vec());
    let request = RevocationRequest { certificate: &certificate, reason: None };
    account.revoke(&request).await.expect("it is revoked");
}
