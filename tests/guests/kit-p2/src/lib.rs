//! One WASI 0.2 component whose behaviour is chosen by the request path.
//!
//! This file owns the routes. `body` owns the reading and writing of bodies,
//! `streams` the routes that are about bodies, `failures` those that go wrong on
//! purpose, and `outbound` the one that asks another server.

mod body;
mod failures;
mod outbound;
mod streams;

use common::{Inspection, Target, Visit};
use wasip2::cli::environment::{get_arguments, get_environment};
use wasip2::clocks::monotonic_clock;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, Method, OutgoingResponse, ResponseOutparam, Scheme,
};
use wasip2::random::random::{get_random_bytes, get_random_u64};

use crate::body::{answer, answer_in_full};

wasip2::http::proxy::export!(Kit);

struct Kit;

impl Guest for Kit {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let visit = common::enter(get_random_u64);
        let target = Target::parse(&request.path_with_query().unwrap_or_default());
        match target.path.as_str() {
            "/hello" => answer(out, "hello world\n"),
            "/version" => answer(out, &common::version()),
            "/inspect" => inspect(&request, &visit, out),
            "/log" => log(&target, out),
            "/random" => random(&target, out),
            "/handles" => handles(&target, out),

            "/status" => status(&target, out),
            "/headers" => headers(&target, out),
            "/bad-headers" => bad_headers(out),
            "/informational" => informational(out),

            "/echo" => streams::echo(request, out),
            "/discard" => streams::discard(request, out),
            "/never-read" => answer(out, "unread\n"),
            "/stream" => streams::stream(&target, out),
            "/blob" => streams::blob(&target, out),
            "/drip" => streams::drip(&target, out),
            "/endless" => streams::endless(out),
            "/fetch" => outbound::fetch(&target, out),

            "/sleep" => sleep(&target, out),
            "/spin" => spin(&target, out),
            "/work" => work(&target, out),
            "/tail" => tail(&target, &visit, out),
            "/spin-after-head" => failures::spin_after_head(&target, out),
            "/grow" => grow(&target, out),
            "/stack" => answer(out, &common::consume_stack(0).to_string()),
            "/stall" => failures::stall(out),
            "/never-answer" => wait_forever(),
            "/no-response" => drop(out),
            "/trap" => core::arch::wasm32::unreachable(),
            "/trap-after-head" => failures::trap_after_head(out),
            "/trap-late" => failures::trap_late(out),
            "/panic" => panic!("somebody asked for /panic"),
            "/exit0" => failures::exit_after_answer(out),
            "/post-return" => post_return(&target, out),

            _ => answer_in_full(out, 404, &[], b"no such route\n"),
        }
    }
}

fn inspect(request: &IncomingRequest, visit: &Visit, out: ResponseOutparam) {
    let inspection = Inspection {
        method: method_name(request.method()),
        scheme: request.scheme().map(scheme_name).unwrap_or_default(),
        authority: request.authority().unwrap_or_default(),
        path_with_query: request.path_with_query().unwrap_or_default(),
        headers: request.headers().entries(),
        census: visit.census(),
        arguments: get_arguments(),
        environment: get_environment(),
    };
    let headers = [("content-type".to_owned(), b"application/json".to_vec())];
    answer_in_full(out, 200, &headers, inspection.to_json().as_bytes());
}

fn method_name(method: Method) -> String {
    match method {
        Method::Get => "GET".to_owned(),
        Method::Head => "HEAD".to_owned(),
        Method::Post => "POST".to_owned(),
        Method::Put => "PUT".to_owned(),
        Method::Delete => "DELETE".to_owned(),
        Method::Connect => "CONNECT".to_owned(),
        Method::Options => "OPTIONS".to_owned(),
        Method::Trace => "TRACE".to_owned(),
        Method::Patch => "PATCH".to_owned(),
        Method::Other(name) => name,
    }
}

fn scheme_name(scheme: Scheme) -> String {
    match scheme {
        Scheme::Http => "http".to_owned(),
        Scheme::Https => "https".to_owned(),
        Scheme::Other(name) => name,
    }
}

