//! nginx and HAProxy as operators put them in front: what they say is understood, and nothing that clients say.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use super::proxies::{haproxy, nginx};
use super::{Seen, from, inspect, shake_hands, site, told};
use crate::support::client::{VERSIONS, Version};
use crate::support::peer::free_address;
use crate::support::server::Site;

/// Who the proxies' clients are.
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// What a client says that wants to be somebody else.
const SPOOFED: [(&str, &str); 3] = [
    ("x-forwarded-for", "6.6.6.6"),
    ("x-forwarded-proto", "gopher"),
    ("forwarded", "for=6.6.6.6;proto=https"),
];

async fn through(proxy: SocketAddr, version: Version) -> Seen {
    inspect(from(CLIENT, proxy).await, version, &SPOOFED).await.expect("a reply")
}

async fn through_tls(proxy: SocketAddr, site: &Site, version: Version) -> Seen {
    let io = shake_hands(from(CLIENT, proxy).await, site, version).await.expect("a handshake");
    inspect(io, version, &SPOOFED).await.expect("a reply")
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_that_passes_connections_on_announces_their_clients() {
    let site = site("proxy_protocol = [\"127.0.0.2\"]");
    let server = site.start();
    for send in ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl-cn"] {
        let (plain, tls) = (free_address(), free_address());
        let section = |name: &str, at, to| {
            format!(
                "listen {name}\nmode tcp\nbind {at}\nserver s {to} source 127.0.0.2 {send} check inter 100ms\n"
            )
        };
        let sections =
            [section("plain", plain, server.http), section("tls", tls, server.https)].concat();
        let Some(_haproxy) = haproxy(plain, &sections) else { return };
        for version in VERSIONS {
            assert_eq!(through(plain, version).await, told("127.0.0.9", "http"), "{send}");
            assert_eq!(
                through_tls(tls, &site, version).await,
                told("127.0.0.9", "https"),
                "{send}"
            );
        }
        // Some checks of its own as well.
        thread::sleep(Duration::from_millis(500));
    }
    server.wait_for_log("client=127.0.0.9 host=p2.test");
    assert_eq!(server.complaints(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_that_speaks_http_says_whom_each_request_is_from() {
    let site = site("trusted_proxies = [\"127.0.0.2\"]");
    let server = site.start();
    let at = free_address();
    let section = format!(
        "listen s\nmode http\nbind {at}\noption forwardfor\nhttp-request set-header x-forwarded-proto https\n\
         server s {} source 127.0.0.2\n",
        server.http
    );
    let Some(_haproxy) = haproxy(at, &section) else { return };
    for _ in 0..3 {
        // The client's own line stays before that of HAProxy.
        assert_eq!(through(at, Version::H1).await, told("127.0.0.9", "https"));
    }
    assert_eq!(server.logged("6.6.6.6"), [""; 0]);
    assert_eq!(server.complaints(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_announces_clients_at_a_unix_socket() {
    let site = site("http = [\"unix:http.sock\"]\nproxy_protocol = [\"unix\"]");
    let server = site.start();
    let (at, socket) = (free_address(), site.path("http.sock"));
    let section = format!(
        "listen s\nmode http\nbind {at}\nserver s unix@{} send-proxy-v2 check inter 100ms\n",
        socket.display()
    );
    let Some(_haproxy) = haproxy(at, &section) else { return };
    assert_eq!(through(at, Version::H1).await, told("127.0.0.9", "http"));
    assert_eq!(server.complaints(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_that_passes_connections_on_announces_their_clients() {
    let site = site("proxy_protocol = [\"127.0.0.2\"]");
    let server = site.start();
    let (plain, tls) = (free_address(), free_address());
    let blocks = format!(
        "stream {{\nproxy_protocol on;\nproxy_bind 127.0.0.2;\n\
         server {{ listen {plain}; proxy_pass {}; }}\nserver {{ listen {tls}; proxy_pass {}; }}\n}}",
        server.http, server.https
    );
    let Some(_nginx) = nginx(plain, &blocks) else { return };
    for version in VERSIONS {
        assert_eq!(through(plain, version).await, told("127.0.0.9", "http"));
        assert_eq!(through_tls(tls, &site, version).await, told("127.0.0.9", "https"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_says_whom_each_request_is_from_over_tcp_and_at_a_unix_socket() {
    let site = site(
        "http = [\"127.0.0.1:0\", \"unix:http.sock\"]\ntrusted_proxies = [\"127.0.0.2\", \"unix\"]",
    );
    let server = site.start();
    let socket = format!("unix:{}:", site.path("http.sock").display());
    for to in [server.http.to_string(), socket] {
        let at = free_address();
        let bind = if to.starts_with("unix") { "" } else { "proxy_bind 127.0.0.2;\n" };
        let blocks = format!(
            "http {{\nserver {{ listen {at}; location / {{\nproxy_pass http://{to};\n{bind}\
             proxy_http_version 1.1;\nproxy_set_header Host $host;\nproxy_set_header X-Forwarded-Proto $scheme;\n\
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n}} }}\n}}"
        );
        let Some(_nginx) = nginx(at, &blocks) else { return };
        assert_eq!(through(at, Version::H1).await, told("127.0.0.9", "http"), "{to}");
    }
    assert_eq!(server.logged("6.6.6.6"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_both_leads_to_the_client_and_no_further_than_is_trusted() {
    for (trusted, expected) in [
        ("\"127.0.0.2\", \"127.0.0.3\"", "127.0.0.9"),
        // The one in front is a stranger: it is all that is known.
        ("\"127.0.0.3\"", "127.0.0.2"),
    ] {
        let site = site(&format!("trusted_proxies = [{trusted}]"));
        let server = site.start();
        let (front, back) = (free_address(), free_address());
        let blocks = format!(
            "http {{\nserver {{ listen {back}; location / {{\nproxy_pass http://{};\nproxy_bind 127.0.0.3;\n\
             proxy_set_header Host $host;\nproxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n}} }}\n}}",
            server.http
        );
        let Some(_nginx) = nginx(back, &blocks) else { return };
        let section = format!(
            "listen s\nmode http\nbind {front}\noption forwardfor\nserver s {back} source 127.0.0.2\n"
        );
        let Some(_haproxy) = haproxy(front, &section) else { return };
        assert_eq!(through(front, Version::H1).await.client, expected);
        server.wait_for_log(&format!("client={expected} host=p2.test"));
    }
}
