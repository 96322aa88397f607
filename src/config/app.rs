//! Apps as the manifest configures them, with the defaults it need not repeat.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::Located;

/// Leaves room for a generation, an instance and `.json` in a file name of 255 bytes.
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
    /// Absent: nothing is sampled.
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
    /// Absolute.
    pub dir: PathBuf,
    pub max_files: NonZeroUsize,
    /// Bytes of profiles kept at the most.
    pub max_total_size: u64,
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
            max_requests_per_instance: const { count(1000) },
            max_concurrent_per_instance: const { count(16) },
            max_instances: const { count(64) },
            memory: 128 << 20,
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
