//! Fair shares of the CPU: which app's guest computes next.
//!
//! There are as many tickets as cores. A guest that computes for longer than two
//! ticks goes on only with one, and at each tick hands it to the app that has
//! had the least for its weight: start-time fair queueing, by app, so that fifty
//! loops get no more than one. Who queues is asleep, and the runtime's threads
//! are free for everything else. Knows neither guests nor clocks.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

use super::ticker::TICK;

/// The weight at which virtual time is CPU time.
const UNIT: u64 = 100;

/// CPU that an app may have had less than its share, and then have first: what computes for a
/// few milliseconds now and then is not held up by who computes all the time. It is never more
/// than was left to others before.
const CREDIT: Duration = Duration::from_millis(5);

/// The node's CPU, as guests share it.
pub struct Share {
    queue: Mutex<Queue>,
    /// No ticket is free. A hint for those who need none.
    saturated: AtomicBool,
    /// Ticks so far: who goes on after a wait finds its deadline past, though none has come.
    ticks: AtomicU64,
}

/// Times in here are virtual: nanoseconds of CPU by weight.
struct Queue {
    /// Tickets that nobody has.
    free: usize,
    /// Where the ticket given out last began. Nobody may stand further behind it than the
    /// credit: for time that it has not used an app gets no more.
    now: u64,
    arrivals: u64,
    /// Tickets given out, and places in line.
    claims: usize,
    /// The lines of those who wait, in the order of their apps' turns.
    lines: BTreeMap<(u64, u64), Line>,
}

/// Those of one app who wait, by their place.
struct Line {
    account: Arc<Account>,
    waiting: BTreeMap<u64, oneshot::Sender<Ticket>>,
}

/// One app's share, and what it has had of it.
#[derive(Debug)]
pub struct Account {
    number: u64,
    weight: AtomicU64,
    /// When its next turn is. Belongs to the queue's lock.
    turn: AtomicU64,
    /// Tickets and places in line that are its own. Belongs to the queue's lock too.
    claims: AtomicUsize,
    /// Nanoseconds of CPU.
    used: AtomicU64,
}

/// The right to compute for a tick. Dropping it passes it on.
pub struct Ticket {
    share: Arc<Share>,
    account: Arc<Account>,
    /// What the account was charged in advance.
    charged: u64,
    /// Nothing is left in it to give back.
    spent: bool,
}

/// A place in the queue. Dropping it gives it up.
pub struct Waiting {
    share: Arc<Share>,
    account: Arc<Account>,
    place: u64,
    ticket: oneshot::Receiver<Ticket>,
}

impl Account {
    /// An app that has used nothing yet.
    pub fn new(weight: NonZeroUsize) -> Arc<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let account = Self {
            number: NUMBER.fetch_add(1, Relaxed),
            weight: AtomicU64::default(),
            turn: AtomicU64::default(),
            claims: AtomicUsize::default(),
            used: AtomicU64::default(),
        };
        account.set_weight(weight);
        Arc::new(account)
    }

    /// Its share against those of others, from now on.
    pub fn set_weight(&self, weight: NonZeroUsize) {
        self.weight.store(weight.get() as u64, Relaxed);
    }

    /// CPU that its guests have used, as the ticks show it.
    pub fn used(&self) -> Duration {
        Duration::from_nanos(self.used.load(Relaxed))
    }

    /// Counts CPU that its guests have used.
    pub fn count(&self, used: Duration) {
        self.used.fetch_add(nanoseconds(used), Relaxed);
    }

    fn virtually(&self, time: Duration) -> u64 {
        nanoseconds(time).saturating_mul(UNIT) / self.weight.load(Relaxed).max(1)
    }
}

impl Share {
    /// The CPU of `cores` cores.
    pub fn new(cores: usize) -> Arc<Self> {
        let queue = Queue { free: cores, now: 0, arrivals: 0, claims: 0, lines: BTreeMap::new() };
        Arc::new(Self {
            queue: Mutex::new(queue),
            saturated: AtomicBool::new(cores == 0),
            ticks: AtomicU64::new(0),
        })
    }

    /// A tick comes.
    pub fn tick(&self) {
        self.ticks.fetch_add(1, Relaxed);
    }

    /// Ticks so far.
    pub fn ticks(&self) -> u64 {
        self.ticks.load(Relaxed)
    }

    /// Whether guests compute on all cores.
    pub fn is_saturated(&self) -> bool {
        self.saturated.load(Relaxed)
    }

    /// Whether the app may compute for a moment without a ticket: up to a tick ahead of its
    /// turn, so that one which seldom computes never waits; and while no other app computes.
    pub fn admits(&self, account: &Account) -> bool {
        let mut queue = self.lock();
        let turn = queue.turn(account);
        queue.move_turn(account, turn);
        let is_alone = queue.claims == account.claims.load(Relaxed);
        is_alone || turn <= queue.now.saturating_add(account.virtually(TICK))
    }

