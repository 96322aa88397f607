//! Crash bundles: what was known of a guest at the moment when it failed, in one file each.
//!
//! A bundle is for a guest that trapped, exited with an error, or used up its `cpu_time`, which
//! is how one that loops ends; not for one that waited until a timeout, as there is nowhere that
//! it stands, nor for an answer that says it failed.
//!
//! The pool makes it and not the server, as a guest may fail when its response is long on its
//! way, or over. So the request's head has to be where the guest is: see [`crate::guest::head`].
//! `report` takes what is there at that moment; the rest (naming sources, leaving out secrets,
//! writing) is done by one task off the async threads, which ends when nothing is left to write.
//!
//! A guest may trap ten thousand times a second. So an app gets a few bundles a second, of the
//! others only their number is kept, and all of them together have bounds.

mod bundle;
mod folder;
mod head;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio_util::task::TaskTracker;
use tracing::{info, warn};

pub use bundle::{Bundle, FORMAT, Kind, Phase};
pub use folder::{Folder, Found};

use crate::config::Limits;
use crate::guest::component::Digest;
use crate::guest::files::MAX_COMPONENT;
use crate::guest::head::Head;
use crate::guest::last_lines::Line;
use crate::guest::source::locate;
use crate::guest::trace::Frame;
use crate::limit::Bucket;
use crate::small_file;

/// Bundles of one app: a second in the long run, and at once.
const RATE: NonZeroUsize = NonZeroUsize::new(2).expect("written here, not zero");
const BURST: NonZeroUsize = NonZeroUsize::new(5).expect("written here, not zero");

/// Bundles of all apps that wait to be written.
const MAX_WAITING: usize = 32;

/// How long a component's DWARF may be looked through.
const LOOK: Duration = Duration::from_secs(2);

/// Places in one component whose source is remembered.
const MAX_KNOWN: usize = 256;

/// Writes the bundles of all apps, one after the other.
pub struct Desk {
    folder: Folder,
    queue: Mutex<Queue>,
    /// The last one could not be written, which is said once.
    failing: AtomicBool,
    /// What shutdown waits for.
    tasks: TaskTracker,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(Witness, Crash)>,
    /// There is a task that writes.
    writing: bool,
}

/// An app's bundles, over all of its pools.
pub struct Reporter {
    desk: Arc<Desk>,
    app: Arc<str>,
    bucket: Bucket,
    /// Crashes since the last bundle that there is none of.
    left_out: AtomicU64,
    /// Where the component of this digest has its code from, as far as that was asked.
    sources: Mutex<Option<(Digest, Sources)>>,
}

/// By offset in the component's file. `None` where the file does not say.
type Sources = BTreeMap<u64, Option<String>>;

/// Who reports the crashes of one of an app's pools.
#[derive(Clone)]
pub struct Witness {
    reporter: Arc<Reporter>,
    component: Component,
}

/// What a pool knows of a guest that fails.
pub struct Crash {
    pub time: SystemTime,
    pub kind: Kind,
    pub phase: Phase,
    pub reason: String,
    pub frames: Vec<Frame>,
    pub generation: u64,
    pub instance: u64,
    pub scene: Scene,
    pub limits: Limits,
}

/// What is known of an instance when it fails.
#[derive(Default)]
pub struct Scene {
    pub age: Duration,
    /// Requests that the instance took, this one included.
    pub served: u64,
    /// Of those, how many it was working on.
    pub in_flight: usize,
    /// Bytes of its memories and tables.
    pub memory: usize,
    /// The request that it failed in, where that is known.
    pub head: Option<Head>,
    /// What it has written last.
    pub lines: Vec<Line>,
}

/// Which file a guest was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    pub path: PathBuf,
    pub digest: Digest,
}

impl Desk {
    /// Bundles go to a folder below `state_dir`, which is made with the first of them.
    pub fn new(state_dir: &Path, tasks: TaskTracker) -> Arc<Self> {
        Arc::new(Self {
            folder: Folder::below(state_dir),
            queue: Mutex::default(),
            failing: AtomicBool::new(false),
            tasks,
        })
    }

    /// The bundles of one more app.
    pub fn reporter(self: &Arc<Self>, app: &str) -> Arc<Reporter> {
        Arc::new(Reporter {
            desk: self.clone(),
            app: app.into(),
            bucket: Bucket::new(),
            left_out: AtomicU64::new(0),
            sources: Mutex::default(),
        })
    }

