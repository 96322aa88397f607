//! Log lines: from `tracing` events to standard error and rolling files, off the threads that serve.
//!
//! An event is formatted once, by the thread that logs it, and handed to a
//! bounded queue (around tracing-appender's). A line that finds the queue full,
//! or the disk, is counted and the count is logged: serving never waits for a log.

mod file;
mod label;
mod line;
mod queue;
mod recent;
mod sink;
mod tail;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

use indicatif::ProgressBar;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::{SetGlobalDefaultError, set_global_default};
use tracing_appender::non_blocking::WorkerGuard;

use crate::config::{Log, LogLevel};
use file::RollingFile;
use line::Lines;
#[cfg(any(fuzzing, test))]
pub(crate) use line::write_value;
use queue::Queue;
pub use tail::{FOLLOWERS_MAX, Follower, Tail, TooMany, Wanted};

/// The target of access-log lines. They go to the file alone where there is one.
pub const ACCESS: &str = "access";

/// The target of lines that guests write.
pub const GUEST: &str = "guest";

/// Writes out the lines that wait, when dropped. It lives as long as `main` does:
/// `std::process::exit` would skip it.
#[must_use = "dropping it ends the log"]
pub struct Flush {
    _threads: Vec<WorkerGuard>,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot write log files in {}: {source}", dir.display())]
    Dir { dir: PathBuf, source: io::Error },
    #[error("logging was started before")]
    AlreadyStarted(#[from] SetGlobalDefaultError),
}

/// Lines that never reached where they were to be written.
#[derive(Clone, Copy, Debug)]
pub struct Losses {
    /// Left out, as too many came.
    pub dropped: u64,
    /// They could not be written.
    pub lost: u64,
}

/// What was lost since the process began.
pub fn losses() -> Losses {
    Losses { dropped: queue::DROPPED.load(Relaxed), lost: sink::LOST.load(Relaxed) }
}

/// The log's last lines. There is one log in a process, as there is one subscriber.
pub fn tail() -> &'static Tail {
    static TAIL: Tail = Tail::new();
    &TAIL
}

/// Sends every event from here on where `log` says. `RUST_LOG` is not looked at: the manifest is the truth.
///
/// Lines on standard error are written around `bar`.
pub fn start(log: &Log, bar: ProgressBar) -> Result<Flush, LogError> {
    ignore_file_size_signal();
    tail().set_format(log.format);
    // All lines go to the file, where there is one.
    let tap = |is_all: bool| is_all.then(tail);
    let (stderr, stderr_thread) =
        Queue::start(sink::Stderr(bar), log.format, tap(log.dir.is_none()));
    let mut threads = vec![stderr_thread];
    let file = match &log.dir {
        None => None,
        Some(dir) => {
            let file = RollingFile::open(dir, log)
                .map_err(|source| LogError::Dir { dir: dir.clone(), source })?;
            let (file, file_thread) = Queue::start(file, log.format, tap(true));
            threads.push(file_thread);
            Some(file)
        }
    };
    set_global_default(Lines::new(level(log.level), log.format, stderr, file))?;
    Ok(Flush { _threads: threads })
}

/// A file that meets RLIMIT_FSIZE is a write that fails, like one on a full disk, and not the end of the process.
fn ignore_file_size_signal() {
    // SAFETY: no handler is installed, so none can do anything wrong.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
