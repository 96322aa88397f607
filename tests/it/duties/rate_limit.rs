//! A client gets as many answers as its rate allows, whatever others do and however it asks.

use std::net::Ipv4Addr;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{from, manifest, request, site};
use crate::support::client::{Version, connect, trusting, until_answer};
use crate::support::server::{Server, Site};

const ONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// `/` with `limit`, and others beside it.
fn hosts(limit: &str) -> String {
    format!(
        "[hosts.\"limited.test\"]\n\"/\" = {{ app = \"hello\", rate_limit = {limit} }}\n\
         \"/other\" = \"hello\"\n\
         \"/fixed\" = {{ respond = {{ body = \"x\" }}, rate_limit = {{ requests = 1, per = \"1h\" }} }}\n"
    )
}

fn limited(limit: &str) -> Site {
    site(&hosts(limit))
}

async fn status(client: Ipv4Addr, server: &Server, path: &str) -> u16 {
    from(client, server, request("limited.test", path, &[])).await.status.as_u16()
}

/// How many of the next requests are answered before one is refused.
async fn answered(client: Ipv4Addr, server: &Server) -> usize {
    for n in 0..100 {
        match status(client, server, "/").await {
            200 => {}
            429 => return n,
            other => panic!("{other}"),
        }
    }
    panic!("none of a hundred is refused")
}

/// The manifest becomes that of this limit, and serves.
fn change(site: &Site, server: &Server, limit: &str) {
    let skipped = server.log().len();
    site.write_manifest(&manifest(&hosts(limit)));
    server.wait_for_log_after(skipped, "reloaded");
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_its_rate_a_client_is_told_when_to_come_again() {
    let site = limited("{ requests = 5, per = \"1h\" }");
    let server = site.start();

    assert_eq!(answered(ONE, &server).await, 5);
    let reply = from(ONE, &server, request("limited.test", "/", &[])).await;
    assert_eq!(reply.status, 429);
    assert!(reply.text().contains("too many requests from your address"), "{}", reply.text());
    let wait: u64 = reply.headers["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!((710..=720).contains(&wait), "a fifth of an hour, not {wait}");
    let line = server.wait_for_log("limit=rate_limit");
    assert!(line.contains("127.0.0.1 at limited.test/"), "{line}");

    // What it says of itself makes it nobody else.
    let forged = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.1")];
    assert_eq!(from(ONE, &server, request("limited.test", "/", &forged)).await.status, 429);
    assert_eq!(status(ONE, &server, "/below").await, 429, "the prefix has one count");
    assert_eq!(status(ONE, &server, "/other").await, 200, "another route has its own, or none");
    assert_eq!(status(ONE, &server, "/fixed").await, 200);
    assert_eq!(status(ONE, &server, "/fixed").await, 429);
    assert_eq!(answered(OTHER, &server).await, 5, "another address has its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn time_brings_more_and_a_burst_is_what_comes_at_once() {
    let site = limited("{ requests = 2, per = \"1s\", burst = 4 }");
    let server = site.start();

    let begun = std::time::Instant::now();
    let got = answered(ONE, &server).await;
    let brought = begun.elapsed().as_secs() as usize * 2 + 2;
    assert!((4..=4 + brought).contains(&got), "{got}");
    until_answer(&server, "limited.test", "/", "200").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_requests_of_one_connection_count_one_by_one() {
    let site = limited("{ requests = 5, per = \"1h\" }");
    let server = site.start();

    let io = connect(server.https, "limited.test", trusting(&site.root(), Version::H2));
    let io = TokioIo::new(io.await.expect("a connection"));
    let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
    let (mut sender, connection) = shaken.expect("HTTP/2");
    tokio::spawn(connection);
    let mut statuses = Vec::new();
    for _ in 0..7 {
        let request = Request::get("https://limited.test/").body(Full::<Bytes>::default());
        let reply = sender.send_request(request.expect("a request")).await.expect("an answer");
        statuses.push(reply.status().as_u16());
        reply.into_body().collect().await.expect("whole");
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429]);
    assert_eq!(status(ONE, &server, "/").await, 429, "and on any other protocol");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_trusted_proxy_each_client_has_its_own_and_an_ipv6_one_is_its_64() {
    let site = limited("{ requests = 1, per = \"1h\" }");
    let server = "[server]\nhttp = [\"127.0.0.1:0\"]\ntrusted_proxies = [\"127.0.0.2\"]\n";
    let limit = hosts("{ requests = 1, per = \"1h\" }");
    site.write_manifest(&format!("{server}{}", manifest(&limit)));
    let server = site.start();

    for (client, expected) in [
        ("192.0.2.1", 200),
        ("192.0.2.2", 200),
        ("192.0.2.1", 429),
        ("::ffff:192.0.2.1", 429),
        ("2001:db8:0:1::1", 200),
        ("2001:db8:0:1:ffff::2", 429),
        ("2001:db8:0:2::1", 200),
    ] {
        let request = request("limited.test", "/", &[("x-forwarded-for", client)]);
        assert_eq!(from(OTHER, &server, request).await.status, expected, "{client}");
    }
    let line = server.wait_for_log("limit=rate_limit");
    assert!(line.contains("192.0.2.1 at limited.test/"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_counted_survives_a_reload() {
    let limit = "{ requests = 5, per = \"1h\" }";
    let site = limited(limit);
    let server = site.start();
    for _ in 0..3 {
        assert_eq!(status(ONE, &server, "/").await, 200);
    }

    let skipped = server.log().len();
    site.write_manifest(&format!("[clients]\nmax_headers = 50\n{}", manifest(&hosts(limit))));
    server.wait_for_log_after(skipped, "reloaded");
    assert_eq!(answered(ONE, &server).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_the_rate() {
    let site = limited("{ requests = 2, per = \"1d\" }");
    let server = site.start();
    assert_eq!(answered(ONE, &server).await, 2);

    // Who was to wait for half a day need not any more.
    change(&site, &server, "{ requests = 1000, per = \"1s\", burst = 1000 }");
    until_answer(&server, "limited.test", "/", "200").await;

    change(&site, &server, "{ requests = 1, per = \"1d\" }");
    assert!(answered(ONE, &server).await <= 1);
    change(&site, &server, "{ requests = 100000, per = \"1s\" }");
    for _ in 0..100 {
        assert_eq!(status(ONE, &server, "/").await, 200);
    }
}
