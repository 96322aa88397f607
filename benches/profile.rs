//! What sampling costs: the same app without a profile and with one, the load on another core.
//!
//! `ROUNDS`, `SECONDS` and `CONNECTIONS` change its length and load, `ERRAND` names the one kind
//! of request that is wanted, as a prefix.

#[allow(dead_code, reason = "each bench uses its share")]
mod support;

use std::fmt;
use std::fs;
use std::path::Path;

use support::contestant::{MODES, Mode, apps, plain};
use support::figures::ratio;
use support::guests::{ERRANDS, Errand};
use support::machine::load_apart_from_server;
use support::process::{Server, free_address, run_tidegate, tidegate_program};
use support::rounds::{self, Contestant, costs, take_turns};
use support::table::{self, Target};

/// A guest that computes for about a tenth of a millisecond.
const WORK: Errand = Errand {
    title: "work",
    path: "/work?turns=100000",
    upload: 0,
    answer: "done\n".len(),
    small: false,
};

/// How much dearer a request may be of an app that is profiled as it is meant to be.
const MOST: f64 = 1.02;

/// How an app is profiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Profile {
    Not,
    /// The slow requests, of one instance in so many.
    Slow(usize),
    /// Each instance whole, one in so many.
    Always(usize),
}

const PROFILES: [Profile; 4] =
    [Profile::Not, Profile::Slow(100), Profile::Always(100), Profile::Slow(1)];

#[derive(Clone, Copy, PartialEq, Eq)]
struct Who {
    mode: Mode,
    profile: Profile,
}

fn main() {
    let core = load_apart_from_server();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let wanted = std::env::var("ERRAND").unwrap_or_default();
        let errands = [ERRANDS[0], WORK].into_iter();
        for errand in errands.filter(|errand| errand.title.starts_with(&wanted)) {
            run(errand, core).await;
        }
    });
}

async fn run(errand: Errand, core: usize) {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut servers, mut contestants) = (Vec::new(), Vec::new());
    for profile in PROFILES {
        let (server, mut whoms) = start(errand, profile, core, dir.path()).await;
        contestants.append(&mut whoms);
        servers.push(server);
    }
    let rounds = take_turns(&mut contestants, errand).await;
    drop(servers);

    rounds::print(errand.title, &contestants);
    let growth = |profile| {
        MODES.map(|mode| {
            let costs = |profile| costs(&contestants, Who { mode, profile });
            let growth = ratio(&costs(profile), &costs(Profile::Not));
            Target::at_most(format!("{} / without", Who { mode, profile }), growth, MOST, "")
        })
    };
    let promised = growth(Profile::Slow(100));
    let title = format!("CPU per request against none profiled, {}", errand.title);
    table::targets(&title, &promised);
    table::record("Cost of profiles", &title, rounds, &promised);
    let others = [growth(Profile::Always(100)), growth(Profile::Slow(1))].into_iter().flatten();
    table::figures("The same, without targets", &others.collect::<Vec<_>>());
}

/// One tidegate with an app for each mode, all profiled alike, on `core`.
async fn start(
    errand: Errand,
    profile: Profile,
    core: usize,
    dir: &Path,
) -> (Server, Vec<Contestant<Who>>) {
    let address = free_address();
    let dir = dir.join(format!("{profile:?}"));
    fs::create_dir_all(&dir).expect("a folder");
    let setting = match profile {
        Profile::Not => "false".to_owned(),
        Profile::Slow(many) => {
            format!("{{ interval = \"1ms\", sample = \"1/{many}\", when = \"slow\" }}")
        }
        Profile::Always(many) => format!("{{ interval = \"1ms\", sample = \"1/{many}\" }}"),
    };
    let mut manifest = format!(
        "[server]\nhttp = [\"{address}\"]\nstate_dir = \"state\"\n[log]\nlevel = \"warn\"\n\
         [defaults]\nprofile = {setting}\n"
    );
    manifest += &apps(errand);
    let file = dir.join("config.toml");
    fs::write(&file, manifest).expect("a manifest");
    let mut server = Server::start(run_tidegate(&tidegate_program(), &file), Some(core));
    let pids = vec![server.pid()];
    let mut contestants = Vec::new();
    for mode in MODES {
        let whom = plain(address, &format!("{}.localhost", mode.app()));
        server.answers(&whom, errand).await;
        contestants.push(Contestant::new(Who { mode, profile }, whom, pids.clone()));
    }
    (server, contestants)
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = self.mode;
        match self.profile {
            Profile::Not => write!(f, "{mode}, no profile"),
            Profile::Slow(many) => write!(f, "{mode}, slow requests of 1/{many}"),
            Profile::Always(many) => write!(f, "{mode}, all of 1/{many}"),
        }
    }
}
