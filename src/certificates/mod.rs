//! Which certificate a host answers with: the operator's, or one from tidegate's own local CA.
//!
//! Reading the operator's files is in `given`, issuing in `local_ca`. What is
//! here belongs to one generation and never changes.

mod given;
mod local_ca;

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::sign::CertifiedKey;

use crate::config::{Config, Host, HostPattern, Problem};

pub use local_ca::{CaError, LocalCa};

/// Addresses named by the certificate for clients without SNI that all come to the one `*` host.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Addresses that one certificate names at the most.
const ADDRESSES_MAX: usize = 32;

/// The certificates of one generation.
///
/// The operator's are read and checked when it is built. Those of the local CA
/// are issued at a host's first handshake, and shared by all generations: with
/// a thousand hosts, most are never asked for over TLS.
pub struct Certificates {
    given: Given,
    /// What may have a certificate from the local CA: the routes, and whether there is an app behind.
    served: BTreeMap<HostPattern, bool>,
    /// What the certificate for clients without SNI names.
    unnamed: Vec<String>,
    ca: Arc<LocalCa>,
}

type Given = BTreeMap<HostPattern, Arc<CertifiedKey>>;

/// Certificates read again.
pub struct Renewed {
    /// The same `Arc` as before where nothing changed.
    pub certificates: Arc<Certificates>,
    /// What is wrong with files whose former certificate is kept.
    pub problems: Vec<Problem>,
}

/// Where a host's certificate comes from. Hosts with equal sources share a certificate.
enum Source<'a> {
    Given(&'a Arc<CertifiedKey>),
    /// From the local CA, for this name.
    Issued(String),
}

impl Certificates {
    /// Reads the operator's certificates. Every problem is reported, not only the first.
    ///
    /// Reads files: not for async threads.
    pub fn load(config: &Config, ca: &Arc<LocalCa>) -> Result<Certificates, Vec<Problem>> {
        let (given, failed) = read_all(config);
        match failed.is_empty() {
            true => Ok(Certificates::new(given, config, ca)),
            false => Err(failed.into_values().flatten().collect()),
        }
    }

    /// Those of the local CA alone.
    pub fn none(config: &Config, ca: &Arc<LocalCa>) -> Certificates {
        Certificates::new(Given::new(), config, ca)
    }

    /// The certificates of `config`, where `running` were those of `before`.
    ///
    /// Files that went bad leave the certificate that was read from them
    /// before; a manifest that newly names bad ones is refused.
    ///
    /// Reads files: not for async threads.
    pub fn renew(
        running: &Arc<Certificates>,
        before: &Config,
        config: &Config,
    ) -> Result<Renewed, Vec<Problem>> {
        let (mut given, failed) = read_all(config);
        let mut kept = Vec::new();
        let mut refused = Vec::new();
        for (pattern, problems) in failed {
            let same_files = before.certificates.get(&pattern) == config.certificates.get(&pattern);
            match running.given.get(&pattern) {
                Some(certificate) if same_files => {
                    given.insert(pattern, Arc::clone(certificate));
                    kept.extend(problems);
                }
                _ => refused.extend(problems),
            }
        }
        if !refused.is_empty() {
            return Err(refused);
        }
        let next = Certificates::new(given, config, &running.ca);
        let certificates = match next == **running {
            true => Arc::clone(running),
            false => Arc::new(next),
        };
        Ok(Renewed { certificates, problems: kept })
    }

    fn new(given: Given, config: &Config, ca: &Arc<LocalCa>) -> Certificates {
        // A folder's wildcard is listed without paths; its components are there as exact hosts.
        let served: BTreeMap<_, _> = config
            .hosts
            .iter()
            .map(|(pattern, paths)| (pattern.clone(), paths.iter().next().is_some()))
            .collect();
        Certificates { given, unnamed: unnamed(&served), served, ca: Arc::clone(ca) }
    }

    /// The certificate of `host`; an exact one beats a wildcard. None where the host is not served.
    pub fn resolve(&self, host: &Host) -> Option<Arc<CertifiedKey>> {
        match self.source(host)? {
            Source::Given(certificate) => Some(Arc::clone(certificate)),
            Source::Issued(name) => self.ca.leaf(&[name]),
        }
    }

