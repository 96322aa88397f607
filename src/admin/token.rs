//! The token that operators show at an address of TCP, and the cookie that stands for it in browsers.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use sha2::{Digest, Sha256};
use tracing::{info, warn};

use crate::config::{Located, Problem};
use crate::small_file;
use crate::stamp::Stamp;

/// Bytes of the file.
const FILE_MAX: u64 = 4 << 10;

/// A token that could be guessed is none.
const CHARACTERS_MIN: usize = 16;

/// Everything that others may do with a file.
const OF_OTHERS: u32 = 0o077;

/// How long a browser need not show the token again.
pub const SESSION: Duration = Duration::from_secs(12 * 3600);

/// What session cookies are signed for, so that they are good for nothing else.
const PURPOSE: &str = "tidegate admin session ends";

/// The token in its file, which is read again when it changes.
pub struct Token {
    path: PathBuf,
    held: Mutex<Held>,
}

/// What the file held when it was last read.
#[derive(Clone)]
struct Held {
    secret: String,
    stamp: Option<Stamp>,
    /// It has changed since, and cannot be used as it is now.
    is_bad: bool,
}

impl Token {
    /// Reads the file that the manifest names.
    ///
    /// # Errors
    /// When it cannot be read, others may read it, or what it holds could be guessed.
    pub fn read(file: &Located<PathBuf>) -> Result<Token, Problem> {
        let path = file.value.clone();
        let held = Held::read(&path).map_err(|fault| {
            let message = format!("{} is no admin token: {}", path.display(), fault.message);
            file.place.problem(message).with_help(fault.help)
        })?;
        Ok(Token { path, held: Mutex::new(held) })
    }

    /// Whether `shown` is the token.
    pub fn is(&self, shown: &str) -> bool {
        // Of digests, so that not even the length is told.
        let digest = |text: &str| Sha256::digest(text.as_bytes());
        verify_slices_are_equal(&digest(shown), &digest(&self.secret())).is_ok()
    }

    /// A cookie's value for who has shown the token. It ends with `SESSION`, and with the token.
    pub fn session(&self) -> String {
        let end = seconds(SystemTime::now() + SESSION);
        let signature = hmac::sign(&self.key(), &statement(end));
        format!("{end}.{}", hex(signature.as_ref()))
    }

    /// Whether `cookie` is one that [`Self::session`] has made, and has not ended.
    pub fn is_session(&self, cookie: &str) -> bool {
        self.is_session_at(cookie, SystemTime::now())
    }

    fn is_session_at(&self, cookie: &str, now: SystemTime) -> bool {
        let Some((end, signature)) = cookie.split_once('.') else { return false };
        let Ok(end) = end.parse::<u64>() else { return false };
        let expected = hmac::sign(&self.key(), &statement(end));
        let is_ours =
            verify_slices_are_equal(signature.as_bytes(), hex(expected.as_ref()).as_bytes());
        is_ours.is_ok() && seconds(now) < end
    }

    /// Looks whether the file has changed. One that cannot be used any more leaves the token that was there.
    ///
    /// Reads files: not for async threads.
    pub fn refresh(&self) {
        let stamp = Stamp::at(&self.path);
        if self.lock().stamp == stamp {
            return;
        }
        match Held::read(&self.path) {
            Ok(held) => {
                info!(file = %self.path.display(), "read the admin token again");
                *self.lock() = held;
            }
            Err(fault) => {
                let mut held = self.lock();
                held.stamp = stamp;
                if !std::mem::replace(&mut held.is_bad, true) {
                    let path = self.path.display();
                    warn!("{path} is no admin token: {}; the former one holds", fault.message);
                }
            }
        }
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.secret().as_bytes())
    }

    fn secret(&self) -> String {
        self.lock().secret.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Fault {
    message: String,
    help: String,
}

impl Held {
    fn read(path: &std::path::Path) -> Result<Held, Fault> {
        let make = || format!("make one: (umask 077; openssl rand -hex 32 > {})", path.display());
        // Before the file: what is written meanwhile is found at the next look.
        let stamp = Stamp::at(path);
        let (bytes, meta) = small_file::read(path, FILE_MAX)
            .map_err(|error| Fault { message: error.to_string(), help: make() })?;
        let mode = meta.permissions().mode() & 0o7777;
        if mode & OF_OTHERS != 0 {
            return Err(Fault {
                message: format!("others than its owner may use it (mode {mode:04o})"),
                help: format!("chmod 600 {}; if others had a look, replace it", path.display()),
            });
        }
        let secret = String::from_utf8(bytes).unwrap_or_default();
        let secret = secret.trim();
        if secret.len() < CHARACTERS_MIN || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Fault {
                message: format!(
                    "expected a line of {CHARACTERS_MIN} or more printable characters"
                ),
                help: make(),
            });
        }
        Ok(Held { secret: secret.to_owned(), stamp, is_bad: false })
    }
}

fn statement(end: u64) -> Vec<u8> {
    format!("{PURPOSE} {end}").into_bytes()
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;
    use crate::config::Place;

    fn token(dir: &tempfile::TempDir, text: &str, mode: u32) -> Result<Token, Problem> {
        let value = dir.path().join("token");
        fs::write(&value, text).expect("write a token");
        fs::set_permissions(&value, Permissions::from_mode(mode)).expect("set its mode");
        Token::read(&Located { value, place: Place::file("config.toml") })
    }

    #[test]
    fn only_a_long_token_that_others_cannot_read_is_one() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(token(&dir, "0123456789abcdef\n", 0o600).is_ok());
        for (text, mode) in
            [("0123456789abcde\n", 0o600), ("", 0o600), ("0123456789 abcdef", 0o600)]
        {
            let problem = token(&dir, text, mode).err().expect("a problem").to_string();
            assert!(problem.contains("16 or more"), "{problem}");
        }
        for mode in [0o640, 0o604, 0o644] {
            let problem = token(&dir, "0123456789abcdef", mode).err().expect("a problem");
            assert!(problem.to_string().contains("chmod 600"), "{problem}");
        }
    }

    #[test]
    fn a_session_is_of_its_token_and_of_no_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let ours = token(&dir, "0123456789abcdef", 0o600).expect("a token");
        let session = ours.session();
        assert!(ours.is_session(&session));
        assert!(!ours.is(&session) && ours.is("0123456789abcdef"));
        let (end, signature) = session.split_once('.').expect("two parts");
        let later = end.parse::<u64>().expect("a time") + 1;
        for forged in [format!("{later}.{signature}"), format!("{end}."), "x.y".into()] {
            assert!(!ours.is_session(&forged), "{forged}");
        }
        assert!(!ours.is_session_at(&session, SystemTime::now() + SESSION), "it has ended");
        let other = token(&dir, "0123456789abcdeX", 0o600).expect("a token");
        assert!(!other.is_session(&session));
        ours.refresh();
        assert!(!ours.is_session(&session), "the token was replaced");
    }
}
