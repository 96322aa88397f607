//! Counters in several copies, so that the threads of the runtime do not write to the same memory.
//!
//! Two cores that count on one line of the cache hand it to and fro with each request, which costs
//! more than all that is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::available_parallelism;

/// Copies at the most: each is some hundred bytes, for each app at each host.
const SHARDS_MAX: usize = 8;

/// Some copies of the same counters.
#[derive(Debug)]
pub struct Shards<T>(Box<[Arc<T>]>);

impl<T: Default> Default for Shards<T> {
    /// One for each core.
    fn default() -> Self {
        let cores = available_parallelism().map_or(1, usize::from).min(SHARDS_MAX);
        Self((0..cores).map(|_| Arc::default()).collect())
    }
}

impl<T> Shards<T> {
    /// The copy that the present thread counts in.
    pub fn mine(&self) -> &Arc<T> {
        &self.0[thread_number() % self.0.len()]
    }

    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|shard| &**shard)
    }
}

/// From 0, in the order in which threads first count anything.
fn thread_number() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = THREADS.fetch_add(1, Relaxed);
    }
    NUMBER.try_with(|number| *number).unwrap_or(0)
}
