//! p3, and p2 that uses 0.3 interfaces: workers that each drive one store and serve several requests on it.
//!
//! Here are the clients' side and the tasks; who takes what is the schedule's.

use std::sync::{Arc, Weak};
use std::task::Poll;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::body::Gathered;
use super::exchange::Exchange;
use super::gate::Gate;
use super::instance::Blueprint;
use super::schedule::{Placed, Schedule};
use super::{Answer, Failure, Request, worker};
use crate::guest::memory::{Evicted, Idle};

/// A pool of instances that take several requests at a time.
pub struct Shared {
    pub blueprint: Arc<Blueprint>,
    pub schedule: Schedule<Job>,
    gate: Gate,
    emptied: Notify,
}

/// A request for a worker.
pub struct Job {
    pub request: Request,
    pub exchange: Arc<Exchange>,
}

impl Shared {
    pub fn new(blueprint: Arc<Blueprint>) -> Arc<Self> {
        let limits = &blueprint.limits;
        let schedule = Schedule::new(limits.max_instances.get(), limits.queue);
        let gate = Gate::new(&blueprint);
        let shared = Arc::new(Self { blueprint, schedule, gate, emptied: Notify::new() });
        let idle: Weak<Self> = Arc::downgrade(&shared);
        shared.blueprint.memory.register(idle);
        shared
    }

    /// How many wait: for their turn, or for an instance.
    pub fn waiting(&self) -> usize {
        self.gate.line() + self.schedule.waiting()
    }

    /// See [`super::Pool::handle`].
    pub async fn handle(self: &Arc<Self>, mut request: Request) -> Result<Answer, Failure> {
        let pass = self.gate.enter(|| self.schedule.waiting()).await?;
        let queue_end = self.gate.deadline(&pass);
        let has_waited = pass.has_waited();
        let exchange = Exchange::new(Some(pass), request.permit.take(), request.gather_max());
        let exchange = Arc::new(exchange.traced(request.trace.clone()));
        let job = Job { request, exchange: exchange.clone() };
        let waits = self.place(self.schedule.dispatch(job), &exchange)? || has_waited;
        let mut client = Client { shared: self, exchange: &exchange, served: false };

        let head = client.head(queue_end).await;
        if waits && let Some(taken) = exchange.taken_at() {
            self.gate.waited(queue_end, taken);
        }
        let head = head?;
        let mut gathered = Gathered::default();
        gathered.gather(&exchange);
        if gathered.is_cut() {
            return Err(Failure::Guest("the guest did not finish its response".into()));
        }
        client.served = true;
        Ok(Answer {
            tally: self.blueprint.tally.clone(),
            instance: exchange.instance(),
            http: head.map(|()| gathered.into_body(exchange.clone())),
        })
    }

    pub async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.schedule.workers() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Gives back a job that a worker was handed and did not take.
    pub fn give_back(self: &Arc<Self>, job: Job) {
        if !job.exchange.has_client() {
            return;
        }
        let exchange = job.exchange.clone();
        if let Err(failure) = self.place(self.schedule.give_back(job), &exchange) {
            exchange.answer(Err(failure));
            exchange.publish();
        }
    }

    /// Does what became of a job. True where it waits.
    fn place(self: &Arc<Self>, placed: Placed<Job>, exchange: &Exchange) -> Result<bool, Failure> {
        match placed {
            Placed::Taken => {}
            Placed::Start(job) => {
                self.blueprint.tasks.spawn(worker::work(self.clone(), job));
            }
            // A client that left in between did not know the place.
            Placed::Waits(place) => {
                if !exchange.waits_at(place) {
                    self.schedule.withdraw(place);
                }
                return Ok(true);
            }
            Placed::Full(_) => return Err(self.gate.full()),
        }
        Ok(false)
    }

    /// A worker is gone. Its slot goes to who waits longest.
    pub fn closed(self: &Arc<Self>, hopeless: bool) {
        match self.schedule.closed(hopeless) {
            Some(job) => {
                self.blueprint.tasks.spawn(worker::work(self.clone(), job));
            }
            None => self.emptied.notify_waiters(),
        }
    }
}

impl Idle for Shared {
    fn longest_unused(&self) -> Option<Instant> {
        self.schedule.longest_unused()
    }

    fn evict(&self) -> Evicted {
        match self.schedule.dismiss_longest_unused() {
            true => Evicted::Leaving,
            false => Evicted::Nobody,
        }
    }
}

/// Who waits for the answer. Dropped early, it is the client leaving.
struct Client<'a> {
    shared: &'a Arc<Shared>,
    exchange: &'a Arc<Exchange>,
    served: bool,
}

impl Client<'_> {
    /// The head, or a failure once the request is queued at `queue_end`, or has been running
    /// for its timeout.
    ///
    /// This clock is the caller's own: a guest that keeps its worker from running cannot stop it.
    async fn head(&self, queue_end: Instant) -> Result<http::Response<()>, Failure> {
        let timeout = self.shared.blueprint.limits.request_timeout;
        // Looked at often enough that a start is seen before its time is over.
        let mut deadline = queue_end.min(Instant::now() + timeout);
        loop {
            let timer = sleep_until(deadline);
            let mut timer = std::pin::pin!(timer);
            let head = std::future::poll_fn(|cx| match self.exchange.poll_head(cx) {
                Poll::Ready(head) => Poll::Ready(Some(head)),
                Poll::Pending => timer.as_mut().poll(cx).map(|()| None),
            })
            .await;
            if let Some(head) = head {
                return head;
            }
            match self.exchange.started() {
                None if queue_end <= Instant::now() => return Err(self.shared.gate.too_late()),
                None => deadline = queue_end.min(Instant::now() + timeout),
                Some(start) if start + timeout <= Instant::now() => {
                    return Err(Failure::TimedOut);
                }
                Some(start) => deadline = start + timeout,
            }
        }
    }
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        if self.served {
            return;
        }
        if let Some(place) = self.exchange.leave() {
            self.shared.schedule.withdraw(place);
        }
    }
}
