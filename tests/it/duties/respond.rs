//! A fixed response is what the manifest says, for every method and protocol.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use super::{site, values};
use crate::support::client::{Version, ask, get, get_tls, post, request_tls, status};

const HOSTS: &str = r#"
"gone.test" = { "/" = { respond = { status = 410, body = "gone for good\n" } }, "/empty" = { respond = { status = 204 } } }
"robots.test" = { "/robots.txt" = { respond = { body = "User-agent: *\nDisallow: /\n" } }, "/info" = { respond = { body = "{}", content_type = "application/json" } } }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_route_can_answer_by_itself() {
    let site = site(HOSTS);
    let server = site.start();

    let reply = get(&server, "gone.test", "/any/thing").await.expect("an answer");
    assert_eq!((reply.status.as_u16(), reply.text()), (410, "gone for good\n"));
    assert_eq!(reply.headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(reply.headers["content-length"], "14");

    let reply = get(&server, "robots.test", "/robots.txt").await.expect("an answer");
    assert_eq!((reply.status.as_u16(), reply.text()), (200, "User-agent: *\nDisallow: /\n"));
    let reply = get(&server, "robots.test", "/info").await.expect("an answer");
    assert_eq!(reply.headers["content-type"], "application/json");
    let reply = get(&server, "robots.test", "/other").await.expect("an answer");
    assert_eq!(reply.status, 404, "a host needs no app, and other paths are not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_has_the_length_and_no_body() {
    let site = site(HOSTS);
    let server = site.start();

    let answer = ask(&server, "HEAD", "/", "host: gone.test\r\n").await;
    assert_eq!(status(&answer), 410);
    assert_eq!(values(&answer, "content-length"), ["14"]);
    assert!(answer.ends_with("\r\n\r\n"), "{answer:?}");
    let answer = ask(&server, "GET", "/empty", "host: gone.test\r\n").await;
    assert_eq!(status(&answer), 204);
    assert!(values(&answer, "content-length").is_empty() && answer.ends_with("\r\n\r\n"));

    let request = Request::head("/").body(Full::<Bytes>::default()).expect("a request");
    let reply = request_tls(&site, &server, "gone.test", Version::H2, request).await;
    let reply = reply.expect("an answer");
    assert_eq!((reply.status.as_u16(), reply.body.len()), (410, 0));
    assert_eq!(reply.headers["content-length"], "14");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_protocol_and_method_gets_it() {
    let site = site(HOSTS);
    let server = site.start();

    for version in [Version::H1, Version::H2] {
        let reply = get_tls(&site, &server, "gone.test", "/", version).await.expect("an answer");
        assert_eq!((reply.status.as_u16(), reply.text()), (410, "gone for good\n"));
    }
    let reply = post(&server, "gone.test", "/", "a body").await.expect("an answer");
    assert_eq!(reply.status, 410);
    let line = server.wait_for_log("method=POST");
    assert!(line.contains("route=respond") && line.contains("bytes=14"), "{line}");
}
