//! What one request leaves behind, and that no other finds it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use crate::support::connection::{Connection, Transport};
use crate::support::holds::{Shown, times};
use crate::support::pool::guest;
use crate::support::server::{Server, Site};
use crate::support::traffic::Traffic;

/// Pairs of requests side by side.
const LANES: usize = 2;

/// What the clients leave in a guest: never sent as it is but in a body.
const SECRETS: [&str; 2] = ["alpha's canary 5f0c2e91", "bravo's canary d83a7b46"];

/// What the guest undoes before it looks, so that a question is no find.
const DISGUISE: u8 = 0x55;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_p2_instance_holds_nothing_of_another_request() {
    fresh_instances_share_nothing("hostile-p2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_p3_instance_holds_nothing_of_another_request() {
    fresh_instances_share_nothing("hostile-p3").await;
}

async fn fresh_instances_share_nothing(name: &str) {
    let server = start(name, 1);
    let count = times(1000, 50_000);
    let found = alternate(&server, ["one.test", "one.test"], count).await;
    row(&format!("{name}: two clients in turn, a fresh instance each"), count)
        .holds(format!("{found} found"), found == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_app_leaves_in_a_slot_another_does_not_find() {
    for name in ["hostile-p2", "hostile-p3"] {
        // The same component: its memories go from the one to the other.
        let server = start(name, 2);
        let count = times(200, 20_000);
        let found = alternate(&server, ["one.test", "two.test"], count).await;
        row(&format!("{name}: two apps in turn on the same slots"), count)
            .holds(format!("{found} found"), found == 0);
    }
}

/// Or else those above would show nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reused_instance_holds_what_another_request_left() {
    for name in ["hostile-p2", "hostile-p3"] {
        let server = start(name, 1000);
        assert!(alternate(&server, ["one.test", "one.test"], 20).await > 0, "{name}");
    }
}

fn row(tried: &str, times: usize) -> Shown<'_> {
    Shown { part: "Tenants: isolation", tried, times, bound: "nothing is found" }
}

/// One component as two apps.
fn start(name: &str, max_requests_per_instance: usize) -> Server {
    let site = Site::new(&format!(
        "[defaults]\nmax_requests_per_instance = {max_requests_per_instance}\n\
         [apps.one]\ncomponent = \"apps/guest.wasm\"\n[apps.two]\ncomponent = \"apps/guest.wasm\"\n\
         [hosts]\n\"one.test\" = \"one\"\n\"two.test\" = \"two\"\n",
    ));
    site.put("apps/guest.wasm", &guest(name));
    site.start()
}

/// Two clients, each at its host, ask in turn: either plants its own secret in the guest and has
/// it look for the other's. How many of the `count` requests found any.
async fn alternate(server: &Server, hosts: [&'static str; 2], count: usize) -> usize {
    let lanes = (0..LANES).map(|_| {
        let transport = Transport::plain(server);
        tokio::spawn(async move {
            let mut found = 0;
            let mut clients = Vec::new();
            for host in hosts {
                clients.push(Connection::open(&transport, host).await.expect("connect"));
            }
            for turn in 0..count / LANES {
                let (mine, other) = (turn % 2, 1 - turn % 2);
                let path = format!("/canary?seek={}", disguised(SECRETS[other]));
                let reply = clients[mine].post(&path, SECRETS[mine]).await.expect("an answer");
                let text = reply.text().trim();
                let places: usize = text.parse().unwrap_or_else(|_| panic!("{reply:?}"));
                found += usize::from(places > 0);
            }
            found
        })
    });
    let mut found = 0;
    for lane in lanes.collect::<Vec<_>>() {
        found += lane.await.expect("no panic");
    }
    found
}

fn disguised(secret: &str) -> String {
    secret.bytes().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{:02x}", byte ^ DISGUISE);
        text
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_instance_serves_two_versions() {
    for kit in ["kit-p2", "kit-p3"] {
        let manifest = |version: usize| {
            format!(
                "[apps.kit]\ncomponent = \"apps/kit.wasm\"\nenv = {{ VERSION = \"{version}\" }}\n\
                 [hosts]\n\"kit.test\" = \"kit\"\n"
            )
        };
        let site = Site::new(&manifest(0));
        site.put("apps/kit.wasm", &guest(kit));
        let server = site.start();

        // The version that each instance said it is of.
        let instances = Arc::new(Mutex::new(HashMap::<String, String>::new()));
        let mut traffic = Traffic::default();
        for _ in 0..8 {
            let instances = instances.clone();
            traffic.add(
                &Transport::plain(&server),
                ("kit.test", "/inspect"),
                100,
                || (),
                move |(), _, reply| {
                    let said: serde_json::Value =
                        serde_json::from_slice(&reply.body).map_err(|e| e.to_string())?;
                    let instance = &said["instance"];
                    let version = said["env"]["VERSION"].to_string();
                    let mut instances = instances.lock().expect("the instances");
                    let known =
                        instances.entry(instance.to_string()).or_insert_with(|| version.clone());
                    match *known == version {
                        true => Ok(()),
                        false => Err(format!("{instance} is of {known} and of {version}")),
                    }
                },
            );
        }
        let reloads = times(8, 500);
        for version in 1..=reloads {
            let skipped = server.log().len();
            site.write_manifest(&manifest(version));
            server.wait_for_log_after(skipped, "reloaded");
        }
        let wrong = traffic.wrong();
        let answers = traffic.stop().await;
        let instances = instances.lock().expect("the instances").len();
        assert!(instances > reloads, "{instances} instances");
        Shown {
            part: "Tenants: isolation",
            tried: &format!(
                "{kit}: reloads under load, and of which version each instance says it is"
            ),
            times: reloads,
            bound: "always the same",
        }
        .holds(format!("{instances} instances, {answers} answers; {wrong:?}"), wrong.is_empty());
    }
}
