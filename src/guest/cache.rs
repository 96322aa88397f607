//! Compiled code kept in the state directory, so that a restart compiles nothing.
//!
//! wasmtime trusts such a file completely. So the directory is tidegate's own
//! (0700, same user), nothing from `apps/` is ever taken as compiled code, and
//! a file ends with a checksum over what it was compiled from and what it
//! holds: one that is damaged, or stands under another's name, is compiled again.

use std::fs::{self, DirBuilder, Metadata, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};
use tracing::warn;
use wasmtime::Engine;
use wasmtime::component::Component;

use super::component::Digest;
use super::files::{newest_first, remove, remove_leftovers, write_by_rename};

/// Bytes of compiled code kept; the files least recently used leave first.
const MAX_TOTAL_SIZE: u64 = 2 << 30;

/// Bytes of the checksum at a file's end. wasmtime looks at what the ELF headers name only.
const CHECKSUM: usize = 32;

/// The directory of compiled code.
pub struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// Opens `dir`, making it when it is not there.
    ///
    /// # Errors
    /// When it cannot be made, or others could write to it.
    pub fn open(dir: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        if !is_ours(&fs::metadata(dir)?) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "{} must belong to this user and be writable by nobody else",
                    dir.display()
                ),
            ));
        }
        Ok(Self { dir: dir.into() })
    }

    /// The compiled code of the component with this digest, if it is there and fits this engine.
    pub fn load(&self, engine: &Engine, digest: &Digest) -> Option<Component> {
        let key = Key::new(engine, digest);
        let path = self.path(&key);
        match read(engine, &key, &path) {
            Ok(component) => Some(component),
            Err(Unusable::Absent) => None,
            Err(Unusable::Because(reason)) => {
                warn!(path = %path.display(), reason, "compiled code cannot be used, compiling again");
                None
            }
        }
    }

    /// Keeps compiled code. A failure is said and costs a compilation at the next start.
    pub fn store(&self, engine: &Engine, digest: &Digest, component: &Component) {
        let key = Key::new(engine, digest);
        let path = self.path(&key);
        let written = component.serialize().map_err(io::Error::other).and_then(|mut bytes| {
            let checksum = key.checksum(&mut bytes.as_slice(), bytes.len() as u64)?;
            bytes.extend_from_slice(&checksum);
            write_by_rename(&path, &bytes)
        });
        if let Err(error) = written {
            warn!(path = %path.display(), %error, "compiled code was not kept");
        }
        if let Err(error) = self.prune(MAX_TOTAL_SIZE) {
            warn!(dir = %self.dir.display(), %error, "old compiled code was not removed");
        }
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.dir.join(format!("{}.cwasm", key.0))
    }

    /// Leaves the newest files up to `limit` bytes.
    fn prune(&self, limit: u64) -> io::Result<()> {
        remove_leftovers(&self.dir, |_| true)?;
        let mut total = 0;
        for (size, path) in newest_first(&self.dir, |name| name.ends_with(".cwasm"))? {
            total += size;
            if total > limit {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

/// What compiled code was made of: a component's content, and the engine's version and settings.
struct Key(Digest);

impl Key {
    fn new(engine: &Engine, digest: &Digest) -> Self {
        let mut hasher = Sha(Sha256::new_with_prefix(digest.0));
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self(Digest(hasher.0.finalize().into()))
    }

    /// The checksum of `size` bytes of code under this key.
    fn checksum(&self, code: &mut impl Read, size: u64) -> io::Result<[u8; CHECKSUM]> {
        let mut hasher = Sha256::new_with_prefix(self.0.0);
        let mut buffer = [0; 16 << 10];
        let mut left = size;
        while left > 0 {
            let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = code.read(&mut buffer[..room])?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            hasher.update(&buffer[..read]);
            left -= read as u64;
        }
        Ok(hasher.finalize().into())
    }
}

enum Unusable {
    Absent,
    Because(String),
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Absent,
            _ => Self::Because(error.to_string()),
        }
    }
}

/// Checks the file at `path` against `key` and maps it.
fn read(engine: &Engine, key: &Key, path: &Path) -> Result<Component, Unusable> {
    let because = |reason: &str| Err(Unusable::Because(reason.to_owned()));
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || !is_ours(&meta) {
        return because("it is not a file of this user alone");
    }
    let Some(size) = meta.len().checked_sub(CHECKSUM as u64) else {
        return because("it is cut short");
    };
    // Read, not mapped: what is only checked takes no memory of ours.
    let computed = key.checksum(&mut file, size)?;
    let mut stored = [0; CHECKSUM];
    file.read_exact(&mut stored)?;
    if computed != stored {
        return because("it is damaged, or another component's");
    }
    // SAFETY: `store` wrote these bytes for this component and this engine, as
    // the checksum shows. The path still leads to them, or to what another
    // `store` put there for the same key: only this user can write in the
    // directory, and files in it are replaced whole, never written to.
    let component = unsafe { Component::deserialize_file(engine, path) };
    let component = component.map_err(|error| Unusable::Because(format!("{error:#}")))?;
    // Only tells `prune` what is in use; a failure costs a compilation later.
    let _ = file.set_modified(SystemTime::now());
    Ok(component)
}

/// Whether nobody but this user can change what `meta` describes.
fn is_ours(meta: &Metadata) -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    let me = unsafe { libc::geteuid() };
    meta.uid() == me && meta.mode() & 0o022 == 0
}

