//! `tidegate trust`: shows the local CA's root, and has this system trust it.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use super::{EXIT_CONFIG, EXIT_FAILURE, fail, load, print};
use crate::certificates::Root;

/// The certificate goes to standard output, what is said of it to standard error.
pub fn trust(named: Option<&Path>, install: bool) -> ExitCode {
    let config = match load(named) {
        Ok(config) => config,
        Err(reason) => return fail(EXIT_CONFIG, reason),
    };
    let root = match Root::read(&config.server.state_dir) {
        Ok(root) => root,
        Err(error) => return fail(EXIT_FAILURE, error),
    };
    eprintln!("file     {}", root.path.display());
    eprintln!("subject  {}", root.subject);
    eprintln!("expires  {}", root.expires);
    eprintln!("SHA-256  {}", root.fingerprint());
    if !install {
        return match io::stdout().write_all(root.pem().as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(EXIT_FAILURE, format!("cannot write: {error}")),
        };
    }
    match root.install() {
        Ok(path) => print(&format!(
            "{}: this system trusts it now; programs with a store of their own, such as Firefox, do not",
            path.display()
        )),
        Err(error) => fail(EXIT_FAILURE, error),
    }
}
