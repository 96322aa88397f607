//! Clients make no series: whatever hosts and paths they send, there are no more of them.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{Scrape, after};
use crate::support::client::{get, to_the_end};
use crate::support::server::Site;

const REQUESTS: usize = 10_000;

/// Requests on one connection.
const BATCH: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_hosts_and_paths_are_one_series() {
    let site = Site::usual();
    let server = site.start();
    let names = |scrape: &Scrape| scrape.0.keys().cloned().collect::<Vec<_>>();
    // The first of each kind makes its histograms.
    for host in ["nobody.test", "hello.test"] {
        get(&server, host, "/").await.expect("an answer");
    }
    let before = names(&after(&site, 2).await);

    for batch in 0..REQUESTS / BATCH {
        let requests: String = (0..BATCH)
            .map(|at| {
                let (number, end) = (batch * BATCH + at, at + 1 == BATCH);
                let close = if end { "connection: close\r\n" } else { "" };
                let host = if at == 0 { "hello.test".into() } else { format!("h{number}.test") };
                format!("GET /p{number} HTTP/1.1\r\nhost: {host}\r\n{close}\r\n")
            })
            .collect();
        let mut io = TcpStream::connect(server.http).await.expect("connect");
        io.write_all(requests.as_bytes()).await.expect("send");
        to_the_end(&mut io).await;
    }

    let scrape = after(&site, REQUESTS + 2).await;
    let unknown = scrape.sum("tidegate_requests_total", &[("host", ""), ("code", "4xx")]);
    assert_eq!(unknown, (REQUESTS - REQUESTS / BATCH + 1) as f64);
    let new: Vec<_> = names(&scrape).into_iter().filter(|name| !before.contains(name)).collect();
    // Limits that were reached appear when they are.
    assert!(new.iter().all(|name| name.starts_with("tidegate_limits_reached_total")), "{new:?}");
    assert!(new.len() < 5, "{new:?}");
}
