//! Who is measured by `serve`, and how each of them is started.

use std::fmt;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;

use super::guests::{Errand, Wasi};
use super::load::{Over, Whom, trusting};
use super::process::{Server, free_address, run_tidegate, tidegate_program, wasmtime};
use super::reference::Reuse;
use super::rounds::Contestant;

/// How instances are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    P2Reused,
    P2Fresh,
    P3,
}

pub const MODES: [Mode; 3] = [Mode::P2Reused, Mode::P2Fresh, Mode::P3];

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// hyper alone, without any guest: the floor.
    Hyper,
    Reference(Mode),
    Wasmtime(Mode),
    Tidegate(Tidegate),
}

/// Which tidegate, and how it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tidegate {
    pub build: Build,
    pub mode: Mode,
    pub wire: Wire,
    pub log: bool,
}

/// What it is asked over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wire {
    Plain,
    /// HTTP/1.1 still.
    Tls,
    Http2,
    Http3,
}

/// A build of tidegate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Build {
    /// The one to measure.
    Current,
    /// The one that `BASELINE` names, to see what a change costs.
    Baseline,
}

/// Requests of an instance's life where instances are reused; `wasmtime serve` has 128 for p3 by default.
const REUSE: usize = 1000;

impl Mode {
    pub fn wasi(self) -> Wasi {
        match self {
            Mode::P2Reused | Mode::P2Fresh => Wasi::P2,
            Mode::P3 => Wasi::P3,
        }
    }

    pub fn reuse(self) -> Reuse {
        match self {
            Mode::P2Reused => Reuse { total: REUSE, concurrent: 1 },
            Mode::P2Fresh => Reuse { total: 1, concurrent: 1 },
            Mode::P3 => Reuse { total: REUSE, concurrent: 16 },
        }
    }

    pub fn app(self) -> &'static str {
        match self {
            Mode::P2Reused => "reused",
            Mode::P2Fresh => "fresh",
            Mode::P3 => "p3",
        }
    }
}

impl Wire {
    /// What a client speaks that trusts what is in the file `root`.
    pub fn over(self, root: &Path) -> Over {
        match self {
            Wire::Plain => Over::Plain,
            Wire::Tls => Over::Tls(Arc::new(trusting(root, "http/1.1")).into()),
            Wire::Http2 => Over::Http2(Arc::new(trusting(root, "h2")).into()),
            Wire::Http3 => {
                let config = QuicClientConfig::try_from(trusting(root, "h3")).expect("TLS 1.3");
                Over::Http3(quinn::ClientConfig::new(Arc::new(config)))
            }
        }
    }
}

impl Build {
    /// Its program, if there is one.
    fn program(self) -> Option<PathBuf> {
        match self {
            Build::Current => Some(tidegate_program()),
            Build::Baseline => std::env::var_os("BASELINE").map(PathBuf::from),
        }
    }
}

/// Starts all of them on `core`, with files in `dir`, and waits until they answer.
pub async fn start(errand: Errand, core: usize, dir: &Path) -> (Vec<Server>, Vec<Contestant<Who>>) {
    let mut servers = Vec::new();
    let mut contestants = Vec::new();
    let mut add = |server: Server, whoms: Vec<(Who, Whom)>| {
        let pid = server.pid();
        servers.push(server);
        let whoms = whoms.into_iter();
        contestants.extend(whoms.map(|(who, whom)| Contestant::new(who, whom, vec![pid])));
    };

    let (server, whom) = ourselves("hyper", errand, Mode::P2Reused, core);
    let collector = whom.address;
    add(server, vec![(Who::Hyper, whom)]);
    for mode in MODES {
        let (server, whom) = ourselves("reference", errand, mode, core);
        add(server, vec![(Who::Reference(mode), whom)]);
    }
    for build in [Build::Current, Build::Baseline] {
        let Some(program) = build.program() else { continue };
        for log in [false, true] {
            let dir = dir.join(format!("{build:?}-{log}"));
            let manifest = manifest(errand, log, &dir);
            if build == Build::Current {
                add_traces(&manifest, collector);
            }
            let (server, whoms) = tidegate(errand, core, &program, &manifest).await;
            let tidegate =
                |(mode, wire, whom)| (Who::Tidegate(Tidegate { build, mode, wire, log }), whom);
            // An older build may not have HTTP/3.
            let whoms = whoms
                .into_iter()
                .filter(|(_, wire, _)| build == Build::Current || *wire != Wire::Http3);
            add(server, whoms.map(tidegate).collect());
        }
    }
    for mode in MODES {
        if let Some((server, whom)) = wasmtime_serve(errand, mode, core) {
            add(server, vec![(Who::Wasmtime(mode), whom)]);
        }
    }

    // Who is compared with a baseline comes right before it: the machine changes within seconds.
    contestants.sort_by_key(|contestant| match contestant.who {
        Who::Tidegate(Tidegate { build, mode, wire, log }) => Some((log, mode, wire, build)),
        _ => None,
    });
    for contestant in &mut contestants {
        let server = servers.iter_mut().find(|server| contestant.pids == [server.pid()]);
        server.expect("its server").answers(&contestant.whom, errand).await;
    }
    (servers, contestants)
}

