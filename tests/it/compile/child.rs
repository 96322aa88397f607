//! The process that compiles: what it may do, and that its end is understood.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tidegate::config::Compile;
use tidegate::guest::Compiler;
use tidegate::guest::component::{Component, ComponentError, Digest};

use super::{bombs, compiler_of, site};
use crate::support::pool::{engines, guest};
use crate::support::server::wait_until;

fn tidegate() -> Compiler {
    Compiler::at(env!("CARGO_BIN_EXE_tidegate").into())
}

fn guest_file(bytes: &[u8]) -> File {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("guest.wasm");
    fs::write(&path, bytes).expect("write it");
    File::open(path).expect("open it")
}

async fn refusal(compiler: &Compiler, bytes: &[u8]) -> String {
    let limits = Compile { timeout: Duration::from_secs(20), ..Compile::default() };
    match compiler.compile(guest_file(bytes), &limits, 1).await {
        Ok(_) => panic!("it compiles"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_code_is_that_of_this_program() {
    for name in ["hello", "kit-p2", "kit-p3"] {
        let bytes = guest(name);
        let code = tidegate().compile(guest_file(&bytes), &Compile::default(), 2).await;
        let component = Component::link(&engines(), &code.expect(name)).expect(name);
        assert_eq!(component.digest, Digest::of(&bytes));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_is_wrong_as_if_it_were_here() {
    for bytes in [
        &b""[..],
        b"\0asm",
        &guest("core-module"),
        &guest("command"),
        &guest("missing-import"),
        &guest("rc-world"),
        &guest("hello")[..10_000],
    ] {
        let here = Component::compile_here(&engines(), bytes).map(drop).expect_err("refused");
        assert_eq!(refusal(&tidegate(), bytes).await, here.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_within_blocks_are_no_danger() {
    // What is deep for a parser that recurses; the answer does not matter, an answer does.
    let said = refusal(&tidegate(), &[&bombs::depth(3 << 20)[..], b"more"].concat()).await;
    assert!(!said.contains("crashed"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_fail_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let script = |name: &str, text: &str| -> Compiler {
        let path: PathBuf = dir.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("write it");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("its mode");
        Compiler::at(path)
    };
    for (compiler, words) in [
        (script("segv", "echo words >&2; kill -SEGV $$"), "crashed over it (signal 11): words"),
        (script("abrt", "kill -ABRT $$"), "crashed over it (signal 6)"),
        (script("killed", "kill -KILL $$"), "where the system has no memory left"),
        (script("failed", "echo cannot do it >&2; exit 13"), "did not work: cannot do it"),
        (script("nothing", "exit 0"), "left unusable code: it is cut short"),
        (script("nonsense", "cat; exit 0"), "left unusable code: it has no label of this version"),
        (script("silent", "exit 10"), "gave no reason that can be read"),
        (Compiler::at("/nonexistent".into()), "cannot be started: No such file"),
    ] {
        let said = refusal(&compiler, &guest("hello")).await;
        assert!(said.starts_with("it does not compile: the compiler's process "), "{said}");
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn code_for_another_engine_is_not_run() {
    let code = tidegate().compile(guest_file(&guest("hello")), &Compile::default(), 1).await;
    let mut code = code.expect("it compiles");
    code.label.engines = Digest::of(b"another");
    match Component::link(&engines(), &code).map(drop) {
        Err(ComponentError::Compile(said)) => assert!(said.contains("another version"), "{said}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_given_up_ends() {
    let compiler = tidegate();
    let limits = Compile::default();
    let compiling = compiler.compile(guest_file(&bombs::cpu(3000)), &limits, 1);
    let given_up = tokio::time::timeout(Duration::from_millis(500), compiling).await;
    assert!(given_up.is_err(), "it is no bomb");
    let began = Instant::now();
    wait_until("it is gone", || compiler_of(std::process::id()).is_none());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn it_can_do_nothing_but_compute() {
    let site = site("memory = \"1GiB\"\ncpu_time = \"77s\"");
    let server = site.start();
    site.put("apps/hello.wasm", &bombs::cpu(2500));
    wait_until("it is confined", || {
        let status = compiler_of(server.pid()).and_then(|pid| proc(pid, "status"));
        status.is_some_and(|status| status.contains("Seccomp:\t2"))
    });
    let pid = compiler_of(server.pid()).expect("it compiles");
    let read = |name: &str| proc(pid, name).unwrap_or_else(|| panic!("no {name}"));

    assert_eq!(read("environ"), "");
    let status = read("status");
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    let mut files: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("its files")
        .map(|entry| entry.expect("a file").file_name().into_string().expect("a number"))
        .collect();
    files.sort();
    assert_eq!(files, ["0", "1", "2"]);
    let limits = read("limits");
    for (name, limit) in [
        ("Max cpu time", ["77", "78"]),
        ("Max data size", ["1073741824"; 2]),
        ("Max file size", ["536870912"; 2]),
        ("Max core file size", ["0"; 2]),
        ("Max open files", ["3"; 2]),
    ] {
        let line = limits.lines().find(|line| line.starts_with(name)).expect(name);
        let words: Vec<_> = line[name.len()..].split_whitespace().take(2).collect();
        assert_eq!(words, limit, "{name}");
    }
    for thread in fs::read_dir(format!("/proc/{pid}/task")).expect("its threads") {
        let thread = thread.expect("a thread").file_name().into_string().expect("a number");
        let status = read(&format!("task/{thread}/status"));
        assert!(status.contains("Seccomp:\t2"), "thread {thread}: {status}");
        let stat = read(&format!("task/{thread}/stat"));
        let nice = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(16));
        assert_eq!(nice, Some("10"), "thread {thread}");
    }
    assert_eq!(read("oom_score_adj").trim(), "1000");
}

fn proc(pid: u32, name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/{name}")).ok()
}

#[test]
fn who_starts_it_without_a_parent_gets_nothing() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["compile", "--cpu-time", "1", "--memory", "100000000", "--threads", "1"])
        .args(["--parent", "1"])
        .stdin(guest_file(&guest("hello")))
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(13));
    assert_eq!(output.stdout, b"");
    assert!(String::from_utf8_lossy(&output.stderr).contains("who started it is gone"));
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate")).arg("--help").output();
    let help = String::from_utf8(help.expect("it runs").stdout).expect("text");
    assert!(!help.contains("compile  "), "{help}");
}
