//! The OpenAPI document says what the code does.

use std::collections::BTreeSet;

use serde_json::Value;

use super::schema::Document;
use super::{ask, asked};
use crate::support::client::get;
use crate::support::server::{Site, USUAL};

/// A profile that is there.
const STORED: &str = "hello-1-1.json";

fn document() -> Document {
    Document::parse(include_str!("../../../src/admin/openapi.json"))
}

#[test]
fn it_has_every_route_and_no_other() {
    let routes: BTreeSet<_> = tidegate::admin::route_names().into_iter().collect();
    assert_eq!(document().operations(), routes);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_as_it_says() {
    let site = Site::usual();
    site.write_manifest(&USUAL.replace("[defaults]\n", "[defaults]\nprofile = {}\n"));
    std::fs::create_dir(site.path("profiles")).expect("make profiles/");
    site.put(&format!("profiles/{STORED}"), b"{}");
    let server = site.start();
    get(&server, "hello.test", "/").await.expect("an answer");
    let document = document();

    // An app that cannot be served has other answers.
    site.put("apps/kit-p2.wasm", b"\0asm this is none");
    site.put("apps/hello.wasm", &crate::support::server::hello_version(7));
    for (method, path) in document.operations() {
        // The one has a body, the other answers no JSON.
        if ["/login", "/metrics"].contains(&path.as_str()) {
            continue;
        }
        let target = target(&path);
        let reply = ask(&site, &method, &target).await.expect("an answer");
        assert_eq!(reply.status, 200, "{method} {target}: {}", reply.text());
        for line in document.pieces(&method, &path, reply.text()) {
            let answer: Value = serde_json::from_str(line).expect("JSON");
            document.judge(&method, &path, "200", &answer).unwrap_or_else(|wrong| {
                panic!("{method} {path}: {wrong}\n{answer:#}");
            });
        }
    }
    let missing = ask(&site, "GET", "/v1/nothing").await.expect("an answer");
    let missing: Value = serde_json::from_slice(&missing.body).expect("JSON");
    document.judge("GET", "/v1/status", "default", &missing).expect("a failure");
    assert!(document.judge("GET", "/v1/status", "200", &missing).is_err(), "the judge judges");
}

/// A path to ask, for one that has parameters.
fn target(path: &str) -> String {
    match path {
        "/v1/explain" => "/v1/explain?url=http%3A%2F%2Fhello.test%2F".to_owned(),
        "/v1/apps/{app}/profile" => "/v1/apps/hello/profile?seconds=1".to_owned(),
        path => {
            path.replace("{app}", "hello").replace("{name}", STORED).replace("{file}", "app.js")
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_served_and_what_is_not_in_it_is_refused() {
    let site = Site::usual();
    let _server = site.start();
    let served = asked(&site, "/v1/openapi.json").await;
    assert_eq!(served["openapi"], "3.1.0");

    let unknown = ask(&site, "GET", "/v1/nothing").await.expect("an answer");
    assert_eq!(unknown.status, 404);
    assert!(unknown.text().contains("\"help\""), "{}", unknown.text());
    let wrong = ask(&site, "DELETE", "/v1/status").await.expect("an answer");
    assert_eq!(
        (wrong.status.as_u16(), &wrong.headers["allow"]),
        (405, &"GET".parse().expect("it"))
    );
}
