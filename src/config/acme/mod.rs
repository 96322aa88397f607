//! `[tls.acme]`: the authority that certificates come from, how it checks hosts, and which hosts it is asked for.

mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub(super) use table::acme;

use super::host::Host;
use super::paths::Paths;
use super::pattern::HostPattern;
use super::problem::Located;
use super::{CertificateFiles, Config, Server};

/// Hosts that the authority is asked for at the most; the local CA serves the others.
pub const ACME_HOSTS_MAX: usize = 1000;

/// Last labels under which no authority issues, be it a public or a private one.
const NOBODYS: [&str; 4] = ["localhost", "invalid", "onion", "alt"];

/// Last labels that mean something else in each network, so that no public authority issues for them.
const PRIVATE: [&str; 8] = ["local", "internal", "arpa", "test", "example", "home", "corp", "lan"];

/// Where certificates come from, and what it takes to get them.
#[derive(Clone, Debug, PartialEq)]
pub struct Acme {
    /// Whom the authority writes to about certificates that are about to expire.
    pub email: Option<String>,
    /// The URL of the authority's directory; https.
    pub directory: String,
    /// The root of the authority's own TLS certificate, where it is none that the system trusts: then it
    /// is a private authority. Absolute.
    pub ca_root: Option<Located<PathBuf>>,
    pub challenge: Challenge,
    pub external_account: Option<ExternalAccount>,
}

/// How the authority checks that a host is ours.
#[derive(Clone, Debug, PartialEq)]
pub enum Challenge {
    /// By a request to port 80 of the host.
    Http01,
    /// By a handshake with port 443 of the host.
    TlsAlpn01,
    /// By a record below the host's name: the only one for wildcards.
    Dns01(Dns),
}

/// How records come to be in the DNS.
#[derive(Clone, Debug, PartialEq)]
pub struct Dns {
    pub editor: DnsEditor,
    /// How long a record needs to be known everywhere.
    pub wait: Duration,
}

/// Who writes the records.
#[derive(Clone, Debug, PartialEq)]
pub enum DnsEditor {
    /// A command of the operator's: a program's path, absolute, and its first arguments. Never empty.
    Hook(Located<Vec<String>>),
    /// Updates as RFC 2136 has them, signed with a key that the name server knows.
    Update { server: SocketAddr, key: TsigKey },
}

/// The key of DNS updates.
#[derive(Clone, Debug, PartialEq)]
pub struct TsigKey {
    /// As the name server knows it.
    pub name: Host,
    /// Holds the secret in base64; absolute.
    pub file: Located<PathBuf>,
    pub algorithm: TsigAlgorithm,
}

/// How DNS updates are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TsigAlgorithm {
    HmacSha256,
    HmacSha384,
    HmacSha512,
}

/// An account that the operator has with the authority, to which the ACME account is bound.
#[derive(Clone, Debug, PartialEq)]
pub struct ExternalAccount {
    pub key_id: String,
    /// Holds the key in base64url, as authorities hand it out; absolute.
    pub hmac_key_file: Located<PathBuf>,
}

impl Challenge {
    pub fn as_str(&self) -> &'static str {
        match self {
            Challenge::Http01 => "http-01",
            Challenge::TlsAlpn01 => "tls-alpn-01",
            Challenge::Dns01(_) => "dns-01",
        }
    }
}

impl Config {
    /// The hosts that the authority is asked for: served, without a certificate of the operator's, and such
    /// as it may issue for. A host below a wildcard that is asked for needs none of its own.
    pub fn acme_hosts(&self) -> BTreeSet<HostPattern> {
        let Some(acme) = &self.acme else { return BTreeSet::new() };
        let mut hosts = candidates(acme, &self.hosts, &self.certificates);
        if !matches!(acme.challenge, Challenge::Dns01(_)) {
            hosts.retain(|pattern| matches!(pattern, HostPattern::Exact(_)));
        }
        let wildcards: BTreeSet<_> = hosts.iter().filter_map(wildcard_domain).cloned().collect();
        let has_wildcard = |host: &Host| host.parent().is_some_and(|up| wildcards.contains(up));
        hosts.retain(|pattern| !matches!(pattern, HostPattern::Exact(host) if has_wildcard(host)));
        hosts.into_iter().take(ACME_HOSTS_MAX).collect()
    }

    /// What about `[tls.acme]` is likely not meant, in words.
    pub(super) fn acme_warnings(&self) -> Vec<String> {
        let Some(acme) = &self.acme else { return Vec::new() };
        let mut warnings = Vec::new();
        let all = candidates(acme, &self.hosts, &self.certificates);
        if !matches!(acme.challenge, Challenge::Dns01(_)) {
            // The components of a folder are there as exact hosts.
            let is_folder = |pattern: &HostPattern| {
                self.hosts.get(pattern).is_some_and(|paths| paths.iter().next().is_none())
            };
            for domain in all.iter().filter(|it| !is_folder(it)).filter_map(wildcard_domain) {
                let challenge = acme.challenge.as_str();
                warnings.push(format!("*.{domain} gets no certificate by {challenge}, as wildcards need tls.acme.challenge = \"dns-01\": the local authority serves it"));
            }
        }
        if all.is_empty() {
            warnings.push("tls.acme has nothing to do: no host here is a public name without a certificate in [tls.certificates]".to_owned());
        }
        if all.len() > ACME_HOSTS_MAX && self.acme_hosts().len() == ACME_HOSTS_MAX {
            warnings.push(format!("certificates are asked for {ACME_HOSTS_MAX} hosts at the most: the local authority serves the others"));
        }
        warnings.extend(unreachable_challenge(&acme.challenge, &self.server));
        warnings
    }
}

