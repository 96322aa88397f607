//! Servers in processes of their own, each on the same core.

use std::env;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::guests::Errand;
use super::load::{Whom, ask_once};
use super::machine::pin;

/// How long a server may take to its first answer: it may have to compile a thousand guests.
const PATIENCE: Duration = Duration::from_secs(300);

/// A server that runs until it is dropped.
pub struct Server {
    child: Child,
}

impl Server {
    /// Starts `command`, on `core` if one is given. Its output is not wanted.
    pub fn start(mut command: Command, core: Option<usize>) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if env::var_os("VERBOSE").is_none() {
            command.stderr(Stdio::null());
        }
        if let Some(core) = core {
            // SAFETY: `pin` makes one system call and allocates nothing.
            unsafe { command.pre_exec(move || pin(core)) };
        }
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Self { child }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `whom`, of this server, answers.
    pub async fn answers(&mut self, whom: &Whom, errand: Errand) {
        let begun = Instant::now();
        while let Err(error) = ask_once(whom, errand).await {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("the server for {} ended: {status} (VERBOSE=1 shows why)", whom.host);
            }
            assert!(begun.elapsed() < PATIENCE, "no answer from {}: {error}", whom.host);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that nobody listens on.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address")
}

/// The program to measure: that in `TIDEGATE`, or the one built with this bench.
pub fn tidegate_program() -> PathBuf {
    env::var_os("TIDEGATE").map_or_else(|| env!("CARGO_BIN_EXE_tidegate").into(), PathBuf::from)
}

/// `tidegate run` of this program on a manifest.
pub fn run_tidegate(program: &Path, manifest: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("run").arg("--config").arg(manifest);
    command
}

/// The wasmtime to compare with: that in `WASMTIME`, or on the `PATH`, if there is one.
pub fn wasmtime() -> Option<PathBuf> {
    env::var_os("WASMTIME").map(PathBuf::from).or_else(|| on_path("wasmtime"))
}

/// The program of this name, if there is one.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    // Where Debian has its servers, which not everyone has on the path.
    let dirs = env::split_paths(&path).chain(["/usr/sbin".into()]);
    dirs.map(|dir| dir.join(program)).find(|file| file.is_file())
}
