//! The command line: one file per subcommand, each a thin call into the library.

mod admin_client;
mod app;
mod check;
mod crashes;
mod explain;
mod generated;
mod inspect;
mod instances;
mod logs;
mod profile;
mod progress;
mod reload;
mod run;
mod show;
mod status;
mod trust;
mod upgrade;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};

use admin_client::{ANSWER_TIMEOUT, Ask, Client};
use generated::CompletedShell;

use crate::config::Config;
use crate::guest::PerfMap;
use crate::guest::compile::{self, Bounds};

/// Exit code: it ran into something that is not the operator's doing.
const EXIT_FAILURE: u8 = 1;

/// Exit code: the manifest, or a file that it names, is wrong (`EX_CONFIG` of sysexits.h).
const EXIT_CONFIG: u8 = 78;

/// Threads for work that blocks, such as reading files.
const MAX_BLOCKING_THREADS: usize = 64;

#[derive(Parser)]
#[command(
    name = "tidegate",
    version,
    about,
    after_help = "Exit codes: 0 done, 1 failure at run time, 2 wrong usage, 78 wrong configuration.\n\
                  Start with: cp config.example.toml config.toml; tidegate run"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve what the manifest says, and follow its changes
    ///
    /// Changes to the manifest, to components and to certificates are taken
    /// while requests run; SIGHUP asks for a look at once. SIGTERM or SIGINT
    /// finishes what runs and exits within drain_timeout; a second one exits at once.
    /// SIGUSR2 upgrades: starts the program's file anew, hands its sockets over once
    /// that has loaded everything, and exits when what runs has finished.
    Run {
        #[command(flatten)]
        manifest: Manifest,
        /// Tell `perf` the names of the apps' functions, in /tmp/perf-PID.map
        #[arg(long)]
        perfmap: bool,
    },
    /// Check the manifest and everything that it names, without serving
    ///
    /// Reads the certificates, and compiles, links and starts each component
    /// once. Prints every problem with its file, line and key; exits with 0
    /// when there is none and with 78 otherwise. Writes nothing.
    Check(Manifest),
    /// Say what runs, and first of all what is wrong
    ///
    /// Apps with their instances, memory and CPU, certificates with their expiry, listeners, and
    /// what became of the last change. Colours are left out where NO_COLOR is set.
    Status(status::Options),
    /// Say what each instance of an app does, and which requests it works on
    Instances(instances::Options),
    /// Print the last lines of the log, and follow it
    ///
    /// The lines are as they were written. About 1000 are kept in memory, those of requests not;
    /// log.dir says where all of them are.
    Logs(logs::Options),
    /// Have the running tidegate look at its files now, and say what became of them
    ///
    /// Waits until it is known whether what is on disk serves: exits with 0 when it does, and
    /// with 78 when something of it was refused.
    Reload(Ask),
    /// Sample what a running app computes, and write that to a file
    ///
    /// Samples every instance of the app that computes, for some seconds, and prints the functions
    /// that most samples were in. The file is for https://profiler.firefox.com.
    Profile(profile::Wanted),
    /// Take requests from an app, and wait until its last instance is gone
    ///
    /// Its requests are answered 503 from then on, over reloads too, until --undo or a restart.
    Drain {
        /// The app's name in the manifest
        #[arg(value_name = "APP")]
        app: String,
        /// Let it take requests again
        #[arg(long)]
        undo: bool,
        #[command(flatten)]
        ask: Ask,
    },
    /// End all instances of an app at once, with their requests
    ///
    /// Guests that loop are ended as well. New requests get fresh instances.
    Kill {
        /// The app's name in the manifest
        #[arg(value_name = "APP")]
        app: String,
        #[command(flatten)]
        ask: Ask,
    },
    /// Have another process take over, with the sockets: for a new version of tidegate
    ///
    /// Put the new program in the place of the old one before, by rename. Waits until the new
    /// process serves; where it cannot, says why, exits with 1, and the old one goes on serving.
    Upgrade(Ask),
    /// Say who would answer a URL, and why
    Explain {
        /// Such as https://shop.example.com/api/orders
        #[arg(value_name = "URL")]
        url: String,
        #[command(flatten)]
        ask: Ask,
    },
    /// Say what a .wasm file is, and whether it can be served here
    Inspect {
        /// The file to look at
        #[arg(value_name = "FILE.wasm")]
        file: PathBuf,
    },
    /// Show the root of the local certificate authority, for clients to trust
    ///
    /// Its certificate goes to standard output as PEM; its path and fingerprint to standard error.
    Trust {
        #[command(flatten)]
        manifest: Manifest,
        /// Have this system trust it, as root
        #[arg(long)]
        install: bool,
    },
    /// List what was kept of apps that failed, the newest first, or show one of it
    ///
    /// Reads the files below state_dir; no server has to run.
    Crashes(crashes::Crashes),
    /// Print what a shell completes, for its completions folder
    ///
    /// For instance: tidegate completions bash > /etc/bash_completion.d/tidegate
    Completions { shell: CompletedShell },
    /// Write the man pages into a folder
    #[command(hide = true)]
    Man {
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Compile standard input: what `run` and `check` start for each component
    #[command(hide = true)]
    Compile(Bounds),
}

