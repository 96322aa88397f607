//! `tidegate kill APP`: its instances end wherever their guests are.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::under_pressure::cpu;
use crate::support::client::{GUESTS, answer, get_at, to_the_end};
use crate::support::server::{Site, USUAL, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn guests_that_loop_and_guests_that_wait_are_ended_and_new_requests_get_fresh_ones() {
    let site = Site::usual();
    // Long enough that nothing but the kill ends them.
    let patient = USUAL.replace("_timeout = \"2s\"", "_timeout = \"300s\"");
    site.write_manifest(&patient.replace("[defaults]", "[defaults]\ncpu_time = \"300s\""));
    let server = site.start();
    for host in GUESTS {
        let app = host.trim_end_matches(".test");
        let http = server.http;
        let used = cpu(&server);
        let spinning = tokio::spawn(async move { get_at(http, host, "/spin").await });
        wait_until("it computes", || cpu(&server) > used + Duration::from_millis(300));
        let mut dripping = TcpStream::connect(http).await.expect("connect");
        let head = format!("GET /drip?ms=200&count=1000 HTTP/1.1\r\nhost: {host}\r\n\r\n");
        dripping.write_all(head.as_bytes()).await.expect("send");
        let mut begun = vec![0; 1];
        dripping.read_exact(&mut begun).await.expect("an answer begins");

        let began = Instant::now();
        let (status, told) = site.tidegate(&["kill", app, "--json"]);
        assert!(status.success(), "{told}");
        let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
        assert!(told["instances"].as_u64() >= Some(1), "{told}");
        let spun = spinning.await.expect("it ends").expect("an answer");
        assert_eq!(spun.status, 502, "{host}: {}", spun.text());
        let rest = to_the_end(&mut dripping).await;
        assert!(!rest.ends_with("\r\n0\r\n\r\n"), "{host}: its body is cut: {rest}");
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
        assert_eq!(answer(&server, host, "/hello").await, "200 hello world", "{host}");
    }
    wait_until("both are in the log", || server.logged("killed by its operator").len() == 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_of_a_retired_generation_end_as_well() {
    let site = Site::usual();
    let patient = USUAL.replace("_timeout = \"2s\"", "_timeout = \"300s\"");
    site.write_manifest(&patient);
    let server = site.start();
    let mut clients = Vec::new();
    for host in GUESTS {
        let mut dripping = TcpStream::connect(server.http).await.expect("connect");
        let head = format!("GET /drip?ms=200&count=1000 HTTP/1.1\r\nhost: {host}\r\n\r\n");
        dripping.write_all(head.as_bytes()).await.expect("send");
        dripping.read_exact(&mut [0]).await.expect("an answer begins");
        clients.push((host, dripping));
    }
    // Other settings make other pools, and those with the requests are retired.
    site.write_manifest(&patient.replace("idle_timeout = \"5s\"", "idle_timeout = \"6s\""));
    server.wait_for_log("reloaded");

    for (host, mut dripping) in clients {
        let (status, told) = site.tidegate(&["kill", host.trim_end_matches(".test")]);
        assert!(status.success(), "{told}");
        let rest = to_the_end(&mut dripping).await;
        assert!(!rest.ends_with("\r\n0\r\n\r\n"), "{host}: its body is cut: {rest}");
    }
}
