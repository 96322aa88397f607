//! `wasi:http/client` of 0.3, as wasmtime's crate has it; and for which request a guest asks.

use wasmtime::AsContextMut;
use wasmtime::component::{Accessor, HasData, Linker, Resource};
use wasmtime_wasi::TrappableError;
use wasmtime_wasi_http::p3::bindings::http::client::{self, HostWithStore};
use wasmtime_wasi_http::p3::bindings::http::types::{self, ErrorCode, Request, Response};
use wasmtime_wasi_http::{WasiHttp, WasiHttpCtxView, WasiHttpView};

use super::State;
use super::store::name_caller;

/// Adds all of `wasi:http` 0.3.
pub fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    client::add_to_linker::<_, Client>(linker, State::http)?;
    types::add_to_linker::<_, WasiHttp>(linker, State::http)
}

/// The crate's, but for what is noted first.
struct Client;

impl HasData for Client {
    type Data<'a> = WasiHttpCtxView<'a>;
}

impl HostWithStore<State> for Client {
    async fn send(
        accessor: &Accessor<State, Self>,
        request: Resource<Request>,
    ) -> Result<Resource<Response>, TrappableError<ErrorCode>> {
        // Nothing else of the guest runs before the request is handed over below.
        accessor.with(|mut access| name_caller(&mut access.as_context_mut()));
        WasiHttp::send(&accessor.with_getter::<WasiHttp>(State::http), request).await
    }
}
