//! What the host holds for a guest beside its memory, as far as that can be seen.
//!
//! A guest makes the host keep header maps and bodies by the thousand. Neither
//! tells anyone how large it is, so they are looked through: while a guest
//! computes at each tick, and when its work is done.

use std::any::Any;

use http::HeaderMap;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::p2::DynOutputStream;
use wasmtime_wasi_http::p2::types::{HostOutgoingRequest, HostOutgoingResponse};
use wasmtime_wasi_http::{FieldMap, p3};

use super::store::SMALL_BODY;

/// What an entry of the table costs with what it points to, where that is little.
const ENTRY: usize = 512;

/// What a header costs beside its bytes: a map grows by doubling.
const HEADER: usize = 160;

/// Bytes that the host holds for what is in a guest's table.
pub fn size(table: &mut ResourceTable) -> usize {
    table.iter_mut().map(|entry| ENTRY + contents(&*entry)).sum()
}

fn contents(entry: &dyn Any) -> usize {
    if let Some(fields) = entry.downcast_ref::<FieldMap>() {
        headers(fields)
    } else if let Some(response) = entry.downcast_ref::<HostOutgoingResponse>() {
        headers(&response.headers)
    } else if let Some(request) = entry.downcast_ref::<HostOutgoingRequest>() {
        headers(&request.headers)
    } else if let Some(response) = entry.downcast_ref::<p3::Response>() {
        headers(&response.headers)
    } else if let Some(request) = entry.downcast_ref::<p3::Request>() {
        headers(&request.headers)
    } else if entry.is::<DynOutputStream>() {
        SMALL_BODY
    } else {
        0
    }
}

fn headers(map: &HeaderMap) -> usize {
    map.iter().map(|(name, value)| name.as_str().len() + value.len() + HEADER).sum()
}
