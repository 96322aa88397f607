//! Origins that an app may reach: scheme, host and port, and nothing else.

use std::fmt;

use super::host::Host;

/// Where an app may send requests, such as `https://api.example.com` or `http://10.0.0.5:8080`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    pub scheme: OriginScheme,
    /// A name, or an address: an address that is written out is thereby granted.
    pub host: Host,
    pub port: u16,
}

/// How an origin is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OriginScheme {
    Http,
    Https,
}

/// Why a text is no origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("an origin begins with http:// or https://")]
    Scheme,
    #[error("an origin is a scheme, a host and a port: any path there can be reached")]
    Path,
    #[error("an origin holds no user and no password")]
    User,
    #[error("an origin names one host: wildcards could mean any address")]
    Wildcard,
    #[error("this is not a host that can be reached")]
    Host,
    #[error("a port is a number from 1 to 65535")]
    Port,
}

impl Origin {
    /// Parses `scheme://host[:port]`; a `/` at the end is allowed.
    pub(super) fn parse(text: &str) -> Result<Origin, Fault> {
        let (scheme, rest) = text.split_once("://").ok_or(Fault::Scheme)?;
        let scheme = match scheme {
            "http" => OriginScheme::Http,
            "https" => OriginScheme::Https,
            _ => return Err(Fault::Scheme),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '\\']) {
            return Err(Fault::Path);
        }
        if authority.contains('@') {
            return Err(Fault::User);
        }
        if authority.contains('*') {
            return Err(Fault::Wildcard);
        }
        Origin::at(scheme, authority)
    }

    /// The origin that a request for `scheme://authority` goes to, read as the manifest's are;
    /// none where the authority is no host that can be reached, or holds anything else.
    pub fn of(scheme: OriginScheme, authority: &str) -> Option<Origin> {
        Origin::at(scheme, authority).ok()
    }

    fn at(scheme: OriginScheme, authority: &str) -> Result<Origin, Fault> {
        // The last colon, unless it is one of an IPv6 address.
        let port = match authority.rsplit_once(':') {
            Some((_, port)) if !port.contains(']') => {
                Some(port.parse().ok().filter(|port| *port != 0).ok_or(Fault::Port)?)
            }
            _ => None,
        };
        let host = Host::from_authority(authority).ok_or(Fault::Host)?;
        Ok(Origin { scheme, host, port: port.unwrap_or(scheme.port()) })
    }

    /// Its host and, unless the scheme implies it, its port: what a `Host` header says.
    pub fn authority(&self) -> String {
        match self.port == self.scheme.port() {
            true => self.host.to_string(),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl OriginScheme {
    /// The port that an origin without one means.
    pub fn port(self) -> u16 {
        match self {
            OriginScheme::Http => 80,
            OriginScheme::Https => 443,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            OriginScheme::Http => "http",
            OriginScheme::Https => "https",
        }
    }
}

impl Fault {
    /// What to write instead.
    pub(super) fn help(self) -> &'static str {
        match self {
            Fault::Host => {
                "write a name or an address in its usual form, such as \"https://api.example.com\" or \"http://[fd00::5]:8080\""
            }
            _ => "write \"https://api.example.com\" or \"http://10.0.0.5:8080\"",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for (text, normal) in [
            ("https://API.example.com", "https://api.example.com"),
            ("https://api.example.com:443/", "https://api.example.com"),
            ("http://10.0.0.5:8080", "http://10.0.0.5:8080"),
            ("http://[FD00::0:5]:80", "http://[fd00::5]"),
        ] {
            assert_eq!(Origin::parse(text).map(|origin| origin.to_string()).as_deref(), Ok(normal));
        }
    }

    #[test]
    fn what_could_mean_more_than_one_place_is_refused() {
        for (text, fault) in [
            ("api.example.com", Fault::Scheme),
            ("ftp://a.example", Fault::Scheme),
            ("https://a.example/path", Fault::Path),
            ("https://a.example?x", Fault::Path),
            ("https://me@a.example", Fault::User),
            ("https://*.example.com", Fault::Wildcard),
            ("https://", Fault::Host),
            ("http://2130706433", Fault::Host),
            ("http://0x7f.1", Fault::Host),
            ("http://[::1", Fault::Host),
            ("http://a.example:0", Fault::Port),
            ("http://a.example:", Fault::Port),
            ("http://a.example:70000", Fault::Port),
        ] {
            assert_eq!(Origin::parse(text), Err(fault), "{text}");
        }
    }
}
