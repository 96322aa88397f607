//! Certificates are renewed while the server runs.

use std::time::Duration;

use crate::support::certificates::{Pair, pair, root};
use crate::support::client::Version;
use crate::support::connection::{Connection, Transport};
use crate::support::server::{Server, Site, USUAL};

/// Longer than the time for which a mismatch is taken for a renewal that is under way.
const SETTLED: Duration = Duration::from_secs(4);

fn site(first: &Pair) -> (Site, Server) {
    let site = Site::usual();
    std::fs::create_dir(site.path("certs")).expect("make certs/");
    first.put(&site, "hello");
    site.write_manifest(&format!(
        "{USUAL}\n[tls.certificates]\n\"hello.test\" = {{ cert = \"certs/hello.pem\", key = \"certs/hello.key\" }}\n"
    ));
    let server = site.start();
    (site, server)
}

/// The certificate shown to a new connection, which also serves. None where it is of another root.
async fn shown(server: &Server) -> Option<Vec<u8>> {
    let transport = Transport::tls(server, Version::H2, &root());
    let mut connection = Connection::open(&transport, "hello.test").await.ok()?;
    assert_eq!(connection.get("/").await.expect("an answer").status, 200);
    connection.certificate
}

async fn until_shown(server: &Server, pair: &Pair) {
    let until = async {
        while shown(server).await.as_ref() != Some(&pair.der) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), until).await.expect("the new certificate");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_shown_to_new_connections_and_old_ones_go_on() {
    let first = pair("hello.test");
    let (site, server) = site(&first);
    let transport = Transport::tls(&server, Version::H2, &root());
    let mut old = Connection::open(&transport, "hello.test").await.expect("a handshake");
    assert_eq!(old.certificate.as_ref(), Some(&first.der));

    let second = pair("hello.test");
    second.put(&site, "hello");

    until_shown(&server, &second).await;
    assert_eq!(old.get("/").await.expect("an answer").status, 200);
    assert_eq!(server.complaints(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_and_key_may_come_one_after_the_other() {
    let (site, server) = site(&pair("hello.test"));
    for key_first in [true, false] {
        let next = pair("hello.test");
        let files = [("certs/hello.key", &next.key), ("certs/hello.pem", &next.cert)];
        let order = if key_first { [0, 1] } else { [1, 0] };
        for file in order {
            let (name, text) = files[file];
            site.put(name, text.as_bytes());
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        until_shown(&server, &next).await;
    }
    assert_eq!(server.complaints(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mismatched_certificate_is_said_once_and_the_old_one_kept() {
    let first = pair("hello.test");
    let (site, server) = site(&first);

    let next = pair("hello.test");
    site.put("certs/hello.pem", next.cert.as_bytes());
    server.wait_for_log("is not the key of");
    tokio::time::sleep(SETTLED).await;

    assert_eq!(shown(&server).await, Some(first.der));
    assert_eq!(server.complaints().len(), 1, "{:#?}", server.complaints());
    site.put("certs/hello.key", next.key.as_bytes());
    until_shown(&server, &next).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_named_by_a_new_manifest_must_be_good() {
    let site = Site::usual();
    let server = site.start();

    std::fs::create_dir(site.path("certs")).expect("make certs/");
    pair("other.test").put(&site, "hello");
    site.write_manifest(&format!(
        "{USUAL}\n[tls.certificates]\n\"hello.test\" = {{ cert = \"certs/hello.pem\", key = \"certs/hello.key\" }}\n"
    ));
    server.wait_for_log("does not cover hello.test");
    assert_eq!(server.logged("reloaded"), [""; 0]);

    let good = pair("hello.test");
    good.put(&site, "hello");
    until_shown(&server, &good).await;
}
