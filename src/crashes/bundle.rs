//! The format of a bundle: JSON, for people and programs.
//!
//! `format` is 1. It changes when a field is taken away or means something else, and not when
//! one is added.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Crash;
use super::head::{Head, cut};
use crate::config::{Limits, duration_text, size_text};
use crate::guest::last_lines::Line;
use crate::guest::trace::Frame;

/// The version of the format.
pub const FORMAT: u32 = 1;

/// Bytes of a reason; a longer one is cut.
const MAX_REASON: usize = 2048;

/// What is known of a guest that failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    pub format: u32,
    /// The version of tidegate.
    pub tidegate: String,
    /// When it failed, in UTC (RFC 3339).
    pub time: String,
    pub app: String,
    /// That which made the instance's pool.
    pub generation: u64,
    pub kind: Kind,
    pub phase: Phase,
    pub reason: String,
    /// The innermost call first.
    pub backtrace: Vec<Frame>,
    pub instance: Instance,
    pub component: Component,
    /// Absent where it was no request's doing, as at an instance's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Head>,
    /// The last ones that the instance has written, the oldest first.
    pub lines: Vec<Line>,
    /// The app's, under their names in the manifest.
    pub limits: BTreeMap<String, String>,
    /// Crashes of the app since its last bundle that there is none of.
    pub left_out: u64,
}

/// How a guest failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It did what WebAssembly forbids, or gave up: a panic is one as well.
    Trap,
    /// It exited, and said that it failed.
    Exit,
    /// A request, or an instance's start, computed for longer than `cpu_time`.
    CpuTime,
    /// The host could not go on with it.
    Error,
}

/// What it was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The start of an instance.
    Start,
    /// Requests, and what is done after them.
    Request,
}

/// The instance that failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// Which of its pool; 0 for one that was only to show that the component starts.
    pub id: u64,
    pub age_seconds: f64,
    /// The one it failed in included.
    pub requests_served: u64,
    pub requests_in_flight: usize,
    /// Of its memories and tables.
    pub memory_bytes: usize,
}

/// What it was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    pub path: String,
    /// SHA-256 of the file, in hexadecimal digits.
    pub digest: String,
}

impl Bundle {
    pub(super) fn new(
        app: &str,
        component: &super::Component,
        crash: Crash,
        left_out: u64,
    ) -> Self {
        let time = OffsetDateTime::from(crash.time);
        Self {
            format: FORMAT,
            tidegate: env!("CARGO_PKG_VERSION").to_owned(),
            // To the millisecond. Years after 9999 have no such text.
            time: time
                .replace_nanosecond(time.nanosecond() / 1_000_000 * 1_000_000)
                .ok()
                .and_then(|time| time.format(&Rfc3339).ok())
                .unwrap_or_else(|| "9999-12-31T23:59:59Z".to_owned()),
            app: app.to_owned(),
            generation: crash.generation,
            kind: crash.kind,
            phase: crash.phase,
            reason: cut(&crash.reason, MAX_REASON),
            backtrace: crash.frames,
            instance: Instance {
                id: crash.instance,
                age_seconds: crash.scene.age.as_secs_f64(),
                requests_served: crash.scene.served,
                requests_in_flight: crash.scene.in_flight,
                memory_bytes: crash.scene.memory,
            },
            component: Component {
                path: component.path.display().to_string(),
                digest: component.digest.to_string(),
            },
            request: crash.scene.head.as_ref().map(Head::new),
            lines: crash.scene.lines,
            limits: limits(&crash.limits),
            left_out,
        }
    }

    /// Where in the guest's own code it failed, as far as that can be told.
    pub fn top(&self) -> Option<&Frame> {
        let own = self.backtrace.iter().find(|frame| !frame.is_runtime());
        own.or(self.backtrace.first())
    }
}

/// Those that may have to do with it.
fn limits(limits: &Limits) -> BTreeMap<String, String> {
    [
        ("request_timeout", duration_text(limits.request_timeout)),
        ("cpu_time", duration_text(limits.cpu_time)),
        ("stream_idle_timeout", duration_text(limits.stream_idle_timeout)),
        ("post_return_timeout", duration_text(limits.post_return_timeout)),
        ("memory", size_text(limits.memory)),
        ("app_memory", size_text(limits.app_memory)),
        ("max_instances", limits.max_instances.to_string()),
        ("max_requests_per_instance", limits.max_requests_per_instance.to_string()),
        ("max_concurrent_per_instance", limits.max_concurrent_per_instance.to_string()),
        ("max_request_body", size_text(limits.max_request_body)),
        ("max_outbound", limits.max_outbound.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}
