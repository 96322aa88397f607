//! Which app answers is decided by the host and the path, however a client writes them.

use crate::support::client::{get, raw, status};
use crate::support::pool::guest;
use crate::support::server::{Server, Site};

/// A site of hello guests that greet with the name of their app.
fn site(hosts: &str) -> Site {
    let names = ["exact", "wildcard", "any", "shop", "api", "admin", "book"];
    let apps: String = names
        .map(|name| {
            format!("[apps.{name}]\ncomponent = \"apps/hello.wasm\"\nenv = {{ GREETING = \"{name}\" }}\n")
        })
        .concat();
    let site = Site::new(&format!("{apps}\n[hosts]\n{hosts}\n"));
    site.put("apps/hello.wasm", &guest("hello"));
    site
}

/// The app that answers, or the status of the refusal.
async fn who(server: &Server, host: &str, path: &str) -> String {
    let reply = get(server, host, path).await.expect("an answer");
    match reply.status.as_u16() {
        200 => reply.text().trim_end_matches(" world\n").to_owned(),
        status => status.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exact_host_beats_a_wildcard_which_beats_any() {
    let site = site(
        r#"
        "www.example.com" = "exact"
        "*.example.com" = "wildcard"
        "*" = "any"
        "#,
    );
    let server = site.start();

    for (host, app) in [
        ("www.example.com", "exact"),
        ("a.example.com", "wildcard"),
        ("a.b.example.com", "any"),
        ("example.com", "any"),
        ("www.example.org", "any"),
        ("127.0.0.1", "any"),
        ("[::1]", "any"),
    ] {
        assert_eq!(who(&server, host, "/").await, app, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_the_same_however_it_is_written() {
    let site = site(
        r#"
        "www.example.com" = "exact"
        "bücher.example" = "book"
        "*.straße.example" = "wildcard"
        "[::1]" = "api"
        "#,
    );
    let server = site.start();

    for (host, app) in [
        ("WWW.Example.COM", "exact"),
        ("www.example.com:8443", "exact"),
        ("www.example.com:", "exact"),
        ("www.example.com.", "exact"),
        ("www.example.com.:80", "exact"),
        ("xn--bcher-kva.example", "book"),
        ("XN--BCHER-KVA.example", "book"),
        ("a.xn--strae-oqa.example", "wildcard"),
        ("[0:0:0:0:0:0:0:1]:80", "api"),
        ("nobody.example", "404"),
        ("a.www.example.com", "404"),
    ] {
        assert_eq!(who(&server, host, "/").await, app, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_prefix_wins_on_segment_boundaries() {
    let site = site(
        r#"
        "shop.test" = { "/" = "shop", "/api/" = "api", "/api/admin" = "admin" }
        "api.test" = { "/api" = "api" }
        "#,
    );
    let server = site.start();

    for (path, app) in [
        ("/", "shop"),
        ("/api", "api"),
        ("/api/", "api"),
        ("/api/users?id=1", "api"),
        ("/api?x=/admin", "api"),
        ("/apis", "shop"),
        ("/API/", "shop"),
        ("/api/admin", "admin"),
        ("/api/admin/x", "admin"),
        ("/api/administrators", "api"),
        ("/x/api/", "shop"),
    ] {
        assert_eq!(who(&server, "shop.test", path).await, app, "{path}");
    }
    assert_eq!(who(&server, "api.test", "/api/x").await, "api");
    assert_eq!(who(&server, "api.test", "/").await, "404");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_in_absolute_form_names_the_host() {
    let site = site(r#""www.example.com" = "exact""#);
    let server = site.start();
    let ask = async |target: &str, host: &str| {
        let head = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        raw(server.http, head).await
    };

    let answer = ask("http://WWW.example.com/x", "www.example.com").await;
    assert!(answer.ends_with("exact world\n"), "{answer}");
    assert_eq!(status(&ask("http://www.example.com/", "other.example").await), 400);
    assert_eq!(status(&ask("http://other.example/", "other.example").await), 404);
}