    /// Charges an app for what it used without a ticket.
    ///
    /// While there are tickets that nobody wants it takes nothing from others: it owes them no
    /// more than they may be ahead of it by their credit, however long that goes on.
    pub fn charge(&self, account: &Account, used: Duration) {
        let mut queue = self.lock();
        let before = queue.turn(account);
        let turn = before.saturating_add(account.virtually(used));
        let most = match queue.free {
            0 => u64::MAX,
            _ => queue.now.saturating_add(account.virtually(CREDIT)),
        };
        queue.move_turn(account, turn.min(most.max(before)));
    }

    /// Queues for a ticket, giving back the one it had, which was `used` so far.
    ///
    /// Both at once: a ticket that was free in between would go to an app whose turn is later.
    pub fn wait(
        self: &Arc<Self>,
        account: &Arc<Account>,
        had: Option<Ticket>,
        used: Duration,
    ) -> Waiting {
        let mut queue = self.lock();
        let turn = match had {
            Some(mut had) => {
                queue.free += 1;
                queue.unclaim(account);
                had.spent = true;
                account.turn.load(Relaxed).saturating_sub(had.charged)
            }
            None => queue.turn(account),
        };
        let turn = turn.saturating_add(account.virtually(used));
        queue.move_turn(account, turn);
        queue.arrivals += 1;
        queue.claim(account);
        let place = queue.arrivals;
        let (sender, ticket) = oneshot::channel();
        let key = (turn, account.number);
        let new = || Line { account: account.clone(), waiting: BTreeMap::new() };
        queue.lines.entry(key).or_insert_with(new).waiting.insert(place, sender);
        let waiting = Waiting { share: self.clone(), account: account.clone(), place, ticket };
        self.grant(queue);
        waiting
    }

    /// Gives free tickets to those whose turn it is.
    fn grant(self: &Arc<Self>, mut queue: MutexGuard<'_, Queue>) {
        let mut granted = Vec::new();
        while queue.free > 0
            && let Some((account, sender)) = queue.next()
        {
            queue.free -= 1;
            let turn = account.turn.load(Relaxed);
            queue.now = queue.now.max(turn);
            let charged = account.virtually(TICK);
            queue.move_turn(&account, turn.saturating_add(charged));
            let ticket = Ticket { share: self.clone(), account, charged, spent: false };
            granted.push((sender, ticket));
        }
        self.saturated.store(queue.free == 0, Relaxed);
        drop(queue);
        // Not under the lock: who has given up meanwhile drops its ticket, which takes it.
        for (sender, ticket) in granted {
            let _ = sender.send(ticket);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// The app has a ticket or a place in line more.
    fn claim(&mut self, account: &Account) {
        self.claims += 1;
        account.claims.fetch_add(1, Relaxed);
    }

    /// It has one less.
    fn unclaim(&mut self, account: &Account) {
        self.claims -= 1;
        account.claims.fetch_sub(1, Relaxed);
    }

    /// Takes out the first in the line of the app whose turn is next.
    fn next(&mut self) -> Option<(Arc<Account>, oneshot::Sender<Ticket>)> {
        let mut line = self.lines.first_entry()?;
        let account = line.get().account.clone();
        let (_, sender) = line.get_mut().waiting.pop_first()?;
        if line.get().waiting.is_empty() {
            line.remove();
        }
        Some((account, sender))
    }

    /// When an app's next turn is, were it to ask now: no further back than its credit.
    fn turn(&self, account: &Account) -> u64 {
        let earliest = self.now.saturating_sub(account.virtually(CREDIT));
        account.turn.load(Relaxed).max(earliest)
    }

    /// Sets when an app's next turn is.
    fn move_turn(&mut self, account: &Account, turn: u64) {
        let before = account.turn.swap(turn, Relaxed);
        if turn != before
            && let Some(line) = self.lines.remove(&(before, account.number))
        {
            self.lines.insert((turn, account.number), line);
        }
    }
}

impl Ticket {
    /// Gives it back after it was used for so long.
    pub fn end(mut self, used: Duration) {
        self.give_back(used);
    }

    fn give_back(&mut self, used: Duration) {
        if std::mem::replace(&mut self.spent, true) {
            return;
        }
        let mut queue = self.share.lock();
        queue.free += 1;
        queue.unclaim(&self.account);
        let turn = self.account.turn.load(Relaxed).saturating_sub(self.charged);
        queue.move_turn(&self.account, turn.saturating_add(self.account.virtually(used)));
        self.share.grant(queue);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.give_back(Duration::ZERO);
    }
}

impl Future for Waiting {
    type Output = Ticket;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ticket> {
        match Pin::new(&mut self.ticket).poll(cx) {
            Poll::Ready(Ok(ticket)) => Poll::Ready(ticket),
            // Its sender is in the line for as long as we are: never taken out unsent.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let key = self.account.number;
        let mut queue = self.share.lock();
        let key = (self.account.turn.load(Relaxed), key);
        if let Some(line) = queue.lines.get_mut(&key)
            && line.waiting.remove(&self.place).is_some()
        {
            if line.waiting.is_empty() {
                queue.lines.remove(&key);
            }
            queue.unclaim(&self.account);
        }
        // A ticket that was sent meanwhile goes on as the channel drops it.
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "share_tests.rs"]
mod tests;
