//! A WASI 0.2 component that takes of the host whatever it can get, by request path.
//!
//! Each route tries one thing, `count` times or with `bytes` bytes, keeps what it
//! gets, and says how far it came.

mod network;

use std::mem::forget;

use common::Target;
use wasip2::cli::stdin::get_stdin;
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::filesystem::preopens::get_directories;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::poll::poll;
use wasip2::random::random::get_random_bytes;

wasip2::http::proxy::export!(Hostile);

struct Hostile;

impl Guest for Hostile {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = Target::parse(&request.path_with_query().unwrap_or_default());
        let count = target.number("count", 1);
        let bytes = target.number("bytes", 1) as usize;
        let said = match target.path.as_str() {
            "/fields" => fields(count, bytes),
            "/append" => append(count, bytes),
            "/from-list" => from_list(count, bytes),
            "/copies" => copies(&request, count),
            "/bodies" => bodies(count),
            "/responses" => responses(count),
            "/timers" => timers(count),
            "/poll" => poll_many(count),
            "/for-ever" => for_ever(),
            "/random" => get_random_bytes(bytes as u64).len().to_string(),
            "/stdout" => stdout(bytes),
            "/stdin" => stdin(),
            "/files" => get_directories().len().to_string(),
            "/tcp" => network::tcp(count),
            "/udp" => network::udp(count),
            "/dns" => network::dns(),
            "/answer-header" => return answer(out, &[("x-big".into(), vec![b'x'; bytes])], "ok"),
            "/canary" => find_and_plant(&request, &target),
            _ => "no such route".to_owned(),
        };
        answer(out, &[], &said);
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
fn copies(request: &IncomingRequest, count: u64) -> String {
    let headers = request.headers();
    for _ in 0..count {
        let copy = headers.clone();
        let _ = copy.append("x", b"x");
        forget(copy);
    }
    count.to_string()
}

/// Bodies that nobody will read, each filled as far as the host lets it.
fn bodies(count: u64) -> String {
    let chunk = vec![b'x'; 1 << 20];
    let mut written = 0;
    for _ in 0..count {
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().unwrap();
        let stream = body.write().unwrap();
        while let Ok(room @ 1..) = stream.check_write() {
            let room = chunk.len().min(room as usize);
            stream.write(&chunk[..room]).unwrap();
            written += room;
        }
        forget((response, body, stream));
    }
    written.to_string()
}

fn responses(count: u64) -> String {
    for _ in 0..count {
        forget(OutgoingResponse::new(Fields::new()));
    }
    count.to_string()
}

fn timers(count: u64) -> String {
    for _ in 0..count {
        forget(subscribe_duration(u64::MAX));
    }
    count.to_string()
}

/// One timer that is over, and many that never are.
fn poll_many(count: u64) -> String {
    let timer = |n| subscribe_duration(if n == 0 { 0 } else { u64::MAX });
    let timers: Vec<_> = (0..count).map(timer).collect();
    poll(&timers.iter().collect::<Vec<_>>()).len().to_string()
}

fn for_ever() -> String {
    subscribe_duration(u64::MAX).block();
    "it is over".to_owned()
}

/// More in one write than was granted.
fn stdout(bytes: usize) -> String {
    let stdout = wasip2::cli::stdout::get_stdout();
    format!("{:?}", stdout.write(&vec![b'x'; bytes]).is_ok())
}

fn stdin() -> String {
    format!("{:?}", get_stdin().blocking_read(1).is_ok())
}

/// Looks for another's secret, and leaves its own.
fn find_and_plant(request: &IncomingRequest, target: &Target) -> String {
    let found = canary::search(target.text("seek").unwrap_or_default());
    let body = request.consume().unwrap();
    let stream = body.stream().unwrap();
    let mut secret = Vec::new();
    while let Ok(bytes) = stream.blocking_read(1 << 16) {
        secret.extend_from_slice(&bytes);
    }
    canary::plant(&String::from_utf8_lossy(&secret));
    found.to_string()
}

fn answer(out: ResponseOutparam, headers: &[(String, Vec<u8>)], text: &str) {
    let headers = Fields::from_list(headers).unwrap();
    let response = OutgoingResponse::new(headers);
    let body = response.body().unwrap();
    let stream = body.write().unwrap();
    ResponseOutparam::set(out, Ok(response));
    stream.blocking_write_and_flush(text.as_bytes()).unwrap();
    drop(stream);
    // It fails only if the client has already left.
    let _ = OutgoingBody::finish(body, None);
}
