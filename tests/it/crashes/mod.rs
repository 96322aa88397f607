//! What is kept of guests that fail, and what their developers are shown.

mod bounds;
mod bundles;
mod command;
mod dev;

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::server::{Server, Site, wait_until};

/// A server with the guest as `a.test`, and an app beside it as `b.test`.
fn start(name: &str, settings: &str) -> (Site, Server) {
    let site = Site::with_neighbour(name, settings);
    let server = site.start();
    (site, server)
}

/// The files of the bundles that are complete, the oldest first.
fn files(site: &Site) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(site.path("state/crashes")) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    // Their names begin with the same app, and go on with the time.
    paths.sort();
    paths
}

/// Waits until there are so many, and returns them as text.
fn bundles(site: &Site, count: usize) -> Vec<String> {
    wait_until("the bundles are written", || files(site).len() >= count);
    let texts = files(site).into_iter().map(|path| fs::read_to_string(path).expect("a bundle"));
    texts.collect()
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// The only bundle there is.
fn only(site: &Site) -> Value {
    let texts = bundles(site, 1);
    assert_eq!(texts.len(), 1, "{texts:#?}");
    parse(&texts[0])
}

/// The names of the functions in a backtrace.
fn functions(bundle: &Value) -> Vec<&str> {
    let frames = bundle["backtrace"].as_array().expect("a backtrace");
    frames.iter().map(|frame| frame["function"].as_str().expect("a name")).collect()
}

/// Where the guest `lines-p2` fails: its compiler makes the condition and what follows from it one.
fn line_that_fails() -> String {
    let source = include_str!("../../guests/lines-p2/src/lib.rs");
    let line = source.lines().position(|line| line.contains("if black_box(price) > 0"));
    format!("lines-p2/src/lib.rs:{}", line.expect("the line") + 1)
}
