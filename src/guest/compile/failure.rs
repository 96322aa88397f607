//! Why a child ended without code, in words for the operator.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::child::{NO_MEMORY, NO_ROOM, REFUSED};
use crate::config::{Compile, duration_text, size_text};
use crate::guest::ComponentError;
use crate::limit::Limit;

/// Bytes of the child's own words in a message.
const MAX_WORDS: usize = 300;

/// What Rust's allocator says last.
const OUT_OF_MEMORY: &str = "memory allocation of ";

/// What `status` means, with what the child wrote to standard output and error.
pub fn of(status: ExitStatus, output: &[u8], log: &[u8], limits: &Compile) -> ComponentError {
    let log = String::from_utf8_lossy(log);
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    match (code, status.signal()) {
        (Some(REFUSED), _) => match serde_json::from_slice(output) {
            Ok(refusal) => refusal,
            Err(_) => failed("gave no reason that can be read", &log),
        },
        (_, Some(libc::SIGXCPU)) => too_dear(Limit::CompileCpuTime, limits),
        (Some(NO_MEMORY), _) => too_dear(Limit::CompileMemory, limits),
        _ if log.contains(OUT_OF_MEMORY) => too_dear(Limit::CompileMemory, limits),
        (Some(NO_ROOM), _) => {
            let most = size_text(super::MAX_CODE);
            ComponentError::Compile(format!("it becomes more than {most} of code"))
        }
        (_, Some(libc::SIGKILL)) => {
            ComponentError::Passing("it does not compile: the compiler's process was killed from outside, as it is where the system has no memory left".into())
        }
        (_, Some(signal)) => failed(&format!("crashed over it (signal {signal})"), &log),
        (_, None) => failed("did not work", &log),
    }
}

/// A compilation reached `limit`.
pub fn too_dear(limit: Limit, limits: &Compile) -> ComponentError {
    let used = match limit {
        Limit::CompileCpuTime => format!("{} of CPU", duration_text(limits.cpu_time)),
        Limit::CompileMemory => format!("{} of memory", size_text(limits.memory)),
        _ => duration_text(limits.timeout),
    };
    ComponentError::TooDear { limit, used }
}

fn failed(how: &str, log: &str) -> ComponentError {
    // What it says may be quoted from the component.
    let words: String = log.lines().find(|line| !line.is_empty()).unwrap_or("").into();
    let words: String = words.chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect();
    let colon = if words.is_empty() { "" } else { ": " };
    ComponentError::Compile(format!("the compiler's process {how}{colon}{words}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: i32, output: &str, log: &str) -> String {
        of(ExitStatus::from_raw(status), output.as_bytes(), log.as_bytes(), &Compile::default())
            .to_string()
    }

    #[test]
    fn each_end_of_a_child_is_told() {
        let exit = |code: u8| i32::from(code) << 8;
        let refusal = ComponentError::NotWasm("the file is empty".into());
        let refusal = serde_json::to_string(&refusal).unwrap();
        let aborted = "memory allocation of 4096 bytes failed";
        for (status, output, log, words) in [
            (exit(REFUSED), &*refusal, "", "the file is empty"),
            (exit(REFUSED), "not JSON", "", "gave no reason that can be read"),
            (libc::SIGXCPU, "", "", "it took more than 2m of CPU (compile.cpu_time)"),
            (exit(NO_MEMORY), "", "", "it took more than 2GiB of memory (compile.memory)"),
            (libc::SIGABRT, "", aborted, "it took more than 2GiB of memory (compile.memory)"),
            (exit(NO_ROOM), "", "", "it becomes more than 512MiB of code"),
            (libc::SIGKILL, "", "", "where the system has no memory left"),
            (libc::SIGSEGV, "", "\nwords\n", "crashed over it (signal 11): words"),
            (exit(1), "", "cannot \u{1b}[2J", "did not work: cannot [2J"),
        ] {
            let said = said(status, output, log);
            assert!(said.ends_with(words), "{status}: {said}");
        }
    }
}
