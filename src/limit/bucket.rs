//! A token bucket in one atomic: no lock, no timer, and what it holds does not depend on its settings.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

const SECOND: u64 = 1_000_000_000;

/// Full at first, and fuller with time. The settings come with each taking, so that
/// they may change with a reload.
#[derive(Debug)]
pub struct Bucket {
    made: Instant,
    /// Nanoseconds after `made` at which nothing is missing from it any more.
    full_at: AtomicU64,
}

impl Bucket {
    pub fn new() -> Bucket {
        Bucket { made: Instant::now(), full_at: AtomicU64::new(0) }
    }

    /// Takes one, if there is one. `rate` come in a second; it holds `burst`.
    pub fn take(&self, rate: NonZeroUsize, burst: NonZeroUsize) -> bool {
        let now = u64::try_from(self.made.elapsed().as_nanos()).unwrap_or(u64::MAX / 2);
        self.take_at(now, rate, burst)
    }

    /// Gives one back, to a bucket of that `rate`.
    pub fn give(&self, rate: NonZeroUsize) {
        let one = SECOND / rate.get() as u64;
        let give = |full_at: u64| Some(full_at.saturating_sub(one));
        let _ = self.full_at.fetch_update(Relaxed, Relaxed, give);
    }

    fn take_at(&self, now: u64, rate: NonZeroUsize, burst: NonZeroUsize) -> bool {
        let one = SECOND / rate.get() as u64;
        let all = one.saturating_mul(burst.get() as u64);
        let take = |full_at: u64| {
            let full_at = full_at.max(now).saturating_add(one);
            (full_at - now <= all).then_some(full_at)
        };
        self.full_at.fetch_update(Relaxed, Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(n: usize) -> NonZeroUsize {
        NonZeroUsize::new(n).unwrap()
    }

    fn taken(bucket: &Bucket, now: u64, rate: usize, burst: usize) -> usize {
        (0..10_000).take_while(|_| bucket.take_at(now, count(rate), count(burst))).count()
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let bucket = Bucket::new();
        assert_eq!(taken(&bucket, 0, 20, 200), 200);
        for _ in 0..50 {
            bucket.give(count(20));
        }
        assert_eq!(taken(&bucket, 0, 20, 200), 50);
    }

    #[test]
    fn it_gives_its_burst_and_then_its_rate() {
        let bucket = Bucket::new();
        assert_eq!(taken(&bucket, 0, 100, 1000), 1000);
        assert_eq!(taken(&bucket, SECOND / 100 - 1, 100, 1000), 0);
        assert_eq!(taken(&bucket, SECOND / 2, 100, 1000), 50);
        assert_eq!(taken(&bucket, SECOND * 3600, 100, 1000), 1000);
    }

    #[test]
    fn a_smaller_burst_holds_at_once() {
        let bucket = Bucket::new();
        assert_eq!(taken(&bucket, 0, 100, 1000), 1000);
        assert_eq!(taken(&bucket, SECOND * 9, 100, 100), 0);
        assert_eq!(taken(&bucket, SECOND * 10, 100, 100), 100);
    }

    #[test]
    fn those_who_take_at_the_same_time_get_no_more_together() {
        let bucket = Bucket::new();
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| taken(&bucket, 0, 1, 1000))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 1000);
    }
}
