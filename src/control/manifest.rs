//! When the manifest's file is whole: a part of a manifest is often one as well, with hosts missing.

use std::path::{Path, PathBuf};
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
}

impl ManifestFile {
    /// The file at `path` as it is now. To be called right after it was read for the start, and not
    /// once it serves: one that somebody has truncated by then would be taken as it is. What was
    /// changed in between is not lost, as the first look lets it be read again.
    pub fn new(path: PathBuf) -> Self {
        let seen = Stamp::at(&path);
        Self { path, seen }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file as it is now, unless it may still be written to.
    ///
    /// A file that took the place of another came by rename, as a rule, and is
    /// whole. The same one as before was written in place, which may go on for
    /// a while, and what is there so far may read as a manifest.
    pub fn look(&self) -> Option<Self> {
        let now = Self { path: self.path.clone(), seen: Stamp::at(&self.path) };
        if now.seen == self.seen {
            return Some(now);
        }
        let age = match now.seen.zip(self.seen) {
            Some((now, before)) if now.is_half_way(&before) => return None,
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
}
