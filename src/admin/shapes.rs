//! What answers look like: each of these is told in `openapi.json` as well.

use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, Time};

use crate::pool;

/// A failure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Error {
    /// What is wrong; lower case, no full stop.
    pub error: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// `/v1/version`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Version {
    pub version: String,
    pub pid: u32,
    /// RFC 3339, as all times are.
    pub started: String,
}

/// `/v1/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    #[serde(flatten)]
    pub version: Version,
    pub uptime_seconds: u64,
    /// The path of the manifest that serves.
    pub manifest: String,
    pub generation: u64,
    pub listeners: Vec<CountedListener>,
    pub apps: Vec<App>,
    /// What is left of apps that the manifest is without by now.
    pub draining: Vec<DrainingApp>,
    pub memory: Memory,
    /// Limits that clients reached.
    pub limits: Vec<LimitReached>,
    pub routes: Vec<Route>,
    /// Of all requests, those that no route answers included.
    pub rates: Rates,
    pub log: Log,
    pub certificates: Vec<Certificate>,
    pub warnings: Vec<String>,
    pub last_reload: Option<Reload>,
}

/// What is listened on for clients.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listener {
    /// `http` or `https`.
    pub scheme: String,
    pub address: String,
}

/// The same, with the connections of its clients; HTTP/3 has its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CountedListener {
    /// `http`, `https` or `h3`.
    pub scheme: String,
    pub address: String,
    /// Connections that are open.
    pub open: u64,
    /// Those that clients have opened since the start.
    pub accepted: u64,
    /// Those of them that were ended before they said anything.
    pub refused: u64,
}

/// Requests of an app, or of all: how many since the start, and how they were in the last minute.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Rates {
    /// Requests that are through, since the start.
    pub requests: u64,
    /// Those of them with a status of 5xx.
    pub errors: u64,
    /// What the rest is of: a minute, or less where the process has not run for that long.
    pub over_seconds: f64,
    pub requests_per_second: f64,
    pub errors_per_second: f64,
    /// How long half of them took at the most, to the last byte. Absent where there were none.
    pub p50_seconds: Option<f64>,
    /// How long 99 in 100 took at the most.
    pub p99_seconds: Option<f64>,
}

/// Lines of the log that are nowhere, since the start.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Log {
    /// Left out, as too many came.
    pub dropped: u64,
    /// They could not be written.
    pub lost: u64,
}

/// What answers at a host, below a path prefix.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Route {
    pub host: String,
    pub path: String,
    pub kind: RouteKind,
    /// The app's name, the place, the status or the folder.
    pub target: String,
}

/// What makes the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteKind {
    App,
    Redirect,
    Respond,
    Files,
}

/// One app.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct App {
    pub name: String,
    /// Absent while it has no usable component.
    pub kind: Option<AppKind>,
    /// Hosts and path prefixes that lead to it.
    pub routes: Vec<String>,
    /// The path that the manifest names.
    pub component: String,
    /// SHA-256 of the component that serves.
    pub digest: Option<String>,
    pub state: AppState,
    /// Why its newest component cannot be served.
    pub fault: Option<String>,
    pub rates: Rates,
    /// Of what serves.
    pub instances: InstanceCounts,
    /// Requests that its instances work on.
    pub in_flight: usize,
    /// Requests that wait for an instance.
    pub waiting: usize,
    /// What is left of its earlier generations.
    pub draining: Vec<Draining>,
    /// What all of its instances hold of the node's memory.
    pub memory_bytes: u64,
    /// CPU that its guests have used since the start.
    pub cpu_seconds: f64,
    /// Limits that it reached.
    pub limits: Vec<LimitReached>,
    /// Its operator has said that it takes no requests for now.
    pub drained: bool,
}

/// How many instances are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceCounts {
    pub starting: usize,
    pub idle: usize,
    pub busy: usize,
    /// Every response is out, the guest still works.
    pub post_return: usize,
    pub leaving: usize,
}

/// Instances of a generation that is retired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draining {
    pub generation: u64,
    pub instances: usize,
    /// Requests that they work on.
    pub in_flight: usize,
}

/// The same of an app that is gone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DrainingApp {
    pub app: String,
    #[serde(flatten)]
    pub draining: Draining,
}

/// What all instances hold, and may.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Memory {
    pub used_bytes: u64,
    pub limit_bytes: u64,
}

/// A limit, by its name in the manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LimitReached {
    pub limit: String,
    pub times: u64,
    /// To the second.
    pub last: String,
}

/// `/v1/apps/{app}/instances`: what serves first, then what drains.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Instances {
    pub app: String,
    pub pools: Vec<InstancesOf>,
}

/// The instances that one generation made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InstancesOf {
    pub generation: u64,
    /// It is what serves, and not what drains.
    pub serves: bool,
    /// Idle instances leave at once.
    pub evicting: bool,
    pub waiting: usize,
    pub instances: Vec<Instance>,
}

/// One instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Instance {
    pub id: u64,
    pub state: pool::State,
    pub age_seconds: f64,
    /// Requests that it took.
    pub served: u64,
    pub requests: Vec<InFlight>,
    pub memory_bytes: u64,
    pub cpu_seconds: f64,
}

/// A request on an instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InFlight {
    /// As in the log, and in the answer's `x-request-id`.
    pub id: String,
    pub running_seconds: f64,
}

