//! `tidegate drain APP`: its requests are refused, its instances leave.

use super::asked;
use crate::metrics;
use crate::support::client::{answer, get, get_at};
use crate::support::server::{Site, USUAL, hello_version};

async fn app(site: &Site, name: &str) -> serde_json::Value {
    let status = asked(site, "/v1/status").await;
    let apps = status["apps"].as_array().expect("apps").clone();
    apps.into_iter().find(|app| app["name"] == name).expect("the app")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_app_is_refused_until_that_is_undone_and_over_reloads() {
    let site = Site::usual();
    let server = site.start();
    for (name, host) in [("p2", "p2.test"), ("p3", "p3.test")] {
        assert!(answer(&server, host, "/hello").await.starts_with("200"), "{host}");
        let (status, told) = site.tidegate(&["drain", name]);
        assert!(status.success(), "{told}");
        assert!(told.contains(&format!("tidegate drain --undo {name}")), "{told}");
        let refused = get(&server, host, "/hello").await.expect("an answer");
        assert_eq!(refused.status, 503, "{host}");
        assert!(refused.headers.contains_key("retry-after"), "{host}");
        assert!(refused.text().contains("takes no requests"), "{host}: {}", refused.text());
        assert_eq!(app(&site, name).await["drained"], true);
        assert!(answer(&server, "hello.test", "/").await.starts_with("200"), "others go on");
    }

    // Other settings make another pool, which is drained as well.
    site.write_manifest(&USUAL.replace("idle_timeout = \"5s\"", "idle_timeout = \"6s\""));
    server.wait_for_log("reloaded");
    for (name, host) in [("p2", "p2.test"), ("p3", "p3.test")] {
        assert!(answer(&server, host, "/hello").await.starts_with("503"), "{host}");
        let (status, told) = site.tidegate(&["drain", "--undo", name]);
        assert!(status.success(), "{told}");
        assert!(answer(&server, host, "/hello").await.starts_with("200"), "{host}");
        assert_eq!(app(&site, name).await["drained"], false);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn once_that_is_undone_instances_are_kept_again() {
    let site = Site::usual();
    let server = site.start();
    for (name, host) in [("p2", "p2.test"), ("p3", "p3.test")] {
        for arguments in [&["drain", name][..], &["drain", "--undo", name]] {
            let (status, told) = site.tidegate(arguments);
            assert!(status.success(), "{told}");
        }
        for _ in 0..2 {
            assert!(answer(&server, host, "/hello").await.starts_with("200"), "{host}");
        }
        let pool = &asked(&site, &format!("/v1/apps/{name}/instances")).await["pools"][0];
        assert_eq!(pool["evicting"], false, "{pool}");
        assert_eq!(pool["instances"][0]["served"], 2, "{pool}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_told_and_stays_while_the_app_is_away() {
    let site = Site::usual();
    let server = site.start();
    let (status, told) = site.tidegate(&["drain", "hello"]);
    assert!(status.success(), "{told}");
    let (_, told) = site.tidegate(&["status"]);
    assert!(told.starts_with("1 app is drained: requests are answered 503"), "{told}");
    assert!(told.contains("tidegate drain --undo hello"), "{told}");

    let without = USUAL.replace("[apps.hello]\ncomponent = \"apps/hello.wasm\"\n", "");
    for manifest in [&*without.replace("\"hello.test\" = \"hello\"\n", ""), USUAL] {
        site.write_manifest(manifest);
        let (status, told) = site.tidegate(&["reload"]);
        assert!(status.success(), "{told}");
    }
    assert!(answer(&server, "hello.test", "/").await.starts_with("503"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_it_learns_that_it_was_undone() {
    let site = Site::usual();
    let server = site.start();
    let http = server.http;
    let busy = tokio::spawn(get_at(http, "p2.test", "/drip?ms=100&count=60"));
    metrics::until(&site, "it is busy", |scrape| {
        scrape.sum("tidegate_instances", &[("app", "p2"), ("state", "busy")]) >= 1.0
    })
    .await;
    let mut waiting = site.command_of(&["drain", "p2"]).spawn().expect("tidegate");
    wait_until_drained(&site, "p2").await;
    let (status, told) = site.tidegate(&["drain", "--undo", "p2"]);
    assert!(status.success(), "{told}");
    assert_eq!(waiting.wait().expect("its end").code(), Some(1));
    busy.abort();
}

async fn wait_until_drained(site: &Site, name: &str) {
    while app(site, name).await["drained"] != true {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_instances_leave_after_their_requests_also_those_of_a_retired_generation() {
    let site = Site::usual();
    let server = site.start();
    for (name, host) in [("p2", "p2.test"), ("p3", "p3.test")] {
        let http = server.http;
        let busy = tokio::spawn(async move {
            let reply = get_at(http, host, "/drip?ms=100&count=20").await.expect("a whole answer");
            reply.text().lines().count()
        });
        let begun = async || {
            let path = format!("/v1/apps/{name}/drain");
            let reply = super::ask(&site, "POST", &path).await.expect("an answer");
            reply.text().lines().map(str::to_owned).collect::<Vec<_>>()
        };
        metrics::until(&site, "it is busy", |scrape| {
            scrape.sum("tidegate_instances", &[("app", name), ("state", "busy")]) >= 1.0
        })
        .await;
        let lines = begun().await;
        let first: serde_json::Value = serde_json::from_str(&lines[0]).expect("JSON");
        let last: serde_json::Value =
            serde_json::from_str(lines.last().expect("a line")).expect("JSON");
        assert!(first["instances"].as_u64() >= Some(1), "{lines:?}");
        assert_eq!((&last["instances"], &last["done"]), (&0.into(), &true.into()), "{lines:?}");
        assert_eq!(busy.await.expect("it ends"), 20, "its request was finished");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_is_not_there_is_told_with_the_one_that_may_be_meant() {
    let site = Site::usual();
    let server = site.start();
    let (status, told) = site.tidegate(&["drain", "helo"]);
    assert_eq!(status.code(), Some(1), "{told}");
    assert!(told.contains("there is no app") && told.contains("did you mean hello?"), "{told}");

    // It does not survive a restart, and one whose component is bad is drained as well.
    site.put("apps/hello.wasm", &hello_version(3));
    let (status, told) = site.tidegate(&["drain", "hello", "--json"]);
    assert!(status.success(), "{told}");
    assert!(told.lines().last().expect("a line").contains("\"done\":true"), "{told}");
    drop(server);
    let server = site.start();
    assert!(answer(&server, "hello.test", "/").await.starts_with("200"));
}
