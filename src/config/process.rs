//! `[server]` and `[log]`: what the whole process shares.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::listen::ListenAddress;
use super::peers::proxies;
use super::problem::Located;
use super::read::Table;
use super::settings::{MAX_KEPT_FILES, MAX_NODE_MEMORY, MAX_TIMEOUT, MAX_TOTAL_SIZE, count};
use super::{Log, LogFormat, LogLevel, Rotation, Server};

const MAX_LISTENERS: usize = 64;
/// Less has no room for a few instances.
const MIN_SERVER_MEMORY: u64 = 16 << 20;

/// Reads `[server]`.
pub(super) fn server(table: &mut Table<'_>) -> Server {
    // Who names one kind of listener wants no other.
    let (http, https) = if table.has("http") || table.has("https") {
        listeners(table)
    } else {
        (vec![ListenAddress::everywhere(8080)], vec![ListenAddress::everywhere(8443)])
    };
    Server {
        h3: h3(table, &https),
        http,
        https,
        proxies: Arc::new(proxies(table)),
        state_dir: directory(table, "state_dir", "state"),
        drain_timeout: table
            .take("drain_timeout", |v| v.duration(MAX_TIMEOUT))
            .unwrap_or(Duration::from_secs(30)),
        upgrade_timeout: table
            .take("upgrade_timeout", |v| v.duration(MAX_TIMEOUT))
            .unwrap_or(Duration::from_secs(600)),
        memory: table.take("memory", |value| value.size(MIN_SERVER_MEMORY, MAX_NODE_MEMORY)),
    }
}

fn listeners(table: &mut Table<'_>) -> (Vec<ListenAddress>, Vec<ListenAddress>) {
    let mut read = |key| match table.has(key) {
        true => table.take(key, |value| value.addresses(MAX_LISTENERS)),
        false => Some(Vec::new()),
    };
    let (Some(http), Some(https)) = (read("http"), read("https")) else {
        return (Vec::new(), Vec::new());
    };

    if http.is_empty() && https.is_empty() {
        let problem = table.place.problem("there is no listener, so nothing would be served");
        table.source.report(problem.with_help("write https = [\"0.0.0.0:8443\"]"));
    }
    let all: Vec<_> = http.iter().chain(&https).collect();
    for (index, address) in all.iter().enumerate() {
        if all[..index].iter().any(|other| address.value.is_taken_by(&other.value)) {
            let problem = address.place.problem(format!("{} is listened on twice", address.value));
            table.source.report(problem.with_help("leave one of them out"));
        }
    }

    let addresses =
        |listeners: Vec<Located<ListenAddress>>| listeners.into_iter().map(|it| it.value).collect();
    (addresses(http), addresses(https))
}

/// HTTP/3 goes with HTTPS.
fn h3(table: &mut Table<'_>, https: &[ListenAddress]) -> bool {
    let is_possible = https.iter().any(|address| address.tcp().is_some());
    let h3 = table.take("h3", |value| match value.flag()? {
        true if !is_possible => value.reject(
            "HTTP/3 is served on the ports of `https`, and there are none",
            "write https = [\"0.0.0.0:8443\"], or leave h3 out",
        ),
        h3 => Some(h3),
    });
    h3.unwrap_or(is_possible)
}

/// Reads `[log]`.
pub(super) fn log(table: &mut Table<'_>) -> Log {
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let levels = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    let rotations = [
        ("minutely", Rotation::Minutely),
        ("hourly", Rotation::Hourly),
        ("daily", Rotation::Daily),
        ("never", Rotation::Never),
    ];

    let to_files = table.has("dir");
    for key in ["rotation", "keep", "max_total_size"] {
        if !to_files && let Some(value) = table.get(key) {
            value.reject::<()>(
                "this is about log files, and without `log.dir` there are none",
                format!("add dir = \"logs\", or leave {key} out"),
            );
        }
    }

    Log {
        dir: table.take("dir", |value| value.path("logs")),
        format: table.take("format", |value| value.one_of(&formats)).unwrap_or(LogFormat::Text),
        level: table.take("level", |value| value.one_of(&levels)).unwrap_or(LogLevel::Info),
        rotation: table
            .take("rotation", |value| value.one_of(&rotations))
            .unwrap_or(Rotation::Daily),
        keep: table.take("keep", |value| value.count(MAX_KEPT_FILES)).unwrap_or(count(7)),
        max_total_size: table
            .take("max_total_size", |v| v.size(1, MAX_TOTAL_SIZE))
            .unwrap_or(256 << 20),
    }
}

fn directory(table: &mut Table<'_>, key: &'static str, default: &str) -> PathBuf {
    let given = table.take(key, |value| value.path(default));
    given.unwrap_or_else(|| table.source.dir.join(default))
}
