//! What a store carries: WASI and HTTP contexts, limits, output and profile.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::{GuestTaskId, ResourceTable};
use wasmtime::{ResourceLimiter, Store, StoreContextMut, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpCtx,
    WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use super::Component;
use super::budget::Budget;
use super::output::{GuestOutput, Stream};
use super::pace::Pace;
use super::profile::Recording;
use super::share::Account;

/// Entries a guest may hold in its resource table: streams, bodies, header maps and the like.
const MAX_RESOURCES: usize = 10_000;

/// Handles that one component may hold.
const MAX_HANDLES: usize = 10_000;

/// Bytes of arguments that one host call may copy in or out.
const HOSTCALL_FUEL: usize = 16 << 20;

/// Memory of one header map as the host keeps it.
const FIELD_SIZE: usize = 128 << 10;

/// Bytes of randomness that one call may ask for.
const MAX_RANDOM: u64 = 1 << 20;

/// A response's chunks buffered between guest and client, and the size of each:
/// together the most that one response holds in the host.
const BODY_CHUNKS: usize = 4;
const BODY_CHUNK: usize = 256 << 10;

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
    pub env: Vec<(String, String)>,
    pub args: Vec<String>,
    /// Bytes of all linear memories and tables of an instance together.
    pub memory: usize,
    /// CPU of each request.
    pub cpu_time: Duration,
    /// The app's share of the node's CPU, for all of its pools.
    pub account: Arc<Account>,
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
    pub recording: Option<Recording>,
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
    ) -> Store<State> {
        let output = GuestOutput::new(&template.app, generation, instance);
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
                hooks: Hooks,
                limiter: Limiter::new(template.memory),
                output,
                recording,
                budget: Budget::new(template.cpu_time),
                pace: Pace::new(&engines.share, &template.account),
                concurrent: !component.is_exclusive(),
            },
        );
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(HOSTCALL_FUEL);
        store.set_max_component_handles(MAX_HANDLES);
        store.set_epoch_deadline(EPOCHS);
        store.epoch_deadline_callback(at_deadline);
        store
    }
}

/// Samples the guest where it is sampled, charges who computes, and lets others have their turn.
fn at_deadline(mut store: StoreContextMut<'_, State>) -> wasmtime::Result<UpdateDeadline> {
    if let Some(mut recording) = store.data_mut().recording.take() {
        recording.tick(&store);
        store.data_mut().recording = Some(recording);
    }
    let tick = store.data().pace.tick();
    let task = running_task(&mut store);
    let state = store.data_mut();
    state.budget.charge(task, tick.sampled)?;
    Ok(UpdateDeadline::YieldCustom(EPOCHS, Box::pin(state.pace.clone().pass(tick))))
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

/// Sums what wasmtime's own limits count one by one: all memories and tables of the store.
struct Limiter {
    used: usize,
    limit: usize,
}

/// What a table element costs the host.
const TABLE_ELEMENT: usize = size_of::<usize>();

impl Limiter {
    fn new(limit: usize) -> Self {
        Self { used: 0, limit }
    }

    fn grow(&mut self, current: usize, desired: usize) -> bool {
        let growth = desired.saturating_sub(current);
        match self.used.checked_add(growth) {
            Some(used) if used <= self.limit => {
                self.used = used;
                true
            }
            _ => false,
        }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(current.saturating_mul(TABLE_ELEMENT), desired.saturating_mul(TABLE_ELEMENT)))
    }
}

/// Where tidegate's HTTP differs from the crate's defaults.
struct Hooks;

type SendResult =
    Result<(http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl WasiHttpHooks for Hooks {
    fn is_forbidden_header(&mut self, name: &http::HeaderName) -> bool {
        DEFAULT_FORBIDDEN_HEADERS.contains(name)
    }

    /// The same list as above; kept once, because the default allocates per request.
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        static FILTER: std::sync::OnceLock<ForbiddenHeaderFilter> = std::sync::OnceLock::new();
        FILTER.get_or_init(|| Arc::new(|name| DEFAULT_FORBIDDEN_HEADERS.contains(name))).clone()
    }

    /// Guests reach nothing outside: there is no allowlist yet that could let them.
    fn send_request(
        &mut self,
        _request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _result: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = SendResult> + Send> {
        Box::new(async { Err(Error::HttpRequestDenied) })
    }

    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        BODY_CHUNKS
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_share_one_limit() {
        let mut limiter = Limiter::new(1 << 20);
        assert!(limiter.memory_growing(0, 512 << 10, None).unwrap());
        assert!(limiter.memory_growing(0, 256 << 10, None).unwrap());
        assert!(!limiter.memory_growing(0, 512 << 10, None).unwrap());
        assert!(limiter.table_growing(0, 1024, None).unwrap());
        assert!(!limiter.table_growing(1024, usize::MAX, None).unwrap());
        assert!(limiter.memory_growing(256 << 10, 500 << 10, None).unwrap());
    }
}
