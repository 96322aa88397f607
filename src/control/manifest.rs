//! When the manifest's file is whole: a part of a manifest is often one as well, with hosts missing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::settle::{SETTLE, changed_within};

/// A manifest that was put in its place whole is read once nothing has happened to it for this long.
const STABLE: Duration = Duration::from_millis(60);

/// The manifest's file, as it was when it was last taken.
#[derive(Clone)]
pub struct ManifestFile {
    path: PathBuf,
    /// Absent while it is missing.
    seen: Option<Seen>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    /// Device and inode.
    identity: (u64, u64),
    /// The time of the last change to it, which no program can set back.
    changed: (i64, i64),
}

impl Seen {
    fn at(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        Some(Self {
            identity: (meta.dev(), meta.ino()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

impl ManifestFile {
    /// The file at `path` as it is now. It may have changed since it was read for the start: the
    /// first look lets it be read again.
    pub fn new(path: PathBuf) -> Self {
        let seen = Seen::at(&path);
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
        let now = Self { path: self.path.clone(), seen: Seen::at(&self.path) };
        if now.seen == self.seen {
            return Some(now);
        }
        let is_same = |(now, before): (Seen, Seen)| now.identity == before.identity;
        let age = match now.seen.zip(self.seen).is_some_and(is_same) {
            true => SETTLE,
            false => STABLE,
        };
        (!changed_within(&self.path, age)).then_some(now)
    }
}
