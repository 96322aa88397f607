//! What is logged of requests and guests, how much of it is kept, and that a full disk stops nobody.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::client::{Version, get, get_tls, post};
use crate::support::connection::{Connection, Transport};
use crate::support::holds::{Shown, times};
use crate::support::pool::guest;
use crate::support::server::{Server, Site, USUAL, wait_until};

/// The usual site, with `[log]` tables.
fn site(log: &str) -> Site {
    let site = Site::new(&format!("[log]\n{log}\n{USUAL}"));
    for name in ["hello", "kit-p2", "kit-p3"] {
        site.put(&format!("apps/{name}.wasm"), &guest(name));
    }
    site
}

/// The lines of all log files.
fn file_lines(site: &Site) -> Vec<String> {
    let Ok(files) = fs::read_dir(site.path("logs")) else { return Vec::new() };
    files
        .flat_map(|file| {
            let text = fs::read_to_string(file.expect("an entry").path()).unwrap_or_default();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

/// Waits for a line with all of `wanted` in the log files.
fn wait_for_line(site: &Site, wanted: &[&str]) -> String {
    let find =
        || file_lines(site).into_iter().find(|line| wanted.iter().all(|it| line.contains(it)));
    wait_until(&format!("there is a line with {wanted:?}"), || find().is_some());
    find().expect("it was there")
}

/// The fields of a line of text.
fn fields(line: &str) -> BTreeMap<&str, &str> {
    line.split(' ').filter_map(|word| word.split_once('=')).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_has_a_line_of_text() {
    let site = Site::usual();
    let server = site.start();

    get_tls(&site, &server, "p2.test", "/hello?secret=1", Version::H2).await.expect("a reply");

    let line = server.wait_for_log("access");
    let (time, _) = line.split_once(' ').expect("a time");
    assert!(time.len() == 24 && time.ends_with('Z') && time.starts_with("20"), "{line}");
    let fields = fields(&line);
    for (name, value) in [
        ("client", "127.0.0.1"),
        ("host", "p2.test"),
        ("method", "GET"),
        ("path", "/hello"),
        ("status", "200"),
        ("bytes", "12"),
        ("app", "p2"),
        ("generation", "1"),
    ] {
        assert_eq!(fields.get(name), Some(&value), "{name} in {line}");
    }
    assert!(fields["duration"].parse::<f64>().expect("seconds") < 60.0);
    assert!(fields["instance"].parse::<u64>().is_ok(), "{line}");
    assert_eq!(fields["request"].len(), 16, "{line}");
    assert!(!line.contains("secret") && !line.contains("cut"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_has_a_line_of_json_whatever_becomes_of_it() {
    let site = site("format = \"json\"\ndir = \"logs\"");
    let server = site.start();
    let find = |path: &str| -> Value {
        let line = wait_for_line(&site, &["\"access\"", &format!("\"path\":\"{path}\"")]);
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"))
    };

    get(&server, "p3.test", "/hello").await.expect("a reply");
    let line = find("/hello");
    assert_eq!(line["status"], 200);
    assert_eq!(line["bytes"], 12);
    assert_eq!((&line["app"], &line["host"]), (&"p3".into(), &"p3.test".into()));
    assert!(line["duration"].is_f64() && line["instance"].is_u64(), "{line}");

    let reply = get(&server, "nobody.test", "/lost").await.expect("a reply");
    let line = find("/lost");
    assert_eq!((&line["status"], &line["app"]), (&404.into(), &Value::Null));
    assert_eq!(line["request"], reply.headers["x-request-id"].to_str().expect("text"));

    get(&server, "p2.test", "/never-answer").await.expect("a reply");
    assert_eq!(find("/never-answer")["status"], 504);

    get(&server, "p2.test", "/trap-after-head").await.expect_err("a body that is cut");
    let line = find("/trap-after-head");
    assert_eq!((&line["status"], &line["cut"]), (&200.into(), &true.into()), "{line}");

    // A client that leaves before there is an answer; a request answered meanwhile says that its own has begun.
    let mut io = TcpStream::connect(server.http).await.expect("connect");
    io.write_all(b"GET /sleep?ms=1000 HTTP/1.1\r\nhost: p2.test\r\n\r\n").await.expect("send");
    get(&server, "p2.test", "/version").await.expect("a reply");
    drop(io);
    assert_eq!(find("/sleep")["status"], 499);

    // With files, standard error has the program's own lines alone.
    assert!(!server.log().iter().any(|line| line.contains("\"access\"")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_guests_write_is_logged_with_whose_it_is() {
    let site = Site::usual();
    let server = site.start();

    for (app, host) in [("p2", "p2.test"), ("p3", "p3.test")] {
        get(&server, host, "/log?bytes=20000&lines=1").await.expect("a reply");

        let of = |stream: &str| -> Vec<String> {
            let lines = server.log();
            let of = |line: &&String| {
                line.contains(" guest ")
                    && line.contains(&format!("app={app}"))
                    && line.contains(&format!("stream={stream}"))
            };
            lines.iter().filter(of).cloned().collect()
        };
        wait_until("the guest's lines are there", || {
            of("stdout").len() >= 3 && !of("stderr").is_empty()
        });
        let request = server.wait_for_log(&format!("host={host}"));
        for line in of("stdout").iter().chain(&of("stderr")) {
            let (line, access) = (fields(line), fields(&request));
            assert_eq!(line["instance"], access["instance"]);
            assert_eq!(line["generation"], "1");
            assert_eq!(line["request"], access["request"], "{app}");
        }
        let lengths: Vec<_> = of("stdout").iter().map(|line| line.matches('x').count()).collect();
        assert_eq!(lengths, [8192, 8192, 20000 - 2 * 8192]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_files_stay_within_their_size() {
    const MAX: u64 = 64 * 1024;
    let site = site("dir = \"logs\"\nmax_total_size = \"64KiB\"\nkeep = 3");
    let server = site.start();
    let size = || -> u64 {
        let files = fs::read_dir(site.path("logs")).expect("logs/");
        files.map(|file| file.expect("an entry").metadata().map_or(0, |meta| meta.len())).sum()
    };

    for _ in 0..40 {
        get(&server, "p2.test", "/log?bytes=8000").await.expect("a reply");
    }

    wait_until("the files are within their size", || size() <= MAX);
    wait_until("the one that is written to and three more are left", || {
        fs::read_dir(site.path("logs")).expect("logs/").count() <= 4
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_no_request_and_the_loss_is_told() {
    let site = site("dir = \"logs\"\nrotation = \"never\"");
    fs::create_dir(site.path("logs")).expect("make logs/");
    // A file that can be opened and on which no byte has room.
    symlink("/dev/full", site.path("logs/tidegate.log")).expect("link");
    let server = site.start();

    let asked = AtomicUsize::new(0);
    let ask = async |server: &Server| {
        asked.fetch_add(1, Relaxed);
        get(server, "hello.test", "/").await.expect("a reply").status
    };
    for _ in 0..20 {
        assert_eq!(ask(&server).await, 200);
    }
    server.wait_for_log("log lines are lost");
    assert_eq!(ask(&server).await, 200);

    fs::remove_file(site.path("logs/tidegate.log")).expect("make room");
    wait_until("there are lines again", || {
        tokio::task::block_in_place(|| {
            let status = tokio::runtime::Handle::current().block_on(ask(&server));
            assert_eq!(status, 200);
        });
        !file_lines(&site).is_empty()
    });
    let line = wait_for_line(&site, &["log lines were lost"]);
    let lost: usize = fields(&line)["lines"].parse().expect("a count");
    // Some may have been in the queue still when there was room again.
    wait_until("each request has a line that is written or counted as lost", || {
        let written = file_lines(&site).iter().filter(|line| line.contains("access")).count();
        lost > 0 && lost + written >= asked.load(Relaxed)
    });
    post(&server, "p2.test", "/echo", "still here").await.expect("a reply");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_may_not_grow_stop_no_request() {
    let site = site("dir = \"logs\"\nrotation = \"never\"");
    let server = site.start();
    let pid = i32::try_from(server.pid()).expect("a process id");
    let limit = libc::rlimit { rlim_cur: 8192, rlim_max: 8192 };
    // SAFETY: it reads a valid limit and writes nothing.
    let limited =
        unsafe { libc::prlimit(pid, libc::RLIMIT_FSIZE, &raw const limit, std::ptr::null_mut()) };
    assert_eq!(limited, 0, "limit the size of files");

    for _ in 0..100 {
        assert_eq!(get(&server, "hello.test", "/").await.expect("a reply").status, 200);
    }

    server.wait_for_log("log lines are lost");
    assert_eq!(get(&server, "p3.test", "/hello").await.expect("a reply").status, 200);
}

/// A site where `loud` is one guest, and `quiet` another whose lines must all be there.
fn loud_and_quiet(kit: &str) -> Site {
    let site = Site::new(&format!(
        r#"[log]
dir = "logs"
format = "json"
max_total_size = "64MiB"
keep = 1000

[defaults]
max_instances = 8
request_timeout = "60s"

[apps.loud]
component = "apps/{kit}.wasm"

[apps.quiet]
component = "apps/{kit}.wasm"
log_rate = 100000
log_burst = 100000

[hosts]
"loud.test" = "loud"
"quiet.test" = "quiet"
"#
    ));
    site.put(&format!("apps/{kit}.wasm"), &guest(kit));
    site
}

/// The lines of one app with this target.
fn of_app<'a>(lines: &'a [Value], app: &str, target: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["app"] == app && line["target"] == target).collect()
}

/// The log files, of which each line must be JSON.
fn json_lines(site: &Site) -> Vec<Value> {
    let parse =
        |line: &String| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    file_lines(site).iter().map(parse).collect()
}

/// How often `app` reached a limit, as the log tells.
fn told(lines: &[Value], app: &str, limit: &str) -> u64 {
    let of_limit = lines.iter().filter(|line| line["app"] == app && line["limit"] == limit);
    of_limit.map(|line| line["times"].as_u64().expect("a number")).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_writes_without_end_costs_another_no_line() {
    const LINE: usize = 1 << 20;
    // Each is cut into so many.
    const PIECES: usize = LINE / 8192;
    const CLIENTS: usize = 8;
    for kit in ["kit-p2", "kit-p3"] {
        let site = loud_and_quiet(kit);
        let server = Arc::new(site.start());
        let lines = times(100, 1_000);

        let begun = Instant::now();
        let path = format!("/log?bytes={LINE}&lines={lines}");
        let mut loud = JoinSet::new();
        for _ in 0..CLIENTS {
            let (server, path) = (Arc::clone(&server), path.clone());
            loud.spawn(
                async move { get(&server, "loud.test", &path).await.expect("a reply").status },
            );
        }
        let mut asked = 0;
        while loud.try_join_next().is_none() || asked < 50 {
            let reply = get(&server, "quiet.test", "/log?bytes=30").await.expect("a reply");
            assert_eq!(reply.status, 200);
            asked += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        while let Some(status) = loud.join_next().await {
            assert_eq!(status.expect("a client"), 200);
        }
        let elapsed = begun.elapsed();

        // A line of each request of its own comes from stdout, and one from stderr.
        let written = (CLIENTS * (lines * PIECES + 1)) as u64;
        wait_until("all of it is logged or counted", || {
            let lines = json_lines(&site);
            of_app(&lines, "loud", "guest").len() as u64 + told(&lines, "loud", "log_rate")
                == written
                && of_app(&lines, "quiet", "access").len() >= asked
        });
        let logged = json_lines(&site);
        let quiet = of_app(&logged, "quiet", "guest").len();
        let loud = of_app(&logged, "loud", "guest").len();
        let allowed = 1000 + 100 * (elapsed.as_secs() as usize + 2);
        let size: u64 = fs::read_dir(site.path("logs"))
            .expect("logs/")
            .map(|file| file.expect("an entry").metadata().map_or(0, |meta| meta.len()))
            .sum();
        let rate = (CLIENTS * lines * LINE) as f64 / 1e6 / elapsed.as_secs_f64();
        Shown {
            part: "Tenants: Logs",
            tried: &format!("8 requests of one app write lines of 1 MiB, another app's lines ({kit})"),
            times: CLIENTS * lines,
            bound: "none of the other's lost; the first's at its log_rate, the rest counted; files within max_total_size",
        }
        .holds(
            format!(
                "{rate:.0} MB/s written; {quiet} of {} lines of the other; {loud} lines of the first, at most {allowed} allowed; {} KiB of files",
                asked * 2,
                size >> 10
            ),
            quiet == asked * 2 && loud <= allowed && size <= 64 << 20,
        );
        assert!(
            !logged
                .iter()
                .any(|line| line["message"].as_str().unwrap_or("").contains("log lines were"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_always_fails_fills_no_log() {
    for kit in ["kit-p2", "kit-p3"] {
        let site = loud_and_quiet(kit);
        let server = site.start();
        let transport = Transport::plain(&server);
        let begun = Instant::now();
        let mut failing = Connection::open(&transport, "loud.test").await.expect("connect");
        let (requests, mut asked) = (times(500, 10_000), 0);
        for number in 0..requests {
            assert_eq!(failing.get("/trap").await.expect("a reply").status, 502);
            if number % 10 == 0 {
                get(&server, "quiet.test", "/log?bytes=30").await.expect("a reply");
                asked += 1;
            }
        }
        let allowed = 100 + 10 * (begun.elapsed().as_secs() as usize + 2);

        let warnings = |lines: &[Value]| {
            let is_warning = |line: &&Value| {
                line["app"] == "loud" && line["limit"].is_null() && line["level"] == "WARN"
            };
            lines.iter().filter(is_warning).count()
        };
        // One says what the guest did, another what became of its request.
        wait_until("each failure is logged or counted", || {
            let lines = json_lines(&site);
            warnings(&lines) as u64 + told(&lines, "loud", "warnings") == 2 * requests as u64
                && of_app(&lines, "quiet", "access").len() == asked
        });
        let lines = json_lines(&site);
        let (warned, quiet) = (warnings(&lines), of_app(&lines, "quiet", "guest").len());
        let first = lines.iter().find(|line| line["app"] == "loud" && line["level"] == "WARN");
        let backtrace = first.and_then(|line| line["backtrace"].as_str()).unwrap_or_default();
        assert!(backtrace.contains("wasm backtrace"), "{first:?}");
        Shown {
            part: "Tenants: Logs",
            tried: &format!("an app traps in each request, another app's lines ({kit})"),
            times: requests,
            bound: "a warning each at first, 10 a second then, the rest counted; none of the other's lines lost",
        }
        .holds(
            format!("{warned} warnings, at most {allowed} allowed; {quiet} of {} lines of the other", asked * 2),
            warned <= allowed && quiet == asked * 2,
        );
    }
}
