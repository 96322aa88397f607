//! The manifest as plain data: a `Config` in hand is valid.
//!
//! The TOML shape and its errors stay inside this module; what the files it
//! names contain is for `guest` and `server` to judge.

mod acme;
mod admin;
mod app;
mod clients;
mod differences;
mod duties;
mod files;
mod folder;
mod host;
mod hosts;
mod listen;
mod manifest;
mod origin;
mod paths;
mod pattern;
mod peers;
mod policy;
mod problem;
mod process;
mod profile;
#[cfg(test)]
mod properties;
mod read;
mod route;
mod settings;
mod suggest;
mod syntax;
mod tls;
mod traces;
mod units;
mod values;

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use acme::{
    ACME_HOSTS_MAX, Acme, Challenge, Dns, DnsEditor, ExternalAccount, TsigAlgorithm, TsigKey,
};
pub use admin::{Admin, AdminTcp};
pub use app::{App, AppName, Limits};
pub use clients::{Clients, Compile};
pub use differences::{Difference, DifferenceKind};
pub use duties::{BasicAuth, Coding, Cors, CorsOrigins, Duties, HeaderRules, RateLimit};
pub use files::{Files, Missing};
pub use host::Host;
pub use listen::ListenAddress;
#[cfg(any(fuzzing, test))]
pub(crate) use manifest::from_text as manifest_from_text;
pub use origin::{Origin, OriginScheme};
pub use paths::Paths;
pub use pattern::{HostPattern, InvalidHost};
pub use peers::{ForwardedHeader, Peer, Peers, Proxies};
pub use policy::{ClientAuth, Policy};
pub use problem::{Located, Place, Problem, Problems};
pub use profile::{Profile, When};
pub use route::{Redirect, Respond, Route, Target};
pub use tls::{Tls, TlsVersion};
pub(crate) use traces::header as trace_header;
pub use traces::{Traces, TrustParent};
pub(crate) use units::{duration_text, size_text};

/// Where the manifest is looked for when the command line names none, in this order.
pub const SEARCHED: [&str; 2] = ["config.toml", "/etc/tidegate/config.toml"];

/// Everything one manifest says, with folders expanded into the apps they hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The manifest's own path, absolute.
    pub path: PathBuf,
    pub server: Server,
    pub clients: Clients,
    pub compile: Compile,
    pub log: Log,
    pub admin: Admin,
    /// Shared with each request that is traced. Absent: none is.
    pub traces: Option<Arc<Traces>>,
    /// By name. A component found in a folder is an app named after its host.
    pub apps: BTreeMap<AppName, App>,
    /// Which route answers where. A folder's wildcard is here with no paths, the
    /// hosts of its components as exact ones.
    pub hosts: BTreeMap<HostPattern, Paths>,
    /// What the entries of `hosts` ask for, where they ask for anything.
    pub policies: BTreeMap<HostPattern, Policy>,
    /// Folders whose `.wasm` files are served as hosts, for the watch; absolute.
    pub folders: Vec<PathBuf>,
    pub tls: Tls,
    /// Certificates given by the operator.
    pub certificates: BTreeMap<HostPattern, CertificateFiles>,
    /// The authority that other certificates come from. Absent: they are the local CA's.
    pub acme: Option<Acme>,
    /// What is likely not meant, in words: files in folders that are not
    /// served, and apps without a host. Compared as well, so that a file
    /// dropped under an impossible name is answered with a log line.
    pub warnings: Vec<String>,
}

/// Listeners and what the whole process shares.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// For plain HTTP; empty where only `https` is given.
    pub http: Vec<ListenAddress>,
    /// For HTTPS; empty where only `http` is given.
    pub https: Vec<ListenAddress>,
    /// Shared with each connection, which begins and is counted as they were when it came.
    pub proxies: Arc<Proxies>,
    /// Whether HTTP/3 is served as well, over UDP on the addresses of `https`.
    pub h3: bool,
    /// Absolute.
    pub state_dir: PathBuf,
    pub drain_timeout: Duration,
    /// How long a process that is to take over may take to load everything.
    pub upgrade_timeout: Duration,
    /// Bytes that all instances of all apps may take together. Absent: a part of what the
    /// machine, or the control group, has.
    pub memory: Option<u64>,
}

