//! Which certificate a host answers with: the operator's, one that an authority has issued, or one from
//! tidegate's own local CA.
//!
//! Reading the operator's files is in `given`, those of an authority in `kept`, issuing in `local_ca`, whose
//! root `trust` shows and installs. `authority` judges what the manifest names for getting certificates;
//! `clients` has what the certificates of clients are held against. What is here belongs to one generation
//! and never changes, but for the `staples`, which all generations share.

pub mod authority;
mod clients;
mod given;
pub mod kept;
mod listed;
mod local_ca;
mod staples;
mod trust;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::sign::CertifiedKey;

use crate::config::{ClientAuth, Config, Host, HostPattern, Problem};

pub use clients::ClientVerifier;
use clients::ClientVerifiers;
use kept::Kept;
pub use listed::{Details, Listed, ListedFrom};
pub use local_ca::{CaError, LocalCa};
pub use staples::Staples;
pub use trust::{Root, TrustError};

/// Addresses named by the certificate for clients without SNI that all come to the one `*` host.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Addresses that one certificate names at the most.
const ADDRESSES_MAX: usize = 32;

/// The certificates of one generation.
///
/// The operator's are read and checked when it is built. Those of the local CA
/// are issued at a host's first handshake, and shared by all generations: with
/// a thousand hosts, most are never asked for over TLS.
pub struct Certificates {
    given: Given,
    clients: ClientVerifiers,
    /// From the authority that `[tls.acme]` names.
    kept: BTreeMap<HostPattern, Kept>,
    /// Where those are; a change to the manifest's does not apply before a restart.
    state_dir: PathBuf,
    /// What may have a certificate from the local CA: the routes, and whether there is an app behind.
    served: BTreeMap<HostPattern, bool>,
    /// Where clients without SNI may have come to, which is what their certificate names.
    unnamed: Vec<Host>,
    ca: Arc<LocalCa>,
    /// What responders say of certificates that are not from the local CA.
    staples: Arc<Staples>,
}

type Given = BTreeMap<HostPattern, Arc<CertifiedKey>>;

/// Certificates read again.
pub struct Renewed {
    /// The same `Arc` as before where nothing changed.
    pub certificates: Arc<Certificates>,
    /// What is wrong with files whose former certificate is kept.
    pub problems: Vec<Problem>,
}

/// What all generations have in common.
struct Shared<'a> {
    ca: &'a Arc<LocalCa>,
    staples: Arc<Staples>,
}

impl Shared<'_> {
    fn first(ca: &Arc<LocalCa>) -> Shared<'_> {
        Shared { ca, staples: Arc::default() }
    }
}

