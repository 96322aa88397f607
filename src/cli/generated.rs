//! What is made from the command line itself: the man pages, and what shells complete.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, ValueEnum};
use clap_complete::Shell;

use super::{Arguments, EXIT_FAILURE, fail};

/// Shells that packages have completions for.
#[derive(Clone, Copy, ValueEnum)]
pub enum CompletedShell {
    Bash,
    Fish,
    Zsh,
}

/// Prints the completions of `shell`.
pub fn completions(shell: CompletedShell) -> ExitCode {
    let shell = match shell {
        CompletedShell::Bash => Shell::Bash,
        CompletedShell::Fish => Shell::Fish,
        CompletedShell::Zsh => Shell::Zsh,
    };
    // Not at once to standard output: clap_complete panics where that is closed.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "tidegate", &mut text);
    match io::stdout().write_all(&text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(EXIT_FAILURE, format!("cannot write: {error}")),
    }
}

/// Writes a man page for the program and one for each subcommand into `dir`, for packages.
pub fn man(dir: &Path) -> ExitCode {
    match clap_mangen::generate_to(Arguments::command(), dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            fail(EXIT_FAILURE, format!("cannot write man pages into {}: {error}", dir.display()))
        }
    }
}
