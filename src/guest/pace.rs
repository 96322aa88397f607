//! How a store's guest computes: in slices of a tick, after the first two each with a ticket.
//!
//! A guest that never computes through a tick, as nearly all do, pays for none
//! of this but two loads of a flag.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use super::share::{Account, Share, Ticket, Waiting};
use super::ticker;

/// One store's pace. Its guest, and who drives that, share it.
pub struct Pace {
    share: Arc<Share>,
    pub account: Arc<Account>,
    slice: Mutex<Option<Slice>>,
    /// There is a slice.
    sliced: AtomicBool,
    /// The guest stands in a tick and waits for its ticket.
    waits: AtomicBool,
    /// It is not the first tick that it stands in without having rested.
    computes: AtomicBool,
    /// It waits at the door, with nothing of its guest's under way.
    at_door: AtomicBool,
    /// Ticks that there had been when the guest began to run, or to go on.
    ticks: AtomicU64,
    /// Nanoseconds of CPU.
    used: AtomicU64,
}

/// A time of computing whose beginning is known.
struct Slice {
    /// `None` where the guest was let in without.
    ticket: Option<Ticket>,
    /// It goes on with what a tick had interrupted.
    continued: bool,
    /// What the thread had used when it began.
    since: Duration,
}

/// What a tick found.
pub struct Tick {
    ticket: Option<Ticket>,
    /// CPU since the slice began.
    used: Duration,
    /// The same as a request is charged for it: of what began unseen, a tick for each that
    /// finds it, which is right on average.
    pub sampled: Duration,
    /// The tick before found the same computation.
    continued: bool,
}

impl Pace {
    pub fn new(share: &Arc<Share>, account: &Arc<Account>) -> Arc<Self> {
        Arc::new(Self {
            share: share.clone(),
            account: account.clone(),
            slice: Mutex::new(None),
            sliced: AtomicBool::new(false),
            waits: AtomicBool::new(false),
            computes: AtomicBool::new(false),
            at_door: AtomicBool::new(false),
            ticks: AtomicU64::new(0),
            used: AtomicU64::new(0),
        })
    }

    /// Drives what runs the store's guest, when it is its turn.
    pub async fn drive<T>(&self, guest: impl Future<Output = T>) -> T {
        let mut guest = pin!(guest);
        let mut entry = None;
        poll_fn(|cx| {
            if self.may_enter(&mut entry, cx).is_pending() {
                return Poll::Pending;
            }
            let _rest = Rest(self);
            self.ticks.store(self.share.ticks(), Relaxed);
            guest.as_mut().poll(cx)
        })
        .await
    }

    /// Whether the guest stands in a tick and waits for its turn to go on.
    pub fn waits(&self) -> bool {
        self.waits.load(Relaxed)
    }

    /// Whether the guest computes for long, and stands in a tick. One that a tick has found in
    /// passing, as it finds each that is busy with short requests, does not.
    pub fn computes(&self) -> bool {
        self.computes.load(Relaxed)
    }

    /// Whether it waits for its turn to begin, so that its guest can answer nobody for now.
    pub fn is_at_door(&self) -> bool {
        self.at_door.load(Relaxed)
    }

    /// Whether a tick came while its guest ran. None did where a guest that has waited finds its
    /// deadline past: the epoch went on meanwhile.
    pub fn was_ticked(&self) -> bool {
        self.ticks.load(Relaxed) != self.share.ticks()
    }

    /// CPU that its guest has used, as the ticks show it.
    pub fn used(&self) -> Duration {
        Duration::from_nanos(self.used.load(Relaxed))
    }

    /// The time from one tick to the next, as things are.
    pub fn period(&self) -> Duration {
        ticker::period(&self.share)
    }

