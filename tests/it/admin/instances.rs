//! What instances do, as operators see it while requests hang in them and while generations drain.

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{ask, asked};
use crate::support::client::{to_the_end, until_answer};
use crate::support::pool::until;
use crate::support::server::{Server, Site, USUAL, hello_version};

/// Nothing that hangs is ended before the test does it.
fn site() -> Site {
    let site = Site::usual();
    let patient = USUAL
        .replace("\"2s\"", "\"300s\"")
        .replace("idle_timeout = \"5s\"", "idle_timeout = \"300s\"");
    site.write_manifest(&patient);
    site
}

/// Requests whose guests wait for the last byte of their bodies.
async fn hang(server: &Server, host: &str, count: usize) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for _ in 0..count {
        let mut io = TcpStream::connect(server.http).await.expect("connect");
        let head = format!(
            "POST /discard HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: 2\r\n\r\nx"
        );
        io.write_all(head.as_bytes()).await.expect("send");
        all.push(io);
    }
    all
}

async fn release(all: Vec<TcpStream>) {
    for mut io in all {
        io.write_all(b"x").await.expect("send");
        let answer = to_the_end(&mut io).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

/// Waits for a status in which that is so.
async fn until_status(site: &Site, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let end = std::time::Instant::now() + crate::support::server::PATIENCE;
    loop {
        let status = asked(site, "/v1/status").await;
        if is_so(&status) {
            return status;
        }
        assert!(std::time::Instant::now() < end, "never: {what}: {status:#}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

fn app<'a>(status: &'a Value, name: &str) -> &'a Value {
    let apps = status["apps"].as_array().expect("apps");
    apps.iter().find(|app| app["name"] == name).expect("the app")
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_hang_in_guests_are_counted_and_named() {
    let site = site();
    let server = site.start();
    for (name, busy) in [("p2", 5), ("p3", 1)] {
        let hanging = hang(&server, &format!("{name}.test"), 5).await;
        let status =
            until_status(&site, "five are in flight", |status| app(status, name)["in_flight"] == 5)
                .await;
        let seen = app(&status, name);
        assert!(seen["instances"]["busy"].as_u64() >= Some(busy), "{seen:#}");
        assert!(seen["memory_bytes"].as_u64() > Some(64 << 10), "{seen:#}");

        let instances = asked(&site, &format!("/v1/apps/{name}/instances")).await;
        let pool = &instances["pools"][0];
        assert_eq!((&pool["serves"], &pool["generation"]), (&true.into(), &1.into()));
        let all = pool["instances"].as_array().expect("instances").iter();
        let mut ids: Vec<_> = all
            .flat_map(|instance| instance["requests"].as_array().expect("requests"))
            .map(|request| request["id"].as_str().expect("an id").to_owned())
            .collect();
        let (told, table) = {
            let (status, table) = site.tidegate(&["instances", name]);
            (status.success(), table)
        };
        assert!(told && ids.iter().take(1).all(|id| table.contains(id)), "{table}");
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 5, "{instances:#}");

        release(hanging).await;
        until_status(&site, "none is in flight", |status| {
            let app = app(status, name);
            app["in_flight"] == 0 && app["instances"]["idle"].as_u64() >= Some(busy)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_is_seen_while_it_drains_and_not_after() {
    let site = site();
    let server = site.start();
    for (name, file) in [("p2", "apps/kit-p2.wasm"), ("p3", "apps/kit-p3.wasm")] {
        let host = format!("{name}.test");
        let hanging = hang(&server, &host, 2).await;
        let before =
            until_status(&site, "both are in flight", |status| app(status, name)["in_flight"] == 2)
                .await;
        site.put(file, &hello_version(5));
        until_answer(&server, &host, "/version", "200 00000005").await;

        let status = asked(&site, "/v1/status").await;
        let draining = &app(&status, name)["draining"];
        let first = app(&before, name);
        assert!(first["draining"].as_array().is_some_and(Vec::is_empty), "{first:#}");
        assert_eq!(
            (&draining[0]["in_flight"], &draining[0]["generation"]),
            (&2.into(), &1.into()),
            "{status:#}"
        );
        let (_, text) = site.tidegate(&["status"]);
        assert!(text.contains("draining; "), "{text}");
        let (_, text) = site.tidegate(&["instances", name]);
        assert!(text.contains("generation 1 drains"), "{text}");

        release(hanging).await;
        // Its idle instances stay for their idle timeout, in case that the change is taken back.
        until_status(&site, "no request is left in it", |status| {
            let draining = &app(status, name)["draining"];
            draining.as_array().is_some_and(Vec::is_empty) || draining[0]["in_flight"] == 0
        })
        .await;
    }

    // Where idle instances leave at once, it goes.
    let quick = USUAL.replace("idle_timeout = \"5s\"", "idle_timeout = \"100ms\"");
    site.write_manifest(&quick);
    until("it is read", || server.logged("reloaded").len() >= 3).await;
    site.write_manifest(&quick.replace("\"p3.test\" = \"p3\"", "\"p3.test\" = \"hello\""));
    until("it is read", || server.logged("reloaded").len() >= 4).await;
    let hidden = asked(&site, "/v1/status").await;
    assert!(hidden["generation"].as_u64() >= Some(5), "{hidden:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_is_not_there_is_told_with_those_that_are() {
    let site = Site::usual();
    let _server = site.start();
    let reply = ask(&site, "GET", "/v1/apps/nobody/instances").await.expect("an answer");
    assert_eq!(reply.status, 404);
    assert!(reply.text().contains("hello, p2, p3"), "{}", reply.text());
    let (status, told) = site.tidegate(&["logs", "nobody"]);
    assert_eq!(status.code(), Some(1), "{told}");
    assert!(
        told.contains("there is no app \"nobody\"") && told.contains("hello, p2, p3"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_says_first_what_is_wrong() {
    let site = Site::usual();
    let server = site.start();
    let (status, text) = site.tidegate(&["status"]);
    assert!(status.success() && text.starts_with("nothing is wrong: 3 apps serve"), "{text}");
    assert!(!text.contains('\x1b'), "no colours where there is no terminal: {text}");
    for told in ["p2.test/", &server.http.to_string(), "CERTIFICATE", "not issued yet"] {
        assert!(text.contains(told), "{told} in {text}");
    }
    let (_, json) = site.tidegate(&["status", "--json"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["pid"], server.pid());
    drop(server);

    site.put("apps/kit-p2.wasm", b"\0asm this is none");
    let _server = site.start();
    let (status, text) = site.tidegate(&["status"]);
    assert!(
        status.success() && text.starts_with("1 app cannot be served: their hosts answer 503"),
        "{text}"
    );
    assert!(text.lines().nth(1).is_some_and(|line| line.starts_with("  p2: ")), "{text}");
}
