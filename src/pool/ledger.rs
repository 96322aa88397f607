//! A worker's requests and their clocks.

use std::sync::Arc;

use tokio::time::Instant;

use super::Failure;
use super::exchange::Exchange;
use crate::config::Limits;
use crate::request_id::RequestId;

/// What the two halves of a worker share. Dropping it settles every request in it.
pub struct Ledger {
    pub entries: Vec<Entry>,
    /// Answered since the event loop was last polled; their clients are not woken yet.
    pub answered: Vec<Arc<Exchange>>,
    /// The inner half was polled: the guest does not compute right now.
    pub polled: bool,
    /// The event loop has had nothing to do since the last request was taken.
    pub responsive: bool,
    /// Other requests may be handed to this worker.
    pub listed: bool,
    /// What its requests are told when the store ends before they do.
    pub failure: Failure,
    standing: Standing,
    since: Instant,
    /// When the last of its requests ended in time.
    last_ended: Instant,
}

/// A request on a worker.
pub struct Entry {
    id: RequestId,
    exchange: Arc<Exchange>,
    /// Its time is over; the worker's ends then at the latest.
    overdue: Option<Instant>,
}

/// What a worker does, as far as its clocks are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Busy,
    /// Every response is out, the guest still works.
    PostReturn,
    Idle,
}

/// What follows from the clocks.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing before this moment.
    Until(Instant),
    /// It was idle long enough.
    Leave,
    /// It overstayed.
    Kill,
}

impl Entry {
    pub fn new(id: RequestId, exchange: Arc<Exchange>) -> Self {
        Self { id, exchange, overdue: None }
    }
}

impl Ledger {
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            entries: Vec::new(),
            answered: Vec::new(),
            polled: false,
            responsive: false,
            listed: false,
            failure: Failure::Guest("tidegate failed".into()),
            standing: Standing::Busy,
            since: now,
            last_ended: now,
        }
    }

    /// Takes out the requests that are through. One that is overdue stays: its guest may still run.
    pub fn forget_ended(&mut self) {
        let last_ended = &mut self.last_ended;
        self.entries.retain(|entry| match entry.exchange.ended() {
            Some(at) if entry.overdue.is_none() => {
                *last_ended = at.max(*last_ended);
                false
            }
            _ => true,
        });
    }

    /// A request timed out: the worker takes no more.
    pub fn overdue(&self) -> bool {
        self.entries.iter().any(|entry| entry.overdue.is_some())
    }

    /// The request that the guest must be working on, if there is just one.
    pub fn only_request(&self) -> Option<RequestId> {
        match self.entries.as_slice() {
            [entry] => Some(entry.id),
            _ => None,
        }
    }

    pub fn stand(&mut self, standing: Standing) {
        if self.standing != standing {
            self.standing = standing;
            self.since = match standing {
                Standing::Busy => Instant::now(),
                // Nobody woke us at that moment, but the clock runs from it.
                Standing::PostReturn | Standing::Idle => self.last_ended,
            };
        }
    }

    pub fn is_idle(&self) -> bool {
        self.standing == Standing::Idle
    }

    /// Takes the first frames of new answers. True when another turn may bring more.
    pub fn prefetch(&mut self, max: usize) -> bool {
        self.answered.iter().fold(false, |more, exchange| exchange.prefetch(max) | more)
    }

    /// Hands new answers to their clients.
    pub fn publish(&mut self) {
        for exchange in self.answered.drain(..) {
            exchange.publish();
        }
    }

    /// Reads the clocks.
    ///
    /// A request whose time is over fails at once; the worker then takes no
    /// other, and ends as soon as no request has time left, or at twice the
    /// timeout. Every other request was taken before the first timed out, so it
    /// has had its full time by then.
    pub fn review(&mut self, limits: &Limits, evicting: bool) -> Verdict {
        let now = Instant::now();
        match self.standing {
            Standing::Idle if evicting || self.since + limits.idle_timeout <= now => {
                return Verdict::Leave;
            }
            Standing::Idle => return Verdict::Until(self.since + limits.idle_timeout),
            Standing::PostReturn if self.since + limits.post_return_timeout <= now => {
                return Verdict::Kill;
            }
            Standing::PostReturn => return Verdict::Until(self.since + limits.post_return_timeout),
            Standing::Busy => {}
        }

        let mut next = now + limits.request_timeout;
        let mut kill_at: Option<Instant> = None;
        let mut in_time = 0;
        for entry in &mut self.entries {
            if entry.overdue.is_none() {
                let due = entry.exchange.due(limits);
                if due.at > now {
                    next = next.min(due.at);
                    in_time += usize::from(entry.exchange.ended().is_none());
                    continue;
                }
                entry.exchange.settle(Failure::TimedOut);
                entry.overdue = Some(due.at + due.limit);
            }
            kill_at = kill_at.min(entry.overdue).or(entry.overdue);
        }
        let Some(mut kill_at) = kill_at else {
            return Verdict::Until(next);
        };
        if in_time == 0 {
            // All that can still be worth waiting for is work after the
            // responses of others, and none of it goes on while the guest computes.
            kill_at = match self.polled {
                true => kill_at.min(self.last_ended + limits.post_return_timeout),
                false => now,
            };
        }
        match kill_at <= now {
            true => Verdict::Kill,
            false => Verdict::Until(next.min(kill_at)),
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        for entry in &self.entries {
            entry.exchange.settle(self.failure.clone());
        }
        self.publish();
    }
}
