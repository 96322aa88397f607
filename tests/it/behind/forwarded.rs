//! Headers in which a trusted proxy says whom a request is from, and in which nobody else does.

use std::net::Ipv4Addr;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;

use super::{ANYONE, HOST, PROXY, from, inspect, seen, shake_hands, site, told, write};
use crate::support::client::{VERSIONS, Version, send, whole};
use crate::support::server::{Server, wait_until};

const TRUSTED: &str = "trusted_proxies = [\"127.0.0.2/31\"]";
const RFC_7239: &str = "trusted_proxies = [\"127.0.0.2/31\"]\nforwarded_header = \"forwarded\"";

/// What a guest is told of a request with `headers` from `peer`, over HTTP/1 without TLS.
async fn client(server: &Server, peer: Ipv4Addr, headers: &[(&str, &str)]) -> String {
    let io = from(peer, server.http).await;
    inspect(io, Version::H1, headers).await.expect("a reply").client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_says_whom_a_request_is_from_and_how_it_came() {
    let site = site(TRUSTED);
    let server = site.start();
    for version in VERSIONS {
        for address in ["203.0.113.1", "2001:db8::7"] {
            let headers = [("x-forwarded-for", address), ("x-forwarded-proto", "https")];
            let io = from(PROXY, server.http).await;
            let seen = inspect(io, version, &headers).await.expect("a reply");
            assert_eq!(seen, told(address, "https"), "{version:?}");

            let headers = [("x-forwarded-for", address), ("x-forwarded-proto", "http")];
            let io = shake_hands(from(PROXY, server.https).await, &site, version).await;
            let seen = inspect(io.expect("a handshake"), version, &headers).await;
            assert_eq!(seen.expect("a reply"), told(address, "http"), "{version:?}");
            server.wait_for_log(&format!("client={address} host=p2.test"));
        }
    }
    assert_eq!(server.logged("127.0.0.2"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_anyone_else_says_is_dropped() {
    let site = site(TRUSTED);
    let server = site.start();
    let headers = [
        ("x-forwarded-for", "6.6.6.6, 127.0.0.2"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=6.6.6.6;proto=https"),
        ("x-real-ip", "6.6.6.6"),
    ];
    for version in VERSIONS {
        let io = from(ANYONE, server.http).await;
        let seen = inspect(io, version, &headers).await.expect("a reply");
        assert_eq!(seen, told("127.0.0.1", "http"));
    }
    assert_eq!(server.logged("6.6.6.6"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_is_walked_from_its_end_over_trusted_proxies() {
    let site = site(TRUSTED);
    let server = site.start();
    for (chain, expected) in [
        ("6.6.6.6, 203.0.113.1, 127.0.0.3", "203.0.113.1"),
        ("127.0.0.3, 203.0.113.1, 127.0.0.3, 127.0.0.2", "203.0.113.1"),
        ("127.0.0.3", "127.0.0.3"),
        ("203.0.113.1, not an address, 127.0.0.3", "127.0.0.3"),
        ("203.0.113.1, unknown", "127.0.0.2"),
        ("", "127.0.0.2"),
    ] {
        assert_eq!(
            client(&server, PROXY, &[("x-forwarded-for", chain)]).await,
            expected,
            "{chain}"
        );
    }
    let lines = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "203.0.113.1")];
    assert_eq!(client(&server, PROXY, &lines).await, "203.0.113.1");
    assert_eq!(client(&server, PROXY, &[]).await, "127.0.0.2");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_header_that_the_manifest_names_is_read() {
    let both = [("x-forwarded-for", "203.0.113.1"), ("forwarded", "for=203.0.113.2;proto=https")];
    let site = site(TRUSTED);
    let server = site.start();
    let seen = inspect(from(PROXY, server.http).await, Version::H1, &both).await;
    assert_eq!(seen.expect("a reply"), told("203.0.113.1", "http"));

    write(&site, RFC_7239, "");
    server.wait_for_log("reloaded");
    let seen = inspect(from(PROXY, server.http).await, Version::H1, &both).await;
    assert_eq!(seen.expect("a reply"), told("203.0.113.2", "https"));
    let chain = "for=6.6.6.6, for=\"[2001:db8::7]:4711\";proto=https, for=127.0.0.3";
    let seen = inspect(from(PROXY, server.http).await, Version::H1, &[("forwarded", chain)]).await;
    assert_eq!(seen.expect("a reply"), told("2001:db8::7", "https"));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_on_one_connection_are_each_of_their_own_client() {
    let site = site(TRUSTED);
    let server = site.start();
    let mut io = from(PROXY, server.http).await;
    let clients = ["203.0.113.1", "203.0.113.2", "203.0.113.3"];
    let requests: String = clients
        .map(|client| {
            format!("GET /hello HTTP/1.1\r\nhost: {HOST}\r\nx-forwarded-for: {client}\r\n\r\n")
        })
        .concat();
    io.write_all(requests.as_bytes()).await.expect("send");
    for client in clients {
        let mut line = || server.logged(&format!("client={client} host=p2.test")).len() == 1;
        wait_until("each has a line in the log", &mut line);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_a_request_name_its_client() {
    let site = site(TRUSTED);
    write(&site, TRUSTED, "[clients]\nmax_uri = \"100B\"\nbody_timeout = \"1s\"\n");
    let server = site.start();
    let long = format!("/{}", "x".repeat(200));
    let io = from(PROXY, server.http).await;
    let request = Request::get(&long).header("host", HOST).header("x-forwarded-for", "203.0.113.1");
    let request = request.body(Full::<Bytes>::default()).expect("a request");
    let answer = send(io, Version::H1, request).await.expect("an answer");
    assert_eq!(whole(answer).await.expect("a page").status, 414);
    server.wait_for_log("limit=clients.max_uri times=1 by=203.0.113.1");

    let mut io = from(PROXY, server.http).await;
    let slow = format!(
        "{} /discard HTTP/1.1\r\nhost: {HOST}\r\nx-forwarded-for: 203.0.113.2\r\ncontent-length: 9\r\n\r\n",
        Method::POST
    );
    io.write_all(slow.as_bytes()).await.expect("send");
    server.wait_for_log("limit=clients.body_timeout times=1 by=203.0.113.2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_has_as_many_connections_as_there_may_be() {
    let site = site(TRUSTED);
    write(&site, TRUSTED, "[clients]\nmax_connections_per_address = 2\n");
    let server = site.start();
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(from(PROXY, server.http).await);
    }
    assert_eq!(client(&server, PROXY, &[]).await, "127.0.0.2");
    assert_eq!(server.logged("max_connections_per_address"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_is_announced_is_trusted_if_they_are_listed_and_their_proxy_is_not_asked() {
    // A network in front of the one that announces it.
    let site = site(
        "proxy_protocol = [\"127.0.0.2\"]\ntrusted_proxies = [\"127.0.0.2\", \"198.51.100.0/24\"]",
    );
    let server = site.start();
    for (announced, expected) in [("198.51.100.7", "203.0.113.1"), ("192.0.2.1", "192.0.2.1")] {
        let mut io = from(PROXY, server.http).await;
        let header = format!("PROXY TCP4 {announced} 10.0.0.1 1 80\r\n");
        io.write_all(header.as_bytes()).await.expect("send");
        let seen = inspect(io, Version::H1, &[("x-forwarded-for", "203.0.113.1")]).await;
        assert_eq!(seen.expect("a reply").client, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_who_is_trusted_from_the_next_request_on() {
    let site = site("");
    let server = site.start();
    let io = TokioIo::new(from(PROXY, server.http).await);
    let (mut kept, connection) = http1::handshake(io).await.expect("a connection");
    tokio::spawn(connection);
    let mut client = async || {
        let request = Request::get("/inspect").header("host", HOST);
        let request = request.header("x-forwarded-for", "203.0.113.1");
        let answer = kept.send_request(request.body(Full::<Bytes>::default()).expect("a request"));
        let reply = whole(answer.await.expect("an answer")).await.expect("the whole of it");
        seen(&serde_json::from_slice(&reply.body).expect("JSON")).client
    };
    assert_eq!(client().await, "127.0.0.2");

    write(&site, TRUSTED, "");
    server.wait_for_log("reloaded generation=2");
    assert_eq!(client().await, "203.0.113.1");

    write(&site, "trusted_proxies = [\"127.0.0.3\"]", "");
    server.wait_for_log("reloaded generation=3");
    assert_eq!(client().await, "127.0.0.2");
    assert_eq!(server.logged("needs a restart"), [""; 0]);
}
