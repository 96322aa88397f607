//! Header rules change what an app is handed and what a client is answered, and nothing else.

use http::{HeaderMap, Request};
use http_body_util::Full;

use super::{from, manifest, request, seen, site};
use crate::support::client::{Version, get, request_tls, until_answer};

const HOSTS: &str = r#"
[hosts."rules.test"]
"/" = "kit"
"/inspect" = { app = "kit", request_headers = { set = { x-tenant = "north", x-empty = "" }, remove = ["cookie", "x-tenant-id"] } }
"/headers" = { app = "kit", response_headers = { set = { x-frame-options = "DENY", x-kit = "ours" }, add = { vary = "x-tenant" }, remove = ["x-version"] } }
"/trap" = { app = "kit", response_headers = { set = { cache-control = "max-age=60" } } }
"/moved" = { redirect = "/", response_headers = { set = { cache-control = "max-age=60" }, add = { x-why = "moved" } } }
"/fixed" = { respond = { body = "{}" }, response_headers = { set = { content-type = "application/json" } } }
"#;

fn all<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers.get_all(name).iter().map(|value| value.to_str().expect("text")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_handed_what_the_rules_leave_and_set() {
    let site = site(HOSTS);
    let server = site.start();
    let sent = [
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("x-tenant", "south"),
        ("x-tenant", "west"),
        ("x-tenant-id", "7"),
        ("x-other", "kept"),
    ];

    for version in [None, Some(Version::H1), Some(Version::H2)] {
        let reply = match version {
            None => {
                from([127, 0, 0, 1].into(), &server, request("rules.test", "/inspect", &sent)).await
            }
            Some(version) => {
                let mut request = Request::get("/inspect");
                for (name, value) in sent {
                    request = request.header(name, value);
                }
                let request = request.body(Full::default()).expect("a request");
                request_tls(&site, &server, "rules.test", version, request).await.expect("a reply")
            }
        };
        assert_eq!(seen(&reply, "x-tenant"), ["north"], "{version:?}");
        assert_eq!(seen(&reply, "x-empty"), [""]);
        assert_eq!(seen(&reply, "x-other"), ["kept"]);
        assert!(seen(&reply, "cookie").is_empty() && seen(&reply, "x-tenant-id").is_empty());
        assert_eq!(seen(&reply, "x-forwarded-for"), ["127.0.0.1"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_answered_what_the_rules_leave_and_set() {
    let site = site(HOSTS);
    let server = site.start();

    for version in [Version::H1, Version::H2] {
        // What the app says in a header that is set, and in one that is removed.
        for query in ["name=x-kit&value=its&count=2", "name=x-version&value=7"] {
            let request = Request::get(format!("/headers?{query}")).body(Full::default());
            let reply = request_tls(&site, &server, "rules.test", version, request.expect("it"));
            let reply = reply.await.expect("an answer");
            assert_eq!((reply.status.as_u16(), reply.text()), (200, "ok"));
            assert_eq!(all(&reply.headers, "x-frame-options"), ["DENY"]);
            assert_eq!(all(&reply.headers, "x-kit"), ["ours"]);
            assert_eq!(all(&reply.headers, "vary"), ["x-tenant"]);
            assert!(all(&reply.headers, "x-version").is_empty());
        }
        let request = Request::get("/headers?name=vary&value=accept").body(Full::default());
        let reply = request_tls(&site, &server, "rules.test", version, request.expect("it")).await;
        assert_eq!(all(&reply.expect("an answer").headers, "vary"), ["accept", "x-tenant"]);
    }
    let reply = get(&server, "rules.test", "/hello").await.expect("an answer");
    assert!(all(&reply.headers, "x-frame-options").is_empty(), "another route has no rules");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_tidegate_have_them_and_pages_of_failures_do_not() {
    let site = site(HOSTS);
    let server = site.start();

    let reply = get(&server, "rules.test", "/moved").await.expect("an answer");
    assert_eq!((reply.status.as_u16(), all(&reply.headers, "location")), (308, vec!["/"]));
    assert_eq!(all(&reply.headers, "cache-control"), ["max-age=60"]);
    assert_eq!(all(&reply.headers, "x-why"), ["moved"]);
    let reply = get(&server, "rules.test", "/fixed").await.expect("an answer");
    assert_eq!(all(&reply.headers, "content-type"), ["application/json"]);

    let reply = get(&server, "rules.test", "/trap").await.expect("an answer");
    assert_eq!(reply.status, 502);
    assert_eq!(all(&reply.headers, "cache-control"), ["no-store"], "no failure is cached");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_the_rules() {
    let site = site(HOSTS);
    let server = site.start();
    let framed = async || {
        let reply = get(&server, "rules.test", "/headers").await.expect("an answer");
        all(&reply.headers, "x-frame-options").join(",")
    };
    assert_eq!(framed().await, "DENY");

    let skipped = server.log().len();
    site.write_manifest(&manifest(&HOSTS.replace("DENY", "SAMEORIGIN")));
    server.wait_for_log_after(skipped, "reloaded");
    assert_eq!(framed().await, "SAMEORIGIN");

    // A line break would be a header of somebody else's choice.
    let skipped = server.log().len();
    site.write_manifest(&manifest(&HOSTS.replace("DENY", "DENY\\r\\nset-cookie: a=b")));
    let line = server.wait_for_log_after(skipped, "a header's value, which is one line");
    assert!(line.contains("x-frame-options"), "{line}");
    assert_eq!(framed().await, "SAMEORIGIN");

    site.write_manifest(&manifest(r#""rules.test" = "hello""#));
    until_answer(&server, "rules.test", "/headers", "200 hello").await;
    assert_eq!(framed().await, "");
}
