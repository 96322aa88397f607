//! A worker: the task that drives one store and the requests on it.
//!
//! Two futures, one inside the other. The inner runs in the store's event loop:
//! it starts requests and lists the worker. A guest that computes, or a host
//! call that blocks, keeps it from being polled at all, so every clock is in
//! the outer one, which polls the loop and reviews the ledger after each poll.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;
use wasmtime::component::Accessor;

use super::call;
use super::instance::Instance;
use super::ledger::{Entry, Ledger, Standing, Verdict};
use super::schedule::Seat;
use super::shared::{Job, Shared};
use super::{Failure, GATHER_TURNS, KILLED};
use crate::guest::State;
use crate::guest::store::running_request;
use crate::stats::Gone;

/// Why a worker ended.
enum End {
    /// It has left with nothing to do, and why.
    Left(Gone),
    TimedOut,
    Killed,
    Failed(wasmtime::Error),
}

/// Makes an instance for `first` and serves on it until it is used up, idle, or fails.
pub async fn work(shared: Arc<Shared>, first: Job) {
    // In the order of their end, last to first: the requests are told, the
    // store goes, and then its slot is free.
    let seat = Seat::new();
    let mut closing = Closing { shared: shared.clone(), seat: seat.clone(), hopeless: false };
    if !first.exchange.has_client() {
        return;
    }
    first.exchange.start();
    let blueprint = &shared.blueprint;
    let made = timeout(blueprint.limits.request_timeout, Instance::new(blueprint)).await;
    let mut instance = match made.unwrap_or(Err(Failure::TimedOut)) {
        Ok(instance) => instance,
        Err(failure) => {
            closing.hopeless = matches!(failure, Failure::Busy { .. });
            first.exchange.answer(Err(failure));
            return first.exchange.publish();
        }
    };
    first.exchange.made();
    let ledger = Arc::new(Mutex::new(Ledger::new()));
    instance.member.keeps(&ledger);
    // Who looks at it may have it for longer, and the store goes before the instance does.
    let _settling = Settling(&ledger);

    let id = instance.id;
    // As one that is handed to a worker which has been there for long: whatever becomes of this
    // one before it is taken, it is not lost.
    seat.put(first);
    let end = drive(&shared, &seat, &mut instance, &ledger).await;
    let mut ledger = lock(&ledger);
    ledger.failure = match end {
        End::Left(why) => {
            instance.gone = why;
            Failure::Guest("the guest exited".into())
        }
        End::Killed => {
            instance.gone = Gone::Killed;
            Failure::Guest(KILLED.into())
        }
        End::TimedOut => {
            instance.gone = Gone::Timeout;
            if blueprint.tally.may_warn() {
                let app = blueprint.app();
                warn!(app, instance = id, "the guest took too long and was ended");
            }
            Failure::TimedOut
        }
        End::Failed(error) => {
            let guilty = running_request(&mut instance.store).or(ledger.only_request());
            instance.failed(guilty, ledger.entries.len(), &error)
        }
    };
    // A guest that fails before it has taken anything would do so for the next worker as well.
    if instance.member.served() == 0
        && instance.gone != Gone::Killed
        && let Some(job) = seat.take()
    {
        job.exchange.answer(Err(ledger.failure.clone()));
        job.exchange.publish();
    }
}

