//! The way to the collector: how spans are sent, and what becomes of them where it is not to be had.

use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};

use super::{get_from, is_server, manifest, site, to};
use crate::metrics;
use crate::support::certificates::{pair, root};
use crate::support::client::answer;
use crate::support::collector::Collector;
use crate::support::server::{Server, wait_until};

/// Where nobody listens.
const NOWHERE: &str = "endpoint = \"http://127.0.0.1:9\"\nsample = \"1/1\"";

/// No request takes as long on the slowest machine, and the bounds of the exporter are longer.
const SOON: Duration = Duration::from_secs(4);

/// The usual answer, soon.
async fn ask(server: &Server) {
    let asked = timeout(SOON, answer(server, "p2.test", "/hello")).await;
    assert_eq!(asked.expect("no request waits for a collector"), "200 hello world");
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_go_over_tls_with_the_operators_headers() {
    let site = site(&[], NOWHERE);
    let certificate = pair("localhost");
    std::fs::create_dir(site.path("certs")).expect("make certs/");
    certificate.put(&site, "localhost");
    site.put("certs/root.pem", root().as_bytes());
    let (chain, key) = (site.path("certs/localhost.pem"), site.path("certs/localhost.key"));
    let Some(collector) = Collector::start_tls(&chain, &key) else { return };
    let port = collector.address.rsplit_once(':').expect("a port").1;
    site.put("token", b"authorization: Bearer first\n");
    site.write_manifest(&manifest(
        &[],
        &format!(
            "endpoint = \"https://localhost:{port}/otlp/\"\nsample = \"1/1\"\nca_root = \"certs/root.pem\"\n\
             headers = {{ x-scope = \"edge\" }}\nheaders_file = \"token\"\nservice_name = \"the-gate\""
        ),
    ));
    let mut command = site.command();
    // The manifest is the truth.
    command.env("OTEL_EXPORTER_OTLP_HEADERS", "x-of-environment=1").env("OTEL_SERVICE_NAME", "no");
    let server = Server::spawn(command);

    ask(&server).await;
    let span = collector.wait_for_span("a span", is_server);
    assert_eq!(span["resource"]["service.name"], "the-gate");
    let first = &collector.batches()[0];
    assert_eq!(first["path"], "/otlp/v1/traces");
    let headers = &first["headers"];
    assert_eq!(headers["content-type"], "application/x-protobuf");
    assert_eq!(headers["x-scope"], "edge");
    assert_eq!(headers["authorization"], "Bearer first");
    assert!(headers.get("x-of-environment").is_none(), "{headers:#}");

    // A token that is replaced needs no reload.
    site.put("token", b"authorization: Bearer second\n");
    ask(&server).await;
    wait_until("the new token is used", || {
        collector.batches().iter().any(|it| it["headers"]["authorization"] == "Bearer second")
    });
    assert_eq!(server.complaints(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_busy_is_asked_again_and_one_that_refuses_is_not() {
    let Some(collector) = Collector::start(&[503, 429, 200, 400, 200]) else { return };
    let site = site(&[], &to(&collector, "1/1"));
    let server = site.start();
    ask(&server).await;
    let first = collector.wait_for_span("a span at the third attempt", is_server);
    assert_eq!(server.complaints(), [""; 0]);
    metrics::until(&site, "the spans are counted", |scrape| {
        scrape.sum("tidegate_spans_exported_total", &[]) == collector.spans().len() as f64
            && scrape.sum("tidegate_spans_lost_total", &[]) == 0.0
    })
    .await;

    ask(&server).await;
    let line = server.wait_for_log("spans are lost");
    assert!(line.contains("it answers 400") && line.contains("spans="), "{line}");
    ask(&server).await;
    let spans = collector
        .wait_for("the third", |spans| spans.iter().filter(|span| is_server(span)).count() == 2);
    assert_eq!(spans.iter().filter(|span| span["id"] == first["id"]).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_manifest_changes_where_spans_go() {
    let (Some(one), Some(other)) = (Collector::start(&[]), Collector::start(&[])) else { return };
    let site = site(&[], &to(&one, "1/1"));
    let server = site.start();
    ask(&server).await;
    one.wait_for_span("a span", is_server);

    site.write_manifest(&manifest(&[], &to(&other, "1/1")));
    server.wait_for_log("generation=2");
    ask(&server).await;
    let span = other.wait_for_span("a span", is_server);
    assert_eq!(span["attributes"]["tidegate.generation"], 2);
    assert!(one.spans().iter().all(|span| span["attributes"]["tidegate.generation"] != 2));
    assert_eq!(server.complaints(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_requests_are_answered_and_the_loss_is_told() {
    let site = site(&[], NOWHERE);
    let mut server = site.start();
    for _ in 0..20 {
        ask(&server).await;
    }
    let line = server.wait_for_log("spans are lost");
    assert!(line.contains("127.0.0.1:9") && line.contains("cannot be reached"), "{line}");
    let scrape = metrics::Scrape::of(&site).await;
    assert!(scrape.sum("tidegate_spans_lost_total", &[]) > 0.0, "a loss is counted");
    assert_eq!(scrape.sum("tidegate_spans_exported_total", &[]), 0.0);
    ask(&server).await;

    server.signal(libc::SIGTERM);
    assert!(server.exit().success());
    assert!(server.logged("did not take the last spans").is_empty(), "it is tried once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_holds_up_neither_requests_nor_the_stop_and_little_memory() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = silent.local_addr().expect("its address");
    let site = site(&[], &format!("endpoint = \"http://{address}\"\nsample = \"1/1\""));
    let mut server = site.start();
    for _ in 0..50 {
        ask(&server).await;
    }
    server.forget_peak();
    let before = server.peak();
    // Each has four spans, and the queue takes 4096.
    let end = Instant::now() + crate::support::server::PATIENCE;
    while server.logged("limit=traces.queue").is_empty() {
        assert!(Instant::now() < end, "no span is dropped");
        let asked = (0..16).map(|_| ask(&server));
        futures_util::future::join_all(asked).await;
    }
    let grown = server.peak().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");

    server.signal(libc::SIGTERM);
    let began = Instant::now();
    assert!(server.exit().success());
    // Two seconds of it are the last spans'. The drain may take thirty.
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(server.logged("did not take the last spans").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_sent_before_the_process_ends() {
    let Some(collector) = Collector::start(&[]) else { return };
    let site = site(&[], &to(&collector, "1/1"));
    let mut server = site.start();
    for number in 0..30 {
        get_from(super::ANYONE, &server, "p3.test", &format!("/hello?{number}"), &[]).await;
    }
    server.signal(libc::SIGTERM);
    assert!(server.exit().success());
    collector.wait_for("all", |spans| spans.iter().filter(|span| is_server(span)).count() == 30);
    assert_eq!(server.complaints(), [""; 0]);
}
