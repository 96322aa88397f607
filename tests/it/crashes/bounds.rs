//! Crashes without end, and a folder that cannot be written.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use super::{bundles, files, parse, start};
use crate::faults::not_tested;
use crate::support::client::{answer, get};
use crate::support::connection::{Connection, Transport};
use crate::support::disk::Disk;
use crate::support::server::{Server, Site};

/// A trap of `a.test`, which is answered with a 502.
async fn trap(server: &Server) {
    assert_eq!(get(server, "a.test", "/trap").await.expect("an answer").status, 502);
}

fn told(bundles: &[Value]) -> u64 {
    let left_out: u64 = bundles.iter().map(|it| it["left_out"].as_u64().expect("a count")).sum();
    left_out + bundles.len() as u64
}

fn all(site: &Site) -> Vec<Value> {
    bundles(site, 0).iter().map(|text| parse(text)).collect()
}

/// Has it trap now and then until its bundles tell of every trap, after `traps` of them. Returns
/// how many.
async fn until_all_are_told(site: &Site, server: &Server, mut traps: u64) -> u64 {
    while !are_told(site, traps).await {
        trap(server).await;
        traps += 1;
    }
    traps
}

/// Whether they tell of so many, or do so within the time in which there may be another bundle.
async fn are_told(site: &Site, traps: u64) -> bool {
    let end = Instant::now() + Duration::from_secs(1);
    while told(&all(site)) != traps {
        if Instant::now() > end {
            return false;
        }
        sleep(Duration::from_millis(10)).await;
    }
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_traps_leaves_a_few_bundles_that_tell_of_the_others() {
    let (site, server) = start("kit-p2", "");
    let mut connection = Connection::open(&Transport::plain(&server), "a.test").await.unwrap();
    let begun = Instant::now();
    for _ in 0..400 {
        assert_eq!(connection.get("/trap").await.unwrap().status, 502);
    }
    let seconds = begun.elapsed().as_secs() as usize + 1;
    let kept = files(&site).len();
    assert!((1..=5 + 2 * seconds).contains(&kept), "{kept} bundles in {seconds} s");
    assert_eq!(answer(&server, "b.test", "/").await, "200 hello world");

    let traps = until_all_are_told(&site, &server, 400).await;
    let bundles = all(&site);
    assert!((bundles.len() as u64) < traps / 4, "{} bundles of {traps} traps", bundles.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_cannot_be_written_is_said_once_and_stops_nothing() {
    let site = Site::with_neighbour("kit-p2", "");
    fs::create_dir(site.path("state")).unwrap();
    fs::write(site.path("state/crashes"), "in the way").unwrap();
    let server = site.start();
    for _ in 0..4 {
        trap(&server).await;
    }
    server.wait_for_log("crash bundles are lost");
    assert_eq!(answer(&server, "b.test", "/").await, "200 hello world");

    fs::remove_file(site.path("state/crashes")).unwrap();
    until_all_are_told(&site, &server, 4).await;
    server.wait_for_log("crash bundles are kept again");
    assert_eq!(server.logged("crash bundles are lost").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_bundles_and_nothing_else() {
    let site = Site::with_neighbour("kit-p3", "");
    let disk = match Disk::mount(site.path("state/crashes")) {
        Ok(disk) => disk,
        Err(reason) => return not_tested("a full disk", format_args!("cannot mount: {reason}")),
    };
    let server = site.start();
    disk.fill();
    for _ in 0..4 {
        trap(&server).await;
    }
    server.wait_for_log("crash bundles are lost");
    assert_eq!(answer(&server, "b.test", "/").await, "200 hello world");
    assert!(files(&site).is_empty());

    disk.make_room();
    until_all_are_told(&site, &server, 4).await;
    server.wait_for_log("crash bundles are kept again");
    assert_eq!(server.logged("crash bundles are lost").len(), 1);
    // To be unmounted, nothing may be written there.
    drop(server);
}
