//! `tidegate run`.

use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Fuse, FusedFuture};
use indicatif::ProgressBar;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info};

use super::{EXIT_CONFIG, EXIT_FAILURE, fail, load, progress, runtime};
use crate::config::Config;
use crate::guest::{Compiler, PerfMap};
use crate::handover::{Failure, Predecessor, Program, Successor, Wish};
use crate::logging;
use crate::run::{HandedOver, Running, StartError, start};

/// How long a compilation that nobody waits for any more may hold up the exit.
const LAST_THREADS: Duration = Duration::from_millis(100);

pub fn run(named: Option<&Path>, perf_map: PerfMap) -> ExitCode {
    let handed_over = match Predecessor::find() {
        Ok(found) => found.map(|(before, estate)| (Arc::new(before), estate)),
        Err(error) => return fail(EXIT_FAILURE, error),
    };
    let before = handed_over.as_ref().map(|(before, _)| Arc::clone(before));
    match run_with(named, perf_map, handed_over) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ended { code, reason }) => {
            if let Some(before) = before {
                before.fail(&reason);
            }
            ExitCode::from(code)
        }
    }
}

/// Why the process ends with a code that is not 0. It has been said.
struct Ended {
    code: u8,
    reason: String,
}

fn run_with(
    named: Option<&Path>,
    perf_map: PerfMap,
    handed_over: Option<HandedOver>,
) -> Result<(), Ended> {
    let failed = |code, reason: String| {
        fail(code, &reason);
        Ended { code, reason }
    };
    let config = load(named).map_err(|reason| failed(EXIT_CONFIG, reason))?;
    let bar = progress::bar(config.apps.len());
    // Kept to the end of this function: dropping it writes out the last lines.
    let _flush = logging::start(&config.log, bar.clone())
        .map_err(|error| failed(EXIT_FAILURE, error.to_string()))?;
    let runtime = runtime()
        .map_err(|error| failed(EXIT_FAILURE, format!("cannot start threads: {error}")))?;
    let ended =
        runtime.block_on(serve(config, perf_map, handed_over, bar)).map_err(|error| match error {
            StartError::Config(problems) => {
                for problem in &problems.0 {
                    error!("{problem}");
                }
                Ended { code: EXIT_CONFIG, reason: problems.to_string() }
            }
            error => {
                error!("{error}");
                Ended { code: EXIT_FAILURE, reason: error.to_string() }
            }
        });
    runtime.shutdown_timeout(LAST_THREADS);
    ended
}

/// Serves until a signal says to stop, or another process has taken over.
async fn serve(
    config: Config,
    perf_map: PerfMap,
    handed_over: Option<HandedOver>,
    bar: ProgressBar,
) -> Result<(), StartError> {
    let mut signals = Signals::new().map_err(StartError::Serve)?;
    let program = Program::this().map_err(StartError::Serve)?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        manifest = %config.path.display(),
        apps = config.apps.len(),
        "starting"
    );
    let starting = start(config, Compiler::this_program(), perf_map, handed_over, |app| {
        bar.set_message(app.to_string());
        bar.inc(1);
    });
    let running = tokio::select! {
        started = starting => started,
        () = signals.stop() => return Ok(()),
    };
    bar.finish_and_clear();
    let running = running?;

    match until_the_end(&running, &program, &mut signals).await {
        None => {
            tokio::select! {
                _ = running.stop() => {}
                () = signals.stop() => end_at_once(),
            }
        }
        Some(mut successor) => {
            let stop = successor.stopper();
            let mut drained = pin!(running.hand_over(&mut successor));
            tokio::select! {
                _ = &mut drained => return Ok(()),
                () = signals.stop() => stop.stop(),
            }
            tokio::select! {
                _ = drained => {}
                () = signals.stop() => end_at_once(),
            }
        }
    }
    Ok(())
}

/// Follows the signals until one says to stop, or there is a process that has taken over.
async fn until_the_end(
    running: &Running,
    program: &Program,
    signals: &mut Signals,
) -> Option<Successor> {
    // Dropping it ends the process that was started.
    let mut upgrade = pin!(Fuse::terminated());
    // Who has asked for it, where that was not by a signal.
    let mut asked: Option<Wish> = None;
    loop {
        let told = tokio::select! {
            told = signals.next() => told,
            wish = running.asked_to_upgrade() => Told::Upgrade(Some(wish)),
            () = running.told_to_stop() => Told::Stop,
            upgraded = &mut upgrade => match upgraded {
                Ok(successor) => {
                    if let Some(wish) = asked {
                        wish.tell(Ok(Successor::pid(&successor)));
                    }
                    return Some(successor);
                }
                Err(reason) => {
                    error!(%reason, "not upgraded, this process goes on serving");
                    if let Some(wish) = asked.take() {
                        wish.tell(Err(Failure::to_string(&reason)));
                    }
                    continue;
                }
            },
        };
        match told {
            Told::Look => running.reload(),
            Told::Stop => return None,
            Told::Upgrade(wish) if upgrade.is_terminated() => {
                asked = wish;
                upgrade.set(running.upgrade(program).fuse());
            }
            Told::Upgrade(wish) => {
                error!(reason = %Failure::UnderWay, "not upgraded");
                if let Some(wish) = wish {
                    wish.tell(Err(Failure::UnderWay.to_string()));
                }
            }
        }
    }
}

/// Nothing is waited for any more, the log included.
fn end_at_once() {
    eprintln!("tidegate: stopped at once by a second signal");
    std::process::exit(EXIT_FAILURE.into());
}

/// What the operator, or systemd, wants.
enum Told {
    Look,
    /// With who waits for what becomes of it.
    Upgrade(Option<Wish>),
    Stop,
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    upgrade: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.hangup.recv() => Told::Look,
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.upgrade.recv() => Told::Upgrade(None),
        }
    }

    /// Resolves at the next signal that says to stop.
    async fn stop(&mut self) {
        loop {
            match self.next().await {
                Told::Stop => return,
                Told::Look => {}
                // Who has asked is told that this process is gone.
                Told::Upgrade(_) => {
                    error!(reason = "this process is starting, or ending", "not upgraded");
                }
            }
        }
    }
}
