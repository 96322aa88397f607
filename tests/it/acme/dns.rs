//! Wildcards, by records that a hook or signed updates put into the DNS and take out again.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::knot::{Knot, SECRET};
use super::pebble::{Options, Pebble, certificate_in, kept, shown, until_shown};
use crate::support::server::{Site, wait_until};

/// A hook for the name server that comes with pebble. It notes how it was called.
fn put_hook(site: &Site, pebble: &Pebble) {
    let script = format!(
        "#!/bin/sh\necho \"$1 $2 $3\" >> \"$(dirname \"$0\")/called\"\n\
         case $1 in\n\
         present) curl -sf -d \"{{\\\"host\\\":\\\"$2.\\\",\\\"value\\\":\\\"$3\\\"}}\" http://{0}/set-txt ;;\n\
         cleanup) curl -sf -d \"{{\\\"host\\\":\\\"$2.\\\"}}\" http://{0}/clear-txt ;;\n\
         esac\n",
        pebble.records()
    );
    put_program(site, "hook", &script);
}

fn put_program(site: &Site, name: &str, script: &str) {
    let path = site.path(name);
    fs::write(&path, script).expect("write it");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
}

/// How the hook was called: `present` or `cleanup` and the name, and the values.
fn calls(site: &Site) -> Vec<(String, String)> {
    let called = fs::read_to_string(site.path("called")).unwrap_or_default();
    let call = |line: &str| line.rsplit_once(' ').map(|(call, value)| (call.into(), value.into()));
    called.lines().map(|line| call(line).expect("three words")).collect()
}

const BY_HOOK: &str = "[tls.acme.dns]\nhook = [\"hook\"]\nwait = \"1ms\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_gets_a_certificate_by_a_hook() {
    let Some(pebble) = Pebble::start(Options::default()) else { return };
    let site = pebble.site(&["*.w.test", "w.test", "below.w.test"], "dns-01", BY_HOOK);
    put_hook(&site, &pebble);
    let server = site.start();
    let root = pebble.root().await;

    let wildcard = until_shown(&server, "any.w.test", &root, None).await;
    until_shown(&server, "w.test", &root, None).await;

    assert_eq!(shown(&server, "below.w.test", &root).await.as_ref(), Some(&wildcard));
    assert_eq!(
        server.logged("asking for a certificate").len(),
        2,
        "a wildcard covers what is below"
    );
    assert_eq!(certificate_in(&kept(&site).join("_.w.test.pem")), wildcard);
    wait_until("both records are gone", || calls(&site).len() == 4);
    let calls = calls(&site);
    let names: Vec<_> = calls.iter().map(|(call, _)| call.as_str()).collect();
    let (add, remove) = ("present _acme-challenge.w.test", "cleanup _acme-challenge.w.test");
    assert_eq!(names, [add, remove, add, remove], "one after the other");
    assert_eq!(calls[0].1, calls[1].1);
    assert_eq!(server.complaints(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_fails_is_quoted() {
    let Some(pebble) = Pebble::start(Options::default()) else { return };
    let site = pebble.site(&["a.test"], "dns-01", BY_HOOK);
    put_program(&site, "hook", "#!/bin/sh\necho no such zone at the provider >&2\nexit 3\n");
    let server = site.start();

    let told = server.wait_for_log("no certificate: cannot add the record _acme-challenge.a.test");
    assert!(told.contains("ended with exit status: 3: no such zone at the provider"), "{told}");
    assert!(told.contains("look at [tls.acme.dns]"), "{told}");
    server.wait_for_log("cannot remove the record of a challenge");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_takes_the_record_out_of_the_dns() {
    let options = Options { slowness: Some(30), ..Options::default() };
    let Some(pebble) = Pebble::start(options) else { return };
    let site = pebble.site(&["a.test"], "dns-01", BY_HOOK);
    put_hook(&site, &pebble);
    let mut server = site.start();
    server.wait_for_log("the authority is asked to check the host");

    server.signal(libc::SIGTERM);
    assert!(server.exit().success());

    let calls = calls(&site);
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert!(calls[1].0.starts_with("cleanup"), "{calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_the_record_spreads_takes_it_out_as_well() {
    let Some(pebble) = Pebble::start(Options::default()) else { return };
    let waits = BY_HOOK.replace("1ms", "60s");
    let site = pebble.site(&["a.test"], "dns-01", &waits);
    put_hook(&site, &pebble);
    let mut server = site.start();
    wait_until("the record is added", || calls(&site).len() == 1);

    server.signal(libc::SIGTERM);
    assert!(server.exit().success());

    let calls = calls(&site);
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert!(calls[1].0.starts_with("cleanup"), "{calls:?}");
}

/// `[tls.acme.dns]` for updates of `knot`, by this key.
fn updates(knot: &Knot, key: &str) -> String {
    format!(
        "[tls.acme.dns]\nserver = \"{}\"\nkey_name = \"{key}\"\nkey_file = \"dns.key\"\nwait = \"1ms\"\n",
        knot.address
    )
}

fn put_key(site: &Site, secret: &str) {
    fs::write(site.path("dns.key"), format!("{secret}\n")).expect("write the key");
    fs::set_permissions(site.path("dns.key"), fs::Permissions::from_mode(0o600)).expect("chmod");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_gets_a_certificate_by_signed_updates() {
    let Some(knot) = Knot::start() else { return };
    let options = Options { name_server: Some(knot.address), ..Options::default() };
    let Some(pebble) = Pebble::start(options) else { return };
    let site = pebble.site(&["*.deep.w.test", "b.test"], "dns-01", &updates(&knot, "tidegate"));
    put_key(&site, SECRET);
    let server = site.start();
    let root = pebble.root().await;

    until_shown(&server, "any.deep.w.test", &root, None).await;
    until_shown(&server, "b.test", &root, None).await;

    assert_eq!(server.complaints(), [""; 0]);
    wait_until("both records are gone", || !knot.zone().contains("_acme-challenge"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_server_that_refuses_is_quoted() {
    let Some(knot) = Knot::start() else { return };
    let Some(pebble) = Pebble::start(Options::default()) else { return };
    let site = pebble.site(&["a.test"], "dns-01", &updates(&knot, "stranger"));
    put_key(&site, SECRET);
    let server = site.start();
    let told = server.wait_for_log("no certificate: cannot add the record");
    assert!(told.contains("BadKey") && told.contains("look at key_name"), "{told}");

    // A name beyond its zone.
    let skipped = server.log().len();
    site.write_manifest(&pebble.manifest(
        &["a.elsewhere.org"],
        "dns-01",
        &updates(&knot, "tidegate"),
    ));
    let told = server.wait_for_log_after(skipped, "no certificate: cannot add the record");
    assert!(told.contains("knows no zone that _acme-challenge.a.elsewhere.org. is in"), "{told}");
}
