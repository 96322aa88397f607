//! What all instances of an app are made from, and one of them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::task::TaskTracker;
use tracing::warn;
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::handler::Proxy;

use super::Failure;
use crate::config::Limits;
use crate::guest::budget::Exhausted;
use crate::guest::memory::{Account, Bounds, Room};
use crate::guest::output::Source;
use crate::guest::pace::Pace;
use crate::guest::profile::Profiler;
use crate::guest::store::Template;
use crate::guest::{Component, State};
use crate::limit::{Limit, Tally};
use crate::request_id::RequestId;

/// How long a proof waits for room before it tries again.
const NEXT_PROOF: Duration = Duration::from_millis(50);

/// A component with the settings of one app: what its pool makes instances of.
pub struct Blueprint {
    pub component: Arc<Component>,
    pub template: Template,
    pub limits: Limits,
    /// What the app's instances take of the node's memory, in this pool and in those before it.
    pub memory: Arc<Account>,
    /// How often the app reached its limits, in this pool and in those before it.
    pub tally: Arc<Tally>,
    pub profiler: Option<Profiler>,
    /// The generation that made the pool, for names in logs and profiles.
    pub generation: u64,
    /// Everything the pool spawns; shutdown waits for it.
    pub tasks: TaskTracker,
    pub count: AtomicU64,
}

/// A store and the instance in it.
pub struct Instance {
    /// From 1, in the order they were made by their pool.
    pub id: u64,
    pub store: Store<State>,
    pub proxy: Proxy,
    /// What drives its guest.
    pub pace: Arc<Pace>,
    /// Requests it took.
    pub served: usize,
    pub blueprint: Arc<Blueprint>,
    /// After the store, so given back when that is gone.
    pub room: Room,
}

/// Why there is no instance.
enum Unmade {
    /// There is no room for it; that is tallied.
    Busy,
    Failed(wasmtime::Error),
}

impl Instance {
    /// Makes a store and instantiates the component in it.
    ///
    /// # Errors
    /// `Busy` when there is no memory or no room in the engine left; else the guest's own fault.
    pub async fn new(blueprint: &Arc<Blueprint>) -> Result<Self, Failure> {
        let id = blueprint.count.fetch_add(1, Ordering::Relaxed) + 1;
        Self::make(blueprint, id).await.map_err(|unmade| match unmade {
            Unmade::Busy => Failure::busy(),
            Unmade::Failed(error) => blueprint.failed(id, None, "could not start", &error),
        })
    }

    /// Makes one and drops it: it counts for nothing, and its failure is the caller's to tell.
    ///
    /// Waits where there is no room for it now.
    pub async fn prove(blueprint: &Arc<Blueprint>) -> Result<(), Failure> {
        loop {
            match Self::make(blueprint, 0).await {
                Ok(_) => return Ok(()),
                Err(Unmade::Busy) => tokio::time::sleep(NEXT_PROOF).await,
                Err(Unmade::Failed(error)) => return Err(Failure::Guest(explain(&error).0)),
            }
        }
    }

    async fn make(blueprint: &Arc<Blueprint>, id: u64) -> Result<Self, Unmade> {
        loop {
            match Self::try_to_make(blueprint, id).await {
                Err(Unmade::Failed(error)) if error.is::<PoolConcurrencyLimitError>() => {
                    if !blueprint.memory.node().make_room().await {
                        blueprint.tally.reached(Limit::Instances, error);
                        return Err(Unmade::Busy);
                    }
                }
                made => return made,
            }
        }
    }

