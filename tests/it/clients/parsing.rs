//! What HTTP/1 requests mean, to the byte: which status, and whether the connection goes on.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::client::{GUESTS, raw, status};
use crate::support::holds::Shown;
use crate::support::server::{PATIENCE, Site};

const PART: &str = "Clients: HTTP/1 parsing";

/// What is said of the host, in the target and in headers, and the status it gets.
const HOSTS: &[(&str, &[&str], u16)] = &[
    ("/", &["hello.test"], 200),
    ("/", &["HELLO.Test"], 200),
    ("/", &["hello.test:80"], 200),
    ("/", &["hello.test:8080"], 200),
    ("/", &["hello.test."], 200),
    ("/", &["nobody.test"], 404),
    ("/", &["127.0.0.1"], 404),
    ("/", &["[::1]"], 404),
    ("/", &[], 400),
    ("/", &[""], 400),
    ("/", &["hello.test", "hello.test"], 400),
    ("/", &["hello.test", "p2.test"], 400),
    ("/", &["hello.test", ""], 400),
    ("/", &["hello.test, p2.test"], 400),
    ("/", &["hello.test p2.test"], 400),
    ("/", &["hello.test/"], 400),
    ("/", &["http://hello.test"], 400),
    ("/", &["user@hello.test"], 400),
    ("/", &["hello.test:"], 200),
    ("/", &["hello.test:x"], 400),
    ("/", &["hello.test:65536"], 400),
    ("/", &["hello.test:-1"], 400),
    ("/", &[".hello.test"], 400),
    ("/", &["hello..test"], 400),
    ("/", &["hello.test\\"], 400),
    ("/", &["hello%2etest"], 400),
    ("/", &["hello.test?"], 400),
    ("/", &["hello.test#"], 400),
    ("/", &["[::1"], 400),
    ("/", &["h\u{e9}llo.test"], 400),
    ("http://hello.test/", &["hello.test"], 200),
    ("http://hello.test/", &["HELLO.TEST:80"], 200),
    ("http://hello.test:80/", &["hello.test"], 200),
    ("http://hello.test", &["hello.test"], 200),
    ("http://hello.test/", &["p2.test"], 400),
    ("http://hello.test:81/", &["hello.test"], 400),
    ("http://hello.test/", &["hello.test:81"], 400),
    ("http://hello.test/", &[], 400),
    ("http://hello.test/", &["hello.test", "hello.test"], 400),
    ("http://user@hello.test/", &["hello.test"], 400),
    ("http://nobody.test/", &["nobody.test"], 404),
    ("https://hello.test/", &["hello.test"], 200),
    ("hello.test", &["hello.test"], 400),
    ("*", &["hello.test"], 400),
    ("//hello.test/", &["p2.test"], 404),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_name_a_host_has_one_status() {
    let site = Site::usual();
    let server = site.start();
    let mut wrong = vec![];
    for (target, hosts, expected) in HOSTS {
        let hosts: String = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect();
        let head = format!("GET {target} HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        let got = status(&raw(server.http, &head).await);
        if got != *expected {
            wrong.push(format!("{head:?}: {got} instead of {expected}"));
        }
    }
    Shown {
        part: PART,
        tried: "ways to name a host",
        times: HOSTS.len(),
        bound: "one exact status each",
    }
    .holds(told(&wrong), wrong.is_empty());
}

/// Headers and a body of a POST, and its status; after all but 200 the connection is closed.
const FRAMINGS: &[(&str, &str, u16)] = &[
    ("Content-Length: 5\r\n", "hello", 200),
    ("Content-Length: 0\r\n", "", 200),
    ("", "", 200),
    ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n", 200),
    ("Transfer-Encoding: CHUNKED\r\n", "0\r\n\r\n", 200),
    ("Content-Length: 5\r\nContent-Length: 6\r\n", "hello", 400),
    ("Content-Length: 5, 5\r\n", "hello", 400),
    ("Content-Length: +5\r\n", "hello", 400),
    ("Content-Length: -5\r\n", "hello", 400),
    ("Content-Length: 5 5\r\n", "hello", 400),
    ("Content-Length: 0x5\r\n", "hello", 400),
    ("Content-Length:\r\n", "hello", 400),
    ("Content-Length: 18446744073709551621\r\n", "hello", 400),
    ("Content-Length : 5\r\n", "hello", 400),
    ("Transfer-Encoding: identity\r\n", "hello", 400),
    ("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", 400),
    ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", 400),
    ("Transfer-Encoding : chunked\r\n", "0\r\n\r\n", 400),
    ("X: a\rb\r\n", "", 400),
    ("X: a\0b\r\n", "", 400),
    ("X: a\r\n folded\r\n", "", 400),
    (": x\r\n", "", 400),
    ("X\r\n", "", 400),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_frame_a_body_has_one_status() {
    let site = Site::usual();
    let server = site.start();
    let next = "GET /hello HTTP/1.1\r\nHost: p2.test\r\nConnection: close\r\n\r\n";
    let mut wrong = vec![];
    for host in GUESTS {
        for (headers, body, expected) in FRAMINGS {
            let head = format!("POST /discard HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n{body}");
            let answers = raw(server.http, format!("{head}{next}")).await;
            let count = answers.matches("HTTP/1.1 ").count();
            let good = if *expected == 200 { 2 } else { 1 };
            if status(&answers) != *expected || count != good {
                wrong.push(format!("{head:?}: {answers:?}"));
            }
        }
        // Both are there: chunks count, and nothing that follows does.
        let both = "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        let answers =
            raw(server.http, format!("POST /discard HTTP/1.1\r\nHost: {host}\r\n{both}{next}"))
                .await;
        if !answers.ends_with("\r\n\r\n5") || answers.matches("HTTP/1.1 ").count() != 1 {
            wrong.push(format!("{both:?}: {answers:?}"));
        }
    }
    Shown {
        part: PART,
        tried: "ways to frame a body",
        times: 2 * (FRAMINGS.len() + 1),
        bound: "one exact status each, and no request behind a bad one",
    }
    .holds(told(&wrong), wrong.is_empty());
}

/// Request lines that are none, or odd, and their statuses.
const LINES: &[(&str, u16)] = &[
    ("GET /hello HTTP/1.1", 200),
    ("GET /hello HTTP/1.0", 200),
    ("get /hello HTTP/1.1", 400),
    ("GET /hello HTTP/2.0", 400),
    ("GET /hello HTTP/1.1 ", 400),
    ("GET /hel lo HTTP/1.1", 400),
    ("GET /hello", 400),
    ("GET /\0 HTTP/1.1", 400),
    ("G\u{e9}T / HTTP/1.1", 400),
    ("TRACE / HTTP/1.1", 405),
    ("CONNECT p2.test:80 HTTP/1.1", 405),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_request_line_has_one_status() {
    let site = Site::usual();
    let server = site.start();
    let mut wrong = vec![];
    for (line, expected) in LINES {
        let got =
            raw(server.http, format!("{line}\r\nHost: p2.test\r\nConnection: close\r\n\r\n")).await;
        if status(&got) != *expected {
            wrong.push(format!("{line:?}: {got:?}"));
        }
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: p2.test\r\n\r\n", "x".repeat(60_000));
    assert_eq!(status(&raw(server.http, long).await), 414);
    Shown {
        part: PART,
        tried: "request lines",
        times: LINES.len() + 1,
        bound: "one exact status each",
    }
    .holds(told(&wrong), wrong.is_empty());
}

/// What may be wrong with chunks after the first, which is `6\r\nhello \r\n`.
const BROKEN: &[&str] = &[
    "x\r\nworld\r\n0\r\n\r\n",
    "-5\r\nworld\r\n0\r\n\r\n",
    "5\r\nworldX\r\n0\r\n\r\n",
    "5\r\nworld0\r\n\r\n",
    "5\rworld\r\n0\r\n\r\n",
    "FFFFFFFFFFFFFFFFF\r\nworld\r\n0\r\n\r\n",
    "\r\n",
    "0\r\nbad trailer\r\n\r\n",
    "0\r\nX",
    "5\r\nwor",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_chunk_is_an_error_to_the_guest_and_ends_the_connection() {
    let site = Site::usual();
    let server = site.start();
    let next = "GET /hello HTTP/1.1\r\nHost: p2.test\r\n\r\n";
    let extension = format!("5;{}\r\nworld\r\n0\r\n\r\n", "e".repeat(1 << 20));
    let mut wrong = vec![];
    for host in GUESTS {
        for broken in BROKEN.iter().copied().chain([extension.as_str()]) {
            let mut io = TcpStream::connect(server.http).await.expect("connect");
            let head = format!(
                "POST /discard HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello \r\n"
            );
            let _ = io.write_all(head.as_bytes()).await;
            // What is cut off says so by its end; what is broken, by itself.
            let is_cut = broken.ends_with("wor") || broken.ends_with('X');
            let rest = if is_cut { broken.to_owned() } else { format!("{broken}{next}") };
            let _ = io.write_all(rest.as_bytes()).await;
            if is_cut {
                let _ = io.shutdown().await;
            }
            let mut answer = Vec::new();
            let end = tokio::time::timeout(PATIENCE, io.read_to_end(&mut answer)).await;
            let answer = String::from_utf8_lossy(&answer);
            // `/discard` answers with how much it read, once it has read all.
            if end.is_err() || answer.contains(" 200 ") || answer.contains("hello world") {
                wrong.push(format!("{host} {:?}: {answer:?}", &broken[..broken.len().min(40)]));
            }
        }
    }
    Shown {
        part: PART,
        tried: "broken chunks",
        times: 2 * (BROKEN.len() + 1),
        bound: "an error and a closed connection, never a short body for all",
    }
    .holds(told(&wrong), wrong.is_empty());
}

fn told(wrong: &[String]) -> String {
    format!(
        "{} wrong{}{}",
        wrong.len(),
        if wrong.is_empty() { "" } else { ":\n" },
        wrong.join("\n")
    )
}
