//! Bounds on what passwords cost: few are computed at a time, and none twice that was right.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

use aws_lc_rs::{hmac, rand};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use super::Login;

/// Requests that wait for their password to be looked at.
pub(super) const WAITING_MAX: usize = 64;

/// Logins of one file that are remembered as right.
const PROVEN_MAX: usize = 1024;

/// A login as it is remembered: nobody can tell from it what it was.
pub(super) type Digest = [u8; 32];

/// What all files share.
pub(super) struct Checks {
    /// A permit for each that may be computed at a time: on half of the cores.
    turns: Arc<Semaphore>,
    waiting: Semaphore,
    /// Made at the start, and known to nobody.
    key: hmac::Key,
    tasks: TaskTracker,
}

/// Too many passwords wait to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowded;

/// Leave to compute one.
pub(super) struct Turn {
    permit: OwnedSemaphorePermit,
    tasks: TaskTracker,
}

/// Logins that were found right.
#[derive(Default)]
pub(super) struct Proven(Mutex<HashSet<Digest>>);

impl Checks {
    pub(super) fn new(tasks: TaskTracker) -> Checks {
        let cores = available_parallelism().map_or(1, NonZeroUsize::get);
        let mut key = [0; 32];
        // Without random numbers nothing could be served over TLS either. What is known of the
        // key then is of use only to whoever reads this process's memory.
        let _ = rand::fill(&mut key);
        Checks {
            turns: Arc::new(Semaphore::new((cores / 2).max(1))),
            waiting: Semaphore::new(WAITING_MAX),
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            tasks,
        }
    }

    pub(super) async fn turn(&self) -> Result<Turn, Crowded> {
        let _waits = self.waiting.try_acquire().map_err(|_| Crowded)?;
        let permit = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| Crowded)?;
        Ok(Turn { permit, tasks: self.tasks.clone() })
    }

    pub(super) fn digest(&self, login: &Login) -> Digest {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&(login.name.len() as u64).to_be_bytes());
        context.update(login.name.as_bytes());
        context.update(&login.password);
        let tag = context.sign();
        std::array::from_fn(|i| tag.as_ref()[i])
    }
}

impl Turn {
    /// The turn ends with the computation, also when nobody waits for it any more.
    pub(super) async fn compute(self, work: impl FnOnce() -> bool + Send + 'static) -> bool {
        let Turn { permit, tasks } = self;
        let computed = tasks.spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        });
        computed.await.unwrap_or(false)
    }
}

impl Proven {
    pub(super) fn contains(&self, digest: &Digest) -> bool {
        self.lock().contains(digest)
    }

    pub(super) fn add(&self, digest: Digest) {
        let mut all = self.lock();
        if all.len() >= PROVEN_MAX {
            // Each is computed once more then.
            all.clear();
        }
        all.insert(digest);
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
