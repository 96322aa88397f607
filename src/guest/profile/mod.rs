//! Profiles: samples of guest code that show where it computes.
//!
//! A store that is sampled has a [`Recording`]. What is kept of that is the app's to say: all of
//! it, or only requests that were slow or failed, each in a file of its own. Besides, an operator
//! may ask for samples of all of an app's stores for a while: a [`Demand`].

mod demand;
mod firefox;
mod recording;
mod samples;
pub mod stored;
mod summary;

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use wasmtime::WasmBacktrace;

use crate::config::{self, When};
use crate::limit::{Bucket, Limit, Tally};
use crate::request_id::RequestId;

pub use demand::{Collected, Collecting, Demand, MAX_DEMAND, UnderWay};
use recording::Kept;
pub use recording::{Ending, Recording};
use samples::Samples;
pub use samples::StoreId;
pub use summary::{Hot, Summary};

/// Profiles of slow and failed requests that one app's pool keeps: a second in the long run, and
/// at once. Where all are slow, more of them say nothing new.
const KEPT_RATE: NonZeroUsize = NonZeroUsize::new(1).expect("written here, not zero");
const KEPT_BURST: NonZeroUsize = NonZeroUsize::new(10).expect("written here, not zero");

/// Profiles of whole stores that wait to be written, of one app's pool.
const MAX_WAITING: usize = 32;

/// One app's profiling: which stores are sampled and where profiles go.
pub struct Profiler {
    settings: config::Profile,
    app: Arc<str>,
    generation: u64,
    stores: AtomicU64,
    writes: TaskTracker,
    /// Places for those that wait to be written.
    waiting: Arc<Semaphore>,
    kept: Bucket,
    /// Says how often a loss may be logged: each instance may be one.
    tally: Arc<Tally>,
}

impl Profiler {
    /// `writes` is what shutdown waits for.
    pub fn new(
        settings: config::Profile,
        app: &str,
        generation: u64,
        writes: TaskTracker,
        tally: Arc<Tally>,
    ) -> Arc<Self> {
        let (app, stores, kept) = (app.into(), AtomicU64::new(0), Bucket::new());
        let waiting = Arc::new(Semaphore::new(MAX_WAITING));
        Arc::new(Self { settings, app, generation, stores, writes, waiting, kept, tally })
    }

    /// A recording for the store about to be made, if it is one of those sampled. The first is.
    pub fn start(self: &Arc<Self>, instance: u64) -> Option<Recording> {
        let sample = self.settings.sample.get() as u64;
        let number = self.stores.fetch_add(1, Ordering::Relaxed);
        number.is_multiple_of(sample).then(|| Recording::new(self.clone(), instance))
    }

    fn when(&self) -> When {
        self.settings.when
    }

    /// Whether another request of those that are kept may be.
    fn may_keep(&self, request: RequestId) -> bool {
        let may = self.kept.take(KEPT_RATE, KEPT_BURST);
        if !may {
            self.tally.reached(Limit::KeptProfiles, request);
        }
        may
    }

    /// Writes all that is known of a store, which has ended, off the async threads. It is lost
    /// where too many wait already: instances may end faster than a disk takes their profiles.
    fn write_all(self: &Arc<Self>, store: StoreId, began: Instant, samples: Samples) {
        let Ok(place) = self.waiting.clone().try_acquire_owned() else {
            return self.tally.lose_profile();
        };
        let profiler = self.clone();
        self.writes.spawn_blocking(move || {
            let _place = place;
            let StoreId { generation, instance } = store;
            let name = format!("{}-{generation}-{instance}.json", profiler.app);
            let track = firefox::Track {
                name: format!("instance {instance} of generation {generation}"),
                samples: samples.iter().collect(),
                request: None,
            };
            profiler.write(&name, began, &samples, &[track]);
        });
    }

