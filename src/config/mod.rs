//! The manifest as plain data: a `Config` in hand is valid.
//!
//! The TOML shape and its errors stay inside this module; what the files it
//! names contain is for `guest` and `server` to judge.

mod host;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

pub use host::{Host, HostPattern};

/// Everything one manifest says, with folders expanded into the apps they hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The manifest's own path, absolute.
    pub path: PathBuf,
    pub server: Server,
    pub log: Log,
    /// By name. A component found in a folder is an app named after its host.
    pub apps: BTreeMap<AppName, App>,
    /// Which app answers where.
    pub hosts: BTreeMap<HostPattern, Paths>,
    /// Folders whose `.wasm` files are served as hosts, for the watch.
    pub folders: Vec<PathBuf>,
    /// Certificates given by the operator.
    pub certificates: BTreeMap<HostPattern, CertificateFiles>,
}

/// Listeners and what the whole process shares.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    pub http: Vec<SocketAddr>,
    pub https: Vec<SocketAddr>,
    pub state_dir: PathBuf,
    pub drain_timeout: Duration,
}

/// Where and how the log is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// Absent: standard error only.
    pub dir: Option<PathBuf>,
    pub format: LogFormat,
    pub level: LogLevel,
    pub rotation: Rotation,
    /// How many rotated files are kept.
    pub keep: NonZeroUsize,
    /// Bytes of log files kept at the most.
    pub max_total_size: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    Minutely,
    Hourly,
    Daily,
    Never,
}

/// An app's name: letters, digits, `-`, `_` and `.`, so that it can be part of a file name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppName(String);

/// One configured app: a component and the limits it runs under.
#[derive(Clone, Debug, PartialEq)]
pub struct App {
    /// Absolute path of the component.
    pub component: Located<PathBuf>,
    pub env: BTreeMap<String, String>,
    pub args: Vec<String>,
    pub limits: Limits,
    pub profile: Option<Profile>,
}

/// What an app may use, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// To the response head.
    pub request_timeout: Duration,
    /// Between body chunks, either way.
    pub stream_idle_timeout: Duration,
    /// For work after the response is complete.
    pub post_return_timeout: Duration,
    /// An idle instance is dropped after this.
    pub idle_timeout: Duration,
    pub max_requests_per_instance: NonZeroUsize,
    pub max_concurrent_per_instance: NonZeroUsize,
    pub max_instances: NonZeroUsize,
    /// Bytes of all linear memories of an instance together.
    pub memory: u64,
}

/// Sampling of guest code, per store.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    pub interval: Duration,
    /// One store in this many is sampled.
    pub sample: NonZeroUsize,
    pub dir: PathBuf,
    pub max_files: NonZeroUsize,
    pub max_total_size: u64,
}

/// Path prefixes of one host, longest first; `/` is one of them or nothing else matches.
#[derive(Clone, Debug, PartialEq)]
pub struct Paths(Vec<(String, AppName)>);

/// A certificate chain and its key, as PEM files.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateFiles {
    pub cert: Located<PathBuf>,
    pub key: Located<PathBuf>,
}

/// A value and where the manifest gives it. Two are equal when their values are.
#[derive(Clone, Debug)]
pub struct Located<T> {
    pub value: T,
    pub place: Place,
}

/// A place in the manifest.
#[derive(Clone, Debug)]
pub struct Place {
    /// The manifest, as the user named it.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// Dotted, such as `apps.hello.component`.
    pub key: String,
}

impl<T: PartialEq> PartialEq for Located<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Paths {
    /// The app whose prefix is the longest that matches `path` on segment boundaries.
    pub fn find(&self, path: &str) -> Option<&AppName> {
        let _ = path;
        todo!("config")
    }
}
