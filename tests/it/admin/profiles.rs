//! Profiles that operators ask for, and those that are stored.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use serde_json::Value;
use tidegate::guest::profile::Summary;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{ask, asked};
use crate::support::client::answer;
use crate::support::server::{Server, Site, USUAL, wait_until};

/// Requests that compute, to both kinds of guest, until it is dropped.
struct Load(Arc<AtomicBool>, Vec<JoinHandle<()>>);

impl Load {
    fn start(server: &Arc<Server>) -> Load {
        let ended = Arc::new(AtomicBool::new(false));
        let clients = ["p2.test", "p3.test"].map(|host| {
            let (server, ended) = (server.clone(), ended.clone());
            tokio::spawn(async move {
                while !ended.load(Relaxed) {
                    assert_eq!(answer(&server, host, "/spin?ms=200").await, "200 spun");
                }
            })
        });
        Load(ended, clients.into())
    }

    async fn end(self) {
        self.0.store(true, Relaxed);
        for client in self.1 {
            client.await.expect("every answer");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_of_what_runs_is_made_on_demand_one_at_a_time() {
    let site = Site::usual();
    let server = Arc::new(site.start());
    let load = Load::start(&server);
    for app in ["p2", "p3"] {
        let path = format!("/v1/apps/{app}/profile?seconds=2");
        let (first, second) = tokio::join!(ask(&site, "POST", &path), ask(&site, "POST", &path));
        let mut replies = [first.expect("an answer"), second.expect("an answer")];
        replies.sort_by_key(|reply| reply.status);
        assert_eq!(replies[1].status, 409, "{}", replies[1].text());
        assert_eq!(replies[0].status, 200, "{}", replies[0].text());
        let summary = Summary::of(&replies[0].body).expect("a profile");
        assert!(summary.samples > 2, "{summary:?}");
        assert!(summary.hottest[0].function.contains("spin"), "{summary:?}");
    }
    load.end().await;

    for (path, status) in [
        ("/v1/apps/p2/profile?seconds=0", 400),
        ("/v1/apps/p2/profile?seconds=121", 400),
        ("/v1/apps/p2/profile?seconds=soon", 400),
        ("/v1/apps/nobody/profile", 404),
        ("/v1/apps/..%2fp2/profile", 404),
    ] {
        let reply = ask(&site, "POST", path).await.expect("an answer");
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_writes_it_and_names_the_hottest_functions() {
    let site = Arc::new(Site::usual());
    let server = Arc::new(site.start());
    let load = Load::start(&server);
    let run = async |arguments: &'static [&'static str]| {
        let site = site.clone();
        spawn_blocking(move || site.tidegate(arguments)).await.expect("it runs")
    };
    let (status, told) = run(&["profile", "p3", "--seconds", "2", "-o", "out.json"]).await;
    load.end().await;
    assert!(status.success(), "{told}");
    assert!(
        told.contains("wrote out.json: ") && told.contains("%  common::misbehave::spin"),
        "{told}"
    );
    assert!(told.contains("https://profiler.firefox.com"), "{told}");
    let summary = Summary::of(&fs::read(site.path("out.json")).expect("the file"));
    assert!(summary.expect("a profile").samples > 2);

    let (status, told) =
        run(&["profile", "hello", "--seconds", "1", "-o", "none.json", "--json"]).await;
    assert!(status.success(), "{told}");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((&told["samples"], &told["file"]), (&0.into(), &"none.json".into()));
    let (status, told) = run(&["profile", "nobody", "--seconds", "1"]).await;
    assert_eq!(status.code(), Some(1), "{told}");
    assert!(told.contains("there is no app \"nobody\""), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_profiles_are_listed_and_read_and_nothing_else_is() {
    let site = Site::usual();
    let profile = "[defaults]\nprofile = { sample = \"1/1\", dir = \"profiles\" }\nmax_requests_per_instance = 1\n";
    site.write_manifest(&USUAL.replace("[defaults]\n", profile));
    let server = site.start();
    assert_eq!(asked(&site, "/v1/profiles").await["profiles"], Value::Array(Vec::new()));
    for host in ["p2.test", "p3.test"] {
        assert_eq!(answer(&server, host, "/spin?ms=50").await, "200 spun");
    }
    let names = ["p2-1-1.json", "p3-1-1.json"];
    wait_until("both are written", || {
        names.iter().all(|name| site.path("profiles").join(name).exists())
    });

    let listed = asked(&site, "/v1/profiles").await;
    let mut listed: Vec<_> = listed["profiles"].as_array().expect("a list").clone();
    listed.sort_by_key(|profile| profile["name"].to_string());
    for ((listed, name), app) in listed.iter().zip(names).zip(["p2", "p3"]) {
        assert_eq!((&listed["app"], &listed["name"]), (&app.into(), &name.into()));
        let reply = ask(&site, "GET", &format!("/v1/profiles/{app}/{name}")).await;
        let reply = reply.expect("an answer");
        let stored = fs::read(site.path("profiles").join(name)).expect("the file");
        assert_eq!(reply.body, stored);
        assert_eq!(listed["bytes"], stored.len());
    }
    assert_eq!(listed.len(), 2);

    fs::write(site.path("profiles/secret.json"), "secret").expect("write a file");
    for path in [
        "/v1/profiles/p2/p3-1-1.json",
        "/v1/profiles/p2/p2-1-9.json",
        "/v1/profiles/p2/secret.json",
        "/v1/profiles/p2/..%2fconfig.toml",
        "/v1/profiles/p2/p2-1-1.json%00",
        "/v1/profiles/..%2f..%2fetc/passwd",
        "/v1/profiles/nobody/p2-1-1.json",
    ] {
        let reply = ask(&site, "GET", path).await.expect("an answer");
        assert_eq!(reply.status, 404, "{path}: {}", reply.text());
    }
}
