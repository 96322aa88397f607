//! What one client does, or cannot do, to the others: slow ones, many, and those that are there at a stop.

use std::os::unix::process::CommandExt;
use std::time::Instant;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Duration, sleep, timeout};

use crate::support::client::{
    Version, connect, get, raw, send, status, to_the_end, trusting, whole,
};
use crate::support::cores::descriptors;
use crate::support::pool::guest;
use crate::support::server::{PATIENCE, Server, Site, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_its_head_slowly_is_closed() {
    let site = Site::usual();
    let server = site.start();
    let begun = Instant::now();
    let mut io = TcpStream::connect(server.http).await.expect("connect");
    io.write_all(b"GET / HTTP/1.1\r\nhost: hello.test\r\n").await.expect("send");
    let (mut read, mut write) = io.into_split();
    let dribble = tokio::spawn(async move {
        while write.write_all(b"x: y\r\n").await.is_ok() {
            sleep(Duration::from_millis(200)).await;
        }
    });

    let end = timeout(PATIENCE, read.read(&mut [0; 1])).await.expect("closed in time");

    assert!(matches!(end, Ok(0) | Err(_)));
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(10) && took < Duration::from_secs(20), "{took:?}");
    dribble.await.expect("no panic");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_follow_one_another_on_a_connection() {
    let site = Site::usual();
    let server = site.start();
    let one = "GET /hello HTTP/1.1\r\nhost: p2.test\r\n\r\n";
    let last = "GET /hello HTTP/1.1\r\nhost: p3.test\r\nconnection: close\r\n\r\n";

    let answers = raw(server.http, format!("{one}{one}{last}")).await;

    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3, "{answers}");
    assert_eq!(answers.matches("hello world\n").count(), 3, "{answers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_is_no_whole_one_to_the_guest() {
    let site = Site::usual();
    let server = site.start();

    for host in ["p2.test", "p3.test"] {
        // Chunked, and the connection's sending half ends before the last chunk.
        let mut io = TcpStream::connect(server.http).await.expect("connect");
        let head =
            format!("POST /discard HTTP/1.1\r\nhost: {host}\r\ntransfer-encoding: chunked\r\n\r\n");
        io.write_all(format!("{head}5\r\nhello\r\n").as_bytes()).await.expect("send");
        io.shutdown().await.expect("end");
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, io.read_to_end(&mut answer)).await.expect("closed in time");
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains(" 200 "), "the guest took half a body for all: {answer}");
    }
    assert_eq!(get(&server, "p2.test", "/hello").await.expect("an answer").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_descriptors_serves_again_once_there_are_some() {
    let site = Site::usual();
    let server = site.start();
    assert_eq!(get(&server, "p2.test", "/hello").await.expect("an answer").status, 200);
    let before = limit_descriptors(&server, descriptors(&server) as u64);

    // They wait in the backlog, or are accepted and closed; nobody is refused.
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let address = server.http;
            tokio::spawn(raw(
                address,
                "GET / HTTP/1.1\r\nhost: hello.test\r\nconnection: close\r\n\r\n",
            ))
        })
        .collect();
    server.wait_for_log("cannot accept connections for now");
    limit_descriptors(&server, before);

    for answer in waiting {
        assert_eq!(status(&answer.await.expect("no panic")), 200);
    }
}

