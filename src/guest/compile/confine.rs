//! What the child takes from itself before it looks at a component.
//!
//! The compiler is memory-safe but for its own mistakes. Should one be found,
//! whoever wrote the component is in a process that can compute and write to
//! its output, and nothing else: no files, no network, no other processes.

use std::io;

use super::Bounds;

/// Files that may be open: the standard ones.
const MAX_FILES: u64 = 3;

/// A tenth of a core that requests want as well. At the lowest, 19, it would be a seventieth: a
/// component that compiles in a second would come into service a minute after it was dropped.
const NICENESS: libc::c_int = 10;

/// Sets the limits. What is started afterwards, threads too, has them as well.
///
/// # Errors
/// When one cannot be set that something depends on.
pub fn limit(bounds: &Bounds) -> io::Result<()> {
    die_with_parent(bounds.parent)?;
    close_others();
    yield_to_requests();
    // SAFETY: takes numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;

    // At the first the process ends by a signal that says so; at the second whatever it does.
    set(libc::RLIMIT_CPU, bounds.cpu_time, bounds.cpu_time.saturating_add(1))?;
    // All writable memory: heap, stacks, anonymous mappings. RLIMIT_AS would also count
    // what is only reserved, which is 128 MiB for each thread's heap.
    set(libc::RLIMIT_DATA, bounds.memory, bounds.memory)?;
    set(libc::RLIMIT_FSIZE, super::MAX_CODE, super::MAX_CODE)?;
    set(libc::RLIMIT_CORE, 0, 0)?;
    set(libc::RLIMIT_NOFILE, MAX_FILES, MAX_FILES)
}

/// Gives up all system calls but those that computing takes, on every thread.
///
/// What is forbidden fails and does not kill: libraries try things they can do without.
///
/// # Errors
/// When the system has no such filters.
pub fn forbid() -> io::Result<()> {
    let filter = filter();
    rayon::broadcast(|_| apply(&filter)).into_iter().collect::<io::Result<()>>()?;
    apply(&filter)
}

/// A stop of the server, however sudden, is the end of its compilations.
fn die_with_parent(parent: u32) -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
    match std::os::unix::process::parent_id() == parent {
        true => {}
        false => return Err(io::Error::other("who started it is gone")),
    }
    // The server is asked to stop, and decides what that means here.
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGXFSZ] {
        // SAFETY: to ignore a signal runs no code.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    Ok(())
}

/// Closes what whoever started the server left open to it.
fn close_others() {
    let from = libc::STDERR_FILENO + 1;
    // SAFETY: nothing in this process owns a descriptor from there on yet. Where the
    // system does not have the call (Linux before 5.9), they stay, as in the server.
    unsafe { libc::syscall(libc::SYS_close_range, from, libc::c_uint::MAX, 0) };
}

/// Leaves the CPU to requests where there is too little for both, and memory where that is
/// short. Where the system denies that, the limits still hold.
fn yield_to_requests() {
    // SAFETY: `param` is valid for the call.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS);
        let param: libc::sched_param = std::mem::zeroed();
        libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const param);
    }
    // Rather this process than the server, when there is none left.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}

fn set(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `now` is valid for the call, which does nothing but fill it.
    check(unsafe { libc::getrlimit(resource, &raw mut now) })?;
    let limit = libc::rlimit { rlim_cur: soft.min(now.rlim_max), rlim_max: hard.min(now.rlim_max) };
    // SAFETY: `limit` is valid for the call, which only reads it.
    check(unsafe { libc::setrlimit(resource, &raw const limit) })
}

#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

fn check(result: libc::c_int) -> io::Result<()> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Memory, locks between threads, the end, and writing to what is open.
const ALLOWED: [libc::c_long; 23] = [
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_write,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// System calls have numbers of their own on each architecture, and a process may use
/// those of another: of these, none is allowed.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// The program that the kernel runs at each system call.
fn filter() -> Vec<libc::sock_filter> {
    // Where the kernel shows the number of the call, and the architecture.
    const NUMBER: u32 = 0;
    const MACHINE: u32 = 4;
    let load = |at| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at, 0, 0);
    let skip = |value, equal, other| {
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, equal, other)
    };
    let end = |action| step(libc::BPF_RET | libc::BPF_K, action, 0, 0);
    let denied = end(libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs());

    let mut filter = vec![load(MACHINE), skip(ARCHITECTURE, 1, 0), denied, load(NUMBER)];
    for call in ALLOWED {
        let call = u32::try_from(call).unwrap_or(u32::MAX);
        filter.extend([skip(call, 0, 1), end(libc::SECCOMP_RET_ALLOW)]);
    }
    filter.push(denied);
    filter
}

fn step(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    // The codes are 16 bits wide by definition.
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// Puts the filter upon this thread.
fn apply(filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(io::Error::other)?,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel reads `len` steps of the filter, which outlives the call.
    check(unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
    })
}
