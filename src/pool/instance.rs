//! What all instances of an app are made from, and one of them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::task::TaskTracker;
use tracing::warn;
use wasmtime::{PoolConcurrencyLimitError, Store, WasmBacktrace};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::handler::Proxy;

use super::Failure;
use crate::config::Limits;
use crate::guest::budget::Exhausted;
use crate::guest::pace::Pace;
use crate::guest::profile::{Profiler, Recording};
use crate::guest::store::Template;
use crate::guest::{Component, State};
use crate::limit::{Limit, Tally};
use crate::request_id::RequestId;

/// A component with the settings of one app: what its pool makes instances of.
pub struct Blueprint {
    pub component: Arc<Component>,
    pub template: Template,
    pub limits: Limits,
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
}

impl Instance {
    /// Makes a store and instantiates the component in it.
    ///
    /// # Errors
    /// `Busy` when the engine has no room left; else the guest's own fault.
    pub async fn new(blueprint: &Arc<Blueprint>) -> Result<Self, Failure> {
        let id = blueprint.count.fetch_add(1, Ordering::Relaxed) + 1;
        let component = &blueprint.component;
        let recording = blueprint.profiler.as_ref().and_then(|profiler| {
            profiler.start(&component.engines, component.kind, &component.compiled)
        });
        Self::make(blueprint, id, recording).await.map_err(|error| match Self::no_room(&error) {
            true => {
                warn!(
                    app = blueprint.app(),
                    "no room for another instance on this node: {error:#}"
                );
                Failure::busy()
            }
            false => blueprint.failed(id, None, "could not start", &error),
        })
    }

    /// Makes one and drops it: it counts for nothing, and its failure is the caller's to tell.
    pub async fn prove(blueprint: &Arc<Blueprint>) -> Result<(), Failure> {
        match Self::make(blueprint, 0, None).await {
            Ok(_) => Ok(()),
            Err(error) if Self::no_room(&error) => Err(Failure::busy()),
            Err(error) => Err(Failure::Guest(explain(&error).0)),
        }
    }

    async fn make(
        blueprint: &Arc<Blueprint>,
        id: u64,
        recording: Option<Recording>,
    ) -> wasmtime::Result<Self> {
        let component = &blueprint.component;
        let mut store =
            State::store(component, &blueprint.template, blueprint.generation, id, recording);
        let pace = store.data().pace.clone();
        let proxy = component.instantiate(&mut store).await?;
        Ok(Self { id, store, proxy, pace, served: 0, blueprint: blueprint.clone() })
    }

    fn no_room(error: &wasmtime::Error) -> bool {
        error.is::<PoolConcurrencyLimitError>()
    }

    /// Whether it may take another request after those it has served.
    pub fn is_reusable(&self) -> bool {
        self.served < self.blueprint.limits.max_requests_per_instance.get()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
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
    pub fn failed(
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
        let app = self.app();
        let generation = self.generation;
        let request = request.map(tracing::field::display);
        // Not `{error:?}`: that holds the host's own backtrace where RUST_BACKTRACE is set.
        let (reason, backtrace) = explain(error);
        warn!(app, generation, instance, request, backtrace, "the guest {what}: {reason}");
        Failure::Guest(format!("the guest {what}"))
    }

    /// Logs a guest that answered with an error code, and makes the failure that its request sees.
    pub fn declined(&self, instance: u64, request: RequestId, code: &dyn fmt::Debug) -> Failure {
        declined(&self.template.app, instance, request, code)
    }

    /// Logs a guest that returned before it had finished its response.
    pub fn unfinished(&self, instance: u64, request: RequestId) {
        let app = self.app();
        warn!(app, instance, %request, "the guest returned before its response was finished");
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

/// See [`Blueprint::declined`]; for where only the name can be had.
pub fn declined(app: &str, instance: u64, request: RequestId, code: &dyn fmt::Debug) -> Failure {
    warn!(app, instance, %request, "the guest answered with the error {code:?}");
    Failure::Guest("the guest answered with an error".into())
}
