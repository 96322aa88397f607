//! Host names: parsing is the only way to make one.

use std::borrow::Borrow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) const MAX_NAME: usize = 253;
pub(super) const MAX_LABEL: usize = 63;

/// A host name or address as requests name it: lower case, ASCII (IDN as punycode), without port or trailing dot.
///
/// An IPv6 address is in its shortest form, in brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(String);

impl Host {
    /// Parses the host of an authority such as `Example.com:8443`, dropping its port.
    ///
    /// Requests name hosts in ASCII, so a name in any other script is refused
    /// here and costs nothing; [`HostPattern::parse`](super::HostPattern::parse) converts those of the manifest.
    pub fn from_authority(authority: &str) -> Option<Host> {
        if let Some(inside) = authority.strip_prefix('[') {
            let (address, after) = inside.split_once(']')?;
            let port = if after.is_empty() { "" } else { after.strip_prefix(':')? };
            return is_port(port).then(|| Host::from_ipv6(address))?;
        }

        let (name, port) = authority.split_once(':').unwrap_or((authority, ""));
        if !is_port(port) {
            return None;
        }
        Host::from_name(name).ok()
    }

    /// The host as [`fmt::Display`] writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domain one label up, under which a wildcard covers this host; none for an address.
    ///
    /// Borrowed, so that a map of [`Host`]s can be asked without allocating.
    pub fn parent(&self) -> Option<&str> {
        if self.is_address() {
            return None;
        }
        self.0.split_once('.').map(|(_, parent)| parent)
    }

    /// Whether this is an IP address and not a name.
    pub fn is_address(&self) -> bool {
        self.0.starts_with('[') || ends_in_number(&self.0)
    }

    /// The address, where this is one and not a name.
    pub fn address(&self) -> Option<IpAddr> {
        let inside = self.0.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        inside.unwrap_or(&self.0).parse().ok()
    }

    pub(super) fn from_ipv6(address: &str) -> Option<Host> {
        address.parse::<Ipv6Addr>().ok().map(|address| Host(format!("[{address}]")))
    }

    pub(super) fn from_name(name: &str) -> Result<Host, Fault> {
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.is_empty() {
            return Err(Fault::Empty);
        }

        let mut label = 0;
        for byte in name.bytes() {
            match byte {
                b'.' if label == 0 => return Err(Fault::EmptyLabel),
                b'.' => label = 0,
                // The underscore is in no host name by the book, and in many in use.
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' if label < MAX_LABEL => {
                    label += 1
                }
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {
                    return Err(Fault::LongLabel);
                }
                _ => return Err(Fault::Character),
            }
        }
        if label == 0 {
            return Err(Fault::EmptyLabel);
        }
        if name.len() > MAX_NAME {
            return Err(Fault::Long);
        }

        // As in URLs: what ends in a number is an address, or nothing.
        if ends_in_number(name) && name.parse::<Ipv4Addr>().is_err() {
            return Err(Fault::Address);
        }
        Ok(Host(name.to_ascii_lowercase()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for Host {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// What is wrong with a name; words are for the manifest, a request just fails.
#[derive(Clone, Copy)]
pub(super) enum Fault {
    Empty,
    EmptyLabel,
    LongLabel,
    Long,
    Character,
    Address,
}

pub(super) fn is_port(port: &str) -> bool {
    // An empty port is allowed by RFC 3986; `parse` alone would also allow `+80`.
    port.is_empty()
        || (port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok())
}

fn ends_in_number(name: &str) -> bool {
    // Nearly every name is told by its last byte.
    name.ends_with(|last: char| last.is_ascii_digit())
        && name
            .rsplit('.')
            .next()
            .is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(authority: &str) -> Option<String> {
        Host::from_authority(authority).map(|host| host.to_string())
    }

    #[test]
    fn a_request_names_one_host_however_it_is_written() {
        for (authority, expected) in [
            ("example.com", "example.com"),
            ("Example.COM:8443", "example.com"),
            ("example.com.", "example.com"),
            ("example.com.:443", "example.com"),
            ("example.com:", "example.com"),
            ("_dmarc.my_app.example", "_dmarc.my_app.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("192.0.2.1:80", "192.0.2.1"),
            ("[0:0:0:0:0:0:0:1]:8443", "[::1]"),
            ("[2001:DB8::1]", "[2001:db8::1]"),
            ("host1", "host1"),
        ] {
            assert_eq!(host(authority).as_deref(), Some(expected), "{authority}");
        }
    }

    #[test]
    fn a_malformed_authority_names_none() {
        let long_label = "a".repeat(64);
        let long_name = ["abcdefg"; 32].join(".");
        for authority in [
            "",
            ".",
            ":80",
            "a..b",
            ".a",
            "a b",
            " a",
            "a@b",
            "user:pw@a",
            "a/b",
            "a\0",
            "a\n",
            "a:http",
            "a:+80",
            "a:65536",
            "a:80:80",
            "::1",
            "[::1",
            "[::1]x",
            "[::1%eth0]",
            "[]",
            "[1.2.3.4]",
            "bücher.example",
            "1.2.3",
            "256.1.1.1",
            "a.1",
            "01.2.3.4",
            "*.a",
            "a,b",
            "a%41",
            &long_label,
            &long_name,
        ] {
            assert_eq!(host(authority), None, "{authority:?}");
        }
    }

    #[test]
    fn names_of_the_greatest_length_are_hosts() {
        let label = "a".repeat(63);
        let name = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(name.len(), 253);
        assert_eq!(host(&format!("{name}.:1")), Some(name));
    }

    #[test]
    fn an_address_has_no_parent() {
        assert_eq!(Host::from_authority("10.0.0.1").unwrap().parent(), None);
        assert_eq!(Host::from_authority("[::1]").unwrap().parent(), None);
        assert_eq!(Host::from_authority("a.b1").unwrap().parent(), Some("b1"));
        assert_eq!(Host::from_authority("localhost").unwrap().parent(), None);
    }
}
