//! One request and its response, between whoever drives the guest and whoever serves the client.
//!
//! The response body stays in here while it streams. That lets the driver, who
//! knows when a store ends early, tell a body that was finished from one that
//! was cut: in the body itself the two look the same.

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::unconstrained;
use tokio::time::Instant;
use wasmtime_wasi_http::WasiBody;

use super::Failure;
use super::gate::Pass;
use crate::config::Limits;
use crate::guest::profile::Ending;
use crate::traces::Trace;

/// A response head, its body left in the exchange.
pub type Head = http::Response<()>;

/// See the module.
pub struct Exchange {
    pub gather_max: usize,
    /// The part that the request has in a trace, which is told how far it is.
    trace: Option<Arc<Trace>>,
    inner: Mutex<Inner>,
    /// A chunk of the request came in since the clock was last read.
    ///
    /// Apart, because a p3 guest may answer with its request's body: then the
    /// chunk comes in while the response is polled, and the lock is taken.
    progressed: AtomicBool,
    /// It counts as under way until both sides have let go of it.
    _pass: Option<Pass>,
}

struct Inner {
    phase: Phase,
    head: Option<Result<Head, Failure>>,
    body: Option<WasiBody>,
    /// Frames taken out of `body` before its store went away.
    drained: VecDeque<Frame<Bytes>>,
    /// The body failed, or its guest did not finish it.
    cut: bool,
    /// There was no response.
    failed: bool,
    client_left: bool,
    /// Where it waits in a queue, while it does.
    place: Option<u64>,
    instance: u64,
    /// When a guest took it.
    taken_at: Option<Instant>,
    permit: Option<OwnedSemaphorePermit>,
    client: Option<Waker>,
    driver: Option<Waker>,
    /// Who wants to know how it ended.
    ending: Option<Arc<Ending>>,
}

/// How far it is, and since when: each phase has its own timeout.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Queued,
    /// A guest has it, and sent no head yet.
    Waiting(Instant),
    /// The head is out; the last chunk, either way, was then.
    Streaming(Instant),
    /// Nothing more goes to the client.
    Ended(Instant),
}

/// What remains of an exchange's time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Due {
    /// When its timeout ends.
    pub at: Instant,
    /// The timeout, for those who grant it a second time.
    pub limit: Duration,
}

impl Exchange {
    /// Of a request with the right to be under way, and with the `permit` that it came with,
    /// where these are limited: see [`super::Request`]. Up to `gather_max` bytes of its response,
    /// and a chunk, are taken before the head is sent.
    pub fn new(
        pass: Option<Pass>,
        permit: Option<OwnedSemaphorePermit>,
        gather_max: usize,
    ) -> Self {
        Self {
            _pass: pass,
            gather_max,
            trace: None,
            inner: Mutex::new(Inner {
                phase: Phase::Queued,
                head: None,
                body: None,
                drained: VecDeque::new(),
                cut: false,
                failed: false,
                client_left: false,
                place: None,
                instance: 0,
                taken_at: None,
                permit,
                client: None,
                driver: None,
                ending: None,
            }),
            progressed: AtomicBool::new(false),
        }
    }

    /// The same, of a request that has this part in a trace.
    pub fn traced(self, trace: Option<Arc<Trace>>) -> Self {
        Self { trace, ..self }
    }

    // For whoever drives the guest.

    /// Its request timeout starts: now, which is returned.
    pub fn start(&self) -> Instant {
        let (mut inner, now) = (self.lock(), Instant::now());
        inner.phase = Phase::Waiting(now);
        inner.taken_at.get_or_insert(now);
        self.trace.as_ref().inspect(|trace| trace.taken());
        now
    }

    /// An instance was made for it.
    pub fn made(&self) {
        self.trace.as_ref().inspect(|trace| trace.made());
    }

    /// Which instance serves it, for the log.
    pub fn taken_by(&self, instance: u64) {
        self.lock().instance = instance;
    }