    /// The certificate for a client that names no host, or one that is not served.
    pub fn fallback(&self) -> Option<Arc<CertifiedKey>> {
        match self.given.get(&HostPattern::Any) {
            Some(given) => Some(Arc::clone(given)),
            None => self.ca.leaf(&self.unnamed),
        }
    }

    /// Whether a connection made for `named` may carry requests for `host`.
    pub fn share(&self, named: &Host, host: &Host) -> bool {
        named == host || self.source(named) == self.source(host)
    }

    fn source(&self, host: &Host) -> Option<Source<'_>> {
        if let Some(given) = patterns(host).find_map(|pattern| self.given.get(&pattern)) {
            return Some(Source::Given(given));
        }
        let (pattern, _) = patterns(host)
            .find_map(|pattern| self.served.get_key_value(&pattern))
            .filter(|(_, served)| **served)?;
        match pattern {
            // A certificate cannot say "any host": it names the one that was asked for.
            HostPattern::Exact(_) | HostPattern::Any => Some(Source::Issued(name(host).to_owned())),
            HostPattern::Wildcard(domain) => Some(Source::Issued(format!("*.{}", domain.as_str()))),
        }
    }
}

impl PartialEq for Source<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            // One certificate for several hosts is often given once for each.
            (Source::Given(ours), Source::Given(theirs)) => ours.cert == theirs.cert,
            (Source::Issued(ours), Source::Issued(theirs)) => ours == theirs,
            (Source::Given(_), Source::Issued(_)) | (Source::Issued(_), Source::Given(_)) => false,
        }
    }
}

/// Equal when the operator's certificates and the hosts are: those of the local CA follow from the hosts.
impl PartialEq for Certificates {
    fn eq(&self, other: &Self) -> bool {
        self.served == other.served
            && self.given.len() == other.given.len()
            && self
                .given
                .iter()
                .zip(&other.given)
                .all(|(ours, theirs)| ours.0 == theirs.0 && ours.1.cert == theirs.1.cert)
    }
}

/// Reads every pair: those that can be used, and what is wrong with the others.
fn read_all(config: &Config) -> (Given, BTreeMap<HostPattern, Vec<Problem>>) {
    let mut given = BTreeMap::new();
    let mut failed = BTreeMap::new();
    for (pattern, files) in &config.certificates {
        match given::read(pattern, files) {
            Ok(certificate) => {
                given.insert(pattern.clone(), Arc::new(certificate));
            }
            Err(problems) => {
                failed.insert(pattern.clone(), problems);
            }
        }
    }
    (given, failed)
}

/// What can be said of a host, closest first.
fn patterns(host: &Host) -> impl Iterator<Item = HostPattern> {
    let parent = host.parent().and_then(Host::from_authority);
    [
        Some(HostPattern::Exact(host.clone())),
        parent.map(HostPattern::Wildcard),
        Some(HostPattern::Any),
    ]
    .into_iter()
    .flatten()
}

/// A host as certificates name it: an IPv6 address has no brackets there.
fn name(host: &Host) -> &str {
    host.as_str().trim_start_matches('[').trim_end_matches(']')
}

/// Clients that send no SNI are those that connect to an address: the addresses served, or else the first host.
fn unnamed(served: &BTreeMap<HostPattern, bool>) -> Vec<String> {
    let exact = || {
        served.keys().filter_map(|pattern| match pattern {
            HostPattern::Exact(host) => Some(host),
            HostPattern::Wildcard(_) | HostPattern::Any => None,
        })
    };
    let addresses: Vec<_> = exact()
        .filter(|host| host.is_address())
        .take(ADDRESSES_MAX)
        .map(|host| name(host).to_owned())
        .collect();
    if !addresses.is_empty() {
        return addresses;
    }
    match (served.contains_key(&HostPattern::Any), exact().next()) {
        (false, Some(first)) => vec![name(first).to_owned()],
        (true, _) | (false, None) => LOOPBACK.map(str::to_owned).to_vec(),
    }
}

#[cfg(test)]
mod tests;
