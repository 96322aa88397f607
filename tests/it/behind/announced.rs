//! PROXY headers, written by hand: the client that a listed proxy announces is whose connection it is.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::{ANYONE, OTHER_PROXY, PROXY, Seen, from, inspect, shake_hands, site, told, write};
use crate::support::client::{Error, VERSIONS, Version, status, to_the_end};
use crate::support::server::{PATIENCE, Server, Site};

const LISTED: &str = "proxy_protocol = [\"127.0.0.2\", \"127.0.0.3/32\"]";

/// Something that no header is, as long as the shortest of either version.
const NO_HEADER: &str = "GET /hello HTTP/1.1\r\nhost: p2.test\r\n\r\n";

fn v1(client: &str) -> Vec<u8> {
    let family = if client.contains(':') { "TCP6" } else { "TCP4" };
    let us = if client.contains(':') { "::1" } else { "10.0.0.1" };
    format!("PROXY {family} {client} {us} 4711 80\r\n").into()
}

/// v2 of a command and a family, with what comes after.
fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("short").to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, family], &length, payload].concat()
}

fn v2_of(client: Ipv4Addr) -> Vec<u8> {
    v2(0x21, 0x11, &[&client.octets()[..], &[10, 0, 0, 1, 0x12, 0x34, 0, 80]].concat())
}

/// A connection of `peer` that begins with these bytes.
async fn begun(peer: Ipv4Addr, server: SocketAddr, bytes: impl AsRef<[u8]>) -> TcpStream {
    let mut io = from(peer, server).await;
    io.write_all(bytes.as_ref()).await.expect("send");
    io
}

