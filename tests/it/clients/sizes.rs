//! Heads and bodies that are larger than they may be: which status, when, and what the other end sees.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::body::Frame;

use crate::support::client::{
    Error, GUESTS, Reply, VERSIONS, Version, ask, connect, get, get_tls, piped, post, raw,
    request_tls, send, status, trusting, whole,
};
use crate::support::holds::Shown;
use crate::support::pool::guest;
use crate::support::server::{Server, Site};

const PART: &str = "Clients: sizes";

const MANIFEST: &str = r#"
[clients]
max_head = "8KiB"
max_headers = 20
max_uri = "256B"

[defaults]
request_timeout = "5s"
max_request_body = "1000B"
max_response_body = "100000B"

[apps.p2]
component = "apps/kit-p2.wasm"

[apps.p3]
component = "apps/kit-p3.wasm"

[hosts]
"p2.test" = "p2"
"p3.test" = "p3"
"#;

fn site() -> Site {
    let site = Site::new(MANIFEST);
    for name in ["kit-p2", "kit-p3"] {
        site.put(&format!("apps/{name}.wasm"), &guest(name));
    }
    site
}

/// POST of a body whose length is not said, in chunks of 400 bytes.
async fn upload(
    site: &Site,
    server: &Server,
    (host, version): (&str, Version),
    path: &str,
    chunks: usize,
) -> Result<Reply, Error> {
    let io = connect(server.https, host, trusting(&site.root(), version)).await?;
    let (sender, body) = piped();
    for _ in 0..chunks {
        let _ = sender.send(Frame::data(Bytes::from(vec![b'x'; 400])));
    }
    drop(sender);
    let request = match version {
        Version::H1 => Request::post(path).header("host", host),
        Version::H2 => Request::post(format!("https://{host}{path}")),
    };
    whole(send(io, version, request.body(body)?).await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_says_it_is_too_large_is_refused_before_the_guest_is_asked() {
    let site = site();
    let server = site.start();
    for host in GUESTS {
        // Nothing of the body is sent.
        let head = format!("POST /echo HTTP/1.1\r\nhost: {host}\r\ncontent-length: 1001\r\n\r\n");
        let answer = raw(server.http, head).await;
        assert_eq!(status(&answer), 413, "{answer}");
        assert!(
            answer.contains("connection: close") && answer.contains("x-request-id"),
            "{answer}"
        );
        let line = server.wait_for_log(&format!("host={host} method=POST path=/echo status=413"));
        assert!(!line.contains("instance="), "a guest was asked: {line}");

        let fits = post(&server, host, "/echo", &"x".repeat(1000)).await.expect("an answer");
        assert_eq!((fits.status.as_u16(), fits.body.len()), (200, 1000));
        let request = Request::post("/echo").body(Full::from(vec![b'x'; 1001])).expect("a request");
        let reply = request_tls(&site, &server, host, Version::H2, request).await;
        assert_eq!(reply.expect("an answer").status, 413);
    }
    server.wait_for_log("a limit was reached app=p2 limit=max_request_body");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_turns_out_too_large_is_no_whole_one_to_anyone() {
    let site = site();
    let server = site.start();
    for host in GUESTS {
        for version in VERSIONS {
            let client = (host, version);
            let fits = upload(&site, &server, client, "/discard", 2).await.expect("an answer");
            assert_eq!((fits.status.as_u16(), fits.text()), (200, "800"));
            // The guest answers after it has read: there is no head yet.
            let reply = upload(&site, &server, client, "/discard", 3).await;
            assert_eq!(reply.expect("an answer").status, 413, "{client:?}");
            // It answers while it reads: its answer is cut.
            match upload(&site, &server, client, "/echo", 3).await {
                Ok(reply) => assert_eq!(reply.status, 413, "{client:?}"),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
            // One that does not look at it has nothing against it.
            let unread = upload(&site, &server, client, "/never-read", 2).await;
            assert_eq!(unread.expect("an answer").status, 200);
        }
    }
    Shown {
        part: PART,
        tried: "request body too large, by length and in chunks",
        times: 16,
        bound: "413, or a cut answer",
    }
    .holds("413 each time there was no head yet", true);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_large_is_never_a_whole_one() {
    let site = site();
    let server = site.start();
    for host in GUESTS {
        for version in VERSIONS {
            let get = async |path: &str| get_tls(&site, &server, host, path, version).await;
            let fits = get("/stream?bytes=100000").await.expect("an answer");
            assert_eq!(fits.body.len(), 100_000);
            let declared = get("/stream?bytes=100001&length=1").await.expect("an answer");
            assert_eq!(declared.status, 502, "{host} {version:?}");
            let cut = get("/stream?bytes=200000").await;
            assert!(cut.is_err(), "{host} {version:?}: looks whole: {cut:?}");
        }
        let host = format!("host: {host}\r\n");
        let head = ask(&server, "HEAD", "/stream?bytes=100001&length=1", &host).await;
        assert_eq!(status(&head), 200, "an answer to HEAD has no body");
    }
    server.wait_for_log("limit=max_response_body");
    Shown {
        part: PART,
        tried: "response too large, declared and streamed",
        times: 8,
        bound: "502, or a cut answer",
    }
    .holds("none looked whole", true);
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_have_a_size_and_a_number_of_headers() {
    let site = site();
    let server = site.start();
    let long = |length: usize| format!("/inspect?{}", "x".repeat(length - 9));
    let cases: &[(&str, String, String, u16)] = &[
        ("the longest target", long(256), String::new(), 200),
        ("a longer one", long(257), String::new(), 414),
        ("a far longer one", long(7000), String::new(), 414),
        // With Host and Connection.
        ("as many headers", "/hello".into(), "x-many: 1\r\n".repeat(18), 200),
        ("one more", "/hello".into(), "x-many: 1\r\n".repeat(19), 431),
        ("many more", "/hello".into(), "x-many: 1\r\n".repeat(300), 431),
        ("large headers", "/hello".into(), format!("x-large: {}\r\n", "x".repeat(8000)), 200),
        ("larger ones", "/hello".into(), format!("x-large: {}\r\n", "x".repeat(8150)), 431),
        ("far larger ones", "/hello".into(), format!("x-large: {}\r\n", "x".repeat(40_000)), 431),
    ];
    for (what, path, headers, expected) in cases {
        let answer = ask(&server, "GET", path, &format!("host: p2.test\r\n{headers}")).await;
        assert_eq!(status(&answer), *expected, "{what}: {answer}");
    }
    for (path, headers, expected) in [
        (long(257), 0, 414),
        (long(256), 0, 200),
        ("/hello".to_owned(), 20, 200),
        ("/hello".to_owned(), 21, 431),
    ] {
        let mut request = Request::get(&path);
        for _ in 0..headers {
            request = request.header("x-many", "1");
        }
        let request = request.body(Full::default()).expect("a request");
        let reply = request_tls(&site, &server, "p3.test", Version::H2, request).await;
        assert_eq!(reply.expect("an answer").status.as_u16(), expected, "{headers} headers");
    }
    for limit in ["clients.max_uri", "clients.max_headers", "clients.max_head"] {
        server.wait_for_log(&format!("limit={limit}"));
    }
    Shown {
        part: PART,
        tried: "targets and headers too long, too many, too large",
        times: cases.len() + 4,
        bound: "414, 431",
    }
    .holds("each has its status, and a line in the log", true);
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_follow_a_reload() {
    let site = site();
    let server = site.start();
    let large = "x".repeat(1001);
    assert_eq!(post(&server, "p2.test", "/echo", &large).await.expect("an answer").status, 413);

    site.write_manifest(
        &MANIFEST
            .replace("\"1000B\"", "\"1001B\"")
            .replace("max_headers = 20", "max_headers = 250"),
    );
    server.wait_for_log("reloaded");

    assert_eq!(post(&server, "p2.test", "/echo", &large).await.expect("an answer").status, 200);
    let headers = format!("host: p2.test\r\n{}", "x-many: 1\r\n".repeat(248));
    assert_eq!(status(&ask(&server, "GET", "/hello", &headers).await), 200);
    let headers = format!("host: p2.test\r\n{}", "x-many: 1\r\n".repeat(249));
    assert_eq!(status(&ask(&server, "GET", "/hello", &headers).await), 431);
    assert_eq!(get(&server, "p2.test", "/hello").await.expect("an answer").status, 200);
}
