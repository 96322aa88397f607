//! One WASI 0.3 component whose behaviour is chosen by the request path.
//!
//! This file owns the routes. `body` owns the reading and writing of bodies,
//! `streams` the routes that are about bodies, `failures` those that go wrong on
//! purpose, and `outbound` the one that asks another server.

mod body;
mod failures;
mod outbound;
mod streams;

use common::{Inspection, Target};
use wasip3::cli::environment::{get_arguments, get_environment};
use wasip3::clocks::monotonic_clock;
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response, Scheme};
use wasip3::random::random::{get_random_bytes, get_random_u64};

use crate::body::{Answer, Reply};

wasip3::http::service::export!(Kit);

struct Kit;

impl Guest for Kit {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let reply = Reply(common::enter(get_random_u64));
        let target = Target::parse(&request.get_path_with_query().unwrap_or_default());
        match target.path.as_str() {
            "/hello" => reply.text("hello world\n"),
            "/version" => reply.text(&common::version()),
            "/inspect" => inspect(&request, reply),
            "/log" => log(&target, reply),
            "/random" => random(&target, reply),
            "/handles" => handles(&target, reply),

            "/status" => status(&target, reply),
            "/headers" => headers(&target, reply),
            "/bad-headers" => bad_headers(reply),
            "/informational" => informational(reply),

            "/echo" => streams::echo(request, reply),
            "/discard" => streams::discard(request, reply).await,
            "/never-read" => reply.text("unread\n"),
            "/stream" => streams::stream(&target, reply),
            "/blob" => streams::blob(&target, reply),
            "/drip" => streams::drip(&target, reply),
            "/endless" => streams::endless(reply),
            "/fetch" => outbound::fetch(&target, reply).await,

            "/sleep" => sleep(&target, reply).await,
            "/spin" => spin(&target, reply),
            "/work" => work(&target, reply),
            "/tail" => tail(&target, reply),
            "/spin-after-head" => failures::spin_after_head(&target, reply),
            "/grow" => grow(&target, reply),
            "/stack" => reply.text(&common::consume_stack(0).to_string()),
            "/stall" => failures::stall(reply),
            "/never-answer" => wait_forever().await,
            "/no-response" => Err(ErrorCode::InternalError(Some("no response".to_owned()))),
            "/trap" => core::arch::wasm32::unreachable(),
            "/trap-after-head" => failures::trap_after_head(reply),
            "/trap-late" => failures::trap_late(reply),
            "/panic" => panic!("somebody asked for /panic"),
            "/exit0" => failures::exit_after_answer(reply),
            "/post-return" => post_return(&target, reply),

            _ => reply.full(404, &[], b"no such route\n"),
        }
    }
}

fn inspect(request: &Request, reply: Reply) -> Answer {
    let inspection = Inspection {
        method: method_name(request.get_method()),
        scheme: request.get_scheme().map(scheme_name).unwrap_or_default(),
        authority: request.get_authority().unwrap_or_default(),
        path_with_query: request.get_path_with_query().unwrap_or_default(),
        headers: request.get_headers().copy_all(),
        census: reply.0.census(),
        arguments: get_arguments(),
        environment: get_environment(),
    };
    let headers = [("content-type".to_owned(), b"application/json".to_vec())];
    reply.full(200, &headers, inspection.to_json().as_bytes())
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

fn log(target: &Target, reply: Reply) -> Answer {
    let line = "x".repeat(target.number("bytes", 16) as usize);
    for _ in 0..target.number("lines", 1) {
        println!("{line}");
    }
    eprintln!("to stderr");
    reply.text("logged\n")
}

fn random(target: &Target, reply: Reply) -> Answer {
    std::hint::black_box(get_random_bytes(target.number("bytes", 16)));
    reply.text("ok")
}

fn handles(target: &Target, reply: Reply) -> Answer {
    for _ in 0..target.number("count", 1) {
        std::mem::forget(Fields::new());
    }
    reply.text("ok")
}

fn status(target: &Target, reply: Reply) -> Answer {
    let code = target.number("code", 200) as u16;
    if body::refuses_status(code) {
        return reply.full(
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
    reply.full(code, &[], text.as_bytes())
}

fn headers(target: &Target, reply: Reply) -> Answer {
    let name = target.text("name").unwrap_or("x-kit");
    let value = target.text("value").unwrap_or_default().as_bytes();
    let fields = Fields::new();
    for _ in 0..target.number("count", 1) {
        if let Err(error) = fields.append(name, value) {
            return reply.full(500, &[], format!("{name}: {error:?}\n").as_bytes());
        }
    }
    reply.full(200, &fields.copy_all(), b"ok")
}

/// Tries the headers that belong to the connection, and says what came of it.
fn bad_headers(reply: Reply) -> Answer {
    let attempts = [("connection", "close"), ("transfer-encoding", "chunked")];
    let report: String = attempts
        .map(
            |(name, value)| match Fields::new().append(name, value.as_bytes()) {
                Ok(()) => format!("{name}: accepted\n"),
                Err(error) => format!("{name}: {error:?}\n"),
            },
        )
        .concat();
    reply.text(&report)
}

fn informational(reply: Reply) -> Answer {
    if body::refuses_status(101) {
        return reply.full(500, &[], b"the host refused status 101\n");
    }
    reply.full(101, &[], b"")
}

async fn sleep(target: &Target, reply: Reply) -> Answer {
    sleep_for(target.number("ms", 0)).await;
    reply.text("slept\n")
}

fn spin(target: &Target, reply: Reply) -> Answer {
    common::spin(target.number("ms", 0), monotonic_clock::now);
    reply.text("spun\n")
}

fn work(target: &Target, reply: Reply) -> Answer {
    common::work(target.number("turns", 1));
    reply.text("done\n")
}

/// Fast, but for each hundredth request of the instance.
fn tail(target: &Target, reply: Reply) -> Answer {
    if reply.0.census().served.is_multiple_of(target.number("every", 100)) {
        common::slow_lookup(target.number("ms", 300), monotonic_clock::now);
        return reply.text("found at last\n");
    }
    reply.text("found\n")
}

fn grow(target: &Target, reply: Reply) -> Answer {
    let mebibytes = target.number("mib", 1);
    match common::leak_mebibytes(mebibytes) {
        Ok(()) => reply.text(&mebibytes.to_string()),
        Err(_) => reply.full(507, &[], b"refused\n"),
    }
}

fn post_return(target: &Target, reply: Reply) -> Answer {
    let pause = target.number("ms", 100);
    reply.stream(200, &[], async move |mut writer| {
        let _ = writer.send(b"answered\n").await;
        writer.finish(None).await;
        sleep_for(pause).await;
        println!("post-return done");
    })
}

async fn sleep_for(milliseconds: u64) {
    monotonic_clock::wait_for(milliseconds.saturating_mul(1_000_000)).await;
}

async fn wait_forever() -> ! {
    const DAY_IN_MILLISECONDS: u64 = 86_400_000;
    loop {
        sleep_for(DAY_IN_MILLISECONDS).await;
    }
}