/// Where and how the log is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// Absolute. Absent: standard error only.
    pub dir: Option<PathBuf>,
    pub format: LogFormat,
    pub level: LogLevel,
    pub rotation: Rotation,
    /// How many rotated files are kept.
    pub keep: NonZeroUsize,
    /// Bytes of log files kept at the most.
    pub max_total_size: u64,
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// An object a line.
    Json,
}

/// What is logged: this and everything graver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// When a new log file is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    Minutely,
    Hourly,
    Daily,
    Never,
}

/// A certificate chain and its key, as PEM files.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateFiles {
    /// Absolute; the chain, the host's own certificate first.
    pub cert: Located<PathBuf>,
    /// Absolute.
    pub key: Located<PathBuf>,
}

/// There is no manifest at any of the places where one is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no manifest: neither ./{} nor {} exists\n  help: copy config.example.toml to config.toml, or name one with --config PATH",
    SEARCHED[0],
    SEARCHED[1]
)]
pub struct NoManifest;

impl Config {
    /// The manifest to load: the one the command line names, or the first of [`SEARCHED`] that is there.
    pub fn find(named: Option<&Path>) -> Result<PathBuf, NoManifest> {
        match named {
            // Whether it is there is for `load` to say, which names it.
            Some(path) => Ok(path.to_owned()),
            None => first_there(&SEARCHED.map(Path::new)).ok_or(NoManifest),
        }
    }

    /// The app that `name` is likely meant to be.
    pub fn app_like(&self, name: &str) -> Option<&str> {
        suggest::closest(name, self.apps.keys().map(AppName::as_str))
    }

    /// Hosts that `host` is likely meant to be, closest first, at most so many.
    pub fn hosts_like(&self, host: &Host, most: usize) -> Vec<String> {
        let exact = self.hosts.keys().filter_map(|pattern| match pattern {
            HostPattern::Exact(host) => Some(host.as_str()),
            HostPattern::Wildcard(_) | HostPattern::Any => None,
        });
        let near = suggest::close(host.as_str(), exact.collect(), most);
        near.into_iter().map(str::to_owned).collect()
    }

    /// The keys in which `new` differs and that are read at the start only.
    pub fn changes_needing_restart(&self, new: &Config) -> Vec<String> {
        let (server, log) = (&self.server, &self.log);
        let changes = [
            ("server.http", server.http != new.server.http),
            ("server.https", server.https != new.server.https),
            ("server.h3", server.h3 != new.server.h3),
            ("server.state_dir", server.state_dir != new.server.state_dir),
            ("log.dir", log.dir != new.log.dir),
            ("log.format", log.format != new.log.format),
            ("log.level", log.level != new.log.level),
            ("log.rotation", log.rotation != new.log.rotation),
            ("log.keep", log.keep != new.log.keep),
            ("log.max_total_size", log.max_total_size != new.log.max_total_size),
            ("admin", self.admin != new.admin),
        ];
        changes.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key.to_owned()).collect()
    }
}

fn first_there(candidates: &[&Path]) -> Option<PathBuf> {
    // Anything but a clear "not there" is a manifest that `load` will explain.
    let absent = |path: &Path| {
        path.symlink_metadata().is_err_and(|error| {
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        })
    };
    candidates.iter().find(|path| !absent(path)).map(|path| path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_manifest_that_is_there_is_found() {
        let folder = tempfile::tempdir().expect("make a folder");
        let [first, second] = ["a.toml", "b.toml"].map(|name| folder.path().join(name));
        let search = || first_there(&[&first, &second]);

        assert_eq!(search(), None);
        std::fs::write(&second, "").expect("write the second");
        assert_eq!(search().as_ref(), Some(&second));
        std::fs::write(&first, "").expect("write the first");
        assert_eq!(search().as_ref(), Some(&first));
    }

    #[test]
    fn a_manifest_that_is_named_is_the_one() {
        let named = Path::new("no/such.toml");
        assert_eq!(Config::find(Some(named)), Ok(named.to_owned()));
    }

    #[test]
    fn without_a_manifest_both_places_and_the_example_are_named() {
        let message = NoManifest.to_string();
        for name in ["./config.toml", "/etc/tidegate/config.toml", "config.example.toml"] {
            assert!(message.contains(name), "{message}");
        }
    }
}
