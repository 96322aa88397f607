//! Whether an app takes requests: its operator may have said that it takes none for now.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// One for all pools of an app, so that a reload changes nothing about it.
#[derive(Debug, Default)]
pub struct Drain(AtomicBool);

impl Drain {
    /// Whether requests are refused.
    pub fn is_on(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// Refuses requests from now on, or no more.
    pub fn set(&self, on: bool) {
        self.0.store(on, Relaxed);
    }
}
