//! What an app may reach: which origins by name, and which addresses behind them.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use http::Uri;
use http::uri::Scheme;

use super::address;
use crate::config::{Origin, OriginScheme};

/// How much of a refused authority is shown; it is the guest's own words.
const SHOWN: usize = 100;

/// The rule of one app.
pub struct Allowed {
    origins: BTreeSet<Origin>,
    /// Special addresses that may be connected to, as they stand in the manifest.
    granted: BTreeSet<SocketAddr>,
}

/// What was refused, in words for the log.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(String);

impl Allowed {
    pub fn new(origins: &BTreeSet<Origin>) -> Self {
        let granted = origins.iter().filter_map(|origin| {
            Some(SocketAddr::new(origin.host.address()?.to_canonical(), origin.port))
        });
        Self { granted: granted.collect(), origins: origins.clone() }
    }

    /// Where a request for `uri` goes, if the app may reach it.
    pub fn origin(&self, uri: &Uri) -> Result<Origin, Refused> {
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let scheme = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => OriginScheme::Http,
            Some(scheme) if *scheme == Scheme::HTTPS => OriginScheme::Https,
            _ => return Err(Refused::new(&format!("//{authority}"))),
        };
        let origin = Origin::of(scheme, authority);
        origin
            .filter(|origin| self.origins.contains(origin))
            .ok_or_else(|| Refused::new(&format!("{}://{authority}", scheme.as_str())))
    }

    /// Whether the app may connect to `address`, which one of its origins resolved to.
    ///
    /// # Errors
    /// What the address is instead.
    pub fn permits(&self, address: SocketAddr) -> Result<(), &'static str> {
        if self.granted.contains(&SocketAddr::new(address.ip().to_canonical(), address.port())) {
            return Ok(());
        }
        if let Some(what) = address::special(address.ip()) {
            return Err(what);
        }
        match address::is_own(address.ip().to_canonical()) {
            Ok(true) => Err("this machine's own"),
            Ok(false) => Ok(()),
            // What cannot be told is not tried.
            Err(_) => Err("not reachable from here"),
        }
    }
}

impl Refused {
    fn new(target: &str) -> Self {
        let shown: String = target.chars().take(SHOWN).collect();
        Self(shown.escape_debug().to_string())
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(origins: &[(OriginScheme, &str)]) -> Allowed {
        let origin = |(scheme, authority): &(_, &str)| Origin::of(*scheme, authority);
        Allowed::new(&origins.iter().map(|it| origin(it).expect("an origin")).collect())
    }

    #[test]
    fn an_origin_is_told_by_scheme_host_and_port_however_they_are_written() {
        let allowed = allowed(&[
            (OriginScheme::Https, "api.example.com"),
            (OriginScheme::Http, "api.example.com:8080"),
            (OriginScheme::Http, "[fd00::5]:8080"),
        ]);
        for uri in [
            "https://api.example.com/",
            "https://API.Example.COM:443/x?y",
            "https://api.example.com.:0443/",
            "http://api.example.com:8080/",
            "http://[FD00:0:0::5]:8080/",
        ] {
            assert!(allowed.origin(&uri.parse().expect(uri)).is_ok(), "{uri}");
        }
        for uri in [
            "http://api.example.com/",
            "https://api.example.com:8080/",
            "https://api.example.com:/",
            "https://api.example.com.example/",
            "https://example.com/",
            "https://x.api.example.com/",
            "https://user@api.example.com/",
            "https://api.example.com@other.example/",
            "https://api.example.com:99999/",
            "http://[fd00::5]/",
            "ftp://api.example.com/",
            "/",
        ] {
            assert!(allowed.origin(&uri.parse().expect(uri)).is_err(), "{uri}");
        }
    }

    #[test]
    fn an_address_is_granted_where_it_is_written_out_and_on_that_port() {
        let allowed = allowed(&[
            (OriginScheme::Http, "10.0.0.5:8080"),
            (OriginScheme::Http, "[::1]:8080"),
            (OriginScheme::Http, "[::ffff:10.0.0.6]:8080"),
            (OriginScheme::Https, "localhost"),
        ]);
        for granted in ["10.0.0.5:8080", "[::ffff:10.0.0.5]:8080", "[::1]:8080", "10.0.0.6:8080"] {
            assert_eq!(allowed.permits(granted.parse().expect(granted)), Ok(()), "{granted}");
        }
        for refused in [
            "10.0.0.5:80",
            "10.0.0.4:8080",
            "127.0.0.1:443",
            "[::1]:443",
            "[64:ff9b::10.0.0.5]:8080",
            "[2002:a00:5::]:8080",
            "[fe80::1%1]:8080",
        ] {
            assert!(allowed.permits(refused.parse().expect(refused)).is_err(), "{refused}");
        }
    }

    #[test]
    fn what_a_guest_asked_for_is_told_in_one_short_line() {
        let long = format!("http://{}/", "a".repeat(10_000));
        let refused = allowed(&[]).origin(&long.parse().expect("a URI")).expect_err("refused");
        assert!(refused.to_string().len() <= SHOWN);
        assert_eq!(Refused::new("a\nb\u{1b}").to_string(), "a\\nb\\u{1b}");
    }
}
