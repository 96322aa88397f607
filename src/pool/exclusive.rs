//! p2 on the plain engine: a request's own task takes an instance, calls it and puts it back.
//!
//! Most requests are served within one poll: no task, no timer and no channel of
//! ours is made for them. What outlives its response, or its client, becomes a
//! task of its own that the pool's timeouts end.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tracing::warn;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::handler::Proxy;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;

use super::body::{Gathered, watched};
use super::exchange::Exchange;
use super::fault::declined;
use super::gate::Gate;
use super::instance::{Blueprint, Instance};
use super::slots::{Bounds, Lease, Slots, Taken};
use super::{Answer, Failure, GATHER_TURNS, KILLED, Killed, NO_RESPONSE, OWN_FAULT, Request};
use crate::guest::head::{self, Head};
use crate::guest::memory::{Evicted, Idle};
use crate::guest::store::EPOCHS;
use crate::stats::Gone;

/// A pool of instances that take one request at a time.
pub struct Exclusive {
    pub blueprint: Arc<Blueprint>,
    pub slots: Arc<Slots<Instance>>,
    gate: Gate,
}

impl Exclusive {
    pub fn new(blueprint: Arc<Blueprint>) -> Self {
        let bounds = Bounds {
            instances: blueprint.limits.max_instances.get(),
            waiting: blueprint.limits.queue,
            idle_timeout: blueprint.limits.idle_timeout,
        };
        let slots = Slots::new(bounds, blueprint.tasks.clone());
        let idle: Weak<Slots<Instance>> = Arc::downgrade(&slots);
        blueprint.memory.register(idle);
        let gate = Gate::new(&blueprint);
        Self { blueprint, slots, gate }
    }

    /// How many wait: for their turn, or for an instance.
    pub fn waiting(&self) -> usize {
        self.gate.line() + self.slots.waiting()
    }

    /// Serves one request. Dropping the future is the client leaving: what runs
    /// goes on under its timeouts, what waits leaves the queue.
    pub async fn handle(&self, mut request: Request) -> Result<Answer, Failure> {
        let pass = self.gate.enter(|| self.slots.waiting()).await?;
        let lease = match self.slots.take() {
            Taken::Now(lease) => {
                self.gate.waited_for(&pass);
                lease
            }
            Taken::Full => return Err(self.gate.full()),
            Taken::Later(waiting) => {
                let deadline = self.gate.deadline(&pass);
                let lease = timeout_at(deadline, waiting).await;
                let lease = lease.map_err(|_| self.gate.too_late())?;
                self.gate.waited(deadline, Instant::now());
                lease
            }
        };

        let exchange = Exchange::new(Some(pass), request.permit.take(), request.gather_max());
        let exchange = Arc::new(exchange.traced(request.trace.clone()));
        let mut call = Call::new(&self.blueprint, lease, request, &exchange);
        let head = call.head().await?;

        let mut gathered = Gathered::default();
        for _ in 0..GATHER_TURNS {
            if gathered.gather(&exchange) || call.is_over() {
                break;
            }
            // Room in the body's buffer may be all that the guest waits for. Outside of
            // tokio's budget, or a busy connection's small answers would be streams.
            unconstrained(poll_fn(|cx| {
                call.poll(cx);
                Poll::Ready(())
            }))
            .await;
        }
        gathered.gather(&exchange);
        if gathered.is_cut() {
            return Err(Failure::Guest("the guest did not finish its response".into()));
        }
        call.detach();
        Ok(Answer {
            tally: self.blueprint.tally.clone(),
            instance: exchange.instance(),
            http: head.map(|()| gathered.into_body(exchange)),
        })
    }
}

impl Idle for Slots<Instance> {
    fn longest_unused(&self) -> Option<Instant> {
        self.longest_unused()
    }

    fn evict(&self) -> Evicted {
        match self.take_longest_unused() {
            Some(mut instance) => {
                instance.gone = Gone::Evicted;
                Evicted::Gone
            }
            None => Evicted::Nobody,
        }
    }
}

