//! What a host asks of the connections that bring its requests: keys beside its path prefixes, which begin with `/`.

use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;

use super::pattern::HostPattern;
use super::problem::Located;
use super::read::Table;
use super::{Config, Host};

/// Browsers forget before that, and no operator plans for longer.
const MAX_HSTS: Duration = Duration::from_secs(3650 * 86_400);

/// The keys of a policy.
const KEYS: [&str; 5] =
    ["client_ca", "client_auth", "hsts", "hsts_subdomains", "redirect_to_https"];

/// What one entry of `[hosts]` says beside its paths.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    pub client_auth: Option<ClientAuth>,
    /// The value of `Strict-Transport-Security`.
    pub hsts: Option<HeaderValue>,
    /// Whether plain HTTP is sent to HTTPS. Absent: where the host has a certificate that clients may know.
    pub redirect_to_https: Option<bool>,
}

/// Who may connect: clients with a certificate from an authority of the operator's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientAuth {
    /// Absolute; PEM, one authority or more.
    pub ca: Located<PathBuf>,
    /// Clients without a certificate are refused. Otherwise the guest is told of none.
    pub required: bool,
}

impl Config {
    /// What the entry that `host` belongs to asks for, if it asks for anything.
    pub fn policy(&self, host: &Host) -> Option<&Policy> {
        // Nearly nobody has one.
        if self.policies.is_empty() {
            return None;
        }
        let pattern = host.patterns().find(|pattern| self.hosts.contains_key(pattern))?;
        self.policies.get(&pattern)
    }
}

/// Takes the policy of `pattern` out of its table. `https`: whether there is an address for HTTPS.
pub(super) fn policy(table: &mut Table<'_>, pattern: &HostPattern, https: bool) -> Policy {
    if !https {
        for key in KEYS {
            if let Some(value) = table.get(key)
                && value.value.as_bool() != Some(false)
            {
                value.reject::<()>(
                    "this is about HTTPS, and `server.https` has no address",
                    format!("add https = [\"0.0.0.0:8443\"] to [server], or leave {key} out"),
                );
            }
        }
    }
    let policy = Policy {
        client_auth: client_auth(table, pattern),
        hsts: hsts(table, pattern),
        redirect_to_https: table.take("redirect_to_https", |value| value.flag()),
    };
    table.reject_slips(&KEYS);
    policy
}

fn client_auth(table: &mut Table<'_>, pattern: &HostPattern) -> Option<ClientAuth> {
    if !table.has("client_ca")
        && table.slip_of("client_ca").is_none()
        && let Some(value) = table.get("client_auth")
    {
        value.reject::<()>(
            "without `client_ca` no certificate can be told from another",
            "add client_ca = \"certs/clients.pem\", the authority that signs clients' certificates",
        );
    }
    let words = [("required", true), ("optional", false)];
    let required = table.take("client_auth", |value| value.one_of(&words)).unwrap_or(true);
    let ca = table.take("client_ca", |value| match is_address(pattern) {
        true => value.reject(
            "clients that connect to an address name no host, so none is asked for a certificate",
            "give the host a name",
        ),
        false => value.located_path("certs/clients.pem"),
    })?;
    Some(ClientAuth { ca, required })
}

fn hsts(table: &mut Table<'_>, pattern: &HostPattern) -> Option<HeaderValue> {
    if !table.has("hsts")
        && let Some(value) = table.get("hsts_subdomains")
    {
        value.reject::<()>("this is a part of `hsts`, which is not there", "add hsts = \"365d\"");
    }
    let subdomains = table.take("hsts_subdomains", |value| value.flag()).unwrap_or(false);
    let age = table.take("hsts", |value| match value.text() {
        _ if is_address(pattern) => {
            value.reject("browsers remember this for names only", "leave hsts out")
        }
        // How a host is taken back from the browsers that know it.
        Some("0s") => Some(0),
        _ => match value.duration(MAX_HSTS)?.as_secs() {
            0 => value.reject("browsers count in seconds", "write \"365d\", or \"0s\" to end it"),
            seconds => Some(seconds),
        },
    })?;
    let subdomains = if subdomains { "; includeSubDomains" } else { "" };
    HeaderValue::try_from(format!("max-age={age}{subdomains}")).ok()
}

fn is_address(pattern: &HostPattern) -> bool {
    matches!(pattern, HostPattern::Exact(host) if host.is_address())
}
