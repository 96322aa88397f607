//! What instances take of the node's memory, and who makes room when it is short.
//!
//! Counted is what instances reserve, not what they touch: their memories and
//! tables as these grow, and what the host holds for each. So nothing that
//! guests do later can take more than was granted.
//!
//! When a grant would break a limit, idle instances leave first, the longest
//! unused of all apps before the others; then the grant is refused. A part of
//! the node's memory is kept for apps that hold little, so that one that takes
//! all it can get leaves the others something to answer with.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use wasmtime::ResourceLimiter;

use super::engine::{Engines, Kind};
use super::{heap, lingering};
use crate::limit::{Limit, Tally};

/// What the host may hold for each call into an instance: the stack that the guest may fill
/// (512 KiB) and the chunks of two bodies on their way; with the first, the store and its tables.
pub const CALL_COST: usize = 2 << 20;

/// The stack of that.
const STACK: usize = 512 << 10;

/// As much of what the host holds for a guest as is paid with its first call.
const PAID_HOLDINGS: usize = 256 << 10;

/// What a table element costs the host.
const TABLE_ELEMENT: usize = size_of::<usize>();

/// One in so many bytes of the node's memory is kept for apps that hold little.
const RESERVE: usize = 4;

/// How long a new instance waits for idle ones that were told to leave.
const LEAVING: Duration = Duration::from_millis(200);

/// The memory of all instances of all apps.
pub struct Node {
    limit: AtomicUsize,
    used: AtomicUsize,
    /// Apps that hold some of it.
    holding: AtomicUsize,
    accounts: Mutex<Vec<Weak<Account>>>,
    /// When an instance was told to leave, until one has gone. It is waited for before another is.
    leaving: Mutex<Option<Instant>>,
    /// Told when an instance has gone.
    freed: Notify,
}

/// What one app takes of the node's memory, over all of its pools.
pub struct Account {
    node: Arc<Node>,
    used: AtomicUsize,
    pools: Mutex<Vec<Weak<dyn Idle>>>,
}

/// Instances that could leave when memory is short.
pub trait Idle: Send + Sync {
    /// Since when the longest unused one has been idle, if any is.
    fn longest_unused(&self) -> Option<Instant>;

    /// Lets that one go.
    fn evict(&self) -> Evicted;
}

/// What became of an instance that was to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evicted {
    /// It is gone.
    Gone,
    /// It goes as soon as its task runs.
    Leaving,
    /// There was none.
    Nobody,
}

/// No memory for something.
struct Short {
    limit: Limit,
    /// Some of it will be free in a moment.
    soon: bool,
}

impl Node {
    /// `limit` in bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit: AtomicUsize::new(limit),
            used: AtomicUsize::new(0),
            holding: AtomicUsize::new(0),
            accounts: Mutex::default(),
            leaving: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// Instances that hold more than the new limit keep it; there are no more until they leave.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Relaxed);
    }

    pub fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    /// Bytes that all instances hold, and those that have gone but may still be resident.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// An account for one more app.
    pub fn account(self: &Arc<Self>) -> Arc<Account> {
        let account = Arc::new(Account {
            node: self.clone(),
            used: AtomicUsize::new(0),
            pools: Mutex::default(),
        });
        let mut accounts = lock(&self.accounts);
        accounts.retain(|account| account.strong_count() > 0);
        accounts.push(Arc::downgrade(&account));
        account
    }

    /// Takes `bytes` for an app that then holds `held`.
    fn take(&self, bytes: usize, held: usize) -> Result<(), Short> {
        let limit = self.limit();
        let reserve = limit / RESERVE;
        let take = |limit: usize| grow(&self.used, bytes, limit).is_some();
        let soon = loop {
            if take(limit - reserve) {
                return Ok(());
            }
            // What this thread has dropped may be all that is missing.
            if lingering::settle() {
                continue;
            }
            match self.evict() {
                Evicted::Gone => {}
                evicted => break evicted == Evicted::Leaving,
            }
        };
        // What is about to be free is as good as there: the reserve stands in for it.
        let little = held <= reserve / self.holding.load(Relaxed).max(1);
        match (little || soon) && take(limit) {
            true => Ok(()),
            false => Err(Short { limit: Limit::ServerMemory, soon }),
        }
    }

    /// Gives back what is not resident any more.
    pub fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Relaxed);
    }

    /// Makes room in the engines. False where no instance could leave.
    pub async fn make_room(&self) -> bool {
        let freed = self.freed.notified();
        match self.evict() {
            Evicted::Gone => true,
            Evicted::Leaving => timeout_at(Instant::now() + LEAVING, freed).await.is_ok(),
            Evicted::Nobody => false,
        }
    }

    /// Lets the instance go that has been idle for longest, of all apps.
    pub fn evict(&self) -> Evicted {
        let accounts: Vec<_> = lock(&self.accounts).iter().filter_map(Weak::upgrade).collect();
        self.evict_of(accounts.iter().flat_map(|account| account.pools()))
    }

    fn evict_of(&self, pools: impl Iterator<Item = Arc<dyn Idle>>) -> Evicted {
        if lock(&self.leaving).is_some_and(|since| since.elapsed() < LEAVING) {
            return Evicted::Leaving;
        }
        let idle = pools.filter_map(|pool| Some((pool.longest_unused()?, pool)));
        let Some((_, pool)) = idle.min_by_key(|(since, _)| *since) else {
            return Evicted::Nobody;
        };
        *lock(&self.leaving) = Some(Instant::now());
        let evicted = pool.evict();
        if evicted != Evicted::Leaving {
            *lock(&self.leaving) = None;
        }
        evicted
    }

    /// An instance has gone.
    fn left(&self) {
        *lock(&self.leaving) = None;
        self.freed.notify_waiters();
    }
}

