//! Compiled code kept in the state directory, so that a restart compiles nothing.
//!
//! wasmtime trusts such a file completely. So the directory is tidegate's own
//! (0700, same user), nothing from `apps/` is ever taken as compiled code, and
//! a file is named by the content, the engine's version and its settings.

use std::fs::{self, DirBuilder, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};
use tracing::warn;
use wasmtime::Engine;
use wasmtime::component::Component;

use super::component::Digest;

/// Bytes of compiled code kept; the files least recently used leave first.
const MAX_TOTAL_SIZE: u64 = 2 << 30;

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
        let meta = fs::metadata(dir)?;
        // SAFETY: geteuid takes nothing and cannot fail.
        let me = unsafe { libc::geteuid() };
        if meta.uid() != me || meta.mode() & 0o022 != 0 {
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
        let path = self.path(engine, digest);
        let file = OpenOptions::new().read(true).open(&path).ok()?;
        // SAFETY: the file was written by `store` below, in a directory that
        // only this user can write to, under a name made of what it holds.
        let component = match unsafe { Component::deserialize_file(engine, &path) } {
            Ok(component) => component,
            Err(error) => {
                warn!(path = %path.display(), "compiled code cannot be used, compiling again: {error:#}");
                return None;
            }
        };
        // Only tells `prune` what is in use; a failure costs a compilation later.
        let _ = file.set_modified(SystemTime::now());
        Some(component)
    }

    /// Keeps compiled code. A failure is said and costs a compilation at the next start.
    pub fn store(&self, engine: &Engine, digest: &Digest, component: &Component) {
        let path = self.path(engine, digest);
        let written = component
            .serialize()
            .map_err(io::Error::other)
            .and_then(|bytes| write_by_rename(&path, &bytes));
        if let Err(error) = written.and_then(|()| self.prune()) {
            warn!(path = %path.display(), %error, "compiled code was not kept");
        }
    }

    fn path(&self, engine: &Engine, digest: &Digest) -> PathBuf {
        let mut hasher = Sha(Sha256::new_with_prefix(digest.0));
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let key = Digest(hasher.0.finalize().into());
        self.dir.join(format!("{key}.cwasm"))
    }

    fn prune(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            files.push((meta.modified()?, meta.len(), entry.path()));
        }
        files.sort_unstable_by(|a, b| b.cmp(a));
        let mut total = 0;
        for (_, size, path) in files {
            total += size;
            if total > MAX_TOTAL_SIZE {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// Writes a private file so that a reader, and a crash, sees all of it or nothing.
pub fn write_by_rename(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("tmp-{}-{:x}", std::process::id(), unique()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
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
