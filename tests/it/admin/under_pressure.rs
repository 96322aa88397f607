//! Operators are answered whatever clients and guests do.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::{ask, asked, socket};
use crate::support::client::get;
use crate::support::server::{PATIENCE, Server, Site, USUAL, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn while_all_guests_loop() {
    let site = Site::usual();
    site.write_manifest(&USUAL.replace("request_timeout = \"2s\"", "request_timeout = \"60s\""));
    let server = site.start();
    let (http, stop) = (server.http, tokio_util::sync::CancellationToken::new());
    for at in 0..64 {
        let stop = stop.clone();
        let host = ["p2.test", "p3.test"][at % 2];
        tokio::spawn(async move {
            let spinning = crate::support::client::get_at(http, host, "/spin");
            tokio::select! {
                _ = spinning => {}
                () = stop.cancelled() => {}
            }
        });
    }
    wait_until("guests compute", || cpu(&server) > Duration::from_millis(500));
    for _ in 0..20 {
        let began = Instant::now();
        asked(&site, "/v1/status").await;
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
    stop.cancel();
}

/// CPU that the server has used.
pub fn cpu(server: &Server) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).expect("it lives");
    let fields: Vec<_> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().map(|at| fields[*at].parse::<u64>().expect("ticks")).sum();
    // A hundred a second, on all Linux that there is.
    Duration::from_millis(ticks * 10)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_has_as_many_connections_as_it_may_have() {
    let site = Site::usual();
    site.write_manifest(&format!("[clients]\nmax_connections = 4\n{USUAL}"));
    let server = site.start();
    let mut busy = Vec::new();
    for _ in 0..8 {
        let mut io = TcpStream::connect(server.http).await.expect("connect");
        let head = b"GET /drip?ms=1000&count=1000 HTTP/1.1\r\nhost: p2.test\r\n\r\n";
        io.write_all(head).await.expect("send");
        busy.push(io);
    }
    server.wait_for_log("limit=clients.max_connections");
    asked(&site, "/v1/status").await;
    drop(busy);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_there_is_no_descriptor_left() {
    let site = Site::usual();
    let server = site.start();
    get(&server, "hello.test", "/").await.expect("an answer");
    let open = |server: &Server| {
        let fds = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("it lives");
        fds.filter_map(|fd| fd.ok()?.file_name().to_str()?.parse::<u64>().ok()).collect::<Vec<_>>()
    };
    // No more than are open now, and what is free below that is filled by connections.
    let highest = open(&server).into_iter().max().expect("descriptors");
    limit_descriptors(&server, highest + 1);
    let mut held = Vec::new();
    wait_until("there is none left", || {
        held.push(std::net::TcpStream::connect(server.http).expect("connect"));
        !server.logged("cannot accept connections for now").is_empty()
    });
    for _ in 0..3 {
        asked(&site, "/v1/status").await;
    }
    // Several at a time, too, and connections that stay.
    let mut stay = Vec::new();
    for _ in 0..4 {
        stay.push(UnixStream::connect(socket(&site)).await.expect("connect"));
    }
    asked(&site, "/v1/status").await;
}

fn limit_descriptors(server: &Server, most: u64) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    let pid = i32::try_from(server.pid()).expect("a process id");
    // SAFETY: the call reads the limit that it is given, and writes nowhere.
    let code =
        unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut()) };
    assert_eq!(code, 0, "{}", std::io::Error::last_os_error());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_others_hold_its_own_connections_and_say_nothing() {
    let site = Site::usual();
    let _server = site.start();
    let mut operator = UnixStream::connect(socket(&site)).await.expect("connect");
    version_on(&mut operator).await;
    let mut held = Vec::new();
    while held.len() < 100 {
        match UnixStream::connect(socket(&site)).await {
            Ok(connection) => held.push(connection),
            // More than the kernel keeps until they are accepted.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            Err(error) => panic!("connect: {error}"),
        }
    }
    let reply = tokio::time::timeout(PATIENCE, ask(&site, "GET", "/v1/status")).await;
    assert_eq!(reply.expect("in time").expect("an answer").status, 200);

    // Those made room who came first and had not asked anything.
    let first = tokio::time::timeout(PATIENCE, held[0].read(&mut [0])).await.expect("in time");
    assert_eq!(first.expect("it is closed"), 0);
    version_on(&mut operator).await;
}

/// Asks for the version, on a connection that stays.
async fn version_on(io: &mut UnixStream) {
    let head = b"GET /v1/version HTTP/1.1\r\nhost: localhost\r\n\r\n";
    io.write_all(head).await.expect("send");
    let mut answer = Vec::new();
    while !answer.ends_with(b"}\n") {
        let read = tokio::time::timeout(PATIENCE, io.read_buf(&mut answer)).await;
        assert_ne!(read.expect("in time").expect("an answer"), 0, "it was closed");
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}
