//! Samples on demand: what an app's running stores compute from now on, for a while.
//!
//! Every store looks at its ticks whether somebody wants samples, so those that have been there
//! for hours are seen as well as new ones, and nothing has to be attached to any.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wasmtime::WasmBacktrace;

use super::firefox::{self, Track};
use super::samples::{Full, Sample, Samples, StoreId};
use crate::request_id::RequestId;

/// The longest time that may be asked for.
pub const MAX_DEMAND: Duration = Duration::from_secs(120);

/// Of a guest's computing, from one sample of it to the next.
pub(super) const INTERVAL: Duration = Duration::from_millis(1);

/// Samples of one demand, of all stores together; of longer ones there are fewer a second.
const MAX_SAMPLES: usize = 40_000;

/// Stores that have a track of their own, the busiest; the others share one.
const MAX_TRACKS: usize = 64;

/// What its operator wants to know of one app. It outlives the app's pools.
#[derive(Default)]
pub struct Demand {
    on: AtomicBool,
    collection: Mutex<Option<Collection>>,
}

struct Collection {
    began: Instant,
    samples: Samples,
}

/// Somebody else has asked for the same app, and still waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a profile of this app is being made already")]
pub struct UnderWay;

/// A demand that is under way; dropping it is the end of it.
pub struct Collecting(Option<Arc<Demand>>);

/// What came of a demand.
pub struct Collected(Collection);

impl Demand {
    /// From now on samples are taken.
    ///
    /// # Errors
    /// While another is under way: there is one at a time.
    pub fn begin(self: &Arc<Self>) -> Result<Collecting, UnderWay> {
        let mut collection = self.lock();
        if collection.is_some() {
            return Err(UnderWay);
        }
        *collection = Some(Collection::begin());
        self.on.store(true, Relaxed);
        Ok(Collecting(Some(self.clone())))
    }

    pub(super) fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    pub(super) fn offer(
        &self,
        store: StoreId,
        request: Option<RequestId>,
        backtrace: &WasmBacktrace,
    ) {
        if let Some(collection) = &mut *self.lock() {
            collection.samples.offer(store, request, backtrace);
        }
    }

    fn end(&self) -> Option<Collection> {
        self.on.store(false, Relaxed);
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Collection>> {
        self.collection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collection {
    fn begin() -> Self {
        Self { began: Instant::now(), samples: Samples::new(MAX_SAMPLES, Full::Thin) }
    }
}

impl Collecting {
    /// Ends it.
    pub fn finish(mut self) -> Collected {
        // Taken out, so that the drop does not end the next one.
        let collection = self.0.take().and_then(|demand| demand.end());
        Collected(collection.unwrap_or_else(Collection::begin))
    }
}

impl Drop for Collecting {
    fn drop(&mut self) {
        if let Some(demand) = self.0.take() {
            demand.end();
        }
    }
}

impl Collected {
    /// One profile of all stores, each in its track, the busiest first. Takes a moment: not for
    /// an async thread.
    ///
    /// # Errors
    /// None that is known of.
    pub fn json(&self, app: &str) -> serde_json::Result<Vec<u8>> {
        let Collection { began, samples } = &self.0;
        let mut stores: BTreeMap<StoreId, Vec<&Sample>> = BTreeMap::new();
        for sample in samples.iter() {
            stores.entry(sample.store).or_default().push(sample);
        }
        let mut stores: Vec<_> = stores.into_iter().collect();
        stores.sort_by_key(|(_, samples)| std::cmp::Reverse(samples.len()));
        let others = stores.split_off(stores.len().min(MAX_TRACKS));
        let mut tracks: Vec<_> = stores
            .into_iter()
            .map(|(StoreId { generation, instance }, samples)| {
                let name = format!("instance {instance} of generation {generation}");
                Track { name, samples, request: None }
            })
            .collect();
        if !others.is_empty() {
            let name = format!("{} other instances", others.len());
            let mut samples: Vec<_> = others.into_iter().flat_map(|(_, samples)| samples).collect();
            samples.sort_by_key(|sample| sample.at);
            tracks.push(Track { name, samples, request: None });
        }
        if tracks.is_empty() {
            // The profiler wants at least one.
            let name = "no instance computed".to_owned();
            tracks.push(Track { name, samples: Vec::new(), request: None });
        }
        firefox::json(app, *began, INTERVAL, samples, &tracks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_at_a_time() {
        let demand = Arc::new(Demand::default());
        assert!(!demand.is_on());
        let first = demand.begin().unwrap();
        assert!(demand.is_on());
        assert_eq!(demand.begin().err(), Some(UnderWay));

        drop(first);
        assert!(!demand.is_on());
        let second = demand.begin().unwrap();
        second.finish();
        assert!(!demand.is_on());
        assert!(demand.begin().is_ok());
    }
}
