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
