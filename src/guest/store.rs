//! What a store carries: WASI and HTTP contexts, limits, output and profile.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wasmtime::component::{GuestTaskId, ResourceTable};
use wasmtime::{AsContextMut, Store, StoreContextMut, UpdateDeadline, WasmBacktrace};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpCtx,
    WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use super::Component;
use super::budget::Budget;
use super::holdings;
use super::memory::Limiter;
use super::outbound::{Outbound, Sent};
use super::output::{GuestOutput, Source, Stream};
use super::pace::Pace;
use super::profile::{Demand, Recording, Sampler, StoreId};
use super::share::Account;
use crate::config::Limits;
use crate::limit::Tally;
use crate::request_id::RequestId;
use crate::traces::Trace;

/// Entries a guest may hold in its resource table: streams, bodies, header maps and the like.
/// A request takes about ten, and an outbound one as many.
const MAX_RESOURCES: usize = 2000;

/// Handles that an instance may hold. The host holds what is behind them, and some hundred bytes.
const MAX_HANDLES: usize = 4000;

/// Tasks, streams and futures of 0.3 that an instance may have at a time.
const MAX_CONCURRENT: usize = 4000;

/// Bytes of arguments that one host call may copy out of a guest.
const HOSTCALL_FUEL: usize = 1 << 20;

/// Memory of one header map as the host keeps it.
const FIELD_SIZE: usize = 64 << 10;

/// Bytes of randomness that one call may ask for.
const MAX_RANDOM: u64 = 64 << 10;

/// A body's chunks buffered between guest and client, one fewer than there may be,
/// and the size of each: together the most that one body holds in the host.
#[derive(Clone, Copy)]
pub struct Chunks {
    count: usize,
    /// Bytes.
    size: usize,
}

impl Chunks {
    /// For a response that shares its connection with few others or none.
    pub const WIDE: Chunks = Chunks { count: 3, size: 128 << 10 };
    /// For one of the many of an HTTP/2 connection: with its header a chunk is a TLS record.
    pub const NARROW: Chunks = Chunks { count: 1, size: 12 << 10 };
    /// For bodies that nobody may have asked for.
    const SMALL: Chunks = Chunks { count: 1, size: SMALL_BODY / 2 };
}

/// A p2 guest fills its bodies before anyone asks for them, so only the first few of a request
/// are as large: its response and a request that it passes on. The others hold this much.
const LARGE_BODIES: usize = 2;
pub const SMALL_BODY: usize = 16 << 10;

/// Epochs until a running guest is interrupted.
pub const EPOCHS: u64 = 1;

/// How a store ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was idle or used up.
    Done,
    /// It overstayed a timeout.
    TimedOut,
    /// A trap, an exit or a host error, in words.
    Failed(String),
}

/// What every store of an app starts from; the same for all of its instances.
pub struct Template {
    pub app: Arc<str>,
    /// Whose lines its output is, and how many of them are logged.
    pub output: Arc<Source>,
    pub env: Vec<(String, String)>,
    pub args: Vec<String>,
    /// What guests may reach outside.
    pub outbound: Arc<Outbound>,
    /// CPU of each request.
    pub cpu_time: Duration,
    /// The app's share of the node's CPU, for all of its pools.
    pub cpu: Arc<Account>,
    /// The samples that an operator asks for, of all of its pools.
    pub demand: Arc<Demand>,
}

impl Template {
    /// One for an app under these limits, without environment or arguments.
    pub fn new(
        app: &str,
        limits: &Limits,
        tally: &Arc<Tally>,
        outbound: Arc<Outbound>,
        cpu: Arc<Account>,
    ) -> Self {
        let output = Source {
            app: app.into(),
            rate: limits.log_rate,
            burst: limits.log_burst,
            tally: tally.clone(),
        };
        Self {
            app: app.into(),
            output: Arc::new(output),
            env: Vec::new(),
            args: Vec::new(),
            outbound,
            cpu_time: limits.cpu_time,
            cpu,
            demand: Arc::default(),
        }
    }
}

/// A store's data.
pub struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    hooks: Hooks,
    limiter: Limiter,
    /// Which request's lines the guest's output is, shared with its streams.
    pub output: Arc<GuestOutput>,
    pub sampler: Sampler,
    pub budget: Budget,
    pub pace: Arc<Pace>,
    /// It may serve several requests at a time.
    concurrent: bool,
}

impl State {
    /// A store ready for instantiation; its guest yields to other tasks at each tick, and goes
    /// on at its pace.
    pub fn store(
        component: &Component,
        template: &Template,
        generation: u64,
        instance: u64,
        recording: Option<Recording>,
        limiter: Limiter,
    ) -> Store<State> {
        let output = GuestOutput::new(&template.output, generation, instance);
        let mut wasi = WasiCtx::builder();
        wasi.stdout(Stream::stdout(&output))
            .stderr(Stream::stderr(&output))
            .max_random_size(MAX_RANDOM)
            .args(&template.args);
        if !template.env.is_empty() {
            wasi.envs(&template.env);
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(FIELD_SIZE);

        let engines = &component.engines;
        let mut store = Store::new(
            &engines.side(component.kind).engine,
            State {
                wasi: wasi.build(),
                http,
                table,
                hooks: Hooks {
                    chunks: Chunks::WIDE,
                    large_bodies: LARGE_BODIES,
                    outbound: template.outbound.clone(),
                    calls: None,
                    caller: None,
                },
                limiter,
                output,
                sampler: Sampler::new(
                    StoreId { generation, instance },
                    recording,
                    template.demand.clone(),
                ),
                budget: Budget::new(template.cpu_time),
                pace: Pace::new(&engines.share, &template.cpu),
                concurrent: !component.is_exclusive(),
            },
        );
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(HOSTCALL_FUEL);
        store.set_max_component_handles(MAX_HANDLES);
        if let Some(table) = store.concurrent_resource_table() {
            table.set_max_capacity(MAX_CONCURRENT);
        }
        store.set_epoch_deadline(EPOCHS);
        store.epoch_deadline_callback(at_deadline);
        store
    }

    /// Ends the guest's outbound calls: it has no request left that they could be for.
    ///
    /// Before a store goes, too: a request's body that loses its store looks finished.
    pub fn end_calls(&mut self) {
        if let Some(calls) = self.hooks.calls.take() {
            calls.cancel();
        }
    }

    /// How responses that begin from now on are buffered.
    pub fn set_chunks(&mut self, chunks: Chunks) {
        self.hooks.chunks = chunks;
    }
}

impl State {
    /// A request begins.
    pub fn begin(&mut self) {
        self.hooks.large_bodies = LARGE_BODIES;
    }