    async fn try_to_make(blueprint: &Arc<Blueprint>, id: u64) -> Result<Self, Unmade> {
        let Blueprint { component, memory, tally, limits, .. } = &**blueprint;
        let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
        let bounds = Bounds { instance: bytes(limits.memory), app: bytes(limits.app_memory) };
        let expected = component.initial_memory.load(Ordering::Relaxed).min(bounds.instance);
        let on = (&component.engines, component.kind);
        let room = Room::take(memory, bounds, tally, expected, on).await;
        let room = room.map_err(|_| Unmade::Busy)?;

        let profiler = blueprint.profiler.as_ref().filter(|_| id > 0);
        let recording = profiler.and_then(|profiler| {
            profiler.start(&component.engines, component.kind, &component.compiled)
        });
        let template = &blueprint.template;
        let limiter = room.limiter();
        let mut store =
            State::store(component, template, blueprint.generation, id, recording, limiter);
        let pace = store.data().pace.clone();
        let proxy = match component.instantiate(&mut store).await {
            Ok(proxy) => proxy,
            Err(_) if room.was_short() => return Err(Unmade::Busy),
            Err(error) => return Err(Unmade::Failed(error)),
        };
        component.initial_memory.store(room.used(), Ordering::Relaxed);
        Ok(Self { id, store, proxy, pace, served: 0, blueprint: blueprint.clone(), room })
    }

    /// Logs that its guest failed, and makes the failure that requests see.
    pub fn failed(&mut self, request: Option<RequestId>, error: &wasmtime::Error) -> Failure {
        if error.downcast_ref() == Some(&Trap::StackOverflow) {
            self.room.stack_was_filled();
        }
        self.blueprint.failed(self.id, request, "failed", error)
    }

    /// Whether it may take another request after those it has served.
    pub fn is_reusable(&mut self) -> bool {
        self.store.data_mut().count_holdings().is_ok()
            && self.served < self.blueprint.limits.max_requests_per_instance.get()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.store.data_mut().end_calls();
        self.room.leaves(self.store.data_mut().holdings());
        if let Some(recording) = self.store.data_mut().recording.take()
            && let Some(profiler) = &self.blueprint.profiler
        {
            profiler.finish(self.id, recording);
        }
    }
}

impl Blueprint {
    /// The app's name.
    pub fn app(&self) -> &str {
        &self.template.app
    }

    /// Logs what a guest did wrong, once, and makes the failure that its requests see.
    ///
    /// An exit with code 0 is a guest that will not be used again, and no fault. One that has
    /// used up its `cpu_time` is counted as that.
    fn failed(
        &self,
        instance: u64,
        request: Option<RequestId>,
        what: &str,
        error: &wasmtime::Error,
    ) -> Failure {
        if let Some(I32Exit(0)) = error.downcast_ref() {
            return Failure::Guest("the guest exited".into());
        }
        if let Some(exhausted) = error.downcast_ref::<Exhausted>() {
            match exhausted.request {
                Some(request) => self.tally.reached(Limit::CpuTime, request),
                None => self.tally.reached(Limit::CpuTime, "the start of an instance"),
            }
            return Failure::TimedOut;
        }
        if self.tally.may_warn() {
            let app = self.app();
            let generation = self.generation;
            let request = request.map(tracing::field::display);
            // Not `{error:?}`: that holds the host's own backtrace where RUST_BACKTRACE is set.
            let (reason, backtrace) = explain(error);
            warn!(app, generation, instance, request, backtrace, "the guest {what}: {reason}");
        }
        Failure::Guest(format!("the guest {what}"))
    }

    /// Logs a guest that returned before it had finished its response.
    pub fn unfinished(&self, instance: u64, request: RequestId) {
        if self.tally.may_warn() {
            let app = self.app();
            warn!(app, instance, %request, "the guest returned before its response was finished");
        }
    }
}

/// Why a guest failed, and where in it, if it got so far.
fn explain(error: &wasmtime::Error) -> (String, Option<String>) {
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(ToString::to_string);
    let reason: Vec<_> = error
        .chain()
        .map(ToString::to_string)
        .filter(|cause| !cause.contains("wasm backtrace:"))
        .collect();
    (reason.join(": "), backtrace)
}

/// Logs a guest that answered with an error code, and makes the failure that its request sees.
pub fn declined(
    source: &Source,
    instance: u64,
    request: RequestId,
    code: &dyn fmt::Debug,
) -> Failure {
    if source.tally.may_warn() {
        let app = &*source.app;
        warn!(app, instance, %request, "the guest answered with the error {code:?}");
    }
    Failure::Guest("the guest answered with an error".into())
}
