//! A WASI 0.3 component that takes of the host whatever it can get, by request path.
//!
//! Each route tries one thing, `count` times or with `bytes` bytes, keeps what it
//! gets, and says how far it came.

mod network;

use std::future::Future;
use std::mem::forget;
use std::pin::Pin;
use std::task::Poll;

use common::Target;
use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::exports::http::handler::Guest;
use wasip3::filesystem::preopens::get_directories;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::random::random::get_random_bytes;
use wasip3::wit_bindgen::StreamResult;
use wasip3::{spawn_local, wit_future, wit_stream};

wasip3::http::service::export!(Hostile);

struct Hostile;

impl Guest for Hostile {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = Target::parse(&request.get_path_with_query().unwrap_or_default());
        let count = target.number("count", 1);
        let bytes = target.number("bytes", 1) as usize;
        let said = match target.path.as_str() {
            "/fields" => fields(count, bytes),
            "/append" => append(count, bytes),
            "/from-list" => from_list(count, bytes),
            "/copies" => copies(&request, count),
            "/bodies" => bodies(count, bytes).await,
            "/responses" => responses(count),
            "/timers" => timers(count).await,
            "/streams" => streams(count),
            "/futures" => futures(count),
            "/tasks" => tasks(count),
            "/for-ever" => for_ever().await,
            "/random" => get_random_bytes(bytes as u64).len().to_string(),
            "/files" => get_directories().len().to_string(),
            "/tcp" => network::tcp(count).await,
            "/udp" => network::udp(count),
            "/dns" => network::dns().await,
            "/answer-header" => return answer(&[("x-big".into(), vec![b'x'; bytes])], "ok"),
            "/canary" => find_and_plant(request, &target).await,
            _ => "no such route".to_owned(),
        };
        answer(&[], &said)
    }
}

/// Header maps, each with one value.
fn fields(count: u64, bytes: usize) -> String {
    let value = vec![b'x'; bytes];
    for done in 0..count {
        let fields = Fields::new();
        let result = fields.append("x", &value);
        forget(fields);
        if let Err(error) = result {
            return format!("{done}: {error:?}");
        }
    }
    count.to_string()
}

/// One header map with many values.
fn append(count: u64, bytes: usize) -> String {
    let value = vec![b'x'; bytes];
    let fields = Fields::new();
    let done = (0..count).take_while(|_| fields.append("x", &value).is_ok()).count();
    forget(fields);
    done.to_string()
}

fn from_list(count: u64, bytes: usize) -> String {
    let value = vec![b'x'; bytes];
    let list: Vec<_> = (0..count).map(|n| (format!("x-{n}"), value.clone())).collect();
    match Fields::from_list(&list) {
        Ok(fields) => forget(fields),
        Err(error) => return format!("{error:?}"),
    }
    count.to_string()
}

/// Copies of the request's headers, made the copier's own by a change.
fn copies(request: &Request, count: u64) -> String {
    let headers = request.get_headers();
    for _ in 0..count {
        let copy = headers.clone();
        let _ = copy.append("x", b"x");
        forget(copy);
    }
    count.to_string()
}

/// Streams that nobody reads, each written to.
async fn bodies(count: u64, bytes: usize) -> String {
    for _ in 0..count {
        let (mut stream, contents) = wit_stream::new();
        let (_, trailers) = wit_future::new(|| Ok(None));
        let (response, _) = Response::new(Fields::new(), Some(contents), trailers);
        forget(response);
        let mut write = Box::pin(async move { stream.write_all(vec![b'x'; bytes]).await.len() });
        start(write.as_mut()).await;
        forget(write);
    }
    count.to_string()
}

fn responses(count: u64) -> String {
    for _ in 0..count {
        let (_, trailers) = wit_future::new(|| Ok(None));
        forget(Response::new(Fields::new(), None, trailers));
    }
    count.to_string()
}

async fn timers(count: u64) -> String {
    for _ in 0..count {
        let mut timer = Box::pin(wait_for(u64::MAX));
        start(timer.as_mut()).await;
        forget(timer);
    }
    count.to_string()
}

fn streams(count: u64) -> String {
    for _ in 0..count {
        forget(wit_stream::new::<u8>());
    }
    count.to_string()
}

fn futures(count: u64) -> String {
    for _ in 0..count {
        forget(wit_future::new::<Result<(), ErrorCode>>(|| Ok(())));
    }
    count.to_string()
}

/// Tasks that outlive the response, each with a wait of its own.
fn tasks(count: u64) -> String {
    for _ in 0..count {
        spawn_local(async { wait_for(u64::MAX).await });
    }
    count.to_string()
}

async fn for_ever() -> String {
    wait_for(u64::MAX).await;
    "it is over".to_owned()
}

/// Looks for another's secret, and leaves its own.
async fn find_and_plant(request: Request, target: &Target) -> String {
    let found = canary::search(target.text("seek").unwrap_or_default());
    let (_, all_well) = wit_future::new(|| Ok(()));
    let (mut stream, _) = Request::consume_body(request, all_well);
    let mut secret = Vec::new();
    while let (StreamResult::Complete(_), bytes) = stream.read(Vec::with_capacity(1 << 16)).await {
        secret.extend_from_slice(&bytes);
    }
    canary::plant(&String::from_utf8_lossy(&secret));
    found.to_string()
}

/// Polls a future once, so that what it asks of the host is asked.
async fn start<T>(mut future: Pin<&mut (impl Future<Output = T> + ?Sized)>) {
    std::future::poll_fn(|cx| {
        let _ = future.as_mut().poll(cx);
        Poll::Ready(())
    })
    .await;
}

fn answer(headers: &[(String, Vec<u8>)], text: &str) -> Result<Response, ErrorCode> {
    let text = text.as_bytes().to_vec();
    let (mut body, contents) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _) =
        Response::new(Fields::from_list(headers).unwrap(), Some(contents), trailers);
    spawn_local(async move {
        // What is left over when the client has gone is nobody's concern.
        let _ = body.write_all(text).await;
    });
    Ok(response)
}