/// A hasher that keeps all 256 bits, for the engine's `impl Hash`.
struct Sha(Sha256);

impl Hasher for Sha {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        u64::from_le_bytes(std::array::from_fn(|i| digest[i]))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::guest::engine::{Engines, Kind};

    #[test]
    fn the_oldest_files_leave_first() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(&dir.path().join("cache")).unwrap();
        for (name, age) in [("old", 30), ("middle", 20), ("new", 10)] {
            let path = cache.dir.join(name).with_extension("cwasm");
            fs::write(&path, [0; 100]).unwrap();
            let then = SystemTime::now() - std::time::Duration::from_secs(age);
            fs::File::open(&path).unwrap().set_modified(then).unwrap();
        }
        cache.prune(250).unwrap();
        let left = |name| cache.dir.join(name).with_extension("cwasm").exists();
        assert_eq!([left("old"), left("middle"), left("new")], [false, true, true]);
    }

    #[test]
    fn what_is_not_the_stored_code_of_this_component_is_compiled_again() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(&dir.path().join("cache")).unwrap();
        let engines = Engines::new().unwrap();
        let engine = &engines.side(Kind::Plain).engine;
        // Two small components: one with a custom section.
        let one = *b"\0asm\x0d\0\x01\0";
        let two = *b"\0asm\x0d\0\x01\0\0\x02\x01a";
        let [one, two] = [&one[..], &two[..]].map(|bytes| {
            let digest = Digest::of(bytes);
            cache.store(engine, &digest, &Component::from_binary(engine, bytes).unwrap());
            assert!(cache.load(engine, &digest).is_some(), "what was stored is found");
            digest
        });
        let path = |digest| cache.path(&Key::new(engine, digest));
        let good = fs::read(path(&one)).unwrap();

        for at in (0..good.len()).step_by(good.len() / 64).chain(good.len() - CHECKSUM..good.len())
        {
            let mut flipped = good.clone();
            flipped[at] ^= 1;
            fs::write(path(&one), flipped).unwrap();
            assert!(cache.load(engine, &one).is_none(), "a flipped bit at {at}");
        }
        for length in [0, 1, CHECKSUM, good.len() / 2, good.len() - 1] {
            fs::write(path(&one), &good[..length]).unwrap();
            assert!(cache.load(engine, &one).is_none(), "cut to {length}");
        }
        fs::write(path(&one), b"\x7fELF and something else entirely, and not short").unwrap();
        assert!(cache.load(engine, &one).is_none(), "foreign");
        fs::copy(path(&two), path(&one)).unwrap();
        assert!(cache.load(engine, &one).is_none(), "another component's");

        fs::write(path(&one), &good).unwrap();
        assert!(cache.load(engine, &one).is_some(), "the same as it was");
        fs::set_permissions(path(&one), PermissionsExt::from_mode(0o622)).unwrap();
        assert!(cache.load(engine, &one).is_none(), "writable by others");
        fs::remove_file(path(&one)).unwrap();
        let elsewhere = dir.path().join("elsewhere");
        fs::write(&elsewhere, &good).unwrap();
        fs::set_permissions(&elsewhere, PermissionsExt::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&elsewhere, path(&one)).unwrap();
        assert!(cache.load(engine, &one).is_none(), "a link");
        let other_engine = &engines.side(Kind::Concurrent).engine;
        assert!(cache.load(other_engine, &two).is_none(), "another engine");
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
        assert!(Cache::open(dir.path()).is_err());
    }
}
