//! Many apps on one node: their memory, the time to start with them, and to change one.
//!
//! `APPS` is how many there are; the first run of it compiles them all.

#[allow(dead_code, reason = "each bench uses its share")]
mod support;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use support::figures::median;
use support::guests::{self, Errand};
use support::load::{Over, Whom, text};
use support::machine::{cpu_time, memory, setting};
use support::process::{Server, free_address, run_tidegate, tidegate_program};
use support::table::{self, Target};

/// What tells one version of the sample app from another: the digits at its end.
const MARKER: &[u8] = b"tidegate-hello-version:00000001";
const DIGITS: usize = 8;

const VERSION: Errand =
    Errand { title: "version", path: "/version", upload: 0, answer: DIGITS, small: true };

/// How long the idle fleet is watched.
const IDLE: Duration = Duration::from_secs(10);

/// Apps in the manifest of the start that is timed, and how often it is.
const STARTED: usize = 100;
const STARTS: usize = 5;

const CHANGES: usize = 7;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(run());
}

async fn run() {
    let apps = setting("APPS", 1000.0) as usize;
    let dir = tempfile::tempdir().expect("a folder");
    let hello = guests::read(&guests::path("apps/hello.wasm"));
    let all = Fleet::make(dir.path(), "all", &hello, apps);
    let some = Fleet::make(dir.path(), "some", &hello, STARTED.min(apps));

    println!("compiling {apps} components");
    let begun = Instant::now();
    drop(all.start().await);
    println!("compiled, cached and serving after {:.1} s", begun.elapsed().as_secs_f64());

    let mut targets = at_rest(&all).await;
    targets.extend(start(&some).await);
    targets.extend(change(&some, &hello).await);
    table::targets("Targets", &targets);
}

/// The whole fleet with one idle instance each: its memory, and what it costs to have.
async fn at_rest(fleet: &Fleet) -> Vec<Target> {
    let begun = Instant::now();
    let (server, address) = fleet.start().await;
    println!("{} cached apps: first answer after {:?}", fleet.size, begun.elapsed());
    let before = memory(server.pid());
    for app in 1..=fleet.size {
        assert_eq!(version(address, app).await, digits(app), "the version of app {app}");
    }
    let after = memory(server.pid());
    let cpu = cpu_time(server.pid());
    tokio::time::sleep(IDLE).await;
    let idle = (cpu_time(server.pid()) - cpu).as_secs_f64() / IDLE.as_secs_f64() * 100.0;

    let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
    let row = |when: &str, memory: support::machine::Memory| {
        vec![
            when.to_owned(),
            format!("{:.1}", mib(memory.resident)),
            format!("{:.1}", mib(memory.proportional)),
        ]
    };
    let rows = [row("before the first request", before), row("one idle instance each", after)];
    table::print(&format!("{} apps: memory, MiB", fleet.size), &["", "VmRSS", "Pss"], &rows);
    vec![
        Target::at_most(format!("{} apps: VmRSS", fleet.size), mib(after.resident), 512.0, "MiB"),
        Target::at_most(format!("{} apps: idle CPU", fleet.size), idle, 1.0, "%"),
    ]
}

/// From exec to the first answer, with all code in the cache.
async fn start(fleet: &Fleet) -> Vec<Target> {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let begun = Instant::now();
        let server = fleet.start().await;
        times.push(begun.elapsed().as_secs_f64());
        drop(server);
    }
    println!("\nstarts with {} cached apps, seconds: {}", fleet.size, list(&times));
    let what = format!("start with {} cached apps, median", fleet.size);
    vec![Target::at_most(what, median(times), 1.0, "s")]
}

