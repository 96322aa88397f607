//! Requests of one app at one host: how many, how they were answered, how long it took.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::StatusCode;

use super::histogram::{Durations, Histogram};
use super::shards::Shards;

/// See the module.
#[derive(Debug, Default)]
pub struct Requests(Shards<Counters>);

/// What kind of status an answer had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Informational,
    Success,
    Redirection,
    ClientError,
    ServerError,
}

/// A request that is being served. Dropping it counts it as through, without an answer.
#[derive(Debug)]
pub struct InFlight {
    counters: Arc<Counters>,
    is_answered: bool,
}

/// An answer that is over.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    pub class: Class,
    /// From the request's head to the last byte that was handed on.
    pub took: Duration,
    /// Bytes of its body that were handed on.
    pub bytes: u64,
    /// It broke off, and not because its client left.
    pub is_cut: bool,
}

/// All that was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Requests that are through, by class.
    pub classes: [u64; Class::ALL.len()],
    /// Those of them whose client left before there was an answer.
    pub left: u64,
    /// Those whose answer broke off.
    pub cut: u64,
    pub in_flight: u64,
    /// Bytes of request bodies that were read.
    pub received: u64,
    /// Bytes of answers' bodies that were handed on.
    pub sent: u64,
    pub to_head: Durations,
    pub total: Durations,
}

/// Its alignment keeps what others count off its lines of the cache.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Counters {
    /// Of all shards together: a request may end on another thread than it began on, but not
    /// in another shard.
    begun: AtomicU64,
    classes: [AtomicU64; Class::ALL.len()],
    left: AtomicU64,
    cut: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    to_head: Histogram,
    total: Histogram,
}

impl Class {
    /// In the order of their first digits.
    pub const ALL: [Class; 5] = [
        Class::Informational,
        Class::Success,
        Class::Redirection,
        Class::ClientError,
        Class::ServerError,
    ];

    pub fn of(status: StatusCode) -> Class {
        match status.as_u16() {
            ..200 => Class::Informational,
            200..300 => Class::Success,
            300..400 => Class::Redirection,
            400..500 => Class::ClientError,
            500.. => Class::ServerError,
        }
    }

    /// Such as `2xx`.
    pub fn name(self) -> &'static str {
        ["1xx", "2xx", "3xx", "4xx", "5xx"][self as usize]
    }
}

impl Requests {
    /// One more, until what is returned says that it is through.
    pub fn begin(&self) -> InFlight {
        let counters = Arc::clone(self.0.mine());
        counters.begun.fetch_add(1, Relaxed);
        InFlight { counters, is_answered: false }
    }

    pub fn sum(&self) -> Sum {
        let mut sum = Sum::default();
        let mut begun = 0;
        for counters in self.0.all() {
            // What is through first: it had begun before.
            let classes = counters.classes.each_ref().map(|class| class.load(Relaxed));
            sum.classes.iter_mut().zip(classes).for_each(|(sum, class)| *sum += class);
            begun += counters.begun.load(Relaxed);
            sum.left += counters.left.load(Relaxed);
            sum.cut += counters.cut.load(Relaxed);
            sum.received += counters.received.load(Relaxed);
            sum.sent += counters.sent.load(Relaxed);
            sum.to_head.add(&counters.to_head.durations());
            sum.total.add(&counters.total.durations());
        }
        sum.in_flight = begun.saturating_sub(sum.requests());
        sum
    }
}

impl Sum {
    /// Requests that are through.
    pub fn requests(&self) -> u64 {
        self.classes.iter().sum()
    }

    /// Those of them that failed on our side.
    pub fn errors(&self) -> u64 {
        self.classes[Class::ServerError as usize]
    }

    pub fn add(&mut self, other: &Sum) {
        self.classes.iter_mut().zip(other.classes).for_each(|(mine, its)| *mine += its);
        self.left += other.left;
        self.cut += other.cut;
        self.in_flight += other.in_flight;
        self.received += other.received;
        self.sent += other.sent;
        self.to_head.add(&other.to_head);
        self.total.add(&other.total);
    }
}

impl InFlight {
    /// The answer's head is there, so long after the request's.
    pub fn head_took(&self, took: Duration) {
        self.counters.to_head.observe(took);
    }

    /// What counts the bytes of the request's body, apart from the request: it may outlast it.
    pub fn received(&self) -> Received {
        Received(Arc::clone(&self.counters))
    }

    /// It is through.
    pub fn answered(mut self, answer: Answered) {
        self.is_answered = true;
        let counters = &*self.counters;
        counters.classes[answer.class as usize].fetch_add(1, Relaxed);
        counters.total.observe(answer.took);
        if answer.bytes > 0 {
            counters.sent.fetch_add(answer.bytes, Relaxed);
        }
        if answer.is_cut {
            counters.cut.fetch_add(1, Relaxed);
        }
    }

    /// Its client left before there was an answer.
    pub fn left(self, took: Duration) {
        self.counters.left.fetch_add(1, Relaxed);
        let class = Class::ClientError;
        self.answered(Answered { class, took, bytes: 0, is_cut: false });
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.is_answered {
            // Only a panic of ours ends one so.
            self.counters.classes[Class::ServerError as usize].fetch_add(1, Relaxed);
        }
    }
}

/// Counts bytes of a request's body.
#[derive(Debug)]
pub struct Received(Arc<Counters>);

impl Received {
    pub fn add(&self, bytes: usize) {
        self.0.received.fetch_add(bytes as u64, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16) -> Answered {
        let class = Class::of(StatusCode::from_u16(status).unwrap());
        Answered { class, took: Duration::from_millis(3), bytes: 10, is_cut: false }
    }

    #[test]
    fn each_request_is_counted_once_from_every_thread() {
        let requests = Requests::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let request = requests.begin();
                        request.received().add(5);
                        request.head_took(Duration::from_millis(1));
                        request.answered(answered(200));
                    }
                    requests.begin().left(Duration::from_millis(1));
                    drop(requests.begin());
                });
            }
        });
        let one = requests.begin();
        let sum = requests.sum();
        assert_eq!(sum.classes, [0, 4000, 0, 4, 4]);
        assert_eq!((sum.requests(), sum.left, sum.in_flight), (4008, 4, 1));
        assert_eq!((sum.received, sum.sent), (20_000, 40_000));
        assert_eq!((sum.to_head.count(), sum.total.count()), (4000, 4004));
        one.answered(answered(302));
        assert_eq!(requests.sum().in_flight, 0);
    }

    #[test]
    fn a_class_is_the_first_digit() {
        for (status, name) in [(103, "1xx"), (204, "2xx"), (304, "3xx"), (499, "4xx"), (599, "5xx")]
        {
            assert_eq!(answered(status).class.name(), name);
        }
    }
}
