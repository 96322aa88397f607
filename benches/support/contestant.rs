//! Who is measured by `serve`, and how each of them is started.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::guests::{Errand, Wasi};
use super::load::{Round, Whom, trusting};
use super::process::{Server, free_address, run_tidegate, tidegate_program, wasmtime};
use super::reference::Reuse;

/// How instances are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    pub tls: bool,
    pub log: bool,
}

/// A build of tidegate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// The one to measure.
    Current,
    /// The one that `BASELINE` names, to see what a change costs.
    Baseline,
}

/// One of them, running.
pub struct Contestant {
    pub who: Who,
    pub whom: Whom,
    pub pid: u32,
    pub rounds: Vec<Round>,
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

    fn app(self) -> &'static str {
        match self {
            Mode::P2Reused => "reused",
            Mode::P2Fresh => "fresh",
            Mode::P3 => "p3",
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
pub async fn start(errand: Errand, core: usize, dir: &Path) -> (Vec<Server>, Vec<Contestant>) {
    let mut servers = Vec::new();
    let mut contestants = Vec::new();
    let mut add = |server: Server, whoms: Vec<(Who, Whom)>| {
        let pid = server.pid();
        servers.push(server);
        contestants.extend(whoms.into_iter().map(|(who, whom)| Contestant {
            who,
            whom,
            pid,
            rounds: Vec::new(),
        }));
    };

    let (server, whom) = ourselves("hyper", errand, Mode::P2Reused, core);
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
            let (server, whoms) = tidegate(errand, core, &program, &manifest).await;
            let tidegate =
                |(mode, tls, whom)| (Who::Tidegate(Tidegate { build, mode, tls, log }), whom);
            add(server, whoms.into_iter().map(tidegate).collect());
        }
    }
    for mode in MODES {
        if let Some((server, whom)) = wasmtime_serve(errand, mode, core) {
            add(server, vec![(Who::Wasmtime(mode), whom)]);
        }
    }

    for contestant in &mut contestants {
        let server = servers.iter_mut().find(|server| server.pid() == contestant.pid);
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

fn wasmtime_serve(errand: Errand, mode: Mode, core: usize) -> Option<(Server, Whom)> {
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

/// One tidegate, running; and whom to ask for each mode, and by TLS.
async fn tidegate(
    errand: Errand,
    core: usize,
    program: &Path,
    manifest: &Manifest,
) -> (Server, Vec<(Mode, bool, Whom)>) {
    let mut server = Server::start(run_tidegate(program, &manifest.file), Some(core));
    let host = |mode: Mode| format!("{}.localhost", mode.app());
    let mut whoms: Vec<_> =
        MODES.into_iter().map(|mode| (mode, false, plain(manifest.http, &host(mode)))).collect();
    // By then its authority is there.
    server.answers(&whoms[0].2, errand).await;
    let tls = trusting(&manifest.file.with_file_name("state/ca/root.crt"));
    let whom = plain(manifest.https, &host(Mode::P2Reused));
    whoms.push((Mode::P2Reused, true, Whom { tls: Some(tls), ..whom }));
    (server, whoms)
}

/// A manifest in its file, and the addresses in it.
struct Manifest {
    file: PathBuf,
    http: SocketAddr,
    https: SocketAddr,
}

/// A manifest with an app for every mode, all at the defaults.
fn manifest(errand: Errand, log: bool, dir: &Path) -> Manifest {
    let (http, https) = (free_address(), free_address());
    fs::create_dir_all(dir).expect("a folder");
    let level = if log { "info" } else { "warn" };
    let mut manifest = format!(
        "[server]\nhttp = [\"{http}\"]\nhttps = [\"{https}\"]\nstate_dir = \"state\"\n\
         [log]\ndir = \"logs\"\nlevel = \"{level}\"\n"
    );
    for mode in MODES {
        let app = mode.app();
        let component = errand.guest(mode.wasi());
        let total = mode.reuse().total;
        manifest += &format!(
            "[apps.{app}]\ncomponent = {component:?}\nmax_requests_per_instance = {total}\n"
        );
    }
    manifest += "[hosts]\n";
    for mode in MODES {
        let app = mode.app();
        manifest += &format!("\"{app}.localhost\" = \"{app}\"\n");
    }
    let file = dir.join("config.toml");
    fs::write(&file, manifest).expect("a manifest");
    Manifest { file, http, https }
}

fn plain(address: SocketAddr, host: &str) -> Whom {
    Whom { address, host: host.to_owned(), tls: None }
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

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Hyper => f.write_str("hyper alone"),
            Who::Reference(mode) => write!(f, "reference, {mode}"),
            Who::Wasmtime(mode) => write!(f, "wasmtime serve, {mode}"),
            Who::Tidegate(Tidegate { build, mode, tls, log }) => {
                let build = match build {
                    Build::Current => "tidegate",
                    Build::Baseline => "baseline",
                };
                let tls = if *tls { ", TLS" } else { "" };
                let log = if *log { ", log on" } else { ", log off" };
                write!(f, "{build}, {mode}{tls}{log}")
            }
        }
    }
}
