//! Processes that do not get ready: the old one serves on, and the log says why.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Upgraded, copy_of_the_program, is_there, signal, site, wait_for_end, write_manifest};
use crate::support::client::answer;
use crate::support::server::Site;
use crate::support::server::pid_in;

/// Puts another program in the place of the one that runs.
fn replace(program: &Path, text: &str) {
    let new = program.with_extension("new");
    fs::write(&new, text).expect("write it");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("make it a program");
    fs::rename(&new, program).expect("put it in place");
}

async fn serves(upgraded: &Upgraded, site: &Site) {
    assert!(is_there(upgraded.pid));
    assert_eq!(answer(&upgraded.server, "p2.test", "/hello").await, "200 hello world");
    assert!(site.path("http.sock").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_are_none_of_ours_change_nothing() {
    let site = site("upgrade_timeout = \"2s\"");
    let (program, command) = copy_of_the_program(&site);
    let mut upgraded = Upgraded::start(command);
    for (text, reason) in [
        ("no program\n", "cannot start"),
        ("#!/bin/sh\nexit 3\n", "ended before it was ready: exit status: 3"),
        ("#!/bin/sh\nkill -SEGV $$\n", "ended before it was ready: signal: 11"),
        ("#!/bin/sh\nexec 0<&-\nexec sleep 1000\n", "closed its standard input"),
        ("#!/bin/sh\nexec sleep 1000\n", "not ready within 2s, server.upgrade_timeout"),
    ] {
        replace(&program, text);
        let line = tokio::task::block_in_place(|| upgraded.fail());
        assert!(line.contains(reason) && line.contains("goes on serving"), "{reason}: {line}");
        if let Some(loads) = upgraded.server.logged("the new process loads").last() {
            wait_for_end(pid_in(loads));
        }
        serves(&upgraded, &site).await;
    }
    fs::remove_file(&program).expect("remove it");
    let line = tokio::task::block_in_place(|| upgraded.fail());
    assert!(line.contains("cannot start") && line.contains("No such file"), "{line}");

    fs::copy(env!("CARGO_BIN_EXE_tidegate"), &program).expect("put the right one in place");
    tokio::task::block_in_place(|| upgraded.upgrade());
    serves(&upgraded, &site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_wrong_or_wants_what_is_taken_changes_nothing() {
    let site = site("");
    let mut upgraded = Upgraded::start(site.command());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address");

    write_manifest(&site, "", "\"new.test\" = \"helo\"");
    let line = tokio::task::block_in_place(|| upgraded.fail());
    assert!(line.contains("no app is named"), "{line}");
    serves(&upgraded, &site).await;

    site.write_manifest(&format!(
        "[server]\nhttps = [\"{address}\"]\n{}",
        crate::support::server::USUAL
    ));
    let line = tokio::task::block_in_place(|| upgraded.fail());
    assert!(line.contains("cannot listen on https://"), "{line}");
    serves(&upgraded, &site).await;

    write_manifest(&site, "", "");
    tokio::task::block_in_place(|| upgraded.upgrade());
    serves(&upgraded, &site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_of_the_new_process_while_it_loads_changes_nothing_and_a_stop_ends_both() {
    let site = site("upgrade_timeout = \"60s\"");
    let (program, command) = copy_of_the_program(&site);
    let upgraded = Upgraded::start(command);
    replace(&program, "#!/bin/sh\nexec sleep 1000\n");
    let begin = || {
        let lines = upgraded.server.log().len();
        signal(upgraded.pid, libc::SIGUSR2);
        pid_in(&upgraded.server.wait_for_log_after(lines, "the new process loads"))
    };

    let new = begin();
    let line = upgraded.fail();
    assert!(line.contains("under way already"), "{line}");
    assert!(is_there(new), "the first goes on");
    let lines = upgraded.server.log().len();
    signal(new, libc::SIGKILL);
    let line = upgraded.server.wait_for_log_after(lines, "not upgraded");
    assert!(line.contains("signal: 9"), "{line}");
    serves(&upgraded, &site).await;

    let new = begin();
    signal(upgraded.pid, libc::SIGTERM);
    wait_for_end(upgraded.pid);
    wait_for_end(new);
}

#[test]
fn a_process_that_nobody_started_for_it_takes_nothing_over() {
    let site = site("");
    let output =
        site.command().env("TIDEGATE_UPGRADE", "1").stdin(std::process::Stdio::null()).output();
    let output = output.expect("run it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("TIDEGATE_UPGRADE is set"), "{said}");
}
