//! System calls that fail, by strace: from a process's start, or from some moment on.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::server::{Server, Site, wait_until};

/// Which calls fail, how, and which of them by their numbers in each thread.
#[derive(Clone, Copy)]
pub struct Fault {
    pub calls: &'static str,
    pub error: &'static str,
    /// As strace has it: `3`, `1..5`, `2+`.
    pub when: &'static str,
}

pub const OPEN: &str = "openat";
pub const WRITE: &str = "write,pwrite64,writev";
pub const SYNC: &str = "fsync,fdatasync";
pub const RENAME: &str = "rename,renameat,renameat2,linkat";
pub const ACCEPT: &str = "accept4";

impl Fault {
    /// The arguments of a strace that follows calls on these paths only, or all where there is none.
    fn arguments(&self, trace: &Path, paths: &[PathBuf]) -> Vec<String> {
        let Fault { calls, error, when } = self;
        let mut arguments = vec![
            "-f".to_owned(),
            "-qqq".to_owned(),
            format!("-o{}", trace.display()),
            format!("-etrace={calls}"),
            format!("-einject={calls}:error={error}:when={when}"),
        ];
        arguments.extend(paths.iter().map(|path| format!("-P{}", path.display())));
        arguments
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} fails with {} when {}", self.calls, self.error, self.when)
    }
}

/// Why strace cannot be used here, if so.
pub fn missing() -> Option<String> {
    let tried = Command::new("strace").args(["-qqq", "-f", "-o/dev/null", "true"]).output();
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("strace: {error}")),
    }
}

/// What starts a server whose calls on `paths` fail from its first moment on. `PID` in a path is its process id.
pub fn command(site: &Site, fault: Fault, paths: &[PathBuf]) -> Command {
    // The shell knows the process id, and strace as a grandchild (-D) leaves it to the server.
    let arguments = fault.arguments(&trace(site), paths);
    let quoted: Vec<_> =
        arguments.iter().map(|it| format!("\"{}\"", it.replace("PID", "$$"))).collect();
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!(
            "exec strace -D {} {} run --config {}",
            quoted.join(" "),
            env!("CARGO_BIN_EXE_tidegate"),
            site.manifest().display()
        ))
        .current_dir(site.path(""));
    command
}

fn trace(site: &Site) -> PathBuf {
    site.path("strace.out")
}

/// How many calls have failed since the last strace began.
pub fn injected(site: &Site) -> usize {
    fs::read_to_string(trace(site)).unwrap_or_default().matches("(INJECTED)").count()
}

/// A running server's calls fail until this is dropped.
pub struct Failing(Child);

pub fn attach(site: &Site, server: &Server, fault: Fault, paths: &[PathBuf]) -> Failing {
    let _ = fs::remove_file(trace(site));
    let strace = Command::new("strace")
        .args(fault.arguments(&trace(site), paths))
        .args(["-p", &server.pid().to_string()])
        .stderr(Stdio::null())
        .spawn()
        .expect("start strace");
    let failing = Failing(strace);
    wait_until("strace follows every thread", || traced(server).into_iter().all(|traced| traced));
    failing
}

/// For each thread, whether somebody traces it.
fn traced(server: &Server) -> Vec<bool> {
    let threads = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("its threads");
    let status =
        threads.flatten().filter_map(|it| fs::read_to_string(it.path().join("status")).ok());
    status.map(|status| !status.contains("TracerPid:\t0\n")).collect()
}

impl Drop for Failing {
    /// A strace that is asked to end lets go of what it follows. Where that was just about to
    /// start a process, both wait for each other; one that is killed lets go as well.
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.0.id()) {
            // SAFETY: the child has not been waited for, so the id is still its own.
            unsafe { libc::kill(pid, libc::SIGINT) };
        }
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            if matches!(self.0.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
