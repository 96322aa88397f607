//! Compiled code kept in the state directory, so that a restart compiles nothing.
//!
//! wasmtime trusts such code completely. So the directory is tidegate's own
//! (0700, same user), nothing from `apps/` is ever taken as compiled code, and
//! a file ends with a label of what it was compiled from and for, and a code
//! over that label which only the holder of a key can make. A checksum would
//! find damage; the key also refuses what somebody else put there who can
//! write into the directory, by a backup or another program, and cannot read
//! the key beside it. Whatever is not as it should be is compiled again.

mod key;
mod refusals;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tracing::warn;

use super::code::Code;
use super::component::{Component, Digest};
use super::engine::Engines;
use super::files::{newest_first, remove, remove_leftovers, write_by_rename};
use key::{Key, SEAL};

/// Bytes of compiled code kept. What no app uses leaves first, then the files that
/// were least recently used.
const MAX_TOTAL_SIZE: u64 = 2 << 30;

/// How long code is kept that no app uses: a change may be taken back.
const KEEP_UNUSED: Duration = Duration::from_secs(24 * 3600);

/// The directory of compiled code.
pub struct Cache {
    dir: PathBuf,
    key: Key,
}

impl Cache {
    /// Opens the cache in `state_dir`, making it when it is not there.
    ///
    /// # Errors
    /// When it cannot be made, or others could write to it.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let dir = state_dir.join("cache");
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        check_directory(&dir)?;
        let key = Key::open(&state_dir.join("cache.key"))?;
        Ok(Self { dir, key })
    }

    /// The component with this digest, linked, if its code is there and fits these engines.
    pub fn load(&self, engines: &Arc<Engines>, component: &Digest) -> Option<Component> {
        let path = self.path(&engines.id(), component);
        let loaded = self
            .read(&path, &engines.id(), component)
            .and_then(|code| Component::link(engines, &code).map_err(io::Error::other));
        match loaded {
            Ok(component) => Some(component),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(reason) => {
                warn!(path = %path.display(), %reason, "compiled code cannot be used, compiling again");
                None
            }
        }
    }

    /// Keeps compiled code, and returns it as it is kept. A failure is said, and costs a
    /// compilation at the next start.
    pub fn keep(&self, code: Code) -> Code {
        let path = self.path(&code.label.engines, &code.label.component);
        let kept = check_directory(&self.dir).and_then(|()| {
            write_by_rename(&path, |file| {
                (&code.file).seek(SeekFrom::Start(0))?;
                io::copy(&mut &code.file, file)?;
                file.write_all(&self.key.seal(&code.label.to_bytes()))
            })
        });
        match kept {
            // Its pages can be dropped and read again; those of a file in memory cannot.
            Ok(file) => Code { file, label: code.label },
            Err(error) => {
                warn!(path = %path.display(), %error, "compiled code was not kept");
                code
            }
        }
    }

    /// Drops code that has not been used for a while, and the least of what is too much.
    ///
    /// # Errors
    /// When the directory cannot be read, or a file in it not removed.
    pub fn prune(&self, engines: &Digest, in_use: &[Digest]) -> io::Result<()> {
        let in_use = in_use.iter().map(|component| self.path(engines, component)).collect();
        self.prune_to(MAX_TOTAL_SIZE, &in_use)
    }

    fn prune_to(&self, most: u64, in_use: &HashSet<PathBuf>) -> io::Result<()> {
        remove_leftovers(&self.dir, |_| true)?;
        let files = newest_first(&self.dir, |name| name.ends_with(".cwasm"))?;
        let (used, unused): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|(_, path)| in_use.contains(path));
        let mut total = 0;
        for (size, path) in used.into_iter().chain(unused) {
            total += size;
            if total > most || (!in_use.contains(&path) && is_older(&path, KEEP_UNUSED)) {
                total -= size;
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Where the code of a component is, for engines with this id.
    fn path(&self, engines: &Digest, component: &Digest) -> PathBuf {
        let name = Digest::of(&[engines.0, component.0].concat());
        self.dir.join(format!("{name}.cwasm"))
    }

    /// The code in the file at `path`, once everything about it is right.
    fn read(&self, path: &Path, engines: &Digest, component: &Digest) -> io::Result<Code> {
        check_directory(&self.dir)?;
        let file = open(path)?;
        let size = check_file(&file.metadata()?)?;
        let end = size.saturating_sub(SEAL as u64);
        let code = Code::read(file, end)?;
        if (code.label.engines, code.label.component) != (*engines, *component) {
            return Err(io::Error::other("it is another component's, or another engine's"));
        }
        let mut seal = [0; SEAL];
        (&code.file).seek(SeekFrom::Start(end))?;
        (&code.file).read_exact(&mut seal)?;
        if !self.key.made(&seal, &code.label.to_bytes()) {
            return Err(io::Error::other("it was not put there by this tidegate"));
        }
        // Only tells `prune` what is in use; a failure costs a compilation later.
        let _ = code.file.set_modified(SystemTime::now());
        Ok(code)
    }
}

/// Opens what may be a file, and waits for nothing where it is something else.
fn open(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

fn check_directory(dir: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(dir)?;
    match meta.is_dir() && is_ours(&meta) {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "{} must be a directory of this user that nobody else can write to",
                dir.display()
            ),
        )),
    }
}

/// The size of a file that nobody but this user can change, under one name.
fn check_file(meta: &Metadata) -> io::Result<u64> {
    match meta.is_file() && is_ours(meta) && meta.nlink() == 1 {
        true => Ok(meta.len()),
        false => Err(io::Error::other("it is not a file of this user alone")),
    }
}

/// Whether nobody but this user can change what `meta` describes.
fn is_ours(meta: &Metadata) -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    let me = unsafe { libc::geteuid() };
    meta.uid() == me && meta.mode() & 0o022 == 0
}

/// Whether the file was last used so long ago. A clock that went backwards makes none older.
fn is_older(path: &Path, age: Duration) -> bool {
    let modified = fs::metadata(path).and_then(|meta| meta.modified());
    modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|passed| passed > age))
}
