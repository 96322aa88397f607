//! How often each client came: a token bucket for each network, in a table that does not grow for ever.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

// The tests stop its clock.
use tokio::time::Instant;

use super::Network;

/// Networks that are remembered at a time.
const NETWORKS_MAX: usize = 16_384;

/// When there are more, one in this many is forgotten at once, so that not each newcomer has to
/// look at all.
const FORGOTTEN_PART: usize = 4;

/// A bucket for each client, full at first. The rate comes with each taking, so that it may
/// change with a reload.
pub struct ClientBuckets {
    made: Instant,
    /// Nanoseconds after `made` at which nothing is missing from a network's bucket any more.
    /// A bucket that is full is as good as none.
    full_at: Mutex<HashMap<Network, u64>>,
}

/// How fast a bucket fills, and what it holds.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Nanoseconds until there is one more.
    one: u64,
    /// Nanoseconds in which an empty one fills.
    all: u64,
}

/// What came of taking one.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    /// Nothing was there to take before this is over.
    pub wait: Option<Duration>,
    /// Networks that were forgotten for this one, though they had not been away for long.
    pub forgotten: usize,
}

impl Rate {
    /// `count` in each time of `per`, and `burst` at once.
    pub const fn new(count: NonZeroUsize, per: Duration, burst: NonZeroUsize) -> Rate {
        let one = per.as_nanos() / count.get() as u128;
        // A nanosecond is no limit, and a bucket that takes centuries to fill is one by mistake.
        let one = if one == 0 {
            1
        } else if one > MAX_ONE as u128 {
            MAX_ONE
        } else {
            one as u64
        };
        Rate { one, all: one.saturating_mul(burst.get() as u64) }
    }

    /// When a bucket is full again that was to be so at `full_at`: under a rate that was slower
    /// before a reload, more may have been missing than there is now.
    fn bounded(self, full_at: u64, now: u64) -> u64 {
        full_at.clamp(now, now.saturating_add(self.all))
    }

    /// How long until there is one in a bucket that is full at `full_at`; none where there is.
    fn wait(self, full_at: u64, now: u64) -> Option<Duration> {
        let missing = full_at.saturating_add(self.one) - now;
        Some(missing.saturating_sub(self.all)).filter(|wait| *wait > 0).map(Duration::from_nanos)
    }
}

/// A year of nanoseconds.
const MAX_ONE: u64 = 365 * 86_400 * 1_000_000_000;

impl ClientBuckets {
    pub fn new() -> ClientBuckets {
        ClientBuckets { made: Instant::now(), full_at: Mutex::default() }
    }

    /// Takes one for the network of `client`, if there is one.
    pub fn take(&self, client: IpAddr, rate: Rate) -> Taken {
        let (now, network) = (self.now(), Network::of(client));
        let mut all = self.lock();
        let forgotten = match all.contains_key(&network) {
            true => 0,
            false => make_room(&mut all, now),
        };
        let full_at = all.entry(network).or_default();
        *full_at = rate.bounded(*full_at, now);
        let wait = rate.wait(*full_at, now);
        if wait.is_none() {
            *full_at = full_at.saturating_add(rate.one);
        }
        Taken { wait, forgotten }
    }

    /// Gives back one that was taken.
    pub fn give_back(&self, client: IpAddr, rate: Rate) {
        if let Some(full_at) = self.lock().get_mut(&Network::of(client)) {
            *full_at = full_at.saturating_sub(rate.one);
        }
    }

    /// For how long nothing is there for the network of `client`, if nothing is.
    pub fn wait(&self, client: IpAddr, rate: Rate) -> Option<Duration> {
        let now = self.now();
        let full_at = *self.lock().get(&Network::of(client))?;
        rate.wait(rate.bounded(full_at, now), now)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_nanos()).unwrap_or(u64::MAX / 2)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Network, u64>> {
        self.full_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for ClientBuckets {
    fn default() -> ClientBuckets {
        ClientBuckets::new()
    }
}

/// Makes room for one more; returns how many were forgotten whose buckets were not full.
///
/// Those go of which the least is known: whoever has taken the most stays, so that coming from
/// many addresses frees none of them.
fn make_room(all: &mut HashMap<Network, u64>, now: u64) -> usize {
    if all.len() < NETWORKS_MAX {
        return 0;
    }
    all.retain(|_, full_at| *full_at > now);
    let kept = NETWORKS_MAX - NETWORKS_MAX / FORGOTTEN_PART;
    let excess = all.len().saturating_sub(kept);
    if excess == 0 {
        return 0;
    }
    let mut known: Vec<_> = all.iter().map(|(network, full_at)| (*full_at, *network)).collect();
    known.select_nth_unstable_by_key(excess - 1, |(full_at, _)| *full_at);
    for (_, network) in &known[..excess] {
        all.remove(network);
    }
    excess
}

#[cfg(test)]
#[path = "clients_tests.rs"]
mod tests;
