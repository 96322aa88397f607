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

/// What a component file holds.
pub struct Content {
    pub digest: Digest,
    /// It was changed so recently that more may be to come.
    pub fresh: bool,
}

/// How often a file that changes while it is read is read at a look.
const MAX_READS: usize = 3;

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
                Ok(Content { digest: known.digest, fresh })
            }
            _ => self.read_whole(path),
        }
    }

    /// Reads it again where it changed meanwhile. As a rule another file came in its place, by
    /// rename, and that one is whole.
    fn read_whole(&mut self, path: &Path) -> io::Result<Content> {
        for _ in 1..MAX_READS {
            match self.read(path) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
                read => return read,
            }
        }
        self.read(path)
    }

    fn read(&mut self, path: &Path) -> io::Result<Content> {
        let file = open(path)?;
        let before = file.metadata()?;
        let digest = Digest::read((&file).take(MAX_COMPONENT))?;
        let fingerprint = Fingerprint::of(&before);
        if Fingerprint::of(&file.metadata()?) != fingerprint {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "it changed while it was read",
            ));
        }
        self.known.insert(path.to_owned(), Known { fingerprint, digest });
        Ok(Content { digest, fresh: is_fresh(&before) })
    }

    /// Forgets the files that `keep` does not want.
    pub fn retain(&mut self, keep: impl Fn(&Path) -> bool) {
        self.known.retain(|path, _| keep(path));
    }
}

/// Opens a component file to be read.
///
/// # Errors
/// When it is not there, or nothing that can be a component.
pub fn open(path: &Path) -> io::Result<File> {
    check_component(&std::fs::metadata(path)?)?;
    let file = File::open(path)?;
    // What was opened may be another file by now.
    check_component(&file.metadata()?)?;
    Ok(file)
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
