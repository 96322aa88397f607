//! What the spans of a request say, and what they do not.

use http::Request;
use serde_json::{Value, json};

use super::{ANYONE, get_from, is_server, site, to};
use crate::http3::http3;
use crate::support::client::{GUESTS, VERSIONS, Version, answer, request_tls};
use crate::support::collector::Collector;

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_a_span_and_spans_of_what_it_went_through_over_every_protocol() {
    let Some(collector) = Collector::start(&[]) else { return };
    let site = site(&[], &to(&collector, "1/1"));
    let server = site.start();
    for host in GUESTS {
        for version in VERSIONS {
            let request = Request::get("/hello?token=s3cret")
                .header("authorization", "Bearer s3cret")
                .header("cookie", "id=s3cret")
                .body(Default::default())
                .expect("a request");
            let reply = request_tls(&site, &server, host, version, request).await;
            assert_eq!(reply.expect("an answer").text(), "hello world\n");
            let number = if version == Version::H1 { "1.1" } else { "2" };
            check(&collector, host, number);
        }
        let requests = json!({"requests": [{"path": "/hello?token=s3cret"}]});
        if http3(&site, &server, host, "exchange", requests).await.is_some() {
            check(&collector, host, "3");
        }
    }
    let all = format!("{:?}", collector.batches());
    assert!(!all.contains("s3cret"), "{all}");
    let line = server.wait_for_log("protocol=HTTP/2");
    let (_, trace) = line.split_once(" trace=").expect("the trace");
    collector.wait_for_span("the trace of the log", |span| {
        trace.starts_with(span["trace"].as_str().expect("an id"))
    });
}

/// The spans of a request for `/hello` at `host` over this protocol.
fn check(collector: &Collector, host: &str, protocol: &str) {
    let own = collector.wait_for_span(&format!("a span of {host} over {protocol}"), |span| {
        is_server(span)
            && span["attributes"]["server.address"] == host
            && span["attributes"]["network.protocol.version"] == protocol
    });
    let of_trace = |spans: &[Value]| -> Vec<Value> {
        spans.iter().filter(|span| span["trace"] == own["trace"]).cloned().collect()
    };
    let spans = collector.wait_for("its children", |spans| of_trace(spans).len() >= 4);
    let spans = of_trace(&spans);

    assert_eq!((&own["name"], &own["parent"]), (&json!("GET /"), &json!("")));
    assert_eq!(own["status"], "STATUS_CODE_UNSET");
    assert_eq!(own["resource"]["service.name"], "tidegate");
    assert_eq!(own["scope"], "tidegate");
    let mut attributes = own["attributes"].clone();
    let request = attributes["tidegate.request"].take();
    assert_eq!(request.as_str().map(str::len), Some(16), "{request}");
    assert!(attributes["tidegate.instance"].take().as_i64().is_some_and(|number| number > 0));
    let app = host.trim_end_matches(".test");
    assert_eq!(
        attributes,
        json!({
            "http.request.method": "GET",
            "url.scheme": "https",
            "url.path": "/hello",
            "http.route": "/",
            "server.address": host,
            "client.address": "127.0.0.1",
            "network.protocol.version": protocol,
            "http.response.status_code": 200,
            "http.response.body.size": 12,
            "tidegate.app": app,
            "tidegate.generation": 1,
            "tidegate.request": null,
            "tidegate.instance": null,
        })
    );

    let time = |span: &Value, end: &str| span[end].as_u64().expect("a time");
    for span in spans.iter().filter(|span| !is_server(span)) {
        assert_eq!(span["parent"], own["id"], "{span:#}");
        assert_eq!(span["kind"], "SPAN_KIND_INTERNAL");
        assert!(time(span, "start") >= time(&own, "start"), "{span:#}");
        assert!(time(span, "end") <= time(&own, "end"), "{span:#}");
        assert!(time(span, "start") <= time(span, "end"), "{span:#}");
    }
    let span = |name: &str| spans.iter().find(|span| span["name"] == name);
    for name in ["queue", "guest", "body"] {
        assert!(span(name).is_some(), "no {name}: {spans:#?}");
    }
    // The first request is that which an instance is made for.
    assert_eq!(span("instantiate").is_some(), protocol == "1.1", "{spans:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_wrong_is_in_the_span() {
    let Some(collector) = Collector::start(&[]) else { return };
    let site = site(&[], &to(&collector, "1/1"));
    let server = site.start();
    let of_path = |path: &str| {
        collector
            .wait_for_span(path, |span| is_server(span) && span["attributes"]["url.path"] == path)
    };
    for host in GUESTS {
        assert!(answer(&server, host, "/trap").await.starts_with("502"));
        let span = of_path("/trap");
        assert_eq!(span["status"], "STATUS_CODE_ERROR", "{span:#}");
        assert_eq!(span["attributes"]["http.response.status_code"], 502);
        assert_eq!(span["attributes"]["error.type"], "502");
    }
    // What clients do wrong is no error of the server's.
    assert!(answer(&server, "nobody.test", "/unknown").await.starts_with("404"));
    let span = of_path("/unknown");
    assert_eq!((&span["status"], &span["name"]), (&json!("STATUS_CODE_UNSET"), &json!("GET")));
    assert_eq!(span["attributes"]["http.response.status_code"], 404);

    let long = format!("/{}", "x".repeat(4000));
    assert!(answer(&server, "nobody.test", &long).await.starts_with("404"));
    collector.wait_for_span("a path cut to size", |span| {
        span["attributes"]["url.path"].as_str().is_some_and(|path| path == &long[..1024])
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_in_so_many_is_traced() {
    const ASKED: usize = 600;

    let Some(collector) = Collector::start(&[]) else { return };
    let site = site(&[], &to(&collector, "1/4"));
    let server = site.start();
    for _ in 0..ASKED {
        answer(&server, "p2.test", "/hello").await;
    }
    // What a proxy traces is traced here, and comes after all others.
    let parent = format!("00-{}-{}-01", super::TRACE, super::SPAN);
    get_from(super::PROXY, &server, "p2.test", "/hello", &[("traceparent", &parent)]).await;
    let spans = collector.wait_for("the last", |spans| {
        spans.iter().any(|span| is_server(span) && span["trace"] == super::TRACE)
    });
    let traced = spans.iter().filter(|span| is_server(span)).count() - 1;
    // 150 as a rule, give or take five times the standard deviation.
    assert!((97..=203).contains(&traced), "{traced} of {ASKED}");
    let logged = server.log().iter().filter(|line| line.contains(" trace=")).count();
    assert_eq!(logged, traced + 1);

    // Who is not traced is told nothing.
    let mut untold = 0;
    for _ in 0..40 {
        let reply = get_from(ANYONE, &server, "p2.test", "/inspect", &[]).await;
        untold += usize::from(super::inspected(&reply, "traceparent").is_empty());
    }
    assert!((12..40).contains(&untold), "{untold} of 40");
}