/// What a guest is told over a connection that begins with a header, with or without TLS.
async fn announced(
    site: &Site,
    server: &Server,
    header: &[u8],
    version: Version,
    tls: bool,
) -> Result<Seen, Error> {
    let address = if tls { server.https } else { server.http };
    let io = begun(PROXY, address, header).await;
    // A client may say anything about that.
    let headers = [("x-forwarded-for", "6.6.6.6"), ("forwarded", "for=6.6.6.6;proto=gopher")];
    match tls {
        true => inspect(shake_hands(io, site, version).await?, version, &headers).await,
        false => inspect(io, version, &headers).await,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_that_a_listed_proxy_announces_is_told_to_guests_and_the_log() {
    let site = site(LISTED);
    let server = site.start();
    let noop = [0x04, 0, 3, 1, 2, 3];
    let mapped = [&[0; 10], &[0xff, 0xff, 203, 0, 113, 8][..], &[0; 18], &[0x7a]].concat();
    let with_more = [&[203, 0, 113, 9, 10, 0, 0, 1, 0, 1, 0, 80], &noop[..]].concat();
    for (header, client) in [
        (v1("203.0.113.1"), "203.0.113.1"),
        (v1("2001:db8::7"), "2001:db8::7"),
        (v1("::ffff:203.0.113.2"), "203.0.113.2"),
        (v2_of(Ipv4Addr::new(203, 0, 113, 3)), "203.0.113.3"),
        (v2(0x21, 0x21, &[mapped, vec![0; 1]].concat()), "203.0.113.8"),
        (v2(0x21, 0x11, &with_more), "203.0.113.9"),
    ] {
        for version in VERSIONS {
            for (tls, scheme) in [(false, "http"), (true, "https")] {
                let seen = announced(&site, &server, &header, version, tls).await;
                let seen = seen.unwrap_or_else(|error| panic!("{client} {version:?}: {error}"));
                assert_eq!(seen, told(client, scheme), "{version:?}");
            }
        }
        server.wait_for_log(&format!("client={client} host=p2.test"));
    }
    assert_eq!(server.logged("127.0.0.2"), [""; 0]);
    assert_eq!(server.complaints(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_none_is_announced_it_is_the_proxy() {
    let site = site(LISTED);
    let server = site.start();
    for header in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN 203.0.113.1 10.0.0.1 1 2\r\n".to_vec(),
        v2(0x20, 0x00, &[]),
        v2(0x20, 0x11, &[203, 0, 113, 1, 10, 0, 0, 1, 0, 1, 0, 80]),
        v2(0x21, 0x00, &[]),
        v2(0x21, 0x31, &[b'/'; 216]),
    ] {
        for tls in [false, true] {
            let seen = announced(&site, &server, &header, Version::H1, tls).await.expect("a reply");
            assert_eq!(seen.client, "127.0.0.2", "{}", header.escape_ascii());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_may_come_in_as_many_packets_as_it_has_bytes() {
    let site = site(LISTED);
    let server = site.start();
    for header in [v1("203.0.113.1"), v2_of(Ipv4Addr::new(203, 0, 113, 1))] {
        let mut io = from(PROXY, server.http).await;
        io.set_nodelay(true).expect("set it");
        for byte in header {
            io.write_all(&[byte]).await.expect("send");
            sleep(Duration::from_millis(1)).await;
        }
        let seen = inspect(io, Version::H1, &[]).await.expect("a reply");
        assert_eq!(seen.client, "203.0.113.1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_anyone_else_a_header_is_a_malformed_request() {
    let site = site(LISTED);
    let server = site.start();
    for header in [v1("203.0.113.1"), v2_of(Ipv4Addr::new(203, 0, 113, 1))] {
        let request = [&header[..], NO_HEADER.as_bytes()].concat();
        let mut io = begun(ANYONE, server.http, request).await;
        assert_eq!(status(&to_the_end(&mut io).await), 400, "{}", header.escape_ascii());

        let io = begun(ANYONE, server.https, header).await;
        assert!(shake_hands(io, &site, Version::H1).await.is_err());
    }
    // And without one they are served as themselves.
    let io = from(ANYONE, server.http).await;
    assert_eq!(inspect(io, Version::H1, &[]).await.expect("a reply").client, "127.0.0.1");
    assert_eq!(server.logged("203.0.113.1"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_header_a_listed_proxy_is_not_served_and_the_log_says_why() {
    let site = site(LISTED);
    let server = site.start();
    for address in [server.http, server.https] {
        let mut io = begun(PROXY, address, NO_HEADER).await;
        assert_eq!(ended(&mut io).await, b"");
    }
    server.wait_for_log(
        "limit=server.proxy_protocol times=1 by=\"127.0.0.2, which sent no PROXY header\"",
    );
    let too_long = [&v2(0x21, 0x11, &[1; 12])[..14], &[0xff, 0xff]].concat();
    let wrong = b"PROXY TCP4 203.0.113.1 10.0.0.1 99999 80\r\n".to_vec();
    for bytes in [too_long, wrong, [b"PROXY ".as_slice(), &[b'x'; 300]].concat()] {
        let mut io = begun(OTHER_PROXY, server.http, &bytes).await;
        assert_eq!(ended(&mut io).await, b"", "{}", bytes.escape_ascii());
    }
    // One that only looks whether the port is open has done nothing wrong.
    sleep(Duration::from_millis(1500)).await;
    let logged = server.logged("server.proxy_protocol").len();
    drop(from(PROXY, server.http).await);
    let io = begun(PROXY, server.http, v1("203.0.113.5")).await;
    assert_eq!(inspect(io, Version::H1, &[]).await.expect("a reply").client, "203.0.113.5");
    assert_eq!(server.logged("server.proxy_protocol").len(), logged);
}

/// What comes until the server closes the connection, in whichever way.
async fn ended(io: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, io.read_to_end(&mut bytes)).await.expect("the server closes it");
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_does_not_come_is_waited_for_as_long_as_for_a_head() {
    let site = site(LISTED);
    write(&site, LISTED, "[clients]\nhead_timeout = \"1s\"\n");
    let server = site.start();
    let whole = v1("203.0.113.1");
    for address in [server.http, server.https] {
        for begin in [&b""[..], b"PROXY TCP4 ", &v2_of(ANYONE)[..20], &whole[..whole.len() - 1]] {
            let mut io = begun(PROXY, address, begin).await;
            let begun = Instant::now();
            assert_eq!(ended(&mut io).await, b"");
            let took = begun.elapsed();
            assert!((900..3000).contains(&took.as_millis()), "{took:?}");
        }
    }
    // One that trickles has no more time.
    let (mut io, begun) = (from(PROXY, server.http).await, Instant::now());
    for byte in whole.iter().cycle() {
        if io.write_all(&[*byte]).await.is_err() {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "it is still open");
        sleep(Duration::from_millis(100)).await;
    }
    server.wait_for_log("limit=clients.head_timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_client_has_its_share_of_connections_and_the_proxy_has_none() {
    let site = site(LISTED);
    write(&site, LISTED, "[clients]\nmax_connections_per_address = 3\n");
    let server = site.start();
    // Those of which nothing is known yet are nobody's.
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(from(PROXY, server.http).await);
    }
    let mut open = Vec::new();
    for client in 1..=10 {
        for _ in 0..3 {
            let header = v2_of(Ipv4Addr::new(203, 0, 113, client));
            let mut io = begun(PROXY, server.http, header).await;
            io.write_all(NO_HEADER.as_bytes()).await.expect("send");
            let mut answer = [0; 12];
            io.read_exact(&mut answer).await.expect("an answer");
            assert_eq!(&answer, b"HTTP/1.1 200", "client {client}");
            open.push(io);
        }
    }
    let fourth = async |address| {
        let io = begun(PROXY, address, v1("203.0.113.7")).await;
        match address == server.http {
            true => inspect(io, Version::H1, &[]).await,
            false => {
                let io = shake_hands(io, &site, Version::H1).await?;
                inspect(io, Version::H1, &[]).await
            }
        }
    };
    for address in [server.http, server.https] {
        assert!(fourth(address).await.is_err());
    }
    server.wait_for_log("limit=clients.max_connections_per_address times=1 by=203.0.113.7");

    open.clear();
    let begun = Instant::now();
    while fourth(server.http).await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "no place is given back");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_which_nothing_is_known_yet_keep_nobody_out() {
    let site = site(LISTED);
    write(&site, LISTED, "[clients]\nmax_connections = 10\nhead_timeout = \"5m\"\n");
    let server = site.start();
    let mut silent = Vec::new();
    for half in [&b""[..], b"PROXY TCP4 203."].iter().cycle().take(40) {
        silent.push(begun(PROXY, server.http, half).await);
    }
    let io = begun(PROXY, server.http, v1("203.0.113.1")).await;
    assert_eq!(inspect(io, Version::H1, &[]).await.expect("a reply").client, "203.0.113.1");
    let io = from(ANYONE, server.http).await;
    assert_eq!(inspect(io, Version::H1, &[]).await.expect("a reply").client, "127.0.0.1");
    server.wait_for_log("limit=clients.max_connections ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_who_is_listed_for_connections_that_come_then() {
    let site = site(LISTED);
    let server = site.start();
    let header = v1("203.0.113.1");
    let kept = begun(PROXY, server.http, &header).await;

    write(&site, "proxy_protocol = [\"127.0.0.3\"]", "");
    server.wait_for_log("reloaded");

    assert_eq!(inspect(kept, Version::H1, &[]).await.expect("a reply").client, "203.0.113.1");
    let io = from(PROXY, server.http).await;
    assert_eq!(inspect(io, Version::H1, &[]).await.expect("a reply").client, "127.0.0.2");
    let io = begun(OTHER_PROXY, server.http, &header).await;
    assert_eq!(inspect(io, Version::H1, &[]).await.expect("a reply").client, "203.0.113.1");
    assert_eq!(server.logged("needs a restart"), [""; 0]);
}
