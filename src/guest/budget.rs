//! The requests on an instance: how much of their `cpu_time` each has used, and what it is.
//!
//! Counted at ticks only, so that most requests never read a clock. A p3 guest
//! with several requests is charged by the task that the tick interrupts, which
//! is that of one request: no neighbour pays for it.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::GuestTaskId;

use super::head::Head;
use crate::request_id::RequestId;
use crate::traces::Trace;

/// The requests of a store, and what each has used.
pub struct Budget {
    limit: Duration,
    calls: Vec<Call>,
}

struct Call {
    /// `None` where requests are served one at a time, and for the instance's start.
    task: Option<GuestTaskId>,
    /// `None` for the instance's start, and once the instance rests.
    request: Option<Head>,
    /// The part that the request has in a trace.
    trace: Option<Arc<Trace>>,
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
        let start = Call { task: None, request: None, trace: None, used: Duration::ZERO };
        Self { limit, calls: vec![start] }
    }

    /// A request begins, in this task of the guest.
    ///
    /// It stays when it has its answer, and pays for what its task does after that, until
    /// another begins in the same task: wasmtime uses the numbers of ended tasks again.
    pub fn begin(&mut self, task: Option<GuestTaskId>, request: Head, trace: Option<Arc<Trace>>) {
        let call = Call { task, request: Some(request), trace, used: Duration::ZERO };
        match self.calls.iter_mut().find(|call| call.task == task) {
            Some(ended) => *ended = call,
            None => self.calls.push(call),
        }
    }

    /// The request whose task this is.
    pub fn request(&self, task: Option<GuestTaskId>) -> Option<RequestId> {
        let call = self.calls.iter().find(|call| call.task == task)?;
        Some(call.request.as_ref()?.id)
    }

    /// Takes the head of this request, if it is one of those here.
    pub fn take_head(&mut self, request: RequestId) -> Option<Head> {
        let is_it = |call: &&mut Call| call.request.as_ref().is_some_and(|it| it.id == request);
        self.calls.iter_mut().find(is_it)?.request.take()
    }

    /// No request is left: an idle instance holds no heads.
    pub fn rest(&mut self) {
        self.calls.iter_mut().for_each(|call| call.request = None);
    }

    /// The part in a trace that the request has whose task this is.
    pub fn trace(&self, task: Option<GuestTaskId>) -> Option<&Arc<Trace>> {
        self.calls.iter().find(|call| call.task == task)?.trace.as_ref()
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
            true => Err(Exhausted { request: call.request.as_ref().map(|head| head.id) }),
            false => Ok(()),
        }
    }
}
