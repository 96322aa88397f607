//! Component files as the last look found them, so that an unchanged one is not read again.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::guest::component::Digest;
use crate::guest::files::{MAX_COMPONENT, check_component};
use crate::settle::is_fresh;

/// What was known of each file when it was last read.
#[derive(Default)]
pub struct Files {
    known: HashMap<PathBuf, Known>,
}

struct Known {
    fingerprint: Fingerprint,
    digest: Digest,
}

/// Changes with the file, as far as the file system can tell.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A component file.
pub struct Content {
    pub digest: Digest,
    /// Absent where the digest was known without reading.
    pub bytes: Option<Vec<u8>>,
    /// It was changed so recently that more may be to come.
    pub fresh: bool,
}

impl Files {
    /// Looks at the file, and reads it if it may have changed since the last look:
    /// the times of a fresh one are too coarse to tell.
    ///
    /// # Errors
    /// When it is not there, cannot be read, or changed while it was read.
    pub fn look(&mut self, path: &Path) -> io::Result<Content> {
        let meta = std::fs::metadata(path)?;
        let fresh = is_fresh(&meta);
        let fingerprint = Fingerprint::of(&meta);
        match self.known.get(path) {
            Some(known) if known.fingerprint == fingerprint && !fresh => {
                Ok(Content { digest: known.digest, bytes: None, fresh })
            }
            _ => self.read(path),
        }
    }

    /// Reads the file whatever is known of it.
    ///
    /// # Errors
    /// As [`Self::look`].
    pub fn read(&mut self, path: &Path) -> io::Result<Content> {
        check_component(&std::fs::metadata(path)?)?;
        let mut file = File::open(path)?;
        let before = file.metadata()?;
        // What was opened may be another file by now.
        check_component(&before)?;
        let mut bytes = Vec::with_capacity(usize::try_from(before.len()).unwrap_or(0));
        (&mut file).take(MAX_COMPONENT + 1).read_to_end(&mut bytes)?;
        let fingerprint = Fingerprint::of(&before);
        if Fingerprint::of(&file.metadata()?) != fingerprint {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "it changed while it was read",
            ));
        }
        let digest = Digest::of(&bytes);
        self.known.insert(path.to_owned(), Known { fingerprint, digest });
        Ok(Content { digest, bytes: Some(bytes), fresh: is_fresh(&before) })
    }

    /// Forgets the files that `keep` does not want.
    pub fn retain(&mut self, keep: impl Fn(&Path) -> bool) {
        self.known.retain(|path, _| keep(path));
    }
}

impl Fingerprint {
    fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rewrite_of_the_same_size_within_one_tick_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.wasm");
        let mut files = Files::default();
        for round in 0..100u8 {
            std::fs::write(&path, [round]).unwrap();
            let content = files.look(&path).unwrap();
            assert_eq!(content.digest, Digest::of(&[round]));
            assert!(content.fresh);
        }
    }

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.wasm");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let error = Files::default().look(&path).map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), "it is not a file");
    }

    #[test]
    fn a_missing_file_is_an_error_and_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.wasm");
        let mut files = Files::default();
        std::fs::write(&path, "x").unwrap();
        files.look(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(files.look(&path).is_err());
    }
}