#[derive(Args)]
struct Manifest {
    /// The manifest [default: ./config.toml, else /etc/tidegate/config.toml]
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
}

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { manifest, perfmap } => {
            let map = if perfmap { PerfMap::Written } else { PerfMap::Off };
            run::run(manifest.config.as_deref(), map)
        }
        Command::Check(manifest) => check::check(manifest.config.as_deref()),
        Command::Status(options) => status::status(&options),
        Command::Instances(options) => instances::instances(&options),
        Command::Logs(options) => logs::logs(&options),
        Command::Reload(ask) => reload::reload(&ask),
        Command::Profile(wanted) => profile::profile(&wanted),
        Command::Drain { app, undo: false, ask } => app::drain(&ask, &app),
        Command::Drain { app, undo: true, ask } => app::undrain(&ask, &app),
        Command::Kill { app, ask } => app::kill(&ask, &app),
        Command::Upgrade(ask) => upgrade::upgrade(&ask),
        Command::Explain { url, ask } => explain::explain(&ask, &url),
        Command::Inspect { file } => inspect::inspect(&file),
        Command::Trust { manifest, install } => trust::trust(manifest.config.as_deref(), install),
        Command::Crashes(arguments) => crashes::crashes(&arguments),
        Command::Completions { shell } => generated::completions(shell),
        Command::Man { dir } => generated::man(&dir),
        Command::Compile(bounds) => compile::run(&bounds),
    }
}

/// Prints what was asked for. A reader who has left, such as `head`, wants no more.
fn print(text: &str) -> ExitCode {
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(EXIT_FAILURE, format!("cannot write: {error}")),
    }
}

/// Prints the JSON that is answered to GET.
fn pass_on(client: &Client, path: &str) -> ExitCode {
    match client.bytes(http::Method::GET, path, ANSWER_TIMEOUT) {
        Ok(json) => print(String::from_utf8_lossy(&json).trim_end()),
        Err(trouble) => trouble.report(),
    }
}

/// Prints what went wrong, for the operator.
fn fail(code: u8, message: impl std::fmt::Display) -> ExitCode {
    eprintln!("tidegate: {message}");
    ExitCode::from(code)
}

/// The manifest that is named, or found; or what is wrong with it.
fn load(named: Option<&Path>) -> Result<Config, String> {
    let path = Config::find(named).map_err(|error| error.to_string())?;
    Config::load(&path).map_err(|problems| format!("the manifest is wrong\n{problems}"))
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread().max_blocking_threads(MAX_BLOCKING_THREADS).enable_all().build()
}
