//! Chance, so that what began at one time does not go on at one time.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// A tenth more or less.
pub fn spread(wait: Duration) -> Duration {
    wait.mul_f64(0.9 + 0.2 * random())
}

/// Between 0 and 1, and another one each time.
pub fn random() -> f64 {
    // Its keys are random.
    RandomState::new().hash_one(0_u8) as f64 / u64::MAX as f64
}
