//! What a guest's outbound requests may take: time, bytes, places, and no more.

use std::time::{Duration, Instant};

use crate::support::client::{GUESTS, get};
use crate::support::holds::Shown;
use crate::support::origin::Origin;
use crate::support::server::Server;

use super::{HELLO, SENDERS, fetched, manifest, sent, site};

const PART: &str = "Tenants: outbound";

/// Short waits, and bodies of 1 MiB.
const LIMITS: &str = "outbound_timeout = \"1s\"\nmax_outbound_body = \"1MiB\"";

/// What the guest at `host` tells, and how long it took.
async fn timed(server: &Server, host: &str, parameters: &[(&str, &str)]) -> (String, Duration) {
    let began = Instant::now();
    (sent(server, host, parameters).await, began.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wait_ends_at_the_app_s_timeout_or_sooner_if_the_guest_asks() {
    let origin = Origin::plain().await;
    let server = site(&[&origin.url("")], LIMITS).start();
    let (second, sooner) = (Duration::from_secs(1), Duration::from_millis(700));
    let mut slowest = Duration::ZERO;

    for host in SENDERS {
        for (path, what) in [
            ("/never", "got ErrorCode::ConnectionReadTimeout"),
            ("/slow-head?5000", "got ErrorCode::ConnectionReadTimeout"),
            ("/slow-body", "5 bytes, cut: "),
        ] {
            let url = origin.url(path);
            let (told, took) = timed(&server, host, &[("url", &url)]).await;
            assert!(told.contains(what), "{host}{path}: {told}");
            assert!(took >= second, "{host}{path}: {took:?}");
            slowest = slowest.max(took);

            // A guest may ask for less, and not for more.
            let less = [("url", &*url), ("first", "100"), ("between", "100")];
            let (told, took) = timed(&server, host, &less).await;
            assert!(told.contains(what), "{host}{path}: {told}");
            assert!(took < sooner, "{host}{path}: {took:?}");
            let more = [("url", &*url), ("first", "60000"), ("between", "60000")];
            let (told, took) = timed(&server, host, &more).await;
            assert!(told.contains(what), "{host}{path}: {told}");
            slowest = slowest.max(took);
        }
        // An origin that does not read: what the socket does not take, it waits for.
        let body = [
            ("url", &*origin.url("/never-read")),
            ("method", "POST"),
            ("body", "100000000"),
            ("length", "100000000"),
        ];
        let told = sent(&server, host, &body).await;
        assert!(told.contains("HttpRequestBodySize"), "{host}: {told}");
    }
    // Slow by itself, but never for long: no wait is too long.
    for host in SENDERS {
        let told = sent(&server, host, &[("url", &origin.url("/drip?1500"))]).await;
        assert!(told.contains("whole"), "{host}: {told}");
    }
    server.wait_for_log("limit=outbound_timeout");
    Shown {
        part: PART,
        tried: "origins that do not answer, or stop in the middle",
        times: SENDERS.len() * 6,
        bound: "ended at outbound_timeout (1 s), give or take 1 s",
    }
    .holds(format!("{slowest:?} at the most"), slowest < 2 * second);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_does_not_take_a_body_is_waited_for_once() {
    let origin = Origin::plain().await;
    let settings = "outbound_timeout = \"1s\"\nmax_outbound_body = \"1GiB\"";
    let server = site(&[&origin.url("")], settings).start();
    for host in SENDERS {
        let url = origin.url("/never-read");
        let body = [("url", &*url), ("method", "POST"), ("body", "100000000")];
        let (told, took) = timed(&server, host, &body).await;
        assert!(told.contains("got ErrorCode::ConnectionReadTimeout"), "{host}: {told}");
        assert!(took < Duration::from_secs(10), "{host}: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_never_accepted_is_given_up() {
    // A listener whose backlog is full: further ones get no answer at all.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let full = full.expect("a socket");
    full.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bind it");
    full.listen(0).expect("listen");
    let address = full.local_addr().expect("its address").as_socket().expect("IPv4");
    let _waiting: Vec<_> = (0..8)
        .filter_map(|_| {
            std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok()
        })
        .collect();

    let url = format!("http://{address}/");
    let server = site(&[url.trim_end_matches('/')], LIMITS).start();
    for host in SENDERS {
        let (told, took) = timed(&server, host, &[("url", &url)]).await;
        assert!(told.contains("Timeout"), "{host}: {told}");
        assert!(took < Duration::from_secs(3), "{host}: {took:?}");
        let (told, took) = timed(&server, host, &[("url", &url), ("connect", "100")]).await;
        assert!(told.contains("Timeout"), "{host}: {told}");
        assert!(took < Duration::from_millis(900), "{host}: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_an_error_and_never_a_clean_end() {
    let origin = Origin::plain().await;
    let server = site(&[&origin.url("")], LIMITS).start();
    let mebibyte = 1 << 20;
    let mut tried = 0;

    for host in SENDERS {
        let large = |size: usize| origin.url(&format!("/large?{size}"));
        let told = sent(&server, host, &[("url", &large(mebibyte))]).await;
        assert!(told.contains("1048576 bytes, whole"), "{host}: {told}");
        for url in [large(mebibyte + 1), origin.url("/endless")] {
            let told = sent(&server, host, &[("url", &url)]).await;
            // p2 guests cannot ask which error ended a stream.
            let cut = told.contains("HttpResponseBodySize") || told.contains("cut: None");
            assert!(cut && !told.contains("whole"), "{host}, {url}: {told}");
        }
        let url = origin.url("/hello");
        for (size, length) in [(mebibyte, false), (mebibyte, true)] {
            for more in [0, 1] {
                let size = (size + more).to_string();
                let mut body = vec![("url", &*url), ("method", "POST"), ("body", &*size)];
                body.extend(length.then_some(("length", &*size)));
                let told = sent(&server, host, &body).await;
                let expected = ["got 200", "HttpRequestBodySize"][more];
                assert!(told.contains(expected), "{host}, {size}: {told}");
            }
        }
        tried += 4;
    }
    for host in GUESTS {
        let path = format!("/fetch?url={}", super::escaped(&origin.url("/endless")));
        let cut = get(&server, host, &path).await;
        assert!(cut.is_err(), "{host}: an endless body came to a good end");
        tried += 1;
    }
    server.wait_for_log("limit=max_outbound_body");
    super::until("connections of cut bodies are closed", || origin.open() <= SENDERS.len()).await;
    Shown {
        part: PART,
        tried: "bodies over max_outbound_body, either way, with and without a length",
        times: tried,
        bound: "an error for the guest, the connection closed",
    }
    .holds("all", true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_is_not_whole_is_an_error() {
    let origin = Origin::plain().await;
    let server = site(&[&origin.url("")], LIMITS).start();
    for host in SENDERS {
        for path in ["/truncated", "/short"] {
            let told = sent(&server, host, &[("url", &origin.url(path))]).await;
            assert!(told.contains("5 bytes, cut: "), "{host}{path}: {told}");
        }
        for (path, expected) in [
            ("/huge-head", "HttpResponseHeaderSectionSize"),
            ("/endless-head", "HttpResponseHeaderSectionSize"),
            ("/many-headers", "HttpResponseHeaderSectionSize"),
            ("/not-http", "HttpProtocolError"),
            ("/switch", "HttpProtocolError"),
        ] {
            let told = sent(&server, host, &[("url", &origin.url(path))]).await;
            assert!(told.contains(expected), "{host}{path}: {told}");
        }
        // A hint is no answer, and what follows is.
        let told = sent(&server, host, &[("url", &origin.url("/hints"))]).await;
        assert!(told.contains("got 200") && told.contains("whole: hinted"), "{host}: {told}");
    }
    for host in GUESTS {
        for path in ["/truncated", "/short"] {
            let told = fetched(&server, host, &origin.url(path)).await;
            // A 502 where nothing had been sent to the client yet.
            assert!(told.starts_with("000") || told.starts_with("502"), "{host}{path}: {told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_has_so_many_calls_at_a_time_and_one_more_fails_at_once() {
    let origin = Origin::plain().await;
    let settings = "max_outbound = 4\noutbound_timeout = \"3s\"";
    let site = site(&[&origin.url("")], settings);
    let server = site.start();
    let mut slowest = Duration::ZERO;
    for host in SENDERS {
        let before = origin.requests().len();
        let waiting: Vec<_> = (0..4)
            .map(|_| {
                let path = format!("/send?url={}", super::escaped(&origin.url("/never")));
                let (address, host) = (server.http, host.to_owned());
                tokio::spawn(
                    async move { crate::support::client::get_at(address, &host, &path).await },
                )
            })
            .collect();
        super::until("four calls wait", || origin.requests().len() == before + 4).await;

        let (told, took) = timed(&server, host, &[("url", &origin.url("/"))]).await;
        assert!(told.contains("ConnectionLimitReached"), "{host}: {told}");
        slowest = slowest.max(took);
        for call in waiting {
            call.await.expect("a call").expect("an answer");
        }
        // Their places are free again.
        let told = sent(&server, host, &[("url", &origin.url("/"))]).await;
        assert!(told.contains("got 200"), "{host}: {told}");
    }
    server.wait_for_log("limit=max_outbound ");

    site.write_manifest(&manifest(&[&origin.url("")], "max_outbound = 5"));
    server.wait_for_log("reloaded");
    assert_eq!(fetched(&server, "p2.test", &origin.url("/")).await, HELLO);
    Shown {
        part: PART,
        tried: "one call more than max_outbound",
        times: SENDERS.len(),
        bound: "refused within 1 s",
    }
    .holds(format!("{slowest:?}"), slowest < Duration::from_secs(1));
}
