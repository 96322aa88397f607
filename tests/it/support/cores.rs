//! A server on one core, and what it has of the machine.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::machine::{cores, cpu_time, pin};
use super::server::Server;

/// Keeps what `command` starts on one core: the first of those that this process may use, or
/// another by its place among them.
pub fn pinned(mut command: Command, place: usize) -> Command {
    let cores = cores();
    let core = cores[place % cores.len()];
    // SAFETY: between fork and exec it only makes a system call, and allocates nothing.
    unsafe { command.pre_exec(move || pin(core)) };
    command
}

/// What a process's threads have had of the CPU so far, and how long they wanted it in vain.
#[derive(Clone, Copy)]
pub struct Busy {
    pub ran: Duration,
    pub waited: Duration,
}

impl Busy {
    /// How long they waited is of those that live.
    pub fn of(server: &Server) -> Busy {
        let waited = |thread: PathBuf| {
            let times = fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
            let waited = times.split_whitespace().nth(1).and_then(|time| time.parse().ok());
            Duration::from_nanos(waited.unwrap_or_default())
        };
        let waited = threads(server).into_iter().map(waited).sum();
        Busy { ran: cpu_time(server.pid()), waited }
    }

    pub fn since(self, before: Busy) -> Busy {
        Busy {
            ran: self.ran.saturating_sub(before.ran),
            waited: self.waited.saturating_sub(before.waited),
        }
    }
}

/// How often the thread has gone to sleep that interrupts guests.
pub fn ticker_sleeps(server: &Server) -> u64 {
    let is_ticker = |thread: &PathBuf| {
        fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.trim() == "epochs")
    };
    let ticker = threads(server).into_iter().find(is_ticker).expect("there is a ticker");
    let status = fs::read_to_string(ticker.join("status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|number| number.trim().parse().ok()).expect("a number")
}

/// Descriptors that the process has open.
pub fn descriptors(server: &Server) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("its descriptors").count()
}

/// Bytes in memory.
pub fn resident(server: &Server) -> u64 {
    server.memory("VmRSS:")
}

fn threads(server: &Server) -> Vec<PathBuf> {
    let threads = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("its threads");
    threads.map(|thread| thread.expect("a thread").path()).collect()
}