/// One line of `/v1/apps/{app}/drain`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Drained {
    pub app: String,
    /// How many are left.
    pub instances: usize,
    /// None is.
    pub done: bool,
    /// The drain was undone meanwhile.
    pub undone: bool,
}

/// `/v1/apps/{app}/undrain`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Undrained {
    pub app: String,
}

/// `/v1/apps/{app}/kill`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Killed {
    pub app: String,
    /// How many there were.
    pub instances: usize,
}

/// `/v1/explain`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explained {
    /// As it was understood, without its query.
    pub url: String,
    pub generation: u64,
    /// In a line.
    pub answer: String,
    /// Where a connection for it comes in.
    pub listeners: Vec<Listener>,
    pub host: ExplainedHost,
    /// Absent where there is no such host or path.
    pub route: Option<ExplainedRoute>,
    /// Absent where no app answers.
    pub app: Option<ExplainedApp>,
    /// What clients are shown over HTTPS.
    pub certificate: Option<Certificate>,
    pub policy: ExplainedPolicy,
}

/// Which entry of `[hosts]` counts, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainedHost {
    pub name: String,
    pub pattern: Option<String>,
    pub why: String,
    /// Hosts that are there and are written nearly like it.
    pub near: Vec<String>,
}

/// Which path prefix counts, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainedRoute {
    pub prefix: String,
    pub why: String,
    /// `app`, `redirect`, `respond` or `files`.
    pub target: String,
    pub app: Option<String>,
    /// What the route does besides, in the order in which it is done.
    pub duties: Vec<String>,
}

/// The app that answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainedApp {
    pub name: String,
    pub component: String,
    /// SHA-256 of the component that serves; absent while none does.
    pub digest: Option<String>,
    pub fault: Option<String>,
    pub drained: bool,
}

/// What the host asks of its connections.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainedPolicy {
    pub redirect_to_https: bool,
    /// `required` or `optional`; absent where clients are asked for none.
    pub client_certificate: Option<String>,
    pub hsts: Option<String>,
}

/// Which WASI an app's component is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppKind {
    P2,
    P3,
}

/// Whether an app serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppState {
    Serving,
    /// An earlier version serves: what came after it cannot.
    Stale,
    /// Its hosts answer 503: it has no usable component.
    Failed,
    /// Its hosts answer 503 until its component is compiled.
    Compiling,
}

/// The certificate of one host or wildcard.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Certificate {
    pub host: String,
    pub source: CertificateSource,
    /// The names and addresses that it is for.
    pub names: Vec<String>,
    pub issuer: Option<String>,
    pub not_before: Option<String>,
    /// Absent, as what is before it, where the local CA has not issued it yet.
    pub expires: Option<String>,
}

/// Where a certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateSource {
    /// The operator's file.
    File,
    /// An authority that speaks ACME.
    Acme,
    /// tidegate's own authority.
    Local,
}

/// A start or a reload that changed something, or could not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reload {
    pub at: String,
    pub result: Verdict,
    /// What serves since then.
    pub generation: u64,
    /// Absent where nothing was swapped.
    pub elapsed_ms: Option<f64>,
    pub changes: Changes,
    pub problems: Vec<String>,
    pub warnings: Vec<String>,
}

/// What a reload has changed. Keys are named; their values may be secrets.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Changes {
    pub apps: Vec<AppChange>,
    pub hosts: Vec<Change>,
    /// Hosts with a certificate of the operator's, or of an authority.
    pub certificates: Vec<Change>,
    /// Other sections of the manifest.
    pub sections: Vec<String>,
}

/// A host, or a certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Change {
    pub name: String,
    pub change: ChangeKind,
    /// Path prefixes and keys.
    pub keys: Vec<String>,
}

/// An app.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AppChange {
    pub name: String,
    pub change: ChangeKind,
    /// The settings that changed.
    pub keys: Vec<String>,
    /// SHA-256 of the component that served before, and of the one that serves now; both absent
    /// where it is the same.
    pub digest_from: Option<String>,
    pub digest_to: Option<String>,
}

/// How something differs from before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    Added,
    Removed,
    Changed,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The process began.
    Started,
    /// Nothing had changed.
    Unchanged,
    /// All of it serves.
    Applied,
    /// Some of it serves, some cannot.
    Partial,
    /// None of it serves; what did goes on.
    Refused,
}

/// `/v1/reloads`, the latest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reloads {
    pub reloads: Vec<Reload>,
}

/// What came of a look at the files: `/v1/reload`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Looked {
    pub result: Verdict,
    pub generation: u64,
    /// In the order of time; none where nothing was left to do, as the watch had been sooner.
    pub reloads: Vec<Reload>,
    pub last_reload: Option<Reload>,
}

/// `/v1/profiles`, the newest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Profiles {
    pub profiles: Vec<StoredProfile>,
}

/// A profile that can be had at `/v1/profiles/APP/NAME`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredProfile {
    pub app: String,
    pub name: String,
    pub bytes: u64,
    pub written: String,
}

/// `/v1/upgrade`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Upgraded {
    /// The process that serves now.
    pub pid: u32,
}

/// RFC 3339 in UTC, to the millisecond.
pub fn time(at: OffsetDateTime) -> String {
    let to_milliseconds = |it: Time| it.replace_nanosecond(u32::from(it.millisecond()) * 1_000_000);
    let at = at.to_offset(time::UtcOffset::UTC);
    let at = to_milliseconds(at.time()).map_or(at, |time| at.replace_time(time));
    at.format(&Rfc3339).unwrap_or_default()
}
