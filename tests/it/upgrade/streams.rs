//! What an old process has begun when another takes over, and what becomes of the two.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::json;

use super::{Upgraded, copy_of_the_program, is_there, signal, site, wait_for_end, write_manifest};
use crate::http3::{Beside, client};
use crate::support::client::{Version, answer};
use crate::support::connection::{Connection, Transport};
use crate::support::server::wait_until;

/// Longer than an upgrade takes.
const LONG: &str = "/drip?ms=200&count=40";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_finishes_at_the_old_process_and_the_new_one_answers_others() {
    let site = site("");
    let mut upgraded = Upgraded::start(site.command());
    let transports = [
        Transport::plain(&upgraded.server),
        Transport::tls(&upgraded.server, Version::H1, &site.root()),
        Transport::tls(&upgraded.server, Version::H2, &site.root()),
        Transport::Unix(site.path("http.sock")),
    ];
    let given = json!({"path": LONG, "then": "/hello"});
    let http3 = client(&site, &upgraded.server, "p2.test", "hand_over", given).map(Beside::begin);
    let mut running = Vec::new();
    for transport in &transports {
        for host in ["p2.test", "p3.test"] {
            let mut connection = Connection::open(transport, host).await.expect("a connection");
            running.push(tokio::spawn(async move { connection.get(LONG).await }));
        }
    }
    tokio::time::sleep(Duration::from_millis(500)).await;

    let old = tokio::task::block_in_place(|| upgraded.hand_over());
    assert_eq!(answer(&upgraded.server, "p2.test", "/hello").await, "200 hello world");
    assert!(is_there(old), "it has requests to finish");
    for request in running {
        let reply = request.await.expect("the request").expect("all of it");
        assert_eq!(reply.text(), "tick\n".repeat(40));
    }
    if let Some(http3) = http3 {
        let figures = tokio::task::spawn_blocking(|| http3.end()).await.expect("no panic");
        assert_eq!(
            figures["first"]["text"].as_str().map(str::trim),
            Some(&*["tick"; 40].join("\n"))
        );
        assert_eq!(figures["new"]["status"], 200, "{figures:#}");
    }
    wait_for_end(old);
    assert_eq!(answer(&upgraded.server, "p2.test", "/hello").await, "200 hello world");
    signal(upgraded.pid, libc::SIGTERM);
    wait_for_end(upgraded.pid);
    assert!(!site.path("http.sock").exists(), "the last one removes it");
}

#[test]
fn a_connection_at_rest_has_time_for_a_request_whose_answer_is_the_last() {
    let site = site("");
    let mut upgraded = Upgraded::start(site.command());
    let mut rests = TcpStream::connect(upgraded.server.http).expect("connect");
    let mut silent = TcpStream::connect(upgraded.server.http).expect("connect");
    let request = "GET /hello HTTP/1.1\r\nhost: p2.test\r\n\r\n";
    rests.write_all(request.as_bytes()).expect("ask");
    let mut read = [0; 1024];
    let count = rests.read(&mut read).expect("an answer");
    assert!(!String::from_utf8_lossy(&read[..count]).contains("connection: close"));

    let old = upgraded.hand_over();
    for connection in [&mut rests, &mut silent] {
        connection.write_all(request.as_bytes()).expect("ask again");
        let mut text = String::new();
        connection.read_to_string(&mut text).expect("an answer, and the end");
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(text.contains("connection: close\r\n"), "{text}");
    }
    wait_for_end(old);
}

#[test]
fn so_has_one_over_http3_that_has_asked_nothing_yet() {
    let site = site("");
    let mut upgraded = Upgraded::start(site.command());
    let given = json!({"path": "/hello"});
    let Some(later) = client(&site, &upgraded.server, "p2.test", "first_later", given) else {
        return;
    };
    let later = Beside::begin(later);

    let old = upgraded.hand_over();
    let figures = later.end();
    assert_eq!(figures["status"], 200, "{figures:#}");
    wait_for_end(old);
}