/// This very program as a server; `serve_as_child` is its other end.
fn ourselves(kind: &str, errand: Errand, mode: Mode, core: usize) -> (Server, Whom) {
    let address = free_address();
    let reuse = mode.reuse();
    let mut command = Command::new(std::env::current_exe().expect("our own path"));
    command
        .args(["--serve", kind, &address.to_string()])
        .arg(errand.guest(mode.wasi()))
        .args([reuse.total.to_string(), reuse.concurrent.to_string()]);
    (Server::start(command, Some(core)), plain(address, "bench.localhost"))
}

pub fn wasmtime_serve(errand: Errand, mode: Mode, core: usize) -> Option<(Server, Whom)> {
    let address = free_address();
    let mut command = Command::new(wasmtime()?);
    // Its own defaults but for one thing: to reuse p2 instances it must be told.
    command.args(["serve", "-Scli", "--addr", &address.to_string()]);
    if mode == Mode::P2Reused {
        command.args(["--max-instance-reuse-count", &REUSE.to_string()]);
    }
    command.arg(errand.guest(mode.wasi()));
    Some((Server::start(command, Some(core)), plain(address, "bench.localhost")))
}

/// One tidegate, running; and whom to ask for each mode, and over each protocol.
async fn tidegate(
    errand: Errand,
    core: usize,
    program: &Path,
    manifest: &Manifest,
) -> (Server, Vec<(Mode, Wire, Whom)>) {
    let mut server = Server::start(run_tidegate(program, &manifest.file), Some(core));
    let host = |mode: Mode| format!("{}.localhost", mode.app());
    let mut whoms: Vec<_> = MODES
        .into_iter()
        .map(|mode| (mode, Wire::Plain, plain(manifest.http, &host(mode))))
        .collect();
    // By then its authority is there.
    server.answers(&whoms[0].2, errand).await;
    let root = manifest.file.with_file_name("state/ca/root.crt");
    for wire in [Wire::Tls, Wire::Http2, Wire::Http3] {
        let whom = plain(manifest.https, &host(Mode::P2Reused));
        whoms.push((Mode::P2Reused, wire, Whom { over: wire.over(&root), ..whom }));
    }
    (server, whoms)
}

/// A manifest in its file, and the addresses in it.
pub struct Manifest {
    pub file: PathBuf,
    pub http: SocketAddr,
    pub https: SocketAddr,
}

/// A manifest with an app for every mode, all at the defaults.
pub fn manifest(errand: Errand, log: bool, dir: &Path) -> Manifest {
    let (http, https) = (free_address(), free_address());
    fs::create_dir_all(dir).expect("a folder");
    let level = if log { "info" } else { "warn" };
    let mut manifest = format!(
        "[server]\nhttp = [\"{http}\"]\nhttps = [\"{https}\"]\nstate_dir = \"state\"\n\
         [log]\ndir = \"logs\"\nlevel = \"{level}\"\n"
    );
    manifest += &apps(errand);
    let file = dir.join("config.toml");
    fs::write(&file, manifest).expect("a manifest");
    Manifest { file, http, https }
}

/// An app for every mode, each at a host of its own.
pub fn apps(errand: Errand) -> String {
    let (mut apps, mut hosts) = (String::new(), "[hosts]\n".to_owned());
    for mode in MODES {
        let (app, component) = (mode.app(), errand.guest(mode.wasi()));
        let total = mode.reuse().total;
        apps += &format!(
            "[apps.{app}]\ncomponent = {component:?}\nmax_requests_per_instance = {total}\n"
        );
        hosts += &format!("\"{app}.localhost\" = \"{app}\"\n");
    }
    apps + &hosts
}

/// Has as many requests traced as `TRACES` says, such as `1/100`, if it says something.
fn add_traces(manifest: &Manifest, collector: SocketAddr) {
    let Ok(sample) = std::env::var("TRACES") else { return };
    let traces = format!("[traces]\nendpoint = \"http://{collector}\"\nsample = \"{sample}\"\n");
    let file = fs::OpenOptions::new().append(true).open(&manifest.file);
    file.and_then(|mut file| file.write_all(traces.as_bytes())).expect("a manifest");
}

pub fn plain(address: SocketAddr, host: &str) -> Whom {
    Whom { address, host: host.to_owned(), over: Over::Plain }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::P2Reused => "p2 reused",
            Mode::P2Fresh => "p2 fresh",
            Mode::P3 => "p3",
        })
    }
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wire::Plain => "",
            Wire::Tls => ", TLS",
            Wire::Http2 => ", HTTP/2",
            Wire::Http3 => ", HTTP/3",
        })
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Hyper => f.write_str("hyper alone"),
            Who::Reference(mode) => write!(f, "reference, {mode}"),
            Who::Wasmtime(mode) => write!(f, "wasmtime serve, {mode}"),
            Who::Tidegate(Tidegate { build, mode, wire, log }) => {
                let build = match build {
                    Build::Current => "tidegate",
                    Build::Baseline => "baseline",
                };
                let log = if *log { ", log on" } else { ", log off" };
                write!(f, "{build}, {mode}{wire}{log}")
            }
        }
    }
}
