//! The hosts of a manifest, with the mistakes that operators make told apart.

use std::fmt;
use std::net::Ipv6Addr;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use super::host::{Fault, Host, MAX_LABEL, MAX_NAME, is_port};

/// What a manifest maps: one host, all hosts one label below a domain, or every host.
///
/// In this order the first that matches is the one that counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// One name or address.
    Exact(Host),
    /// `*.example.com`, holding `example.com`.
    Wildcard(Host),
    /// `*`.
    Any,
}

/// Why a manifest's host is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidHost {
    message: String,
    help: Option<String>,
}

impl HostPattern {
    /// Parses a host of the manifest: `example.com`, `*.example.com`, `*`, an
    /// address, or a name in any script, which becomes punycode.
    pub fn parse(text: &str) -> Result<HostPattern, InvalidHost> {
        if text == "*" {
            return Ok(HostPattern::Any);
        }
        let Some(domain) = text.strip_prefix("*.") else {
            return parse_host("", text).map(HostPattern::Exact);
        };

        let domain = parse_host("*.", domain)?;
        if domain.is_address() {
            return Err(InvalidHost::new(
                "an address has no wildcard",
                format!("write \"{domain}\""),
            ));
        }
        Ok(HostPattern::Wildcard(domain))
    }

    /// Whether a request for `host` is meant; a wildcard covers one label and not its domain itself.
    pub fn matches(&self, host: &Host) -> bool {
        match self {
            HostPattern::Exact(exact) => exact == host,
            HostPattern::Wildcard(domain) => host.parent() == Some(domain.as_str()),
            HostPattern::Any => true,
        }
    }
}

impl Host {
    /// What can be said of this host, closest first.
    pub fn patterns(&self) -> impl Iterator<Item = HostPattern> {
        let parent = self.parent().and_then(Host::from_authority);
        [
            Some(HostPattern::Exact(self.clone())),
            parent.map(HostPattern::Wildcard),
            Some(HostPattern::Any),
        ]
        .into_iter()
        .flatten()
    }
}

impl InvalidHost {
    fn new(message: impl Into<String>, help: impl Into<Option<String>>) -> InvalidHost {
        InvalidHost { message: message.into(), help: help.into() }
    }

    /// What to write instead.
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Exact(host) => write!(f, "{host}"),
            HostPattern::Wildcard(domain) => write!(f, "*.{domain}"),
            HostPattern::Any => f.write_str("*"),
        }
    }
}

/// One host, after the `wildcard` that preceded it, with the mistakes that operators make told apart.
fn parse_host(wildcard: &str, text: &str) -> Result<Host, InvalidHost> {
    if let Some((_, rest)) = text.split_once("://") {
        let authority = rest.split('/').next().unwrap_or_default();
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if is_port(port) => host,
            _ => authority,
        };
        return Err(InvalidHost::new("expected a host, found a URL", format!("write \"{host}\"")));
    }
    if let Some((host, path)) = text.split_once('/') {
        let help = format!("write \"{wildcard}{host}\" = {{ \"/{path}\" = \"APP\" }}");
        return Err(InvalidHost::new("expected a host, found a host with a path", help));
    }
    if text.contains('*') {
        let below = text.strip_prefix('*').or_else(|| text.split_once('.').map(|(_, rest)| rest));
        let below = below
            .filter(|domain| wildcard.is_empty() && domain.contains('.') && !domain.contains('*'));
        let help = format!("write \"*.{}\"", below.unwrap_or("example.com"));
        return Err(InvalidHost::new(
            "a wildcard stands for the whole first label and nothing else",
            help,
        ));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(InvalidHost::new(
            "an IPv6 address is written in brackets",
            format!("write \"[{text}]\""),
        ));
    }
    if let Some(inside) = text.strip_prefix('[') {
        let (address, after) = inside.split_once(']').unwrap_or((inside, ""));
        return match Host::from_ipv6(address) {
            Some(host) if text.len() == address.len() + 2 => Ok(host),
            Some(host) if after.starts_with(':') => Err(has_port(wildcard, host.as_str())),
            _ => Err(InvalidHost::new(
                "not an IPv6 address",
                "write one such as \"[::1]\"".to_owned(),
            )),
        };
    }
    if let Some((host, port)) = text.split_once(':')
        && is_port(port)
    {
        return Err(has_port(wildcard, host));
    }
    parse_name(text)
}

fn parse_name(text: &str) -> Result<Host, InvalidHost> {
    // Punycode is looked into as well: what decodes to no valid name is a typing mistake.
    let name = if text.is_ascii() && !text.to_ascii_lowercase().contains("xn--") {
        Ok(text.into())
    } else {
        let bytes = text.strip_suffix('.').unwrap_or(text).as_bytes();
        Uts46::new().to_ascii(bytes, AsciiDenyList::URL, Hyphens::CheckFirstLast, DnsLength::Verify)
    };
    let Ok(name) = name else {
        return Err(InvalidHost::new("not a valid internationalised host name", None));
    };

    Host::from_name(&name).map_err(|fault| match fault {
        Fault::Empty => InvalidHost::new(
            "a host name is not empty",
            "write a host, or \"*\" for any".to_owned(),
        ),
        Fault::EmptyLabel => {
            InvalidHost::new("a host name has no empty part between its dots", None)
        }
        Fault::LongLabel => InvalidHost::new(
            format!("a part of a host name has at most {MAX_LABEL} characters"),
            None,
        ),
        Fault::Long => {
            InvalidHost::new(format!("a host name has at most {MAX_NAME} characters"), None)
        }
        Fault::Character => {
            let help = "a host name consists of letters, digits, `-`, `_` and dots".to_owned();
            InvalidHost::new("not a host name", help)
        }
        Fault::Address => {
            let help = "write one such as \"192.0.2.1\"; no host name ends in a number".to_owned();
            InvalidHost::new("not an IPv4 address", help)
        }
    })
}

fn has_port(wildcard: &str, host: &str) -> InvalidHost {
    let help = format!("write \"{wildcard}{host}\"");
    InvalidHost::new("matching ignores the port, so a host has none here", help)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> HostPattern {
        HostPattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_wildcard_covers_one_label() {
        let wildcard = pattern("*.Example.com");
        let covers = |name: &str| wildcard.matches(&Host::from_authority(name).unwrap());

        assert!(covers("a.example.com") && covers("A.EXAMPLE.COM:1"));
        assert!(!covers("example.com") && !covers("a.b.example.com") && !covers("aexample.com"));
    }

    #[test]
    fn names_of_any_script_become_punycode() {
        assert_eq!(pattern("Bücher.example").to_string(), "xn--bcher-kva.example");
        assert_eq!(pattern("*.bücher.example.").to_string(), "*.xn--bcher-kva.example");
        assert_eq!(pattern("例え。テスト").to_string(), "xn--r8jz45g.xn--zckzah");
        assert!(HostPattern::parse("a\u{ff1a}80").is_err(), "a full-width colon is still a colon");
        assert!(HostPattern::parse("\u{2488}com").is_err());
    }

    #[test]
    fn the_most_specific_pattern_comes_first() {
        let mut patterns = [pattern("*"), pattern("*.a.b"), pattern("x.a.b")];
        patterns.sort();
        assert_eq!(patterns.map(|pattern| pattern.to_string()), ["x.a.b", "*.a.b", "*"]);
    }
}