/// The authority cannot come in where nothing listens.
fn unreachable_challenge(challenge: &Challenge, server: &Server) -> Option<String> {
    let (listeners, scheme, port) = match challenge {
        Challenge::Http01 => (&server.http, "http", 80),
        Challenge::TlsAlpn01 => (&server.https, "https", 443),
        Challenge::Dns01(_) => return None,
    };
    listeners.is_empty().then(|| {
        let challenge = challenge.as_str();
        format!("{challenge} is answered on port {port} of each host, and server.{scheme} listens nowhere: add it, unless systemd passes a socket")
    })
}

/// Hosts that this authority could issue for, and that need it.
fn candidates(
    acme: &Acme,
    hosts: &BTreeMap<HostPattern, Paths>,
    given: &BTreeMap<HostPattern, CertificateFiles>,
) -> BTreeSet<HostPattern> {
    let is_private = acme.ca_root.is_some();
    let is_given = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(host) => given.keys().any(|it| it.matches(host)),
        HostPattern::Wildcard(_) | HostPattern::Any => {
            given.contains_key(pattern) || given.contains_key(&HostPattern::Any)
        }
    };
    let is_issued = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(host) | HostPattern::Wildcard(host) => is_issued(host, is_private),
        HostPattern::Any => false,
    };
    hosts.keys().filter(|it| is_issued(it) && !is_given(it)).cloned().collect()
}

/// Whether authorities issue for `host`. What a private one may do is not known here; that nobody else
/// has the name is enough.
fn is_issued(host: &Host, is_private: bool) -> bool {
    let is_letters_digits_hyphen =
        |label: &str| !label.starts_with('-') && !label.ends_with('-') && !label.contains('_');
    let Some((_, last)) = host.as_str().rsplit_once('.') else { return false };
    !host.is_address()
        && host.as_str().split('.').all(is_letters_digits_hyphen)
        && !NOBODYS.contains(&last)
        && (is_private || !PRIVATE.contains(&last))
}

fn wildcard_domain(pattern: &HostPattern) -> Option<&Host> {
    match pattern {
        HostPattern::Wildcard(domain) => Some(domain),
        HostPattern::Exact(_) | HostPattern::Any => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::config::manifest_from_text;

    /// What is asked for, and what is warned of, with these hosts and lines of `[tls.acme]`.
    fn asked(hosts: &[&str], acme: &str, certificates: &str) -> (Vec<String>, Vec<String>) {
        let hosts: String = hosts.iter().map(|host| format!("{host:?} = \"app\"\n")).collect();
        let text = format!(
            "apps.app.component = 'app.wasm'\n[hosts]\n{hosts}[tls.certificates]\n{certificates}\n\
             [tls.acme]\nterms_agreed = true\n{acme}\n"
        );
        let config = manifest_from_text(Path::new("c.toml"), PathBuf::from("/x/c.toml"), &text)
            .unwrap_or_else(|problems| panic!("{problems}"));
        let hosts = config.acme_hosts().iter().map(ToString::to_string).collect();
        (hosts, config.warnings)
    }

    const DNS: &str = "challenge = 'dns-01'\ndns.hook = ['/hook']";

    #[test]
    fn public_names_are_asked_for_and_others_are_not() {
        let hosts = [
            "example.com",
            "www.example.com",
            "bücher.example.com",
            "*.example.net",
            "*",
            "localhost",
            "a.localhost",
            "192.0.2.1",
            "[::1]",
            "nas",
            "a_b.example.com",
            "app.internal",
            "printer.local",
            "router.home.arpa",
            "x.test",
            "-a.example.com",
        ];
        let (names, warnings) = asked(&hosts, "", "");
        assert_eq!(names, ["example.com", "www.example.com", "xn--bcher-kva.example.com"]);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with("*.example.net gets no certificate by http-01"));

        // An authority of one's own may know other names.
        let (names, _) =
            asked(&["app.internal", "x.test", "a.localhost", "nas"], "ca_root = 'r.pem'", "");
        assert_eq!(names, ["app.internal", "x.test"]);
    }

    #[test]
    fn what_the_operator_or_a_wildcard_has_is_not_asked_for() {
        let hosts = ["a.org", "b.a.org", "c.b.a.org", "*.a.org", "d.org"];
        let given = "'d.org' = { cert = 'd.pem', key = 'd.key' }";
        assert_eq!(asked(&hosts, DNS, given).0, ["a.org", "c.b.a.org", "*.a.org"]);
        assert_eq!(asked(&hosts, "", given).0, ["a.org", "b.a.org", "c.b.a.org"]);

        let given = "'*.a.org' = { cert = 'd.pem', key = 'd.key' }";
        assert_eq!(asked(&hosts, DNS, given).0, ["a.org", "c.b.a.org", "d.org"]);
        let given = "'*' = { cert = 'd.pem', key = 'd.key' }";
        let (names, warnings) = asked(&hosts, DNS, given);
        assert!(names.is_empty(), "{names:?}");
        assert!(warnings[0].starts_with("tls.acme has nothing to do"), "{warnings:?}");
    }

    #[test]
    fn there_are_so_many_hosts_at_the_most() {
        let hosts: Vec<_> =
            (0..ACME_HOSTS_MAX + 5).map(|number| format!("h{number}.org")).collect();
        let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
        let (names, warnings) = asked(&hosts, "", "");
        assert_eq!(names.len(), ACME_HOSTS_MAX);
        assert!(warnings[0].contains("1000 hosts at the most"), "{warnings:?}");
    }
}
