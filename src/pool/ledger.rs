//! A worker's requests and their clocks.

use std::sync::Arc;

use tokio::time::Instant;

use super::exchange::Exchange;
use super::roster::InFlight;
use super::{Failure, OWN_FAULT};
use crate::config::Limits;
use crate::request_id::RequestId;

/// What the two halves of a worker share, and who looks at it from outside. Dropping it settles
/// every request in it.
pub struct Ledger {
    pub entries: Vec<Entry>,
    /// Answered since the last [`Self::publish`]; their clients are not woken yet.
    answered: Vec<Arc<Exchange>>,
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
    /// When the last of its requests ended in time, if any did.
    last_ended: Option<Instant>,
}

/// A request on a worker.
pub struct Entry {
    id: RequestId,
    exchange: Arc<Exchange>,
    /// When the worker took it.
    since: Instant,
    /// Its answer has been seen.
    answered: bool,
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
    pub fn new(id: RequestId, exchange: Arc<Exchange>, since: Instant) -> Self {
        Self { id, exchange, since, answered: false, overdue: None }
    }
}

impl Ledger {
    pub fn new() -> Self {
        Self {
            entries: Vec::new(),
            answered: Vec::new(),
            polled: false,
            responsive: false,
            listed: false,
            failure: Failure::Guest(OWN_FAULT.into()),
            standing: Standing::Busy,
            since: Instant::now(),
            last_ended: None,
        }
    }

    /// Takes out the requests that are through. One that is overdue stays: its guest may still run.
    pub fn forget_ended(&mut self) {
        self.notice();
        let last_ended = &mut self.last_ended;
        self.entries.retain(|entry| match entry.exchange.ended() {
            Some(at) if entry.overdue.is_none() => {
                *last_ended = (*last_ended).max(Some(at));
                false
            }
            _ => true,
        });
    }

    /// A request timed out: the worker takes no more.
    pub fn overdue(&self) -> bool {
        self.entries.iter().any(|entry| entry.overdue.is_some())
    }

    /// A request's time is over, whether or not that was seen.
    pub fn is_late(&self, limits: &Limits) -> bool {
        !self.entries.is_empty() && {
            let now = Instant::now();
            self.entries.iter().any(|entry| entry.exchange.due(limits).at <= now)
        }
    }

    /// The request that the guest must be working on, if there is just one.
    pub fn only_request(&self) -> Option<RequestId> {
        match self.entries.as_slice() {
            [entry] => Some(entry.id),
            _ => None,
        }
    }

    /// The requests that are not through, and for how long they have been here.
    pub fn in_flight(&self, now: Instant) -> Vec<InFlight> {
        let are = |entry: &&Entry| entry.overdue.is_some() || entry.exchange.ended().is_none();
        let running = |since| now.saturating_duration_since(since);
        let entries = self.entries.iter().filter(are);
        entries.map(|entry| InFlight { id: entry.id, running: running(entry.since) }).collect()
    }

    /// What its worker does.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    pub fn stand(&mut self, standing: Standing) {
        if self.standing != standing {
            self.since = match standing {
                // A guest that computed kept us from looking, but the clock runs from the end.
                Standing::PostReturn => self.last_ended.unwrap_or_else(Instant::now),
                // Idle is who has nothing left to do after the last response either.
                Standing::Busy | Standing::Idle => Instant::now(),
            };
            self.standing = standing;
        }
    }

    /// Since when it has had nothing to do, if that is so.
    pub fn idle_since(&self) -> Option<Instant> {
        (self.standing == Standing::Idle).then_some(self.since)
    }

    /// Looks for new answers.
    fn notice(&mut self) {
        for entry in self.entries.iter_mut().filter(|entry| !entry.answered) {
            if entry.exchange.has_head() {
                entry.answered = true;
                self.answered.push(entry.exchange.clone());
            }
        }
    }

    /// Takes the first frames of new answers. True when another turn may bring more.
    pub fn prefetch(&mut self) -> bool {
        self.notice();
        let more = self.answered.iter().fold(false, |more, exchange| exchange.prefetch() | more);
        // A guest that was interrupted, in passing as a rule, goes on in the next turn.
        more || !self.polled && self.answered.iter().any(|exchange| exchange.ended().is_none())
    }

    /// Hands new answers to their clients.
    pub fn publish(&mut self) {
        for exchange in self.answered.drain(..) {
            exchange.publish();
        }
    }

    /// Settles every request in it: their store ends.
    pub fn settle(&mut self) {
        self.notice();
        for entry in self.entries.drain(..) {
            entry.exchange.settle(self.failure.clone());
        }
        self.publish();
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
                // Others may have just been taken: they have their time, also where its own is shorter.
                entry.overdue = Some(due.at + due.limit.max(limits.request_timeout));
            }
            kill_at = kill_at.min(entry.overdue).or(entry.overdue);
        }
        let Some(mut kill_at) = kill_at else {
            return Verdict::Until(next);
        };
        if in_time == 0 {
            // All that can still be worth waiting for is work after the
            // responses of others, and none of it goes on while the guest computes.
            kill_at = match self.last_ended {
                Some(at) if self.polled => kill_at.min(at + limits.post_return_timeout),
                _ => now,
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
        self.settle();
    }
}