    /// Takes a crash to be written. False when too many wait.
    fn take(self: &Arc<Self>, of: &Witness, crash: Crash) -> bool {
        let mut queue = self.lock();
        if queue.waiting.len() >= MAX_WAITING {
            return false;
        }
        queue.waiting.push_back((of.clone(), crash));
        if !queue.writing {
            queue.writing = true;
            let writing = Writing(self.clone());
            self.tasks.spawn_blocking(move || while writing.next() {});
        }
        true
    }

    fn write(&self, of: &Witness, mut crash: Crash) {
        of.locate(&mut crash.frames);
        let Witness { reporter: of, component } = of;
        let left_out = of.left_out.swap(0, Relaxed);
        let bundle = Bundle::new(&of.app, component, crash, left_out);
        match self.folder.keep(&bundle) {
            Ok(()) if self.failing.swap(false, Relaxed) => info!("crash bundles are kept again"),
            Ok(()) => {}
            Err(error) => {
                of.left_out.fetch_add(left_out + 1, Relaxed);
                if !self.failing.swap(true, Relaxed) {
                    let dir = self.folder.path().display();
                    warn!(%dir, %error, "crash bundles are lost, until this is said to be over");
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that writes. When it is dropped, with the runtime or by a panic, there is none.
struct Writing(Arc<Desk>);

impl Writing {
    /// Writes one. False when there is none left, and this was the last look.
    fn next(&self) -> bool {
        let mut queue = self.0.lock();
        let Some((of, crash)) = queue.waiting.pop_front() else {
            queue.writing = false;
            return false;
        };
        drop(queue);
        self.0.write(&of, crash);
        true
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().writing = false;
        }
    }
}

impl Witness {
    /// That of the pool whose guests are made of `component`.
    pub fn new(reporter: Arc<Reporter>, component: Component) -> Self {
        Self { reporter, component }
    }

    /// Whether a crash that happens now gets a bundle; otherwise it is counted.
    pub fn may_report(&self) -> bool {
        let may = self.reporter.bucket.take(RATE, BURST);
        if !may {
            self.reporter.left_out.fetch_add(1, Relaxed);
        }
        may
    }

    /// Has a bundle made of the crash. Does not wait.
    pub fn report(&self, crash: Crash) {
        if !self.reporter.desk.take(self, crash) {
            self.reporter.left_out.fetch_add(1, Relaxed);
        }
    }

    /// Names the sources of `frames`, as far as the component's file does, and is still the same.
    ///
    /// Reads files: not for an async thread.
    pub fn locate(&self, frames: &mut [Frame]) {
        let offsets = frames.iter().filter_map(|frame| frame.offset);
        let sources = self.reporter.sources(offsets.collect(), &self.component);
        for frame in frames {
            frame.source = frame.offset.and_then(|offset| sources.get(&offset).cloned().flatten());
        }
    }
}

impl Reporter {
    /// A guest that traps all the time does so at the same places: those are looked for once.
    fn sources(&self, offsets: Vec<u64>, component: &Component) -> Sources {
        let mut known = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_none_or(|(digest, _)| *digest != component.digest) {
            *known = Some((component.digest, Sources::new()));
        }
        let Some((_, sources)) = known.as_mut() else { return Sources::new() };
        if offsets.iter().any(|offset| !sources.contains_key(offset)) {
            let found = match read(component) {
                Ok(bytes) => locate(&bytes, &offsets, Instant::now() + LOOK),
                // It has been replaced, most likely: what was asked before is known still.
                Err(_) => BTreeMap::new(),
            };
            if sources.len() + offsets.len() > MAX_KNOWN {
                sources.clear();
            }
            for offset in &offsets {
                let source = || found.get(offset).cloned();
                sources.entry(*offset).or_insert_with(source);
            }
        }
        offsets.iter().filter_map(|at| Some((*at, sources.get(at)?.clone()))).collect()
    }
}

/// The component's bytes, if the file still has them.
fn read(component: &Component) -> io::Result<Vec<u8>> {
    let (bytes, _) = small_file::read(&component.path, MAX_COMPONENT)?;
    match Digest::of(&bytes) == component.digest {
        true => Ok(bytes),
        false => Err(io::Error::other("it has changed")),
    }
}
