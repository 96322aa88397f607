//! When to try again, and when to renew: bounded, spread, and never before the authority wants.

use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;

use crate::spread::spread;

/// A host that failed is tried again after this, then after twice as long, and so on: five times in the
/// first hour, which is what Let's Encrypt allows.
pub const HOST: Backoff =
    Backoff { first: Duration::from_secs(150), most: Duration::from_secs(6 * 3600) };

/// The same of an authority that cannot be talked to, which costs nobody much.
pub const AUTHORITY: Backoff =
    Backoff { first: Duration::from_secs(5), most: Duration::from_secs(900) };

/// How waits grow.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
}

/// Failures since the last success, and what they mean for the next attempt.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    pub failures: u32,
    /// Not before then.
    until: Option<Instant>,
    /// The authority wants it so: no operator can be quicker.
    is_asked: bool,
}

impl Pace {
    /// Whether an attempt may be made.
    pub fn is_due(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Counts a failure, and tells how long to wait; at least for as long as was `asked` for.
    pub fn failed(&mut self, backoff: Backoff, asked: Option<Duration>, now: Instant) -> Duration {
        let doubled = backoff.first.saturating_mul(1 << self.failures.min(16));
        let own = spread(doubled.min(backoff.most));
        let wait = asked.map_or(own, |asked| asked.max(own));
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + wait);
        self.is_asked = asked.is_some();
        wait
    }

    pub fn succeeded(&mut self) {
        *self = Pace::default();
    }

    /// An operator says that things are different now.
    pub fn hurry(&mut self) {
        if !self.is_asked {
            self.until = None;
        }
    }
}

/// A time that the authority suggests for a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub start: OffsetDateTime,
    pub end: OffsetDateTime,
}

/// When to renew a certificate of these dates: within the window that the authority suggests, or after two
/// thirds of its life. `at` is between 0 and 1, so that certificates that came together do not go together.
pub fn renewal(
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    window: Option<Window>,
    at: f64,
) -> OffsetDateTime {
    let life = not_after - not_before;
    match window {
        // One that would be too late is of no use.
        Some(window) => {
            (window.start + (window.end - window.start) * at).min(not_after - life / 10)
        }
        None => not_before + life * 2 / 3 + life / 30 * at,
    }
}

/// How long a new certificate is left alone, whatever the authority suggests: it may be wrong for ever.
pub fn rest(not_before: OffsetDateTime, not_after: OffsetDateTime) -> Duration {
    const MOST: Duration = Duration::from_secs(6 * 3600);
    Duration::try_from((not_after - not_before) / 6).unwrap_or_default().min(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_grow_up_to_a_bound_and_begin_anew_after_a_success() {
        let mut pace = Pace::default();
        let mut waited = Duration::ZERO;
        let mut in_first_hour = 1;
        for _ in 0..40 {
            let wait = pace.failed(HOST, None, Instant::now());
            assert!(wait <= HOST.most.mul_f64(1.1), "{wait:?}");
            assert!(!pace.is_due(Instant::now()));
            waited += wait;
            in_first_hour += u32::from(waited < Duration::from_secs(3600));
        }
        assert!(in_first_hour <= 5, "{in_first_hour} attempts in the first hour");
        pace.succeeded();
        assert!(pace.is_due(Instant::now()));
        assert!(pace.failed(HOST, None, Instant::now()) <= HOST.first.mul_f64(1.1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_authority_asks_for_holds_even_where_an_operator_is_in_a_hurry() {
        let asked = Duration::from_secs(86_400);
        let mut pace = Pace::default();
        assert_eq!(pace.failed(HOST, Some(asked), Instant::now()), asked);
        pace.hurry();
        assert!(!pace.is_due(Instant::now()));
        tokio::time::advance(asked).await;
        assert!(pace.is_due(Instant::now()));

        pace.failed(HOST, None, Instant::now());
        pace.hurry();
        assert!(pace.is_due(Instant::now()));
    }

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_life_or_when_the_authority_suggests() {
        let start = OffsetDateTime::UNIX_EPOCH;
        let end = start + time::Duration::days(90);
        assert_eq!(renewal(start, end, None, 0.0), start + time::Duration::days(60));
        assert_eq!(renewal(start, end, None, 1.0), start + time::Duration::days(63));

        let window = |from, to| {
            let day = |day| start + time::Duration::days(day);
            Some(Window { start: day(from), end: day(to) })
        };
        assert_eq!(renewal(start, end, window(40, 42), 0.5), start + time::Duration::days(41));
        let late = renewal(start, end, window(100, 200), 0.5);
        assert_eq!(late, start + time::Duration::days(81), "before it expires");
    }
}