/// Where a host's certificate comes from. Hosts with equal sources share a certificate.
enum Source<'a> {
    /// From the operator, or an authority.
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
        let (clients, unverifiable) = clients::read_all(config, &ClientVerifiers::new());
        let mut problems: Vec<_> = failed.into_values().flatten().collect();
        problems.extend(unverifiable.into_iter().map(|(_, problem)| problem));
        problems.extend(config.acme.iter().flat_map(authority::judge));
        let state_dir = &config.server.state_dir;
        match problems.is_empty() {
            true => {
                let issued = read_kept(config, state_dir);
                Ok(Certificates::new(given, issued, state_dir, clients, config, Shared::first(ca)))
            }
            false => Err(problems),
        }
    }

    /// Those of the local CA alone.
    pub fn none(config: &Config, ca: &Arc<LocalCa>) -> Certificates {
        let (none, state_dir) = (BTreeMap::new(), &config.server.state_dir);
        let clients = ClientVerifiers::new();
        Certificates::new(Given::new(), none, state_dir, clients, config, Shared::first(ca))
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
        let (mut clients, failed) = clients::read_all(config, &running.clients);
        for (auth, problem) in failed {
            match running.clients.get(&auth) {
                Some(verifier) => {
                    clients.insert(auth, Arc::clone(verifier));
                    kept.push(problem);
                }
                None => refused.push(problem),
            }
        }
        if before.acme != config.acme {
            refused.extend(config.acme.iter().flat_map(authority::judge));
        }
        if !refused.is_empty() {
            return Err(refused);
        }
        let issued = reread_kept(config, running);
        let state_dir = &running.state_dir;
        let shared = Shared { ca: &running.ca, staples: Arc::clone(&running.staples) };
        let next = Certificates::new(given, issued, state_dir, clients, config, shared);
        let certificates = match next == **running {
            true => Arc::clone(running),
            false => Arc::new(next),
        };
        Ok(Renewed { certificates, problems: kept })
    }

    fn new(
        given: Given,
        kept: BTreeMap<HostPattern, Kept>,
        state_dir: &Path,
        clients: ClientVerifiers,
        config: &Config,
        shared: Shared<'_>,
    ) -> Certificates {
        // A folder's wildcard is listed without paths; its components are there as exact hosts.
        let served: BTreeMap<_, _> = config
            .hosts
            .iter()
            .map(|(pattern, paths)| (pattern.clone(), paths.iter().next().is_some()))
            .collect();
        let state_dir = state_dir.to_owned();
        Certificates {
            unnamed: unnamed(&served, &given),
            given,
            kept,
            state_dir,
            clients,
            served,
            ca: Arc::clone(shared.ca),
            staples: shared.staples,
        }
    }

    /// The certificate of `host`; an exact one beats a wildcard. None where the host is not served.
    pub fn resolve(&self, host: &Host) -> Option<Arc<CertifiedKey>> {
        match self.source(host)? {
            Source::Given(certificate) => Some(self.staples.on(certificate)),
            Source::Issued(name) => self.ca.leaf(&[name]),
        }
    }

    /// The certificate for a client that names no host, or one that is not served.
    pub fn fallback(&self) -> Option<Arc<CertifiedKey>> {
        let any = self.given.get(&HostPattern::Any);
        // Which address the client has come to is not known here: one that is known to clients is better than
        // one for all addresses that is not.
        match any.or_else(|| self.unnamed.iter().find_map(|host| self.known_of(host))) {
            Some(known) => Some(self.staples.on(known)),
            None => self.ca.leaf(&self.unnamed_names()),
        }
    }

    /// Whether `host` has a certificate at all.
    pub fn covers(&self, host: &Host) -> bool {
        self.source(host).is_some()
    }

    /// Whether `host` has a certificate that is not from the local CA, so that its clients may know it.
    pub fn is_known(&self, host: &Host) -> bool {
        self.known_of(host).is_some()
    }

    /// What verifies clients as `auth` says.
    pub fn client_verifier(&self, auth: &ClientAuth) -> Option<&Arc<ClientVerifier>> {
        self.clients.get(auth)
    }

    /// What an authority has issued for `pattern`.
    pub fn kept(&self, pattern: &HostPattern) -> Option<&Kept> {
        self.kept.get(pattern)
    }

    /// Every certificate that is not from the local CA, each with what shows it.
    pub fn known(&self) -> impl Iterator<Item = (&HostPattern, &Arc<CertifiedKey>)> {
        let kept = self.kept.iter().map(|(pattern, kept)| (pattern, &kept.certificate));
        self.given.iter().chain(kept)
    }

    /// What handshakes show beside those.
    pub fn staples(&self) -> &Staples {
        &self.staples
    }

    /// Whether a connection made for `named` may carry requests for `host`.
    pub fn share(&self, named: &Host, host: &Host) -> bool {
        named == host || self.source(named) == self.source(host)
    }

    fn known_of(&self, host: &Host) -> Option<&Arc<CertifiedKey>> {
        if self.given.is_empty() && self.kept.is_empty() {
            return None;
        }
        match self.source(host)? {
            Source::Given(certificate) => Some(certificate),
            Source::Issued(_) => None,
        }
    }

    /// What the local CA's certificate for clients without SNI names.
    fn unnamed_names(&self) -> Vec<String> {
        self.unnamed.iter().map(|host| name(host).to_owned()).collect()
    }

    fn source(&self, host: &Host) -> Option<Source<'_>> {
        if let Some(given) = host.patterns().find_map(|pattern| self.given.get(&pattern)) {
            return Some(Source::Given(given));
        }
        if !self.kept.is_empty()
            && let Some(kept) = host.patterns().find_map(|pattern| self.kept.get(&pattern))
        {
            return Some(Source::Given(&kept.certificate));
        }
        let (pattern, _) = host
            .patterns()
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

