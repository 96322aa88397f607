//! Profiles of guest code, as the Firefox profiler reads them.

use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate::config::Limits;

use crate::support::client::{Reply, answer, get};
use crate::support::pool;
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

/// The function that was computing in most samples, of all threads together.
fn hottest(profile: &Value) -> String {
    let mut found = std::collections::BTreeMap::new();
    for thread in profile["threads"].as_array().expect("threads") {
        let number = |table: &str, column: &str, row: &Value| {
            let row = row.as_u64().expect("a row") as usize;
            thread[table][column][row].clone()
        };
        for stack in thread["samples"]["stack"].as_array().expect("samples") {
            let function = number("frameTable", "func", &number("stackTable", "frame", stack));
            let name = number("funcTable", "name", &function).as_u64().expect("a name") as usize;
            let strings = thread["stringArray"].as_array();
            let strings = strings.or(profile["shared"]["stringArray"].as_array());
            let name = strings.expect("strings")[name].as_str().expect("a string").to_owned();
            *found.entry(name).or_insert(0) += 1;
        }
    }
    let hottest = found.into_iter().max_by_key(|(_, samples)| *samples);
    hottest.expect("a sample").0
}

/// The id of the last of so many requests to `host`, by the access log.
fn last_id(server: &Server, host: &str, requests: usize) -> String {
    let lines = || server.logged(&format!(" host={host} "));
    wait_until("the request is logged", || lines().len() >= requests);
    let line = lines().swap_remove(requests - 1);
    line.rsplit_once("request=").expect("an id").1.to_owned()
}

