//! A server on one core, and what it has of the machine.

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
        Busy { ran: cpu_time(server), waited }
    }

    pub fn since(self, before: Busy) -> Busy {
        Busy {
            ran: self.ran.saturating_sub(before.ran),
            waited: self.waited.saturating_sub(before.waited),
        }
    }
}

/// The process's own clock, which also knows of threads that have ended.
fn cpu_time(server: &Server) -> Duration {
    let pid = libc::pid_t::try_from(server.pid()).expect("a process id");
    let (mut clock, mut time) = (0, libc::timespec { tv_sec: 0, tv_nsec: 0 });
    // SAFETY: both calls write to what they are given and keep no pointer to it.
    let code = unsafe {
        match libc::clock_getcpuclockid(pid, &raw mut clock) {
            0 => libc::clock_gettime(clock, &raw mut time),
            error => error,
        }
    };
    assert_eq!(code, 0, "the process has a clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
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
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("its status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a size");
    let kibibytes: u64 = line.split_whitespace().nth(1).expect("a size").parse().expect("a number");
    kibibytes << 10
}

fn threads(server: &Server) -> Vec<PathBuf> {
    let threads = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("its threads");
    threads.map(|thread| thread.expect("a thread").path()).collect()
}
