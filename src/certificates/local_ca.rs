//! tidegate's own certificate authority: its root, kept in the state directory, and the leaves it issues.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use rustls::crypto::aws_lc_rs::{default_provider, sign::any_supported_type};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use time::{Duration, OffsetDateTime};
use tracing::{error, info, warn};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::private;

/// How long the root is valid.
const ROOT_LIFE: Duration = Duration::days(3652);

/// How long a leaf is valid. A running server replaces it after two thirds of that.
const LEAF_LIFE: Duration = Duration::days(90);

/// How far certificates are dated back, for clients whose clocks are behind.
const BACKDATED: Duration = Duration::days(1);

/// Leaves kept in memory. Past this the one that was issued first goes, and is issued again when asked for.
const LEAVES_MAX: usize = 4096;

/// 2026 began: a clock that is behind this has not been set yet, as at the boot of a machine
/// that has no battery for it. In seconds since 1970.
const EARLIEST: i64 = 1_767_225_600;

/// How a certificate's text begins.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// The longest common name that X.509 allows.
const COMMON_NAME_MAX: usize = 64;

/// A certificate authority of this installation's own, for hosts without a certificate from the operator.
pub struct LocalCa {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    /// One key for all leaves: they differ in name only, and live and die with the process.
    leaf_key: KeyPair,
    leaf_signer: Arc<dyn SigningKey>,
    leaves: Mutex<Leaves>,
}

#[derive(Default)]
struct Leaves {
    by_names: HashMap<Vec<String>, Leaf>,
    /// Counts the leaves issued, so that the oldest is known.
    issued: u64,
}

struct Leaf {
    certificate: Arc<CertifiedKey>,
    number: u64,
    issued: OffsetDateTime,
}

