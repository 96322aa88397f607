//! The local CA's root as clients are to trust it: read from the state directory, and put into the system's store.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::LocalCa;

/// Bytes of the file; a root takes some seven hundred.
const FILE_MAX: u64 = 64 * 1024;

/// Characters of a line of PEM.
const LINE: usize = 64;

/// What the root is called in a store: the next one takes its place.
const INSTALLED: &str = "tidegate-local-ca.crt";

/// Where systems keep what their administrator trusts, and what makes a change there known: Debian and its kin,
/// and those of Red Hat.
const STORES: [(&str, &str); 2] = [
    ("/usr/local/share/ca-certificates", "update-ca-certificates"),
    ("/etc/pki/ca-trust/source/anchors", "update-ca-trust"),
];

/// A root that clients may be told to trust.
pub struct Root {
    pub path: PathBuf,
    pub subject: String,
    pub expires: String,
    der: CertificateDer<'static>,
}

/// Why the root cannot be shown or installed.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error(
        "there is no local certificate authority in {} yet: tidegate makes it when it first runs",
        .0.display()
    )]
    Missing(PathBuf),
    #[error("cannot read {}: {source}{}", path.display(), hint(source))]
    Read { path: PathBuf, source: io::Error },
    #[error("{} holds no certificate; remove it, and tidegate writes it again at its next start", .0.display())]
    Unreadable(PathBuf),
    #[error(
        "this system has neither {} nor {}: give the certificate to whatever keeps its trust",
        STORES[0].0,
        STORES[1].0
    )]
    NoStore,
    #[error("cannot write {}: {source}{}", path.display(), hint(source))]
    Write { path: PathBuf, source: io::Error },
    #[error("wrote {}, but {program} failed, so it is not trusted yet: {why}", path.display())]
    Update { path: PathBuf, program: &'static str, why: String },
}

impl Root {
    /// The root of the CA in `state_dir`, which is not made here: it belongs to the user that tidegate runs as.
    pub fn read(state_dir: &Path) -> Result<Root, TrustError> {
        let path = LocalCa::certificate_file(state_dir);
        let mut text = Vec::new();
        match File::open(&path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut text)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(TrustError::Missing(state_dir.to_owned()));
            }
            Err(source) => return Err(TrustError::Read { path, source }),
        }
        let Ok(der) = CertificateDer::from_pem_slice(&text) else {
            return Err(TrustError::Unreadable(path));
        };
        let (subject, expires) = match X509Certificate::from_der(&der) {
            Ok((_, x509)) if x509.is_ca() => {
                (x509.subject().to_string(), x509.validity().not_after.to_string())
            }
            Ok(_) | Err(_) => return Err(TrustError::Unreadable(path)),
        };
        Ok(Root { path, subject, expires, der })
    }

    /// The certificate and nothing else that may be in its file.
    pub fn pem(&self) -> String {
        let text = STANDARD.encode(&self.der);
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(LINE));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        pem
    }

    /// SHA-256 of the certificate, as browsers and `openssl x509 -fingerprint` show it.
    pub fn fingerprint(&self) -> String {
        let bytes = Sha256::digest(&self.der);
        bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
    }

    /// Puts the root into the system's store, and returns where.
    pub fn install(&self) -> Result<PathBuf, TrustError> {
        let store = STORES.into_iter().find(|(dir, _)| Path::new(dir).is_dir());
        let (dir, program) = store.ok_or(TrustError::NoStore)?;
        let path = Path::new(dir).join(INSTALLED);
        let unfinished = path.with_extension("crt.tmp");
        let written = fs::write(&unfinished, self.pem())
            .and_then(|()| fs::rename(&unfinished, &path))
            .inspect_err(|_| drop(fs::remove_file(&unfinished)));
        if let Err(source) = written {
            return Err(TrustError::Write { path, source });
        }

        let why = match Command::new(program).output() {
            Ok(output) if output.status.success() => return Ok(path),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        Err(TrustError::Update { path, program, why })
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; try it as root, with sudo",
        _ => "",
    }
}
