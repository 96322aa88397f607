//! What an origin gets to see of a guest's request: one request, framed by us, whatever the guest says.

use crate::support::origin::Origin;

use super::{SENDERS, sent, site};

/// The only request that came in since the last look.
fn only(origin: &Origin, seen: &mut usize) -> String {
    let requests = origin.requests();
    assert_eq!(requests.len(), *seen + 1, "{:#?}", &requests[*seen..]);
    *seen += 1;
    requests[*seen - 1].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_sees_the_request_as_the_guest_made_it() {
    let origin = Origin::plain().await;
    let server = site(&[&origin.url("")], "").start();
    let host_line = format!("\r\nhost: {}\r\n", origin.address);
    let mut seen = 0;

    for host in SENDERS {
        let url = origin.url("/seen?a=b%20c&d");
        let told = sent(&server, host, &[("url", &url), ("headers", "x-mine: 1\nx-mine: 2")]).await;
        assert!(told.contains("got 200") && told.contains("whole"), "{host}: {told}");
        let request = only(&origin, &mut seen);
        assert!(request.starts_with("GET /seen?a=b%20c&d HTTP/1.1\r\n"), "{host}: {request}");
        assert_eq!(request.matches("\r\nhost:").count(), 1, "{host}: {request}");
        assert!(request.contains(&host_line), "{host}: {request}");
        assert!(request.contains("\r\nx-mine: 1\r\nx-mine: 2\r\n"), "{host}: {request}");
        // A request without a body says nothing about one.
        assert!(!request.contains("content-length"), "{host}: {request}");
        assert!(!request.contains("transfer-encoding"), "{host}: {request}");

        for method in ["POST", "PUT", "DELETE", "GET", "PURGE"] {
            let told =
                sent(&server, host, &[("url", &url), ("method", method), ("body", "40000")]).await;
            assert!(told.contains("sent all, got 200"), "{host}, {method}: {told}");
            let request = only(&origin, &mut seen);
            assert!(request.contains("\r\ntransfer-encoding: chunked\r\n"), "{host}: {request}");
            assert_eq!(request.matches('x').count(), 40_000, "{host}, {method}");

            let length = [("url", &*url), ("method", method), ("body", "7"), ("length", "7")];
            let told = sent(&server, host, &length).await;
            assert!(told.contains("sent all, got 200"), "{host}, {method}: {told}");
            let request = only(&origin, &mut seen);
            assert!(request.contains("\r\ncontent-length: 7\r\n"), "{host}: {request}");
            assert!(!request.contains("transfer-encoding"), "{host}: {request}");
            assert!(request.ends_with("\r\n\r\nxxxxxxx"), "{host}: {request}");
        }
    }
    // All over one connection for each app.
    assert_eq!(origin.connections(), SENDERS.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_cannot_say_what_is_between_us_and_the_origin() {
    let origin = Origin::plain().await;
    let server = site(&[&origin.url("")], "").start();
    let url = origin.url("/seen");

    for host in SENDERS {
        for headers in [
            "host: other.test",
            "connection: close",
            "connection: keep-alive, x-mine",
            "keep-alive: timeout=100",
            "proxy-connection: keep-alive",
            "proxy-authorization: Basic x",
            "transfer-encoding: chunked",
            "transfer-encoding: identity",
            "Transfer-Encoding: xchunked",
            "upgrade: websocket",
            "http2-settings: AAMAAABk",
            "content-length: 5\ncontent-length: 6",
            "content-length: +5",
            "content-length: 5, 5",
            "content-length: 0x5",
            "x-mine: a\rb",
            "x mine: 1",
            "x-mine\u{0}: 1",
            ": 1",
        ] {
            let told = sent(&server, host, &[("url", &url), ("headers", headers)]).await;
            let refused = told.starts_with("refused: ") || told.contains("Http");
            assert!(refused, "{host}, {headers:?}: {told}");
        }
        for (url, method) in [
            (&*url, "CONNECT"),
            (&*url, "GET /other HTTP/1.1\r\nx:"),
            (&*origin.url("/a b"), "GET"),
            (&*origin.url("/a\r\nx: y"), "GET"),
            (&*origin.url("/a\u{7f}"), "GET"),
            (&*origin.url("/\u{e9}"), "GET"),
        ] {
            let told = sent(&server, host, &[("url", url), ("method", method)]).await;
            let refused = told.starts_with("refused: ") || told.contains("Http");
            assert!(refused, "{host}, {method:?} {url:?}: {told}");
        }
        // Between two neighbours, so it goes no further.
        let told = sent(&server, host, &[("url", &url), ("headers", "te: trailers")]).await;
        assert!(told.contains("got 200"), "{host}: {told}");
    }
    let requests = origin.requests();
    assert_eq!(requests.len(), SENDERS.len(), "{requests:#?}");
    assert!(requests.iter().all(|request| !request.contains("\r\nte: ")), "{requests:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_as_long_as_announced_is_no_whole_request() {
    let origin = Origin::plain().await;
    let server = site(&[&origin.url("")], "").start();
    let url = origin.url("/seen");

    for host in SENDERS {
        for (length, body) in
            [("10", Some("5")), ("5", Some("10")), ("10", Some("0")), ("10", None)]
        {
            let mut parameters = vec![("url", &*url), ("method", "POST"), ("length", length)];
            parameters.extend(body.map(|body| ("body", body)));
            let told = sent(&server, host, &parameters).await;
            // The origin may have got the first five of ten, whole by its own count.
            let whole = body == Some("10") && told.contains("got 200");
            assert!(
                whole || told.contains("HttpRequestBodySize"),
                "{host}, {parameters:?}: {told}"
            );
        }
        let told = sent(&server, host, &[("url", &url), ("headers", "x-after: 1")]).await;
        assert!(told.contains("got 200"), "{host}: {told}");
    }
    for request in origin.requests() {
        let whole = request.ends_with("\r\n\r\nxxxxx") || request.contains("x-after: 1");
        assert!(whole || request.starts_with("CUT "), "{request}");
        assert_eq!(request.matches("HTTP/1.1").count(), 1, "{request}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_stops_in_its_body_has_sent_no_whole_request() {
    let origin = Origin::plain().await;
    let server = site(&[&origin.url("")], "").start();
    let url = origin.url("/seen");

    for host in SENDERS {
        for end in ["drop", "trap"] {
            let parameters = [("url", &*url), ("method", "POST"), ("body", "100000"), ("end", end)];
            let told = sent(&server, host, &parameters).await;
            assert!(!told.contains("got 200"), "{host}, {end}: {told}");
        }
    }
    super::until("all connections are closed", || origin.open() == 0).await;
    let requests = origin.requests();
    assert!(requests.iter().all(|request| request.starts_with("CUT ")), "{requests:#?}");
}
