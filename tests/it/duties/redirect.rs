//! A redirect leads where the manifest says, and nowhere else.

use super::{manifest, site, values};
use crate::support::client::{Version, ask, get, request_tls, status, until_answer};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;

const HOSTS: &str = r#"
"old.test" = { "/" = { redirect = "https://new.test/start" }, "/api" = "hello" }
"moved.test" = { "/" = { redirect = { to = "https://new.test/below/", status = 301, keep_path = true } } }
"stripped.test" = { "/" = "hello", "/v1" = { redirect = { to = "/", status = 307, keep_path = true } } }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_path_can_lead_elsewhere_while_others_lead_to_an_app() {
    let site = site(HOSTS);
    let server = site.start();

    let reply = get(&server, "old.test", "/any?thing").await.expect("an answer");
    assert_eq!(reply.status, 308);
    assert_eq!(reply.headers["location"], "https://new.test/start");
    assert_eq!(reply.headers["content-length"], "0");
    assert!(reply.body.is_empty());

    let reply = get(&server, "old.test", "/api").await.expect("an answer");
    assert_eq!(reply.text(), "hello world\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_the_path_is_kept_where_that_is_asked_for() {
    let site = site(HOSTS);
    let server = site.start();

    for (host, path, code, location) in [
        ("moved.test", "/", 301, "https://new.test/below/"),
        ("moved.test", "/a/b?c=%20d", 301, "https://new.test/below/a/b?c=%20d"),
        ("moved.test", "//evil.test/", 301, "https://new.test/below//evil.test/"),
        ("stripped.test", "/v1/x?y", 307, "/x?y"),
        ("stripped.test", "/v1", 307, "/"),
        // Neither of these may name another host.
        ("stripped.test", "/v1//evil.test", 307, "/evil.test"),
        ("stripped.test", "/v1/\\evil.test", 307, "/evil.test"),
    ] {
        let answer = ask(&server, "GET", path, &format!("host: {host}\r\n")).await;
        assert_eq!(status(&answer), code, "{path}: {answer}");
        assert_eq!(values(&answer, "location"), [location], "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_and_protocol_is_redirected() {
    let site = site(HOSTS);
    let server = site.start();

    let answer = ask(&server, "HEAD", "/", "host: old.test\r\n").await;
    assert_eq!(status(&answer), 308);
    assert!(answer.ends_with("\r\n\r\n"), "no body: {answer:?}");
    // What was sent and not read does not become the next request.
    let answer = ask(&server, "POST", "/", "host: old.test\r\ncontent-length: 19\r\n").await;
    assert_eq!(status(&answer), 308, "{answer}");

    for version in [Version::H1, Version::H2] {
        let request = Request::post("/form").body(Full::new(Bytes::from("a=b"))).expect("it");
        let reply = request_tls(&site, &server, "old.test", version, request).await;
        let reply = reply.expect("an answer");
        assert_eq!(reply.status, 308, "{version:?}");
        assert_eq!(reply.headers["location"], "https://new.test/start");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_says_what_answered() {
    let site = site(HOSTS);
    let server = site.start();

    get(&server, "old.test", "/x").await.expect("an answer");
    let line = server.wait_for_log("path=/x ");
    assert!(line.contains("route=redirect") && line.contains("status=308"), "{line}");
    assert!(!line.contains("app="), "{line}");
    get(&server, "old.test", "/api").await.expect("an answer");
    let line = server.wait_for_log("path=/api ");
    assert!(line.contains("app=hello") && !line.contains("route="), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_where_it_leads() {
    let site = site(HOSTS);
    let server = site.start();
    get(&server, "old.test", "/").await.expect("an answer");

    site.write_manifest(&manifest(r#""old.test" = "hello""#));
    until_answer(&server, "old.test", "/", "200 hello").await;
    site.write_manifest(&manifest(r#""old.test" = { "/" = { redirect = "/elsewhere" } }"#));
    until_answer(&server, "old.test", "/", "308").await;
    let reply = get(&server, "old.test", "/").await.expect("an answer");
    assert_eq!(reply.headers["location"], "/elsewhere");
}
