//! Compiles components in a process of its own, within limits.
//!
//! An 11 KiB module can cost the compiler a quarter of a minute, and 20 KiB
//! more than one; others make it take all memory there is, or crash. So nothing
//! of a component is parsed or compiled in the process that serves: it hands
//! the file to a child, `tidegate compile`, and gets back compiled code or a
//! reason. The child is the same program, which makes the same code.

mod child;
mod confine;
mod failure;
mod translate;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;
use tokio::time::timeout;

pub use child::{Bounds, run};
pub use failure::too_dear;
pub use translate::compile;

use super::ComponentError;
use super::code::{Code, memory_file};
use crate::config::Compile;
use crate::limit::Limit;

/// Bytes of compiled code: what more is refused. 256 MiB of wasm, the largest
/// component, may make more; the largest known one, Python's runtime, makes 60 MiB.
const MAX_CODE: u64 = 512 << 20;

/// Bytes of what the child said that are looked at.
const MAX_SAID: usize = 64 << 10;

/// Starts the processes that compile.
#[derive(Clone, Debug)]
pub struct Compiler {
    program: PathBuf,
}

impl Compiler {
    /// Compiles with the program that runs now. It is found also where an upgrade has
    /// put another in its place.
    pub fn this_program() -> Self {
        Self { program: "/proc/self/exe".into() }
    }

    /// Compiles with the tidegate at `program`: for tests, which are no tidegate themselves.
    pub fn at(program: PathBuf) -> Self {
        Self { program }
    }

    /// Compiles the component in `file`, on so many threads.
    ///
    /// Dropping the future kills the child, which also ends with the thread that polled
    /// this first: not for a thread of the blocking pool.
    ///
    /// # Errors
    /// When it is no component that can be served, or takes more than `limits`.
    pub async fn compile(
        &self,
        file: File,
        limits: &Compile,
        threads: usize,
    ) -> Result<Code, ComponentError> {
        let failed = |what, error: io::Error| {
            ComponentError::Passing(format!(
                "it does not compile: the compiler's process {what}: {error}"
            ))
        };
        let files = || Ok((memory_file(c"compiled code")?, memory_file(c"compiler's log")?));
        let (code, log) = files().map_err(|e| failed("has no memory for its output", e))?;
        let shared = || Ok((code.try_clone()?, log.try_clone()?));
        let (stdout, stderr) = shared().map_err(|e| failed("cannot be started", e))?;

        let bounds = Bounds::new(limits, threads);
        let mut child = Command::new(&self.program)
            .arg0("tidegate")
            .args(bounds.arguments())
            .env_clear()
            .current_dir("/")
            .stdin(file)
            .stdout(stdout)
            .stderr(Stdio::from(stderr))
            // A signal from the terminal is not for it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| failed("cannot be started", e))?;
        let status = match timeout(limits.timeout, child.wait()).await {
            Ok(status) => status.map_err(|e| failed("is lost", e))?,
            Err(_) => {
                // Only once it is gone does the next one take its core.
                child.kill().await.map_err(|e| failed("cannot be killed", e))?;
                return Err(too_dear(Limit::CompileTimeout, limits));
            }
        };
        let output = tokio::task::spawn_blocking(move || match status.success() {
            true => code.metadata().and_then(|meta| Code::read(code, meta.len())).map(Ok),
            false => Ok(Err((start(&code)?, start(&log)?))),
        });
        match output.await.unwrap_or_else(|panic| Err(io::Error::other(panic.to_string()))) {
            Ok(Ok(code)) => Ok(code),
            Ok(Err((output, log))) => Err(failure::of(status, &output, &log, limits)),
            Err(error) => Err(failed("left unusable code", error)),
        }
    }
}

/// The first bytes of what the child wrote.
fn start(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; MAX_SAID];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
