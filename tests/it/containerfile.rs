//! The Containerfile, as far as it can be tried without a registry.

use std::path::Path;
use std::process::Command;

const CONTAINERFILE: &str = include_str!("../../packaging/Containerfile");

/// What is copied from the project for the build, which is the first stage.
fn copied() -> Vec<&'static str> {
    let stage = CONTAINERFILE.lines().take_while(|line| !line.starts_with("RUN cargo build"));
    let copies = stage.filter_map(|line| line.strip_prefix("COPY "));
    copies.flat_map(|line| line.split(' ').rev().skip(1)).collect()
}

#[test]
fn cargo_finds_all_that_it_wants_among_what_is_copied() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let context = tempfile::tempdir().expect("a folder");
    for name in copied() {
        let copied = Command::new("cp").arg("-r").arg(root.join(name)).arg(context.path()).status();
        assert!(copied.expect("run cp").success(), "{name}");
    }

    let read = Command::new("cargo")
        .args(["metadata", "--locked", "--no-deps", "--format-version=1"])
        .current_dir(context.path())
        .output()
        .expect("run cargo");

    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
}
