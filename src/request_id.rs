//! The id that one request carries through log lines, error pages and guest output.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Unique within a process and unlikely to repeat across restarts. Shown as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId(u64);

impl RequestId {
    /// The id as a number, never zero in practice.
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// The id of this number; zero is none.
    pub fn from_u64(id: u64) -> Option<Self> {
        (id != 0).then_some(Self(id))
    }

    /// The next id: a counter, mixed with a seed drawn at start so that ids do not tell the request count.
    pub fn next() -> Self {
        static SEED: OnceLock<u64> = OnceLock::new();
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let seed = *SEED.get_or_init(|| {
            use std::hash::{BuildHasher, RandomState};
            RandomState::new().hash_one(std::process::id())
        });
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // SplitMix64's finaliser: a bijection, so distinct counts give distinct ids.
        let mut id = seed.wrapping_add(count.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        id = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        id = (id ^ (id >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self(id ^ (id >> 31))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
