//! The key that shows which files of compiled code tidegate itself has written.

use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use aws_lc_rs::{hmac, rand};
use tracing::warn;

use super::{check_file, open};
use crate::guest::files::write_by_rename;

/// Bytes of a seal, HMAC-SHA256.
pub const SEAL: usize = 32;

const KEY: usize = 32;

/// A secret of this installation, kept in a file that nobody else can read.
pub struct Key(hmac::Key);

impl Key {
    /// Reads the key at `path`. Where there is none that only this user knows, makes a
    /// new one: what was sealed with another is not trusted any more.
    ///
    /// # Errors
    /// When a new one cannot be made or kept.
    pub fn open(path: &Path) -> io::Result<Self> {
        let key = match read(path) {
            Ok(key) => key,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    let path = path.display();
                    warn!(%path, %error, "the key of the compiled code is replaced, compiling everything again");
                }
                make(path)?
            }
        };
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    pub fn seal(&self, bytes: &[u8]) -> [u8; SEAL] {
        let tag = hmac::sign(&self.0, bytes);
        std::array::from_fn(|i| tag.as_ref()[i])
    }

    /// Whether this key made `seal` for `bytes`.
    pub fn made(&self, seal: &[u8; SEAL], bytes: &[u8]) -> bool {
        hmac::verify(&self.0, bytes, seal).is_ok()
    }
}

fn read(path: &Path) -> io::Result<[u8; KEY]> {
    let mut file = open(path)?;
    let meta = file.metadata()?;
    if check_file(&meta)? != KEY as u64 || meta.mode() & 0o077 != 0 {
        return Err(io::Error::other("others can read it, or it is no key"));
    }
    let mut key = [0; KEY];
    file.read_exact(&mut key)?;
    Ok(key)
}

fn make(path: &Path) -> io::Result<[u8; KEY]> {
    let mut key = [0; KEY];
    rand::fill(&mut key).map_err(|_| io::Error::other("the system has no random numbers"))?;
    write_by_rename(path, |file| file.write_all(&key))?;
    Ok(key)
}