    /// Tells `ending` how it ends.
    pub fn report_to(&self, ending: Option<Arc<Ending>>) {
        if ending.is_some() {
            self.lock().ending = ending;
        }
    }

    /// The guest's response, or why there is none. Only the first counts.
    ///
    /// Who waits for it is woken by [`Self::publish`], when a body's first
    /// frames have had their chance to come along.
    pub fn answer(&self, answer: Result<http::Response<WasiBody>, Failure>) {
        let mut inner = self.lock();
        if !matches!(inner.phase, Phase::Queued | Phase::Waiting(_)) || inner.head.is_some() {
            return;
        }
        let now = Instant::now();
        match answer {
            Ok(response) => {
                self.trace.as_ref().inspect(|trace| trace.answered());
                let (head, body) = response.into_parts();
                inner.head = Some(Ok(Head::from_parts(head, ())));
                inner.phase = Phase::Streaming(now);
                match inner.client_left {
                    true => inner.end(now),
                    false => inner.body = Some(body),
                }
            }
            Err(failure) => {
                inner.head = Some(Err(failure));
                inner.failed = true;
                inner.end(now);
            }
        }
    }

    /// Takes the frames that the guest has ready. True when it took some and more may follow at once.
    pub fn prefetch(&self) -> bool {
        let mut inner = self.lock();
        let Phase::Streaming(_) = inner.phase else {
            return false;
        };
        let before = inner.drained.len();
        let complete = inner.drain();
        if complete || inner.cut {
            // Who asks is the driver: it need not be woken.
            inner.driver = None;
            inner.end(Instant::now());
            return false;
        }
        let size: usize =
            inner.drained.iter().map(|frame| frame.data_ref().map_or(0, Bytes::len)).sum();
        inner.drained.len() > before && size < self.gather_max
    }

    /// Whether there is an answer that its client has not taken.
    pub fn has_head(&self) -> bool {
        self.lock().head.is_some()
    }

    /// Wakes who waits for the answer.
    pub fn publish(&self) {
        self.lock().wake();
    }

    /// Takes what the guest has produced so far; what is missing then will never come.
    ///
    /// Called before a store is dropped, and when a p2 guest returns. True when
    /// nothing was missing. A response without a head fails with `failure`.
    pub fn settle(&self, failure: Failure) -> bool {
        let mut inner = self.lock();
        // Who has no head yet is woken when it is published.
        let published = inner.head.is_none();
        let complete = match inner.phase {
            Phase::Queued | Phase::Waiting(_) => {
                inner.head = Some(Err(failure));
                inner.failed = true;
                false
            }
            Phase::Streaming(_) => inner.drain(),
            Phase::Ended(_) => return !inner.cut,
        };
        inner.cut = !complete;
        inner.end(Instant::now());
        if published {
            inner.wake();
        }
        complete
    }

    /// When its present phase times out.
    pub fn due(&self, limits: &Limits) -> Due {
        let mut inner = self.lock();
        if self.progressed.swap(false, Ordering::Relaxed)
            && let Phase::Streaming(since) = &mut inner.phase
        {
            *since = Instant::now();
        }
        let (since, limit) = match inner.phase {
            Phase::Queued => (Instant::now(), limits.request_timeout),
            Phase::Waiting(since) => (since, limits.request_timeout),
            Phase::Streaming(since) => (since, limits.stream_idle_timeout),
            Phase::Ended(since) => (since, limits.post_return_timeout),
        };
        Due { at: since + limit, limit }
    }

    /// Since when nothing more goes to the client.
    pub fn ended(&self) -> Option<Instant> {
        match self.lock().phase {
            Phase::Ended(at) => Some(at),
            _ => None,
        }
    }

    /// It waits at this place in the queue. False when nobody waits for its answer any more.
    pub fn waits_at(&self, place: u64) -> bool {
        let mut inner = self.lock();
        inner.place = Some(place);
        !inner.client_left
    }

    pub fn has_client(&self) -> bool {
        !self.lock().client_left
    }