async fn drive(
    shared: &Arc<Shared>,
    seat: &Arc<Seat<Job>>,
    instance: &mut Instance,
    ledger: &Mutex<Ledger>,
) -> End {
    let blueprint = &shared.blueprint;
    let limits = &blueprint.limits;
    let engines = &blueprint.component.engines;
    let Instance { store, proxy, pace, id, room, member, .. } = instance;
    let id = *id;
    let output = store.data().output.clone();

    let inside = async |accessor: &Accessor<State>| {
        let mut calls = FuturesUnordered::new();
        std::future::poll_fn(|cx| {
            let mut news = !std::mem::replace(&mut lock(ledger).polled, true);
            if news {
                seat.waker.register(cx.waker());
            }
            loop {
                // Drained to Pending: one poll of the set does not poll all that are ready.
                while let Poll::Ready(Some(result)) = calls.poll_next_unpin(cx) {
                    news = true;
                    if let Err(error) = result {
                        return Poll::Ready(Err(error));
                    }
                }
                let mut book = lock(ledger);
                // The event loop polls us after each of its steps. What others do wakes us
                // and so begins a turn; within one there is only the guest's own progress.
                if !news && !book.entries.is_empty() {
                    return Poll::Pending;
                }
                book.forget_ended();

                let mut job = seat.take();
                let able = book.entries.len() < limits.max_concurrent_per_instance.get()
                    && (book.responsive || book.entries.is_empty() && calls.is_empty());
                let spent = blueprint.uses_up(member.served())
                    || book.overdue()
                    // Its clock may not have been read yet: who came now would lack that much time.
                    || (job.is_some() || able && !book.listed) && book.is_late(limits);
                let ready = !spent
                    && able
                    && room.fits(book.entries.len() + 1)
                    && call::is_ready(accessor, proxy, cx);
                if job.is_some() {
                    book.listed = false;
                    if spent {
                        // Handed over when a timeout had just passed.
                        job.take().into_iter().for_each(|job| shared.give_back(job));
                    }
                } else if ready && !book.listed {
                    job = shared.schedule.list(seat);
                    book.listed = job.is_none();
                } else if !ready && book.listed {
                    book.listed = false;
                    if let Some(job) = shared.schedule.unlist(seat) {
                        shared.give_back(job);
                    }
                }
                if let Some(Job { request, exchange }) = job {
                    if !exchange.has_client() {
                        continue;
                    }
                    let since = exchange.start();
                    exchange.taken_by(id);
                    exchange.wake_driver(cx.waker());
                    member.serves_one_more();
                    book.responsive = false;
                    book.entries.push(Entry::new(request.id, exchange.clone(), since));
                    output.set_request(book.only_request());
                    drop(book);
                    let instance = (&**blueprint, id, &*proxy);
                    match call::start(accessor, instance, Job { request, exchange }) {
                        Ok(call) => calls.push(call),
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                    continue;
                }

                if !book.entries.is_empty() {
                    book.stand(Standing::Busy);
                    return Poll::Pending;
                }
                // A p2 guest answers before its call ends.
                if !calls.is_empty() || accessor.poll_no_interesting_tasks(cx).is_pending() {
                    book.stand(Standing::PostReturn);
                    return Poll::Pending;
                }
                if spent {
                    return Poll::Ready(Ok(()));
                }
                accessor.with(|mut store| store.data_mut().rest());
                output.set_request(None);
                if let Err(error) = accessor.with(|mut access| access.data_mut().count_holdings()) {
                    return Poll::Ready(Err(error));
                }
                book.stand(Standing::Idle);
                return Poll::Pending;
            }
        })
        .await
    };

    let mut running = Some(engines.running());
    let mut timer = pin!(sleep_until(Instant::now() + limits.request_timeout));
    let mut event_loop = pin!(pace.drive(store.run_concurrent(inside)));
    let mut turns = 0;
    std::future::poll_fn(|cx| {
        loop {
            if running.is_none() {
                running = Some(engines.running());
            }
            lock(ledger).polled = false;
            if let Poll::Ready(result) = event_loop.as_mut().poll(cx) {
                return Poll::Ready(match result.flatten() {
                    Ok(()) => End::Left(Gone::UsedUp),
                    Err(error) => End::Failed(error),
                });
            }

            if member.poll_killed(cx) {
                return Poll::Ready(End::Killed);
            }

            let mut book = lock(ledger);
            // In a tick it is not seen what the guest does besides.
            book.polled &= !pace.waits();
            if book.prefetch() && turns < GATHER_TURNS {
                turns += 1;
                continue;
            }
            turns = 0;
            if book.polled && !book.responsive {
                // It waits for something, so it can take another request: once more, to be
                // listed before a client has its answer and sends the next.
                book.responsive = true;
                continue;
            }
            book.publish();
            let is_busy = pace.computes() || !pace.waits() && !pace.is_at_door();
            if !book.polled && book.listed && is_busy {
                // The guest computes: what was handed to us meanwhile is better served elsewhere,
                // but for one that only waits for its app's turn, as any other would.
                book.listed = false;
                if let Some(job) = shared.schedule.unlist(seat) {
                    shared.give_back(job);
                }
            }
            let verdict = book.review(limits, shared.schedule.is_evicting() || seat.is_dismissed());
            match verdict {
                Verdict::Kill => return Poll::Ready(End::TimedOut),
                Verdict::Leave => match shared.schedule.unlist(seat) {
                    None if seat.is_dismissed() => {
                        return Poll::Ready(End::Left(Gone::Evicted));
                    }
                    None => return Poll::Ready(End::Left(Gone::Idle)),
                    // Handed over at the last moment: we serve it.
                    Some(job) => {
                        book.listed = false;
                        seat.put(job);
                        continue;
                    }
                },
                Verdict::Until(at) => {
                    // Set for something sooner that is past, it fires once for nothing: that
                    // costs less than to set it with every request.
                    if at < timer.deadline() || timer.is_elapsed() {
                        timer.as_mut().reset(at);
                    }
                    if timer.as_mut().poll(cx).is_ready() {
                        continue;
                    }
                }
            }
            if let Some(since) = book.idle_since() {
                running = None;
                seat.rest(since);
            }
            return Poll::Pending;
        }
    })
    .await
}

/// The slot of a worker, given back however it ends.
struct Closing {
    shared: Arc<Shared>,
    seat: Arc<Seat<Job>>,
    /// There was no room for an instance.
    hopeless: bool,
}

impl Drop for Closing {
    fn drop(&mut self) {
        if let Some(job) = self.shared.schedule.unlist(&self.seat) {
            self.shared.give_back(job);
        }
        self.shared.closed(self.hopeless);
    }
}

/// Settles a worker's requests however it ends, before its store goes.
struct Settling<'a>(&'a Mutex<Ledger>);

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        lock(self.0).settle();
    }
}

pub fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
