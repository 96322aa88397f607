//! What monitoring makes of it: promtool's judgement, the dashboard, the alerts.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::{Scrape, after, text, until};
use crate::http3::http3;
use crate::support::client::{VERSIONS, get, get_tls, post};
use crate::support::python::missing;
use crate::support::server::{Server, Site, USUAL};

const DASHBOARD: &str = include_str!("../../../monitoring/grafana.json");
const ALERTS: &str = include_str!("../../../monitoring/alerts.yml");

/// Runs promtool with `input`. None where it is not installed.
fn promtool(arguments: &[&str], input: &str) -> Option<Output> {
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(folder());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            missing("promtool", &error.to_string());
            return None;
        }
    };
    let mut stdin = child.stdin.take().expect("its input");
    stdin.write_all(input.as_bytes()).expect("write to it");
    drop(stdin);
    Some(child.wait_with_output().expect("run promtool"))
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("monitoring")
}

fn assert_good(output: Output) {
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(output.status.success(), "{told}");
    assert!(!told.contains("linting"), "{told}");
}

/// A site where something of everything has happened, and how many requests that were.
async fn busy() -> (Site, Server, usize) {
    let site = Site::usual();
    let server = site.start();
    for host in ["hello.test", "p2.test", "p3.test", "nobody.test"] {
        get(&server, host, "/").await.expect("an answer");
    }
    for version in VERSIONS {
        get_tls(&site, &server, "p2.test", "/hello", version).await.expect("an answer");
    }
    post(&server, "p3.test", "/echo", "a body").await.expect("an answer");
    get(&server, "p2.test", "/trap").await.expect("an answer");
    let asked = json!({"requests": [{"path": "/hello"}]});
    let over_h3 = http3(&site, &server, "p3.test", "exchange", asked).await.is_some();
    (site, server, 8 + usize::from(over_h3))
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_nothing_wrong_with_a_scrape() {
    let (site, _server, sent) = busy().await;
    let scrape = after(&site, sent).await;
    let listener =
        |protocol| scrape.sum("tidegate_protocol_connections_total", &[("protocol", protocol)]);
    assert_eq!((listener("h1"), listener("h2")), (7.0, 1.0));
    assert_eq!(listener("h3"), (sent - 8) as f64);
    assert_eq!(scrape.sum("tidegate_handshakes_total", &[("result", "failed")]), 0.0);
    let shaken = scrape.sum("tidegate_handshakes_total", &[("result", "done")]);
    assert_eq!(shaken, 2.0 + listener("h3"));
    assert_eq!(scrape.sum("tidegate_tls_connections_total", &[("version", "1.3")]), shaken);
    until(&site, "all are closed", |scrape| scrape.sum("tidegate_connections_open", &[]) == 0.0)
        .await;
    let expiry =
        scrape.sum("tidegate_certificate_expiry_timestamp_seconds", &[("name", "p2.test")]);
    assert!(expiry > 1.7e9, "{expiry}");

    let Some(output) = promtool(&["check", "metrics"], &text(&site).await) else { return };
    assert_good(output);
}

#[test]
fn the_alerts_are_what_their_tests_say() {
    let Some(output) = promtool(&["check", "rules", "alerts.yml"], "") else { return };
    assert_good(output);
    let tested = promtool(&["test", "rules", "alerts_test.yml"], "").expect("it is installed");
    assert_good(tested);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_of_the_dashboard_and_the_alerts_is_told() {
    let (site, _server) = busy_with_a_queue().await;
    let scrape = Scrape::of(&site).await;
    let told: BTreeSet<&str> = scrape.names().collect();
    let mut wanted = metrics(ALERTS);
    for expression in expressions(&serde_json::from_str(DASHBOARD).expect("JSON")) {
        wanted.extend(metrics(&expression));
    }
    assert!(wanted.len() > 30, "{wanted:?}");
    // Words for people name a histogram as a whole.
    let is_told = |name: &&String| {
        told.contains(name.as_str()) || told.contains(format!("{name}_count").as_str())
    };
    let missing: Vec<_> = wanted.iter().filter(|name| !is_told(name)).collect();
    assert!(missing.is_empty(), "{missing:?} of {told:?}");
}

/// A busy site on which somebody has waited, and a limit was reached.
async fn busy_with_a_queue() -> (Site, Server) {
    let site = Site::usual();
    site.write_manifest(
        &USUAL.replace("[apps.p2]\n", "[apps.p2]\nmax_instances = 1\nmax_in_flight = 1\n"),
    );
    let server = site.start();
    let asked = (0..2).map(|_| get(&server, "p2.test", "/sleep?ms=100"));
    futures_util::future::join_all(asked).await;
    get_tls(&site, &server, "p2.test", "/hello", VERSIONS[0]).await.expect("an answer");
    after(&site, 3).await;
    (site, server)
}

/// The queries of a dashboard: of its panels, and of its variables.
fn expressions(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    let queries = variables.iter().filter_map(|it| it["query"]["query"].as_str());
    let all = targets.filter_map(|target| target["expr"].as_str()).chain(queries);
    all.map(str::to_owned).collect()
}

/// The names of metrics in a text of PromQL.
fn metrics(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c: char| !is_name(c));
    let ours = |word: &&str| {
        ["tidegate_", "process_"].iter().any(|prefix| word.starts_with(prefix)) && word.len() > 10
    };
    words.filter(ours).map(str::to_owned).collect()
}

#[test]
fn the_dashboard_imports_cleanly() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    assert!(dashboard["id"].is_null(), "Grafana gives it one");
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len());
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        // No data source of whoever made it: the one that is chosen at the top.
        for at in panel["targets"].as_array().expect("targets").iter().chain([panel]) {
            assert_eq!(at["datasource"]["uid"], "${datasource}", "{panel:#}");
        }
        let Value::Object(place) = &panel["gridPos"] else { panic!("{panel:#}") };
        let [x, w] = ["x", "w"].map(|key| place[key].as_u64().expect("a number"));
        assert!(x + w <= 24, "{panel:#}");
    }
}
