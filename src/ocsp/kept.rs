//! Responses in `state_dir/ocsp`, so that a restart shows them at once: a file for each certificate.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::fetch::RESPONSE_MAX;
use crate::{private, small_file};

/// Where all of them are.
pub fn dir(state_dir: &Path) -> PathBuf {
    state_dir.join("ocsp")
}

/// Where the one about the certificate `leaf` is. Another certificate has another.
pub fn file(dir: &Path, leaf: &[u8]) -> PathBuf {
    let digest = Sha256::digest(leaf);
    let name: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    dir.join(format!("{name}.der"))
}

/// What is kept, which may be anything.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    Ok(small_file::read(path, RESPONSE_MAX as u64)?.0)
}

/// Keeps a response, whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, response: &[u8]) -> io::Result<()> {
    path.parent().map_or(Ok(()), private::create_dir)?;
    private::write_whole(path, response)
}

/// Removes everything but the files that are wanted.
pub fn prune(dir: &Path, wanted: &BTreeSet<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if !wanted.contains(&path) {
            // What stays is looked at again at the next start.
            let _ = fs::remove_file(&path);
        }
    }
}
