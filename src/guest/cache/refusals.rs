//! Components that cost too much to compile, so that a restart does not try them again.
//!
//! Else a handful of small files could make every start take minutes. Another
//! limit, another version of the engine or another file is a new try.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use tracing::{info, warn};

use super::key::SEAL;
use super::{Cache, Digest, check_directory, check_file, newest_first, open, remove};
use crate::config::Compile;
use crate::guest::ComponentError;
use crate::guest::compile::too_dear;
use crate::guest::files::write_by_rename;
use crate::limit::Limit;

/// Refusals kept, the newest.
const MAX_REFUSALS: usize = 1000;

/// What a change of the clock, or a busy machine, has no part in.
const REMEMBERED: [Limit; 2] = [Limit::CompileCpuTime, Limit::CompileMemory];

impl Cache {
    /// Why this component was refused before, under the same limits.
    pub fn refusal(
        &self,
        engines: &Digest,
        component: &Digest,
        limits: &Compile,
    ) -> Option<ComponentError> {
        let name = name(engines, component, limits);
        let limit = self.read_refusal(&name).inspect_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {}
            _ => info!(path = %self.refusal_path(&name).display(), %error, "a refusal cannot be used"),
        });
        Some(too_dear(limit.ok()?, limits))
    }

    /// Remembers that a component reached `limit`.
    pub fn refuse(&self, engines: &Digest, component: &Digest, limits: &Compile, limit: Limit) {
        if !REMEMBERED.contains(&limit) {
            return;
        }
        let name = name(engines, component, limits);
        let path = self.refusal_path(&name);
        let sealed = sealed(&name, limit);
        let kept = check_directory(&self.dir).and_then(|()| {
            write_by_rename(&path, |file| file.write_all(&self.key.seal(&sealed)))?;
            self.prune_refusals()
        });
        if let Err(error) = kept {
            warn!(path = %path.display(), %error, "a refusal was not kept");
        }
    }

    fn read_refusal(&self, name: &Digest) -> io::Result<Limit> {
        check_directory(&self.dir)?;
        let mut file = open(&self.refusal_path(name))?;
        let mut seal = [0; SEAL];
        if check_file(&file.metadata()?)? == SEAL as u64 {
            file.read_exact(&mut seal)?;
        }
        let is_sealed = |limit: &Limit| self.key.made(&seal, &sealed(name, *limit));
        let limit = REMEMBERED.into_iter().find(is_sealed);
        limit.ok_or_else(|| io::Error::other("it was not put there by this tidegate"))
    }

    fn refusal_path(&self, name: &Digest) -> PathBuf {
        self.dir.join(format!("{name}.refused"))
    }

    fn prune_refusals(&self) -> io::Result<()> {
        let all = newest_first(&self.dir, |name| name.ends_with(".refused"))?;
        all.iter().skip(MAX_REFUSALS).try_for_each(|(_, path)| remove(path))
    }
}

/// What was refused, for which engines and within which limits.
fn name(engines: &Digest, component: &Digest, limits: &Compile) -> Digest {
    let cpu_time = limits.cpu_time.as_millis().to_le_bytes();
    let memory = limits.memory.to_le_bytes();
    Digest::of(&[&engines.0[..], &component.0, &cpu_time, &memory].concat())
}

/// What the seal in the file is upon.
fn sealed(name: &Digest, limit: Limit) -> Vec<u8> {
    [&name.0[..], limit.name().as_bytes()].concat()
}