    /// Where guests compute on all cores, an app that has had more than its share waits even
    /// to begin: short requests, of which no tick would take notice, shall have no more.
    fn may_enter(&self, entry: &mut Option<Waiting>, cx: &mut Context<'_>) -> Poll<()> {
        if entry.is_none() {
            if !self.share.is_saturated() || self.waits() {
                return Poll::Ready(());
            }
            if self.share.admits(&self.account) {
                self.begin(None, false);
                return Poll::Ready(());
            }
            *entry = Some(self.share.wait(&self.account, None, Duration::ZERO));
            self.at_door.store(true, Relaxed);
        }
        match entry.as_mut().map(|waiting| Pin::new(waiting).poll(cx)) {
            Some(Poll::Pending) => Poll::Pending,
            Some(Poll::Ready(ticket)) => {
                *entry = None;
                self.at_door.store(false, Relaxed);
                self.begin(Some(ticket), false);
                Poll::Ready(())
            }
            None => Poll::Ready(()),
        }
    }

    /// A tick finds the guest computing. It has to [`Self::pass`] then.
    pub fn tick(&self) -> Tick {
        let period = self.period();
        let tick = match self.slice().take() {
            Some(Slice { ticket, continued, since }) => {
                let used = thread_time().saturating_sub(since);
                Tick { ticket, used, sampled: if continued { used } else { period }, continued }
            }
            None => Tick { ticket: None, used: period, sampled: period, continued: false },
        };
        self.sliced.store(false, Relaxed);
        self.account.count(tick.sampled);
        let used = u64::try_from(tick.sampled.as_nanos()).unwrap_or(u64::MAX);
        self.used.fetch_add(used, Relaxed);
        tick
    }

    /// Waits until it is the guest's turn to go on.
    pub async fn pass(self: Arc<Self>, tick: Tick) {
        self.waits.store(true, Relaxed);
        self.computes.store(tick.continued, Relaxed);
        let ticket = match tick {
            Tick { ticket: None, used, continued: false, .. } if self.goes_on_without(used) => None,
            Tick { ticket, used, .. } => Some(self.share.wait(&self.account, ticket, used).await),
        };
        // Who is found in passing goes on sooner: while it stands, it takes no other request.
        if tick.continued {
            tokio::task::yield_now().await;
        }
        stand_back().await;
        self.waits.store(false, Relaxed);
        self.computes.store(false, Relaxed);
        self.begin(ticket, true);
    }

    /// Whether a guest that was found in passing may compute on without a ticket. Most have just
    /// begun a short request; if all of these took tickets, every other would have to.
    fn goes_on_without(&self, used: Duration) -> bool {
        let may = !self.share.is_saturated() || self.share.admits(&self.account);
        if may {
            self.share.charge(&self.account, used);
        }
        may
    }

    fn begin(&self, ticket: Option<Ticket>, continued: bool) {
        *self.slice() = Some(Slice { ticket, continued, since: thread_time() });
        self.sliced.store(true, Relaxed);
    }

    fn slice(&self) -> MutexGuard<'_, Option<Slice>> {
        self.slice.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The guest does not compute any more: it waits for something, or has ended.
struct Rest<'a>(&'a Pace);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        if !self.0.sliced.load(Relaxed) {
            return;
        }
        self.0.sliced.store(false, Relaxed);
        let slice = self.0.slice().take();
        let Some(Slice { ticket, since, .. }) = slice else { return };
        let used = thread_time().saturating_sub(since);
        match ticket {
            Some(ticket) => ticket.end(used),
            None => self.0.share.charge(&self.0.account, used),
        }
    }
}

/// Lets those go first who were woken by now.
///
/// After tokio's own yield it lets the thread look for what has come in, and serve that: tokio
/// looks at its sockets and timers when nothing else is to be done on the thread, and wakes
/// those who yielded. They are woken last and polled first.
///
/// Polled again in one go, it is over sooner: a small answer that was interrupted in passing
/// is gathered whole all the same.
async fn stand_back() {
    let mut behind = false;
    poll_fn(|cx| match std::mem::replace(&mut behind, true) {
        true => Poll::Ready(()),
        false => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

/// CPU that this thread has used.
fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to what it is given and keeps no pointer to it.
    let code = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    debug_assert_eq!(code, 0, "a thread has a clock");
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanoseconds.unwrap_or(0))
}
