//! Slots and schedule compiled against shuttle's locks, which try one
//! interleaving of the threads after the other. A lost wake-up is a deadlock
//! here, and shuttle fails on those.

#[allow(dead_code, clippy::duplicate_mod)]
#[path = "../schedule.rs"]
mod schedule;
#[allow(dead_code, clippy::duplicate_mod)]
#[path = "../slots.rs"]
mod slots;
mod sync {
    pub use shuttle::sync::{Mutex, MutexGuard};
}

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use schedule::{Placed, Schedule, Seat};
use slots::{Bounds, Slots, Taken};

const INTERLEAVINGS: usize = 10_000;

#[test]
fn no_slot_is_lost_and_who_waits_gets_one() {
    // For the task that watches idle timeouts, which never runs here.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _context = runtime.enter();
    shuttle::check_random(clients_of_two_slots, INTERLEAVINGS);
}

fn clients_of_two_slots() {
    const SLOTS: usize = 2;
    let idle_timeout = Duration::from_secs(3600);
    let bounds = Bounds { instances: SLOTS, waiting: 3, idle_timeout };
    let slots = Slots::new(bounds, TaskTracker::new());
    let used = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let (slots, used) = (slots.clone(), used.clone());
            thread::spawn(move || {
                let lease = match slots.take() {
                    Taken::Full => return,
                    Taken::Now(lease) => lease,
                    Taken::Later(mut waiting) => {
                        if thread_rng().gen_bool(0.3) {
                            // Asks once and gives up.
                            block_on(poll_fn(|cx| {
                                let _ = Pin::new(&mut waiting).poll(cx);
                                Poll::Ready(())
                            }));
                            return;
                        }
                        block_on(waiting)
                    }
                };
                assert!(used.fetch_add(1, Ordering::SeqCst) < SLOTS, "more than there are");
                thread::yield_now();
                used.fetch_sub(1, Ordering::SeqCst);
                match thread_rng().gen_range(0..6) {
                    0 => drop(lease),                                 // its instance failed
                    1 if thread_rng().gen_bool(0.5) => lease.close(), // there was no room for one
                    1 => slots.evict(true),
                    2 => slots.evict(false),
                    3 => drop(slots.take_longest_unused()),
                    _ => lease.put_back(()),
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());

    slots.evict(true);
    assert_eq!(slots.live(), 0, "a slot was lost");
}

#[test]
fn every_job_is_taken_by_one_worker_whatever_becomes_of_the_others() {
    shuttle::check_random(jobs_for_two_workers, INTERLEAVINGS);
}

/// A job tells its client when a worker has taken it.
type Job = oneshot::Sender<()>;

struct Workers {
    schedule: Schedule<Job>,
    threads: sync::Mutex<Vec<thread::JoinHandle<()>>>,
    working: AtomicUsize,
}

fn jobs_for_two_workers() {
    const WORKERS: usize = 2;
    let workers = Arc::new(Workers {
        schedule: Schedule::new(WORKERS, 3),
        threads: sync::Mutex::new(Vec::new()),
        working: AtomicUsize::new(0),
    });
    let clients: Vec<_> = (0..5)
        .map(|_| {
            let workers = workers.clone();
            thread::spawn(move || {
                let (job, taken) = oneshot::channel();
                let place = workers.dispatch(job);
                if let Some(place) = place
                    && thread_rng().gen_bool(0.3)
                {
                    drop(workers.schedule.withdraw(place));
                    return;
                }
                if thread_rng().gen_bool(0.2) {
                    workers.schedule.dismiss_longest_unused();
                }
                // An error is a full queue: told at once. Silence would be a deadlock.
                let _ = block_on(taken);
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());

    workers.schedule.evict(true);
    while let Some(worker) = { workers.threads.lock().unwrap().pop() } {
        worker.join().unwrap();
    }
    assert_eq!(workers.schedule.workers(), 0);
}

impl Workers {
    fn dispatch(self: &Arc<Self>, job: Job) -> Option<u64> {
        self.place(self.schedule.dispatch(job))
    }

    fn give_back(self: &Arc<Self>, job: Job) {
        let placed = self.schedule.give_back(job);
        assert!(!matches!(placed, Placed::Full(_)), "what was accepted is refused");
        self.place(placed);
    }

    fn place(self: &Arc<Self>, placed: Placed<Job>) -> Option<u64> {
        match placed {
            Placed::Taken | Placed::Full(_) => None,
            Placed::Waits(place) => Some(place),
            Placed::Start(job) => {
                self.start(job);
                None
            }
        }
    }

    fn start(self: &Arc<Self>, job: Job) {
        let workers = self.clone();
        let thread = thread::spawn(move || workers.work(job));
        self.threads.lock().unwrap().push(thread);
    }

    /// What a worker does, without the guest: takes jobs, is busy now and then, fails or leaves.
    fn work(self: &Arc<Self>, first: Job) {
        assert!(self.working.fetch_add(1, Ordering::SeqCst) < 2, "more than allowed");
        let seat = Seat::new();
        let mut job = Some(first);
        let hopeless = thread_rng().gen_bool(0.1);
        loop {
            if let Some(job) = job.take() {
                let _ = job.send(());
                if thread_rng().gen_bool(0.2) {
                    break; // it traps
                }
            }
            job = self.schedule.list(&seat);
            if job.is_some() {
                continue;
            }
            if thread_rng().gen_bool(0.3) {
                // It computes, and what comes meanwhile is better served elsewhere.
                if let Some(job) = self.schedule.unlist(&seat) {
                    self.give_back(job);
                }
                if thread_rng().gen_bool(0.3) {
                    break;
                }
                continue;
            }
            let idle_since = tokio::time::Instant::now();
            job = block_on(poll_fn(|cx| {
                seat.waker.register(cx.waker());
                seat.rest(idle_since);
                match seat.take() {
                    Some(job) => Poll::Ready(Some(job)),
                    None if self.schedule.is_evicting() || seat.is_dismissed() => {
                        Poll::Ready(self.schedule.unlist(&seat))
                    }
                    None => Poll::Pending,
                }
            }));
            if job.is_none() {
                break;
            }
        }
        // The end of every worker, however it came.
        if let Some(job) = self.schedule.unlist(&seat) {
            self.give_back(job);
        }
        self.working.fetch_sub(1, Ordering::SeqCst);
        if let Some(job) = self.schedule.closed(hopeless) {
            self.start(job);
        }
    }
}
