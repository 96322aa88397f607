//! The handler pool: which instance takes which request, for how long, and what becomes of it.
//!
//! Knows no hosts, TLS or files. Each request runs on an instance for at least
//! its timeout and never more than twice it; none is orphaned; work after the
//! response is finished under a timeout of its own; idle instances leave.

mod body;
mod call;
mod census;
mod drain;
mod exchange;
mod exclusive;
mod fault;
mod gate;
mod instance;
mod ledger;
mod roster;
mod schedule;
mod shared;
mod slots;
#[cfg(test)]
mod tests;
mod worker;

/// What the model checks replace.
mod sync {
    pub use std::sync::{Mutex, MutexGuard};
}

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use wasmtime_wasi_http::WasiBody;

pub use body::Body;
pub use census::Census;
pub use drain::Drain;
pub use exchange::Cut as BodyError;
pub use fault::{Fault, Insight};
pub use instance::Blueprint;
pub use roster::{InFlight, Roster, Seen, State};

use crate::config::Limits;
use crate::guest::profile::Demand;
use crate::guest::store::Chunks;
use crate::limit::Tally;
use crate::request_id::RequestId;
use crate::traces::Trace;
use exclusive::Exclusive;
use shared::Shared;

/// How often a response is looked at for more frames before its head is sent.
const GATHER_TURNS: usize = 4;

/// How much of a response is gathered before its head is sent, and how much where it is one
/// of many on its connection.
const GATHER_MAX: usize = 64 << 10;
const GATHER_CROWDED_MAX: usize = 12 << 10;

/// After this a client that was refused may try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

const NO_RESPONSE: &str = "the guest returned without a response";

/// What requests are told when the host itself fails under them.
const OWN_FAULT: &str = "tidegate failed";

/// What requests are told whose instance the operator has ended.
const KILLED: &str = "its operator has ended the instance";

/// The operator has ended an instance.
#[derive(Debug, thiserror::Error)]
#[error("{KILLED}")]
struct Killed;

/// One request for a guest.
pub struct Request {
    pub id: RequestId,
    /// Its URI is absolute (`https://authority/path`), its headers are fit for a guest.
    pub http: http::Request<WasiBody>,
    /// Given back when the response is complete; when the client leaves before that, only when
    /// the guest's work has ended.
    pub permit: Option<OwnedSemaphorePermit>,
    /// Its response is one of many on a connection, which together are to hold little memory
    /// when their client does not read them.
    pub crowded: bool,
    /// The part that it has in a trace.
    pub trace: Option<Arc<Trace>>,
}

/// A guest's response.
pub struct Answer {
    pub http: http::Response<Body>,
    /// Which of the app's instances made it.
    pub instance: u64,
    /// The app's, for what becomes of the body.
    pub tally: Arc<Tally>,
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Every instance is taken and the queue is full, or its wait was too long, or there is no
    /// memory for another instance.
    #[error("busy")]
    Busy { retry_after: Duration },
    /// The app takes no requests for now: its operator has said so.
    #[error("drained")]
    Drained,
    /// The guest sent no response head within the request timeout.
    #[error("the guest did not answer in time")]
    TimedOut,
    /// The guest computed for longer than its `cpu_time`; what a developer may see of it, in an
    /// app in `dev`.
    #[error("the guest used up its cpu_time")]
    Exhausted(Option<Arc<Insight>>),
    /// The guest trapped, failed, or ended without a response.
    #[error("{0}")]
    Guest(Fault),
    /// The request's body is larger than allowed.
    #[error("body too large")]
    TooLarge,
}

impl Request {
    fn chunks(&self) -> Chunks {
        if self.crowded { Chunks::NARROW } else { Chunks::WIDE }
    }

    fn gather_max(&self) -> usize {
        if self.crowded { GATHER_CROWDED_MAX } else { GATHER_MAX }
    }
}

impl Failure {
    fn busy() -> Self {
        Self::Busy { retry_after: RETRY_AFTER }
    }
}

/// One app's instances. Clones share them.
#[derive(Clone)]
pub struct Pool(Arc<Kind>);

/// A pool that others keep, as long as they do.
#[derive(Clone)]
pub struct WeakPool(Weak<Kind>);

enum Kind {
    Exclusive(Exclusive),
    Shared(Arc<Shared>),
}

