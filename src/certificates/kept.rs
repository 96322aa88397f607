//! Certificates that an authority has issued: each with its key in one file below `state_dir/acme`.
//!
//! Who asks for them is `acme`; here is where they are and what is in them. Their dates are not judged:
//! whatever this machine's clock says, there is nothing better to show.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::Uri;
use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::covered;
use crate::config::HostPattern;
use crate::stamp::Stamp;
use crate::{private, small_file};

/// Bytes of a key and its chain at the most.
const FILE_MAX: u64 = 256 * 1024;

/// Authorities of former times whose certificates are looked through at a start.
const FORMER_MAX: usize = 16;

/// A certificate as it was found.
#[derive(Clone)]
pub struct Kept {
    pub certificate: Arc<CertifiedKey>,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
    /// Which file it is from, as it was then.
    stamp: Option<Stamp>,
}

impl Kept {
    /// Reads what is in `path`, unless it is what `before` was read from.
    ///
    /// # Errors
    /// When there is no such file, or it does not hold a certificate for `pattern` with its key.
    pub fn read(path: &Path, pattern: &HostPattern, before: Option<&Kept>) -> io::Result<Kept> {
        let stamp = Stamp::at(path);
        if let Some(before) = before.filter(|before| stamp.is_some() && before.stamp == stamp) {
            return Ok(before.clone());
        }
        let (pem, _) = small_file::read(path, FILE_MAX)?;
        Ok(Kept { stamp, ..Kept::parse(&pem, pattern).map_err(io::Error::other)? })
    }

    /// A key and a chain in PEM, which are for `pattern`.
    ///
    /// # Errors
    /// Why it cannot be served.
    pub fn parse(pem: &[u8], pattern: &HostPattern) -> Result<Kept, String> {
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| "it holds no private key")?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("its chain cannot be read: {error}"))?;
        let leaf = chain.first().ok_or("it holds no certificate")?.clone();
        let key = any_supported_type(&key).map_err(|error| error.to_string())?;
        let certificate = CertifiedKey::new(chain, key);
        certificate.keys_match().map_err(|_| "its key is not its certificate's")?;

        let unreadable = |_| "its certificate cannot be read";
        let (_, x509) = X509Certificate::from_der(&leaf).map_err(|_| unreadable(()))?;
        let parsed = ParsedCertificate::try_from(&leaf).map_err(|_| unreadable(()))?;
        let covered = covered(pattern).ok_or("no certificate is for every host")?;
        let covered = ServerName::try_from(covered).map_err(|error| error.to_string())?;
        verify_server_name(&parsed, &covered)
            .map_err(|_| format!("its certificate does not cover {pattern}"))?;
        let date = |seconds| OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| ());
        Ok(Kept {
            not_before: date(x509.validity().not_before.timestamp()).map_err(unreadable)?,
            not_after: date(x509.validity().not_after.timestamp()).map_err(unreadable)?,
            certificate: Arc::new(certificate),
            stamp: None,
        })
    }

    /// The one that lasts longest of those that former authorities have issued.
    pub fn from_former(state_dir: &Path, own: &Path, pattern: &HostPattern) -> Option<Kept> {
        let dirs = fs::read_dir(state_dir.join("acme")).ok()?;
        let dirs = dirs.flatten().map(|entry| entry.path()).filter(|dir| dir != own);
        dirs.take(FORMER_MAX)
            .filter_map(|dir| Kept::read(&file(&dir, pattern), pattern, None).ok())
            .max_by_key(|kept| kept.not_after)
    }
}

/// Keeps a certificate and its key, both in PEM, whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub fn write(dir: &Path, pattern: &HostPattern, key: &str, chain: &str) -> io::Result<()> {
    private::write_whole(&file(dir, pattern), format!("{key}{chain}").as_bytes())
}

/// Removes the certificates of hosts that are not wanted any more, once they have expired.
pub fn prune(dir: &Path, wanted: &BTreeSet<HostPattern>) {
    let wanted: BTreeSet<_> = wanted.iter().map(|pattern| file(dir, pattern)).collect();
    let Ok(entries) = fs::read_dir(dir) else { return };
    let paths = entries.flatten().map(|entry| entry.path());
    for path in paths.filter(|path| path.extension().is_some_and(|it| it == "pem")) {
        if !wanted.contains(&path) && has_expired(&path) {
            // What stays is looked at again at the next start.
            let _ = fs::remove_file(&path);
        }
    }
}

fn has_expired(path: &Path) -> bool {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    CertificateDer::from_pem_file(path).is_ok_and(|leaf| {
        X509Certificate::from_der(&leaf)
            .is_ok_and(|(_, x509)| x509.validity().not_after.timestamp() < now)
    })
}

/// Where everything about the authority with this directory is kept: accounts and certificates of two
/// authorities are not mixed.
pub fn authority_dir(state_dir: &Path, directory: &str) -> PathBuf {
    let uri: Option<Uri> = directory.parse().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or("authority");
    let digest = Sha256::digest(directory);
    let digest: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    state_dir.join("acme").join(format!("{host}-{digest}"))
}

/// The file of one certificate.
pub fn file(dir: &Path, pattern: &HostPattern) -> PathBuf {
    // No host that an authority issues for has an underscore.
    let name = pattern.to_string().replace('*', "_");
    dir.join(format!("{name}.pem"))
}
