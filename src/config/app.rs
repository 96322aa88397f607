//! Apps as the manifest configures them, with the defaults it need not repeat.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::Located;
use super::origin::Origin;
use super::profile::Profile;

/// Leaves room for a generation, an instance, a request and `.json` in a file name of 255 bytes.
const MAX_APP_NAME: usize = 200;

/// An app's name: letters, digits, `-`, `_` and `.`, so that it can be part of a file name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppName(String);

/// One configured app: a component and the limits it runs under.
#[derive(Clone, Debug, PartialEq)]
pub struct App {
    /// Absolute path of the component.
    pub component: Located<PathBuf>,
    /// Environment variables the guest sees: the app's over those of the defaults.
    pub env: BTreeMap<String, String>,
    /// Arguments the guest sees.
    pub args: Vec<String>,
    pub limits: Limits,
    /// What the guest may reach outside; nothing by default.
    pub outbound: BTreeSet<Origin>,
    /// Absent: nothing is sampled.
    pub profile: Option<Profile>,
    /// Error pages show how the guest failed.
    pub dev: bool,
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
    /// Its share of the CPU, against those of other apps that want it at the same time.
    pub cpu_weight: NonZeroUsize,
    /// Guest CPU of one request, apart from the time that passes.
    pub cpu_time: Duration,
    pub max_requests_per_instance: NonZeroUsize,
    pub max_concurrent_per_instance: NonZeroUsize,
    pub max_instances: NonZeroUsize,
    /// Bytes of all linear memories and tables of an instance together.
    pub memory: u64,
    /// The same of all instances of the app.
    pub app_memory: u64,
    /// Requests in instances, from their dispatch to the last byte of their responses.
    pub max_in_flight: NonZeroUsize,
    /// Requests that wait; none where it is 0.
    pub queue: usize,
    /// How long one may wait.
    pub queue_timeout: Duration,
    /// Bytes.
    pub max_request_body: u64,
    /// Bytes.
    pub max_response_body: u64,
    /// Lines of guest output a second, in the long run.
    pub log_rate: NonZeroUsize,
    /// Lines of guest output at once, after a time of silence.
    pub log_burst: NonZeroUsize,
    /// Outbound requests under way at a time.
    pub max_outbound: NonZeroUsize,
    /// For each phase of an outbound request; a guest may ask for less.
    pub outbound_timeout: Duration,
    /// Bytes of an outbound request's body, and of its response's.
    pub max_outbound_body: u64,
}

impl AppName {
    /// `name` if it can be an app's: it starts with a letter or digit, so that
    /// no name is a hidden file, `..` or an option on a command line.
    pub fn parse(name: &str) -> Option<AppName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');

        let valid = name.len() <= MAX_APP_NAME
            && name.bytes().all(allowed)
            && name.starts_with(|first: char| first.is_ascii_alphanumeric());
        valid.then(|| AppName(name.to_owned()))
    }

    /// The name as the manifest writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Default for Limits {
    fn default() -> Limits {
        const fn count(n: usize) -> NonZeroUsize {
            NonZeroUsize::new(n).expect("written here, not zero")
        }

        Limits {
            request_timeout: Duration::from_secs(30),
            stream_idle_timeout: Duration::from_secs(60),
            post_return_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            cpu_weight: const { count(100) },
            cpu_time: Duration::from_secs(10),
            max_requests_per_instance: const { count(1000) },
            max_concurrent_per_instance: const { count(16) },
            max_instances: const { count(64) },
            memory: 128 << 20,
            app_memory: 1 << 30,
            max_in_flight: const { count(1024) },
            queue: 1024,
            queue_timeout: Duration::from_secs(10),
            max_request_body: 64 << 20,
            max_response_body: 1 << 30,
            log_rate: const { count(100) },
            log_burst: const { count(1000) },
            max_outbound: const { count(32) },
            outbound_timeout: Duration::from_secs(30),
            max_outbound_body: 64 << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_name_is_a_file_name_of_its_own() {
        for good in ["hello", "a", "9lives", "shop.example.com", "A_b-c.d"] {
            assert_eq!(AppName::parse(good).map(|name| name.to_string()).as_deref(), Some(good));
        }
        for bad in ["", ".", "..", ".hidden", "-x", "a/b", "a b", "é", "a\0", &"x".repeat(201)] {
            assert_eq!(AppName::parse(bad), None, "{bad:?}");
        }
    }
}
