//! Calling a guest inside a worker's event loop.

use std::task::Context;

use futures_util::future::BoxFuture;
use wasmtime::AsContextMut;
use wasmtime::component::Accessor;
use wasmtime_wasi_http::handler::Proxy;
use wasmtime_wasi_http::{FieldMap, WasiHttpView, p3};

use super::body::watched;
use super::exclusive::scheme;
use super::fault::declined;
use super::instance::Blueprint;
use super::shared::Job;
use super::{Failure, NO_RESPONSE};
use crate::guest::State;
use crate::guest::head::{self, Head};
use crate::guest::store::{Chunks, EPOCHS};

/// Whether the guest takes calls right now (it can ask for none by backpressure).
pub fn is_ready(accessor: &Accessor<State>, proxy: &Proxy, cx: &mut Context<'_>) -> bool {
    let func = match proxy {
        Proxy::P3(guest) => *guest.wasi_http_handler().func_handle().func(),
        Proxy::P2(guest) => *guest.wasi_http_incoming_handler().func_handle().func(),
    };
    accessor.poll_ready_for_concurrent_call(func, cx).is_ready()
}

/// What drives a request to its response head. An error ends the worker.
pub type Call<'a> = BoxFuture<'a, wasmtime::Result<()>>;

/// Starts a request in the guest.
///
/// # Errors
/// What the store is not usable after.
pub fn start<'a>(
    accessor: &'a Accessor<State>,
    instance: (&'a Blueprint, u64, &'a Proxy),
    job: Job,
) -> wasmtime::Result<Call<'a>> {
    let (blueprint, id, proxy) = instance;
    let Job { request, exchange } = job;
    let (request_id, trace) = (request.id, request.trace.clone());
    let chunks = request.chunks();
    let scheme = scheme(&request);
    let (method, uri) = (request.http.method().clone(), request.http.uri().clone());
    let http = request.http.map(|body| watched(body, &exchange));
    match proxy {
        Proxy::P3(guest) => {
            let (call, io) = accessor.with(|mut access| {
                let mut store = access.as_context_mut();
                store.set_epoch_deadline(EPOCHS);
                store.data_mut().begin();
                exchange.report_to(store.data_mut().sampler.begin(request_id));
                let view = store.data_mut().http();
                // As `from_http` does it, and a handle of the headers for us.
                let (parts, body) = http.into_parts();
                let headers = FieldMap::new_immutable(view.hooks, parts.headers);
                let target = parts.uri.into_parts();
                let (request, io) = p3::Request::new(
                    parts.method,
                    target.scheme,
                    target.authority,
                    target.path_and_query,
                    headers.clone(),
                    None,
                    body,
                );
                let request = view.table.push(request)?;
                let handle = guest.wasi_http_handler().func_handle();
                let call = handle.start_call_concurrent(store.as_context_mut(), (request,))?;
                let head = Head { id: request_id, method, uri, headers };
                store.data_mut().budget.begin(Some(call.task()), head, trace);
                wasmtime::error::Ok((call, io))
            })?;
            Ok(Box::pin(async move {
                let handle = guest.wasi_http_handler().func_handle();
                let (result,) = handle.finish_call_concurrent(accessor, call).await?;
                exchange.answer(match result {
                    Ok(response) => accessor.with(|mut access| {
                        access.data_mut().set_chunks(chunks);
                        let response = access.data_mut().http().table.delete(response)?;
                        wasmtime::error::Ok(Ok(response.into_http(&mut access, io)?))
                    })?,
                    Err(code) => Err(declined(&blueprint.template.output, id, request_id, &code)),
                });
                Ok(())
            }))
        }
        Proxy::P2(guest) => {
            let answered = exchange.clone();
            let source = blueprint.template.output.clone();
            let call = accessor.with(|mut access| {
                let mut store = access.as_context_mut();
                store.set_epoch_deadline(EPOCHS);
                store.data_mut().begin();
                exchange.report_to(store.data_mut().sampler.begin(request_id));
                // It asks for them later, when another request may have begun.
                store.data_mut().set_chunks(Chunks::NARROW);
                let mut view = store.data_mut().http();
                let incoming = view.new_incoming_request(scheme, http)?;
                let headers = head::headers(&mut view, &incoming)?;
                let outparam = view.new_response_outparam_from_callback(move |result| {
                    answered
                        .answer(result.map_err(|code| declined(&source, id, request_id, &code)));
                })?;
                let handle = guest.wasi_http_incoming_handler().func_handle();
                let call =
                    handle.start_call_concurrent(store.as_context_mut(), (incoming, outparam))?;
                let head = Head { id: request_id, method, uri, headers };
                store.data_mut().budget.begin(Some(call.task()), head, trace);
                wasmtime::error::Ok(call)
            })?;
            Ok(Box::pin(async move {
                let handle = guest.wasi_http_incoming_handler().func_handle();
                handle.finish_call_concurrent(accessor, call).await?;
                if !exchange.settle(Failure::Guest(NO_RESPONSE.into())) {
                    blueprint.unfinished(id, request_id);
                }
                Ok(())
            }))
        }
    }
}
