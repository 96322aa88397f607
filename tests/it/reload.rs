//! Every change is taken while requests run, and a bad one changes nothing.
//!
//! How files change on disk is in `changes`, certificates are in `renewal`.

use std::time::{Duration, Instant};

use crate::support::client::{Version, answer, get, get_tls, until_answer};
use crate::support::connection::Transport;
use crate::support::pool::guest;
use crate::support::server::{Server, Site, USUAL, hello_version, wait_until};
use crate::support::traffic::Traffic;

/// Within this a change is served whose component need not be compiled.
const SOON: Duration = Duration::from_millis(300);

/// Longer than two periodic rescans.
const TWO_RESCANS: Duration = Duration::from_secs(21);

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_component_serves_without_a_restart() {
    let site = Site::usual();
    let server = site.start();
    assert_eq!(answer(&server, "hello.test", "/version").await, "200 00000001");

    let skipped = server.log().len();
    site.put("apps/hello.wasm", &hello_version(2));
    server.wait_for_log_after(skipped, "reloaded");

    assert_eq!(answer(&server, "hello.test", "/version").await, "200 00000002");
    let reply = get_tls(&site, &server, "hello.test", "/version", Version::H2).await;
    assert_eq!(reply.expect("an answer").text().trim(), "00000002");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_dropped_into_a_folder_serves_until_it_is_removed() {
    let site = Site::new("[hosts]\n\"*.apps.test\" = { folder = \"apps\" }\n");
    let server = site.start();
    assert!(answer(&server, "shop.apps.test", "/version").await.starts_with("404"));

    site.put("apps/shop.wasm", &hello_version(7));
    until_answer(&server, "shop.apps.test", "/version", "200 00000007").await;
    let reply = get_tls(&site, &server, "shop.apps.test", "/version", Version::H2).await;
    assert_eq!(reply.expect("an answer").text().trim(), "00000007");

    std::fs::remove_file(site.path("apps/shop.wasm")).expect("remove it");
    until_answer(&server, "shop.apps.test", "/version", "404").await;
    assert_eq!(server.logged(" ERROR "), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_come_and_go_with_the_manifest() {
    let site = Site::usual();
    let server = site.start();
    assert!(answer(&server, "new.test", "/version").await.starts_with("404"));

    site.write_manifest(&format!("{USUAL}\"new.test\" = \"hello\"\n"));
    until_answer(&server, "new.test", "/version", "200 00000001").await;

    site.write_manifest(USUAL);
    until_answer(&server, "new.test", "/version", "404").await;
    assert_eq!(answer(&server, "hello.test", "/version").await, "200 00000001");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_setting_is_what_new_requests_see() {
    let site = Site::usual();
    let server = site.start();
    assert_eq!(answer(&server, "hello.test", "/").await, "200 hello world");

    site.write_manifest(&USUAL.replace("[apps.p2]", "env = { GREETING = \"hi\" }\n\n[apps.p2]"));

    until_answer(&server, "hello.test", "/", "200 hi world").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_manifest_keeps_everything_serving_and_is_logged_once() {
    let site = Site::usual();
    let server = site.start();

    site.write_manifest(&USUAL.replace("[hosts]", "[hosts]\n\"new.test\" = \"helo\""));
    let line = server.wait_for_log("helo");
    let text = std::fs::read_to_string(site.manifest()).expect("the manifest");
    let number = 1 + text.lines().position(|line| line.contains("helo")).expect("the line");
    for part in [&format!("config.toml:{number}:"), "hosts", "new.test", "did you mean \"hello\""] {
        let said = server.log().join("\n");
        assert!(said.contains(part), "{part:?} is not in {line:?} of {said}");
    }
    tokio::time::sleep(TWO_RESCANS).await;

    assert_eq!(server.logged("helo").len(), 1, "{:#?}", server.logged("helo"));
    assert_eq!(server.logged("reloaded"), [""; 0]);
    for host in ["hello.test", "p2.test", "p3.test"] {
        assert!(answer(&server, host, "/version").await.starts_with("200"));
    }
    site.write_manifest(&format!("{USUAL}\"new.test\" = \"hello\"\n"));
    until_answer(&server, "new.test", "/version", "200").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_component_keeps_its_last_good_version_and_holds_back_no_other() {
    let site = Site::usual();
    let server = site.start();
    until_answer(&server, "p2.test", "/hello", "200").await;

    site.put("apps/kit-p2.wasm", b"\0asm this is none");
    site.put("apps/hello.wasm", &hello_version(2));
    until_answer(&server, "hello.test", "/version", "200 00000002").await;
    server.wait_for_log("its last good version goes on serving");
    assert_eq!(answer(&server, "p2.test", "/hello").await, "200 hello world");
    tokio::time::sleep(TWO_RESCANS).await;

    let said = server.logged("kit-p2.wasm cannot be served");
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].contains("apps.p2.component"), "{said:#?}");
    site.put("apps/kit-p2.wasm", &hello_version(3));
    until_answer(&server, "p2.test", "/version", "200 00000003").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_traps_at_its_start_is_refused_and_logged_once() {
    let site = Site::usual();
    let server = site.start();

    site.put("apps/hello.wasm", &guest("trap-at-start"));
    server.wait_for_log("its last good version goes on serving");

    assert_eq!(answer(&server, "hello.test", "/version").await, "200 00000001");
    assert_eq!(server.complaints().len(), 1, "{:#?}", server.complaints());
    assert!(server.logged("reloaded").is_empty(), "nothing was, as far as a client can tell");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_missing_at_the_start_is_503_until_it_is_dropped() {
    let site = Site::usual();
    std::fs::remove_file(site.path("apps/hello.wasm")).expect("remove it");
    site.put("apps/kit-p3.wasm", b"");
    let server = site.start();
    assert!(answer(&server, "hello.test", "/version").await.starts_with("503"));
    assert!(answer(&server, "p3.test", "/hello").await.starts_with("503"));
    assert!(answer(&server, "p2.test", "/hello").await.starts_with("200"));
    assert_eq!(server.logged("its hosts answer 503").len(), 2, "{:#?}", server.log());

    site.put("apps/hello.wasm", &hello_version(4));
    until_answer(&server, "hello.test", "/version", "200 00000004").await;
    site.put("apps/kit-p3.wasm", &guest("kit-p3"));
    until_answer(&server, "p3.test", "/hello", "200").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_taken_back_finds_its_instances_warm() {
    let site = Site::usual();
    let server = site.start();
    for (host, file) in [("p2.test", "apps/kit-p2.wasm"), ("p3.test", "apps/kit-p3.wasm")] {
        let good = std::fs::read(site.path(file)).expect("the guest");
        let (instance, served) = inspect(&server, host).await;

        site.put(file, &hello_version(9));
        until_answer(&server, host, "/version", "200 00000009").await;
        site.put(file, &good);
        until_answer(&server, host, "/inspect", "200 {").await;

        let (again, served_since) = inspect(&server, host).await;
        assert_eq!(again, instance, "{host} has a new instance");
        assert!(served_since > served, "{host}: {served_since} after {served}");
    }

    // Idle in the end, but not drained: they serve.
    server.wait_for_log("drained app=p3 generation=4");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(server.logged("drained app=p2 generation=1"), [""; 0]);
    assert_eq!(server.logged("drained app=p3 generation=1"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn apps_that_did_not_change_keep_their_instances() {
    let site = Site::usual();
    let server = site.start();
    let before = [inspect(&server, "p2.test").await, inspect(&server, "p3.test").await];

    site.put("apps/hello.wasm", &hello_version(2));
    until_answer(&server, "hello.test", "/version", "200 00000002").await;
    // Every line moves, and nothing else.
    site.write_manifest(&format!("# a comment\n\n{USUAL}\"new.test\" = \"hello\"\n"));
    until_answer(&server, "new.test", "/version", "200").await;

    let after = [inspect(&server, "p2.test").await, inspect(&server, "p3.test").await];
    for ((old, served), (new, served_since)) in before.into_iter().zip(after) {
        assert_eq!((new, served_since), (old, served + 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_restart_is_refused_by_name() {
    let site = Site::usual();
    let server = site.start();

    let text = USUAL.replace("idle_timeout = \"5s\"", "idle_timeout = \"6s\"");
    site.write_manifest(&format!(
        "[server]\nhttp = [\"127.0.0.1:1\"]\nstate_dir = \"elsewhere\"\n[log]\nlevel = \"debug\"\n{text}\"new.test\" = \"hello\"\n"
    ));
    until_answer(&server, "new.test", "/version", "200").await;

    server.wait_for_log("log.level changed in the manifest");
    for key in ["server.http", "server.https", "server.state_dir", "log.level"] {
        let said = server.logged(&format!("{key} changed in the manifest"));
        assert_eq!(said.len(), 1, "{key}: {:#?}", server.log());
        assert!(said[0].contains("needs a restart"));
    }
    // As the process was started there is nothing to apply; what is left is told until then.
    let said = |text: &str| server.logged(text).len();
    let before = said("needs a restart");
    site.write_manifest(&format!("{USUAL}\"other.test\" = \"hello\"\n"));
    until_answer(&server, "other.test", "/version", "200").await;
    assert_eq!(said("needs a restart"), before, "{:#?}", server.log());
    for host in ["one.test", "two.test"] {
        site.write_manifest(&format!("[log]\nlevel = \"debug\"\n{USUAL}\"{host}\" = \"hello\"\n"));
        until_answer(&server, host, "/version", "200").await;
    }
    wait_until("it is told each time", || said("log.level changed in the manifest") == 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_way_finishes_on_the_version_it_began_with() {
    for (host, file) in [("p2.test", "apps/kit-p2.wasm"), ("p3.test", "apps/kit-p3.wasm")] {
        let site = Site::usual();
        let server = std::sync::Arc::new(site.start());
        let requests = ["/drip?ms=300&count=10", "/sleep?ms=1500"].map(|path| {
            let server = std::sync::Arc::clone(&server);
            tokio::spawn(async move { get(&server, host, path).await })
        });
        let began = Instant::now();
        tokio::time::sleep(Duration::from_millis(200)).await;

        site.put(file, &hello_version(5));
        until_answer(&server, host, "/version", "200 00000005").await;
        assert!(began.elapsed() < Duration::from_millis(1500), "the requests ended before");

        let [drip, sleep] = requests;
        assert_eq!(drip.await.unwrap().expect("all of it").text(), "tick\n".repeat(10), "{host}");
        assert_eq!(sleep.await.unwrap().expect("an answer").text().trim(), "slept", "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_code_of_retired_components_is_freed() {
    let site = Site::usual();
    site.write_manifest(&USUAL.replace("idle_timeout = \"5s\"", "idle_timeout = \"1s\""));
    let server = site.start();
    until_answer(&server, "hello.test", "/version", "200 00000001").await;
    let before = server.executable_mappings();

    for version in 2..8 {
        site.put("apps/hello.wasm", &hello_version(version));
        until_answer(&server, "hello.test", "/version", &format!("200 {version:08}")).await;
    }
    assert!(server.executable_mappings() > before, "compiled code is not seen here");

    wait_until("the code is gone", || server.executable_mappings() <= before);
    assert_eq!(server.logged("drained").len(), 6, "{:#?}", server.logged("drained"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_notices_a_reload() {
    let site = Site::usual();
    let server = site.start();
    let mut traffic = Traffic::default();
    let root = site.root();
    for (host, transport) in [
        ("p2.test", Transport::plain(&server)),
        ("p3.test", Transport::tls(&server, Version::H2, &root)),
        ("p2.test", Transport::tls(&server, Version::H1, &root)),
    ] {
        traffic.expect(&transport, (host, "/hello"), "hello world");
    }

    for version in 2..8 {
        site.put("apps/hello.wasm", &hello_version(version));
        until_answer(&server, "hello.test", "/version", &format!("200 {version:08}")).await;
        traffic.pass(30).await;
    }

    traffic.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_served_soon_also_right_after_another() {
    let site = Site::usual();
    let server = site.start();
    let greeting = |word: u32| {
        USUAL.replace("[apps.p2]", &format!("env = {{ GREETING = \"n{word}\" }}\n\n[apps.p2]"))
    };
    let mut took = [Vec::new(), Vec::new()];
    for round in 0..12 {
        let began = Instant::now();
        site.write_manifest(&greeting(round));
        until_answer(&server, "hello.test", "/", &format!("200 n{round} world")).await;
        took[0].push(began.elapsed());

        let began = Instant::now();
        let version = 1 + round % 4;
        site.put("apps/hello.wasm", &hello_version(version));
        until_answer(&server, "hello.test", "/version", &format!("200 {version:08}")).await;
        // From the fifth on its code is in the cache: nothing is compiled.
        took[1].push(began.elapsed());
    }
    for (what, mut took) in ["manifest", "component"].into_iter().zip(took) {
        let cached = &mut took[4..];
        cached.sort();
        // The middle one, since this machine may be busy for a moment.
        assert!(cached[4] < SOON, "{what}: {cached:?}");
    }
}

/// The instance that answers, and how many requests it has had.
async fn inspect(server: &Server, host: &str) -> (String, u64) {
    let reply = get(server, host, "/inspect").await.expect("an answer");
    let json: serde_json::Value = serde_json::from_slice(&reply.body).expect("JSON");
    (json["instance"].to_string(), json["served"].as_u64().expect("a number"))
}
