//! Which worker takes which job. Knows nothing of what a job is.
//!
//! A worker lists itself when it can take one; the most recently listed is asked
//! first. A job is handed over under the same lock that lists, so no wake-up is
//! lost and none is given twice. What finds no worker starts one, or waits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

use super::sync::{Mutex, MutexGuard};

/// See the module.
pub struct Schedule<J> {
    state: Mutex<State<J>>,
    max_workers: usize,
    max_waiting: usize,
}

struct State<J> {
    /// Workers that can take a job, most recently listed last.
    listed: Vec<Arc<Seat<J>>>,
    workers: usize,
    /// By arrival. Who gives up is taken out at once.
    waiting: BTreeMap<u64, J>,
    arrivals: u64,
    /// Counts down: what comes back goes before all that wait.
    returns: u64,
    evicting: bool,
}

/// The place of the first who waits: half way, so that there is as much room before it as after.
const FIRST_PLACE: u64 = u64::MAX / 2;

/// Where a worker is reached.
pub struct Seat<J> {
    state: Mutex<Seated<J>>,
    /// Its worker shall leave when it has nothing to do.
    dismissed: AtomicBool,
    pub waker: AtomicWaker,
}

struct Seated<J> {
    inbox: Option<J>,
    /// Since when its worker has had nothing to do.
    idle: Option<Instant>,
}

/// What became of a job.
pub enum Placed<J> {
    /// A worker has it.
    Taken,
    /// A worker is to be started for it.
    Start(J),
    /// It waits, at this place in the queue.
    Waits(u64),
    /// Too many wait already.
    Full(J),
}

impl<J> Seat<J> {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(Seated { inbox: None, idle: None }),
            dismissed: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        })
    }

    /// The job that was handed over, if there is one.
    pub fn take(&self) -> Option<J> {
        self.lock().inbox.take()
    }

    /// Hands a job over.
    pub fn put(&self, job: J) {
        let mut state = self.lock();
        state.inbox = Some(job);
        state.idle = None;
        drop(state);
        self.waker.wake();
    }

    /// Its worker has nothing to do since then, unless a job is on its way to it.
    pub fn rest(&self, since: Instant) {
        let mut state = self.lock();
        if state.inbox.is_none() {
            state.idle = Some(since);
        }
    }

    pub fn is_dismissed(&self) -> bool {
        self.dismissed.load(Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, Seated<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J> Schedule<J> {
    pub fn new(max_workers: usize, max_waiting: usize) -> Self {
        let state = State {
            listed: Vec::new(),
            workers: 0,
            waiting: BTreeMap::new(),
            arrivals: FIRST_PLACE,
            returns: FIRST_PLACE,
            evicting: false,
        };
        Self { state: Mutex::new(state), max_workers, max_waiting }
    }

    /// Gives a job to the most recently listed worker, to a new one, or to the queue.
    pub fn dispatch(&self, job: J) -> Placed<J> {
        let mut state = self.lock();
        let job = match self.give(&mut state, job) {
            Placed::Full(job) if state.waiting.len() < self.max_waiting => job,
            placed => return placed,
        };
        state.arrivals += 1;
        let place = state.arrivals;
        state.waiting.insert(place, job);
        Placed::Waits(place)
    }

    /// The same for a job that was handed to a worker which did not take it. It is never
    /// refused, and goes before those that wait: at most one more for each worker.
    pub fn give_back(&self, job: J) -> Placed<J> {
        let mut state = self.lock();
        let job = match self.give(&mut state, job) {
            Placed::Full(job) => job,
            placed => return placed,
        };
        let place = state.returns;
        state.returns -= 1;
        state.waiting.insert(place, job);
        Placed::Waits(place)
    }

    fn give(&self, state: &mut State<J>, job: J) -> Placed<J> {
        if let Some(seat) = state.listed.pop() {
            seat.put(job);
            return Placed::Taken;
        }
        if state.workers < self.max_workers {
            state.workers += 1;
            return Placed::Start(job);
        }
        Placed::Full(job)
    }

    /// Takes a job out of the queue, if it is still there.
    pub fn withdraw(&self, place: u64) -> Option<J> {
        self.lock().waiting.remove(&place)
    }

    /// A worker can take a job: the one that waits longest, or a later one through its seat.
    pub fn list(&self, seat: &Arc<Seat<J>>) -> Option<J> {
        let mut state = self.lock();
        if let Some((_, job)) = state.waiting.pop_first() {
            seat.lock().idle = None;
            return Some(job);
        }
        state.listed.push(seat.clone());
        None
    }

    /// A worker can take none for now. A job that was handed to it just before comes back.
    pub fn unlist(&self, seat: &Arc<Seat<J>>) -> Option<J> {
        let mut state = self.lock();
        if let Some(at) = state.listed.iter().rposition(|s| Arc::ptr_eq(s, seat)) {
            state.listed.remove(at);
        }
        seat.take()
    }

    /// A worker is gone. With a job, another is to be started in its place; unless it is
    /// `hopeless`, and there are others left to serve those who wait.
    pub fn closed(&self, hopeless: bool) -> Option<J> {
        let mut state = self.lock();
        let next = match hopeless && state.workers > 1 {
            true => None,
            false => state.waiting.pop_first(),
        };
        if next.is_none() {
            state.workers -= 1;
        }
        next.map(|(_, job)| job)
    }

    /// How many wait for a worker.
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    pub fn workers(&self) -> usize {
        self.lock().workers
    }

    /// Since when the longest unused of the idle workers has been idle.
    pub fn longest_unused(&self) -> Option<Instant> {
        self.lock().listed.iter().filter_map(|seat| seat.lock().idle).min()
    }

    /// Tells that one to leave; no job is given to it any more. False when none is idle.
    pub fn dismiss_longest_unused(&self) -> bool {
        let mut state = self.lock();
        let idle = state.listed.iter().enumerate();
        let idle = idle.filter_map(|(at, seat)| Some((seat.lock().idle?, at)));
        let Some((_, at)) = idle.min() else { return false };
        let seat = state.listed.remove(at);
        drop(state);
        seat.dismissed.store(true, Ordering::SeqCst);
        seat.waker.wake();
        true
    }

    /// Idle workers shall leave: those listed learn of it.
    pub fn evict(&self, evicting: bool) {
        let mut state = self.lock();
        state.evicting = evicting;
        if evicting {
            state.listed.iter().for_each(|seat| seat.waker.wake());
        }
    }

    pub fn is_evicting(&self) -> bool {
        self.lock().evicting
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
