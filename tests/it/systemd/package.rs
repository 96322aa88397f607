//! The Debian package, as dpkg installs, upgrades and removes it under a real systemd.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use super::shows;
use crate::support::pool::guest;

const PROBE: &str = concat!(include_str!("check.sh"), include_str!("package.sh"));

/// Said where there is none.
const UNTRIED: &str = "NO PACKAGE WAS TRIED";

#[test]
fn the_package_installs_serves_upgrades_and_leaves() {
    let has_tool = Command::new("cargo").args(["deb", "--version"]).output();
    if !has_tool.is_ok_and(|tool| tool.status.success()) {
        return eprintln!("\n!!! {UNTRIED}: there is no cargo-deb\n");
    }
    let package = build();
    let promises = [
        "it installs",
        "the service runs, and is there after a boot",
        "who comes is told where the manifest is",
        "a component that is dropped into the folder is served",
        "its own commands find the manifest",
        "there is a man page for the program and its commands",
        "bash completes its commands",
        "an operator's manifest outlives the next version",
        "the next version takes over, and no request is lost",
        "it goes, and its manifest stays",
        "it is purged",
    ];
    shows(&promises, UNTRIED, |machine| {
        machine.put_probe(PROBE);
        machine.put("tidegate.deb", &fs::read(&package).expect("the package"));
        machine.put("hello.wasm", &guest("hello"));
    });
}

/// Builds the package of an unoptimised program.
fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Beside the program under test: what it is built of is there already.
    let target = Path::new(env!("CARGO_BIN_EXE_tidegate")).ancestors().nth(2).expect("a folder");
    let built = Command::new(root.join("packaging/build-deb.sh"))
        .env("PROFILE", "dev")
        .env("BUILT", "1")
        .env("CARGO_TARGET_DIR", target)
        .output()
        .expect("run the script");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let paths = String::from_utf8_lossy(&built.stdout).into_owned();
    PathBuf::from(paths.lines().last().expect("the package's path"))
}
