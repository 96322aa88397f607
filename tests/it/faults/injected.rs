//! Calls that fail with EMFILE, EIO and EINTR: in a server that runs, and while one starts.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::not_tested;
use super::strace::{ACCEPT, Fault, OPEN, RENAME, SYNC, WRITE, attach, command, injected, missing};
use crate::support::client::{answer, get, until_answer};
use crate::support::connection::{Connection, Transport};
use crate::support::holds::{Shown, times};
use crate::support::server::{PATIENCE, Server, Site, hello_version, wait_until};

const ERRORS: [&str; 3] = ["EMFILE", "EIO", "EINTR"];

const STATE: [&str; 2] = ["state/ca", "state/cache"];

/// A small site that writes logs, profiles and compiled code.
fn site() -> Site {
    let site = Site::new(
        r#"[log]
dir = "logs"
rotation = "never"

[defaults]
max_requests_per_instance = 1
profile = { interval = "1ms", sample = "1/1", dir = "profiles" }

[apps.hello]
component = "apps/hello.wasm"

[hosts]
"hello.test" = "hello"
"#,
    );
    site.put("apps/hello.wasm", &hello_version(0));
    site
}

/// Everything that was begun under another name and is still there.
fn leftovers(site: &Site, folders: &[&str]) -> Vec<String> {
    let folders = folders.iter().map(|dir| fs::read_dir(site.path(dir)));
    let names = folders.flatten().flatten().flatten().map(|entry| entry.file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.contains("tmp")).collect()
}

