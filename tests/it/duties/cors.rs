//! Which pages of other origins may read an answer is what the manifest says, as the Fetch standard
//! has it: <https://fetch.spec.whatwg.org/#http-cors-protocol>.

use http::{Method, Request};
use http_body_util::Full;

use super::{from, manifest, request, site};
use crate::support::client::{Reply, VERSIONS, request_tls};
use crate::support::server::Server;

const HOSTS: &str = r#"
[hosts."api.test"]
"/" = { app = "kit", cors = { origins = ["https://App.test", "http://localhost:3000", "https://b.test:443"], methods = ["GET", "PUT"], headers = ["content-type", "X-Mine"], expose = ["x-request-id"], credentials = true, max_age = "2h" } }
"/secret" = { app = "kit", cors = { origins = ["https://app.test"] }, basic_auth = { users_file = "users" }, rate_limit = { requests = 3, per = "1d" } }
"/open" = { respond = { body = "for all" }, cors = { origins = ["*"] } }
"/plain" = "kit"
"#;

/// What an answer says of sharing, by its headers' last words.
fn said(reply: &Reply) -> Vec<(&str, &str)> {
    let name = |name: &'static str| match name.strip_prefix("access-control-") {
        Some(rest) => Some(rest),
        None => (name == "vary").then_some(name),
    };
    const NAMES: [&str; 7] = [
        "access-control-allow-origin",
        "access-control-allow-credentials",
        "access-control-allow-methods",
        "access-control-allow-headers",
        "access-control-max-age",
        "access-control-expose-headers",
        "vary",
    ];
    let values = |header: &'static str| {
        let values = reply.headers.get_all(header).iter();
        values.filter_map(move |value| Some((name(header)?, value.to_str().expect("text"))))
    };
    NAMES.into_iter().flat_map(values).collect()
}

/// What a browser asks before a page of `origin` sends a PUT to `path`.
async fn preflight(server: &Server, origin: &str, path: &str) -> Reply {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "content-type,x-mine"),
    ];
    options(server, path, &headers).await
}

async fn options(server: &Server, path: &str, headers: &[(&str, &str)]) -> Reply {
    let mut request = request("api.test", path, headers);
    *request.method_mut() = Method::OPTIONS;
    from([127, 0, 0, 1].into(), server, request).await
}

