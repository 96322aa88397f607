//! Where HTTP/3 is served, and how clients of HTTP/1 and HTTP/2 learn of it.

use std::net::UdpSocket;

use serde_json::json;

use super::http3;
use crate::support::client::{VERSIONS, get, get_tls};
use crate::support::server::{Server, Site};

const HELLO: &str =
    "[apps.hello]\ncomponent = \"apps/hello.wasm\"\n[hosts]\n\"hello.test\" = \"hello\"\n";

fn site(server: &str) -> Site {
    let site = Site::new(&format!("[server]\n{server}\n{HELLO}"));
    site.put("apps/hello.wasm", &crate::support::pool::guest("hello"));
    site
}

/// Whether nobody else listens on that UDP port.
fn is_free(port: u16) -> bool {
    UdpSocket::bind(("127.0.0.1", port)).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_over_tls_say_where_http3_is_and_others_do_not() {
    let site = Site::usual();
    let server = site.start();
    let expected = format!("h3=\":{}\"; ma=86400", server.https.port());
    for version in VERSIONS {
        for host in ["hello.test", "nobody.test"] {
            let reply = get_tls(&site, &server, host, "/", version).await;
            // A certificate for a host that is not served is another's.
            let Ok(reply) = reply else { continue };
            assert_eq!(reply.headers["alt-svc"], expected.as_str(), "{version:?} {host}");
        }
    }
    let plain = get(&server, "hello.test", "/").await.expect("an answer");
    assert!(!plain.headers.contains_key("alt-svc"));
    let given = json!({"requests": [{"path": "/"}]});
    let Some(answers) = http3(&site, &server, "hello.test", "exchange", given).await else {
        return;
    };
    assert_eq!(answers[0]["status"], 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_h3_there_is_no_socket_and_no_word_of_it() {
    let site = site("http = [\"127.0.0.1:0\"]\nhttps = [\"127.0.0.1:0\"]\nh3 = false");
    let server = site.start();
    assert!(is_free(server.https.port()));
    for version in VERSIONS {
        let reply = get_tls(&site, &server, "hello.test", "/", version).await.expect("an answer");
        assert!(!reply.headers.contains_key("alt-svc"), "{version:?}");
    }
}

#[test]
fn a_udp_port_that_is_taken_is_said_with_what_to_do() {
    // One that is free for TCP, which other tests take ports of as well.
    let (_taken, address) = std::iter::repeat_with(|| UdpSocket::bind("127.0.0.1:0"))
        .map(|taken| taken.expect("a port"))
        .map(|taken| (taken.local_addr().expect("its address"), taken))
        .find(|(address, _)| std::net::TcpListener::bind(address).is_ok())
        .map(|(address, taken)| (taken, address))
        .expect("a port that is free for TCP");
    let site = site(&format!("https = [\"{address}\"]"));
    let Err((status, log)) = Server::try_spawn(site.command()) else { panic!("it starts") };
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains(&format!("cannot listen on udp://{address}, for HTTP/3")), "{log}");
    assert!(log.contains("h3 = false"), "{log}");
}

#[test]
fn h3_is_read_at_the_start_only() {
    let server_table = "http = [\"127.0.0.1:0\"]\nhttps = [\"127.0.0.1:0\"]";
    let site = site(server_table);
    let server = site.start();
    site.write_manifest(&format!("[server]\n{server_table}\nh3 = false\n{HELLO}"));
    let line = server.wait_for_log("server.h3");
    assert!(line.contains("restart"), "{line}");
    assert!(!is_free(server.https.port()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_not_told_of_http3_and_one_that_announces_has_none() {
    let listeners = "http = [\"127.0.0.1:0\"]\nhttps = [\"127.0.0.1:0\"]";
    let trusting = site(&format!("{listeners}\ntrusted_proxies = [\"127.0.0.1\"]"));
    let server = trusting.start();
    for version in VERSIONS {
        let reply = get_tls(&trusting, &server, "hello.test", "/", version).await;
        assert!(!reply.expect("an answer").headers.contains_key("alt-svc"), "{version:?}");
    }

    let announced = site(&format!("{listeners}\nproxy_protocol = [\"127.0.0.1\"]"));
    let server = announced.start();
    let Some(figures) = http3(&announced, &server, "hello.test", "refused", json!({})).await else {
        return;
    };
    assert_eq!(figures, json!({"refused": true}));
    server.wait_for_log("limit=server.proxy_protocol");
}
