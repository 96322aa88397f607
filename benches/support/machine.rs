//! The machine's clocks and cores, and what the kernel knows of a process.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::time::Duration;

/// CPU time of a process, all threads together, those that ended included.
///
/// The process's own clock and not `/proc/PID/stat`, which counts in hundredths of a second.
pub fn cpu_time(pid: u32) -> Duration {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both calls write to what they are given and keep no pointer to it.
    let code = unsafe {
        match libc::clock_getcpuclockid(pid as libc::pid_t, &raw mut clock) {
            0 => libc::clock_gettime(clock, &raw mut time),
            error => error,
        }
    };
    assert_eq!(code, 0, "process {pid} has no CPU clock: is it gone?");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The cores that this process may use.
pub fn cores() -> Vec<usize> {
    // SAFETY: an all-zero set is an empty one, and the calls are given its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let size = size_of::<libc::cpu_set_t>();
        assert_eq!(libc::sched_getaffinity(0, size, &raw mut set), 0, "no affinity to read");
        (0..libc::CPU_SETSIZE as usize).filter(|core| libc::CPU_ISSET(*core, &set)).collect()
    }
}

/// Keeps the calling thread, and the threads and processes it starts, on one core.
///
/// # Errors
/// When there is no such core. Safe to call between fork and exec.
pub fn pin(core: usize) -> io::Result<()> {
    // SAFETY: an all-zero set is an empty one, and the call is given its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        match libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Keeps the calling thread, which is the load's, on the last core. The first, which is returned,
/// is for the server.
pub fn load_apart_from_server() -> usize {
    let cores = cores();
    let (server, load) = (cores[0], cores[cores.len() - 1]);
    if server == load {
        println!("one core for server and load: requests per second and latency mean little");
    }
    pin(load).expect("a core for the load");
    server
}

/// Names the calling thread, so that a profile (`perf report --sort comm,symbol`) tells who ran.
pub fn name_thread(name: &CStr) {
    // SAFETY: the kernel copies the name, which ends in a NUL.
    let code = unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    assert_eq!(code, 0, "a thread takes a name");
}

/// A process's memory in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Resident, pages shared with others included.
    pub resident: u64,
    /// Resident, a shared page divided among those who share it.
    pub proportional: u64,
}

pub fn memory(pid: u32) -> Memory {
    Memory {
        resident: kib(&format!("/proc/{pid}/status"), "VmRSS:"),
        proportional: kib(&format!("/proc/{pid}/smaps_rollup"), "Pss:"),
    }
}

fn kib(path: &str, key: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let line = text.lines().find_map(|line| line.strip_prefix(key)).expect(key);
    let number = line.trim().trim_end_matches(" kB");
    number.trim().parse::<u64>().expect(key) << 10
}

/// A number from the environment, for longer or shorter runs.
pub fn setting(name: &str, default: f64) -> f64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")),
        Err(_) => default,
    }
}
