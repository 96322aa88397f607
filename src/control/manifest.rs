//! When the manifest's file is whole: a part of a manifest is often one as well, with hosts missing.

use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::settle::{SETTLE, changed_within};
use crate::stamp::Stamp;

/// A manifest that was put in its place whole is read once nothing has happened to it for this long.
const STABLE: Duration = Duration::from_millis(60);

/// The manifest's file, as it was when it was last taken.
#[derive(Clone)]
pub struct ManifestFile {
    path: PathBuf,
    /// Absent while it is missing.
    seen: Option<Stamp>,
    /// As it was at the last look, whether it was taken or not.
    looked: Arc<Mutex<Option<Stamp>>>,
}

impl ManifestFile {
    /// The file at `path` as it is now. To be called right after it was read for the start, and not
    /// once it serves: one that somebody has truncated by then would be taken as it is. What was
    /// changed in between is not lost, as the first look lets it be read again.
    pub fn new(path: PathBuf) -> Self {
        let seen = Stamp::at(&path);
        Self { path, seen, looked: Arc::new(Mutex::new(seen)) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file as it is now, unless it may still be written to.
    ///
    /// A file that took the place of another came by rename, as a rule, and is
    /// whole. The same one as before was written in place, which may go on for
    /// a while, and what is there so far may read as a manifest. One that is being
    /// truncated may be empty before it is younger (ext4 cuts it first), so its age
    /// alone does not count: it has to be the same at two looks.
    pub fn look(&self) -> Option<Self> {
        let now = Self { seen: Stamp::at(&self.path), ..self.clone() };
        let before = mem::replace(&mut *self.looked(), now.seen);
        if now.seen == self.seen {
            return Some(now);
        }
        if now.seen != before {
            return None;
        }
        let age = match now.seen.zip(self.seen) {
            Some((now, before)) if now.is_of_same_file(&before) => SETTLE,
            _ => STABLE,
        };
        (!changed_within(&self.path, age)).then_some(now)
    }

    /// Whether the file is still as it was at that look. What was read of one that is not may be a
    /// part of it.
    pub fn is_unchanged(&self) -> bool {
        Stamp::at(&self.path) == self.seen
    }

    fn looked(&self) -> MutexGuard<'_, Option<Stamp>> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_looks_old_enough_has_to_look_so_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        fs::write(&path, "one").unwrap();
        let first = ManifestFile::new(path.clone());
        assert!(first.look().is_some(), "nothing has changed");

        let other = dir.path().join("other.toml");
        fs::write(&other, "two").unwrap();
        fs::rename(&other, &path).unwrap();
        std::thread::sleep(STABLE * 2);
        assert!(first.look().is_none(), "it may be cut at this moment");
        let second = first.look().expect("it is the same at the second look");
        assert!(second.is_unchanged() && second.look().is_some());
    }
}
