//! Servers side by side, each in a process on one core, the load on another.
//!
//! Requests per second, latency and the server's CPU per request. `ROUNDS`,
//! `SECONDS` (per round and contestant) and `CONNECTIONS` change its length and
//! load; `ERRAND` names the one kind of request that is wanted, as a prefix, and
//! `ONLY` those who are, by a part of their names. `SPIN=0` lets the load sleep.
//! `BASELINE` names another build of tidegate, to see what a change costs. `TRACES=1/100` has so
//! many requests of the current one traced.

#[allow(dead_code, reason = "each bench uses its share")]
mod support;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use wasmtime_wasi_http::WasiBody;

use support::contestant::{Build, Mode, Tidegate, Who, Wire, start};
use support::figures::{difference, ratio};
use support::guests::{ERRANDS, Errand, HELLO};
use support::machine::load_apart_from_server;
use support::reference::{Reference, Reuse, reference};
use support::rounds::{self, Contestant, costs, take_turns};
use support::table::{self, Target};

fn main() {
    let args: Vec<_> = std::env::args().collect();
    if let [_, serve, kind, address, guest, total, concurrent] = &args[..]
        && serve == "--serve"
    {
        let number = |text: &String| text.parse().expect("a number");
        let reuse = Reuse { total: number(total), concurrent: number(concurrent) };
        return serve_as_child(kind, address.parse().expect("an address"), guest, reuse);
    }

    let server = load_apart_from_server();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let wanted = std::env::var("ERRAND").unwrap_or_default();
        for errand in ERRANDS.into_iter().filter(|errand| errand.title.starts_with(&wanted)) {
            run(errand, server).await;
        }
    });
}

async fn run(errand: Errand, core: usize) {
    let dir = tempfile::tempdir().expect("a folder");
    let (servers, mut contestants) = start(errand, core, dir.path()).await;
    let only = std::env::var("ONLY").unwrap_or_default();
    contestants.retain(|contestant| contestant.who.to_string().contains(&only));
    let rounds = take_turns(&mut contestants, errand).await;
    drop(servers);

    rounds::print(errand.title, &contestants);
    let targets = targets(&contestants);
    match errand.small {
        true => table::targets("Targets, CPU per request", &targets),
        false => table::figures("The same comparisons, without targets", &targets),
    }
    let growth = growth(&contestants);
    if !growth.is_empty() {
        let title = format!("CPU per request against the baseline, {}", errand.title);
        table::targets(&title, &growth);
        table::record("Cost of all limits", &title, rounds, &growth);
    }
}

/// How much dearer than the `BASELINE` a request may be.
const MOST_GROWTH: f64 = 1.05;

/// What was promised, with the access log off and on.
fn targets(contestants: &[Contestant<Who>]) -> Vec<Target> {
    let costs = |who| costs(contestants, who);
    let mut targets = Vec::new();
    for log in [false, true] {
        let tidegate = |build, mode, wire| Who::Tidegate(Tidegate { build, mode, wire, log });
        let ours = |mode| costs(tidegate(Build::Current, mode, Wire::Plain));
        let mut below = |mode, other, most| {
            let what = format!("{} / {other}", tidegate(Build::Current, mode, Wire::Plain));
            targets.push(Target::at_most(what, ratio(&ours(mode), &costs(other)), most, ""));
        };
        below(Mode::P2Reused, Who::Reference(Mode::P2Reused), 0.85);
        below(Mode::P3, Who::Reference(Mode::P3), 0.9);
        below(Mode::P2Reused, Who::Wasmtime(Mode::P2Reused), 0.65);
        below(Mode::P2Fresh, Who::Wasmtime(Mode::P2Fresh), 0.45);
        below(Mode::P3, Who::Wasmtime(Mode::P3), 0.75);

        let reused = ours(Mode::P2Reused);
        let state = if log { "log on" } else { "log off" };
        let fresh = difference(&ours(Mode::P2Fresh), &reused);
        targets.push(Target::at_most(format!("fresh over reused, {state}"), fresh, 45.0, "us"));
        let over = |wire| costs(tidegate(Build::Current, Mode::P2Reused, wire));
        let tls = difference(&over(Wire::Tls), &reused);
        targets.push(Target::at_most(format!("TLS over plain, {state}"), tls, 5.0, "us"));
    }
    targets
}

/// What a request costs beside the `BASELINE`, where one is named.
fn growth(contestants: &[Contestant<Who>]) -> Vec<Target> {
    let costs = |who| costs(contestants, who);
    let baselines = contestants.iter().filter_map(|contestant| match contestant.who {
        Who::Tidegate(then) if then.build == Build::Baseline => Some(then),
        _ => None,
    });
    baselines
        .map(|then| {
            let now = Who::Tidegate(Tidegate { build: Build::Current, ..then });
            let growth = ratio(&costs(now), &costs(Who::Tidegate(then)));
            Target::at_most(format!("{now} / baseline"), growth, MOST_GROWTH, "")
        })
        .collect()
}

/// A server that this bench has started: hyper alone, or the reference behind it.
fn serve_as_child(kind: &str, address: SocketAddr, guest: &str, reuse: Reuse) {
    // As many threads as cores, which is one: the same as all others have.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let listener = TcpListener::bind(address).await.expect("an address");
        let handler = (kind == "reference").then(|| reference(Path::new(guest), reuse));
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            stream.set_nodelay(true).expect("a socket option");
            let handler = handler.clone();
            tokio::spawn(async move {
                let respond = service_fn(|request| respond(handler.as_ref(), request));
                // An error is a client that left.
                let io = TokioIo::new(stream);
                let _ = http1::Builder::new().serve_connection(io, respond).await;
            });
        }
    });
}

async fn respond(
    handler: Option<&Reference>,
    request: http::Request<Incoming>,
) -> Result<http::Response<WasiBody>, Infallible> {
    let Some(handler) = handler else {
        return Ok(answer_without_guest(request).await);
    };
    let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
    Ok(handler.handle((), request).await.expect("an answer"))
}

async fn answer_without_guest(request: http::Request<Incoming>) -> http::Response<WasiBody> {
    let errand =
        ERRANDS.iter().find(|e| Some(e.path) == request.uri().path_and_query().map(|p| p.as_str()));
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        frame.expect("a whole body");
    }
    static BLOB: [u8; 1 << 20] = [b'x'; 1 << 20];
    let body = match errand {
        Some(errand) if errand.small => Bytes::from_static(HELLO.as_bytes()),
        Some(errand) => Bytes::from_static(&BLOB[..errand.answer]),
        // Spans, for which it stands in as a collector.
        None => Bytes::new(),
    };
    http::Response::builder()
        .header("content-type", "text/plain")
        .body(Full::new(body).map_err(|e| match e {}).boxed_unsync())
        .expect("a response")
}
