//! Samples of guest code, one profile per store, written when the store ends.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::task::TaskTracker;
use tracing::warn;
use wasmtime::component::Component;
use wasmtime::{AsContext, GuestProfiler};

use super::cache::write_by_rename;
use super::engine::Engines;
use crate::config;

/// A store is sampled this often at the most; a profile grows with each.
const MAX_SAMPLES: u32 = 20_000;

/// One app's profiling: which stores are sampled and where profiles go.
pub struct Profiler {
    settings: config::Profile,
    app: String,
    generation: u64,
    stores: AtomicU64,
    writes: TaskTracker,
}

/// A store's profile while it is made.
pub struct Recording {
    profiler: Box<GuestProfiler>,
    interval: Duration,
    samples: u32,
}

impl Profiler {
    /// `writes` is what shutdown waits for.
    pub fn new(settings: config::Profile, app: &str, generation: u64, writes: TaskTracker) -> Self {
        Self { settings, app: app.to_owned(), generation, stores: AtomicU64::new(0), writes }
    }

    /// A recording for the store about to be made, if it is one of those sampled. The first is.
    pub fn start(
        &self,
        engines: &Engines,
        kind: super::engine::Kind,
        component: &Component,
    ) -> Option<Recording> {
        let sample = self.settings.sample.get() as u64;
        if !self.stores.fetch_add(1, Ordering::Relaxed).is_multiple_of(sample) {
            return None;
        }
        let interval = self.settings.interval;
        let engine = &engines.side(kind).engine;
        match GuestProfiler::new_component(engine, &self.app, interval, component.clone(), []) {
            Ok(profiler) => Some(Recording { profiler: Box::new(profiler), interval, samples: 0 }),
            Err(error) => {
                warn!(app = self.app, "a store is not profiled: {error:#}");
                None
            }
        }
    }

    /// Writes a finished recording, off the async threads.
    pub fn finish(&self, instance: u64, recording: Recording) {
        let name = format!("{}-{}-{instance}.json", self.app, self.generation);
        let path = self.settings.dir.join(name);
        let settings = self.settings.clone();
        let prefix = format!("{}-", self.app);
        self.writes.spawn_blocking(move || {
            if let Err(error) = write(&path, recording, &prefix, &settings) {
                warn!(path = %path.display(), %error, "a profile was lost");
            }
        });
    }
}

impl Recording {
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Takes one sample of the guest that is running in `store`.
    pub fn sample(&mut self, store: impl AsContext) {
        if self.samples < MAX_SAMPLES {
            self.samples += 1;
            self.profiler.sample(store, Duration::ZERO);
        }
    }
}

fn write(
    path: &Path,
    recording: Recording,
    prefix: &str,
    settings: &config::Profile,
) -> io::Result<()> {
    fs::create_dir_all(&settings.dir)?;
    let mut json = Vec::new();
    recording.profiler.finish(&mut json).map_err(io::Error::other)?;
    prune(
        &settings.dir,
        prefix,
        settings.max_files.get() - 1,
        settings.max_total_size.saturating_sub(json.len() as u64),
    )?;
    write_by_rename(path, &json)
}

/// Leaves at most `files` of this app's profiles and `bytes` in all, the newest.
fn prune(dir: &Path, prefix: &str, files: usize, bytes: u64) -> io::Result<()> {
    let mut profiles: Vec<(std::time::SystemTime, u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(prefix) && name.ends_with(".json") {
            let meta = entry.metadata()?;
            profiles.push((meta.modified()?, meta.len(), entry.path()));
        }
    }
    profiles.sort_unstable_by(|a, b| b.cmp(a));
    let mut total = 0;
    for (kept, (_, size, path)) in profiles.into_iter().enumerate() {
        total += size;
        if kept >= files || total > bytes {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}
