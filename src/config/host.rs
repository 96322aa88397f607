//! Host names: parsing is the only way to make one.

use std::fmt;

/// A host name or address as requests name it: lower case, ASCII (IDN as punycode), without port or trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(String);

impl Host {
    /// Parses the host of an authority such as `Example.com:8443`, dropping its port.
    pub fn from_authority(authority: &str) -> Option<Host> {
        let _ = authority;
        todo!("config")
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a manifest maps: one host, all hosts one label below a domain, or every host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    Exact(Host),
    /// `*.example.com`, holding `example.com`.
    Wildcard(Host),
    Any,
}

impl HostPattern {
    pub fn matches(&self, host: &Host) -> bool {
        let _ = host;
        todo!("config")
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _ = f;
        todo!("config")
    }
}