    /// Writes what a store's guest did from the first of these requests on, which there are.
    fn write_requests(
        self: &Arc<Self>,
        store: StoreId,
        began: Instant,
        samples: Samples,
        kept: Vec<Kept>,
    ) {
        let profiler = self.clone();
        self.writes.spawn_blocking(move || {
            let (app, settings) = (&*profiler.app, &profiler.settings);
            let Some(longest) = kept.iter().max_by_key(|kept| kept.took()) else { return };
            let StoreId { generation, instance } = store;
            let name = format!("{app}-{generation}-{instance}-{}.json", longest.request);
            let mut tracks: Vec<_> = kept.iter().map(|kept| kept.track(&samples)).collect();
            let is_other = |request| kept.iter().all(|kept| Some(kept.request) != request);
            let rest: Vec<_> = samples.iter().filter(|sample| is_other(sample.request)).collect();
            if !rest.is_empty() {
                let name = "the rest of the instance".to_owned();
                tracks.push(firefox::Track { name, samples: rest, request: None });
            }
            if !profiler.write(&name, began, &samples, &tracks) {
                return;
            }
            let profile = settings.dir.join(name);
            for (kept, track) in kept.iter().zip(&tracks) {
                let (request, why, duration) = (kept.request, kept.why.name(), kept.took());
                let (samples, profile) = (track.samples.len(), profile.display());
                info!(app, instance, %request, why, ?duration, samples, %profile, "kept a profile");
            }
        });
    }

    /// Returns whether it is there now. Where it is not, the log has said so.
    fn write(
        &self,
        name: &str,
        began: Instant,
        samples: &Samples,
        tracks: &[firefox::Track<'_>],
    ) -> bool {
        let json = firefox::json(&self.app, began, self.settings.interval, samples, tracks);
        let written = json
            .map_err(io::Error::other)
            .and_then(|json| stored::keep(&self.settings, &self.app, name, &json));
        match written {
            Ok(()) => true,
            Err(error) => {
                self.tally.lose_profile();
                if self.tally.may_warn() {
                    let dir = self.settings.dir.display();
                    warn!(profile = name, %dir, %error, "a profile was lost");
                }
                false
            }
        }
    }
}

/// What samples one store's guest: its own recording, and what an operator asks for.
pub struct Sampler {
    store: StoreId,
    recording: Option<Recording>,
    demand: Arc<Demand>,
    for_demand: Clock,
}

/// Who wants what is on the stack now.
#[derive(Clone, Copy)]
pub struct Due {
    recording: bool,
    demand: bool,
}

impl Sampler {
    pub fn new(store: StoreId, recording: Option<Recording>, demand: Arc<Demand>) -> Self {
        Self { store, recording, demand, for_demand: Clock::new(demand::INTERVAL) }
    }

    /// A request begins on the instance. Returns where to say that it has ended, if that matters.
    pub fn begin(&mut self, request: RequestId) -> Option<Arc<Ending>> {
        self.recording.as_mut()?.begin(request)
    }

    /// Judges the requests that have ended.
    pub fn review(&mut self) {
        if let Some(recording) = &mut self.recording {
            recording.review();
        }
    }

    /// The store ends, and its requests have.
    pub fn finish(&mut self) {
        if let Some(recording) = self.recording.take() {
            recording.finish();
        }
    }

    /// For each tick, so long after the one before. Something where a sample is due.
    ///
    /// The guest yields at each tick, sampled or not: were it interrupted at its samples only, no
    /// timeout could end one that computes between.
    pub fn tick(&mut self, period: Duration) -> Option<Due> {
        let recording = self.recording.as_mut().is_some_and(|recording| recording.tick(period));
        let demand = self.demand.is_on() && self.for_demand.tick(period);
        (recording || demand).then_some(Due { recording, demand })
    }

    /// Takes the sample that is due.
    pub fn sample(&mut self, due: Due, request: Option<RequestId>, backtrace: &WasmBacktrace) {
        if let Some(recording) = self.recording.as_mut().filter(|_| due.recording) {
            recording.offer(request, backtrace);
        }
        if due.demand {
            self.demand.offer(self.store, request, backtrace);
        }
    }

    /// The guest has failed, here: what one wants to see most, and no tick may have found it.
    pub fn failed(&mut self, request: Option<RequestId>, backtrace: &WasmBacktrace) {
        if let Some(recording) = &mut self.recording {
            recording.add(request, backtrace);
        }
    }
}

/// Counts the time that a guest computes.
struct Clock {
    interval: Duration,
    /// Since the last sample.
    computed: Duration,
}

impl Clock {
    fn new(interval: Duration) -> Self {
        Self { interval, computed: Duration::ZERO }
    }

    /// Whether it is time for a sample.
    fn tick(&mut self, period: Duration) -> bool {
        self.computed += period;
        let due = self.computed >= self.interval;
        if due {
            self.computed = Duration::ZERO;
        }
        due
    }
}
