//! When a responder is asked: halfway through a response's life, and ever less often while it fails.

use std::time::{Duration, SystemTime};

use super::response::Validity;
use crate::spread::spread;

/// A responder is asked again after this at the least, and at the most.
const LEAST: Duration = Duration::from_secs(30);
const MOST: Duration = Duration::from_secs(12 * 3600);

/// One that failed is asked again after this, then after twice as long, and so on up to the other.
const FAILED_FIRST: Duration = Duration::from_secs(60);
const FAILED_MOST: Duration = Duration::from_secs(3600);

/// How long after `now` to ask for the next response: in the middle of this one's life, or of what is left of it.
pub fn refresh(validity: Validity, now: SystemTime) -> Duration {
    let left = validity.until.duration_since(now).unwrap_or_default();
    let life = validity.until.duration_since(validity.from).unwrap_or_default();
    let to_middle = left.saturating_sub(life / 2);
    let wait = if to_middle.is_zero() { left / 2 } else { to_middle };
    spread(wait).clamp(LEAST, MOST)
}

/// How long to wait after this many failures in a row.
pub fn retry(failures: u32) -> Duration {
    let doubled = FAILED_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
    spread(doubled.min(FAILED_MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn wait(life: Duration, passed: Duration) -> f64 {
        let from = SystemTime::UNIX_EPOCH + HOUR * 1000;
        refresh(Validity { from, until: from + life }, from + passed).as_secs_f64() / 3600.0
    }

    #[test]
    fn a_response_is_renewed_in_the_middle_of_its_life() {
        assert!((3.6..=4.4).contains(&wait(8 * HOUR, Duration::ZERO)));
        assert!((0.9..=1.1).contains(&wait(8 * HOUR, 3 * HOUR)));
        // A responder gives out one that is past the middle: then of what is left.
        assert!((0.9..=1.1).contains(&wait(8 * HOUR, 6 * HOUR)));
        assert_eq!(wait(168 * HOUR, Duration::ZERO), 12.0, "half a day at the most");
        assert_eq!(wait(HOUR, HOUR * 2), LEAST.as_secs_f64() / 3600.0);
    }

    #[test]
    fn a_responder_that_fails_is_asked_ever_less_often_and_hourly_at_the_least() {
        let bound = |wait: Duration| wait.mul_f64(0.9)..=wait.mul_f64(1.1);
        assert!(bound(FAILED_FIRST).contains(&retry(1)));
        assert!(bound(FAILED_FIRST * 4).contains(&retry(3)));
        assert!(
            bound(FAILED_MOST).contains(&retry(7)) && bound(FAILED_MOST).contains(&retry(u32::MAX))
        );
    }
}