    /// Wakes this task whenever the phase changes from the client's side.
    pub fn wake_driver(&self, waker: &Waker) {
        set_waker(&mut self.lock().driver, waker);
    }

    // For whoever serves the client.

    /// When the guest took it, unless it waits still.
    pub fn started(&self) -> Option<Instant> {
        match self.lock().phase {
            Phase::Queued => None,
            Phase::Waiting(at) | Phase::Streaming(at) | Phase::Ended(at) => Some(at),
        }
    }

    /// When a guest took it first, if any did.
    pub fn taken_at(&self) -> Option<Instant> {
        self.lock().taken_at
    }

    pub fn instance(&self) -> u64 {
        self.lock().instance
    }

    pub fn take_head(&self) -> Option<Result<Head, Failure>> {
        self.lock().head.take()
    }

    pub fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<Head, Failure>> {
        let mut inner = self.lock();
        match inner.head.take() {
            Some(head) => Poll::Ready(head),
            None => {
                set_waker(&mut inner.client, cx.waker());
                Poll::Pending
            }
        }
    }

    /// The next frame of the body. An `Err` means that the rest was lost.
    pub fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let mut inner = self.lock();
        if let Some(frame) = inner.drained.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let Some(body) = &mut inner.body else {
            return Poll::Ready(match inner.cut {
                true => Some(Err(Cut)),
                false => None,
            });
        };
        match Pin::new(body).poll_frame(cx) {
            Poll::Pending => {
                set_waker(&mut inner.client, cx.waker());
                Poll::Pending
            }
            Poll::Ready(Some(Ok(frame))) => {
                inner.phase = Phase::Streaming(Instant::now());
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(_))) => {
                inner.cut = true;
                inner.end(Instant::now());
                Poll::Ready(Some(Err(Cut)))
            }
            Poll::Ready(None) => {
                inner.end(Instant::now());
                Poll::Ready(None)
            }
        }
    }

    /// A chunk of the request came in.
    pub fn progress(&self) {
        self.progressed.store(true, Ordering::Relaxed);
    }

    /// The client wants nothing more. The guest sees its streams closed.
    ///
    /// Returns the place in the queue that it had last; it may have left it since.
    pub fn leave(&self) -> Option<u64> {
        let mut inner = self.lock();
        inner.client_left = true;
        inner.client = None;
        if let Phase::Streaming(_) = inner.phase {
            inner.end(Instant::now());
        }
        inner.place.take()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Moves the frames that are ready out of the body. True when its end was among them.
    fn drain(&mut self) -> bool {
        let Some(body) = &mut self.body else {
            return !self.cut;
        };
        // Bounded by what the guest could buffer: the store does not run here.
        loop {
            match look(|cx| Pin::new(&mut *body).poll_frame(cx)) {
                Poll::Ready(Some(Ok(frame))) => self.drained.push_back(frame),
                Poll::Ready(Some(Err(_))) => {
                    self.cut = true;
                    return false;
                }
                Poll::Pending => return false,
                Poll::Ready(None) => return true,
            }
        }
    }

    fn end(&mut self, now: Instant) {
        self.phase = Phase::Ended(now);
        self.body = None;
        if let Some(ending) = self.ending.take() {
            ending.set(now.into_std(), self.failed || self.cut);
        }
        if !self.client_left {
            self.permit = None;
        }
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    fn wake(&mut self) {
        if let Some(client) = self.client.take() {
            client.wake();
        }
    }
}

/// The rest of a body was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the guest did not finish the response")]
pub struct Cut;

/// Polls for what is there right now, so that `Pending` says that nothing is.
///
/// Under tokio's budget it could as well say that other tasks should have a
/// turn, and a body would be taken for cut that is whole.
pub fn look<T>(poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    let mut cx = Context::from_waker(Waker::noop());
    pin!(unconstrained(std::future::poll_fn(poll))).poll(&mut cx)
}

fn set_waker(slot: &mut Option<Waker>, waker: &Waker) {
    match slot {
        Some(old) if old.will_wake(waker) => {}
        _ => *slot = Some(waker.clone()),
    }
}
