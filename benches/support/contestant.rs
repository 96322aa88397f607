//! Who is measured by `serve`, and how each of them is started.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::guests::{Errand, Wasi};
use super::load::{Round, Whom, trusting};
use super::process::{Server, free_address, run_tidegate, wasmtime};
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
    Tidegate {
        mode: Mode,
        tls: bool,
        log: bool,
    },
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
    for log in [false, true] {
        let dir = dir.join(if log { "log" } else { "silent" });
        let (server, whoms) = tidegate(errand, log, core, &dir).await;
        add(server, whoms);
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

/// One tidegate with an app for every mode, at the defaults of its manifest.
async fn tidegate(
    errand: Errand,
    log: bool,
    core: usize,
    dir: &Path,
) -> (Server, Vec<(Who, Whom)>) {
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

    let mut server = Server::start(run_tidegate(&file), Some(core));
    let mut whoms = Vec::new();
    for mode in MODES {
        let host = format!("{}.localhost", mode.app());
        whoms.push((Who::Tidegate { mode, tls: false, log }, plain(http, &host)));
    }
    // By then its authority is there.
    server.answers(&whoms[0].1, errand).await;
    let authority = dir.join("state/ca/root.crt");
    let host = format!("{}.localhost", Mode::P2Reused.app());
    let whom = Whom { tls: Some(trusting(&authority)), ..plain(https, &host) };
    whoms.push((Who::Tidegate { mode: Mode::P2Reused, tls: true, log }, whom));
    (server, whoms)
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
            Who::Tidegate { mode, tls, log } => {
                let tls = if *tls { ", TLS" } else { "" };
                let log = if *log { ", log on" } else { ", log off" };
                write!(f, "tidegate, {mode}{tls}{log}")
            }
        }
    }
}
