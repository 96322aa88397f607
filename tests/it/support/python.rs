//! The Python tools in tests/python, with the packages that their requirements.txt names.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where this is set, as in CI, tools that cannot be had are an error.
const REQUIRED: &str = "TIDEGATE_TEST_TOOLS";

/// A tool that is not installed: a test without it says so, and fails where tools are required.
pub fn missing(tool: &str, why: &str) {
    assert!(std::env::var_os(REQUIRED).is_none(), "{tool} cannot be had: {why}");
    eprintln!("\n!!! SKIPPED: {tool} cannot be had: {why}\n");
}

/// Runs a script of tests/python, or nothing where there is no Python with its packages.
pub fn script(name: &str) -> Option<Command> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match PYTHON.get_or_init(|| python(&folder())) {
        Ok(python) => {
            let mut command = Command::new(python);
            command.arg(folder().join(name));
            Some(command)
        }
        Err(why) => {
            missing("Python with tests/python/requirements.txt", why);
            None
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python")
}

/// The interpreter of an environment with the required packages, made where it is not there yet.
fn python(folder: &Path) -> Result<PathBuf, String> {
    let requirements = folder.join("requirements.txt");
    let wanted = fs::read_to_string(&requirements).map_err(|error| error.to_string())?;
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(target).map_err(|error| error.to_string())?;
    // Other runs of the tests may be at it as well.
    let lock = File::create(target.join("python.lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;

    let environment = target.join("python");
    let (made, python) = (environment.join("made-for.txt"), environment.join("bin/python"));
    if fs::read_to_string(&made).is_ok_and(|made| made == wanted) {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
    run(Command::new(&python).args(install).arg(&requirements))?;
    fs::write(&made, wanted).map_err(|error| error.to_string())?;
    Ok(python)
}

fn run(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}
