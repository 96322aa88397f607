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
    /// Device and inode. Absent while it is missing.
    identity: Option<(u64, u64)>,
}

impl ManifestFile {
    /// The file as it is now.
    pub fn new(path: PathBuf) -> Self {
        let identity = fs::metadata(&path).ok().map(|meta| (meta.dev(), meta.ino()));
        Self { path, identity }
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
        let now = Self::new(self.path.clone());
        let age = match now.identity == self.identity {
            true => SETTLE,
            false => STABLE,
        };
        (!changed_within(&self.path, age)).then_some(now)
    }
}
