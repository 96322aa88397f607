//! tidegate's pool against the crate's own `ProxyHandler`: the same guests in one process, without sockets.
//!
//! CPU per request on one core. `ROUNDS` and `SECONDS` (per round and
//! contestant) make it longer or shorter; `ERRAND` and `ONLY` choose requests
//! and instances, by the beginning and by a part of their titles.

#[allow(dead_code, reason = "each bench uses its share")]
mod support;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt, Empty, Full};
use tidegate::config::Limits;
use tidegate::guest::memory::Node;
use tidegate::guest::outbound::{Network, Outbound};
use tidegate::guest::store::Template;
use tidegate::guest::{Account, Component, Engines};
use tidegate::limit::Tally;
use tidegate::pool::{Blueprint, Pool, Request};
use tidegate::request_id::RequestId;
use tokio_util::task::TaskTracker;
use wasmtime_wasi_http::WasiBody;

use support::figures::{median, order, ratio};
use support::guests::{self, ERRANDS, Errand, Wasi};
use support::machine::{cores, cpu_time, name_thread, pin, setting};
use support::reference::{Reference, Reuse, reference};
use support::table::{self, Target};

/// How the instances are used, and by how many clients at a time.
struct Mode {
    title: &'static str,
    wasi: Wasi,
    reuse: Reuse,
    clients: usize,
    /// The most that tidegate's CPU on the small answer may be of the reference's.
    target: Option<f64>,
}

const MODES: [Mode; 4] = [
    Mode {
        title: "p2 reused",
        wasi: Wasi::P2,
        reuse: Reuse { total: 1000, concurrent: 1 },
        clients: 1,
        target: Some(0.85),
    },
    Mode {
        title: "p2 fresh",
        wasi: Wasi::P2,
        reuse: Reuse { total: 1, concurrent: 1 },
        clients: 1,
        target: None,
    },
    Mode {
        title: "p3 reused x16",
        wasi: Wasi::P3,
        reuse: Reuse { total: 1000, concurrent: 16 },
        clients: 16,
        target: Some(0.9),
    },
    Mode {
        title: "p3 one at a time",
        wasi: Wasi::P3,
        reuse: Reuse { total: 1000, concurrent: 1 },
        clients: 1,
        target: None,
    },
];

/// Requests between two looks at the clock.
const BATCH: usize = 64;

/// After this without a guest tidegate's epoch thread costs nothing any more.
const EPOCHS_REST: Duration = Duration::from_millis(120);

fn main() {
    // Before any thread: they all stay on it.
    pin(*cores().last().expect("a core")).expect("a core to stay on");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(run());
}

async fn run() {
    let rounds = setting("ROUNDS", 7.0) as usize;
    let slice = Duration::from_secs_f64(setting("SECONDS", 0.25));
    let engines = Engines::new().expect("engines");
    let mut targets = Vec::new();
    let errands = std::env::var("ERRAND").unwrap_or_default();
    let only = std::env::var("ONLY").unwrap_or_default();
    for errand in ERRANDS.into_iter().filter(|errand| errand.title.starts_with(&errands)) {
        let mut rows = Vec::new();
        let mut reused = f64::NAN;
        for mode in MODES.iter().filter(|mode| mode.title.contains(&only)) {
            let contestants = [
                Contestant::Reference(reference(&errand.guest(mode.wasi), mode.reuse)),
                Contestant::Tidegate(pool(&engines, &errand, mode)),
            ];
            let mut costs = [Vec::new(), Vec::new()];
            for contestant in &contestants {
                contestant.run(&errand, mode.clients, slice / 4).await;
            }
            for round in 0..rounds {
                for which in order(round, contestants.len()) {
                    let cost = contestants[which].run(&errand, mode.clients, slice).await;
                    costs[which].push(cost);
                }
            }
            let [theirs, ours] = costs;
            let ratio = ratio(&ours, &theirs);
            rows.push(vec![
                mode.title.to_owned(),
                format!("{:.1}", median(theirs)),
                format!("{:.1}", median(ours.clone())),
                format!("{ratio:.2}"),
            ]);
            if !errand.small {
                continue;
            }
            if let Some(most) = mode.target {
                let what = format!("{}: tidegate / reference", mode.title);
                targets.push(Target::at_most(what, ratio, most, ""));
            }
            match mode.title {
                "p2 reused" => reused = median(ours),
                "p2 fresh" => targets.push(Target::at_most(
                    "p2: fresh over reused",
                    median(ours) - reused,
                    45.0,
                    "us",
                )),
                _ => {}
            }
        }
        let head = ["", "reference", "tidegate", "ratio"];
        table::print(&format!("{}: CPU us per request", errand.title), &head, &rows);
    }
    table::targets("Targets, small answer", &targets);
}

