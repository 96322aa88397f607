//! What a store carries: WASI and HTTP contexts, limits, output and profile.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store, StoreContextMut, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpCtx,
    WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use super::memory::Limiter;
use super::outbound::{Outbound, Sent};
use super::output::{GuestOutput, Source, Stream};
use super::profile::Recording;

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
    /// Whose lines its output is, and how many of them are logged.
    pub output: Arc<Source>,
    pub env: Vec<(String, String)>,
    pub args: Vec<String>,
    /// What guests may reach outside.
    pub outbound: Arc<Outbound>,
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
}

impl State {
    /// A store ready for instantiation; its guest yields to other tasks at each tick.
    pub fn store(
        engine: &Engine,
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

        let mut store = Store::new(
            engine,
            State {
                wasi: wasi.build(),
                http,
                table,
                hooks: Hooks { outbound: template.outbound.clone(), calls: None },
                limiter,
                output,
                recording,
            },
        );
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(HOSTCALL_FUEL);
        store.set_max_component_handles(MAX_HANDLES);
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
}

/// Samples the guest where it is sampled, and lets timers and other tasks run.
///
/// `yield_now` and not a plain wake, so that tokio polls its timers before it comes back.
fn at_deadline(mut store: StoreContextMut<'_, State>) -> wasmtime::Result<UpdateDeadline> {
    if let Some(mut recording) = store.data_mut().recording.take() {
        recording.tick(&store);
        store.data_mut().recording = Some(recording);
    }
    Ok(UpdateDeadline::YieldCustom(EPOCHS, Box::pin(tokio::task::yield_now())))
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
    outbound: Arc<Outbound>,
    /// What ends the outbound calls under way; there once there has been one.
    calls: Option<CancellationToken>,
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
        Box::new(self.outbound.clone().send(request, options, calls))
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
