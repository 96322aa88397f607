//! `tidegate reload`, and the history of reloads.

use super::{ask, asked};
use crate::metrics;
use crate::support::client::answer;
use crate::support::server::{Site, USUAL, hello_version};

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_is_answered_when_what_is_on_disk_serves() {
    let site = Site::usual();
    let server = site.start();
    for version in 2..=6 {
        site.put("apps/hello.wasm", &hello_version(version));
        let (status, told) = site.tidegate(&["reload"]);
        assert!(status.success(), "{told}");
        assert_eq!(
            answer(&server, "hello.test", "/version").await,
            format!("200 {version:08}"),
            "{told}"
        );
    }
    let (status, told) = site.tidegate(&["reload", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((status.code(), &told["result"]), (Some(0), &"unchanged".into()));
    assert_eq!((&told["generation"], &told["reloads"]), (&6.into(), &serde_json::json!([])));

    let history = asked(&site, "/v1/reloads").await;
    let all = history["reloads"].as_array().expect("reloads");
    let results: Vec<_> = all.iter().map(|it| it["result"].as_str().expect("a word")).collect();
    assert_eq!(results, ["applied", "applied", "applied", "applied", "applied", "started"]);
    assert_eq!(all[0]["generation"], 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_told_and_the_exit_code_says_so() {
    let site = Site::usual();
    let server = site.start();
    site.write_manifest(&format!("{USUAL}\"x.test\" = \"helo\"\n"));
    let (status, told) = site.tidegate(&["reload"]);
    assert_eq!(status.code(), Some(78), "{told}");
    assert!(told.contains("refused: generation 1 goes on serving"), "{told}");
    assert!(told.contains("hosts.\"x.test\"") && told.contains("did you mean"), "{told}");
    // It is told as often as it is asked for.
    let (status, again) = site.tidegate(&["reload"]);
    assert_eq!((status.code(), again), (Some(78), told));
    assert!(answer(&server, "hello.test", "/").await.starts_with("200"));

    // One component is bad, another is new.
    site.put("apps/hello.wasm", &hello_version(9));
    site.put("apps/kit-p2.wasm", b"\0asm this is none");
    site.write_manifest(USUAL);
    let (status, told) = site.tidegate(&["reload"]);
    assert_eq!(status.code(), Some(78), "{told}");
    assert!(told.contains("apps.p2.component"), "{told}");
    assert_eq!(answer(&server, "hello.test", "/version").await, "200 00000009");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_over_once_it_is_taken_back() {
    let site = Site::usual();
    let server = site.start();
    let hello = std::fs::read(site.path("apps/hello.wasm")).expect("the component");
    site.write_manifest(&format!("{USUAL}\"x.test\" = \"helo\"\n"));
    is_refused(&site).await;
    site.write_manifest(USUAL);
    is_taken_back(&site).await;
    site.put("apps/hello.wasm", b"\0asm this is none");
    is_refused(&site).await;
    site.put("apps/hello.wasm", &hello);
    is_taken_back(&site).await;
    assert_eq!(asked(&site, "/v1/version").await["pid"], server.pid());
    assert_eq!(asked(&site, "/v1/status").await["generation"], 1);
}

async fn is_refused(site: &Site) {
    let (status, told) = site.tidegate(&["reload"]);
    assert_eq!(status.code(), Some(78), "{told}");
    let scrape = metrics::Scrape::of(site).await;
    assert_eq!(scrape.sum("tidegate_last_reload_successful", &[]), 0.0);
}

async fn is_taken_back(site: &Site) {
    let (status, told) = site.tidegate(&["reload"]);
    assert!(status.success(), "{told}");
    let (_, told) = site.tidegate(&["status"]);
    assert!(told.starts_with("nothing is wrong"), "{told}");
    let scrape = metrics::Scrape::of(site).await;
    assert_eq!(scrape.sum("tidegate_last_reload_successful", &[]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_takes_long_to_compile_is_waited_for() {
    let site = Site::usual_uncompiled();
    let server = site.start();
    // Another digest: it has to be compiled again, which no reload waits for by itself.
    let mut kit = crate::support::pool::guest("kit-p2");
    // A custom section of the outermost component.
    kit.extend([0, 3, 1, b'x', b'y']);
    site.put("apps/kit-p2.wasm", &kit);
    let reply = ask(&site, "POST", "/v1/reload").await.expect("an answer");
    let told: serde_json::Value = serde_json::from_slice(&reply.body).expect("JSON");
    // The watch may have been sooner.
    assert!(told["result"] == "applied" || told["result"] == "unchanged", "{told}");
    assert_eq!(told["last_reload"]["result"], "applied", "{told}");
    let digest = asked(&site, "/v1/status").await["apps"][1]["digest"].clone();
    assert_eq!(digest.as_str().expect("a digest"), sha256(&kit));
    assert!(answer(&server, "p2.test", "/hello").await.starts_with("200"));
}

fn sha256(bytes: &[u8]) -> String {
    tidegate::guest::component::Digest::of(bytes).to_string()
}
