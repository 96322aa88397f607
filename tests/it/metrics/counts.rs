//! Counts are exact: each request is in one class of one app at one host, once.

use http_body_util::BodyExt;
use tokio::net::TcpStream;

use super::{Scrape, after, until};
use crate::support::client::{
    GUESTS, VERSIONS, Version, answer, get, get_tls, post, raw, send, until_answer,
};
use crate::support::server::{Site, USUAL, hello_version};

fn requests(scrape: &Scrape, app: &str, host: &str, code: &str) -> f64 {
    scrape.sum("tidegate_requests_total", &[("app", app), ("host", host), ("code", code)])
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_counted_once_in_the_class_of_its_answer() {
    let site = Site::usual();
    site.write_manifest(&format!(
        "{USUAL}\"files.test\" = {{ \"/old\" = {{ redirect = \"https://p2.test/\" }} }}\n"
    ));
    let server = site.start();
    let mut sent = 0;
    for (code, count) in [(200, 7), (302, 5), (404, 3), (503, 2)] {
        for _ in 0..count {
            for host in GUESTS {
                let reply = get(&server, host, &format!("/status?code={code}")).await;
                assert_eq!(reply.expect("an answer").status, code);
                sent += 1;
            }
        }
    }
    for version in VERSIONS {
        get_tls(&site, &server, "p2.test", "/hello", version).await.expect("an answer");
        sent += 1;
    }
    // A redirect, an unknown path, an unknown host, and something that is no request for a host.
    get(&server, "files.test", "/old").await.expect("an answer");
    get(&server, "files.test", "/new").await.expect("an answer");
    get(&server, "nobody.test", "/").await.expect("an answer");
    raw(server.http, "GET / HTTP/1.1\r\nhost: a b\r\nconnection: close\r\n\r\n").await;
    sent += 4;

    let scrape = after(&site, sent).await;
    for (app, host, over_tls) in [("p2", "p2.test", 2.0), ("p3", "p3.test", 0.0)] {
        let counts = ["1xx", "2xx", "3xx", "4xx", "5xx"].map(|c| requests(&scrape, app, host, c));
        assert_eq!(counts, [0.0, 7.0 + over_tls, 5.0, 3.0, 2.0], "{app}");
        let labels = [("app", app), ("host", host)];
        let took = |name: &str| scrape.sum(name, &labels);
        assert_eq!(took("tidegate_request_duration_seconds_count"), 17.0 + over_tls);
        assert_eq!(took("tidegate_request_to_head_seconds_count"), 17.0 + over_tls);
    }
    assert_eq!(requests(&scrape, "", "files.test", "3xx"), 1.0);
    assert_eq!(requests(&scrape, "", "", "4xx"), 3.0);
    assert_eq!(scrape.sum("tidegate_requests_total", &[]), sent as f64);
    assert_eq!(scrape.sum("tidegate_requests_abandoned_total", &[]), 0.0);
    assert_eq!(scrape.sum("tidegate_responses_cut_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_bodies_are_counted_both_ways() {
    let site = Site::usual();
    let server = site.start();
    for host in GUESTS {
        assert_eq!(
            post(&server, host, "/echo", "twelve bytes").await.expect("it").text().len(),
            12
        );
    }
    let scrape = after(&site, 2).await;
    for app in ["p2", "p3"] {
        assert_eq!(scrape.sum("tidegate_request_body_bytes_total", &[("app", app)]), 12.0, "{app}");
        assert_eq!(scrape.sum("tidegate_response_body_bytes_total", &[("app", app)]), 12.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_its_client_gives_up_counts_once() {
    let site = Site::usual();
    let server = site.start();
    for (host, app) in GUESTS.into_iter().zip(["p2", "p3"]) {
        // Before there is an answer, and in the middle of one.
        let waiting = get(&server, host, "/never-answer");
        let in_flight = until(&site, "it is in flight", |scrape| {
            scrape.sum("tidegate_requests_in_flight", &[("app", app)]) == 1.0
        });
        tokio::select! {
            _ = in_flight => {}
            answer = waiting => panic!("{answer:?}"),
        }
        let io = TcpStream::connect(server.http).await.expect("connect");
        let request = http::Request::get("/endless").header("host", host);
        let request = request.body(http_body_util::Full::<bytes::Bytes>::default()).expect("it");
        let mut response = send(io, Version::H1, request).await.expect("a head");
        response.body_mut().frame().await.expect("a frame").expect("of data");
        drop(response);

        let scrape = until(&site, "both are through", |scrape| {
            scrape.sum("tidegate_request_duration_seconds_count", &[("app", app)]) == 2.0
        });
        let scrape = scrape.await;
        let codes = ["1xx", "2xx", "3xx", "4xx", "5xx"].map(|c| requests(&scrape, app, host, c));
        assert_eq!(codes, [0.0, 1.0, 0.0, 1.0, 0.0], "{app}");
        assert_eq!(scrape.sum("tidegate_requests_abandoned_total", &[("app", app)]), 1.0);
        assert_eq!(scrape.sum("tidegate_responses_cut_total", &[("app", app)]), 0.0);
        assert_eq!(scrape.sum("tidegate_requests_in_flight", &[]), 0.0);
        assert_eq!(scrape.sum("tidegate_request_to_head_seconds_count", &[("app", app)]), 1.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_told_apart() {
    let site = Site::usual();
    let server = site.start();
    for host in GUESTS {
        let _ = get(&server, host, "/trap-after-head?bytes=100000").await;
    }
    let scrape = after(&site, 2).await;
    let cut = scrape.sum("tidegate_responses_cut_total", &[]);
    let refused = scrape.sum("tidegate_requests_total", &[("code", "5xx")]);
    // One that is cut before its head has left is no cut answer, but a failure.
    assert_eq!(cut + refused, 2.0);
    assert_eq!(scrape.sum("tidegate_traps_total", &[("kind", "unreachable")]), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_outlive_a_reload_and_the_pools_that_it_replaces() {
    let site = Site::usual();
    let server = site.start();
    for _ in 0..10 {
        get(&server, "hello.test", "/").await.expect("an answer");
    }
    let before = after(&site, 10).await;
    let app = [("app", "hello")];
    let made = |scrape: &Scrape| scrape.sum("tidegate_instances_created_total", &app);
    let cpu = |scrape: &Scrape| scrape.sum("tidegate_guest_cpu_seconds_total", &app);
    assert!(made(&before) >= 1.0);

    site.put("apps/hello.wasm", &hello_version(2));
    until_answer(&server, "hello.test", "/version", "200 00000002").await;
    let scrape = until(&site, "the new pool has made one", |scrape| made(scrape) > made(&before));
    let scrape = scrape.await;

    let count = requests(&scrape, "hello", "hello.test", "2xx");
    assert!(count > 10.0, "{count}");
    assert!(cpu(&scrape) >= cpu(&before));
    assert_eq!(scrape.sum("tidegate_generation", &[]), 2.0);
    assert_eq!(scrape.sum("tidegate_reloads_total", &[("result", "applied")]), 1.0);
    assert_eq!(scrape.sum("tidegate_last_reload_successful", &[]), 1.0);

    site.write_manifest(&format!("{USUAL}\"x.test\" = \"nobody\"\n"));
    let refused =
        |scrape: &Scrape| scrape.sum("tidegate_reloads_total", &[("result", "refused")]) == 1.0;
    let scrape = until(&site, "the next is refused", refused).await;
    assert_eq!(scrape.sum("tidegate_last_reload_successful", &[]), 0.0);
    assert!(scrape.sum("tidegate_last_reload_timestamp_seconds", &[]) > 1.7e9);
    assert!(answer(&server, "hello.test", "/version").await.starts_with("200 00000002"));
}
