//! The child's side: standard input to compiled code, or a reason, on standard output.

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use super::confine;
use super::translate::compile;
use crate::config;
use crate::guest::ComponentError;
use crate::guest::files::MAX_COMPONENT;

/// Exit code: standard output says in JSON why the component is refused.
pub const REFUSED: u8 = 10;

/// Exit code: there was no memory left.
pub const NO_MEMORY: u8 = 11;

/// Exit code: what it compiled to is larger than [`super::MAX_CODE`].
pub const NO_ROOM: u8 = 12;

/// Exit code: it could not be confined, or had no input; standard error says why.
pub const NOT_STARTED: u8 = 13;

/// What one compilation may use. The arguments of `tidegate compile`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Bounds {
    /// Seconds of CPU, of all threads together.
    #[arg(long)]
    pub cpu_time: u64,
    /// Bytes of memory.
    #[arg(long)]
    pub memory: u64,
    #[arg(long)]
    pub threads: usize,
    /// The process that waits for the result.
    #[arg(long)]
    pub parent: u32,
}

impl Bounds {
    pub fn new(limits: &config::Compile, threads: usize) -> Self {
        // The system counts in seconds.
        let up = limits.cpu_time.checked_add(Duration::from_nanos(999_999_999));
        Self {
            cpu_time: up.map_or(u64::MAX, |time| time.as_secs()),
            memory: limits.memory,
            threads,
            parent: std::process::id(),
        }
    }

    /// The command line that asks for it.
    pub fn arguments(&self) -> [String; 9] {
        let Self { cpu_time, memory, threads, parent } = self;
        let text = |value: &dyn ToString| value.to_string();
        [
            "compile".into(),
            "--cpu-time".into(),
            text(cpu_time),
            "--memory".into(),
            text(memory),
            "--threads".into(),
            text(threads),
            "--parent".into(),
            text(parent),
        ]
    }
}

/// Compiles standard input within `bounds`: the whole life of the child.
pub fn run(bounds: &Bounds) -> ExitCode {
    let bytes = match prepare(bounds) {
        Ok(bytes) => bytes,
        Err(error) => {
            eprintln!("{error}");
            return NOT_STARTED.into();
        }
    };
    let output = match compile(&bytes) {
        Ok((code, label)) => write(&[&code, &label.to_bytes()]).map(|()| 0),
        Err(ComponentError::NoMemory) => Ok(NO_MEMORY),
        // It is made of strings, which are always JSON.
        Err(refusal) => {
            write(&[&serde_json::to_vec(&refusal).unwrap_or_default()]).map(|()| REFUSED)
        }
    };
    output.unwrap_or(NO_ROOM).into()
}

fn write(parts: &[&[u8]]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    parts.iter().try_for_each(|part| stdout.write_all(part))?;
    stdout.flush()
}

/// Reads the component, and gives away on the way what is not needed any more.
fn prepare(bounds: &Bounds) -> Result<Vec<u8>, String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    confine::limit(bounds).map_err(|e| failed("cannot set limits", &e))?;
    rayon::ThreadPoolBuilder::new()
        .num_threads(bounds.threads.max(1))
        .build_global()
        .map_err(|e| failed("cannot start threads", &e))?;
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .take(MAX_COMPONENT)
        .read_to_end(&mut bytes)
        .map_err(|e| failed("cannot read the component", &e))?;
    confine::forbid().map_err(|e| failed("cannot give up system calls", &e))?;
    Ok(bytes)
}
