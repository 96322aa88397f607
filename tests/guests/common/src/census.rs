//! Who is inside this instance, and who was.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static INSTANCE: OnceLock<u64> = OnceLock::new();
static SERVED: AtomicU64 = AtomicU64::new(0);
static CONCURRENT: AtomicU64 = AtomicU64::new(0);

/// The counts as they are now.
pub struct Census {
    /// Random, so that it tells instances apart.
    pub instance: u64,
    /// Requests so far, this one too.
    pub served: u64,
    /// Requests now inside, this one too.
    pub concurrent: u64,
}

/// A request inside the instance; dropping it counts the request out.
pub struct Visit(());

/// Counts a request in. The first one gives the instance its number.
pub fn enter(random: impl FnOnce() -> u64) -> Visit {
    INSTANCE.get_or_init(random);
    SERVED.fetch_add(1, Relaxed);
    CONCURRENT.fetch_add(1, Relaxed);
    Visit(())
}

impl Visit {
    pub fn census(&self) -> Census {
        Census {
            instance: INSTANCE.get().copied().unwrap_or_default(),
            served: SERVED.load(Relaxed),
            concurrent: CONCURRENT.load(Relaxed),
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        CONCURRENT.fetch_sub(1, Relaxed);
    }
}