/// Sets how many descriptors the server may have, and returns how many that were.
fn limit_descriptors(server: &Server, count: u64) -> u64 {
    let pid = i32::try_from(server.pid()).expect("a process id");
    let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointers are to valid limits, and the first call only reads.
    unsafe {
        assert_eq!(libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut before), 0);
        let limit = libc::rlimit { rlim_cur: count, ..before };
        assert_eq!(
            libc::prlimit(pid, libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut()),
            0
        );
    }
    before.rlim_cur
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_what_runs_and_tells_clients_to_go() {
    let site = Site::usual();
    let mut server = site.start();
    // Idle ones, one that has not said anything yet, and one running request on each protocol.
    let mut fresh = TcpStream::connect(server.http).await.expect("connect");
    let mut idle = TcpStream::connect(server.http).await.expect("connect");
    idle.write_all(b"HEAD / HTTP/1.1\r\nhost: hello.test\r\n\r\n").await.expect("send");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(idle.read_u8().await.expect("an answer"));
    }
    let mut running = TcpStream::connect(server.http).await.expect("connect");
    running.write_all(b"GET /sleep?ms=1500 HTTP/1.1\r\nhost: p2.test\r\n\r\n").await.expect("send");
    let io = connect(server.https, "p3.test", trusting(&site.root(), Version::H2)).await;
    let (mut http2, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io.expect("TLS")))
            .await
            .expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let get = |path: &str| {
        let request = Request::get(format!("https://p3.test{path}"));
        request.body(Full::<Bytes>::default()).expect("a request")
    };
    // Its head is here, so it runs; the others were sent before it.
    let drip = http2.send_request(get("/drip?count=4&ms=400")).await.expect("an answer");

    server.signal(libc::SIGTERM);
    server.wait_for_log("stopping");

    assert_eq!(to_the_end(&mut fresh).await, "");
    assert_eq!(to_the_end(&mut idle).await, "");
    let answer = to_the_end(&mut running).await;
    assert!(answer.ends_with("slept\n") && answer.contains("connection: close"), "{answer}");
    let body = drip.into_body().collect().await.expect("a whole body").to_bytes();
    assert_eq!(body.len(), 4 * "tick\n".len());
    wait_until("the client was told to go", || connection.is_finished());
    connection.await.expect("no panic").expect("an orderly end");
    assert!(http2.send_request(get("/hello")).await.is_err());
    assert_eq!(server.exit().code(), Some(0));
    server.wait_for_log("INFO  stopped");
    assert!(TcpStream::connect(server.http).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_frees_the_guest() {
    let site = Site::usual();
    let server = site.start();
    for host in ["p2.test", "p3.test"] {
        let io = TcpStream::connect(server.http).await.expect("connect");
        let request = Request::get("/endless").header("host", host);
        let request = request.body(Full::<Bytes>::default()).expect("a request");
        let mut endless = send(io, Version::H1, request).await.expect("an answer");
        endless.body_mut().frame().await.expect("a frame").expect("not cut");

        drop(endless);

        server.wait_for_log(&format!("host={host} method=GET path=/endless status=200"));
        let io = TcpStream::connect(server.http).await.expect("connect");
        let request = Request::get("/hello").header("host", host);
        let request = request.body(Full::<Bytes>::default()).expect("a request");
        let reply = whole(send(io, Version::H1, request).await.expect("an answer")).await;
        assert_eq!(reply.expect("a body").text(), "hello world\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_does_not_hold_its_instance() {
    for name in ["kit-p2", "kit-p3"] {
        let site = Site::new(
            "[apps.one]\ncomponent = \"apps/one.wasm\"\nmax_instances = 1\n\
             max_concurrent_per_instance = 1\nrequest_timeout = \"20s\"\n\
             stream_idle_timeout = \"1s\"\npost_return_timeout = \"1s\"\n\
             [hosts]\n\"one.test\" = \"one\"\n",
        );
        site.put("apps/one.wasm", &guest(name));
        let server = site.start();
        let mut held = TcpStream::connect(server.http).await.expect("connect");
        held.write_all(b"GET /endless HTTP/1.1\r\nhost: one.test\r\n\r\n").await.expect("send");
        held.read_u8().await.expect("an answer");

        let reply = get(&server, "one.test", "/hello").await.expect("an answer");

        assert_eq!(reply.status, 200, "{name}: {}", reply.text());
        drop(held);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_there_is_room_for_wait_their_turn() {
    let site = Site::usual();
    let mut command = site.command();
    // Half of the descriptors may be connections.
    let limit = libc::rlimit { rlim_cur: 80, rlim_max: 80 };
    // SAFETY: between fork and exec only one system call is made.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let server = Server::spawn(command);
    server.wait_for_log("few descriptors");
    // All are at work: one that rests would make room.
    let mut open = Vec::new();
    for _ in 0..60 {
        let mut io = TcpStream::connect(server.http).await.expect("connect");
        io.write_all(b"GET /sleep?ms=1900 HTTP/1.1\r\nhost: p3.test\r\n\r\n").await.expect("send");
        open.push(io);
    }
    sleep(Duration::from_millis(300)).await;

    let last = get(&server, "hello.test", "/");
    tokio::pin!(last);
    let room = timeout(Duration::from_millis(500), &mut last).await;
    assert!(room.is_err(), "more connections than allowed were served: {room:?}");
    open.clear();

    assert_eq!(last.await.expect("an answer").status, 200);
}
