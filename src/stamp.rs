//! Which file a path leads to, and when it was last changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A file that still has its stamp was not written to since, and no other took its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Device and inode.
    identity: (u64, u64),
    /// The time of the last change to it, which no program can set back.
    changed: (i64, i64),
    /// Beside the time: a file that is truncated may be empty for a moment before it is younger
    /// (ext4 cuts it first).
    size: u64,
}

impl Stamp {
    /// None while there is no file.
    pub fn at(path: &Path) -> Option<Stamp> {
        let meta = fs::metadata(path).ok()?;
        Some(Stamp {
            identity: (meta.dev(), meta.ino()),
            changed: (meta.ctime(), meta.ctime_nsec()),
            size: meta.len(),
        })
    }

    /// Whether both are of one file, whatever was written to it between them.
    pub fn is_of_same_file(&self, other: &Stamp) -> bool {
        self.identity == other.identity
    }
}
