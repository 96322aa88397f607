//! `tidegate explain URL`: who would answer, and why.

use serde_json::Value;

use crate::support::certificates::Authority;
use crate::support::server::{Server, Site, USUAL};

const MORE: &str = r#"
"*.wild.test" = { "/" = "hello", "/api" = "p3", "/api/v2" = { redirect = "/elsewhere" } }
"safe.test" = { "/" = "p2", hsts = "1d", redirect_to_https = true }
"members.test" = { "/" = "p2", client_ca = "ca.pem", redirect_to_https = false }
"#;

fn explained(site: &Site, url: &str) -> Value {
    let (status, told) = site.tidegate(&["explain", "--json", url]);
    assert!(status.success(), "{url}: {told}");
    serde_json::from_str(&told).expect("JSON")
}

fn started() -> (Site, Server) {
    let site = Site::usual();
    site.put("ca.pem", Authority::new("ca").pem().as_bytes());
    site.write_manifest(&format!("{USUAL}{MORE}"));
    let server = site.start();
    (site, server)
}

#[test]
fn the_host_the_prefix_and_the_app_are_told_with_the_reason() {
    let (site, server) = started();
    let at = |host: &str, path: &str| format!("http://{host}:{}{path}", server.http.port());

    let told = explained(&site, &at("hello.test", "/x?y"));
    assert_eq!((&told["answer"], &told["generation"]), (&"the app hello".into(), &1.into()));
    assert_eq!(told["host"]["pattern"], "hello.test");
    assert_eq!(told["listeners"][0]["address"], server.http.to_string());
    assert_eq!(told["certificate"]["source"], "local");

    let told = explained(&site, &at("a.wild.test", "/api/users"));
    assert_eq!(
        (&told["host"]["pattern"], &told["answer"]),
        (&"*.wild.test".into(), &"the app p3".into())
    );
    assert_eq!(
        (&told["route"]["prefix"], &told["route"]["why"]),
        (&"/api".into(), &"it is longer than /".into())
    );
    let told = explained(&site, &at("a.wild.test", "/api/v2/x"));
    assert_eq!(told["answer"], "tidegate itself, by `redirect`");
    let told = explained(&site, &at("safe.test", "/"));
    assert_eq!(told["answer"], "308: plain HTTP is sent to HTTPS");
    assert_eq!(told["policy"]["hsts"], "max-age=86400");
    let told = explained(&site, &at("safe.test", "/.well-known/acme-challenge/token"));
    assert_eq!(told["answer"], "the app p2", "an authority asks over plain HTTP");
    let told = explained(&site, &at("members.test", "/"));
    assert!(told["answer"].as_str().expect("text").starts_with("421: "), "{told}");

    let told = explained(&site, &at("helo.test", "/"));
    assert_eq!(told["answer"], "404: there is no such host");
    assert_eq!(
        (&told["host"]["near"][0], &told["host"]["pattern"]),
        (&"hello.test".into(), &Value::Null)
    );
    let told = explained(&site, "https://hello.test/");
    assert!(
        told["answer"].as_str().expect("text").contains("nothing listens on port 443"),
        "{told}"
    );
}

#[test]
fn plain_http_is_sent_nowhere_where_https_has_no_port() {
    let site = Site::usual();
    let server = "[server]\nhttp = [\"127.0.0.1:0\"]\nhttps = [\"unix:https.sock\"]\n";
    let host = "\"safe.test\" = { \"/\" = \"p2\", redirect_to_https = true }\n";
    site.write_manifest(&format!("{server}{USUAL}{host}"));
    let server = site.start();
    let told = explained(&site, &format!("http://safe.test:{}/", server.http.port()));
    assert_eq!(
        (&told["answer"], &told["policy"]["redirect_to_https"]),
        (&"the app p2".into(), &false.into())
    );
}

#[test]
fn an_app_that_cannot_serve_is_told_with_what_is_in_its_way() {
    let (site, server) = started();
    let url = format!("http://p2.test:{}/", server.http.port());
    assert!(site.tidegate(&["drain", "p2"]).0.success());
    let told = explained(&site, &url);
    assert_eq!(told["answer"], "503: the app p2 is drained by its operator");
    let (_, text) = site.tidegate(&["explain", &url]);
    assert!(text.contains("tidegate drain --undo p2"), "{text}");

    drop(server);
    site.put("apps/kit-p2.wasm", b"\0asm this is none");
    let server = site.start();
    let told = explained(&site, &format!("p2.test:{}", server.http.port()));
    assert!(
        told["answer"].as_str().expect("text").starts_with("503: the app p2 cannot be served"),
        "{told}"
    );

    for bad in ["ftp://a.test/", "http://*.a.test/", "http://a b/", "http://a.test:x/"] {
        let (status, told) = site.tidegate(&["explain", bad]);
        assert_eq!(status.code(), Some(1), "{bad}: {told}");
        assert!(told.contains("help:"), "{bad}: {told}");
    }
}
