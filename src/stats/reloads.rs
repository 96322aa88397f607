//! What became of changes to the operator's files.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use super::app::reasons;

/// See the module.
#[derive(Debug, Default)]
pub struct Reloads {
    counts: [AtomicU64; Verdict::ALL.len()],
    /// The last one was not applied, or not all of it.
    failed: AtomicBool,
    /// Unix time of the last; 0 where there was none.
    last: AtomicI64,
}

reasons! {
    /// What one reload came to.
    Verdict:
    /// All of it serves.
    Applied => "applied",
    /// Some of it serves, some cannot.
    Partial => "partial",
    /// None of it serves; what did goes on.
    Refused => "refused",
}

impl Reloads {
    pub fn count(&self, verdict: Verdict) {
        self.counts[verdict as usize].fetch_add(1, Relaxed);
        self.failed.store(verdict != Verdict::Applied, Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last.store(i64::try_from(now.as_secs()).unwrap_or(0), Relaxed);
    }

    pub fn all(&self) -> impl Iterator<Item = (Verdict, u64)> {
        Verdict::ALL.iter().map(|verdict| (*verdict, self.counts[*verdict as usize].load(Relaxed)))
    }

    /// Whether all of the last one serves; also where there was none.
    pub fn last_succeeded(&self) -> bool {
        !self.failed.load(Relaxed)
    }

    /// Unix time of the last one, in seconds; 0 where there was none.
    pub fn last_at(&self) -> i64 {
        self.last.load(Relaxed)
    }
}