fn log(target: &Target, out: ResponseOutparam) {
    let line = "x".repeat(target.number("bytes", 16) as usize);
    for _ in 0..target.number("lines", 1) {
        println!("{line}");
    }
    eprintln!("to stderr");
    answer(out, "logged\n");
}

fn random(target: &Target, out: ResponseOutparam) {
    std::hint::black_box(get_random_bytes(target.number("bytes", 16)));
    answer(out, "ok");
}

fn handles(target: &Target, out: ResponseOutparam) {
    for _ in 0..target.number("count", 1) {
        std::mem::forget(Fields::new());
    }
    answer(out, "ok");
}

fn status(target: &Target, out: ResponseOutparam) {
    let code = target.number("code", 200) as u16;
    if OutgoingResponse::new(Fields::new())
        .set_status_code(code)
        .is_err()
    {
        return answer_in_full(
            out,
            500,
            &[],
            format!("the host refused status {code}\n").as_bytes(),
        );
    }
    let text = if target.number("body", 1) == 1 {
        format!("status {code}\n")
    } else {
        String::new()
    };
    answer_in_full(out, code, &[], text.as_bytes());
}

fn headers(target: &Target, out: ResponseOutparam) {
    let name = target.text("name").unwrap_or("x-kit");
    let value = target.text("value").unwrap_or_default().as_bytes();
    let fields = Fields::new();
    for _ in 0..target.number("count", 1) {
        if let Err(error) = fields.append(name, value) {
            return answer_in_full(out, 500, &[], format!("{name}: {error:?}\n").as_bytes());
        }
    }
    answer_in_full(out, 200, &fields.entries(), b"ok");
}

/// Tries the headers that belong to the connection, and says what came of it.
fn bad_headers(out: ResponseOutparam) {
    let attempts = [("connection", "close"), ("transfer-encoding", "chunked")];
    let report: String = attempts
        .map(
            |(name, value)| match Fields::new().append(name, value.as_bytes()) {
                Ok(()) => format!("{name}: accepted\n"),
                Err(error) => format!("{name}: {error:?}\n"),
            },
        )
        .concat();
    answer(out, &report);
}

fn informational(out: ResponseOutparam) {
    if OutgoingResponse::new(Fields::new())
        .set_status_code(101)
        .is_err()
    {
        return answer_in_full(out, 500, &[], b"the host refused status 101\n");
    }
    answer_in_full(out, 101, &[], b"");
}

fn sleep(target: &Target, out: ResponseOutparam) {
    sleep_for(target.number("ms", 0));
    answer(out, "slept\n");
}

fn spin(target: &Target, out: ResponseOutparam) {
    common::spin(target.number("ms", 0), monotonic_clock::now);
    answer(out, "spun\n");
}

fn work(target: &Target, out: ResponseOutparam) {
    common::work(target.number("turns", 1));
    answer(out, "done\n");
}

/// Fast, but for each hundredth request of the instance.
fn tail(target: &Target, visit: &Visit, out: ResponseOutparam) {
    if visit.census().served.is_multiple_of(target.number("every", 100)) {
        common::slow_lookup(target.number("ms", 300), monotonic_clock::now);
        return answer(out, "found at last\n");
    }
    answer(out, "found\n");
}

fn grow(target: &Target, out: ResponseOutparam) {
    let mebibytes = target.number("mib", 1);
    match common::leak_mebibytes(mebibytes) {
        Ok(()) => answer(out, &mebibytes.to_string()),
        Err(_) => answer_in_full(out, 507, &[], b"refused\n"),
    }
}

fn post_return(target: &Target, out: ResponseOutparam) {
    answer(out, "answered\n");
    sleep_for(target.number("ms", 100));
    println!("post-return done");
}

fn sleep_for(milliseconds: u64) {
    monotonic_clock::subscribe_duration(milliseconds.saturating_mul(1_000_000)).block();
}

fn wait_forever() -> ! {
    const DAY_IN_MILLISECONDS: u64 = 86_400_000;
    loop {
        sleep_for(DAY_IN_MILLISECONDS);
    }
}
