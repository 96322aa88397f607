//! Deadlines, caps and handshakes of HTTP/3's clients.

use serde_json::{Value, json};

use super::http3;
use crate::support::client::GUESTS;
use crate::support::pool::guest;
use crate::support::server::{Server, Site};

/// Both kits, with these settings of `[clients]`.
fn site(clients: &str) -> Site {
    let site = Site::new(&format!(
        "[clients]\n{clients}\n[defaults]\nrequest_timeout = \"20s\"\nstream_idle_timeout = \"20s\"\n\
         [apps.p2]\ncomponent = \"apps/kit-p2.wasm\"\n[apps.p3]\ncomponent = \"apps/kit-p3.wasm\"\n\
         [hosts]\n\"p2.test\" = \"p2\"\n\"p3.test\" = \"p3\"\n"
    ));
    for name in ["kit-p2", "kit-p3"] {
        site.put(&format!("apps/{name}.wasm"), &guest(name));
    }
    site
}

fn seconds(figures: &Value) -> f64 {
    figures["seconds"].as_f64().expect("seconds")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_of_its_answer_ends_by_a_deadline() {
    let site = site("write_timeout = \"2s\"");
    let server = site.start();
    // The guest waits for the client, or has ended already.
    for (host, bytes) in GUESTS.iter().flat_map(|host| [(host, 10_000_000), (host, 30_000)]) {
        let given = json!({"path": format!("/blob?bytes={bytes}"), "window": 20000});
        let lines = server.log().len();
        let Some(answer) = http3(&site, &server, host, "take", given).await else { return };
        assert!(answer["reset"].is_u64() || answer["ended"] == true, "{answer:#}");
        assert!((1.5..8.0).contains(&seconds(&answer)), "{host}: {answer:#}");
        assert!(answer["length"].as_u64().expect("a length") <= 20_000);
        server.wait_for_log_after(lines, "limit=clients.write_timeout");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_slow_has_all_of_its_answer() {
    let site = site("write_timeout = \"1s\"");
    let server = site.start();
    for host in GUESTS {
        let given = json!({"path": "/blob?bytes=1000000", "window": 50_000, "step": 50_000});
        let Some(answer) = http3(&site, &server, host, "take", given).await else { return };
        assert_eq!(answer["length"], 1_000_000, "{host}: {answer:#}");
        assert!(answer["reset"].is_null() && seconds(&answer) > 2.0, "{host}: {answer:#}");

        // The guest has ended long before.
        let given = json!({"path": "/blob?bytes=1000000"});
        let answer = http3(&site, &server, host, "thin", given).await.expect("Python");
        assert_eq!(answer["length"], 1_000_000, "{host}: {answer:#}");
        assert!(answer["reset"].is_null() && seconds(&answer) > 2.0, "{host}: {answer:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_rests_or_trickles_ends_by_a_deadline() {
    let site = site("body_timeout = \"2s\"");
    let server = site.start();
    for host in GUESTS {
        for every in [json!(null), json!(0.5)] {
            let given = json!({"path": "/discard", "every": every});
            let Some(answer) = http3(&site, &server, host, "slow_upload", given).await else {
                return;
            };
            assert_ne!(answer["status"], 200, "{host}: {answer:#}");
            assert!((1.5..8.0).contains(&seconds(&answer)), "{host} {every}: {answer:#}");
        }
    }
    server.wait_for_log("limit=clients.body_timeout");
    server.wait_for_log("limit=clients.min_body_rate");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_come_ends_its_stream_and_no_other() {
    let site = site("head_timeout = \"2s\"");
    let server = site.start();
    let Some(answer) = http3(&site, &server, "p2.test", "slow_head", json!({})).await else {
        return;
    };
    assert!(answer["reset"].is_u64(), "{answer:#}");
    assert!((1.5..6.0).contains(&seconds(&answer)), "{answer:#}");
    assert!(answer["others"].as_u64().expect("a count") > 10, "{answer:#}");
    server.wait_for_log("limit=clients.head_timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_at_rest_is_closed_in_good_order() {
    let site = site("keep_alive_timeout = \"2s\"");
    let server = site.start();
    let Some(figures) = http3(&site, &server, "p2.test", "idle", json!({})).await else { return };
    assert!((1.5..6.0).contains(&seconds(&figures)), "{figures:#}");
    // H3_NO_ERROR; and the last GOAWAY names the stream behind the only one.
    assert_eq!(figures["code"], 0x100, "{figures:#}");
    assert_eq!(figures["goaways"].as_array().and_then(|all| all.last()), Some(&json!(4)));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_as_many_connections_as_it_may_and_more_when_one_ends() {
    let site = site("max_connections_per_address = 4");
    let server = site.start();
    let Some(figures) = http3(&site, &server, "p2.test", "many", json!({"count": 10})).await else {
        return;
    };
    assert_eq!(figures, json!({"refused": 6, "held": 4, "again": 200}));
    server.wait_for_log("limit=clients.max_connections_per_address");
}

/// A flood of handshakes that are not gone on with, and what one that is gets behind it.
async fn behind_half_open(server: &Server, site: &Site, count: usize) -> Option<Value> {
    http3(site, server, "p2.test", "half_open", json!({"count": count})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_handshakes_of_unproven_addresses_one_has_to_prove_its_own() {
    let site = site("handshake_timeout = \"3s\"");
    let server = site.start();
    let Some(figures) = behind_half_open(&server, &site, 0).await else { return };
    assert_eq!((&figures["status"], &figures["retried"]), (&json!(200), &json!(false)));

    let figures = behind_half_open(&server, &site, 500).await.expect("Python");
    assert_eq!((&figures["status"], &figures["retried"]), (&json!(200), &json!(true)));
    assert!(seconds(&figures) < 3.0, "{figures:#}");
    server.wait_for_log("limit=h3.unvalidated");

    // Those that were let in have ended: they hold nothing.
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    let figures = behind_half_open(&server, &site, 0).await.expect("Python");
    assert_eq!((&figures["status"], &figures["retried"]), (&json!(200), &json!(false)));
    server.wait_for_log("limit=clients.handshake_timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_handshakes_costs_little_memory() {
    let site = site("");
    let server = site.start();
    if behind_half_open(&server, &site, 10).await.is_none() {
        return;
    }
    let before = server.memory("RssAnon:");
    for _ in 0..3 {
        let figures = behind_half_open(&server, &site, 1000).await.expect("Python");
        assert_eq!(figures["status"], 200);
    }
    let grown = server.memory("RssAnon:").saturating_sub(before);
    assert!(grown < 16 << 20, "{} KiB", grown >> 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_resumed_and_no_request_is_taken_early() {
    let site = Site::usual();
    let server = site.start();
    let Some(figures) = http3(&site, &server, "p2.test", "early", json!({})).await else { return };
    assert_eq!(figures["status"], 200);
    assert_eq!((&figures["resumed"], &figures["early"]), (&json!(true), &json!(false)));
    assert!(matches!(figures["offered"].as_u64(), None | Some(0)), "{figures:#}");
}
