//! A bounded stack of idle instances and the queue for those who find none.
//!
//! Last in, first out: the warmest instance serves, and the coldest are the
//! ones that reach their idle timeout. Knows nothing of what an instance is.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

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
    armed: bool,
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

    /// Slots in use, idle ones included.
    pub fn live(&self) -> usize {
        self.lock().live
    }

    /// Idle instances leave: those there are at once, those to come as soon as they are idle.
    /// `false` takes that back.
    pub fn evict(self: &Arc<Self>, evicting: bool) {
        let idle = {
            let mut state = self.lock();
            state.evicting = evicting;
            if !evicting {
                return;
            }
            let idle = mem::take(&mut state.idle);
            state.live -= idle.len();
            idle
        };
        drop(idle);
        self.changed.notify_waiters();
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
        Lease { slots: self.clone(), instance, armed: true }
    }

    /// Passes a slot on to who waits longest, or keeps it, or closes it.
    fn give(self: &Arc<Self>, mut instance: Option<I>) {
        let mut state = self.lock();
        while let Some((_, waiting)) = state.waiting.pop_first() {
            match waiting.send(self.lease(instance.take())) {
                Ok(()) => return,
                // Gave up between our lock and theirs.
                Err(lease) => instance = lease.disarm(),
            }
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

    fn disarm(mut self) -> Option<I> {
        self.armed = false;
        self.instance.take()
    }
}

impl<I: Send + 'static> Drop for Lease<I> {
    fn drop(&mut self) {
        if self.armed {
            let instance = self.instance.take();
            self.slots.give(instance);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(instances: usize, waiting: usize) -> Arc<Slots<u32>> {
        let bounds = Bounds { instances, waiting, idle_timeout: Duration::from_secs(60) };
        Slots::new(bounds, TaskTracker::new())
    }

    fn now(slots: &Arc<Slots<u32>>) -> Lease<u32> {
        match slots.take() {
            Taken::Now(lease) => lease,
            _ => panic!("nothing free"),
        }
    }

    fn later(slots: &Arc<Slots<u32>>) -> Waiting<u32> {
        match slots.take() {
            Taken::Later(waiting) => waiting,
            _ => panic!("expected to wait"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_most_recently_used_comes_first() {
        let slots = slots(3, 0);
        let (a, b) = (now(&slots), now(&slots));
        a.put_back(1);
        b.put_back(2);
        assert_eq!(now(&slots).instance, Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_instance_leaves_at_its_timeout_and_a_used_one_stays() {
        let slots = slots(3, 0);
        let (a, b) = (now(&slots), now(&slots));
        a.put_back(1);
        b.put_back(2);
        for _ in 0..6 {
            tokio::time::sleep(Duration::from_secs(20)).await;
            let mut lease = now(&slots);
            let instance = lease.instance.take().unwrap();
            assert_eq!(instance, 2);
            lease.put_back(instance);
        }
        assert_eq!(slots.live(), 1);
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert_eq!(slots.live(), 0);
        slots.emptied().await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_longest_is_served_first_and_the_queue_is_bounded() {
        let slots = slots(1, 2);
        let lease = now(&slots);
        let (first, second) = (later(&slots), later(&slots));
        assert!(matches!(slots.take(), Taken::Full));
        lease.put_back(7);
        let mut lease = first.await;
        assert_eq!(lease.instance.take(), Some(7));
        drop(lease); // its instance failed: the right to make one is passed on
        assert_eq!(second.await.instance, None);
        assert_eq!(slots.live(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_leaves_the_queue_and_takes_nothing_along() {
        let slots = slots(1, 2);
        let lease = now(&slots);
        let (first, second) = (later(&slots), later(&slots));
        drop(first);
        let third = later(&slots); // its place is free again
        lease.put_back(7);
        drop(second); // was sent the lease already
        assert_eq!(third.await.instance, Some(7));
    }

    #[tokio::test(start_paused = true)]
    async fn an_evicted_pool_empties_at_once_and_keeps_nothing() {
        let slots = slots(2, 0);
        let (a, b) = (now(&slots), now(&slots));
        a.put_back(1);
        slots.evict(true);
        assert_eq!(slots.live(), 1);
        b.put_back(2);
        slots.emptied().await;
        slots.evict(false);
        now(&slots).put_back(3);
        assert_eq!(now(&slots).instance, Some(3));
    }
}