impl Account {
    /// From now on this pool's idle instances leave when memory is short.
    pub fn register(&self, pool: Weak<dyn Idle>) {
        let mut pools = lock(&self.pools);
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(pool);
    }

    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Bytes that the app's instances hold.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Takes `bytes`, of the app's `limit` and of the node's.
    fn take(&self, bytes: usize, limit: usize) -> Result<(), Short> {
        let held = loop {
            if let Some(held) = grow(&self.used, bytes, limit) {
                break held;
            }
            let soon = match self.node.evict_of(self.pools().into_iter()) {
                Evicted::Gone => continue,
                evicted => evicted == Evicted::Leaving,
            };
            return Err(Short { limit: Limit::AppMemory, soon });
        };
        if held == bytes {
            self.node.holding.fetch_add(1, Relaxed);
        }
        self.node.take(bytes, held).inspect_err(|_| self.give(bytes))
    }

    /// Gives back to the app; what the node gets back, and when, is another matter.
    fn give(&self, bytes: usize) {
        if bytes > 0 && self.used.fetch_sub(bytes, Relaxed) == bytes {
            self.node.holding.fetch_sub(1, Relaxed);
        }
    }

    fn pools(&self) -> Vec<Arc<dyn Idle>> {
        lock(&self.pools).iter().filter_map(Weak::upgrade).collect()
    }
}

/// Adds `bytes` unless that is more than `limit`; what it came to.
fn grow(used: &AtomicUsize, bytes: usize, limit: usize) -> Option<usize> {
    let fits = |used: usize| used.checked_add(bytes).filter(|used| *used <= limit);
    used.fetch_update(Relaxed, Relaxed, fits).ok().map(|before| before + bytes)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The limits that an instance's memory is under, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub instance: usize,
    pub app: usize,
}

/// What an instance holds. To be dropped after its store: then it is given back.
pub struct Room {
    holding: Arc<Holding>,
    engines: Weak<Engines>,
    kind: Kind,
    /// Bytes of the host's heap that go with the store.
    heap: usize,
    /// The guest has filled its stack.
    deep: bool,
}

struct Holding {
    account: Arc<Account>,
    bounds: Bounds,
    tally: Arc<Tally>,
    /// Bytes of its memories and tables.
    used: AtomicUsize,
    /// Bytes taken of the account for them: as many, or more that were taken ahead.
    paid: AtomicUsize,
    /// Calls at a time that were paid for.
    calls: AtomicUsize,
    /// The app or the node had no more for it.
    short: AtomicBool,
}

impl Room {
    /// Room for one more instance, whose memories and tables are `expected` to hold so many bytes.
    ///
    /// # Errors
    /// The limit that leaves none. It is tallied.
    pub async fn take(
        account: &Arc<Account>,
        bounds: Bounds,
        tally: &Arc<Tally>,
        expected: usize,
        (engines, kind): (&Arc<Engines>, Kind),
    ) -> Result<Self, Limit> {
        let bytes = CALL_COST + expected;
        let deadline = Instant::now() + LEAVING;
        loop {
            let freed = account.node.freed.notified();
            let Err(short) = account.take(bytes, bounds.app) else { break };
            if !short.soon || timeout_at(deadline, freed).await.is_err() {
                tally.reached(short.limit, "a new instance");
                return Err(short.limit);
            }
        }
        let holding = Arc::new(Holding {
            account: account.clone(),
            bounds,
            tally: tally.clone(),
            used: AtomicUsize::new(0),
            paid: AtomicUsize::new(expected),
            calls: AtomicUsize::new(1),
            short: AtomicBool::new(false),
        });
        Ok(Self { holding, engines: Arc::downgrade(engines), kind, heap: 0, deep: false })
    }