/// Why there is no local CA.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error("cannot {attempt} {}: {source}", path.display())]
    File { attempt: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "{} does not hold a certificate authority: {reason}; remove it, and a new one is made which clients must be told to trust",
        path.display()
    )]
    Unreadable { path: PathBuf, reason: String },
    #[error("cannot make a certificate authority: {0}")]
    Issue(#[from] rcgen::Error),
    #[error("cannot load the key of local certificates: {0}")]
    Key(#[from] rustls::Error),
}

impl LocalCa {
    /// The CA kept in `state_dir`, made there at the first start.
    ///
    /// Its key and certificate are one file, so that a crash cannot leave one
    /// without the other. `root.crt` is a copy of the certificate, to hand to clients.
    pub fn open(state_dir: &Path) -> Result<LocalCa, CaError> {
        let dir = state_dir.join("ca");
        let path = dir.join("root.pem");
        private::create_dir(&dir).map_err(|source| CaError::File {
            attempt: "create",
            path: dir.clone(),
            source,
        })?;

        let kept = match fs::read_to_string(&path) {
            Ok(pem) => Some(
                parse_root(pem)
                    .map_err(|reason| CaError::Unreadable { path: path.clone(), reason })?,
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(CaError::File { attempt: "read", path, source }),
        };
        let root = match kept {
            Some(root) if root.outlives_leaves() => root,
            expiring => {
                let root = Root::make()?;
                let written = match &expiring {
                    Some(_) => private::write_whole(&path, root.pem.as_bytes()),
                    None => private::write_first(&path, root.pem.as_bytes()),
                };
                match written {
                    // Another process began with the same directory just now: its root is the one.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        return LocalCa::open(state_dir);
                    }
                    written => written.map_err(|source| CaError::File {
                        attempt: "write",
                        path,
                        source,
                    })?,
                }
                if expiring.is_some() {
                    warn!(
                        "the local certificate authority was about to expire: clients must be told to trust the new one"
                    );
                }
                root
            }
        };

        let copy = LocalCa::certificate_file(state_dir);
        if fs::read_to_string(&copy).ok().as_deref() != Some(root.certificate_pem()) {
            match private::write_whole(&copy, root.certificate_pem().as_bytes()) {
                Ok(()) => {
                    info!(path = %copy.display(), "made a certificate authority for local certificates");
                }
                // The certificate is kept with its key; only handing it out is harder.
                Err(error) => {
                    warn!(path = %copy.display(), %error, "cannot write the copy of the local root certificate");
                }
            }
        }
        LocalCa::new(root)
    }

    /// Where the root's certificate is, for clients.
    pub fn certificate_file(state_dir: &Path) -> PathBuf {
        state_dir.join("ca/root.crt")
    }

    /// A CA that is kept nowhere, for `tidegate check` and tests.
    pub fn ephemeral() -> Result<LocalCa, CaError> {
        LocalCa::new(Root::make()?)
    }

    /// The root's certificate.
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// A certificate for `names`: a recent one, or a new one. None, and an error in the log, where none can be issued.
    pub fn leaf(&self, names: &[String]) -> Option<Arc<CertifiedKey>> {
        let now = OffsetDateTime::now_utc();
        if let Some(leaf) = self.leaves().fresh(names, now) {
            return Some(leaf);
        }

        // Outside the lock: two handshakes may both issue, and either certificate will do.
        let certificate = match self.issue(names, now) {
            Ok(certificate) => Arc::new(certificate),
            Err(error) => {
                error!(?names, %error, "cannot issue a local certificate");
                return None;
            }
        };
        self.leaves().keep(names.to_vec(), Arc::clone(&certificate), now);
        Some(certificate)
    }

    /// The certificate for `names`, where one has been issued that the next handshake would show. An older one
    /// is of no interest to anybody: it is replaced when a client comes.
    pub fn issued(&self, names: &[String]) -> Option<Arc<CertifiedKey>> {
        self.leaves().fresh(names, OffsetDateTime::now_utc())
    }

    fn new(root: Root) -> Result<LocalCa, CaError> {
        let leaf_key = KeyPair::generate()?;
        let leaf_der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
        Ok(LocalCa {
            issuer: Issuer::from_ca_cert_der(&root.certificate, root.key)?,
            root: root.certificate,
            leaf_signer: any_supported_type(&leaf_der)?,
            leaf_key,
            leaves: Mutex::default(),
        })
    }

    fn leaves(&self) -> std::sync::MutexGuard<'_, Leaves> {
        // A panic leaves at worst a leaf less.
        self.leaves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn issue(&self, names: &[String], now: OffsetDateTime) -> Result<CertifiedKey, rcgen::Error> {
        let mut leaf = CertificateParams::new(names)?;
        leaf.distinguished_name = Default::default();
        if let Some(name) = names.first().filter(|name| name.len() <= COMMON_NAME_MAX) {
            leaf.distinguished_name.push(DnType::CommonName, name.as_str());
        }
        leaf.serial_number = Some(serial()?);
        leaf.not_before = now - BACKDATED;
        leaf.not_after = now + LEAF_LIFE;
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;

        let certificate = leaf.signed_by(&self.leaf_key, &self.issuer)?;
        Ok(CertifiedKey::new(vec![certificate.der().clone()], Arc::clone(&self.leaf_signer)))
    }
}

impl Leaves {
    /// The certificate for `names`, unless it is time for a new one.
    fn fresh(&self, names: &[String], now: OffsetDateTime) -> Option<Arc<CertifiedKey>> {
        let leaf = self.by_names.get(names)?;
        let is_fresh = leaf.issued <= now && now - leaf.issued < LEAF_LIFE * 2 / 3;
        is_fresh.then(|| Arc::clone(&leaf.certificate))
    }

    fn keep(&mut self, names: Vec<String>, certificate: Arc<CertifiedKey>, issued: OffsetDateTime) {
        if self.by_names.len() >= LEAVES_MAX && !self.by_names.contains_key(&names) {
            let oldest = self
                .by_names
                .iter()
                .min_by_key(|(_, leaf)| leaf.number)
                .map(|(names, _)| names.clone());
            oldest.and_then(|names| self.by_names.remove(&names));
        }
        self.issued += 1;
        self.by_names.insert(names, Leaf { certificate, number: self.issued, issued });
    }
}

/// The CA's key and certificate, and both as the text that is kept.
struct Root {
    key: KeyPair,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Root {
    fn make() -> Result<Root, rcgen::Error> {
        let now = OffsetDateTime::now_utc();
        let key = KeyPair::generate()?;
        let mut root = CertificateParams::default();
        root.distinguished_name = Default::default();
        // Dated, so that two of them in one trust store can be told apart.
        root.distinguished_name
            .push(DnType::CommonName, format!("tidegate local CA {}", now.date()));
        root.serial_number = Some(serial()?);
        // It is good for any time before, too: one that was made while the clock was wrong is not
        // of no use once it is right.
        root.not_before = OffsetDateTime::UNIX_EPOCH;
        let set = OffsetDateTime::from_unix_timestamp(EARLIEST).unwrap_or(now).max(now);
        root.not_after = set + ROOT_LIFE;
        root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];

        let certificate = root.self_signed(&key)?;
        let pem = format!("{}{}", key.serialize_pem(), certificate.pem());
        Ok(Root { key, certificate: certificate.der().clone(), pem })
    }

    fn outlives_leaves(&self) -> bool {
        let ends = OffsetDateTime::now_utc() + LEAF_LIFE;
        X509Certificate::from_der(&self.certificate)
            .is_ok_and(|(_, root)| root.validity().not_after.timestamp() > ends.unix_timestamp())
    }

    /// The part of the text that is no secret.
    fn certificate_pem(&self) -> &str {
        self.pem.find(CERTIFICATE).map_or("", |start| &self.pem[start..])
    }
}

fn parse_root(pem: String) -> Result<Root, String> {
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| format!("no key in it ({error})"))?;
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| format!("no certificate in it ({error})"))?;
    let signer = any_supported_type(&key).map_err(|error| error.to_string())?;
    CertifiedKey::new(vec![certificate.clone()], signer)
        .keys_match()
        .map_err(|_| "its key is not its certificate's".to_owned())?;
    let key = KeyPair::try_from(&key).map_err(|error| error.to_string())?;
    Ok(Root { key, certificate, pem })
}

/// Random: rcgen's own is a digest of the key, which all leaves share.
fn serial() -> Result<SerialNumber, rcgen::Error> {
    let mut bytes = [0; 16];
    default_provider().secure_random.fill(&mut bytes).map_err(|_| rcgen::Error::RingUnspecified)?;
    // Positive, and never shorter than it looks.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_that_the_next_handshake_would_replace_counts_as_none() {
        let ca = LocalCa::ephemeral().unwrap();
        let names = ["a.test".to_owned()];
        let issued_before = |age: Duration| {
            let issued = OffsetDateTime::now_utc() - age;
            let certificate = Arc::new(ca.issue(&names, issued).unwrap());
            ca.leaves().keep(names.to_vec(), certificate, issued);
        };

        assert!(ca.issued(&names).is_none(), "there is none yet");
        issued_before(Duration::days(59));
        assert!(ca.issued(&names).is_some());
        issued_before(Duration::days(61));
        assert!(ca.issued(&names).is_none(), "its time is over");
        issued_before(Duration::days(-1));
        assert!(ca.issued(&names).is_none(), "the clock was set back");
        ca.leaf(&names);
        assert!(ca.issued(&names).is_some(), "a handshake has had a new one issued");
    }
}
