//! A server on one core, and what its threads do there.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

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

fn cores() -> Vec<usize> {
    // SAFETY: an all-zero set is an empty one, and the call is given its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let size = size_of::<libc::cpu_set_t>();
        assert_eq!(libc::sched_getaffinity(0, size, &raw mut set), 0, "no affinity to read");
        (0..libc::CPU_SETSIZE as usize).filter(|core| libc::CPU_ISSET(*core, &set)).collect()
    }
}

fn pin(core: usize) -> io::Result<()> {
    // SAFETY: as above.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        match libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// What a process's threads have had of the CPU so far, and how long they wanted it in vain.
#[derive(Clone, Copy, Default)]
pub struct Busy {
    pub ran: Duration,
    pub waited: Duration,
}

impl Busy {
    /// Of all threads that live.
    pub fn of(server: &Server) -> Busy {
        let mut busy = Busy::default();
        for thread in threads(server) {
            let times = fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
            let mut times = times.split_whitespace().filter_map(|time| time.parse().ok());
            let mut next = || Duration::from_nanos(times.next().unwrap_or_default());
            busy.ran += next();
            busy.waited += next();
        }
        busy
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

fn threads(server: &Server) -> Vec<PathBuf> {
    let threads = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("its threads");
    threads.map(|thread| thread.expect("a thread").path()).collect()
}
