//! The log as operators read it: what was, what comes, and for one app alone.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::{ask, socket};
use crate::support::client::get;
use crate::support::server::{PATIENCE, Site, USUAL, wait_until};

/// `tidegate logs` that goes on. Ended when dropped.
struct Follower {
    child: Child,
    lines: Receiver<String>,
}

impl Follower {
    fn start(site: &Site, arguments: &[&str]) -> Follower {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .arg("logs")
            .args(arguments)
            .current_dir(site.path(""))
            .stdout(Stdio::piped())
            .spawn()
            .expect("run tidegate");
        let stdout = child.stdout.take().expect("its output");
        let (sender, lines) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.for_each(|line| drop(sender.send(line)));
        });
        Follower { child, lines }
    }

    /// Waits for a line with that, and returns those before it as well.
    fn until(&self, text: &str) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            seen.push(line.unwrap_or_else(|_| panic!("no line with {text:?}: {seen:#?}")));
            if seen.last().is_some_and(|line| line.contains(text)) {
                return seen;
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_lines_are_there_for_all_and_for_one_app() {
    let site = Site::usual();
    let server = site.start();
    get(&server, "p2.test", "/log").await.expect("an answer");
    get(&server, "p3.test", "/log").await.expect("an answer");
    server.wait_for_log("app=p3");

    let (status, all) = site.tidegate(&["logs"]);
    assert!(status.success() && all.contains("serving"), "{all}");
    assert!(all.contains(" guest ") && !all.contains(" access "), "{all}");
    let (_, p3) = site.tidegate(&["logs", "p3"]);
    assert!(!p3.is_empty() && p3.lines().all(|line| line.contains(" app=p3 ")), "{p3}");
    assert!(!p3.contains(" app=p2 "), "{p3}");
    let (_, last) = site.tidegate(&["logs", "-n", "1"]);
    assert_eq!(last.lines().count(), 1, "{last}");
    wait_until("they are the lines of standard error", || {
        all.lines().all(|line| server.log().iter().any(|it| it == line))
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn two_followers_get_each_what_they_ask_for() {
    let site = Site::usual();
    let server = site.start();
    let p2 = Follower::start(&site, &["p2", "-f", "-n", "0"]);
    let requests = Follower::start(&site, &["-f", "--access"]);
    requests.until("serving");
    // Who follows p2 is there once it hears of it.
    let heard = loop {
        get(&server, "p3.test", "/log").await.expect("an answer");
        get(&server, "p2.test", "/log").await.expect("an answer");
        if let Ok(line) = p2.lines.try_recv() {
            break line;
        }
    };
    assert!(heard.contains(" guest ") && heard.contains(" app=p2 "), "{heard}");
    assert!(p2.lines.try_iter().all(|line| line.contains(" app=p2 ")));
    let seen = requests.until(" access ");
    assert!(seen.iter().any(|line| line.contains(" guest ")), "{seen:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_and_does_not_read_holds_up_nobody_and_is_told_what_is_missing() {
    let site = Site::usual();
    let loud = "log_rate = 1000000\nlog_burst = 1000000\n";
    site.write_manifest(&USUAL.replace("[apps.p2]\n", &format!("[apps.p2]\n{loud}")));
    let server = site.start();
    let mut io = UnixStream::connect(socket(&site)).await.expect("connect");
    let request = "GET /v1/logs?follow=true&app=p2 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    io.write_all(request.as_bytes()).await.expect("ask");
    let before = server.memory("VmRSS:");

    // 8 MB of lines, of which the socket and the tail keep less than one.
    for _ in 0..40 {
        let reply = get(&server, "p2.test", "/log?bytes=2000&lines=100").await.expect("an answer");
        assert_eq!(reply.status, 200);
    }
    let grown = server.memory("VmRSS:").saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
    let quick = ask(&site, "GET", "/v1/version").await.expect("an answer");
    assert_eq!(quick.status, 200);

    let mut read = BufferedLines::new(io);
    read.until("log lines are missing here").await;
}

/// The lines of a connection.
struct BufferedLines(tokio::io::Lines<tokio::io::BufReader<UnixStream>>);

impl BufferedLines {
    fn new(io: UnixStream) -> Self {
        use tokio::io::AsyncBufReadExt;
        Self(tokio::io::BufReader::new(io).lines())
    }

    async fn until(&mut self, text: &str) {
        let found = async {
            while let Some(line) = self.0.next_line().await.expect("a line") {
                if line.contains(text) {
                    return true;
                }
            }
            false
        };
        assert!(tokio::time::timeout(PATIENCE, found).await.expect("in time"), "no {text:?}");
    }
}