#[test]
fn the_file_that_was_put_in_place_is_started() {
    let site = site("");
    let (program, command) = copy_of_the_program(&site);
    let mut upgraded = Upgraded::start(command);
    let new = site.path("tidegate.new");
    std::fs::copy(&program, &new).expect("copy it");
    std::fs::rename(&new, &program).expect("put it in place");
    upgraded.upgrade();
    let running = std::fs::read_link(format!("/proc/{}/exe", upgraded.pid)).expect("its program");
    assert_eq!(running, program);
    let (status, said) = site.tidegate(&["reload"]);
    assert!(status.success(), "operators can ask the new process: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_its_operator_has_drained_stays_so() {
    let site = site("");
    let mut upgraded = Upgraded::start(site.command());
    let (status, told) = site.tidegate(&["drain", "p2"]);
    assert!(status.success(), "{told}");

    tokio::task::block_in_place(|| upgraded.upgrade());
    assert!(answer(&upgraded.server, "p2.test", "/hello").await.starts_with("503"));
    assert_eq!(answer(&upgraded.server, "p3.test", "/hello").await, "200 hello world");
    let (status, told) = site.tidegate(&["drain", "--undo", "p2"]);
    assert!(status.success(), "{told}");
    assert_eq!(answer(&upgraded.server, "p2.test", "/hello").await, "200 hello world");
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_come_are_bound_and_those_that_go_are_closed() {
    let site = site("");
    let mut upgraded = Upgraded::start(site.command());
    let (http, https) = (upgraded.server.http, upgraded.server.https);
    site.write_manifest(&format!(
        "[server]\nhttp = [\"unix:other.sock\"]\nhttps = [\"127.0.0.1:0\"]\n{}",
        crate::support::server::USUAL
    ));
    tokio::task::block_in_place(|| upgraded.upgrade());

    for (name, there) in [("http.sock", false), ("other.sock", true)] {
        assert_eq!(site.path(name).exists(), there, "{name}");
    }
    // The end of a process is seen a little before all that it had open is closed.
    wait_until("nobody listens there", || TcpStream::connect(http).is_err());
    let transports = [
        Transport::Unix(site.path("other.sock")),
        Transport::Tls(
            https,
            Version::H2,
            crate::support::client::trusting(&site.root(), Version::H2),
        ),
    ];
    for transport in transports {
        let mut connection = Connection::open(&transport, "p2.test").await.expect("a connection");
        assert_eq!(connection.get("/hello").await.expect("an answer").status, 200);
    }

    // And back, without HTTP/3.
    write_manifest(&site, "h3 = false", "");
    tokio::task::block_in_place(|| upgraded.upgrade());
    wait_until("nobody listens there for HTTP/3", || UdpSocket::bind(https).is_ok());
    assert!(site.path("http.sock").exists() && !site.path("other.sock").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_of_the_old_process_leaves_the_new_one_and_a_stop_ends_both() {
    let site = site("drain_timeout = \"20s\"");
    let mut upgraded = Upgraded::start(site.command());
    let transport = Transport::plain(&upgraded.server);
    let endless = async |path: &'static str| {
        let mut connection = Connection::open(&transport, "p2.test").await.expect("a connection");
        tokio::spawn(async move { connection.get(path).await });
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    endless(LONG).await;
    let old = tokio::task::block_in_place(|| upgraded.hand_over());
    assert!(upgraded.fail().contains("under way already"), "one at a time");
    signal(old, libc::SIGKILL);
    wait_for_end(old);
    assert_eq!(answer(&upgraded.server, "p2.test", "/hello").await, "200 hello world");

    upgraded.server.wait_for_log("the process before this one has ended");
    endless(LONG).await;
    let old = tokio::task::block_in_place(|| upgraded.hand_over());
    signal(old, libc::SIGTERM);
    wait_for_end(upgraded.pid);
    wait_for_end(old);
    assert!(!site.path("http.sock").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_process_ends_with_the_new_one_so_that_another_is_started() {
    let site = site("drain_timeout = \"60s\"");
    let mut upgraded = Upgraded::start(site.command());
    let transport = Transport::plain(&upgraded.server);
    let mut connection = Connection::open(&transport, "p2.test").await.expect("a connection");
    tokio::spawn(async move { connection.get("/drip?ms=500&count=200").await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let old = tokio::task::block_in_place(|| upgraded.hand_over());
    signal(upgraded.pid, libc::SIGKILL);
    upgraded.server.wait_for_log("the new process has ended, and this one does");
    wait_until("both have ended", || !is_there(old) && !is_there(upgraded.pid));
}
