//! What an answer over HTTPS costs: tidegate alone, beside nginx and Caddy doing TLS in front of
//! `wasmtime serve`.

#[allow(dead_code, reason = "each bench uses its share")]
mod support;

use std::fmt;
use std::path::Path;

use support::contestant::{MODES, Manifest, Mode, Wire, manifest, plain, wasmtime_serve};
use support::figures::ratio;
use support::front::{Front, Pair};
use support::guests::{ERRANDS, Errand};
use support::load::Whom;
use support::machine::load_apart_from_server;
use support::process::{Server, free_address, run_tidegate, tidegate_program};
use support::rounds::{self, Contestant, costs, take_turns};
use support::table::{self, Target};

/// What tidegate may cost of what the two others cost together.
const AT_MOST: f64 = 0.5;

/// All that a client may ask over HTTPS.
const WIRES: [Wire; 3] = [Wire::Tls, Wire::Http2, Wire::Http3];

/// Who answers, in which mode and over what.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Who {
    /// None is tidegate alone.
    front: Option<Front>,
    mode: Mode,
    wire: Wire,
}

fn main() {
    let core = load_apart_from_server();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(run(ERRANDS[0], core));
}

async fn run(errand: Errand, core: usize) {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut servers, mut contestants) = tidegate(errand, core, &dir.path().join("tidegate")).await;
    for mode in MODES {
        behind(errand, mode, core, dir.path(), &mut servers, &mut contestants).await;
    }
    let rounds = take_turns(&mut contestants, errand).await;
    drop(servers);
    show(&contestants, rounds);
}

/// tidegate, and whom to ask for each mode over each protocol.
async fn tidegate(errand: Errand, core: usize, dir: &Path) -> (Vec<Server>, Vec<Contestant<Who>>) {
    let Manifest { file, http, https } = manifest(errand, false, dir);
    let mut server = Server::start(run_tidegate(&tidegate_program(), &file), Some(core));
    let host = |mode: Mode| format!("{}.localhost", mode.app());
    let mut contestants = Vec::new();
    for mode in MODES {
        // By then its authority is there.
        server.answers(&plain(http, &host(mode)), errand).await;
        for wire in WIRES {
            let over = wire.over(&file.with_file_name("state/ca/root.crt"));
            let whom = Whom { over, ..plain(https, &host(mode)) };
            server.answers(&whom, errand).await;
            let who = Who { front: None, mode, wire };
            contestants.push(Contestant::new(who, whom, vec![server.pid()]));
        }
    }
    (vec![server], contestants)
}

/// `wasmtime serve` for a mode, and each server before it.
async fn behind(
    errand: Errand,
    mode: Mode,
    core: usize,
    dir: &Path,
    servers: &mut Vec<Server>,
    contestants: &mut Vec<Contestant<Who>>,
) {
    let Some((mut wasmtime, whom)) = wasmtime_serve(errand, mode, core) else { return };
    wasmtime.answers(&whom, errand).await;
    let host = "bench.localhost";
    let pair = Pair::new(host, dir);
    for front in Front::ALL {
        let address = free_address();
        let dir = dir.join(format!("{front}-{mode}"));
        let Some(mut server) = front.start(host, address, whom.address, &pair, core, &dir) else {
            continue;
        };
        for &wire in front.wires() {
            let whom = Whom { over: wire.over(&pair.certificate), ..plain(address, host) };
            server.answers(&whom, errand).await;
            let pids = vec![server.pid(), wasmtime.pid()];
            let who = Who { front: Some(front), mode, wire };
            contestants.push(Contestant::new(who, whom, pids));
        }
        servers.push(server);
    }
    servers.push(wasmtime);
}

fn show(contestants: &[Contestant<Who>], rounds: usize) {
    rounds::print("The small answer over HTTPS", contestants);
    let others = contestants.iter().filter(|contestant| contestant.who.front.is_some());
    let targets: Vec<_> = others
        .map(|Contestant { who: other, .. }| {
            let ours = Who { front: None, ..*other };
            let ratio = ratio(&costs(contestants, ours), &costs(contestants, *other));
            Target::at_most(format!("{ours} / {other}"), ratio, AT_MOST, "")
        })
        .collect();
    let title = "CPU per request beside two servers";
    table::targets(title, &targets);
    table::record("The edge", title, rounds, &targets);
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.front {
            None => f.write_str("tidegate")?,
            Some(front) => write!(f, "{front} + wasmtime serve")?,
        }
        write!(f, ", {}{}", self.mode, self.wire)
    }
}
