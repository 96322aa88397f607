//! One store's samples, and which of its requests they are kept for.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use wasmtime::WasmBacktrace;

use super::firefox::{Span, Track};
use super::samples::{Full, Samples, StoreId};
use super::{Clock, Profiler};
use crate::config::When;
use crate::request_id::RequestId;

/// Samples that one store holds: ten seconds of computing, at one a millisecond.
const MAX_SAMPLES: usize = 10_000;

/// Where its pool says when and how a request ended.
#[derive(Debug, Default)]
pub struct Ending(OnceLock<End>);

#[derive(Clone, Copy, Debug)]
struct End {
    at: Instant,
    failed: bool,
}

impl Ending {
    /// Nothing more goes to the client after `at`. It `failed`, if there was no answer, or not all
    /// of it. Only the first time counts.
    pub fn set(&self, at: Instant, failed: bool) {
        // What is there already stays.
        let _ = self.0.set(End { at, failed });
    }
}

/// A store's profile while it is made.
pub struct Recording {
    profiler: Arc<Profiler>,
    store: StoreId,
    began: Instant,
    clock: Clock,
    samples: Samples,
    /// Where requests are what is kept: those that were not judged yet.
    requests: Vec<Open>,
    /// It has had a request.
    used: bool,
}

struct Open {
    request: RequestId,
    since: Instant,
    ending: Arc<Ending>,
}

/// A request whose samples are kept.
pub struct Kept {
    pub request: RequestId,
    pub why: Why,
    since: Instant,
    until: Instant,
}

#[derive(Clone, Copy)]
pub enum Why {
    Slow,
    Failed,
}

impl Recording {
    pub(super) fn new(profiler: Arc<Profiler>, instance: u64) -> Self {
        // A whole life is seen evenly. Of requests one may be a stream that lasts for hours,
        // beside others that are to be seen well.
        let when_full = match profiler.when() {
            When::Always => Full::Thin,
            When::Requests { .. } => Full::ForgetOldest,
        };
        Self {
            store: StoreId { generation: profiler.generation, instance },
            began: Instant::now(),
            clock: Clock::new(profiler.settings.interval),
            samples: Samples::new(MAX_SAMPLES, when_full),
            requests: Vec::new(),
            used: false,
            profiler,
        }
    }

    /// A request begins. The one that the store was made for began with it.
    ///
    /// Returns where to say that it has ended, if that matters.
    pub fn begin(&mut self, request: RequestId) -> Option<Arc<Ending>> {
        if self.profiler.when() == When::Always {
            return None;
        }
        let since = match std::mem::replace(&mut self.used, true) {
            false => self.began,
            true => Instant::now(),
        };
        let ending = Arc::new(Ending::default());
        self.requests.push(Open { request, since, ending: ending.clone() });
        self.review();
        Some(ending)
    }

    /// Whether a sample is due, one tick after the last.
    pub fn tick(&mut self, period: Duration) -> bool {
        self.clock.tick(period)
    }

    pub fn offer(&mut self, request: Option<RequestId>, backtrace: &WasmBacktrace) {
        self.samples.offer(self.store, request, backtrace);
    }

    pub fn add(&mut self, request: Option<RequestId>, backtrace: &WasmBacktrace) {
        self.samples.add(self.store, request, backtrace);
    }

    /// Keeps those of the requests that have ended which are to be kept, and forgets the samples
    /// that no other can be interested in.
    pub fn review(&mut self) {
        let When::Requests { slow, failed } = self.profiler.when() else { return };
        let mut kept = Vec::new();
        self.requests.retain(|&Open { request, since, ref ending }| {
            let Some(end) = ending.0.get() else { return true };
            let took = end.at.saturating_duration_since(since);
            let why = match failed && end.failed {
                true => Some(Why::Failed),
                false => slow.filter(|over| took > *over).map(|_| Why::Slow),
            };
            kept.extend(why.map(|why| Kept { request, why, since, until: end.at }));
            false
        });
        if !kept.is_empty() {
            self.keep(kept);
        }
        self.samples.forget_before(self.requests.iter().map(|open| open.since).min());
    }

    fn keep(&self, kept: Vec<Kept>) {
        let from = kept.iter().map(|kept| kept.since).min().unwrap_or(self.began);
        let until = kept.iter().map(|kept| kept.until).max().unwrap_or(from);
        let samples = self.samples.between(from, until);
        // Who only waited has nothing to show.
        if !samples.is_empty() && self.profiler.may_keep(kept[0].request) {
            self.profiler.write_requests(self.store, from, samples, kept);
        }
    }

    /// The store has ended, and its requests have.
    pub fn finish(mut self) {
        match self.profiler.when() {
            When::Always => self.profiler.write_all(self.store, self.began, self.samples),
            When::Requests { .. } => self.review(),
        }
    }
}

impl Kept {
    pub fn took(&self) -> Duration {
        self.until.saturating_duration_since(self.since)
    }

    pub fn track<'a>(&self, samples: &'a Samples) -> Track<'a> {
        let Self { request, why, since, until } = self;
        let why = why.name();
        Track {
            name: format!("request {request}, {why}, {} ms", self.took().as_millis()),
            samples: samples.iter().filter(|sample| sample.request == Some(*request)).collect(),
            request: Some(Span { name: request.to_string(), from: *since, to: *until }),
        }
    }
}

impl Why {
    pub fn name(self) -> &'static str {
        match self {
            Why::Slow => "slow",
            Why::Failed => "failed",
        }
    }
}
