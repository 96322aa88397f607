//! What goes wrong is said with what to do about it, tried again later, and hurts nothing that works.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::pebble::{Options, Pebble, kept, shown, until_shown};
use crate::support::client::{Version, answer, get_tls};
use crate::support::server::Site;

/// Something else is wrong with the manifest if this host is not served by the local CA.
async fn is_served_locally(site: &Site, server: &crate::support::server::Server, host: &str) {
    let reply = get_tls(site, server, host, "/", Version::H2).await;
    assert_eq!(reply.expect("the local authority's certificate").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_leads_elsewhere_fails_alone_and_is_tried_again_later() {
    let Some(pebble) = Pebble::start(Options::default()) else { return };
    pebble.lead("elsewhere.test", "127.0.0.2");
    let site = pebble.site(&["a.test", "elsewhere.test"], "http-01", "");
    let server = site.start();
    let root = pebble.root().await;

    let told = server.wait_for_log("no certificate: the authority says:");
    until_shown(&server, "a.test", &root, None).await;
    assert!(told.contains(" ERROR ") && told.contains("host=elsewhere.test"), "{told}");
    assert!(told.contains("(connection)"), "what the authority found: {told}");
    assert!(told.contains("http://elsewhere.test/ must lead to this machine"), "{told}");
    let again = told.split("again_in=").nth(1).expect("when it is tried again");
    let again: u64 =
        again.split('s').next().unwrap_or_default().trim_matches('"').parse().expect("seconds");
    assert!((130..=170).contains(&again), "{told}");
    is_served_locally(&site, &server, "elsewhere.test").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(server.logged("asking for a certificate").len(), 2, "once for each host");

    // An operator mends it, and need not wait.
    pebble.lead("elsewhere.test", "127.0.0.1");
    server.signal(libc::SIGHUP);
    until_shown(&server, "elsewhere.test", &root, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_down_at_the_start_is_waited_for() {
    let Some(mut pebble) = Pebble::named(Options::default()) else { return };
    let hosts: Vec<_> = (0..20).map(|number| format!("host{number}.test")).collect();
    let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
    let site = pebble.site(&hosts, "http-01", "");
    let server = site.start();

    let told = server.wait_for_log("no certificates for now");
    assert!(told.contains("Connection refused"), "{told}");
    is_served_locally(&site, &server, "host7.test").await;
    assert_eq!(server.complaints().len(), 1, "once for all hosts: {:#?}", server.complaints());

    pebble.up();
    let root = pebble.root().await;
    for host in &hosts {
        until_shown(&server, host, &root, None).await;
    }
    assert_eq!(server.logged(" ERROR "), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_whose_root_is_another_is_not_trusted() {
    let Some(pebble) = Pebble::start(Options::default()) else { return };
    let site = pebble.site(&["a.test"], "http-01", "");
    site.put("pebble.pem", pebble.root().await.as_bytes());
    let server = site.start();

    let told = server.wait_for_log("no certificates for now");
    assert!(told.contains("no TLS with the authority"), "{told}");
    assert!(told.contains("tls.acme.ca_root must be the root"), "{told}");
    is_served_locally(&site, &server, "a.test").await;
    assert_eq!(pebble.logged("POST "), 0, "nothing is sent to it");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authoritys_root_is_read_again_where_it_cannot_be_talked_to() {
    let Some(mut pebble) = Pebble::start(Options::default()) else { return };
    let site = pebble.site(&["a.test"], "http-01", "");
    let right = std::fs::read(site.path("pebble.pem")).expect("the root");
    let server = site.start();
    until_shown(&server, "a.test", &pebble.root().await, None).await;
    site.put("pebble.pem", pebble.root().await.as_bytes());
    pebble.down();
    site.write_manifest(&pebble.manifest(&["a.test", "b.test"], "http-01", ""));
    server.wait_for_log("Connection refused");

    pebble.up();
    server.signal(libc::SIGHUP);
    server.wait_for_log("no TLS with the authority");
    assert_eq!(server.logged("accountDoesNotExist"), [""; 0], "it is not talked to before that");
    site.put("pebble.pem", &right);
    server.signal(libc::SIGHUP);
    until_shown(&server, "b.test", &pebble.root().await, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_halfway_through_an_order_costs_nothing_but_time() {
    let options = Options { slowness: Some(2), ..Options::default() };
    let Some(pebble) = Pebble::start(options) else { return };
    let site = pebble.site(&["a.test"], "http-01", "");
    let root = pebble.root().await;
    for _ in 0..3 {
        let mut server = site.start();
        server.wait_for_log("the authority is asked to check the host");
        server.signal(libc::SIGKILL);
        server.exit();
    }

    let server = site.start();

    until_shown(&server, "a.test", &root, None).await;
    let registered: usize = server.logged("registered an account").len();
    assert_eq!(registered, 0, "the account of the first start is the one");
    assert_eq!(server.complaints(), [""; 0]);
    let mut files: Vec<_> = std::fs::read_dir(kept(&site))
        .expect("what is kept")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .collect();
    files.sort();
    assert_eq!(files, ["a.test.pem", "account.json"], "no rests");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_the_authority() {
    let options = Options { slowness: Some(30), ..Options::default() };
    let Some(pebble) = Pebble::start(options) else { return };
    let site = pebble.site(&["a.test"], "tls-alpn-01", "");
    let mut server = site.start();
    server.wait_for_log("the authority is asked to check the host");
    pebble.hang();

    let begun = std::time::Instant::now();
    server.signal(libc::SIGTERM);
    assert!(server.exit().success());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(server.complaints(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_certificate_that_is_broken_is_replaced() {
    let Some(pebble) = Pebble::start(Options::default()) else { return };
    let site = pebble.site(&["a.test"], "http-01", "");
    let root = pebble.root().await;
    let mut server = site.start();
    let first = until_shown(&server, "a.test", &root, None).await;
    server.signal(libc::SIGKILL);
    server.exit();

    std::fs::write(kept(&site).join("a.test.pem"), "-----BEGIN").expect("break it");
    let server = site.start();

    server.wait_for_log("the kept certificate cannot be used");
    until_shown(&server, "a.test", &root, Some(&first)).await;
    assert_eq!(server.complaints().len(), 1, "{:#?}", server.complaints());
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_another_authority_serve_until_the_new_ones_are_there() {
    let Some(pebble) = Pebble::start(Options::default()) else { return };
    let Some(mut other) = Pebble::named(Options::default()) else { return };
    let site = pebble.site(&["a.test"], "http-01", "");
    let root = pebble.root().await;
    let mut server = site.start();
    let first = until_shown(&server, "a.test", &root, None).await;

    let moved = pebble
        .manifest(&["a.test"], "http-01", "")
        .replace(&pebble.directory(), &other.directory());
    site.write_manifest(&moved);
    server.wait_for_log("no certificates for now");
    assert_eq!(shown(&server, "a.test", &root).await.as_ref(), Some(&first));
    server.signal(libc::SIGTERM);
    server.exit();
    let server = site.start();
    assert_eq!(
        shown(&server, "a.test", &root).await.as_ref(),
        Some(&first),
        "after a restart, too"
    );

    // It looks where the first one does.
    other.look_at(&pebble);
    other.up();
    until_shown(&server, "a.test", &other.root().await, None).await;
    let files = std::fs::read_dir(site.path("state/acme")).expect("what is kept").count();
    assert_eq!(files, 2, "a directory each");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock_is_named_and_what_is_kept_is_served() {
    let Some(library) = crate::faults::clock::faketime() else {
        return crate::faults::not_tested("a wrong clock", "libfaketime is not installed");
    };
    let Some(pebble) = Pebble::start(Options::default()) else { return };
    let site = pebble.site(&["a.test"], "http-01", "");
    let root = pebble.root().await;
    let start_at = |years: i64| {
        crate::faults::clock::set(&site, crate::faults::clock::Years(years));
        crate::faults::clock::start(&site, library.clone())
    };

    // Long ago: the authority's own certificate seems to be of the future.
    let mut server = start_at(-53);
    let told = server.wait_for_log("no certificates for now");
    assert!(told.contains("look at this machine's clock"), "{told}");
    assert!(answer(&server, "a.test", "/").await.starts_with("200"));
    // The clock is set.
    crate::faults::clock::set(&site, crate::faults::clock::Years(0));
    server.signal(libc::SIGHUP);
    let first = until_shown(&server, "a.test", &root, None).await;
    server.signal(libc::SIGTERM);
    server.exit();

    // With either wrong clock, what is kept is better than nothing.
    for years in [-53, 20] {
        let mut server = start_at(years);
        assert_eq!(shown(&server, "a.test", &root).await.as_ref(), Some(&first), "{years} years");
        server.signal(libc::SIGTERM);
        server.exit();
    }
}

#[test]
fn a_check_asks_nobody_and_reads_what_is_named() {
    // Nothing listens there, and no name leads anywhere.
    let manifest = |more: &str| {
        format!(
            "[apps.hello]\ncomponent = \"apps/hello.wasm\"\n[hosts]\n\"a.example.org\" = \"hello\"\n\
             [tls.acme]\nterms_agreed = true\ndirectory = \"https://no.such.invalid/dir\"\n{more}"
        )
    };
    let site = Site::new(&manifest(""));
    site.put("apps/hello.wasm", &crate::support::pool::guest("hello"));
    let (status, told) = site.tidegate(&["check", "--config", "config.toml"]);
    assert!(status.success(), "{told}");
    assert!(!site.path("state").exists(), "nothing is written");

    site.put("open.key", b"AAECAwQFBgcICQoLDA0ODw==");
    std::fs::set_permissions(site.path("open.key"), Permissions::from_mode(0o644)).expect("chmod");
    site.put("root.pem", b"no certificate");
    site.write_manifest(&manifest(
        "ca_root = \"root.pem\"\nchallenge = \"dns-01\"\n[tls.acme.dns]\nhook = [\"no-such-hook\"]\n\
         [tls.acme.external_account]\nkey_id = \"k\"\nhmac_key_file = \"open.key\"\n",
    ));
    let (status, told) = site.tidegate(&["check", "--config", "config.toml"]);
    assert_eq!(status.code(), Some(78), "{told}");
    for expected in [
        "root.pem holds no root certificate",
        "open.key holds a secret, and everybody on this machine can use it",
        "cannot run",
        "3 problems",
    ] {
        assert!(told.contains(expected), "{expected} in {told}");
    }
}
