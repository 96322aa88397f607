//! How many requests of an app are under way at a time, and how many wait to be.
//!
//! A pass is held from before an instance is looked for to the last byte of
//! the response and the end of the guest's work. Who finds none waits in line,
//! as does who has one and finds no instance: both lines together are no longer
//! than the queue, and nobody stands in them for longer than its timeout. Who is
//! on the way from the one to the other at that moment is in neither.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::{Blueprint, Drain, Failure};
use crate::limit::{Limit, Tally};
use crate::stats;

/// See the module.
pub struct Gate {
    passes: Arc<Semaphore>,
    /// Who waits for a pass.
    line: AtomicUsize,
    queue: usize,
    queue_timeout: Duration,
    drain: Arc<Drain>,
    tally: Arc<Tally>,
    stats: Arc<stats::App>,
}

/// A request that is let in. Dropping it lets another in.
pub struct Pass {
    _permit: OwnedSemaphorePermit,
    /// Until when it may wait, if it has waited already.
    deadline: Option<Instant>,
}

/// A place in the line for a pass.
struct Place<'a>(&'a AtomicUsize);

impl Pass {
    /// Whether who has it had to wait for it.
    pub fn has_waited(&self) -> bool {
        self.deadline.is_some()
    }
}

impl Gate {
    pub fn new(Blueprint { limits, drain, tally, stats, .. }: &Blueprint) -> Self {
        let passes = limits.max_in_flight.get().min(Semaphore::MAX_PERMITS);
        Self {
            passes: Arc::new(Semaphore::new(passes)),
            line: AtomicUsize::new(0),
            queue: limits.queue,
            queue_timeout: limits.queue_timeout,
            drain: drain.clone(),
            tally: tally.clone(),
            stats: stats.clone(),
        }
    }

    /// Lets a request in, if need be after a wait. `inside` is how many wait for an instance.
    ///
    /// # Errors
    /// `Busy`, when too many wait already or its time in the line is over; `Drained`, when the app
    /// takes no requests.
    pub async fn enter(&self, inside: impl FnOnce() -> usize) -> Result<Pass, Failure> {
        if self.drain.is_on() {
            return Err(Failure::Drained);
        }
        if let Ok(permit) = self.passes.clone().try_acquire_owned() {
            return Ok(Pass { _permit: permit, deadline: None });
        }
        self.tally.reached(Limit::MaxInFlight, "a request");
        let place = Place(&self.line);
        if self.line.fetch_add(1, SeqCst) + inside() >= self.queue {
            return Err(self.full());
        }
        let deadline = Instant::now() + self.queue_timeout;
        let permit = timeout_at(deadline, self.passes.clone().acquire_owned()).await;
        drop(place);
        // It is never closed.
        let permit = permit.map_err(|_| self.too_late())?.map_err(|_| Failure::busy())?;
        Ok(Pass { _permit: permit, deadline: Some(deadline) })
    }

    /// How many wait for a pass.
    pub fn line(&self) -> usize {
        self.line.load(SeqCst)
    }

    /// Too many wait.
    pub fn full(&self) -> Failure {
        self.tally.reached(Limit::Queue, "a request");
        Failure::busy()
    }

    /// It has waited for too long.
    pub fn too_late(&self) -> Failure {
        self.tally.reached(Limit::QueueTimeout, "a request");
        Failure::busy()
    }

    /// Until when who has this pass may wait for an instance.
    pub fn deadline(&self, pass: &Pass) -> Instant {
        pass.deadline.unwrap_or_else(|| Instant::now() + self.queue_timeout)
    }

    /// Who has this pass has an instance, too, and waited for nothing else.
    pub fn waited_for(&self, pass: &Pass) {
        if let Some(deadline) = pass.deadline {
            self.waited(deadline, Instant::now());
        }
    }

    /// An instance took a request at that moment that might have waited until `deadline`.
    pub fn waited(&self, deadline: Instant, taken: Instant) {
        let left = deadline.saturating_duration_since(taken);
        self.stats.queue.observe(self.queue_timeout.saturating_sub(left));
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
