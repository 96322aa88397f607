//! Who is in a pool: its instances as they are seen from outside, while they run.
//!
//! An instance says what it does by relaxed stores, or has it where a lock of its own is taken
//! anyway; who looks pays for the rest.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Context;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::ledger::{Ledger, Standing};
use crate::guest::memory::Gauge;
use crate::guest::pace::Pace;
use crate::request_id::RequestId;

/// No request.
const NONE: u64 = 0;

/// The instances of one pool, those that start included.
#[derive(Default)]
pub struct Roster {
    /// How many were made so far.
    made: AtomicU64,
    members: Mutex<BTreeMap<u64, Weak<Member>>>,
}

/// One instance, as far as it can be seen from outside. Dropping it strikes it off the roster.
pub struct Member {
    /// From 1, in the order they were made by their pool; 0 for one that is made as a proof.
    pub id: u64,
    born: Instant,
    served: AtomicU64,
    leaving: AtomicBool,
    /// It shall end at once, with its requests.
    killed: AtomicBool,
    /// Who drives it, to be told that.
    driver: AtomicWaker,
    /// Absent while it starts.
    made: OnceLock<Made>,
    one: One,
    /// Where it takes several requests at a time: which.
    several: OnceLock<Weak<Mutex<Ledger>>>,
    roster: Weak<Roster>,
}

/// What there is to see of an instance once it is made.
struct Made {
    memory: Gauge,
    pace: Arc<Pace>,
}

/// The request of an instance that takes one at a time.
struct One {
    request: AtomicU64,
    /// When it was taken, in nanoseconds since the instance was begun.
    since: AtomicU64,
    answered: AtomicBool,
}

/// What an instance does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is being made, or waits for room to be.
    Starting,
    Idle,
    Busy,
    /// Every response is out, the guest still works.
    PostReturn,
    /// It ends, and takes no more requests: those that it has are over their time, or it has none.
    Leaving,
}

impl State {
    pub const ALL: [State; 5] =
        [State::Starting, State::Idle, State::Busy, State::PostReturn, State::Leaving];

    /// As metrics call it; the same as in the admin interface.
    pub fn name(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Idle => "idle",
            State::Busy => "busy",
            State::PostReturn => "post_return",
            State::Leaving => "leaving",
        }
    }
}

/// An instance at one moment.
#[derive(Clone, Debug)]
pub struct Seen {
    pub id: u64,
    pub state: State,
    pub age: Duration,
    /// Requests it took.
    pub served: u64,
    /// Those in flight, oldest first.
    pub requests: Vec<InFlight>,
    /// Bytes of its memories and tables, and of what the host holds for its guest.
    pub memory: usize,
    /// CPU that its guest has used, as the ticks show it.
    pub cpu: Duration,
}

/// A request on an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlight {
    pub id: RequestId,
    /// For how long it has been there.
    pub running: Duration,
}

impl Roster {
    /// One more instance is begun.
    pub fn enter(self: &Arc<Self>) -> Arc<Member> {
        let id = self.made.fetch_add(1, Ordering::Relaxed) + 1;
        let member = Arc::new(Member::new(id, Arc::downgrade(self)));
        self.lock().insert(id, Arc::downgrade(&member));
        member
    }

    /// Its instances, in the order in which they were begun.
    pub fn look(&self) -> Vec<Seen> {
        // Not under the lock: one that goes meanwhile is struck off with our reference.
        let members: Vec<_> = self.lock().values().filter_map(Weak::upgrade).collect();
        let now = Instant::now();
        members.iter().map(|member| member.seen(now)).collect()
    }

