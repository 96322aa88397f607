//! `cpu_time`: how much CPU each request on an instance has used.
//!
//! Counted at ticks only, so that most requests never read a clock. A p3 guest
//! with several requests is charged by the task that the tick interrupts, which
//! is that of one request: no neighbour pays for it.

use std::time::Duration;

use wasmtime::component::GuestTaskId;

use crate::request_id::RequestId;

/// The requests of a store, and what each has used.
pub struct Budget {
    limit: Duration,
    calls: Vec<Call>,
}

struct Call {
    /// `None` where requests are served one at a time, and for the instance's start.
    task: Option<GuestTaskId>,
    request: Option<RequestId>,
    used: Duration,
}

/// A request has used all of its `cpu_time`; the guest was ended where it was.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("it used more CPU than its cpu_time")]
pub struct Exhausted {
    /// `None`: it was the instance's start.
    pub request: Option<RequestId>,
}

impl Budget {
    /// Each request, and the instance's start, may use so much.
    pub fn new(limit: Duration) -> Self {
        let start = Call { task: None, request: None, used: Duration::ZERO };
        Self { limit, calls: vec![start] }
    }

    /// A request begins, in this task of the guest.
    ///
    /// It stays when it has its answer, and pays for what its task does after that, until
    /// another begins in the same task: wasmtime uses the numbers of ended tasks again.
    pub fn begin(&mut self, task: Option<GuestTaskId>, request: RequestId) {
        let call = Call { task, request: Some(request), used: Duration::ZERO };
        match self.calls.iter_mut().find(|call| call.task == task) {
            Some(ended) => *ended = call,
            None => self.calls.push(call),
        }
    }

    /// The request whose task this is.
    pub fn request(&self, task: Option<GuestTaskId>) -> Option<RequestId> {
        self.calls.iter().find(|call| call.task == task)?.request
    }

    /// Charges the request whose task runs.
    ///
    /// # Errors
    /// When that was its last.
    pub fn charge(&mut self, task: Option<GuestTaskId>, used: Duration) -> Result<(), Exhausted> {
        let Some(call) = self.calls.iter_mut().find(|call| call.task == task) else {
            return Ok(());
        };
        call.used = call.used.saturating_add(used);
        match call.used > self.limit {
            true => Err(Exhausted { request: call.request }),
            false => Ok(()),
        }
    }
}
