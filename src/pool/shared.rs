//! p3, and p2 that uses 0.3 interfaces: workers that each drive one store and serve several requests on it.
//!
//! A worker is offered requests only while it waits for something: it lists
//! itself once its event loop has nothing to do, and the most recently listed
//! one is asked first. A request is handed to a worker under the same lock that
//! lists it, so no wake-up is lost and none is given twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::body::Gathered;
use super::exchange::Exchange;
use super::instance::Blueprint;
use super::{Answer, Failure, MAX_WAITING, Request, worker};

/// A pool of instances that take several requests at a time.
pub struct Shared {
    pub blueprint: Arc<Blueprint>,
    schedule: Mutex<Schedule>,
    emptied: Notify,
}

struct Schedule {
    /// Workers that can take a request, most recently listed last.
    listed: Vec<Arc<Seat>>,
    live: usize,
    /// By arrival. Who gives up is taken out at once.
    waiting: BTreeMap<u64, Job>,
    arrivals: u64,
    evicting: bool,
}

/// A request for a worker.
pub struct Job {
    pub request: Request,
    pub exchange: Arc<Exchange>,
}

/// Where a worker is reached.
#[derive(Default)]
pub struct Seat {
    inbox: Mutex<Option<Job>>,
    pub waker: AtomicWaker,
}

impl Seat {
    /// The request that was handed over, if there is one.
    pub fn take(&self) -> Option<Job> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Hands a request over.
    pub fn put(&self, job: Job) {
        *self.inbox.lock().unwrap_or_else(PoisonError::into_inner) = Some(job);
        self.waker.wake();
    }
}

impl Shared {
    pub fn new(blueprint: Arc<Blueprint>) -> Arc<Self> {
        Arc::new(Self {
            blueprint,
            schedule: Mutex::new(Schedule {
                listed: Vec::new(),
                live: 0,
                waiting: BTreeMap::new(),
                arrivals: 0,
                evicting: false,
            }),
            emptied: Notify::new(),
        })
    }

    /// See [`super::Pool::handle`].
    pub async fn handle(self: &Arc<Self>, request: Request) -> Result<Answer, Failure> {
        let exchange = Arc::new(Exchange::new());
        let job = Job { request, exchange: exchange.clone() };
        let place = self.dispatch(job)?;
        let mut client = Client { shared: self, exchange: &exchange, place, served: false };

        let head = client.head().await?;
        let mut gathered = Gathered::default();
        gathered.gather(&exchange);
        if gathered.is_cut() {
            return Err(Failure::Guest("the guest did not finish its response".into()));
        }
        client.served = true;
        Ok(Answer {
            instance: exchange.instance(),
            http: head.map(|()| gathered.into_body(exchange.clone())),
        })
    }

    pub fn live(&self) -> usize {
        self.lock().live
    }

    pub fn evict(&self, evicting: bool) {
        let mut schedule = self.lock();
        schedule.evicting = evicting;
        if evicting {
            schedule.listed.iter().for_each(|seat| seat.waker.wake());
        }
    }

    pub fn is_evicting(&self) -> bool {
        self.lock().evicting
    }

    pub async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.live() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Gives a job to the most recently listed worker, to a new one, or to the
    /// queue; then it is the place in it.
    fn dispatch(self: &Arc<Self>, job: Job) -> Result<Option<u64>, Failure> {
        let mut schedule = self.lock();
        if let Some(seat) = schedule.listed.pop() {
            seat.put(job);
            return Ok(None);
        }
        if schedule.live < self.blueprint.limits.max_instances.get() {
            schedule.live += 1;
            drop(schedule);
            self.blueprint.tasks.spawn(worker::work(self.clone(), job));
            return Ok(None);
        }
        if schedule.waiting.len() >= MAX_WAITING {
            return Err(Failure::busy());
        }
        let arrival = schedule.arrivals;
        schedule.arrivals += 1;
        schedule.waiting.insert(arrival, job);
        Ok(Some(arrival))
    }

    /// Gives back a job that a worker was handed and did not take.
    pub fn redispatch(self: &Arc<Self>, job: Job) {
        if !job.exchange.has_client() {
            return;
        }
        let exchange = job.exchange.clone();
        if let Err(failure) = self.dispatch(job) {
            exchange.answer(Err(failure));
            exchange.publish();
        }
    }

    /// A worker can take a request: the one that waits longest, or a later one through its seat.
    pub fn list(&self, seat: &Arc<Seat>) -> Option<Job> {
        let mut schedule = self.lock();
        if let Some((_, job)) = schedule.waiting.pop_first() {
            return Some(job);
        }
        schedule.listed.push(seat.clone());
        None
    }

    /// A worker can take none for now. A job that was handed to it just before comes back.
    pub fn unlist(&self, seat: &Arc<Seat>) -> Option<Job> {
        let mut schedule = self.lock();
        if let Some(at) = schedule.listed.iter().rposition(|s| Arc::ptr_eq(s, seat)) {
            schedule.listed.remove(at);
        }
        seat.take()
    }

    /// A worker is gone. Its slot goes to who waits longest.
    pub fn closed(self: &Arc<Self>) {
        let mut schedule = self.lock();
        let next = schedule.waiting.pop_first();
        match next {
            Some((_, job)) => {
                drop(schedule);
                self.blueprint.tasks.spawn(worker::work(self.clone(), job));
            }
            None => {
                schedule.live -= 1;
                if schedule.live == 0 {
                    self.emptied.notify_waiters();
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who waits for the answer. Dropped early, it is the client leaving.
struct Client<'a> {
    shared: &'a Arc<Shared>,
    exchange: &'a Arc<Exchange>,
    place: Option<u64>,
    served: bool,
}

impl Client<'_> {
    /// The head, or a failure once the request has been queued or running for its timeout.
    ///
    /// This clock is the caller's own: a guest that keeps its worker from running cannot stop it.
    async fn head(&self) -> Result<http::Response<()>, Failure> {
        let limits = &self.shared.blueprint.limits;
        let mut deadline = Instant::now() + limits.request_timeout;
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
                None => return Err(Failure::busy()),
                Some(start) if start + limits.request_timeout <= Instant::now() => {
                    return Err(Failure::TimedOut);
                }
                Some(start) => deadline = start + limits.request_timeout,
            }
        }
    }
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        if self.served {
            return;
        }
        self.exchange.leave();
        if let Some(place) = self.place {
            self.shared.lock().waiting.remove(&place);
        }
    }
}
