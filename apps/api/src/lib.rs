//! A small JSON API for WASI 0.3, and what one looks like in plain Rust.
//!
//!     GET  /        what there is
//!     GET  /time    the time
//!     POST /echo    the request's body back, as it comes
//!     GET  /count   how often this instance has been asked
//!     GET  /stream  five server-sent events, 200 ms apart

use std::sync::atomic::{AtomicU64, Ordering};

use wasip3::clocks::{monotonic_clock, system_clock};
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response};
use wasip3::wit_bindgen::{StreamReader, StreamWriter};
use wasip3::{spawn_local, wit_future, wit_stream};

wasip3::http::service::export!(Api);

struct Api;

impl Guest for Api {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        let answer = match (request.get_method(), path) {
            (Method::Get, "/") => index(),
            (Method::Get, "/time") => time(),
            (Method::Post, "/echo") => echo(request),
            (Method::Get, "/count") => count(),
            (Method::Get, "/stream") => stream(),
            (_, "/" | "/time" | "/echo" | "/count" | "/stream") => {
                problem(405, "this path answers another method")
            }
            _ => problem(404, "no such path"),
        };
        Ok(answer)
    }
}

fn index() -> Response {
    json(
        200,
        r#"{"routes":["GET /","GET /time","POST /echo","GET /count","GET /stream"]}"#.to_owned(),
    )
}

fn time() -> Response {
    let now = system_clock::now();
    let milliseconds = now.nanoseconds / 1_000_000;
    json(
        200,
        format!(r#"{{"unix":{}.{milliseconds:03}}}"#, now.seconds),
    )
}

/// The body goes from the request to the response without passing through here.
fn echo(request: Request) -> Response {
    let content_type = request.get_headers().get("content-type").pop();
    let (_, all_well) = wit_future::new(|| Ok(()));
    let (body, trailers) = Request::consume_body(request, all_well);
    let content_type = content_type
        .as_deref()
        .unwrap_or(b"application/octet-stream");
    let (response, _) = Response::new(headers(content_type), Some(body), trailers);
    response
}

/// A static lives as long as its instance, and an instance as long as the host
/// likes: good enough for a cache, not for a database.
fn count() -> Response {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    json(200, format!(r#"{{"count":{count}}}"#))
}

fn stream() -> Response {
    const PAUSE_IN_NANOSECONDS: u64 = 200_000_000;
    respond(200, b"text/event-stream", async |mut body| {
        for tick in 1..=5 {
            let event = format!("event: tick\ndata: {{\"tick\":{tick}}}\n\n");
            let unsent = body.write_all(event.into_bytes()).await;
            if !unsent.is_empty() {
                return; // the client has left
            }
            monotonic_clock::wait_for(PAUSE_IN_NANOSECONDS).await;
        }
    })
}

fn problem(status: u16, title: &str) -> Response {
    json(
        status,
        format!(r#"{{"title":"{title}","status":{status}}}"#),
    )
}

fn json(status: u16, mut text: String) -> Response {
    text.push('\n');
    respond(status, b"application/json", async |mut body| {
        body.write_all(text.into_bytes()).await;
    })
}

/// Returns a response at once. Its body is written by a task of its own, for as
/// long as that takes.
fn respond(
    status: u16,
    content_type: &[u8],
    write: impl AsyncFnOnce(StreamWriter<u8>) + 'static,
) -> Response {
    let (writer, body): (_, StreamReader<u8>) = wit_stream::new();
    let (_, no_trailers) = wit_future::new(|| Ok(None));
    let (response, _) = Response::new(headers(content_type), Some(body), no_trailers);
    response
        .set_status_code(status)
        .expect("a status from 100 to 999");
    spawn_local(async move { write(writer).await });
    response
}

fn headers(content_type: &[u8]) -> Fields {
    Fields::from_list(&[("content-type".to_owned(), content_type.to_vec())])
        .expect("a valid header")
}
