//! Hosts get certificates from an empty state directory, by each challenge that needs no DNS, and keep them.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::pebble::{EXTERNAL, Options, Pebble, certificate_in, kept, shown, until_shown};
use crate::support::client::{Version, answer, get, raw, request_tls};

#[tokio::test(flavor = "multi_thread")]
async fn a_host_gets_a_certificate_by_http_01() {
    gets_a_certificate("http-01").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_gets_a_certificate_by_tls_alpn_01() {
    gets_a_certificate("tls-alpn-01").await;
}

async fn gets_a_certificate(challenge: &str) {
    let Some(pebble) = Pebble::start(Options::default()) else { return };
    let site = pebble.site(&["a.test", "b.test"], challenge, "");
    let server = site.start();
    let root = pebble.root().await;

    let certificate = until_shown(&server, "a.test", &root, None).await;
    until_shown(&server, "b.test", &root, None).await;

    let log = server.wait_for_log("got a certificate");
    assert!(log.contains("host=") && log.contains("renewal="), "{log}");
    assert_eq!(server.complaints(), [""; 0]);
    assert_eq!(server.logged("registered an account").len(), 1, "{:#?}", server.log());
    // One file each, which nobody else can read.
    let dir = kept(&site);
    assert_eq!(certificate_in(&dir.join("a.test.pem")), certificate);
    let mode = |path: &std::path::Path| {
        fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    };
    assert_eq!(mode(&dir), 0o700);
    for name in ["account.json", "a.test.pem", "b.test.pem"] {
        assert_eq!(mode(&dir.join(name)), 0o600, "{name}");
    }
    // What the authority looked for is not there any more, and nothing else ever was.
    let path = "/.well-known/acme-challenge/token";
    assert!(answer(&server, "a.test", path).await.starts_with("200"), "the guest answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_kept_over_a_restart_and_nothing_is_asked_for() {
    let Some(mut pebble) = Pebble::start(Options::default()) else { return };
    let site = pebble.site(&["a.test"], "http-01", "");
    let root = pebble.root().await;
    let mut server = site.start();
    let certificate = until_shown(&server, "a.test", &root, None).await;
    server.signal(libc::SIGTERM);
    assert!(server.exit().success());

    // The authority is away, and nobody minds.
    pebble.down();
    let server = site.start();

    assert_eq!(shown(&server, "a.test", &root).await, Some(certificate));
    assert_eq!(server.logged("asking for a certificate"), [""; 0]);
    let reply = get(&server, "a.test", "/").await.expect("an answer");
    assert_eq!(reply.status, 308, "clients know the certificate: plain HTTP is sent to HTTPS");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_hosts_get_certificates_from_an_empty_state_dir() {
    let Some(pebble) = Pebble::start(Options::default()) else { return };
    let hosts: Vec<_> = (0..50).map(|number| format!("host{number}.test")).collect();
    let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
    let site = pebble.site(&hosts, "http-01", "");
    let server = site.start();
    let root = pebble.root().await;

    for host in &hosts {
        until_shown(&server, host, &root, None).await;
    }

    assert_eq!(server.complaints(), [""; 0]);
    assert_eq!(server.logged("asking for a certificate").len(), 50);
    assert_eq!(server.logged("registered an account").len(), 1);
    assert_eq!(pebble.logged("POST /order-plz"), 50, "one order each");
    let mut under_way = 0;
    for line in server.log() {
        under_way += i32::from(line.contains("asking for a certificate"));
        under_way -= i32::from(line.contains("got a certificate"));
        assert!(under_way <= 8, "eight at a time: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nonces_that_the_authority_refuses_are_only_a_delay() {
    let options = Options { bad_nonces: 25, ..Options::default() };
    let Some(pebble) = Pebble::start(options) else { return };
    let site = pebble.site(&["a.test", "b.test", "c.test"], "http-01", "");
    let server = site.start();
    let root = pebble.root().await;

    for host in ["a.test", "b.test", "c.test"] {
        until_shown(&server, host, &root, None).await;
    }
    assert_eq!(server.logged(" ERROR "), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_account_is_what_an_authority_may_want() {
    let options = Options { external_account: true, ..Options::default() };
    let Some(pebble) = Pebble::start(options) else { return };
    let site = pebble.site(&["a.test"], "http-01", "");
    let server = site.start();
    let told = server.wait_for_log("no certificates for now");
    assert!(told.contains("externalAccountRequired"), "{told}");
    assert!(told.contains("add [tls.acme.external_account]"), "{told}");

    // Reload is all it takes.
    site.put("eab.key", format!("{}\n", EXTERNAL.1).as_bytes());
    fs::set_permissions(site.path("eab.key"), fs::Permissions::from_mode(0o600)).expect("chmod");
    let account = format!(
        "[tls.acme.external_account]\nkey_id = \"{}\"\nhmac_key_file = \"eab.key\"",
        EXTERNAL.0
    );
    site.write_manifest(&pebble.manifest(&["a.test"], "http-01", &account));

    until_shown(&server, "a.test", &pebble.root().await, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_come_and_go_with_the_manifest() {
    let Some(pebble) = Pebble::start(Options::default()) else { return };
    let site = pebble.site(&["a.test"], "http-01", "");
    let server = site.start();
    let root = pebble.root().await;
    let first = until_shown(&server, "a.test", &root, None).await;

    site.write_manifest(&pebble.manifest(&["a.test", "b.test"], "tls-alpn-01", ""));
    until_shown(&server, "b.test", &root, None).await;

    assert_eq!(shown(&server, "a.test", &root).await, Some(first), "it is not asked for again");
    assert_eq!(server.logged("asking for a certificate").len(), 2);
    assert_eq!(server.logged("registered an account").len(), 1, "it is kept");
    site.write_manifest(&pebble.manifest(&["b.test"], "tls-alpn-01", "").replace("ops@", "other@"));
    server.wait_for_log("told the authority the new address");
    assert_eq!(shown(&server, "a.test", &root).await, None, "no such host");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_names_that_an_authority_issues_for_are_asked_for() {
    let Some(pebble) = Pebble::start(Options::default()) else { return };
    let hosts = [
        "a.test",
        "app.localhost",
        "localhost",
        "127.0.0.1",
        "single",
        "under_score.test",
        "*.w.test",
        "*",
    ];
    let site = pebble.site(&hosts, "http-01", "");
    let server = site.start();
    until_shown(&server, "a.test", &pebble.root().await, None).await;

    assert_eq!(server.logged("asking for a certificate").len(), 1, "{:#?}", server.log());
    let warned = server.logged("wildcards need tls.acme.challenge = \"dns-01\"");
    assert_eq!(warned.len(), 1, "{:#?}", server.log());
    // The local CA has the others.
    for host in ["app.localhost", "x.w.test"] {
        let request = http::Request::get("/").body(Default::default()).expect("a request");
        let reply = request_tls(&site, &server, host, Version::H2, request).await;
        assert_eq!(reply.expect(host).status, 200, "{host}");
    }
    assert!(!kept(&site).join("app.localhost.pem").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_is_given_before_anything_else_and_costs_nothing_without() {
    let options = Options { slowness: Some(3), ..Options::default() };
    let Some(pebble) = Pebble::start(options) else { return };
    let site = pebble.site(&["a.test"], "http-01", "");
    let server = site.start();
    server.wait_for_log("the authority is asked to check the host");

    // The server goes on as ever, whatever it is asked for meanwhile.
    for path in ["/.well-known/acme-challenge/", "/.well-known/acme-challenge/no-such-token", "/"] {
        assert!(answer(&server, "a.test", path).await.starts_with("200"), "{path}");
    }
    let other = "GET /.well-known/acme-challenge/../x HTTP/1.1\r\nhost: no.such\r\nconnection: close\r\n\r\n";
    assert!(raw(server.http, other).await.starts_with("HTTP/1.1 404"));
    until_shown(&server, "a.test", &pebble.root().await, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_route_does_stands_in_the_authoritys_way() {
    let Some(pebble) = Pebble::start(Options::default()) else { return };
    let site = pebble.site(&["a.test"], "http-01", "");
    let redirects = "\"a.test\" = { \"/\" = { redirect = \"https://elsewhere.test/\" } }";
    let manifest = pebble.manifest(&["a.test"], "http-01", "");
    site.write_manifest(&manifest.replace("\"a.test\" = \"hello\"", redirects));
    let server = site.start();

    until_shown(&server, "a.test", &pebble.root().await, None).await;
    assert!(answer(&server, "a.test", "/").await.starts_with("308"));
}
