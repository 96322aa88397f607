//! Reads and judges the files that `[tls.acme]` names: the authority's root, keys, and the hook.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::config::{Acme, Challenge, DnsEditor, ExternalAccount, Located, Problem, TsigKey};
use crate::small_file;

/// Bytes that one of the files has at the most.
const FILE_MAX: u64 = 1024 * 1024;

/// A key whose bits are fewer than these can be guessed.
const KEY_MIN: usize = 16;

type PathAt = Located<std::path::PathBuf>;

/// Everything wrong with the files.
pub fn judge(acme: &Acme) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(acme.ca_root.as_ref().and_then(|file| root(file).err()));
    problems.extend(acme.external_account.as_ref().and_then(|it| hmac_key(it).err()));
    if let Challenge::Dns01(dns) = &acme.challenge {
        match &dns.editor {
            DnsEditor::Update { key, .. } => problems.extend(tsig_secret(key).err()),
            DnsEditor::Hook(hook) => {
                let program = Path::new(hook.value.first().map_or("", String::as_str));
                if let Err(error) = executable(program) {
                    let message = format!("cannot run {}: {error}", program.display());
                    let help = "name a file that can be executed";
                    problems.push(hook.place.problem(message).with_help(help));
                }
            }
        }
    }
    problems
}

/// The roots of a private authority.
///
/// # Errors
/// When there is none in the file.
pub fn root(file: &PathAt) -> Result<RootCertStore, Problem> {
    let path = file.value.display();
    let (pem, _) = read(file)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem).flatten().collect();
    let mut roots = RootCertStore::empty();
    match roots.add_parsable_certificates(certificates) {
        (0, _) => Err(file
            .place
            .problem(format!("{path} holds no root certificate"))
            .with_help("give a PEM file with `-----BEGIN CERTIFICATE-----` in it")),
        _ => Ok(roots),
    }
}

/// The key of an external account.
///
/// # Errors
/// When the file does not hold one, or others can read it.
pub fn hmac_key(account: &ExternalAccount) -> Result<Vec<u8>, Problem> {
    secret(&account.hmac_key_file)
}

/// The secret of DNS updates.
///
/// # Errors
/// When the file does not hold one, or others can read it.
pub fn tsig_secret(key: &TsigKey) -> Result<Vec<u8>, Problem> {
    secret(&key.file)
}

fn secret(file: &PathAt) -> Result<Vec<u8>, Problem> {
    let path = file.value.display();
    let (text, meta) = read(file)?;
    if meta.permissions().mode() & 0o007 != 0 {
        return Err(file
            .place
            .problem(format!("{path} holds a secret, and everybody on this machine can use it"))
            .with_help(format!("chmod o= {path}, and have a new secret made")));
    }
    // Either alphabet, padded or not: it is written in all ways.
    let text = String::from_utf8_lossy(&text);
    let text = text.trim();
    let lenient =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let decoded = [URL_SAFE, STANDARD]
        .iter()
        .find_map(|alphabet| GeneralPurpose::new(alphabet, lenient).decode(text).ok());
    decoded.filter(|key| key.len() >= KEY_MIN).ok_or_else(|| {
        file.place
            .problem(format!("{path} does not hold a secret in base64 of {KEY_MIN} bytes or more"))
            .with_help("put the secret in the file as it was given to you, and nothing else")
    })
}

fn read(file: &PathAt) -> Result<(Vec<u8>, Metadata), Problem> {
    let path = &file.value;
    small_file::read(path, FILE_MAX)
        .map_err(|error| file.place.problem(format!("cannot read {}: {error}", path.display())))
}

fn executable(program: &Path) -> io::Result<()> {
    let meta = fs::metadata(program)?;
    match meta.is_file() && meta.permissions().mode() & 0o111 != 0 {
        true => Ok(()),
        false => Err(io::Error::other("it is not an executable file")),
    }
}