/// Equal when the operator's certificates, an authority's and the hosts are: those of the local CA follow
/// from the hosts.
impl PartialEq for Certificates {
    fn eq(&self, other: &Self) -> bool {
        let verifiers = || self.clients.values().zip(other.clients.values());
        let same_kept = |(ours, theirs): ((&HostPattern, &Kept), (&HostPattern, &Kept))| {
            ours.0 == theirs.0 && ours.1.certificate.cert == theirs.1.certificate.cert
        };
        self.served == other.served
            && self.clients.keys().eq(other.clients.keys())
            && verifiers().all(|(ours, theirs)| Arc::ptr_eq(ours, theirs))
            && self.kept.len() == other.kept.len()
            && self.kept.iter().zip(&other.kept).all(same_kept)
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

/// What an authority has issued for the hosts of `config`. A file that cannot be used is for `acme` to
/// report, and to replace.
fn read_kept(config: &Config, state_dir: &Path) -> BTreeMap<HostPattern, Kept> {
    let Some(acme) = &config.acme else { return BTreeMap::new() };
    let dir = kept::authority_dir(state_dir, &acme.directory);
    let read = |pattern: HostPattern| {
        let kept = Kept::read(&kept::file(&dir, &pattern), &pattern, None).ok();
        // Another authority's is good until this one's is there.
        let kept = kept.or_else(|| Kept::from_former(state_dir, &dir, &pattern))?;
        Some((pattern, kept))
    };
    config.acme_hosts().into_iter().filter_map(read).collect()
}

/// The same where `running` has read them before. One whose file is gone or bad stays as it was, and one that
/// is not asked for any more stays until there is what takes its place: a host goes from its own certificate
/// to that of a wildcard, or back, without one of the local CA between them.
fn reread_kept(config: &Config, running: &Certificates) -> BTreeMap<HostPattern, Kept> {
    let Some(acme) = &config.acme else { return BTreeMap::new() };
    let dir = kept::authority_dir(&running.state_dir, &acme.directory);
    let read = |pattern: HostPattern| {
        let before = running.kept.get(&pattern);
        let kept = Kept::read(&kept::file(&dir, &pattern), &pattern, before).ok();
        let kept = kept.or_else(|| before.cloned())?;
        Some((pattern, kept))
    };
    let wanted = config.acme_hosts();
    let mut kept: BTreeMap<_, _> = wanted.iter().cloned().filter_map(read).collect();
    let missing: Vec<_> = wanted.iter().filter(|pattern| !kept.contains_key(*pattern)).collect();
    let former = running.kept.iter().filter(|(pattern, _)| !wanted.contains(*pattern));
    for (pattern, former) in former {
        if missing.iter().any(|missing| meet(pattern, missing)) {
            kept.insert(pattern.clone(), former.clone());
        }
    }
    kept
}

/// Whether one of the two covers a host that the other one is about.
fn meet(one: &HostPattern, other: &HostPattern) -> bool {
    match (one, other) {
        (HostPattern::Exact(host), pattern) | (pattern, HostPattern::Exact(host)) => {
            pattern.matches(host)
        }
        (one, other) => one == other,
    }
}

/// A host as certificates name it: an IPv6 address has no brackets there.
fn name(host: &Host) -> &str {
    host.as_str().trim_start_matches('[').trim_end_matches(']')
}

/// A name that a certificate for these hosts has to cover. None where there is no such name.
fn covered(pattern: &HostPattern) -> Option<String> {
    match pattern {
        HostPattern::Exact(host) => Some(name(host).to_owned()),
        // Only a wildcard certificate covers a name that nobody has.
        HostPattern::Wildcard(domain) => Some(format!("tidegate-asks-for-any.{}", domain.as_str())),
        HostPattern::Any => None,
    }
}

/// Clients that send no SNI are those that connect to an address: the addresses served, or else the first host.
fn unnamed(served: &BTreeMap<HostPattern, bool>, given: &Given) -> Vec<Host> {
    let serves_all = served.contains_key(&HostPattern::Any);
    // Where every host is served, the operator's certificates tell some of the addresses.
    let named = given.keys().filter(|pattern| serves_all && !served.contains_key(*pattern));
    let addresses = exact(served.keys()).chain(exact(named)).filter(|host| host.is_address());
    let addresses: Vec<_> = addresses.take(ADDRESSES_MAX).cloned().collect();
    if !addresses.is_empty() {
        return addresses;
    }
    match exact(served.keys()).next() {
        Some(first) if !serves_all => vec![first.clone()],
        _ => LOOPBACK.into_iter().filter_map(Host::from_authority).collect(),
    }
}

fn exact<'a>(patterns: impl Iterator<Item = &'a HostPattern>) -> impl Iterator<Item = &'a Host> {
    patterns.filter_map(|pattern| match pattern {
        HostPattern::Exact(host) => Some(host),
        HostPattern::Wildcard(_) | HostPattern::Any => None,
    })
}

#[cfg(test)]
mod tests;
