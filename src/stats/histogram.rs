//! How long things took: counted by size, as Prometheus has histograms.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The upper bounds of the buckets; what took longer is in one more. A request that a guest answers
/// from memory takes tens of microseconds, one that waits for others up to its timeout.
pub const BOUNDS: [Duration; 14] = [
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(10),
    Duration::from_secs(60),
];

const BUCKETS: usize = BOUNDS.len() + 1;

/// Counts durations.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    /// Nanoseconds.
    sum: AtomicU64,
}

/// What a histogram has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    buckets: [u64; BUCKETS],
    nanoseconds: u64,
}

impl Histogram {
    pub fn observe(&self, took: Duration) {
        let bucket = BOUNDS.partition_point(|bound| *bound < took);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub fn durations(&self) -> Durations {
        let buckets = self.buckets.each_ref().map(|bucket| bucket.load(Relaxed));
        Durations { buckets, nanoseconds: self.sum.load(Relaxed) }
    }
}

impl Durations {
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Seconds of all of them together.
    pub fn seconds(&self) -> f64 {
        self.nanoseconds as f64 / 1e9
    }

    /// Each bucket's upper bound, in seconds, and how many are in it and not in one before.
    pub fn buckets(&self) -> [(f64, u64); BUCKETS] {
        std::array::from_fn(|at| {
            let bound = BOUNDS.get(at).map_or(f64::INFINITY, Duration::as_secs_f64);
            (bound, self.buckets[at])
        })
    }

    pub fn add(&mut self, other: &Durations) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(mine, its)| *mine += its);
        self.nanoseconds = self.nanoseconds.wrapping_add(other.nanoseconds);
    }

    /// Those that have come since `before` was counted.
    pub fn since(&self, before: &Durations) -> Durations {
        let buckets = |at: usize| self.buckets[at].saturating_sub(before.buckets[at]);
        Durations {
            buckets: std::array::from_fn(buckets),
            nanoseconds: self.nanoseconds.saturating_sub(before.nanoseconds),
        }
    }

    /// What that part of them did not take longer than, as if they were evenly spread within each
    /// bucket. None where there are none. Those above the last bound are taken for it.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = part.clamp(0.0, 1.0) * count as f64;
        let (mut below, mut lower) = (0, Duration::ZERO);
        for (in_bucket, upper) in self.buckets.iter().zip(BOUNDS) {
            if *in_bucket > 0 && (below + in_bucket) as f64 >= rank {
                let within = (rank - below as f64).max(0.0) / *in_bucket as f64;
                return Some(lower + (upper - lower).mul_f64(within));
            }
            below += in_bucket;
            lower = upper;
        }
        Some(lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(millis: &[u64]) -> Durations {
        let histogram = Histogram::default();
        millis.iter().for_each(|took| histogram.observe(Duration::from_millis(*took)));
        histogram.durations()
    }

    #[test]
    fn each_duration_is_in_the_first_bucket_that_holds_it() {
        let durations = histogram(&[0, 1, 2, 25, 26, 100_000]);
        let filled: Vec<_> = durations.buckets().into_iter().filter(|(_, n)| *n > 0).collect();
        let expected =
            [(0.0001, 1), (0.001, 1), (0.0025, 1), (0.025, 1), (0.1, 1), (f64::INFINITY, 1)];
        assert_eq!(filled, expected);
        assert_eq!(durations.count(), 6);
        assert!((durations.seconds() - 100.054).abs() < 1e-9);
    }

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let durations = histogram(&[4; 98].into_iter().chain([900; 2]).collect::<Vec<_>>());
        let at = |part| durations.quantile(part).unwrap();
        assert!(at(0.5) > Duration::from_micros(2500) && at(0.5) < Duration::from_millis(5));
        assert!(at(0.99) > Duration::from_millis(250) && at(0.99) < Duration::from_secs(1));
        assert_eq!(at(1.0), Duration::from_secs(1));
        assert_eq!(histogram(&[100_000]).quantile(0.5), Some(Duration::from_secs(60)));
        assert_eq!(histogram(&[]).quantile(0.5), None);
    }

    #[test]
    fn what_was_counted_before_is_left_out() {
        let (before, mut sum) = (histogram(&[1, 1, 5]), histogram(&[1, 1, 5]));
        sum.add(&histogram(&[5, 50]));
        assert_eq!(sum.since(&before), histogram(&[5, 50]));
    }
}
