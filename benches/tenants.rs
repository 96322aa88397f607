//! One app beside another that computes without end, on one core; the load is on the other.
//!
//! How late its answers are beside fifty loops, how the CPU is shared by weights, and how much
//! of it is left for guests. `SECONDS` is the length of each turn, `ROUNDS` their number.

#[allow(dead_code, reason = "each bench uses its share")]
mod support;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use support::figures::median;
use support::guests::path;
use support::load::read_answer;
use support::machine::{cpu_time, load_apart_from_server, setting};
use support::parse::Answer;
use support::process::{Server, free_address, run_tidegate, tidegate_program};
use support::table::{self, Target};

const KITS: [&str; 2] = ["kit-p2", "kit-p3"];

/// What the app is asked for whose answers are timed: something short, and some milliseconds of work.
const PATHS: [&str; 2] = ["/hello", "/work?turns=5000000"];

/// What never ends by itself.
const LOOP: &str = "/spin?ms=0";
const LOOPS: usize = 50;

/// Loops of each app where weights are compared. Each is ended after so much CPU, and counted.
const WEIGHED: usize = 8;
const COUNTED: Duration = Duration::from_millis(20);

/// Between two requests that are timed.
const PAUSE: Duration = Duration::from_millis(5);

/// How much later the 99th of a hundred answers may be beside loops.
const MOST_DELAY: f64 = 2.0;

/// By how much the heavier app may miss its three quarters.
const MOST_MISSED: f64 = 0.05;

fn main() {
    let server = load_apart_from_server();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        for kit in KITS {
            latency(kit, server).await;
            shares(kit, server).await;
        }
    });
}

/// The app `b`, alone and beside loops of `a`, in turns. Each on a server of its own, as loops go
/// on without their clients.
async fn latency(kit: &str, core: usize) {
    let rounds = setting("ROUNDS", 5.0) as usize;
    let time = Duration::from_secs_f64(setting("SECONDS", 4.0));
    let dir = tempfile::tempdir().expect("a folder");
    let patient = "request_timeout = \"1h\"\ncpu_time = \"1h\"";
    let title =
        format!("{kit}: an app's answers, one request at a time, beside {LOOPS} loops of another");
    let (mut rows, mut targets) = (Vec::new(), Vec::new());
    for path in PATHS {
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            for (loops, latencies) in [(0, &mut alone), (LOOPS, &mut beside)] {
                let (_server, address) = start(kit, core, dir.path(), [patient, ""]).await;
                let loops = Loops::start(address, "a", loops);
                sleep(Duration::from_millis(300)).await;
                latencies.push(Latencies::of(address, path, time).await);
                assert_eq!(loops.ended(), 0, "they loop");
            }
        }
        for (who, rounds) in [("alone", &alone), ("beside loops", &beside)] {
            let figure =
                |of: fn(&Latencies) -> f64| format!("{:.0}", median(rounds.iter().map(of)));
            let figures = [figure(|round| round.p50), figure(|round| round.p99)];
            rows.push([vec![format!("{path}, {who}")], figures.to_vec()].concat());
        }
        let ratio = median(alone.iter().zip(&beside).map(|(alone, beside)| beside.p99 / alone.p99));
        targets.push(Target::at_most(format!("p99 of {path} / alone"), ratio, MOST_DELAY, ""));
    }
    table::print(&title, &["", "p50 us", "p99 us"], &rows);
    table::targets("Targets", &targets);
    table::record("Tenants: CPU", &title, rounds, &targets);
}

