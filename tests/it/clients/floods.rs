//! Floods of HTTP/2 end their own connection and hurt no other; heavy use is no flood.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::support::client::get;
use crate::support::holds::{Shown, times};
use crate::support::pool::guest;
use crate::support::python::{missing, script};
use crate::support::server::{Server, Site};

const PART: &str = "Clients: HTTP/2 floods";

/// GOAWAY's code for a flood.
const CALM: u64 = 11;

/// What a flood may be ahead of the server's judgement: what is on its way in the buffers of both ends.
const ON_ITS_WAY: u64 = 200;

/// Each flood, the frames of it that the server takes at once and with each second, and what is counted. None: an error of the protocol, which h2 ends at once.
const FLOODS: &[(&str, (u64, u64), Option<&str>)] = &[
    ("reset-at-once", (200, 20), Some("h2.")),
    ("reset-at-work", (200, 20), Some("h2.resets")),
    ("reset-after-head", (200, 20), Some("h2.resets")),
    ("continuation-empty", (6, 0), Some("h2.errors")),
    ("continuation-full", (6, 0), None),
    ("continuation-blocks", (64, 4), Some("h2.continuations")),
    ("ping", (64, 4), Some("h2.pings")),
    ("ping-ack", (64, 4), Some("h2.unknown")),
    ("settings", (32, 1), Some("h2.settings")),
    ("settings-ack", (1, 0), None),
    // Behind answers that nobody reads fast enough a good many fit into the sockets' buffers.
    ("settings-windows", (8000, 1), Some("h2.settings")),
    ("priority", (256, 8), Some("h2.priorities")),
    ("priority-update", (256, 8), Some("h2.priorities")),
    ("window-update", (1024, 64), Some("h2.window_updates")),
    ("window-update-stream", (1024, 64), Some("h2.window_updates")),
    ("data-empty", (100, 0), Some("h2.errors")),
    ("data-empty-read", (100, 0), Some("h2.errors")),
    ("data-byte", (4096, 1024), Some("h2.")),
    ("data-byte-read", (4096, 1024), Some("h2.data")),
    ("data-padded", (100, 0), Some("h2.errors")),
    ("unknown", (64, 4), Some("h2.unknown")),
    ("made-reset-window-zero", (1, 0), None),
    ("made-reset-window-overflow", (100, 0), Some("h2.errors")),
    ("made-reset-data-after-end", (100, 0), None),
    ("made-reset-priority-self", (100, 0), Some("h2.errors")),
    ("made-reset-length", (200, 0), Some("h2.errors")),
    ("too-many-streams", (230, 0), Some("h2.errors")),
    ("hpack-references", (1, 0), Some("h2.errors")),
    ("hpack-table", (1, 0), None),
    ("hpack-many", (1, 0), Some("h2.errors")),
];

/// What 128 streams whose answers nobody reads may hold.
const UNREAD_MAX: u64 = 8 << 10;

/// The kits, with time enough for what takes its time.
fn site(max_instances: usize) -> Site {
    let site = Site::new(&format!(
        "[defaults]\nrequest_timeout = \"20s\"\nstream_idle_timeout = \"30s\"\n\
         post_return_timeout = \"1s\"\nmax_instances = {max_instances}\n\
         [apps.p2]\ncomponent = \"apps/kit-p2.wasm\"\n\
         [apps.p3]\ncomponent = \"apps/kit-p3.wasm\"\n\
         [hosts]\n\"p2.test\" = \"p2\"\n\"p3.test\" = \"p3\"\n"
    ));
    for name in ["kit-p2", "kit-p3"] {
        site.put(&format!("apps/{name}.wasm"), &guest(name));
    }
    site
}

/// The floods' script, against the kit at `host`.
fn floods(server: &Server, host: &str, names: &[&str]) -> Option<Command> {
    let mut command = script("floods.py")?;
    command.arg(server.http.to_string()).arg(host).args(names);
    Some(command)
}

/// Runs floods one after the other: a line of figures for each.
fn figures(mut command: Command) -> Vec<Value> {
    let output = command.output().expect("run the floods");
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    lines
}

/// Memory of the process that is no file's, in KiB.
fn memory(server: &Server) -> u64 {
    server.memory("RssAnon:") >> 10
}

