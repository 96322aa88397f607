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

    /// Whether one of them was taken while the file was cut.
    pub fn is_half_way(&self, other: &Stamp) -> bool {
        self.is_of_same_file(other) && self.changed == other.changed && self.size != other.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_cut_in_the_same_moment_is_half_way() {
        let whole = Stamp { identity: (1, 2), changed: (10, 5), size: 100 };
        let cut = Stamp { size: 0, ..whole };
        assert!(cut.is_half_way(&whole) && whole.is_half_way(&cut));
        assert_ne!(cut, whole);

        let written = Stamp { changed: (10, 6), size: 120, ..whole };
        let other = Stamp { identity: (1, 3), ..cut };
        for stamp in [whole, written, other] {
            assert!(!stamp.is_half_way(&whole), "{stamp:?}");
        }
    }
}