/// The id of a request that failed.
fn id(reply: &Reply) -> String {
    reply.headers["x-request-id"].to_str().expect("an id").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_requests_the_slow_ones_are_kept_and_name_what_made_them_slow() {
    let profile = r#"interval = "1ms", sample = "1/1", when = "slow", over = "250ms""#;
    let (site, server) = site(profile, "5s", "");
    for (app, host) in [("p2", "p2.test"), ("p3", "p3.test")] {
        let mut slow = Vec::new();
        for number in 1..=500 {
            let reply = get(&server, host, "/tail?every=100&ms=500").await.expect("an answer");
            if reply.body == "found at last\n" {
                slow.push(last_id(&server, host, number));
            }
        }
        assert!((3..=5).contains(&slow.len()), "{app}: {slow:?}");

        let own = || names(&site).into_iter().filter(|name| name.starts_with(&format!("{app}-1-")));
        for request in slow {
            let is_its = |name: &String| name.ends_with(&format!("-{request}.json"));
            // While the instance still serves.
            wait_until("its profile is written", || own().any(|name| is_its(&name)));
            let name = own().find(is_its).expect("there it is");
            let profile = read(&site, &name);
            assert!(hottest(&profile).contains("slow_lookup"), "{name}: {}", hottest(&profile));
            let track = profile["threads"][0]["name"].as_str().expect("a name");
            assert!(track.starts_with(&format!("request {request}, slow, ")), "{track}");
            assert!(fs::metadata(site.path("profiles").join(&name)).unwrap().len() < 100 << 10);

            let kept = server.wait_for_log(&format!("request={request} why="));
            for part in ["kept a profile", &format!("app={app} "), "why=slow", &name] {
                assert!(kept.contains(part), "{part} is not in {kept}");
            }
        }
        // A machine that stands still makes others slow as well.
        assert!(own().count() <= 10, "{:?}", names(&site));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_requests_that_fail_those_that_computed_are_kept() {
    let (site, mut server) = site("sample = \"1/1\", when = \"failed\"", "5s", "");
    let mut expected = Vec::new();
    for (app, host) in [("p2", "p2.test"), ("p3", "p3.test")] {
        // The guest's own failure is an answer as any other.
        for (path, status) in [("/status?code=500", 500), ("/hello", 200)] {
            let reply = get(&server, host, path).await.expect("an answer");
            assert_eq!(reply.status, status, "{app}");
        }
        for (path, status, function) in [
            ("/trap", 502, "handle"),
            ("/spin?ms=0", 504, "spin"),
            ("/stack", 502, "consume_stack"),
        ] {
            let reply = get(&server, host, path).await.expect("an answer");
            assert_eq!(reply.status, status, "{app}{path}");
            expected.push((app, id(&reply), function));
        }
    }
    server.signal(libc::SIGTERM);
    server.exit();

    let names = names(&site);
    assert_eq!(names.len(), expected.len(), "{names:?}");
    for (app, request, function) in expected {
        let its = |name: &&String| {
            name.starts_with(&format!("{app}-1-")) && name.ends_with(&format!("-{request}.json"))
        };
        let name = names.iter().find(its).unwrap_or_else(|| panic!("{request} in {names:?}"));
        let functions = functions_of_samples(&read(&site, name));
        assert!(functions.iter().any(|(name, _)| name.contains(function)), "{functions:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_always_fails_does_not_fill_the_disk() {
    let (site, mut server) = site("sample = \"1/1\", when = [\"slow\", \"failed\"]", "5s", "");
    let began = Instant::now();
    for _ in 0..60 {
        assert_eq!(get(&server, "p2.test", "/trap").await.expect("an answer").status, 502);
    }
    let seconds = began.elapsed().as_secs() as usize;
    server.wait_for_log("limit=profile.kept");
    server.signal(libc::SIGTERM);
    server.exit();
    let kept = names(&site).len();
    assert!((10..=11 + seconds).contains(&kept), "{kept} in {seconds} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demand_samples_the_instances_that_run() {
    for kit in ["kit-p2", "kit-p3"] {
        let limits = Limits { max_instances: NonZeroUsize::MIN, ..pool::limits() };
        let (pool, _tasks) = pool::pool(kit, limits);
        let spin = async |ms: u32| {
            let path = format!("/spin?ms={ms}");
            pool::text(pool.handle(pool::get(&path)).await).await.0
        };
        // Nobody asks: nothing is kept of this.
        assert_eq!(spin(50).await, 200);

        let collecting = pool.demand().begin().expect("the first");
        assert!(pool.demand().begin().is_err(), "one at a time");
        assert_eq!(spin(300).await, 200);
        let profile = collecting.finish().json(kit).expect("JSON");
        let profile: Value = serde_json::from_slice(&profile).expect("JSON");
        assert!(hottest(&profile).contains("spin"), "{kit}: {}", hottest(&profile));
        assert_eq!(profile["threads"][0]["name"], "instance 1 of generation 1", "{kit}");
        let samples = profile["threads"][0]["samples"]["length"].as_u64().expect("a number");
        // 300 at best; this machine may be busy. With those from before it would be more.
        assert!((3..=320).contains(&samples), "{kit}: {samples}");

        // A client that leaves takes its demand with it.
        drop(pool.demand().begin().expect("the first has ended"));
        let nothing = pool.demand().begin().expect("the second has ended").finish();
        let nothing = nothing.json(kit).expect("JSON");
        let nothing: Value = serde_json::from_slice(&nothing).expect("JSON");
        assert_eq!(nothing["threads"][0]["samples"]["length"], 0, "{kit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn perf_is_told_which_function_is_where() {
    // From the cache, so the code was compiled by a process that knew nothing of perf.
    let site = Site::usual();
    let mut command = site.command();
    command.arg("--perfmap");
    let server = Server::spawn(command);
    assert_eq!(server.logged("loaded compiled code").len(), 3, "{:?}", server.log());
    let path = PathBuf::from(format!("/tmp/perf-{}.map", server.pid()));
    let map = fs::read_to_string(&path).expect("the map");
    drop(server);
    fs::remove_file(path).expect("remove the map");

    let lines: Vec<_> = map.lines().filter(|line| line.contains("misbehave::spin")).collect();
    assert!(lines.len() >= 2, "one for each kit: {lines:?}");
    for line in lines {
        let mut parts = line.split(' ');
        let address = parts.next().and_then(|part| part.strip_prefix("0x"));
        let numbers =
            [address, parts.next()].map(|part| part.map(|hex| u64::from_str_radix(hex, 16)));
        assert!(numbers.iter().all(|number| matches!(number, Some(Ok(1..)))), "{line}");
    }
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
        assert!(samples > 5, "{app}: {functions:?}");
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