    /// What a store asks before its memories and tables grow.
    pub fn limiter(&self) -> Limiter {
        Limiter { holding: self.holding.clone(), last: 0, held: 0 }
    }

    /// Whether there is room for so many calls at a time. What was taken for them stays.
    pub fn fits(&self, calls: usize) -> bool {
        let Holding { account, bounds, calls: paid, .. } = &*self.holding;
        while paid.load(Relaxed) < calls {
            if account.take(CALL_COST, bounds.app).is_err() {
                return false;
            }
            paid.fetch_add(1, Relaxed);
        }
        true
    }

    /// Bytes of memories and tables that the instance holds.
    pub fn used(&self) -> usize {
        self.holding.used.load(Relaxed)
    }

    /// What shows [`Self::used`] to others.
    pub fn gauge(&self) -> Gauge {
        Gauge(self.holding.clone())
    }

    /// The store goes, and so many bytes with it that the host held for the guest.
    pub fn leaves(&mut self, bytes: usize) {
        self.heap = bytes;
    }

    /// The guest has filled its stack, which lingers as its memories do. Most touch little of it;
    /// of those that fill it and go back no more linger than a batch holds.
    pub fn stack_was_filled(&mut self) {
        self.deep = true;
    }

    /// Whether the app or the node, and not the instance's own limit, had no more for it.
    pub fn was_short(&self) -> bool {
        self.holding.short.load(Relaxed)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let Holding { account, paid, calls, .. } = &*self.holding;
        let (paid, calls) = (paid.load(Relaxed), calls.load(Relaxed) * CALL_COST);
        heap::freed(self.heap);
        account.give(calls + paid);
        let stack = if self.deep { STACK } else { 0 };
        account.node.give(calls - stack);
        lingering::dropped(&account.node, (paid, stack), &self.engines, self.kind);
        account.node.left();
    }
}

/// What an instance holds, for those who look.
pub struct Gauge(Arc<Holding>);

impl Gauge {
    /// Bytes of memories and tables that the instance holds.
    pub fn used(&self) -> usize {
        self.0.used.load(Relaxed)
    }
}

/// Sums what wasmtime asks for one by one: all memories and tables of a store.
pub struct Limiter {
    holding: Arc<Holding>,
    /// What was granted last, for the case that nothing comes of it.
    last: usize,
    /// What the host holds for the guest.
    held: usize,
}

impl Limiter {
    fn grow(&mut self, current: usize, desired: usize, what: fmt::Arguments<'_>) -> bool {
        let Holding { account, bounds, tally, used, paid, short, .. } = &*self.holding;
        let growth = desired.saturating_sub(current);
        let sum = used.load(Relaxed).saturating_add(growth);
        self.last = 0;
        if sum > bounds.instance {
            tally.reached(Limit::Memory, what);
            return false;
        }
        let missing = sum.saturating_sub(paid.load(Relaxed));
        if missing > 0 {
            if let Err(Short { limit, .. }) = account.take(missing, bounds.app) {
                short.store(true, Relaxed);
                tally.reached(limit, what);
                return false;
            }
            paid.fetch_add(missing, Relaxed);
        }
        used.store(sum, Relaxed);
        self.last = growth;
        true
    }

    /// The host holds so many bytes for the guest now. False when that is too much.
    pub fn hold(&mut self, bytes: usize) -> bool {
        let bytes = bytes.saturating_sub(PAID_HOLDINGS);
        heap::freed(self.held.saturating_sub(bytes));
        self.holding.used.fetch_sub(std::mem::take(&mut self.held), Relaxed);
        let granted = self.grow(0, bytes, format_args!("what the host holds for an instance"));
        if granted {
            self.held = bytes;
        }
        granted
    }

    /// Whether the host held anything for the guest when it was last looked at.
    pub fn holds_any(&self) -> bool {
        self.held > 0
    }

    /// The last growth did not come to be. What was paid for it is there for the next.
    fn undo(&mut self) {
        self.holding.used.fetch_sub(std::mem::take(&mut self.last), Relaxed);
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Beyond its own maximum it cannot grow, and takes nothing of anyone's.
        let possible = maximum.is_none_or(|maximum| desired <= maximum);
        Ok(possible && self.grow(current, desired, format_args!("a memory of {desired} bytes")))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let possible = maximum.is_none_or(|maximum| desired <= maximum);
        let bytes = |elements: usize| elements.saturating_mul(TABLE_ELEMENT);
        let what = format_args!("a table of {desired} elements");
        Ok(possible && self.grow(bytes(current), bytes(desired), what))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.undo();
        Ok(())
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.undo();
        Ok(())
    }
}