    /// Has all of them end at once.
    pub fn kill(&self) {
        // Not under the lock, as above.
        let members: Vec<_> = self.lock().values().filter_map(Weak::upgrade).collect();
        for member in members {
            member.killed.store(true, Ordering::SeqCst);
            member.driver.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Weak<Member>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    fn new(id: u64, roster: Weak<Roster>) -> Self {
        Self {
            id,
            born: Instant::now(),
            served: AtomicU64::new(0),
            leaving: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            driver: AtomicWaker::new(),
            made: OnceLock::new(),
            one: One {
                request: AtomicU64::new(NONE),
                since: AtomicU64::new(0),
                answered: AtomicBool::new(false),
            },
            several: OnceLock::new(),
            roster,
        }
    }

    /// One that nobody sees.
    pub fn unseen() -> Arc<Self> {
        Arc::new(Self::new(0, Weak::new()))
    }

    /// It is made.
    pub fn made(&self, memory: Gauge, pace: Arc<Pace>) {
        // Only the first counts, and there is no other.
        let _ = self.made.set(Made { memory, pace });
    }

    /// It takes several requests at a time, which are in this ledger.
    pub fn keeps(&self, ledger: &Arc<Mutex<Ledger>>) {
        let _ = self.several.set(Arc::downgrade(ledger));
    }

    /// It takes one more request. Returns how many it has taken with that.
    pub fn serves_one_more(&self) -> u64 {
        // Nobody else counts.
        let served = self.served.load(Ordering::Relaxed) + 1;
        self.served.store(served, Ordering::Relaxed);
        served
    }

    /// Requests it took.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Since it was begun.
    pub fn age(&self) -> Duration {
        self.born.elapsed()
    }

    /// Its only request is this one, since then.
    pub fn begin(&self, request: RequestId, since: Instant) {
        let since = since.saturating_duration_since(self.born).as_nanos();
        self.one.since.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.one.answered.store(false, Ordering::Relaxed);
        // After its time: who sees the request does not see the time of the one before.
        self.one.request.store(request.as_u64(), Ordering::Release);
    }

    /// The response to its only request is out, and the guest still works.
    pub fn answered(&self) {
        self.one.answered.store(true, Ordering::Relaxed);
    }

    /// It has no request any more.
    pub fn end(&self) {
        self.one.request.store(NONE, Ordering::Relaxed);
    }

    /// It ends.
    pub fn leaves(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Whether it shall end at once; if not, the task is woken when it shall.
    pub fn poll_killed(&self, cx: &mut Context<'_>) -> bool {
        self.driver.register(cx.waker());
        self.is_killed()
    }

    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::SeqCst)
    }

    fn seen(&self, now: Instant) -> Seen {
        let age = now.saturating_duration_since(self.born);
        let (state, requests) = self.doing(now, age);
        let made = self.made.get();
        Seen {
            id: self.id,
            state,
            age,
            served: self.served(),
            requests,
            memory: made.map_or(0, |made| made.memory.used()),
            cpu: made.map_or(Duration::ZERO, |made| made.pace.used()),
        }
    }

    fn doing(&self, now: Instant, age: Duration) -> (State, Vec<InFlight>) {
        let (state, requests) = match self.several.get() {
            Some(ledger) => match ledger.upgrade() {
                Some(ledger) => {
                    let ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
                    let state = match ledger.standing() {
                        _ if ledger.overdue() => State::Leaving,
                        Standing::Busy => State::Busy,
                        Standing::PostReturn => State::PostReturn,
                        Standing::Idle => State::Idle,
                    };
                    (state, ledger.in_flight(now))
                }
                None => (State::Leaving, Vec::new()),
            },
            None => self.one.doing(age),
        };
        match state {
            _ if self.leaving.load(Ordering::Relaxed) => (State::Leaving, requests),
            _ if self.made.get().is_none() => (State::Starting, requests),
            state => (state, requests),
        }
    }
}

impl One {
    fn doing(&self, age: Duration) -> (State, Vec<InFlight>) {
        let Some(id) = RequestId::from_u64(self.request.load(Ordering::Acquire)) else {
            return (State::Idle, Vec::new());
        };
        let since = Duration::from_nanos(self.since.load(Ordering::Relaxed));
        let requests = vec![InFlight { id, running: age.saturating_sub(since) }];
        match self.answered.load(Ordering::Relaxed) {
            true => (State::PostReturn, requests),
            false => (State::Busy, requests),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(roster) = self.roster.upgrade() {
            roster.lock().remove(&self.id);
        }
    }
}
