//! How many connections, handshakes and streams clients may have, and that those of one keep out no other.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use super::slow::{PREFACE, SETTINGS};
use crate::support::client::{Version, get, send, trusting, whole};
use crate::support::holds::{Shown, times};
use crate::support::pool::guest;
use crate::support::server::{PATIENCE, Server, Site};

const PART: &str = "Clients: caps";

const ONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn site(clients: &str) -> Site {
    let site = Site::new(&format!(
        "[apps.p3]\ncomponent = \"apps/kit-p3.wasm\"\n[hosts]\n\"p3.test\" = \"p3\"\n\
         [clients]\n{clients}"
    ));
    site.put("apps/kit-p3.wasm", &guest("kit-p3"));
    site
}

/// A connection to `server` from an address of this machine. An error where it was reset that soon.
async fn attempt(client: Ipv4Addr, server: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((client, 0).into())?;
    timeout(PATIENCE, socket.connect(server)).await.expect("in time")
}

/// The same, of one who has a share left.
async fn from(client: Ipv4Addr, server: SocketAddr) -> TcpStream {
    attempt(client, server).await.expect("connect")
}

/// Whether the server closes the connection at once.
async fn is_closed(io: &mut TcpStream) -> bool {
    timeout(Duration::from_millis(500), io.read(&mut [0; 1])).await.is_ok()
}

/// Whether the server takes no connection from `client`.
async fn is_refused(client: Ipv4Addr, server: SocketAddr) -> bool {
    match attempt(client, server).await {
        Ok(mut io) => is_closed(&mut io).await,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

/// How long an answer on a new connection from `client` takes.
async fn ask(client: Ipv4Addr, server: SocketAddr) -> Duration {
    let begun = Instant::now();
    let io = from(client, server).await;
    let request = Request::get("/hello").header("host", "p3.test").body(Full::<Bytes>::default());
    let answer = send(io, Version::H1, request.expect("a request")).await.expect("an answer");
    assert_eq!(whole(answer).await.expect("whole").status, 200);
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_keeps_no_other_out_however_often_it_tries() {
    let site = site("max_connections_per_address = 16\n");
    let server = Arc::new(site.start());
    ask(OTHER, server.http).await;
    let attempts = times(1000, 10_000);
    let stop = Arc::new(AtomicBool::new(false));
    let other = tokio::spawn({
        let (server, stop) = (Arc::clone(&server), Arc::clone(&stop));
        async move {
            let (mut asked, mut longest) = (0, Duration::ZERO);
            while !stop.load(Relaxed) {
                longest = longest.max(ask(OTHER, server.http).await);
                asked += 1;
                sleep(Duration::from_millis(1)).await;
            }
            (asked, longest)
        }
    });
    let mut open = Vec::new();
    for number in 0..attempts {
        // All of them say nothing, and stay for as long as they may.
        open.extend(attempt(ONE, if number % 2 == 0 { server.http } else { server.https }).await);
        if open.len() == 100 {
            open.drain(16..);
        }
    }
    stop.store(true, Relaxed);
    let (asked, longest) = other.await.expect("the other address was kept out");
    Shown {
        part: PART,
        tried: "connections from one address while another one asks",
        times: attempts,
        bound: "each of the other's requests is answered within 2 s",
    }
    .holds(
        format!("{asked} answered, the slowest in {longest:?}"),
        asked > 10 && longest < Duration::from_secs(2),
    );
    server.wait_for_log("limit=clients.max_connections_per_address");
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_its_share_an_address_is_refused_at_once() {
    let site = site("max_connections_per_address = 4\n");
    let server = site.start();
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(from(ONE, server.http).await);
    }
    for address in [server.http, server.https] {
        assert!(is_refused(ONE, address).await, "{address}");
    }
    assert!(!is_closed(&mut open[3]).await);
    ask(OTHER, server.http).await;

    // A place that was left is there for the next.
    open.clear();
    let begun = Instant::now();
    while is_refused(ONE, server.http).await {
        assert!(begun.elapsed() < PATIENCE, "no place is given back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_rest_make_room_when_there_is_none() {
    let site = site("max_connections = 64\nmax_connections_per_address = 1000\n");
    let server = site.start();
    let mut resting = Vec::new();
    let mut longest = Duration::ZERO;
    let rounds = times(4, 40);
    for _ in 0..rounds {
        for _ in 0..100 {
            resting.push(from(ONE, server.http).await);
        }
        longest = longest.max(ask(OTHER, server.http).await);
        assert!(sockets(&server) < 64 + 20, "{} sockets", sockets(&server));
    }
    Shown {
        part: PART,
        tried: "max_connections = 64, and 100 connections that say nothing before each request",
        times: rounds,
        bound: "answered within 2 s",
    }
    .holds(format!("the slowest in {longest:?}"), longest < Duration::from_secs(2));
    server.wait_for_log("limit=clients.max_connections ");
}

/// Descriptors of the process that are sockets.
fn sockets(server: &Server) -> usize {
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("descriptors");
    let links = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_never_end_stop_nobody_else() {
    let site = site("max_handshakes = 8\n");
    let server = site.start();
    let config = trusting(&site.root(), Version::H1);
    let mut silent = Vec::new();
    let mut longest = Duration::ZERO;
    let rounds = times(5, 100);
    for _ in 0..rounds {
        for _ in 0..20 {
            let mut io = from(ONE, server.https).await;
            let _ = io.write_all(b"\x16\x03\x01\x02").await;
            silent.push(io);
        }
        let begun = Instant::now();
        let io = from(OTHER, server.https).await;
        let name = ServerName::try_from("p3.test").expect("a name");
        TlsConnector::from(Arc::clone(&config)).connect(name, io).await.expect("a handshake");
        longest = longest.max(begun.elapsed());
        // As many as an address may have.
        silent.drain(..silent.len().saturating_sub(100));
    }
    Shown {
        part: PART,
        tried: "max_handshakes = 8, and 20 of one address that never end before each of another",
        times: rounds,
        bound: "done within 2 s",
    }
    .holds(format!("the slowest in {longest:?}"), longest < Duration::from_secs(2));
    server.wait_for_log("limit=clients.max_handshakes");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_streams_is_what_the_manifest_says() {
    let site = site("max_streams = 7\n");
    let server = site.start();
    let mut io = TcpStream::connect(server.http).await.expect("connect");
    io.write_all(&[PREFACE, SETTINGS].concat()).await.expect("send");
    let mut head = [0; 9];
    io.read_exact(&mut head).await.expect("a frame");
    assert_eq!(head[3], 4, "SETTINGS");
    let mut settings = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
    io.read_exact(&mut settings).await.expect("its payload");
    assert!(settings.chunks(6).any(|setting| setting == [0, 3, 0, 0, 0, 7]), "{settings:?}");
    assert_eq!(get(&server, "p3.test", "/hello").await.expect("an answer").status, 200);
}