/// Two apps that loop, one of three times the weight of the other.
async fn shares(kit: &str, core: usize) {
    let time = Duration::from_secs_f64(setting("SECONDS", 4.0)) * 5;
    let dir = tempfile::tempdir().expect("a folder");
    let light = format!("cpu_time = \"{}ms\"", COUNTED.as_millis());
    let heavy = format!("{light}\ncpu_weight = 300");
    let (server, address) = start(kit, core, dir.path(), [&heavy, &light]).await;
    let loops = ["a", "b"].map(|app| Loops::start(address, app, WEIGHED));
    sleep(Duration::from_millis(500)).await;
    let ended = || [loops[0].ended(), loops[1].ended()];
    let (before, cpu) = (ended(), cpu_time(server.pid()));
    sleep(time).await;
    let [a, b] = ended();
    let (a, b) = ((a - before[0]) as f64, (b - before[1]) as f64);
    let used = (cpu_time(server.pid()) - cpu).as_secs_f64();

    let title = format!("{kit}: weights of 3 to 1, both loop");
    let (share, guests) = (a / (a + b), (a + b) * COUNTED.as_secs_f64() / used);
    let row = |what: &str, figure: f64| vec![what.to_owned(), format!("{figure:.3}")];
    let rows = [row("share of the heavier", share), row("of all CPU, the guests had", guests)];
    table::print(&title, &["", "is"], &rows);
    let off = Target::at_most("the share, off 0.75", (share - 0.75).abs(), MOST_MISSED, "");
    table::targets("Targets", std::slice::from_ref(&off));
    table::record("Tenants: CPU", &title, (a + b) as usize, &[off]);
}

/// A server with the apps `a` and `b` of one kit, each with its settings.
async fn start(kit: &str, core: usize, dir: &Path, settings: [&str; 2]) -> (Server, SocketAddr) {
    let address = free_address();
    let component = path(&format!("tests/guests/{kit}.wasm"));
    let [a, b] = settings;
    let manifest = format!(
        "[server]\nhttp = [\"{address}\"]\nstate_dir = \"state\"\n[log]\nlevel = \"error\"\n\
         [defaults]\nmax_concurrent_per_instance = 1\n\
         [apps.a]\ncomponent = {component:?}\n{a}\n[apps.b]\ncomponent = {component:?}\n{b}\n\
         [hosts]\n\"a.localhost\" = \"a\"\n\"b.localhost\" = \"b\"\n"
    );
    let file = dir.join("config.toml");
    fs::write(&file, manifest).expect("a manifest");
    let server = Server::start(run_tidegate(&tidegate_program(), &file), Some(core));
    while TcpStream::connect(address).await.is_err() {
        sleep(Duration::from_millis(5)).await;
    }
    (server, address)
}

/// A connection on which one request follows the other.
struct Client {
    stream: TcpStream,
    app: &'static str,
}

impl Client {
    async fn connect(address: SocketAddr, app: &'static str) -> Client {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        Client { stream, app }
    }

    async fn ask(&mut self, path: &str, mut answer: Answer) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}.localhost\r\n\r\n", self.app);
        self.stream.write_all(request.as_bytes()).await.expect("a request");
        let read = read_answer(&mut self.stream, &mut answer, &mut [0; 4096]).await;
        read.unwrap_or_else(|e| panic!("{path}: {e}"));
    }
}

/// Microseconds from a request's first byte to its answer's last.
struct Latencies {
    p50: f64,
    p99: f64,
}

impl Latencies {
    /// Of one client that asks app `b` now and then.
    async fn of(address: SocketAddr, path: &str, time: Duration) -> Latencies {
        let mut client = Client::connect(address, "b").await;
        client.ask(path, Answer::default()).await;
        let mut all = Vec::new();
        let begun = Instant::now();
        while begun.elapsed() < time {
            sleep(PAUSE).await;
            let asked = Instant::now();
            client.ask(path, Answer::default()).await;
            all.push(asked.elapsed().as_nanos() as f64 / 1e3);
        }
        all.sort_unstable_by(f64::total_cmp);
        let at = |part: f64| all[((all.len() - 1) as f64 * part) as usize];
        Latencies { p50: at(0.5), p99: at(0.99) }
    }
}

/// Clients that ask for what loops, until this is dropped.
struct Loops {
    _clients: JoinSet<()>,
    ended: Arc<AtomicU64>,
}

impl Loops {
    fn start(address: SocketAddr, app: &'static str, count: usize) -> Loops {
        let ended = Arc::new(AtomicU64::new(0));
        let mut clients = JoinSet::new();
        for _ in 0..count {
            let ended = ended.clone();
            clients.spawn(async move {
                let mut client = Client::connect(address, app).await;
                loop {
                    client.ask(LOOP, Answer::of_any_status()).await;
                    ended.fetch_add(1, Relaxed);
                }
            });
        }
        Loops { _clients: clients, ended }
    }

    /// How many requests have ended: by their `cpu_time`, as nothing else ends them.
    fn ended(&self) -> u64 {
        self.ended.load(Relaxed)
    }
}