async fn serves(server: &Server) {
    let reply = timeout(PATIENCE, get(server, "hello.test", "/")).await.expect("a reply in time");
    assert_eq!(reply.expect("a reply").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn accepting_goes_on_after_any_error() {
    if let Some(reason) = missing() {
        return not_tested("calls that fail", reason);
    }
    let site = site();
    let server = site.start();
    let mut kept =
        Connection::open(&Transport::plain(&server), "hello.test").await.expect("connect");
    let mut tried = 0;
    for error in ERRORS {
        for when in ["1", "1..5", "2+2"] {
            let failing = attach(&site, &server, Fault { calls: ACCEPT, error, when }, &[]);
            for _ in 0..times(3, 30) {
                serves(&server).await;
                assert_eq!(kept.get("/").await.expect("the same connection").status, 200);
            }
            drop(failing);
            assert!(injected(&site) > 0, "{error} {when}: nothing failed");
            tried += injected(&site);
        }
        // None succeeds: that must not keep a core busy.
        let failing = attach(&site, &server, Fault { calls: ACCEPT, error, when: "1+" }, &[]);
        if error != "EINTR" {
            let waits = tokio::spawn(tokio::net::TcpStream::connect(server.http));
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(injected(&site) < 200, "{error}: {} in a second", injected(&site));
            assert_eq!(kept.get("/").await.expect("the same connection").status, 200);
            drop(waits);
        }
        drop(failing);
        serves(&server).await;
    }
    server.wait_for_log("cannot accept connections for now");
    Shown {
        part: "Faults",
        tried: "EMFILE, EIO and EINTR from accept4: the first, five in a row, every second",
        times: tried,
        bound: "every client is served, open connections notice nothing, no core spins",
    }
    .holds("all of them", true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_survives_files_that_cannot_be_opened_written_or_renamed() {
    if let Some(reason) = missing() {
        return not_tested("calls that fail", reason);
    }
    let site = site();
    let mut server = site.start();
    let log = [site.path("logs/tidegate.log")];
    let mut version = 0;
    let mut tried = 0;
    for (calls, paths) in [(OPEN, &[][..]), (WRITE, &log[..]), (SYNC, &[]), (RENAME, &[])] {
        for error in ERRORS {
            for when in ["1", "2..4", "1+"] {
                if (error, when) == ("EINTR", "1+") {
                    // A call that is interrupted for ever is repeated for ever.
                    continue;
                }
                let fault = Fault { calls, error, when };
                let failing = attach(&site, &server, fault, paths);
                version += 1;
                site.put("apps/hello.wasm", &hello_version(version));
                for _ in 0..times(10, 100) {
                    serves(&server).await;
                }
                // Calls are counted in each thread by itself, so it may take some.
                let end = Instant::now() + PATIENCE;
                while injected(&site) == 0 {
                    assert!(Instant::now() < end, "{fault}: none failed");
                    serves(&server).await;
                }
                tried += injected(&site);
                drop(failing);
                // What was missed meanwhile is found.
                until_answer(&server, "hello.test", "/version", &format!("200 {version:08}")).await;
            }
        }
    }
    assert_eq!(server.logged("panicked"), [""; 0]);
    server.wait_for_log("log lines are lost: Input/output error");
    wait_until("nothing torn is left", || {
        leftovers(&site, &STATE).is_empty() && leftovers(&site, &["profiles"]).is_empty()
    });
    server.signal(libc::SIGTERM);
    assert_eq!(server.exit().code(), Some(0));
    serves(&site.start()).await;
    Shown {
        part: "Faults",
        tried: "EMFILE, EIO and EINTR from openat, write, fsync and rename in a server that runs and takes a change",
        times: tried,
        bound: "every request answered, the change taken in the end, nothing torn left",
    }
    .holds("all of it", true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_calls_that_fail_serves_or_says_why_not() {
    if let Some(reason) = missing() {
        return not_tested("calls that fail", reason);
    }
    let site = site();
    serves(&site.start()).await;
    let root = site.root();
    let code = fs::read_dir(site.path("state/cache")).expect("the cache").flatten();
    let code: Vec<PathBuf> = code.map(|entry| entry.path()).collect();

    let ca = site.path("state/ca");
    let key = site.path("state/cache.key");
    let unfinished = |path: &PathBuf| {
        (0..4).map(|number| path.with_extension(format!("tmp-PID-{number:x}"))).collect::<Vec<_>>()
    };
    let opened = [
        vec![site.manifest()],
        vec![site.path("logs/tidegate.log")],
        vec![site.path("apps/hello.wasm")],
        vec![ca.join("root.pem")],
        vec![ca.join("root.crt")],
        vec![ca.join("root.PID.tmp")],
        vec![ca.clone()],
        vec![key.clone()],
        code.clone(),
        code.iter().chain([&key]).flat_map(unfinished).collect(),
    ];
    let [.., new_root, _, _, _, new_code] = &opened;
    let written = [vec![site.path("logs/tidegate.log")], new_root.clone(), new_code.clone()];
    let placed = [new_root.clone(), new_code.clone()];
    let mut cases = Vec::new();
    for (calls, groups) in
        [(OPEN, &opened[..]), (WRITE, &written), (SYNC, &placed), (RENAME, &placed)]
    {
        for paths in groups {
            for error in ERRORS {
                for when in ["1", "2", "1+"] {
                    // Both with what earlier starts left, and without.
                    for first in [true, false] {
                        cases.push((Fault { calls, error, when }, paths, first));
                    }
                }
            }
        }
    }
    cases.retain(|(fault, ..)| (fault.error, fault.when) != ("EINTR", "1+"));

    let step = (cases.len() / times(16, cases.len())).max(1);
    let (mut served, mut refused, mut failed) = (0, 0, 0);
    for (fault, paths, first) in cases.iter().step_by(step) {
        if *first {
            fs::remove_dir_all(site.path("state")).expect("remove the state");
        }
        let known = (!first).then(|| site.root());
        let what = format!("{fault}, of {paths:?}, first: {first}");
        match Server::try_spawn(command(&site, *fault, paths)) {
            Ok(server) => {
                served += 1;
                let status = answer(&server, "hello.test", "/").await;
                // A component that could not be read when it started is looked at again.
                if !status.starts_with("200") {
                    assert!(status.starts_with("503"), "{what}: {status}");
                    assert!(!server.complaints().is_empty(), "{what}");
                }
                assert_eq!(server.logged("panicked"), [""; 0], "{what}");
            }
            Err((status, log)) => {
                refused += 1;
                assert!(matches!(status.code(), Some(1 | 78)), "{what}: {status}\n{log}");
                let reasons =
                    ["Too many open files", "Input/output error", "Interrupted system call"];
                assert!(reasons.iter().any(|reason| log.contains(reason)), "{what}:\n{log}");
                assert!(log.contains("cannot") && !log.contains("panicked"), "{what}:\n{log}");
            }
        }
        failed += injected(&site);
        let server = site.start();
        serves(&server).await;
        if let Some(known) = known {
            assert_eq!(site.root(), known, "{what}");
        }
        assert_eq!(server.logged("cannot be used"), [""; 0], "{what}");
        assert_eq!(leftovers(&site, &STATE), [""; 0], "{what}");
    }
    assert!(failed > 0 && served > 0 && refused > 0);
    assert!(root.contains("CERTIFICATE"));
    Shown {
        part: "Faults",
        tried: "EMFILE, EIO and EINTR from openat, write, fsync and rename while it starts",
        times: served + refused,
        bound: "it serves, or ends with a status and the reason; the next start serves with the same root",
    }
    .holds(format!("{served} served, {refused} said why not; {failed} calls failed"), true);
}
