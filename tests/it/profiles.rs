//! Profiles of guest code, as the Firefox profiler reads them.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::client::{answer, get};
use crate::support::server::{Server, Site, USUAL, wait_until};

/// The usual site's request_timeout.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The usual site with profiles. `idle` is how long an instance idles before its profile is written.
fn site(profile: &str, idle: &str, extra: &str) -> (Site, Server) {
    let site = Site::usual();
    let defaults = format!("[defaults]\nprofile = {{ dir = \"profiles\", {profile} }}\n{extra}");
    let text = USUAL
        .replace("[defaults]\n", &defaults)
        .replace("\nidle_timeout = \"5s\"", &format!("\nidle_timeout = \"{idle}\""));
    site.write_manifest(&text);
    let server = site.start();
    (site, server)
}

/// The profiles that are complete, by name.
fn profiles(site: &Site) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(site.path("profiles")) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    paths
}

fn names(site: &Site) -> Vec<String> {
    let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    profiles(site).into_iter().map(name).collect()
}

fn read(site: &Site, name: &str) -> Value {
    let text = fs::read(site.path("profiles").join(name)).expect("the profile");
    serde_json::from_slice(&text).expect("JSON")
}

/// Every function that occurs in a sample's stack, with the number of samples it was in.
fn functions_of_samples(profile: &Value) -> Vec<(String, usize)> {
    let mut found = std::collections::BTreeMap::new();
    for thread in profile["threads"].as_array().expect("threads") {
        let at = |table: &str, column: &str, row: u64| -> Option<u64> {
            thread[table][column][row as usize].as_u64()
        };
        for stack in thread["samples"]["stack"].as_array().expect("samples") {
            let mut stack = stack.as_u64();
            while let Some(row) = stack {
                let frame = at("stackTable", "frame", row).expect("a frame");
                let function = at("frameTable", "func", frame).expect("a function");
                let name = at("funcTable", "name", function).expect("a name") as usize;
                // Strings are a thread's own in older versions of the format, shared in newer ones.
                let strings = match &thread["stringArray"] {
                    Value::Array(strings) => strings,
                    _ => profile["shared"]["stringArray"].as_array().expect("strings"),
                };
                *found.entry(strings[name].as_str().expect("a string").to_owned()).or_insert(0) +=
                    1;
                stack = at("stackTable", "prefix", row);
            }
        }
    }
    found.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_names_the_function_that_took_the_time() {
    let (site, server) = site("interval = \"1ms\", sample = \"1/1\"", "200ms", "");
    for (app, host) in [("p2", "p2.test"), ("p3", "p3.test")] {
        assert_eq!(answer(&server, host, "/spin?ms=500").await, "200 spun");
        let name = format!("{app}-1-1.json");
        wait_until("the profile is written", || names(&site).contains(&name));

        let profile = read(&site, &name);
        assert!(profile["meta"]["version"].is_number(), "not the Firefox profiler's format");
        let functions = functions_of_samples(&profile);
        let spin = functions.iter().filter(|(name, _)| name.contains("spin"));
        let samples: usize = spin.map(|(_, samples)| *samples).sum();
        // 500 at best; this machine may be busy.
        assert!(samples > 50, "{app}: {functions:?}");
    }
    // One for each instance that served, and none for those made as proof that a component starts.
    assert_eq!(names(&site), ["p2-1-1.json", "p3-1-1.json"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_are_named_by_generation_and_kept_within_max_files() {
    let one_each = "max_requests_per_instance = 1\n";
    let (site, server) = site("sample = \"1/1\", max_files = 3", "5s", one_each);
    for _ in 0..8 {
        assert_eq!(answer(&server, "p2.test", "/hello").await, "200 hello world");
    }
    wait_until("the last is written", || names(&site).contains(&"p2-1-8.json".to_owned()));
    assert!(names(&site).len() <= 3, "{:?}", names(&site));

    site.put("apps/kit-p2.wasm", &crate::support::server::hello_version(2));
    server.wait_for_log("reloaded");
    answer(&server, "p2.test", "/").await;
    wait_until("the next is written", || names(&site).contains(&"p2-2-1.json".to_owned()));
    assert!(names(&site).len() <= 3, "{:?}", names(&site));
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_are_kept_within_max_total_size() {
    let one_each = "max_requests_per_instance = 1\n";
    let (site, server) = site("sample = \"1/1\", max_total_size = \"1MiB\"", "5s", one_each);
    for _ in 0..20 {
        assert_eq!(answer(&server, "p3.test", "/hello").await, "200 hello world");
    }
    wait_until("the last is written", || names(&site).contains(&"p3-1-20.json".to_owned()));
    let size = |path: PathBuf| fs::metadata(path).map_or(0, |meta| meta.len());
    let total: u64 = profiles(&site).into_iter().map(size).sum();
    assert!(total <= 1 << 20, "{total} bytes in {:?}", names(&site));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_instance_in_so_many_is_sampled() {
    let one_each = "max_requests_per_instance = 1\n";
    let (site, mut server) = site("sample = \"1/4\"", "5s", one_each);
    for _ in 0..9 {
        assert_eq!(answer(&server, "p2.test", "/hello").await, "200 hello world");
    }
    server.signal(libc::SIGTERM);
    server.exit();
    assert_eq!(names(&site), ["p2-1-1.json", "p2-1-5.json", "p2-1-9.json"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_profiles_are_written_before_the_exit() {
    let (site, mut server) = site("sample = \"1/1\"", "60s", "");
    for host in ["p2.test", "p3.test"] {
        assert_eq!(answer(&server, host, "/spin?ms=50").await, "200 spun");
    }
    assert_eq!(names(&site), [""; 0]);

    server.signal(libc::SIGTERM);
    assert_eq!(server.exit().code(), Some(0));

    assert_eq!(names(&site), ["p2-1-1.json", "p3-1-1.json"]);
    for name in names(&site) {
        read(&site, &name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn profiling_changes_no_timeout() {
    // Rare samples make for rare interruptions, if the two were the same.
    for interval in ["1ms", "10s"] {
        let profile = format!("interval = \"{interval}\", sample = \"1/1\"");
        let (site, server) = site(&profile, "5s", "");
        for host in ["p2.test", "p3.test"] {
            let began = Instant::now();
            let reply = get(&server, host, "/spin?ms=0").await.expect("an answer");
            let took = began.elapsed();
            assert_eq!(reply.status, 504, "{host} at {interval}");
            assert!(took >= TIMEOUT && took < 2 * TIMEOUT, "{host} at {interval}: {took:?}");
        }
        // What timed out is what one wants to see.
        wait_until("both are written", || names(&site).len() == 2);
    }
}
