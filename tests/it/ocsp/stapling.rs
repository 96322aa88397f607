//! What is stapled, to what, and for how long.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustls::version::{TLS12, TLS13};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::responder::{Authority, Options, Signer, line, openssl};
use super::{about, ask_again, shown, shown_over, shown_over_quic, site, until_shown};
use crate::acme::pebble::{self, Pebble};
use crate::support::client::{VERSIONS, Version};
use crate::support::peer::free_address;
use crate::support::python::missing;
use crate::support::server::{PATIENCE, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn a_good_response_is_stapled_over_every_version_of_tls_and_http() {
    let authority = Authority::new();
    let (pair, serial) = authority.pair("hello.test");
    let (site, root) = (site(&pair), authority.root());
    for signer in [Signer::Appointed, Signer::Issuer] {
        let options = Options { signer, ..Options::default() };
        let Some(_responder) = authority.answer(options) else { return };
        let _ = fs::remove_dir_all(site.path("state/ocsp"));
        let server = site.start();
        until_shown(&server, &authority, |it| !it.staple.is_empty()).await;
        for version in VERSIONS {
            for tls in [&TLS12, &TLS13] {
                let shown = shown_over(&server, ("hello.test", &root), tls, version).await;
                assert_eq!(about(&shown.staple), serial, "{version:?} {signer:?}");
            }
        }
        let shown = shown_over_quic(&server, ("hello.test", &root)).await;
        assert_eq!(about(&shown.staple), serial, "HTTP/3");
        assert_eq!(server.complaints(), [""; 0]);
    }
}

/// By ACME, from a real authority.
#[tokio::test(flavor = "multi_thread")]
async fn a_response_is_stapled_to_what_an_authority_has_issued() {
    let port = free_address().port();
    let responder = Some(format!("http://127.0.0.1:{port}/ocsp"));
    let Some(pebble) = Pebble::start(pebble::Options { responder, ..Default::default() }) else {
        return;
    };
    let site = pebble.site(&["a.test"], "http-01", "");
    let server = site.start();
    let root = pebble.root().await;
    let leaf = pebble::until_shown(&server, "a.test", &root, None).await;
    server.wait_for_log("there is no new OCSP response");

    let (issuer, key) = pebble.issuer().await;
    let (_, x509) = X509Certificate::from_der(&leaf).expect("a certificate");
    let serial = x509.raw_serial_as_string().replace(':', "").to_uppercase();
    site.put("issuer.pem", issuer.as_bytes());
    site.put("issuer.key", key.as_bytes());
    site.put("index.txt", line(&serial).as_bytes());
    let options = Options { signer: Signer::Issuer, ..Options::default() };
    let Some(_responder) = openssl(&site.path("."), port, options) else { return };
    ask_again(&server, "stapled an OCSP response");

    let shown = shown_over(&server, ("a.test", &root), &TLS13, Version::H2).await;
    assert!(shown.certificate == leaf && !shown.staple.is_empty());
}

/// A client that is not ours, which verifies it.
#[tokio::test(flavor = "multi_thread")]
async fn openssl_takes_the_response_for_good() {
    let authority = Authority::new();
    let (pair, _) = authority.pair("hello.test");
    let site = site(&pair);
    let Some(_responder) = authority.answer(Options::default()) else { return };
    let server = site.start();
    until_shown(&server, &authority, |it| !it.staple.is_empty()).await;

    site.put("root.pem", authority.root().as_bytes());
    let client = Command::new("openssl")
        .args(["s_client", "-status", "-servername", "hello.test", "-verify_return_error"])
        .args(["-connect", &server.https.to_string(), "-CAfile"])
        .arg(site.path("root.pem"))
        .stdin(Stdio::null())
        .output();
    let text = match client {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => return missing("openssl", &error.to_string()),
    };
    assert!(text.contains("OCSP Response Status: successful"), "{text}");
    assert!(text.contains("Cert Status: good"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_outlives_a_restart_and_a_responder_that_is_down() {
    let authority = Authority::new();
    let (pair, _) = authority.pair("hello.test");
    let site = site(&pair);
    let server = site.start();
    server.wait_for_log("there is no new OCSP response");
    assert!(shown(&server, &authority).await.staple.is_empty(), "it serves without");

    let Some(responder) = authority.answer(Options::default()) else { return };
    ask_again(&server, "stapled an OCSP response");
    let first = shown(&server, &authority).await;
    assert!(!first.staple.is_empty());
    let mode = |path| fs::metadata(site.path(path)).expect("it is there").permissions().mode();
    assert_eq!(mode("state/ocsp") & 0o777, 0o700);
    let kept: Vec<_> = fs::read_dir(site.path("state/ocsp")).expect("the folder").collect();
    let kept = kept[0].as_ref().expect("a file").path();
    wait_until("it is kept", || fs::read(&kept).is_ok_and(|bytes| bytes == first.staple));
    assert_eq!(fs::metadata(&kept).expect("a file").permissions().mode() & 0o777, 0o600);

    drop(responder);
    ask_again(&server, "cannot be reached");
    assert_eq!(shown(&server, &authority).await, first, "it is shown until it expires");
    drop(server);
    let server = site.start();
    assert_eq!(shown(&server, &authority).await, first, "by the first handshake");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_is_not_shown_once_it_has_expired() {
    let authority = Authority::new();
    let (pair, _) = authority.pair("hello.test");
    let site = site(&pair);
    // It is given out fifteen seconds before its end.
    let options = Options { clock: -3585, ..Options::default() };
    let Some(responder) = authority.answer(options) else { return };
    let server = site.start();
    let first = until_shown(&server, &authority, |it| !it.staple.is_empty()).await;

    drop(responder);
    let until = until_shown(&server, &authority, |it| it.staple.is_empty()).await;
    assert_eq!(until.certificate, first.certificate);
    drop(server);
    let server = site.start();
    server.wait_for_log("there is no new OCSP response");
    assert!(shown(&server, &authority).await.staple.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_has_no_response_and_a_warning() {
    let authority = Authority::new();
    let (pair, serial) = authority.pair("hello.test");
    let site = site(&pair);
    let Some(responder) = authority.answer(Options::default()) else { return };
    let server = site.start();
    until_shown(&server, &authority, |it| !it.staple.is_empty()).await;

    authority.revoke(serial);
    drop(responder);
    let _responder = authority.answer(Options::default());
    ask_again(&server, "the certificate is revoked");
    let shown_now = shown(&server, &authority).await;
    assert!(shown_now.staple.is_empty() && shown_now.certificate == pair.der, "it serves without");
    assert_eq!(server.complaints().len(), 1, "{:#?}", server.complaints());

    drop(server);
    let server = site.start();
    assert!(shown(&server, &authority).await.staple.is_empty(), "nothing is left of it");
    server.wait_for_log("the certificate is revoked");
    assert!(shown(&server, &authority).await.staple.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_never_has_the_response_of_the_old_one() {
    let authority = Authority::new();
    let (mut pair, mut serial) = authority.pair("hello.test");
    let site = site(&pair);
    let Some(mut responder) = authority.answer(Options::default()) else { return };
    let server = site.start();
    until_shown(&server, &authority, |it| !it.staple.is_empty()).await;
    for _ in 0..3 {
        let (next, number) = authority.pair("hello.test");
        drop(responder);
        responder = authority.answer(Options::default()).expect("openssl");
        next.put(&site, "hello");
        let end = Instant::now() + PATIENCE;
        loop {
            let shown = shown(&server, &authority).await;
            let is_new = shown.certificate == next.der;
            assert!(is_new || shown.certificate == pair.der);
            if !shown.staple.is_empty() {
                assert_eq!(about(&shown.staple), if is_new { number } else { serial });
                if is_new {
                    break;
                }
            }
            assert!(Instant::now() < end, "{}", server.log().join("\n"));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (pair, serial) = (next, number);
    }
    let kept = || fs::read_dir(site.path("state/ocsp")).expect("the folder").count();
    wait_until("the old ones are gone", || kept() == 1);
    assert_eq!(server.complaints(), [""; 0]);
}
