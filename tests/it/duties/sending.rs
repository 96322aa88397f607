//! Files are sent whole or visibly not, with little memory and few descriptors.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};

use super::{folder, get_head, put};
use crate::support::client::{VERSIONS, Version, connect, get, raw, send, status, trusting};
use crate::support::connection::{Connection, Transport};
use crate::support::cores::{descriptors, resident};
use crate::support::server::{Server, Site, wait_until};

const PUBLIC: &str = "files = \"public\"";

/// More than every buffer between the file and a client that does not read, which are some megabytes.
const BIG: usize = 32 << 20;

fn pattern(byte: u8) -> Vec<u8> {
    (0..BIG).map(|at| byte.wrapping_add((at / 1000) as u8)).collect()
}

/// The body of `/big.bin`, of which the head and nothing more has been read.
async fn begin(site: &Site, server: &Server, version: Version) -> hyper::body::Incoming {
    let io = connect(server.https, "files.test", trusting(&site.root(), version)).await;
    let uri = match version {
        Version::H1 => "/big.bin",
        Version::H2 => "https://files.test/big.bin",
    };
    let mut request = Request::get(uri);
    if version == Version::H1 {
        request = request.header("host", "files.test");
    }
    let request = request.body(Empty::<Bytes>::new()).expect("a request");
    let response = send(io.expect("a connection"), version, request).await.expect("an answer");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-length"], BIG.to_string());
    response.into_body()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_replaced_while_it_is_sent_is_sent_as_it_was() {
    let site = folder(PUBLIC, &[]);
    put(&site, "public/big.bin", &pattern(1));
    let server = site.start();
    for version in VERSIONS {
        put(&site, "public/big.bin", &pattern(1));
        let mut body = begin(&site, &server, version).await;
        let first = body.frame().await.expect("a frame").expect("not cut").into_data();
        put(&site, "public/big.bin", &pattern(2));
        let rest = body.collect().await.expect("not cut").to_bytes();
        assert!([first.expect("data"), rest].concat() == pattern(1), "{version:?}");
        let reply = get(&server, "files.test", "/big.bin").await.expect("an answer");
        assert!(reply.body == pattern(2), "{version:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_while_it_is_sent_is_cut() {
    let site = folder(PUBLIC, &[]);
    let server = site.start();
    for version in VERSIONS {
        for truncate in [true, false] {
            put(&site, "public/big.bin", &pattern(1));
            let skipped = server.log().len();
            let body = begin(&site, &server, version).await;
            let mut file =
                File::options().write(true).open(site.path("public/big.bin")).expect("open it");
            if truncate {
                file.set_len(20 << 20).expect("truncate it");
            } else {
                file.seek(SeekFrom::Start(31 << 20)).expect("seek");
                file.write_all(b"changed").expect("write into it");
            }
            let cut = body.collect().await;
            assert!(cut.is_err(), "{version:?} {truncate}: it looks whole");
            let line = server.wait_for_log_after(skipped, "answer cut short");
            assert!(line.contains("error="), "{line}");
        }
    }
    let reply = get(&server, "files.test", "/big.bin").await.expect("an answer");
    assert_eq!(reply.body.len(), BIG, "and then it is served as it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gigabyte_needs_no_memory() {
    const SIZE: u64 = 1 << 30;
    let site = folder(PUBLIC, &[("a.txt", "a")]);
    File::create(site.path("public/sparse.bin"))
        .and_then(|file| file.set_len(SIZE))
        .expect("make it");
    let server = site.start();
    get(&server, "files.test", "/a.txt").await.expect("an answer");
    server.forget_peak();
    let before = server.peak();

    for version in VERSIONS {
        let url = format!("https://files.test:{}/sparse.bin", server.https.port());
        let output = Command::new("curl")
            .args(["-ksS", "-o", "/dev/null", "-w", "%{size_download} %{http_version}"])
            .arg(if version == Version::H1 { "--http1.1" } else { "--http2" })
            .args(["--resolve", &format!("files.test:{}:127.0.0.1", server.https.port())])
            .arg(&url)
            .output()
            .expect("run curl");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(printed.starts_with(&SIZE.to_string()), "{printed}");
    }
    let grown = server.peak().saturating_sub(before);
    eprintln!("a gigabyte twice: {} KiB more at the peak", grown >> 10);
    assert!(grown < 16 << 20, "{grown} bytes more");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_requests_leave_no_descriptor_behind() {
    let site = folder(
        "files = { dir = \"public\", precompressed = true, not_found = \"404.html\" }",
        &[("a.txt", "a"), ("404.html", "none"), ("sub/index.html", "sub")],
    );
    let server = site.start();
    let transport = Transport::plain(&server);
    let mut connection = Connection::open(&transport, "files.test").await.expect("a connection");
    connection.get("/a.txt").await.expect("an answer");
    let before = descriptors(&server);
    for number in 0..10_000 {
        let path = ["/a.txt", "/none", "/sub/", "/sub", "/../x"][number % 5];
        let reply = connection.get(path).await.expect("an answer");
        let expected = [200, 404, 200, 308, 404][number % 5];
        assert_eq!(reply.status.as_u16(), expected, "{path}");
    }
    let after = descriptors(&server);
    assert!(after <= before, "{before} before, {after} after");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_files_are_open_and_no_client_has_them_all() {
    let site = folder(PUBLIC, &[("a.txt", "a")]);
    put(&site, "public/big.bin", &pattern(1));
    // An eighth of them may be files.
    let mut command = Command::new("prlimit");
    command.args(["--nofile=256:256", env!("CARGO_BIN_EXE_tidegate"), "run", "--config"]);
    command.arg(site.manifest()).current_dir(site.path("."));
    let server = Server::spawn(command);
    let at_rest = at_rest(&server).await;

    let mut readers = Vec::new();
    // Half of what is left is for each.
    for (client, files) in [(1, 16), (2, 8), (3, 4)] {
        for number in 0..files + 2 {
            let mut io = from(client, server.http).await;
            let head = get_head(&mut io, "files.test", "/big.bin").await;
            let expected = if number < files { 200 } else { 503 };
            assert_eq!(status(&head), expected, "{client} {number}: {head}");
            assert!(expected == 200 || head.to_ascii_lowercase().contains("retry-after: 1"));
            readers.push(io);
        }
    }
    server.wait_for_log("limit=files.open");
    let reply = get(&server, "files.test", "/a.txt").await.expect("an answer");
    assert_eq!(reply.text(), "a", "short files are still served");

    drop(readers);
    wait_until("all files are closed", || descriptors(&server) <= at_rest);
    let reply = get(&server, "files.test", "/big.bin").await.expect("an answer");
    assert_eq!(reply.body.len(), BIG);
}

/// A connection from 127.0.0.`client`.
async fn from(client: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, client], 0))).expect("an address");
    socket.connect(to).await.expect("connect")
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_take_nothing_hold_little_memory() {
    const CLIENTS: usize = 100;
    let site = folder(PUBLIC, &[]);
    put(&site, "public/big.bin", &pattern(1));
    let server = site.start();
    let reply = get(&server, "files.test", "/big.bin").await.expect("an answer");
    assert_eq!(reply.body.len(), BIG);
    let before = resident(&server);

    let mut readers = Vec::new();
    for _ in 0..CLIENTS {
        let mut io = TcpStream::connect(server.http).await.expect("connect");
        get_head(&mut io, "files.test", "/big.bin").await;
        readers.push(io);
    }
    // One more has all of it meanwhile, and so those before have all that they get.
    let reply = get(&server, "files.test", "/big.bin").await.expect("an answer");
    assert_eq!(reply.body.len(), BIG);
    let each = resident(&server).saturating_sub(before) / CLIENTS as u64;
    eprintln!("some {} KiB for each client that takes nothing", each >> 10);
    assert!(each < 512 << 10, "{each} bytes for each");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_is_let_go() {
    let site = Site::new(
        "[clients]\nwrite_timeout = \"1s\"\n[hosts]\n\"files.test\" = { \"/\" = { files = \"public\" } }\n",
    );
    put(&site, "public/big.bin", &pattern(1));
    let server = site.start();
    let at_rest = at_rest(&server).await;

    let mut h1 = TcpStream::connect(server.http).await.expect("connect");
    get_head(&mut h1, "files.test", "/big.bin").await;
    let h2 = begin(&site, &server, Version::H2).await;
    wait_until("both have been let go", || descriptors(&server) <= at_rest);
    assert!(h2.collect().await.is_err(), "it does not look whole");
    let mut rest = Vec::new();
    let _ = h1.read_to_end(&mut rest).await;
    assert!(rest.len() < BIG);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_costs_nothing() {
    let site = folder(PUBLIC, &[]);
    put(&site, "public/big.bin", &pattern(1));
    let server = site.start();
    let at_rest = at_rest(&server).await;
    for _ in 0..50 {
        let mut io = TcpStream::connect(server.http).await.expect("connect");
        get_head(&mut io, "files.test", "/big.bin").await;
    }
    wait_until("all files are closed", || descriptors(&server) <= at_rest);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_0_gets_the_file_and_its_length() {
    let site = folder(PUBLIC, &[("a.txt", "content")]);
    let server = site.start();
    let answer = raw(server.http, "GET /a.txt HTTP/1.0\r\nhost: files.test\r\n\r\n").await;
    assert!(answer.ends_with("\r\n\r\ncontent"), "{answer}");
    assert_eq!(super::values(&answer, "content-length"), ["7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_a_file_that_is_sent() {
    let site = folder(PUBLIC, &[]);
    put(&site, "public/big.bin", &pattern(3));
    let mut server = site.start();
    let mut body = begin(&site, &server, Version::H1).await;
    let first = body.frame().await.expect("a frame").expect("not cut").into_data().expect("data");
    server.signal(libc::SIGTERM);
    server.wait_for_log("stopping");
    let rest = body.collect().await.expect("not cut").to_bytes();
    assert!([first, rest].concat() == pattern(3));
    assert!(server.exit().success());
}

/// Descriptors of a server that has no more to open: a start goes on for a moment after it says
/// that it serves.
async fn at_rest(server: &Server) -> usize {
    loop {
        let before = descriptors(server);
        tokio::time::sleep(Duration::from_millis(500)).await;
        if descriptors(server) == before {
            return before;
        }
    }
}
