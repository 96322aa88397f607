//! Reads and judges a certificate and key that the operator gives.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::covered;
use crate::config::{CertificateFiles, HostPattern, Located, Problem};
use crate::small_file;

/// Bytes that a PEM file has at the most: long chains take a few thousand.
const PEM_MAX: u64 = 1024 * 1024;

/// What everyone may do with a file. A group is the operator's to choose, as Debian's `ssl-cert` is.
const OF_OTHERS: u32 = 0o007;

/// Reads one pair, and reports everything that is wrong with it.
pub fn read(pattern: &HostPattern, files: &CertificateFiles) -> Result<CertifiedKey, Vec<Problem>> {
    let chain = read_chain(&files.cert);
    let key = read_key(&files.key);
    let (chain, key) = match (chain, key) {
        (Ok(chain), Ok(key)) => (chain, key),
        (chain, key) => return Err([chain.err(), key.err()].into_iter().flatten().collect()),
    };

    let certificate = CertifiedKey::new(chain, key);
    let mut problems = Vec::new();
    if let Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) = certificate.keys_match() {
        let cert = files.cert.value.display();
        problems.push(
            files.key.place.problem(format!("{} is not the key of {cert}", files.key.value.display())).with_help(
                "give the key that the certificate was made for; the certificate itself comes first in its file, the rest of the chain after it",
            ),
        );
    }
    problems.extend(judge(pattern, &files.cert, &certificate));
    if problems.is_empty() { Ok(certificate) } else { Err(problems) }
}

/// The certificates of a PEM file; at least one.
pub fn read_chain(
    file: &Located<impl AsRef<Path>>,
) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let path = file.value.as_ref();
    let (pem, _) = read_pem(file)?;
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|error| {
            file.place.problem(format!("{} is not a PEM file: {error}", path.display()))
        })?;
    if chain.is_empty() {
        return Err(file
            .place
            .problem(format!("{} holds no certificate", path.display()))
            .with_help("give a PEM file with `-----BEGIN CERTIFICATE-----` in it"));
    }
    Ok(chain)
}

fn read_key(
    file: &Located<impl AsRef<Path>>,
) -> Result<std::sync::Arc<dyn rustls::sign::SigningKey>, Problem> {
    let path = file.value.as_ref();
    let (pem, mode) = read_pem(file)?;
    if mode & OF_OTHERS != 0 {
        let path = path.display();
        return Err(file
            .place
            .problem(format!("{path} is a key that everyone on this machine can use (mode {mode:04o})"))
            .with_help(format!("chmod 600 {path}, or 640 to let its group read it; if others had a look, replace it")));
    }
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        file.place
            .problem(format!("{} holds no private key", path.display()))
            .with_help("give a PEM file with an unencrypted `-----BEGIN PRIVATE KEY-----` in it")
    })?;
    any_supported_type(&key).map_err(|_| {
        file.place
            .problem(format!("{} is a kind of key that is not supported", path.display()))
            .with_help("use an ECDSA (P-256, P-384, P-521), Ed25519 or RSA (2048 bits or more) key")
    })
}

/// The file and its permissions.
fn read_pem(file: &Located<impl AsRef<Path>>) -> Result<(Vec<u8>, u32), Problem> {
    let path = file.value.as_ref();
    match small_file::read(path, PEM_MAX) {
        Ok((pem, meta)) => Ok((pem, meta.permissions().mode() & 0o7777)),
        Err(error) => Err(file.place.problem(format!("cannot read {}: {error}", path.display()))),
    }
}

/// Whether clients will take the certificate for this pattern, today.
fn judge(
    pattern: &HostPattern,
    file: &Located<impl AsRef<Path>>,
    certificate: &CertifiedKey,
) -> Vec<Problem> {
    let path = file.value.as_ref().display();
    let unreadable =
        || vec![file.place.problem(format!("{path} holds a certificate that cannot be read"))];
    let Ok(leaf) = certificate.end_entity_cert() else { return unreadable() };
    let (Ok((_, x509)), Ok(parsed)) =
        (X509Certificate::from_der(leaf), ParsedCertificate::try_from(leaf))
    else {
        return unreadable();
    };

    let mut problems = Vec::new();
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() as i64);
    let validity = x509.validity();
    if validity.not_after.timestamp() < now {
        problems.push(
            file.place
                .problem(format!("{path} has expired on {}", validity.not_after))
                .with_help("renew it"),
        );
    } else if validity.not_before.timestamp() > now {
        problems.push(
            file.place
                .problem(format!("{path} is not valid before {}", validity.not_before))
                .with_help("check this machine's clock, or use the certificate later"),
        );
    }

    let covers = covered(pattern).is_none_or(|name| {
        ServerName::try_from(name).is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
    });
    if !covers {
        problems.push(
            file.place
                .problem(format!("{path} does not cover {pattern}"))
                .with_help(format!("it is for {}", names(&x509))),
        );
    }
    problems
}

/// What a certificate is for, in words.
fn names(x509: &X509Certificate<'_>) -> String {
    let names: Vec<_> = match x509.subject_alternative_name() {
        Ok(Some(names)) => names.value.general_names.iter().map(ToString::to_string).collect(),
        Ok(None) | Err(_) => Vec::new(),
    };
    if names.is_empty() {
        "no host: it has no subject alternative names".to_owned()
    } else {
        names.join(", ")
    }
}
