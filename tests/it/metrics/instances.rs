//! Instances: each that was made is there or gone, and for a reason.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use super::{Scrape, after, until};
use crate::support::client::get;
use crate::support::pool::guest;
use crate::support::server::{Server, Site};

for_both_kits! {
    each_that_was_made_is_there_or_gone,
    what_waits_for_an_instance_is_measured,
    what_is_left_of_an_earlier_generation_is_draining,
}

fn manifest(settings: &str) -> String {
    format!("[apps.a]\ncomponent = \"apps/kit.wasm\"\n{settings}\n[hosts]\n\"a.test\" = \"a\"\n")
}

fn start(kit: &str, settings: &str) -> (Site, Server) {
    let site = Site::new(&manifest(settings));
    site.put("apps/kit.wasm", &guest(kit));
    let server = site.start();
    (site, server)
}

fn gone(scrape: &Scrape) -> BTreeMap<&'static str, f64> {
    let reasons = ["idle", "used_up", "evicted", "replaced", "timeout", "killed", "failed"];
    let count = |reason| scrape.sum("tidegate_instances_dropped_total", &[("reason", reason)]);
    reasons.map(|reason| (reason, count(reason))).into_iter().filter(|it| it.1 > 0.0).collect()
}

async fn each_that_was_made_is_there_or_gone(kit: &str) {
    let settings = "max_requests_per_instance = 2\nmax_concurrent_per_instance = 1\n\
                    request_timeout = \"300ms\"\nidle_timeout = \"300ms\"";
    let (site, server) = start(kit, settings);
    let status = async |path| get(&server, "a.test", path).await.expect("an answer").status;

    assert_eq!(status("/trap").await, 502);
    let scrape = until(&site, "it is gone", |scrape| !gone(scrape).is_empty()).await;
    assert_eq!(gone(&scrape), BTreeMap::from([("failed", 1.0)]));
    assert_eq!(scrape.sum("tidegate_traps_total", &[]), 1.0);
    assert_eq!(scrape.sum("tidegate_traps_total", &[("kind", "unreachable")]), 1.0);

    assert_eq!(status("/never-answer").await, 504);
    let scrape = until(&site, "it is gone", |scrape| gone(scrape).contains_key("timeout")).await;
    assert_eq!(scrape.sum("tidegate_timeouts_total", &[("app", "a")]), 1.0);

    // Two on one instance, and one on another, which is idle then.
    for _ in 0..3 {
        assert_eq!(status("/hello").await, 200);
    }
    let scrape = until(&site, "it is idle no more", |scrape| gone(scrape).contains_key("idle"));
    let scrape = scrape.await;
    let expected = [("failed", 1.0), ("idle", 1.0), ("timeout", 1.0), ("used_up", 1.0)];
    assert_eq!(gone(&scrape), BTreeMap::from(expected));
    assert_eq!(scrape.sum("tidegate_instances_created_total", &[]), 4.0);
    assert_eq!(scrape.sum("tidegate_instantiate_seconds_count", &[]), 4.0);
    // It counts as dropped a moment before it is struck off.
    until(&site, "none is there", |scrape| scrape.sum("tidegate_instances", &[]) == 0.0).await;
}

async fn what_waits_for_an_instance_is_measured(kit: &str) {
    let settings = "max_instances = 1\nmax_concurrent_per_instance = 1\nqueue = 8";
    let (site, server) = start(kit, settings);
    // One runs, two wait for it.
    let requests = join_all((0..3).map(|_| get(&server, "a.test", "/sleep?ms=300")));
    let waiting = until(&site, "two wait", |scrape| {
        scrape.sum("tidegate_queue_requests", &[("app", "a")]) == 2.0
            && scrape.sum("tidegate_instances", &[("state", "busy")]) == 1.0
    });
    let (answers, _) = tokio::join!(requests, waiting);
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|it| it.status == 200)));

    let scrape = after(&site, 3).await;
    assert_eq!(scrape.sum("tidegate_queue_seconds_count", &[("app", "a")]), 2.0);
    let sum = scrape.sum("tidegate_queue_seconds_sum", &[]);
    // What was left to them of their `queue_timeout` would be more.
    assert!((0.5..10.0).contains(&sum), "{sum}");
    assert_eq!(scrape.sum("tidegate_queue_requests", &[]), 0.0);
    let scrape = until(&site, "it is idle", |scrape| {
        scrape.sum("tidegate_instances", &[("state", "idle")]) == 1.0
    });
    scrape.await;
}

async fn what_is_left_of_an_earlier_generation_is_draining(kit: &str) {
    let settings = "idle_timeout = \"300ms\"\nmax_instances = ";
    let (site, server) = start(kit, &format!("{settings}1"));
    let count = |scrape: &Scrape, state| scrape.sum("tidegate_instances", &[("state", state)]);
    let request = get(&server, "a.test", "/sleep?ms=3000");
    let change = async {
        until(&site, "it is busy", |scrape| count(scrape, "busy") == 1.0).await;
        site.write_manifest(&manifest(&format!("{settings}2")));
        until(&site, "it drains", |scrape| {
            count(scrape, "draining") == 1.0 && count(scrape, "busy") == 0.0
        })
        .await;
    };
    let (answer, ()) = tokio::join!(request, change);
    assert_eq!(answer.expect("an answer").status, 200);
    until(&site, "it is gone", |scrape| scrape.sum("tidegate_instances", &[]) == 0.0).await;
}