async fn ask(server: &Server, path: &str, headers: &[(&str, &str)]) -> Reply {
    from([127, 0, 0, 1].into(), server, request("api.test", path, headers)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_is_answered_without_the_app() {
    let site = site(HOSTS);
    site.put("users", b"");
    let server = site.start();

    for origin in ["https://app.test", "http://localhost:3000", "https://b.test"] {
        let reply = preflight(&server, origin, "/status?code=500").await;
        assert_eq!((reply.status.as_u16(), reply.text()), (204, ""));
        assert_eq!(
            said(&reply),
            [
                ("allow-origin", origin),
                ("allow-credentials", "true"),
                ("allow-methods", "GET, PUT"),
                ("allow-headers", "content-type, x-mine"),
                ("max-age", "7200"),
                ("expose-headers", "x-request-id"),
                ("vary", "origin"),
            ]
        );
    }
    let line = server.wait_for_log("method=OPTIONS");
    assert!(line.contains("status=204") && !line.contains("instance="), "{line}");

    for version in VERSIONS {
        let request = Request::options("/status?code=500")
            .header("origin", "https://app.test")
            .header("access-control-request-method", "PUT")
            .body(Full::default());
        let reply = request_tls(&site, &server, "api.test", version, request.expect("it")).await;
        let reply = reply.expect("an answer");
        assert_eq!((reply.status.as_u16(), said(&reply).len()), (204, 7), "{version:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_is_told_nothing() {
    let site = site(HOSTS);
    site.put("users", b"");
    let server = site.start();

    for origin in [
        "https://evil.test",
        "http://app.test",
        "https://app.test:8443",
        "https://app.test.evil.test",
        "https://sub.app.test",
        "https://app.test/",
        "https://app.testx",
        "null",
        "",
    ] {
        let reply = preflight(&server, origin, "/hello").await;
        assert_eq!((reply.status.as_u16(), said(&reply)), (204, vec![("vary", "origin")]));
        let reply = ask(&server, "/hello", &[("origin", origin)]).await;
        assert_eq!((reply.status.as_u16(), said(&reply)), (200, vec![("vary", "origin")]));
    }
    // It stays right for the others when a cache holds it.
    assert_eq!(said(&ask(&server, "/hello", &[]).await), [("vary", "origin")]);
    assert!(said(&ask(&server, "/plain", &[("origin", "https://app.test")]).await).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_says_who_may_read_it_whatever_the_app_said() {
    let site = site(HOSTS);
    site.put("users", b"");
    let server = site.start();
    let shared = [
        ("allow-origin", "https://app.test"),
        ("allow-credentials", "true"),
        ("expose-headers", "x-request-id"),
        ("vary", "origin"),
    ];
    let origin = [("origin", "https://app.test")];

    assert_eq!(said(&ask(&server, "/hello", &origin).await), shared);
    let own = "/headers?name=access-control-allow-origin&value=*&count=2";
    assert_eq!(said(&ask(&server, own, &origin).await), shared);
    let own = "/headers?name=access-control-allow-origin&value=https://evil.test";
    let reply = ask(&server, own, &[("origin", "https://evil.test")]).await;
    assert_eq!(said(&reply), [("vary", "origin")]);
    // A script may want to know what went wrong.
    let reply = ask(&server, "/trap", &origin).await;
    assert_eq!((reply.status.as_u16(), said(&reply)), (502, shared.to_vec()));
    // What is no preflight is the app's to answer.
    let reply = options(&server, "/status?code=299", &origin).await;
    assert_eq!((reply.status.as_u16(), said(&reply)), (299, shared.to_vec()));
    let reply = options(&server, "/status?code=299", &[("access-control-request-method", "PUT")]);
    assert_eq!(reply.await.status, 299, "a browser always says its origin");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_page_may_read_what_is_for_all() {
    let site = site(HOSTS);
    site.put("users", b"");
    let server = site.start();

    for origin in ["https://anybody.test", "null"] {
        let reply = ask(&server, "/open", &[("origin", origin)]).await;
        assert_eq!((reply.text(), said(&reply)), ("for all", vec![("allow-origin", "*")]));
    }
    let reply = preflight(&server, "https://anybody.test", "/open").await;
    let methods = ("allow-methods", "GET, HEAD, POST");
    assert_eq!(said(&reply), [("allow-origin", "*"), methods, ("max-age", "600")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_needs_no_password_and_what_comes_after_it_does() {
    let site = site(HOSTS);
    site.put("users", b"");
    let server = site.start();
    let origin = [("origin", "https://app.test")];
    let shared = [("allow-origin", "https://app.test"), ("vary", "origin")];

    assert_eq!(preflight(&server, "https://app.test", "/secret").await.status, 204);
    let reply = ask(&server, "/secret", &origin).await;
    assert_eq!((reply.status.as_u16(), said(&reply)), (401, shared.to_vec()));
    // The rate limit comes before both.
    assert_eq!(preflight(&server, "https://app.test", "/secret").await.status, 204);
    let reply = preflight(&server, "https://app.test", "/secret").await;
    assert_eq!((reply.status.as_u16(), said(&reply)), (429, shared.to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_who_may() {
    let site = site(HOSTS);
    site.put("users", b"");
    let server = site.start();
    let origin = [("origin", "https://new.test")];
    assert_eq!(said(&ask(&server, "/hello", &origin).await), [("vary", "origin")]);

    let skipped = server.log().len();
    site.write_manifest(&manifest(&HOSTS.replace("App.test", "new.test")));
    server.wait_for_log_after(skipped, "reloaded");
    assert_eq!(said(&ask(&server, "/hello", &origin).await).len(), 4);
    let old = [("origin", "https://app.test")];
    assert_eq!(said(&ask(&server, "/hello", &old).await), [("vary", "origin")]);
}
