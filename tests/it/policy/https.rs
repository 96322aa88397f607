//! Plain HTTP is sent to HTTPS, and browsers are told to stay there.

use super::{get_as, reload, site};
use crate::support::certificates::{Authority, pair, root};
use crate::support::client::{Reply, VERSIONS, Version, ask, get, get_tls, post, status, trusting};
use crate::support::server::{USUAL, hello_version};

const GIVEN: &str = "[tls.certificates]\n\"hello.test\" = { cert = \"certs/hello.pem\", key = \"certs/hello.key\" }\n";

/// The status, and where it leads.
fn led(reply: &Reply) -> (u16, String) {
    let location = reply.headers.get("location").map(|value| value.to_str().expect("text"));
    (reply.status.as_u16(), location.unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_with_a_certificate_is_served_over_https() {
    let site = site("");
    pair("hello.test").put(&site, "hello");
    let server = site.start();
    let plain = async |host, path| get(&server, host, path).await.expect("an answer");
    assert_eq!(plain("hello.test", "/a").await.status, 200, "the local CA is not for everyone");

    reload(&site, &server, GIVEN);
    let there = format!("https://hello.test:{}", server.https.port());
    for path in ["/", "/a/b?c=d&e=%2F", "//evil.test/", "/a?//b"] {
        assert_eq!(led(&plain("hello.test", path).await), (308, format!("{there}{path}")));
    }
    assert_eq!(led(&plain("HELLO.test:80", "/x").await), (308, format!("{there}/x")));
    let posted = post(&server, "hello.test", "/form", "a=b").await.expect("an answer");
    assert_eq!(led(&posted), (308, format!("{there}/form")));
    // Browsers keep a 308 for good, unless they are told not to: the operator may think again.
    assert_eq!(posted.headers["cache-control"], "no-store");
    let absolute = ask(&server, "GET", "http://hello.test/x?y", "host: hello.test\r\n").await;
    assert!(absolute.contains(&format!("location: {there}/x?y\r\n")), "{absolute}");

    // An authority asks for proof over plain HTTP.
    assert_eq!(plain("hello.test", "/.well-known/acme-challenge/token").await.status, 200);
    assert_eq!(plain("p2.test", "/hello").await.status, 200);
    assert_eq!(plain("nobody.test", "/").await.status, 404);
    let over_https = format!("{}{}", site.root(), root());
    let config = (Version::H1, &trusting(&over_https, Version::H1));
    let reply = get_as(&server, config, "hello.test", ("hello.test", "/"), &[]).await;
    assert_eq!(reply.expect("an answer").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manifest_may_say_otherwise() {
    let site =
        site(&format!("\"on.test\" = {{ \"/\" = \"p2\", redirect_to_https = true }}\n{GIVEN}"));
    pair("hello.test").put(&site, "hello");
    let server = site.start();
    let plain = async |host| get(&server, host, "/hello").await.expect("an answer").status.as_u16();
    assert_eq!([plain("hello.test").await, plain("on.test").await], [308, 308]);

    let manifest = USUAL.replace(
        "\"hello.test\" = \"hello\"",
        "\"hello.test\" = { \"/\" = \"hello\", redirect_to_https = false }\n\"on.test\" = \"p2\"",
    );
    let skipped = server.log().len();
    site.write_manifest(&format!("{manifest}{GIVEN}"));
    server.wait_for_log_after(skipped, "reloaded");
    assert_eq!([plain("hello.test").await, plain("on.test").await], [200, 200]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_https_nobody_is_sent_there() {
    let site = site("");
    pair("hello.test").put(&site, "hello");
    let server = "[server]\nhttp = [\"127.0.0.1:0\"]\n";
    site.write_manifest(&format!("{server}{USUAL}{GIVEN}"));
    let server = site.start();

    assert_eq!(get(&server, "hello.test", "/").await.expect("an answer").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_are_told_to_stay_with_https_by_every_answer_over_it() {
    let site = site(
        "\"a.test\" = { \"/kit\" = \"p2\", hsts = \"365d\", hsts_subdomains = true }\n\
         \"b.test\" = { \"/\" = \"p3\", hsts = \"0s\" }\n\
         \"*.apps.test\" = { folder = \"apps\", hsts = \"2d\" }\n",
    );
    site.put("apps/dropped.wasm", &hello_version(1));
    let server = site.start();
    let forever = "max-age=31536000; includeSubDomains";

    for version in VERSIONS {
        for (host, path, status, expected) in [
            ("a.test", "/kit", 404, Some(forever)),
            ("a.test", "/nothing", 404, Some(forever)),
            ("b.test", "/hello", 200, Some("max-age=0")),
            ("b.test", "/trap", 502, Some("max-age=0")),
            ("dropped.apps.test", "/", 200, Some("max-age=172800")),
            ("p2.test", "/hello", 200, None),
        ] {
            let reply = get_tls(&site, &server, host, path, version).await.expect("an answer");
            let told = reply.headers.get_all("strict-transport-security");
            let told: Vec<_> = told.iter().map(|value| value.to_str().expect("text")).collect();
            assert_eq!(reply.status.as_u16(), status, "{host}{path}");
            assert_eq!(told, Vec::from_iter(expected), "{host}{path}");
        }
    }
    // The operator's word counts, and not the app's.
    let own = "/headers?name=strict-transport-security&value=max-age=5";
    let reply = get_tls(&site, &server, "b.test", own, Version::H1).await.expect("an answer");
    assert_eq!(reply.headers["strict-transport-security"], "max-age=0");
    let plain = ask(&server, "GET", "/hello", "host: b.test\r\n").await;
    assert_eq!(status(&plain), 200);
    assert!(!plain.contains("strict-transport-security"), "{plain}");
}

/// A proxy that speaks TLS itself says so, and is trusted to.
#[tokio::test(flavor = "multi_thread")]
async fn what_came_to_a_trusted_proxy_over_https_is_not_sent_there_again() {
    let listeners = "http = [\"127.0.0.1:0\"]\nhttps = [\"127.0.0.1:0\"]";
    let hosts = "\"a.test\" = { \"/\" = \"p2\", hsts = \"1d\", redirect_to_https = true }\n\
                 \"b.test\" = { \"/\" = \"p2\", client_ca = \"certs/ca.pem\" }\n";
    let site = site("");
    site.put("certs/ca.pem", Authority::new("ca").pem().as_bytes());
    site.write_manifest(&format!(
        "[server]\n{listeners}\ntrusted_proxies = [\"127.0.0.1\"]\n{USUAL}{hosts}"
    ));
    let server = site.start();
    let by_proxy = async |host: &str, proto: &str| {
        let headers = format!(
            "host: {host}\r\nx-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: {proto}\r\nclient-cert: :AA==:\r\n"
        );
        ask(&server, "GET", "/hello", &headers).await
    };

    let over_https = by_proxy("a.test", "https").await;
    assert_eq!(status(&over_https), 200, "{over_https}");
    assert!(over_https.contains("strict-transport-security: max-age=86400\r\n"), "{over_https}");
    assert_eq!(status(&by_proxy("a.test", "http").await), 308);
    // What the proxy knows of the client, we do not.
    assert_eq!(status(&by_proxy("b.test", "https").await), 421);
}