enum Contestant {
    Reference(Reference),
    Tidegate(Pool),
}

impl Contestant {
    /// Serves requests for at least `time`; CPU microseconds per request.
    async fn run(&self, errand: &Errand, clients: usize, time: Duration) -> f64 {
        let pid = std::process::id();
        let upload = Bytes::from(vec![7; errand.upload]);
        // Whoever was measured before, tidegate's epoch thread sleeps again.
        tokio::time::sleep(EPOCHS_REST).await;
        name_thread(match self {
            Self::Reference(_) => c"reference",
            Self::Tidegate(_) => c"tidegate",
        });
        let (begun, cpu) = (Instant::now(), cpu_time(pid));
        let mut count = 0;
        while begun.elapsed() < time {
            let each = BATCH / clients;
            let client = || async {
                for _ in 0..each {
                    let size = self.ask(request(errand, &upload)).await;
                    assert_eq!(size, errand.answer, "the answer's size");
                }
            };
            join_all((0..clients).map(|_| client())).await;
            count += each * clients;
        }
        (cpu_time(pid) - cpu).as_secs_f64() * 1e6 / count as f64
    }

    /// Asks once and reads the answer; its size.
    async fn ask(&self, request: http::Request<WasiBody>) -> usize {
        match self {
            Self::Reference(handler) => {
                let answer = handler.handle((), request).await.expect("an answer");
                size(answer.into_body()).await
            }
            Self::Tidegate(pool) => {
                let id = RequestId::next();
                let request =
                    Request { id, http: request, permit: None, crowded: false, trace: None };
                size(pool.handle(request).await.expect("an answer").http.into_body()).await
            }
        }
    }
}

async fn size<B>(mut body: B) -> usize
where
    B: http_body::Body<Data = Bytes, Error: std::fmt::Debug> + Unpin,
{
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        size += frame.expect("a whole body").data_ref().map_or(0, Bytes::len);
    }
    size
}

fn request(errand: &Errand, upload: &Bytes) -> http::Request<WasiBody> {
    let (method, body) = match upload.is_empty() {
        true => (http::Method::GET, Empty::new().map_err(|e| match e {}).boxed_unsync()),
        false => {
            (http::Method::POST, Full::new(upload.clone()).map_err(|e| match e {}).boxed_unsync())
        }
    };
    http::Request::builder()
        .method(method)
        .uri(format!("http://bench.localhost{}", errand.path))
        .header("host", "bench.localhost")
        .body(body)
        .expect("a request")
}

fn pool(engines: &Arc<Engines>, errand: &Errand, mode: &Mode) -> Pool {
    let bytes = guests::read(&errand.guest(mode.wasi));
    let count = |number| NonZeroUsize::new(number).expect("not zero");
    let limits = Limits {
        max_requests_per_instance: count(mode.reuse.total),
        max_concurrent_per_instance: count(mode.reuse.concurrent),
        ..Limits::default()
    };
    let tally = Tally::new(None);
    let outbound = Outbound::new(&BTreeSet::new(), &limits, tally.clone(), Network::new());
    let cpu = Account::new(limits.cpu_weight);
    Pool::new(Blueprint {
        component: Arc::new(Component::compile_here(engines, &bytes).expect("a component")),
        template: Template::new("bench", &limits, &tally, outbound, cpu),
        limits,
        tally,
        memory: Node::new(usize::MAX).account(),
        profiler: None,
        crashes: None,
        dev: false,
        generation: 1,
        tasks: TaskTracker::new(),
        stats: Default::default(),
        evicting: false.into(),
        roster: Default::default(),
        drain: Default::default(),
    })
}
