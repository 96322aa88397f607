//! What was counted some seconds ago, up to a minute: requests do not pay for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::lock;
use super::requests::Sum;
use crate::config::AppName;

/// From one sample to the next.
pub const INTERVAL: Duration = Duration::from_secs(5);

/// Samples that are kept: those of a minute.
const SAMPLES: usize = 12;

/// Sums by app; `None` is what tidegate answers by itself.
pub type ByApp = BTreeMap<Option<AppName>, Sum>;

/// See the module.
#[derive(Debug, Default)]
pub struct Window(Mutex<VecDeque<(Instant, ByApp)>>);

impl Window {
    /// Remembers what was counted until now.
    pub fn push(&self, now: Instant, counted: ByApp) {
        let mut samples = lock(&self.0);
        if samples.len() >= SAMPLES {
            samples.pop_front();
        }
        samples.push_back((now, counted));
    }

    /// For how long the oldest sample has been there, and what `read` makes of it.
    pub fn oldest<T>(&self, now: Instant, read: impl FnOnce(&ByApp) -> T) -> Option<(Duration, T)> {
        let samples = lock(&self.0);
        let (at, counted) = samples.front()?;
        Some((now.saturating_duration_since(*at), read(counted)))
    }
}
