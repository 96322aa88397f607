//! A request's head, for the case that a guest fails while it works on it.
//!
//! Its headers are the very ones that the guest is handed, behind the same `Arc`. So each request
//! pays for some reference counts, and none for a copy that nearly none will need.

use http::{Method, Uri};
use wasmtime::component::Resource;
use wasmtime_wasi_http::p2::bindings::http::types::{HostIncomingRequest as _, IncomingRequest};
use wasmtime_wasi_http::{FieldMap, WasiHttpCtxView};

use crate::request_id::RequestId;

/// See the module.
pub struct Head {
    pub id: RequestId,
    pub method: Method,
    pub uri: Uri,
    pub headers: FieldMap,
}

/// The headers of a request for a p2 guest.
///
/// # Errors
/// When the guest's table of resources is full.
pub fn headers(
    view: &mut WasiHttpCtxView<'_>,
    request: &Resource<IncomingRequest>,
) -> wasmtime::Result<FieldMap> {
    let headers = view.headers(Resource::new_borrow(request.rep()))?;
    Ok(view.table.delete(headers)?)
}
