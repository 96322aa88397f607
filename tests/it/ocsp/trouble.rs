//! Answers that are not what they should be change nothing.

use std::fs;
use std::time::{Duration, Instant};

use super::responder::{Authority, Options, Signer};
use super::{Shown, ask_again, shown, site, until_shown};

/// An answer over HTTP.
fn http(head: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_answers_that_are_too_large_change_nothing() {
    let authority = Authority::new();
    let (pair, _) = authority.pair("hello.test");
    let (other, _) = authority.pair("hello.test");
    let site = site(&other);
    let Some(responder) = authority.answer(Options::default()) else { return };
    let server = site.start();
    let others = until_shown(&server, &authority, |it| !it.staple.is_empty()).await.staple;
    pair.put(&site, "hello");
    let is_own = |it: &Shown| it.certificate == pair.der && !it.staple.is_empty();
    let own = until_shown(&server, &authority, is_own).await;
    drop(responder);

    // Another second of the time when it was made, which is signed.
    let mut forged = own.staple.clone();
    let time = forged.windows(2).position(|it| it == [0x18, 15]).expect("a GeneralizedTime");
    forged[time + 15] ^= 1;
    let endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffff\r\n".to_vec();
    let tries = [
        (http("200 OK", b"garbage"), "is not an OCSP response"),
        (http("200 OK", b""), "is not an OCSP response"),
        (http("200 OK", &[0x30, 3, 0x0a, 1, 3]), "does not answer the question: TryLater"),
        (http("200 OK", &others), "about another certificate"),
        (http("200 OK", &forged), "not signed by the certificate's issuer"),
        (http("200 OK", &own.staple[..own.staple.len() - 1]), "is not an OCSP response"),
        (http("200 OK", &vec![0x30; 1 << 20]), "larger than 64 KiB"),
        ([endless, vec![0; 1 << 20]].concat(), "larger than 64 KiB"),
        (http("302 Found\r\nlocation: http://127.0.0.1:9/", b""), "answers 302"),
        (http("500 Internal Server Error", &own.staple), "answers 500"),
        (b"SSH-2.0-OpenSSH\r\n".to_vec(), "did not answer as HTTP"),
        (Vec::new(), "did not answer as HTTP"),
        (vec![b'a'; 1 << 20], "did not answer as HTTP"),
    ];
    for (answer, expected) in tries {
        let answered = authority.answer_with(vec![answer]);
        ask_again(&server, expected);
        answered.join().expect("it was asked");
        assert_eq!(shown(&server, &authority).await, own, "{expected}");
    }

    // What is kept is worth what it says.
    drop(server);
    let kept = fs::read_dir(site.path("state/ocsp")).expect("the folder").next();
    let kept = kept.expect("a file").expect("a file").path();
    for (bytes, is_good) in [
        (&b"garbage"[..], false),
        (&others[..], false),
        (&forged[..], false),
        (&own.staple[..], true),
    ] {
        fs::write(&kept, bytes).expect("write it");
        let server = site.start();
        assert_eq!(shown(&server, &authority).await.staple.is_empty(), !is_good);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_by_somebody_else_or_of_another_time_is_not_shown() {
    let authority = Authority::new();
    let (pair, _) = authority.pair("hello.test");
    let site = site(&pair);
    let server = site.start();
    let usual = Options::default();
    for (options, expected) in [
        (Options { signer: Signer::Usurper, ..usual }, "not signed by the certificate's issuer"),
        (Options { clock: -7200, ..usual }, "has expired"),
        (Options { clock: 7200, ..usual }, "is from the future"),
        (Options { minutes: None, ..usual }, "does not say until when"),
    ] {
        let Some(_responder) = authority.answer(options) else { return };
        ask_again(&server, expected);
        assert!(shown(&server, &authority).await.staple.is_empty(), "{expected}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_responder_that_says_nothing_costs_handshakes_nothing_and_is_given_up() {
    let authority = Authority::new();
    let (pair, _) = authority.pair("hello.test");
    let site = site(&pair);
    let silent = authority.hold();
    let server = site.start();
    let (_client, _) = silent.accept().expect("it is asked");
    let started = Instant::now();
    assert!(shown(&server, &authority).await.staple.is_empty());
    assert!(started.elapsed() < Duration::from_secs(5));
    server.wait_for_log("took more than 10s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_a_responder() {
    let authority = Authority::new();
    let (pair, _) = authority.pair("hello.test");
    let site = site(&pair);
    let silent = authority.hold();
    let mut server = site.start();
    let (_client, _) = silent.accept().expect("it is asked");
    let started = Instant::now();
    server.signal(libc::SIGTERM);
    assert!(server.exit().success());
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_the_issuers_certificate_is_served_and_said() {
    let authority = Authority::new();
    let (mut pair, _) = authority.pair("hello.test");
    let end = pair.cert.find("-----END CERTIFICATE-----\n").expect("a certificate");
    pair.cert.truncate(end + "-----END CERTIFICATE-----\n".len());
    let site = site(&pair);
    let server = site.start();
    server.wait_for_log("does not have the certificate of its issuer");
    assert!(shown(&server, &authority).await.staple.is_empty());

    // Once, whatever changes beside it. The responder is asked about the other, and is not there.
    authority.pair("p2.test").0.put(&site, "p2");
    let manifest = fs::read_to_string(site.manifest()).expect("the manifest");
    let more = "\"p2.test\" = { cert = \"certs/p2.pem\", key = \"certs/p2.key\" }\n";
    site.write_manifest(&format!("{manifest}{more}"));
    let line = server.wait_for_log("there is no new OCSP response");
    assert!(line.contains("host=p2.test"), "{line}");
    assert_eq!(server.logged("does not have the certificate of its issuer").len(), 1);
    pair.cert += &authority.root();
    let skipped = server.log().len();
    pair.put(&site, "hello");
    let line = server.wait_for_log_after(skipped, "there is no new OCSP response");
    assert!(line.contains("host=hello.test"), "{line}");
}