    /// All outbound calls from now on are for a request that has this part in a trace.
    pub fn calls_for(&mut self, trace: Option<Arc<Trace>>) {
        self.hooks.caller = trace;
    }

    /// No request is left on the instance, for now.
    pub fn rest(&mut self) {
        self.end_calls();
        self.sampler.review();
        self.budget.rest();
    }

    /// Bytes that the host holds for the guest, as far as that can be seen.
    pub fn holdings(&mut self) -> usize {
        holdings::size(&mut self.table)
    }

    /// Counts what the host holds for the guest as memory of the instance.
    ///
    /// # Errors
    /// When that is more than the instance, its app or the node may have: the guest has to end.
    pub fn count_holdings(&mut self) -> wasmtime::Result<()> {
        // Nearly always: most guests drop what they were given.
        if self.table.is_empty() && !self.limiter.holds_any() {
            return Ok(());
        }
        let held = self.holdings();
        wasmtime::ensure!(self.limiter.hold(held), "the guest makes the host hold {held} bytes");
        Ok(())
    }
}

/// Samples the guest where it is sampled, charges who computes, and lets others have their turn.
///
/// Of a guest that has only waited the deadline is past as well, without a tick that found it.
fn at_deadline(mut store: StoreContextMut<'_, State>) -> wasmtime::Result<UpdateDeadline> {
    if !store.data().pace.was_ticked() {
        return Ok(UpdateDeadline::Continue(EPOCHS));
    }
    let task = running_task(&mut store);
    let period = store.data().pace.period();
    if let Some(due) = store.data_mut().sampler.tick(period) {
        let backtrace = WasmBacktrace::force_capture(&store);
        let request = store.data().budget.request(task);
        store.data_mut().sampler.sample(due, request, &backtrace);
    }
    store.data_mut().count_holdings()?;
    let tick = store.data().pace.tick();
    let state = store.data_mut();
    state.budget.charge(task, tick.sampled)?;
    Ok(UpdateDeadline::YieldCustom(EPOCHS, Box::pin(state.pace.clone().pass(tick))))
}

/// The request that the guest works on. After it has failed: the one that it failed in, or
/// `None` where that was in no request's task.
pub fn running_request(store: &mut Store<State>) -> Option<RequestId> {
    let task = running_task(&mut store.as_context_mut());
    store.data().budget.request(task)
}

/// Notes for which request the next outbound call is: for that whose task runs.
pub fn name_caller(store: &mut StoreContextMut<'_, State>) {
    let task = running_task(store);
    let state = store.data_mut();
    state.hooks.caller = state.budget.trace(task).cloned();
}

/// The task of the request that runs, where there may be several.
fn running_task(store: &mut StoreContextMut<'_, State>) -> Option<GuestTaskId> {
    if !store.data().concurrent {
        return None;
    }
    // The last is the call from outside; those before it are calls between components.
    store.async_call_stack().ok()?.last()
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

/// Where tidegate's HTTP differs from the crate's defaults.
struct Hooks {
    chunks: Chunks,
    /// How many bodies of a p2 guest may still be large.
    large_bodies: usize,
    outbound: Arc<Outbound>,
    /// What ends the outbound calls under way; there once there has been one.
    calls: Option<CancellationToken>,
    /// The part in a trace of the request that the next outbound call is for.
    caller: Option<Arc<Trace>>,
}

impl WasiHttpHooks for Hooks {
    fn is_forbidden_header(&mut self, name: &http::HeaderName) -> bool {
        DEFAULT_FORBIDDEN_HEADERS.contains(name)
    }

    /// The same list as above; kept once, because the default allocates per request.
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        static FILTER: std::sync::OnceLock<ForbiddenHeaderFilter> = std::sync::OnceLock::new();
        FILTER.get_or_init(|| Arc::new(|name| DEFAULT_FORBIDDEN_HEADERS.contains(name))).clone()
    }

    /// Both WASI versions send here.
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        // How the guest liked the response, which matters to nobody.
        _result: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let calls = self.calls.get_or_insert_default().clone();
        Box::new(self.outbound.clone().send(request, options, calls, self.caller.clone()))
    }

    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        match self.large_bodies {
            0 => Chunks::SMALL.count,
            _ => self.chunks.count,
        }
    }

    /// Asked for after the number of them.
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        match self.large_bodies.checked_sub(1) {
            None => Chunks::SMALL.size,
            Some(left) => {
                self.large_bodies = left;
                self.chunks.size
            }
        }
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        self.chunks.size
    }
}
