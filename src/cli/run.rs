//! `tidegate run`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info};

use super::{EXIT_CONFIG, EXIT_FAILURE, fail, progress, runtime};
use crate::config::Config;
use crate::guest::Compiler;
use crate::logging;
use crate::run::{StartError, start};

/// How long a compilation that nobody waits for any more may hold up the exit.
const LAST_THREADS: Duration = Duration::from_millis(100);

pub fn run(named: Option<&Path>) -> ExitCode {
    let path = match Config::find(named) {
        Ok(path) => path,
        Err(error) => return fail(EXIT_CONFIG, error),
    };
    let config = match Config::load(&path) {
        Ok(config) => config,
        Err(problems) => return fail(EXIT_CONFIG, format!("the manifest is wrong\n{problems}")),
    };
    let bar = progress::bar(config.apps.len());
    // Kept to the end of this function: dropping it writes out the last lines.
    let _flush = match logging::start(&config.log, bar.clone()) {
        Ok(flush) => flush,
        Err(error) => return fail(EXIT_FAILURE, error),
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(EXIT_FAILURE, format!("cannot start threads: {error}")),
    };
    let code = match runtime.block_on(serve(config, bar)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(StartError::Config(problems)) => {
            for problem in &problems.0 {
                error!("{problem}");
            }
            ExitCode::from(EXIT_CONFIG)
        }
        Err(error) => {
            error!("{error}");
            ExitCode::from(EXIT_FAILURE)
        }
    };
    runtime.shutdown_timeout(LAST_THREADS);
    code
}

/// Serves until a signal says to stop.
async fn serve(config: Config, bar: ProgressBar) -> Result<(), StartError> {
    let mut signals = Signals::new().map_err(StartError::Serve)?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        manifest = %config.path.display(),
        apps = config.apps.len(),
        "starting"
    );
    let starting = start(config, Compiler::this_program(), |app| {
        bar.set_message(app.to_string());
        bar.inc(1);
    });
    let running = tokio::select! {
        started = starting => started,
        () = signals.stop() => return Ok(()),
    };
    bar.finish_and_clear();
    let running = running?;

    while let Told::Look = signals.next().await {
        running.reload();
    }
    tokio::select! {
        _ = running.stop() => {}
        () = signals.stop() => {
            // At once: nothing is waited for any more, the log included.
            eprintln!("tidegate: stopped at once by a second signal");
            std::process::exit(EXIT_FAILURE.into());
        }
    }
    Ok(())
}

/// What the operator, or systemd, wants.
enum Told {
    Look,
    Stop,
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.hangup.recv() => Told::Look,
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
        }
    }

    /// Resolves at the next signal that says to stop.
    async fn stop(&mut self) {
        while let Told::Look = self.next().await {}
    }
}
