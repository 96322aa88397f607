//! Trace context, in and out: who is believed, and what guests and the origins they ask are told.

use serde_json::{Value, json};

use super::{
    ANYONE, NEVER, PROXY, SPAN, TRACE, get_from, inspected, is_client, is_server, site, to,
};
use crate::outbound::{SENDERS, escaped, sent};
use crate::support::client::GUESTS;
use crate::support::collector::Collector;
use crate::support::origin::Origin;
use crate::support::server::Server;

fn parent(trace: &str, flags: &str) -> String {
    format!("00-{trace}-{SPAN}-{flags}")
}

/// The value of a header of the request that an origin was asked with for `path`.
fn asked(origin: &Origin, path: &str, name: &str) -> Option<String> {
    let requests = origin.requests();
    let request = requests.iter().find(|request| request.starts_with(&format!("GET {path} ")));
    let lines = request.expect("the request came").lines();
    let value = lines.filter_map(|line| line.split_once(": ")).find(|(key, _)| *key == name);
    value.map(|(_, value)| value.to_owned())
}

/// What is asked of a kit that is to ask the origin for `path`.
fn fetch(origin: &Origin, path: &str) -> String {
    format!("/fetch?url={}", escaped(&origin.url(path)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_from_a_proxy_through_a_guest_to_an_origin() {
    let Some(collector) = Collector::start(&[]) else { return };
    let origin = Origin::plain().await;
    let site = site(&[&origin.url("")], &to(&collector, NEVER));
    let server = site.start();
    for host in GUESTS {
        let trace = if host == "p2.test" { TRACE.to_owned() } else { TRACE.replace('0', "1") };
        let headers = [("traceparent", &*parent(&trace, "01")), ("tracestate", "other=1")];
        let path = format!("/of-{host}");
        let reply = get_from(PROXY, &server, host, &fetch(&origin, &path), &headers).await;
        assert_eq!(reply.status, 200);

        let of_trace = |span: &Value| span["trace"] == *trace;
        let own = collector.wait_for_span("the request's", |it| of_trace(it) && is_server(it));
        assert_eq!((&own["parent"], &own["state"]), (&json!(SPAN), &json!("other=1")));
        let call = collector.wait_for_span("the call's", |it| of_trace(it) && is_client(it));
        assert_eq!(call["parent"], own["id"], "{call:#}");
        assert_eq!(call["name"], "GET");
        let id = call["id"].as_str().expect("an id");
        assert_eq!(asked(&origin, &path, "traceparent"), Some(format!("00-{trace}-{id}-01")));
        assert_eq!(asked(&origin, &path, "tracestate").as_deref(), Some("other=1"));
        let port = origin.address.port();
        assert_eq!(
            call["attributes"],
            json!({
                "http.request.method": "GET",
                "server.address": "127.0.0.1",
                "server.port": port,
                "url.scheme": "http",
                "http.response.status_code": 200,
            })
        );

        // A guest that looks is told of the request's own span.
        let headers = [("traceparent", &*parent(&trace, "01")), ("tracestate", "other=1")];
        let reply = get_from(PROXY, &server, host, "/inspect", &headers).await;
        let own = collector.wait_for_span("the request's", |it| {
            of_trace(it) && is_server(it) && it["attributes"]["url.path"] == "/inspect"
        });
        let id = own["id"].as_str().expect("an id");
        assert_eq!(inspected(&reply, "traceparent"), [format!("00-{trace}-{id}-01")]);
        assert_eq!(inspected(&reply, "tracestate"), ["other=1"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_of_the_request_that_makes_it_where_an_instance_serves_several() {
    const REQUESTS: usize = 12;

    let Some(collector) = Collector::start(&[]) else { return };
    let origin = Origin::plain().await;
    let site = site(&[&origin.url("")], &to(&collector, NEVER));
    let server = site.start();
    for (host, first) in GUESTS.into_iter().zip([500, 600]) {
        let trace = |number: usize| format!("{:032x}", first + number);
        // So long that all are under way at a time.
        let path = |number: usize| format!("/slow-head?{}", first + number);
        let requests = (0..REQUESTS).map(|number| {
            let (origin, server) = (&origin, &server);
            async move {
                let parent = parent(&trace(number), "01");
                let path = fetch(origin, &path(number));
                get_from(PROXY, server, host, &path, &[("traceparent", &parent)]).await
            }
        });
        let replies = futures_util::future::join_all(requests).await;
        assert!(replies.iter().all(|reply| reply.status == 200));
        for number in 0..REQUESTS {
            let told = asked(&origin, &path(number), "traceparent").expect("a parent");
            assert!(told.contains(&trace(number)), "{host}: {told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_decides_what_is_traced() {
    let Some(collector) = Collector::start(&[]) else { return };
    let origin = Origin::plain().await;
    let site = site(&[&origin.url("")], &to(&collector, NEVER));
    let server = site.start();
    let headers = [("traceparent", &*parent(TRACE, "01")), ("tracestate", "other=1")];
    for host in GUESTS {
        let reply = get_from(ANYONE, &server, host, "/inspect", &headers).await;
        for name in ["traceparent", "tracestate"] {
            assert_eq!(inspected(&reply, name), [""; 0], "{host}");
        }
        let path = format!("/of-{host}");
        get_from(ANYONE, &server, host, &fetch(&origin, &path), &headers).await;
        assert_eq!(asked(&origin, &path, "traceparent"), None);

        // What a proxy does not trace is not traced here, and goes on as it came.
        let off = [("traceparent", &*parent(TRACE, "00")), ("tracestate", "other=1")];
        let reply = get_from(PROXY, &server, host, "/inspect", &off).await;
        assert_eq!(inspected(&reply, "traceparent"), [parent(TRACE, "00")]);
        assert_eq!(inspected(&reply, "tracestate"), ["other=1"]);
        let path = format!("/off-{host}");
        get_from(PROXY, &server, host, &fetch(&origin, &path), &off).await;
        assert_eq!(asked(&origin, &path, "traceparent"), Some(parent(TRACE, "00")));

        // What is no parent is none.
        let broken = [("traceparent", "00-0-0-01"), ("tracestate", "other=1")];
        let reply = get_from(PROXY, &server, host, "/inspect", &broken).await;
        assert_eq!(inspected(&reply, "traceparent"), [""; 0], "{host}");
        assert_eq!(inspected(&reply, "tracestate"), [""; 0], "{host}");
    }
    last_of_all(&collector, &server).await;
    assert_eq!(server.logged("trace=").len(), 1);
}

/// The request that ends a test: no other one has been traced.
async fn last_of_all(collector: &Collector, server: &Server) {
    let last = parent(&TRACE.replace('0', "2"), "01");
    get_from(PROXY, server, "p2.test", "/hello", &[("traceparent", &last)]).await;
    let spans = collector.wait_for("the last", |spans| spans.iter().any(is_server));
    assert_eq!(spans.iter().filter(|span| is_server(span)).count(), 1, "{spans:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sampled_request_of_a_stranger_begins_a_trace_of_its_own() {
    let Some(collector) = Collector::start(&[]) else { return };
    let site = site(&[], &to(&collector, "1/1"));
    let server = site.start();
    for host in GUESTS {
        let headers = [("traceparent", &*parent(TRACE, "01")), ("tracestate", "other=1")];
        let reply = get_from(ANYONE, &server, host, "/inspect", &headers).await;
        let told = inspected(&reply, "traceparent");
        assert!(
            told.len() == 1 && !told[0].contains(TRACE) && told[0].ends_with("-01"),
            "{told:?}"
        );
        assert_eq!(inspected(&reply, "tracestate"), [""; 0]);
        let own = collector.wait_for_span("its own", |span| {
            is_server(span) && span["attributes"]["server.address"] == host
        });
        assert!(told[0].contains(own["trace"].as_str().expect("an id")));
        assert_eq!(own["parent"], "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_believed_is_the_operators_to_say_and_a_reload_takes_it() {
    let Some(collector) = Collector::start(&[]) else { return };
    let traces = |who: &str| format!("{}\ntrust_parent = \"{who}\"", to(&collector, NEVER));
    let site = site(&[], &traces("everyone"));
    let server = site.start();
    let headers = [("traceparent", &*parent(TRACE, "01"))];
    let reply = get_from(ANYONE, &server, "p2.test", "/inspect", &headers).await;
    assert!(inspected(&reply, "traceparent")[0].contains(TRACE));

    site.write_manifest(&super::manifest(&[], &traces("nobody")));
    server.wait_for_log("generation=2");
    let reply = get_from(PROXY, &server, "p2.test", "/inspect", &headers).await;
    assert_eq!(inspected(&reply, "traceparent"), [""; 0]);
    assert_eq!(server.complaints(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_traces_by_itself_is_not_spoken_for() {
    let Some(collector) = Collector::start(&[]) else { return };
    let origin = Origin::plain().await;
    let site = site(&[&origin.url("")], &to(&collector, "1/1"));
    let server = site.start();
    let own = parent(TRACE, "00");
    for host in SENDERS {
        let path = format!("/of-{host}");
        let (url, headers) = (origin.url(&path), format!("traceparent: {own}\ntracestate: mine=1"));
        let told = sent(&server, host, &[("url", &url), ("headers", &headers)]).await;
        assert!(told.contains("got 200"), "{told}");
        assert_eq!(asked(&origin, &path, "traceparent"), Some(own.clone()), "{host}");
        assert_eq!(asked(&origin, &path, "tracestate").as_deref(), Some("mine=1"), "{host}");

        // A call that is refused is one as well.
        let told = sent(&server, host, &[("url", "http://elsewhere.test/")]).await;
        assert!(told.contains("HttpRequestDenied"), "{told}");
    }
    let spans = collector
        .wait_for("four calls", |spans| spans.iter().filter(|span| is_client(span)).count() == 4);
    let refused: Vec<_> = spans
        .iter()
        .filter(|span| span["attributes"]["error.type"] == "HttpRequestDenied")
        .map(|span| (&span["attributes"]["server.address"], &span["status"]))
        .collect();
    let expected = (&json!("elsewhere.test"), &json!("STATUS_CODE_ERROR"));
    assert_eq!(refused, [expected, expected]);
}