impl Pool {
    /// An empty pool; instances are made as requests need them.
    pub fn new(blueprint: Blueprint) -> Self {
        let blueprint = Arc::new(blueprint);
        Self(Arc::new(match blueprint.component.is_exclusive() {
            true => Kind::Exclusive(Exclusive::new(blueprint)),
            false => Kind::Shared(Shared::new(blueprint)),
        }))
    }

    /// Makes one instance and drops it, as proof that the component starts.
    ///
    /// # Errors
    /// The reason that it does not, in words.
    pub async fn prove(blueprint: Blueprint) -> Result<Blueprint, Failure> {
        let blueprint = Arc::new(blueprint);
        let timeout = blueprint.limits.request_timeout;
        tokio::time::timeout(timeout, instance::Instance::prove(&blueprint))
            .await
            .unwrap_or(Err(Failure::TimedOut))?;
        Arc::try_unwrap(blueprint).map_err(|_| Failure::busy())
    }

    /// Serves one request.
    ///
    /// Dropping the future is the client leaving: a request that waits leaves
    /// the queue, one that runs sees its streams closed and ends, or is ended,
    /// under its timeouts.
    ///
    /// # Errors
    /// Why there is no response; the reason is in the log once.
    pub async fn handle(&self, request: Request) -> Result<Answer, Failure> {
        let handled = match &*self.0 {
            Kind::Exclusive(pool) => pool.handle(request).await,
            Kind::Shared(pool) => pool.handle(request).await,
        };
        if let Err(Failure::TimedOut | Failure::Exhausted(_)) = handled {
            self.blueprint().stats.timeouts.fetch_add(1, Relaxed);
        }
        match handled {
            Err(mut failure) if self.blueprint().dev => {
                Box::pin(self.blueprint().locate(&mut failure)).await;
                Err(failure)
            }
            handled => handled,
        }
    }

    /// The pool, for those who do not keep it.
    pub fn downgrade(&self) -> WeakPool {
        WeakPool(Arc::downgrade(&self.0))
    }

    /// Whether both are the same pool.
    pub fn is(&self, other: &Pool) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// What of the app is counted, and how often it may be warned about.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.blueprint().tally
    }

    /// Where samples of the app are asked for.
    pub fn demand(&self) -> &Arc<Demand> {
        &self.blueprint().template.demand
    }

    /// What the app may use. Those of bodies are for the server to see to.
    pub fn limits(&self) -> &Limits {
        &self.blueprint().limits
    }

    /// Bytes of the node's memory that the app's instances hold, those of its other pools too.
    pub fn memory(&self) -> usize {
        self.blueprint().memory.used()
    }

    /// CPU that the app's guests have used, in all of its pools.
    pub fn cpu(&self) -> Duration {
        self.blueprint().template.cpu.used()
    }

    /// The generation that made it.
    pub fn generation(&self) -> u64 {
        self.blueprint().generation
    }

    fn blueprint(&self) -> &Blueprint {
        match &*self.0 {
            Kind::Exclusive(pool) => &pool.blueprint,
            Kind::Shared(pool) => &pool.blueprint,
        }
    }

    /// Instances alive, idle ones included.
    pub fn live(&self) -> usize {
        match &*self.0 {
            Kind::Exclusive(pool) => pool.slots.live(),
            Kind::Shared(pool) => pool.schedule.workers(),
        }
    }

    /// Idle instances leave: those there are at once, those to come as soon as they are idle.
    /// `false` takes that back.
    pub fn evict(&self, evicting: bool) {
        self.blueprint().evicting.store(evicting, Relaxed);
        match &*self.0 {
            Kind::Exclusive(pool) => pool.slots.evict(evicting),
            Kind::Shared(pool) => pool.schedule.evict(evicting),
        }
    }

    /// Ends every instance with its requests, wherever its guest is; those that wait, and those
    /// that come, get fresh ones. Returns how many there were.
    pub fn kill(&self) -> usize {
        let count = self.live();
        // First: who comes to its end meanwhile was killed.
        self.blueprint().roster.kill();
        if let Kind::Exclusive(pool) = &*self.0 {
            // Nobody drives those that are idle.
            pool.slots.drop_idle();
        }
        count
    }

    /// Resolves when no instance is left.
    pub async fn emptied(&self) {
        match &*self.0 {
            Kind::Exclusive(pool) => pool.slots.emptied().await,
            Kind::Shared(pool) => pool.emptied().await,
        }
    }
}

impl WeakPool {
    /// The pool, if somebody still has it.
    pub fn upgrade(&self) -> Option<Pool> {
        self.0.upgrade().map(Pool)
    }
}
