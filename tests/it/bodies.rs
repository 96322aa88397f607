//! Bodies arrive whole, as they come and with their trailers, or as errors.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::client::{
    GUESTS, VERSIONS, Version, ask, connect, get, get_tls, piped, post, raw, request_tls, send,
    status, to_the_end, trusting, whole,
};
use crate::support::server::Site;

#[tokio::test(flavor = "multi_thread")]
async fn bodies_stream_both_ways_with_their_trailers() {
    let site = Site::usual();
    let server = site.start();

    for host in GUESTS {
        for version in VERSIONS {
            let io = connect(server.https, host, trusting(&site.root(), version)).await;
            let (sender, body) = piped();
            let uri = match version {
                Version::H1 => "/echo".to_owned(),
                Version::H2 => format!("https://{host}/echo"),
            };
            let mut request =
                Request::post(uri).header("te", "trailers").header("trailer", "x-sum");
            if version == Version::H1 {
                request = request.header("host", host);
            }
            let request = request.body(body).expect("a request");
            let response = tokio::spawn(send(io.expect("a connection"), version, request));

            // Each chunk is back before the next one leaves.
            sender.send(Frame::data(Bytes::from_static(b"one"))).expect("send");
            let mut echo = response.await.expect("no panic").expect("an answer").into_body();
            let mut next = async || echo.frame().await.expect("a frame").expect("not cut");
            assert_eq!(next().await.into_data().expect("data"), "one");
            sender.send(Frame::data(Bytes::from_static(b"two"))).expect("send");
            assert_eq!(next().await.into_data().expect("data"), "two");

            let sum = HeaderMap::from_iter([(
                http::HeaderName::from_static("x-sum"),
                HeaderValue::from_static("6"),
            )]);
            sender.send(Frame::trailers(sum.clone())).expect("send");
            drop(sender);
            let trailers = next().await.into_trailers();
            assert_eq!(trailers.expect("trailers"), sum, "{host} {version:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_have_no_body_have_none() {
    let site = Site::usual();
    let server = site.start();

    for (host, path) in [("p2.test", "/hello"), ("p3.test", "/hello"), ("nobody.test", "/")] {
        let get = get(&server, host, path).await.expect("an answer");

        let head = ask(&server, "HEAD", path, &format!("host: {host}\r\n")).await;

        assert!(head.ends_with("\r\n\r\n"), "{head}");
        assert_eq!(status(&head), get.status.as_u16());
        // A p3 body may come later than its head, and its length is not known then.
        if host != "p3.test" {
            let length = format!("content-length: {}\r\n", get.body.len());
            assert!(head.contains(&length), "{head}");
        }
    }
    for host in GUESTS {
        for version in VERSIONS {
            let request = Request::head("/hello").body(Full::default()).expect("a request");
            let reply = request_tls(&site, &server, host, version, request).await.expect("a reply");
            assert_eq!((reply.status.as_u16(), reply.body.len()), (200, 0));
        }
    }
    for host in GUESTS {
        for code in ["204", "304"] {
            let path = format!("/status?code={code}");
            let reply = get_tls(&site, &server, host, &path, Version::H2).await.expect("a reply");
            assert_eq!((reply.status.as_str(), reply.body.len()), (code, 0));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_expects_to_go_on_is_told_once_the_guest_reads() {
    let site = Site::usual();
    let server = site.start();
    let head = |host: &str| {
        format!(
            "POST /discard HTTP/1.1\r\nhost: {host}\r\ncontent-length: 5\r\n\
             expect: 100-continue\r\nconnection: close\r\n\r\n"
        )
    };

    for host in GUESTS {
        let mut io = TcpStream::connect(server.http).await.expect("connect");
        io.write_all(head(host).as_bytes()).await.expect("send");
        let mut interim = [0; 25];
        io.read_exact(&mut interim).await.expect("an interim answer");
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        io.write_all(b"12345").await.expect("send");
        let answer = to_the_end(&mut io).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n5"), "{answer}");
    }
    assert_eq!(status(&raw(server.http, head("nobody.test")).await), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_cut_short_is_an_error() {
    let site = Site::usual();
    let server = site.start();

    for host in GUESTS {
        for path in ["/trap-after-head", "/stall"] {
            let answer = ask(&server, "GET", path, &format!("host: {host}\r\n")).await;
            assert_eq!(status(&answer), 200, "{answer}");
            assert!(answer.contains("partial"), "{answer}");
            assert!(!answer.contains("\r\n0\r\n"), "looks complete: {answer}");
            // HTTP/1.0 has no last chunk to miss: the connection is reset.
            let mut io = TcpStream::connect(server.http).await.expect("connect");
            let head = format!("GET {path} HTTP/1.0\r\nhost: {host}\r\n\r\n");
            io.write_all(head.as_bytes()).await.expect("send");
            let end = io.read_to_end(&mut Vec::new()).await;
            assert!(end.is_err(), "looks complete: {end:?}");
            for version in VERSIONS {
                let reply = get_tls(&site, &server, host, path, version).await;
                assert!(reply.is_err(), "{host}{path} {version:?}: {reply:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_upload_is_refused_sees_why() {
    let site = Site::usual();
    let server = site.start();
    let mut upload =
        b"POST / HTTP/1.1\r\nhost: nobody.test\r\ncontent-length: 4000000\r\n\r\n".to_vec();
    upload.resize(upload.len() + 4_000_000, b'x');

    // It reads nothing before all is sent, as simple clients do.
    assert_eq!(status(&raw(server.http, upload).await), 404);
    let reply = post(&server, "p2.test", "/never-read", &"x".repeat(4_000_000)).await;
    assert_eq!(reply.expect("an answer").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_body_arrives_as_it_was_sent() {
    let site = Site::usual();
    let server = site.start();
    let body: Vec<u8> = (0..1_000_000_u32).map(|number| (number % 251) as u8).collect();

    for host in GUESTS {
        for version in VERSIONS {
            let request = Request::post("/echo").body(Full::from(body.clone())).expect("a request");
            let reply = request_tls(&site, &server, host, version, request).await.expect("a reply");
            assert!(reply.body == body, "{host} {version:?}: {} bytes", reply.body.len());
        }
    }
    let io = TcpStream::connect(server.http).await.expect("connect");
    let request = Request::post("http://p2.test/echo").body(Full::from(body.clone()));
    // HTTP/2 without TLS, for clients that know.
    let response = send(io, Version::H2, request.expect("a request")).await.expect("an answer");
    assert!(whole(response).await.expect("a body").body == body);
}
