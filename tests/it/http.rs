//! What guests see of a request, and what clients are told when there is no answer.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::support::client::{
    GUESTS, VERSIONS, Version, ask, connect, get, raw, request_tls, send, status, trusting,
};
use crate::support::pool::guest;
use crate::support::server::{Site, USUAL};

fn header<'a>(inspection: &'a Value, name: &str) -> Vec<&'a str> {
    let headers = inspection["headers"].as_array().expect("headers");
    let named = headers.iter().filter(|header| header[0] == name);
    named.filter_map(|header| header[1].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_does_not_name_one_host_is_refused() {
    let server = Site::usual();
    let server = server.start();

    for (headers, expected) in [
        ("", 400),
        ("host: hello.test\r\nhost: hello.test\r\n", 400),
        ("host: hello.test\r\nhost: p2.test\r\n", 400),
        ("host:\r\n", 400),
        ("host: hello.test/x\r\n", 400),
        ("host: user@hello.test\r\n", 400),
        ("host: hello test\r\n", 400),
        ("host: hello.test:port\r\n", 400),
        ("host: b\u{fc}cher.example\r\n", 400),
        ("host: [::1\r\n", 400),
        ("host: nobody.test\r\n", 404),
        ("host: hello.test\r\n", 200),
    ] {
        let answer = ask(&server, "GET", "/", headers).await;
        assert_eq!(status(&answer), expected, "{headers:?}");
        assert_eq!(answer.contains("x-request-id: "), expected != 200, "{answer}");
    }
    let old = raw(server.http, "GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(status(&old), 400);
    let old = raw(server.http, "GET / HTTP/1.0\r\nhost: hello.test\r\n\r\n").await;
    assert!(old.ends_with("\r\n\r\nhello world\n"), "{old}");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http2_the_authority_names_the_host() {
    let site = Site::usual();
    let server = site.start();
    let ask = async |authority: &str, host: Option<&str>| {
        let io = connect(server.https, "hello.test", trusting(&site.root(), Version::H2)).await;
        let mut request = Request::get(format!("https://{authority}/"));
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let request = request.body(Full::<Bytes>::default()).expect("a request");
        send(io.expect("a connection"), Version::H2, request).await.expect("an answer").status()
    };

    assert_eq!(ask("Hello.TEST:8443", None).await, 200);
    assert_eq!(ask("hello.test", Some("hello.test")).await, 200);
    assert_eq!(ask("hello.test", Some("p2.test")).await, 400);
    assert_eq!(ask("nobody.test", None).await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_sees_the_request_as_it_was_sent() {
    let site = Site::usual();
    let server = site.start();

    for host in GUESTS {
        for version in VERSIONS {
            let request = Request::builder()
                .method(Method::PUT)
                .uri("/inspect?a=b%20c")
                .header("x-mine", "1")
                .header("x-mine", "2")
                .header("x-forwarded-for", "6.6.6.6")
                .header("x-forwarded-proto", "gopher")
                .header("forwarded", "for=6.6.6.6")
                .body(Full::default())
                .expect("a request");
            let reply = request_tls(&site, &server, host, version, request).await.expect("a reply");

            let seen: Value = serde_json::from_slice(&reply.body).expect("JSON");
            assert_eq!(seen["method"], "PUT");
            assert_eq!(seen["scheme"], "https");
            assert_eq!(seen["authority"], host);
            assert_eq!(seen["path_with_query"], "/inspect?a=b%20c");
            assert_eq!(header(&seen, "x-mine"), ["1", "2"]);
            assert_eq!(header(&seen, "x-forwarded-for"), ["127.0.0.1"]);
            assert_eq!(header(&seen, "x-forwarded-proto"), ["https"]);
            assert_eq!(header(&seen, "x-forwarded-host"), [host]);
            let forwarded = format!("for=127.0.0.1;host=\"{host}\";proto=https");
            assert_eq!(header(&seen, "forwarded"), [forwarded]);
            assert_eq!(header(&seen, "x-request-id").len(), 1);
        }
        let reply = get(&server, &format!("{host}:8080"), "/inspect").await.expect("a reply");
        let seen: Value = serde_json::from_slice(&reply.body).expect("JSON");
        assert_eq!(seen["scheme"], "http");
        assert_eq!(seen["authority"], format!("{host}:8080"));
        assert_eq!(header(&seen, "x-forwarded-proto"), ["http"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_sees_the_cookies_of_a_browser_in_one_field() {
    let site = Site::usual();
    let server = site.start();

    for host in GUESTS {
        let request = Request::get("/inspect")
            .header("cookie", "a=1")
            .header("cookie", "tidegate_admin=secret")
            .header("cookie", "b=2")
            .body(Full::default());
        let request = request.expect("a request");
        let reply = request_tls(&site, &server, host, Version::H2, request).await.expect("a reply");

        let seen: Value = serde_json::from_slice(&reply.body).expect("JSON");
        assert_eq!(header(&seen, "cookie"), ["a=1; b=2"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_head_does_not_say_that_there_is_no_content() {
    let site = Site::usual();
    let server = site.start();

    for host in GUESTS {
        for version in VERSIONS {
            let request = Request::head("/status?code=200&body=0").body(Full::default());
            let request = request.expect("a request");
            let reply = request_tls(&site, &server, host, version, request).await.expect("a reply");

            assert_eq!((reply.status.as_u16(), reply.body.len()), (200, 0));
            assert!(!reply.headers.contains_key("content-length"), "{host} over {version:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_of_a_guest_has_its_status() {
    let site = Site::usual();
    site.write_manifest(&format!(
        "{}\"absent.test\" = \"absent\"\n",
        USUAL.replace("[hosts]", "[apps.absent]\ncomponent = \"apps/absent.wasm\"\n\n[hosts]")
    ));
    let server = site.start();

    for host in GUESTS {
        for (path, expected) in
            [("/trap", 502), ("/panic", 502), ("/no-response", 502), ("/never-answer", 504)]
        {
            let reply = get(&server, host, path).await.expect("an answer");
            assert_eq!(reply.status.as_u16(), expected, "{host}{path}");
            assert!(!reply.text().contains("wasm"), "{}", reply.text());
        }
        // Interim answers are the host's to give.
        let reply = get(&server, host, "/informational").await.expect("an answer");
        assert!(matches!(reply.status.as_u16(), 500 | 502), "{:?}", reply.status);
        assert_eq!(get(&server, host, "/hello").await.expect("an answer").status, 200);
    }
    let reply = get(&server, "absent.test", "/").await.expect("an answer");
    assert_eq!(reply.status, 503);
    assert!(reply.headers["retry-after"].to_str().expect("text").parse::<u32>().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_app_says_when_to_come_again() {
    let site = Site::new(
        "[apps.one]\ncomponent = \"apps/one.wasm\"\nmax_instances = 1\nrequest_timeout = \"1s\"\n\
         stream_idle_timeout = \"30s\"\n[hosts]\n\"one.test\" = \"one\"\n",
    );
    site.put("apps/one.wasm", &guest("kit-p2"));
    let server = site.start();
    let io = TcpStream::connect(server.http).await.expect("connect");
    let request = Request::get("/endless").header("host", "one.test");
    let request = request.body(Full::<Bytes>::default()).expect("a request");
    let _held = send(io, Version::H1, request).await.expect("an answer");

    let reply = get(&server, "one.test", "/hello").await.expect("an answer");

    assert_eq!(reply.status, 503, "{}", reply.text());
    assert_eq!(reply.headers["retry-after"], "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_told_in_the_clients_format() {
    let site = Site::usual();
    let server = site.start();

    for (accept, media_type, begins) in [
        ("", "text/plain", "404 Not Found"),
        ("accept: text/html,*/*;q=0.8\r\n", "text/html", "<!doctype html>"),
        ("accept: application/json\r\n", "application/json", "{"),
    ] {
        let answer = ask(&server, "GET", "/", &format!("host: nobody.test\r\n{accept}")).await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
        assert!(head.contains(&format!("content-type: {media_type}")), "{head}");
        assert!(body.starts_with(begins), "{body}");
        let id = head.lines().find_map(|line| line.strip_prefix("x-request-id: "));
        assert!(body.contains(id.expect("an id")), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_heads_are_refused() {
    let site = Site::usual();
    let server = site.start();
    let large = format!("host: hello.test\r\nx-large: {}\r\n", "x".repeat(40_000));
    let many = format!("host: hello.test\r\n{}", "x-many: 1\r\n".repeat(200));

    assert_eq!(status(&ask(&server, "GET", "/", &large).await), 431);
    assert_eq!(status(&ask(&server, "GET", "/", &many).await), 431);
    let request = Request::get("/").header("x-large", "x".repeat(40_000));
    let request = request.body(Full::default()).expect("a request");
    match request_tls(&site, &server, "hello.test", Version::H2, request).await {
        Ok(reply) => assert_eq!(reply.status, 431),
        Err(error) => assert!(error.to_string().contains("http2"), "{error}"),
    }
    assert_eq!(get(&server, "hello.test", "/").await.expect("an answer").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_are_refused_and_upgrades_ignored() {
    let site = Site::usual();
    let server = site.start();

    // The connection is closed, as what follows may be meant for the tunnel.
    let connect = raw(server.http, "CONNECT p2.test:443 HTTP/1.1\r\nhost: p2.test:443\r\n\r\n");
    assert_eq!(status(&connect.await), 405);
    assert_eq!(status(&ask(&server, "TRACE", "/", "host: p2.test\r\n").await), 405);
    let upgrade = "host: p2.test\r\nupgrade: websocket\r\nconnection: upgrade\r\n";
    let answer = ask(&server, "GET", "/inspect", upgrade).await;
    assert_eq!(status(&answer), 200);
    assert!(!answer.contains("upgrade"), "{answer}");
}
