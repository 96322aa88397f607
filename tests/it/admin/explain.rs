//! `tidegate explain URL`: who would answer, and why.

use serde_json::Value;

use crate::support::server::{Server, Site, USUAL};

const MORE: &str = r#"
"*.wild.test" = { "/" = "hello", "/api" = "p3", "/api/v2" = { redirect = "/elsewhere" } }
"safe.test" = { "/" = "p2", hsts = "1d", redirect_to_https = true }
"#;

fn explained(site: &Site, url: &str) -> Value {
    let (status, told) = site.tidegate(&["explain", "--json", url]);
    assert!(status.success(), "{url}: {told}");
    serde_json::from_str(&told).expect("JSON")
}

fn started() -> (Site, Server) {
    let site = Site::usual();
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