/// From the rename of a changed component to its first answer, less what it takes to compile.
async fn change(fleet: &Fleet, hello: &[u8]) -> Vec<Target> {
    let (_server, address) = fleet.start().await;
    let app = 1;
    let mut times = Vec::new();
    let mut compilations = Vec::new();
    for change in 0..CHANGES {
        // None of the other apps: nobody has its code.
        let number = 90_000_000 + change;
        let bytes = variant(hello, number);
        let compiling = compile_time(&bytes);
        let next = fleet.dir.join("next");
        fs::write(&next, &bytes).expect("a component");
        version(address, app).await;

        let begun = Instant::now();
        fs::rename(&next, fleet.component(app)).expect("a rename");
        while version(address, app).await != digits(number) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let elapsed = begun.elapsed();
        compilations.push(compiling.as_secs_f64() * 1e3);
        times.push(elapsed.saturating_sub(compiling).as_secs_f64() * 1e3);
    }
    println!("\nchanges, ms beyond compiling: {}", list(&times));
    println!("compiling alone, ms: {}", list(&compilations));
    let worst = times.iter().copied().fold(0.0, f64::max);
    vec![
        Target::at_most("a changed component, median", median(times), 300.0, "ms"),
        Target::at_most("a changed component, worst", worst, 300.0, "ms"),
    ]
}

/// On an engine like the one that serves, the best of three.
fn compile_time(bytes: &[u8]) -> Duration {
    let engines = tidegate::guest::Engines::new().expect("engines");
    let once = || {
        let begun = Instant::now();
        tidegate::guest::Component::compile_here(&engines, bytes).expect("a component");
        begun.elapsed()
    };
    (0..3).map(|_| once()).min().expect("three")
}

/// Distinct apps in a folder, and the manifest that serves it.
struct Fleet {
    dir: PathBuf,
    size: usize,
}

impl Fleet {
    /// Fleets in the same folder share their compiled code.
    fn make(dir: &Path, name: &str, hello: &[u8], size: usize) -> Self {
        let state = dir.join("state");
        let dir = dir.join(name);
        fs::create_dir_all(dir.join("apps")).expect("a folder");
        let fleet = Self { dir, size };
        for app in 1..=size {
            fs::write(fleet.component(app), variant(hello, app)).expect("a component");
        }
        let manifest = format!(
            "[server]\nhttp = [\"ADDRESS\"]\nstate_dir = {state:?}\n\
             [defaults]\nidle_timeout = \"1h\"\n\
             [hosts]\n\"*.apps.localhost\" = {{ folder = \"apps\" }}\n"
        );
        fs::write(fleet.dir.join("template.toml"), manifest).expect("a manifest");
        fleet
    }

    fn component(&self, app: usize) -> PathBuf {
        self.dir.join(format!("apps/app-{app}.wasm"))
    }

    /// Starts tidegate and waits for the first answer.
    async fn start(&self) -> (Server, SocketAddr) {
        let address = free_address();
        let template = fs::read_to_string(self.dir.join("template.toml")).expect("a manifest");
        let manifest = self.dir.join("config.toml");
        fs::write(&manifest, template.replace("ADDRESS", &address.to_string()))
            .expect("a manifest");
        let mut server = Server::start(run_tidegate(&tidegate_program(), &manifest), None);
        server.answers(&whom(address, self.size), VERSION).await;
        (server, address)
    }
}

async fn version(address: SocketAddr, app: usize) -> String {
    text(&whom(address, app), VERSION).await.expect("an answer")
}

fn whom(address: SocketAddr, app: usize) -> Whom {
    Whom { address, host: format!("app-{app}.apps.localhost"), over: Over::Plain }
}

fn digits(number: usize) -> String {
    format!("{number:08}")
}

/// The sample app with another version in it: a component that no other is equal to.
fn variant(hello: &[u8], number: usize) -> Vec<u8> {
    let at = hello.windows(MARKER.len()).position(|bytes| bytes == MARKER);
    let end = at.expect("the version's marker") + MARKER.len();
    let mut bytes = hello.to_vec();
    bytes[end - DIGITS..end].copy_from_slice(digits(number).as_bytes());
    bytes
}

fn list(figures: &[f64]) -> String {
    figures.iter().map(|figure| format!("{figure:.2}")).collect::<Vec<_>>().join(", ")
}
