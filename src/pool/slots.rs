//! A bounded stack of idle instances and the queue for those who find none.
//!
//! Last in, first out: the warmest instance serves, and the coldest are the
//! ones that reach their idle timeout. Knows nothing of what an instance is.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::sync::{Mutex, MutexGuard};

/// See the module. `I` is an instance.
pub struct Slots<I: Send + 'static> {
    state: Mutex<State<I>>,
    bounds: Bounds,
    tasks: TaskTracker,
    /// Told when idle instances shall leave now, and when the last slot is free.
    changed: Notify,
}

/// What a pool may hold.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub instances: usize,
    pub waiting: usize,
    pub idle_timeout: Duration,
}

struct State<I: Send + 'static> {
    /// Oldest first: pushed and popped at the back, so sorted by time.
    idle: VecDeque<(Instant, I)>,
    /// Slots in use, idle ones included.
    live: usize,
    /// By arrival. Who gives up is taken out at once.
    waiting: BTreeMap<u64, oneshot::Sender<Lease<I>>>,
    arrivals: u64,
    /// A task watches over the idle timeouts.
    reaping: bool,
    /// Idle instances leave at once.
    evicting: bool,
}

/// The right to one instance; with `Some`, the instance to use. Dropping it gives the right back.
pub struct Lease<I: Send + 'static> {
    slots: Arc<Slots<I>>,
    pub instance: Option<I>,
    closing: bool,
}

/// What asking for an instance leads to.
pub enum Taken<I: Send + 'static> {
    Now(Lease<I>),
    Later(Waiting<I>),
    /// Too many wait already.
    Full,
}

/// A place in the queue. Dropping it leaves the queue.
pub struct Waiting<I: Send + 'static> {
    slots: Arc<Slots<I>>,
    arrival: u64,
    lease: oneshot::Receiver<Lease<I>>,
}

impl<I: Send + 'static> Slots<I> {
    pub fn new(bounds: Bounds, tasks: TaskTracker) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                idle: VecDeque::new(),
                live: 0,
                waiting: BTreeMap::new(),
                arrivals: 0,
                reaping: false,
                evicting: false,
            }),
            bounds,
            tasks,
            changed: Notify::new(),
        })
    }

    /// The most recently used instance, or the right to make one, or a place in the queue.
    pub fn take(self: &Arc<Self>) -> Taken<I> {
        let mut state = self.lock();
        if let Some((_, instance)) = state.idle.pop_back() {
            return Taken::Now(self.lease(Some(instance)));
        }
        if state.live < self.bounds.instances {
            state.live += 1;
            return Taken::Now(self.lease(None));
        }
        if state.waiting.len() >= self.bounds.waiting {
            return Taken::Full;
        }
        let (sender, lease) = oneshot::channel();
        let arrival = state.arrivals;
        state.arrivals += 1;
        state.waiting.insert(arrival, sender);
        Taken::Later(Waiting { slots: self.clone(), arrival, lease })
    }

    /// How many wait for an instance.
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Slots in use, idle ones included.
    pub fn live(&self) -> usize {
        self.lock().live
    }

    /// Idle instances leave: those there are at once, those to come as soon as they are idle.
    /// `false` takes that back.
    pub fn evict(self: &Arc<Self>, evicting: bool) {
        self.lock().evicting = evicting;
        if evicting {
            self.drop_idle();
        }
    }

    /// The instances that are idle now leave.
    pub fn drop_idle(&self) {
        let idle = {
            let mut state = self.lock();
            let idle = mem::take(&mut state.idle);
            state.live -= idle.len();
            idle
        };
        drop(idle);
        self.changed.notify_waiters();
    }

    pub fn is_evicting(&self) -> bool {
        self.lock().evicting
    }

    /// Since when the longest unused of the idle instances has been idle.
    pub fn longest_unused(&self) -> Option<Instant> {
        self.lock().idle.front().map(|(since, _)| *since)
    }

    /// Takes that one out, to be dropped. None when none is idle.
    pub fn take_longest_unused(&self) -> Option<I> {
        let mut state = self.lock();
        let (_, taken) = state.idle.pop_front()?;
        state.live -= 1;
        drop(state);
        self.changed.notify_waiters();
        Some(taken)
    }

    /// Resolves when no instance is left.
    pub async fn emptied(&self) {
        loop {
            let changed = self.changed.notified();
            if self.live() == 0 {
                return;
            }
            changed.await;
        }
    }

    fn lease(self: &Arc<Self>, instance: Option<I>) -> Lease<I> {
        Lease { slots: self.clone(), instance, closing: false }
    }

    /// Closes a slot, if there are others left to serve those who wait.
    fn close(&self) -> bool {
        let mut state = self.lock();
        let spare = state.live > 1;
        state.live -= usize::from(spare);
        spare
    }

    /// Passes a slot on to who waits longest, or keeps it, or closes it.
    fn give(self: &Arc<Self>, instance: Option<I>) {
        let mut state = self.lock();
        if let Some((_, waiting)) = state.waiting.pop_first() {
            let refused = waiting.send(self.lease(instance));
            drop(state);
            // Nobody refuses: who gives up leaves the queue first. It would go to the next, and
            // not under the lock, which it takes.
            return drop(refused);
        }
        match instance {
            Some(instance) if !state.evicting => {
                state.idle.push_back((Instant::now(), instance));
                if !mem::replace(&mut state.reaping, true) {
                    self.tasks.spawn(self.clone().reap());
                }
            }
            instance => {
                state.live -= 1;
                let emptied = state.live == 0;
                drop(state);
                if emptied {
                    self.changed.notify_waiters();
                }
                // Costs microseconds: not under the lock.
                drop(instance);
            }
        }
    }

    /// Drops instances as they reach their idle timeout, for as long as there are any.
    async fn reap(self: Arc<Self>) {
        loop {
            let changed = self.changed.notified();
            let (expired, next) = {
                let mut state = self.lock();
                let now = Instant::now();
                let timeout = self.bounds.idle_timeout;
                let fresh = state.idle.partition_point(|(since, _)| *since + timeout <= now);
                let expired: Vec<_> = state.idle.drain(..fresh).collect();
                state.live -= expired.len();
                let next = state.idle.front().map(|(since, _)| *since + timeout);
                state.reaping = next.is_some();
                (expired, next)
            };
            let any = !expired.is_empty();
            drop(expired);
            if any {
                self.changed.notify_waiters();
            }
            let Some(next) = next else { return };
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = changed => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<I>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<I: Send + 'static> Lease<I> {
    /// Gives the slot back with an instance that can serve again.
    pub fn put_back(mut self, instance: I) {
        self.instance = Some(instance);
    }

    /// Gives the slot back for which no instance can be made. It is not passed on, or each who
    /// waits would be refused one, though they have only to wait for the others.
    pub fn close(mut self) {
        self.closing = true;
    }
}

impl<I: Send + 'static> Drop for Lease<I> {
    fn drop(&mut self) {
        if !self.closing || !self.slots.close() {
            self.slots.give(self.instance.take());
        }
    }
}

impl<I: Send + 'static> Future for Waiting<I> {
    type Output = Lease<I>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Lease<I>> {
        match Pin::new(&mut self.lease).poll(cx) {
            Poll::Ready(Ok(lease)) => Poll::Ready(lease),
            // Its sender is in the queue for as long as we are: never taken out unsent.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}

impl<I: Send + 'static> Drop for Waiting<I> {
    fn drop(&mut self) {
        self.slots.lock().waiting.remove(&self.arrival);
        // A lease that was sent meanwhile goes back as the channel drops it.
    }
}
