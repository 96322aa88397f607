//! Upgrades while clients of every protocol ask.

use serde_json::json;

use super::{Upgraded, site};
use crate::http3::{Beside, client};
use crate::support::client::Version;
use crate::support::connection::Transport;
use crate::support::holds::{Shown, times};
use crate::support::traffic::Traffic;

#[tokio::test(flavor = "multi_thread")]
async fn upgrades_under_load_refuse_no_connection_and_fail_no_request() {
    let site = site("");
    let mut upgraded = Upgraded::start(site.command());
    let given = json!({"path": "/hello", "expected": "hello world"});
    let command = client(&site, &upgraded.server, "p2.test", "carry_on", given);
    let http3 = command.map(Beside::begin);
    let mut traffic = Traffic::of_ending_connections();
    let transports = [
        Transport::plain(&upgraded.server),
        Transport::tls(&upgraded.server, Version::H1, &site.root()),
        Transport::tls(&upgraded.server, Version::H2, &site.root()),
        Transport::Unix(site.path("http.sock")),
    ];
    for transport in &transports {
        for (host, requests) in [("p2.test", 1), ("p2.test", 1000), ("p3.test", 1000)] {
            traffic.add(
                transport,
                (host, "/hello"),
                requests,
                || (),
                |(), _, reply| match reply.status == 200 && reply.text().trim() == "hello world" {
                    true => Ok(()),
                    false => Err(format!("{} {:?}", reply.status, reply.text())),
                },
            );
        }
    }

    let upgrades = times(6, 50);
    for _ in 0..upgrades {
        traffic.pass(100).await;
        tokio::task::block_in_place(|| upgraded.upgrade());
        assert_eq!(traffic.wrong(), [""; 0]);
    }
    traffic.pass(100).await;
    let figures = match http3 {
        Some(http3) => tokio::task::spawn_blocking(|| http3.end()).await.expect("no panic"),
        None => json!({"kept": 1, "new": 1, "wrong_count": 0}),
    };
    let answered = traffic.stop().await;

    let over_http3 =
        figures["kept"].as_u64().expect("a count") + figures["new"].as_u64().expect("one");
    Shown {
        part: "The edge",
        tried: "upgrades of tidegate under load, on connections that stay and new ones",
        times: upgrades,
        bound: "no connection is refused and no request fails over HTTP/1, 2 or 3, or a Unix socket",
    }
    .holds(
        format!(
            "{answered} answers over HTTP/1 and 2, {over_http3} over HTTP/3, {} wrong",
            figures["wrong_count"]
        ),
        figures["wrong_count"] == 0 && over_http3 > 0,
    );
    assert_eq!(figures["wrong_count"], 0, "{figures:#}");
    assert!(site.path("http.sock").exists(), "the file of the Unix socket is there");
    assert_eq!(upgraded.server.complaints(), [""; 0]);
}
