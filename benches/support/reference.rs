//! The reference: wasmtime-wasi-http's own `ProxyHandler`, set up as `wasmtime serve` sets it up.
//!
//! Without epochs and timeouts, as `wasmtime serve` is by default: whatever
//! that saves is its advantage over us.

use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, StoreContextMut,
    StoreLimits, StoreLimitsBuilder,
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::handler::{
    HandlerState, Instance, ProxyHandler, ProxyPre, ShouldAccept, WorkerExpiration, WorkerState,
    WorkerStatus,
};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView, p2,
    p3,
};

use super::guests;

/// Serves one component.
pub type Reference = ProxyHandler<App>;

/// How often and how many at a time an instance is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reuse {
    pub total: usize,
    pub concurrent: usize,
}

const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The handler of the component in `file`.
pub fn reference(file: &Path, reuse: Reuse) -> Reference {
    let mut config = Config::new();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(PoolingAllocationConfig::new()));
    let engine = Engine::new(&config).expect("an engine");
    let mut linker = Linker::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).expect("wasi 0.2");
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).expect("http 0.2");
    wasmtime_wasi::p3::add_to_linker(&mut linker).expect("wasi 0.3");
    wasmtime_wasi_http::p3::add_to_linker(&mut linker).expect("http 0.3");

    let component = Component::from_binary(&engine, &guests::read(file)).expect("a component");
    let pre = linker.instantiate_pre(&component).expect("its imports");
    let pre = match p3::bindings::ServicePre::new(pre.clone()) {
        Ok(pre) => ProxyPre::P3(pre),
        Err(_) => ProxyPre::P2(p2::bindings::ProxyPre::new(pre).expect("wasi:http")),
    };
    ProxyHandler::new(App { engine, pre, reuse })
}

/// What its workers share.
pub struct App {
    engine: Engine,
    pre: ProxyPre<State>,
    reuse: Reuse,
}

/// What a store holds.
pub struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    hooks: Hooks,
    limits: StoreLimits,
}

impl HandlerState for App {
    type StoreData = State;
    type WorkerExpiration = Expiration;
    type WorkerState = Reuse;

    async fn instantiate(&self) -> wasmtime::Result<Instance<State, Expiration, Reuse>> {
        let state = State {
            wasi: WasiCtx::builder().build(),
            http: WasiHttpCtx::new(),
            table: ResourceTable::new(),
            hooks: Hooks,
            limits: StoreLimitsBuilder::new().build(),
        };
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.limits);
        let proxy = self.pre.instantiate_async(&mut store).await?;
        Ok(Instance {
            store,
            proxy,
            view: State::http,
            expiration: Expiration(Box::pin(tokio::time::sleep(IDLE_TIMEOUT))),
            state: self.reuse,
        })
    }
}

impl WorkerState for Reuse {
    type StoreData = State;
    type RequestData = ();

    fn should_accept_request(&self, concurrent: usize, total: usize) -> ShouldAccept {
        if total >= self.total {
            ShouldAccept::Never
        } else if concurrent >= self.concurrent {
            ShouldAccept::No
        } else {
            ShouldAccept::Yes
        }
    }

    fn on_request_start(
        &self,
        _store: StoreContextMut<'_, State>,
        (): (),
        _task: wasmtime::component::GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + Sync>> {
        Box::pin(tokio::time::sleep(Duration::MAX))
    }

    // A guest that fails shows in the request that is not answered.
    fn drop(&self, store: Store<State>, _result: wasmtime::Result<()>) {
        drop(store);
    }
}

/// Ends idle workers; no request is ever ended.
pub struct Expiration(Pin<Box<tokio::time::Sleep>>);

impl WorkerExpiration for Expiration {
    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        status: WorkerStatus,
        start: Instant,
    ) -> Poll<()> {
        if status != WorkerStatus::Idle {
            return Poll::Pending;
        }
        let due = (start + IDLE_TIMEOUT).into();
        if self.0.deadline() != due {
            self.0.as_mut().reset(due);
        }
        self.0.as_mut().poll(cx)
    }
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

/// The crate's defaults. What it sends requests with is not built in: no guest here sends one.
struct Hooks;

type Sending = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Result<(http::Response<WasiBody>, Sending), Error>;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        _request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _result: Sending,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        Box::new(async { Err(Error::HttpRequestDenied) })
    }
}
