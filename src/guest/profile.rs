//! Samples of guest code, one profile per store, written when the store ends.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::task::TaskTracker;
use tracing::warn;
use wasmtime::component::Component;
use wasmtime::{AsContext, GuestProfiler};

use super::engine::Engines;
use super::files::{newest_first, remove, remove_leftovers, write_by_rename};
use crate::config;
use crate::limit::Tally;

/// A store is sampled this often at the most; a profile grows with each.
const MAX_SAMPLES: u32 = 20_000;

/// One app's profiling: which stores are sampled and where profiles go.
pub struct Profiler {
    settings: config::Profile,
    app: String,
    generation: u64,
    stores: AtomicU64,
    writes: TaskTracker,
    /// Says how often a loss may be logged: each instance may be one.
    tally: Arc<Tally>,
}

/// A store's profile while it is made.
pub struct Recording {
    profiler: Box<GuestProfiler>,
    /// Of computing, from one sample to the next.
    interval: Duration,
    /// Of computing, since the last.
    computed: Duration,
    samples: u32,
}

impl Profiler {
    /// `writes` is what shutdown waits for.
    pub fn new(
        settings: config::Profile,
        app: &str,
        generation: u64,
        writes: TaskTracker,
        tally: Arc<Tally>,
    ) -> Self {
        Self { settings, app: app.to_owned(), generation, stores: AtomicU64::new(0), writes, tally }
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
            Ok(profiler) => Some(Recording {
                profiler: Box::new(profiler),
                interval,
                computed: Duration::ZERO,
                samples: 0,
            }),
            Err(error) => {
                if self.tally.may_warn() {
                    warn!(app = self.app, "a store is not profiled: {error:#}");
                }
                None
            }
        }
    }

    /// Writes a finished recording, off the async threads.
    pub fn finish(&self, instance: u64, recording: Recording) {
        let (app, generation) = (self.app.clone(), self.generation);
        let (settings, tally) = (self.settings.clone(), self.tally.clone());
        self.writes.spawn_blocking(move || {
            let name = format!("{app}-{generation}-{instance}.json");
            let mut json = Vec::new();
            let finished = recording.profiler.finish(&mut json).map_err(io::Error::other);
            if let Err(error) = finished.and_then(|()| keep(&settings, &app, &name, &json))
                && tally.may_warn()
            {
                warn!(profile = name, dir = %settings.dir.display(), %error, "a profile was lost");
            }
        });
    }
}

impl Recording {
    /// Takes one sample of the guest that is running in `store`, if it is time for one.
    ///
    /// For each tick, so long after the one before. The guest yields at each, sampled or not:
    /// were it interrupted at its samples only, no timeout could end one that computes between.
    pub fn tick(&mut self, store: impl AsContext, period: Duration) {
        self.computed += period;
        if self.computed >= self.interval && self.samples < MAX_SAMPLES {
            self.computed = Duration::ZERO;
            self.samples += 1;
            self.profiler.sample(store, Duration::ZERO);
        }
    }
}

/// Writes a profile of `app` and removes older ones, within the caps.
fn keep(settings: &config::Profile, app: &str, name: &str, json: &[u8]) -> io::Result<()> {
    let size = json.len() as u64;
    if size > settings.max_total_size {
        return Err(io::Error::other(format!("its {size} bytes are more than max_total_size")));
    }
    let dir = &settings.dir;
    fs::create_dir_all(dir)?;
    remove_leftovers(dir, |stem| is_of(stem, app))?;
    // Room first, so that the caps hold at every moment; and again after, for
    // the profiles that other stores wrote meanwhile.
    prune(dir, app, settings.max_files.get() - 1, settings.max_total_size - size)?;
    write_by_rename(&dir.join(name), |file| file.write_all(json))?;
    prune(dir, app, settings.max_files.get(), settings.max_total_size)
}

/// Leaves at most `files` of this app's profiles and `bytes` in all, the newest.
fn prune(dir: &Path, app: &str, files: usize, bytes: u64) -> io::Result<()> {
    let is_profile = |name: &str| name.strip_suffix(".json").is_some_and(|stem| is_of(stem, app));
    let mut total = 0;
    for (kept, (size, path)) in newest_first(dir, is_profile)?.into_iter().enumerate() {
        total += size;
        if kept >= files || total > bytes {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Whether `stem` is APP-GENERATION-INSTANCE. Apps may share a directory, and
/// one's name may begin with another's.
fn is_of(stem: &str, app: &str) -> bool {
    let numbers = stem.strip_prefix(app).and_then(|rest| rest.strip_prefix('-'));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    numbers
        .and_then(|numbers| numbers.split_once('-'))
        .is_some_and(|(generation, instance)| is_number(generation) && is_number(instance))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(dir: &Path, files: usize, bytes: u64) -> config::Profile {
        config::Profile {
            interval: Duration::from_millis(1),
            sample: 1.try_into().unwrap(),
            dir: dir.join("profiles"),
            max_files: files.try_into().unwrap(),
            max_total_size: bytes,
        }
    }

    fn names(settings: &config::Profile) -> Vec<String> {
        let entries = fs::read_dir(&settings.dir).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    /// Writes profiles 1 to `count` of `app`, each of 100 bytes and older than the next.
    fn keep_all(settings: &config::Profile, app: &str, count: u64) {
        for instance in 1..=count {
            let name = format!("{app}-1-{instance}.json");
            keep(settings, app, &name, &[b' '; 100]).unwrap();
            let written = fs::File::open(settings.dir.join(name)).unwrap();
            let age = Duration::from_secs(100 - instance);
            written.set_modified(std::time::SystemTime::now() - age).unwrap();
        }
    }

    #[test]
    fn the_newest_profiles_stay_up_to_max_files() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path(), 3, 1 << 20);
        keep_all(&settings, "app", 5);
        assert_eq!(names(&settings), ["app-1-3.json", "app-1-4.json", "app-1-5.json"]);
    }

    #[test]
    fn the_newest_profiles_stay_up_to_max_total_size() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path(), 100, 250);
        keep_all(&settings, "app", 5);
        assert_eq!(names(&settings), ["app-1-4.json", "app-1-5.json"]);
    }

    #[test]
    fn a_profile_larger_than_the_cap_is_not_kept_and_removes_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path(), 100, 250);
        keep_all(&settings, "app", 1);
        assert!(keep(&settings, "app", "app-1-2.json", &[b' '; 251]).is_err());
        assert_eq!(names(&settings), ["app-1-1.json"]);
    }

    #[test]
    fn an_app_leaves_the_profiles_of_others_alone() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path(), 1, 1 << 20);
        keep_all(&settings, "shop-1", 1);
        keep_all(&settings, "shop-api", 1);
        keep_all(&settings, "shop", 2);
        assert_eq!(names(&settings), ["shop-1-1-1.json", "shop-1-2.json", "shop-api-1-1.json"]);
    }
}