/// A request on its way through a guest. Dropping it leaves the guest to a task of its own.
struct Call {
    blueprint: Arc<Blueprint>,
    exchange: Arc<Exchange>,
    /// `None` once it is over.
    run: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Made only for a guest that does not answer within the first poll.
    timer: Option<Pin<Box<Sleep>>>,
    /// It is in a task of its own.
    detached: bool,
}

impl Call {
    fn new(
        blueprint: &Arc<Blueprint>,
        lease: Lease<Instance>,
        request: Request,
        exchange: &Arc<Exchange>,
    ) -> Self {
        let run = run(blueprint.clone(), lease, request, exchange.clone());
        Self {
            blueprint: blueprint.clone(),
            exchange: exchange.clone(),
            run: Some(Box::pin(run)),
            timer: None,
            detached: false,
        }
    }

    /// Drives the guest until there is a response head or none will come.
    async fn head(&mut self) -> Result<http::Response<()>, Failure> {
        poll_fn(|cx| {
            self.poll(cx);
            match self.exchange.take_head() {
                Some(head) => Poll::Ready(head),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Drives the guest, and ends it when its time is over.
    fn poll(&mut self, cx: &mut Context<'_>) {
        let Some(run) = &mut self.run else { return };
        let poll = catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(cx)));
        match poll {
            Ok(Poll::Ready(())) => self.run = None,
            Ok(Poll::Pending) => self.poll_timer(cx),
            Err(_) => {
                if self.blueprint.tally.may_warn() {
                    warn!(app = self.blueprint.app(), "tidegate failed while it served a request");
                }
                self.end(Failure::Guest(OWN_FAULT.into()));
            }
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) {
        self.exchange.wake_driver(cx.waker());
        loop {
            let due = self.exchange.due(&self.blueprint.limits).at;
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if timer.deadline() != due {
                timer.as_mut().reset(due);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
            if self.exchange.due(&self.blueprint.limits).at <= Instant::now() {
                return self.end(Failure::TimedOut);
            }
        }
    }

    /// Ends the guest where it stands. What it has produced still reaches the client.
    fn end(&mut self, failure: Failure) {
        if self.exchange.ended().is_none() || failure != Failure::TimedOut {
            self.exchange.settle(failure);
        } else if self.blueprint.tally.may_warn() {
            let (app, instance) = (self.blueprint.app(), self.exchange.instance());
            warn!(app, instance, "the guest's work after its response took too long");
        }
        // The store goes, and its slot is free.
        self.run = None;
    }

    fn is_over(&self) -> bool {
        self.run.is_none()
    }

    /// Leaves what remains of the guest's work to a task.
    fn detach(&mut self) {
        let Some(run) = self.run.take() else { return };
        let mut call = Call {
            blueprint: self.blueprint.clone(),
            exchange: self.exchange.clone(),
            run: Some(run),
            timer: self.timer.take(),
            detached: true,
        };
        self.blueprint.tasks.spawn(async move {
            poll_fn(|cx| {
                call.poll(cx);
                match call.is_over() {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            })
            .await;
        });
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // A task is dropped only with its runtime, which takes no new ones: the guest ends here.
        if self.run.is_some() && !self.detached {
            self.exchange.leave();
            self.detach();
        }
    }
}

/// The whole life of a request on an instance. Dropped anywhere, it drops the store.
async fn run(
    blueprint: Arc<Blueprint>,
    mut lease: Lease<Instance>,
    request: Request,
    exchange: Arc<Exchange>,
) {
    let since = exchange.start();
    let mut instance = match lease.instance.take() {
        Some(instance) => instance,
        None => match Instance::new(&blueprint).await {
            Ok(mut instance) if !exchange.has_client() => {
                // It left while the instance was made, which is as good for the next one.
                instance.gone = Gone::Idle;
                return lease.put_back(instance);
            }
            Ok(instance) => {
                exchange.made();
                instance
            }
            Err(failure) => {
                if matches!(failure, Failure::Busy { .. }) {
                    lease.close();
                }
                return exchange.answer(Err(failure));
            }
        },
    };
    exchange.taken_by(instance.id);
    // Who drops it where it runs ends it.
    instance.gone = Gone::Timeout;
    instance.member.begin(request.id, since);
    // After the instance, so dropped before it.
    let _settling = Settling(&exchange);

    let id = request.id;
    // What is in the body when the guest ends is all there will be, so each
    // arm settles the exchange before the store can go.
    match call(&blueprint, &mut instance, request, &exchange).await {
        Ok(()) => {
            let complete = exchange.settle(Failure::Guest(NO_RESPONSE.into()));
            if !complete {
                instance.gone = Gone::Failed;
                blueprint.unfinished(instance.id, id);
            } else if !instance.is_reusable() {
                instance.gone = Gone::UsedUp;
            } else {
                instance.store.data_mut().rest();
                instance.store.data().output.set_request(None);
                instance.gone = Gone::Idle;
                instance.member.end();
                lease.put_back(instance);
            }
        }
        Err(error) if error.is::<Killed>() => {
            instance.gone = Gone::Killed;
            exchange.settle(Failure::Guest(KILLED.into()));
        }
        Err(error) => {
            exchange.settle(instance.failed(Some(id), 1, &error));
        }
    }
}

/// Settles an exchange before its store goes where no code of ours says so: in a
/// panic, or with the runtime. A body that lost its store looks finished.
struct Settling<'a>(&'a Exchange);

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        self.0.settle(Failure::Guest(OWN_FAULT.into()));
    }
}

async fn call(
    blueprint: &Blueprint,
    instance: &mut Instance,
    request: Request,
    exchange: &Arc<Exchange>,
) -> wasmtime::Result<()> {
    let Proxy::P2(proxy) = &instance.proxy else {
        wasmtime::bail!("a p3 component on the plain engine");
    };
    let store = &mut instance.store;
    let member = &instance.member;
    member.serves_one_more();
    store.data().output.set_request(Some(request.id));
    store.data_mut().calls_for(request.trace.clone());
    // While it was idle the epoch went on; without this it would yield at once.
    store.set_epoch_deadline(EPOCHS);
    store.data_mut().begin();
    exchange.report_to(store.data_mut().sampler.begin(request.id));

    store.data_mut().set_chunks(request.chunks());
    let (id, instance_id, source) = (request.id, instance.id, blueprint.template.output.clone());
    let scheme = scheme(&request);
    let (method, uri) = (request.http.method().clone(), request.http.uri().clone());
    let http = request.http.map(|body| watched(body, exchange));
    let mut view = store.data_mut().http();
    let incoming = view.new_incoming_request(scheme, http)?;
    let headers = head::headers(&mut view, &incoming)?;
    let outparam = view.new_response_outparam_from_callback({
        let exchange = exchange.clone();
        move |result| {
            exchange.answer(result.map_err(|code| declined(&source, instance_id, id, &code)));
        }
    })?;

    store.data_mut().budget.begin(None, Head { id, method, uri, headers }, None);

    let _running = blueprint.component.engines.running();
    let handler = proxy.wasi_http_incoming_handler();
    let mut called = pin!(instance.pace.drive(handler.call_handle(store, incoming, outparam)));
    poll_fn(|cx| {
        let called = called.as_mut().poll(cx);
        if called.is_pending() && member.poll_killed(cx) {
            return Poll::Ready(Err(Killed.into()));
        }
        // The end of its response wakes it.
        if called.is_pending() && exchange.ended().is_some() {
            member.answered();
        }
        called
    })
    .await
}

/// The scheme as p2 has it.
pub fn scheme(request: &Request) -> Scheme {
    match request.http.uri().scheme() {
        Some(scheme) if *scheme == http::uri::Scheme::HTTPS => Scheme::Https,
        _ => Scheme::Http,
    }
}
