//! The command line: one file per subcommand, each a thin call into the library.

mod check;
mod inspect;
mod progress;
mod run;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};

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
    Run(Manifest),
    /// Check the manifest and everything that it names, without serving
    ///
    /// Reads the certificates, and compiles, links and starts each component
    /// once. Prints every problem with its file, line and key; exits with 0
    /// when there is none and with 78 otherwise. Writes nothing.
    Check(Manifest),
    /// Say what a .wasm file is, and whether it can be served here
    Inspect {
        /// The file to look at
        #[arg(value_name = "FILE.wasm")]
        file: PathBuf,
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
        Command::Run(manifest) => run::run(manifest.config.as_deref()),
        Command::Check(manifest) => check::check(manifest.config.as_deref()),
        Command::Inspect { file } => inspect::inspect(&file),
        Command::Compile(bounds) => compile::run(&bounds),
    }
}

/// Prints what went wrong, for the operator.
fn fail(code: u8, message: impl std::fmt::Display) -> ExitCode {
    eprintln!("tidegate: {message}");
    ExitCode::from(code)
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread().max_blocking_threads(MAX_BLOCKING_THREADS).enable_all().build()
}