/// A client that asks again and again until it is stopped: how often, and its longest wait.
fn good_client(
    server: &Arc<Server>,
) -> (Arc<AtomicBool>, tokio::task::JoinHandle<(usize, Duration)>) {
    let stop = Arc::new(AtomicBool::new(false));
    let (server, stopped) = (Arc::clone(server), Arc::clone(&stop));
    let client = tokio::spawn(async move {
        let (mut count, mut longest) = (0, Duration::ZERO);
        while !stopped.load(Relaxed) {
            let begun = Instant::now();
            let reply = get(&server, "p3.test", "/hello").await.expect("an answer");
            assert_eq!(reply.text(), "hello world\n");
            (count, longest) = (count + 1, longest.max(begun.elapsed()));
            sleep(Duration::from_millis(5)).await;
        }
        (count, longest)
    });
    (stop, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_flood_ends_its_own_connection_and_no_other() {
    let site = site(64);
    let server = Arc::new(site.start());
    let names: Vec<_> = FLOODS.iter().map(|(name, ..)| *name).collect();
    if floods(&server, "p2.test", &[]).is_none() {
        return;
    }
    get(&server, "p2.test", "/hello").await.expect("an answer");
    let (stop, good) = good_client(&server);
    // What the instances that the floods set to work take is theirs, and stays for the rounds that follow.
    let mut rounds = vec![];
    for _ in 0..times(1, 10) + 1 {
        let command = floods(&server, "p2.test", &names).expect("Python");
        let flooded = tokio::task::spawn_blocking(move || figures(command));
        rounds.push((flooded.await.expect("no panic"), memory(&server)));
    }
    stop.store(true, Relaxed);
    let (asked, longest) = good.await.expect("the good client was hurt");

    let count = rounds.len();
    for (row, (name, (most, per_second), counted)) in FLOODS.iter().enumerate() {
        let of =
            |figure: &'static str| rounds.iter().map(move |(round, _)| round[row][figure].clone());
        let sent = of("sent").filter_map(|sent| sent.as_u64()).max().unwrap_or(u64::MAX);
        let seconds = of("seconds").filter_map(|took| took.as_f64()).fold(0.0, f64::max);
        let allowed = most + ON_ITS_WAY + per_second * seconds.ceil() as u64;
        let ended = of("ended").all(|ended| ended == true);
        let calm = counted.is_none() || of("goaway").all(|code| code == CALM);
        Shown {
            part: PART,
            tried: name,
            times: count,
            bound: &format!(
                "ended within {most} frames, {per_second} a second, {ON_ITS_WAY} on their way"
            ),
        }
        .holds(format!("{sent} sent in {seconds} s"), ended && calm && sent <= allowed);
        if let Some(counted) = counted {
            let line = server.wait_for_log(&format!("a limit was reached limit={counted}"));
            assert!(line.contains("WARN"), "{line}");
        }
    }
    let (first, last) = (rounds[0].1, rounds[count - 1].1);
    Shown {
        part: PART,
        tried: "memory, after each round of all floods",
        times: count,
        bound: "flat",
    }
    .holds(
        format!("{first} KiB after the first, {last} KiB after the last"),
        last < first + (8 << 10),
    );
    Shown {
        part: PART,
        tried: "another client meanwhile",
        times: asked,
        bound: "each is answered",
    }
    .holds(format!("all answered, the slowest in {longest:?}"), longest < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_use_is_no_flood() {
    let site = site(64);
    let server = site.start();
    for host in ["p2.test", "p3.test"] {
        let names = ["streaming", "typing", "browsing", "library"];
        let Some(command) = floods(&server, host, &names) else { return };
        let used = tokio::task::spawn_blocking(move || figures(command)).await.expect("no panic");
        for figures in used {
            let name = figures["name"].as_str().expect("a name");
            Shown {
                part: PART,
                tried: &format!("use: {name}, {host}"),
                times: 1,
                bound: "not ended",
            }
            .holds(&figures["sent"], figures["ended"] == false && figures["goaway"].is_null());
        }
    }
    assert_eq!(server.logged("a limit was reached"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn very_many_requests_on_few_connections_are_no_flood() {
    let site = site(64);
    let server = site.start();
    let requests = times(20_000, 400_000);
    for host in ["p2.test", "p3.test"] {
        let mut h2load = Command::new("h2load");
        h2load.args(["-c", "4", "-m", "100", "-n", &requests.to_string(), "-H"]);
        h2load.arg(format!(":authority: {host}")).arg(format!("http://{}/hello", server.http));
        let output = match tokio::task::spawn_blocking(move || h2load.output()).await {
            Ok(Ok(output)) => output,
            _ => return missing("h2load", "it is not installed (Debian: nghttp2-client)"),
        };
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find(|line| line.starts_with("requests:")).unwrap_or_default();
        let done = line.contains(&format!(" {requests} succeeded, 0 failed, 0 errored"));
        Shown {
            part: PART,
            tried: &format!("use: h2load -c 4 -m 100, {host}"),
            times: requests,
            bound: "all succeed",
        }
        .holds(line, done);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_reads_hold_little_memory() {
    for host in ["p2.test", "p3.test"] {
        // Each on a server of its own, as memory that was used once is kept for the next.
        let names = ["unread-socket", "unread-wide", "unread-windows", "unread-answers"];
        for name in &names[..times(2, 4)] {
            // The guests' own buffers, which are the app's memory: p3's copy what they write.
            let guests = match (*name, host) {
                ("unread-wide", "p2.test") => 128 * 64,
                ("unread-wide", _) => 128 * 192,
                _ => 0,
            };
            let site = site(128);
            let server = site.start();
            // The instances are there already: what they take is not the connection's.
            warm(&server, host).await;
            let before = memory(&server);
            let Some(command) = floods(&server, host, &[*name]) else { return };

            let _held = Held::new(command);

            let (mut most, end) = (0, Instant::now() + Duration::from_secs(2));
            while Instant::now() < end {
                most = most.max(memory(&server).saturating_sub(before));
                sleep(Duration::from_millis(50)).await;
            }
            Shown {
                part: PART,
                tried: &format!("{name}, 128 streams, {host}"),
                times: 1,
                bound: &format!("8 MiB a connection, and {guests} KiB of the guests' own"),
            }
            .holds(format!("{most} KiB"), most <= UNREAD_MAX + guests);
            assert!(most > 0, "{name} of {host} held nothing");
            get(&server, host, "/hello").await.expect("another client is answered");
        }
    }
}

/// Has as many instances made as 128 requests at once take.
async fn warm(server: &Server, host: &str) {
    let all = (0..128).map(|_| get(server, host, "/sleep?ms=500"));
    for reply in futures_util::future::join_all(all).await {
        assert_eq!(reply.expect("an answer").status, 200);
    }
}

/// A flood that holds what it has until it is dropped.
struct Held(Child);

impl Held {
    /// Returns once all requests are sent.
    fn new(mut command: Command) -> Held {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("run the flood");
        let stdout = child.stdout.take().expect("its output");
        let line = BufReader::new(stdout).lines().next();
        assert!(line.is_some_and(|line| line.is_ok_and(|line| line.contains("128"))));
        Held(child)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
