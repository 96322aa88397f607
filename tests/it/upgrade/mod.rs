//! Upgrades: another process takes over, with the sockets, and no client sees it.

mod failures;
mod load;
mod streams;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::support::server::{HANDED_OVER, Server, Site, USUAL, pid_in, wait_until};

/// A server whose process another one takes over from.
struct Upgraded {
    server: Server,
    /// Of the process that serves.
    pid: u32,
}

impl Upgraded {
    fn start(command: Command) -> Upgraded {
        let server = Server::spawn(command);
        let pid = server.pid();
        Upgraded { server, pid }
    }

    /// Asks for an upgrade, and returns once another process has taken over.
    fn hand_over(&mut self) -> u32 {
        let lines = self.server.log().len();
        signal(self.pid, libc::SIGUSR2);
        let line = self.server.wait_for_log_after(lines, HANDED_OVER);
        self.server.wait_for_log_after(lines, "INFO  serving");
        std::mem::replace(&mut self.pid, pid_in(&line))
    }

    /// The same, and returns once the process before has ended.
    fn upgrade(&mut self) {
        let lines = self.server.log().len();
        self.hand_over();
        self.server.wait_for_log_after(lines, "the process before this one has ended");
    }

    /// Asks for an upgrade that fails, and returns the line that says why.
    fn fail(&self) -> String {
        let lines = self.server.log().len();
        signal(self.pid, libc::SIGUSR2);
        self.server.wait_for_log_after(lines, "not upgraded")
    }
}

fn signal(pid: u32, signal: i32) {
    let pid = i32::try_from(pid).expect("a process id");
    // SAFETY: a signal changes no memory of ours, and the process is one that this test started.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "send a signal to {pid}");
}

/// Whether a process is there and has not ended, waited for or not.
fn is_there(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .and_then(|rest| rest.trim_start().chars().next())
        .is_some_and(|state| state != 'Z')
}

fn wait_for_end(pid: u32) {
    wait_until(&format!("process {pid} has ended"), || !is_there(pid));
}

/// The usual site with `lines` in `[server]`, and with a Unix socket.
fn site(lines: &str) -> Site {
    let site = Site::usual();
    write_manifest(&site, lines, "");
    site
}

fn write_manifest(site: &Site, lines: &str, more: &str) {
    site.write_manifest(&format!(
        "[server]\nhttp = [\"127.0.0.1:0\", \"unix:http.sock\"]\nhttps = [\"127.0.0.1:0\"]\n{lines}\n{USUAL}\n{more}"
    ));
}

/// A copy of the program that may be replaced, and a command that starts it.
fn copy_of_the_program(site: &Site) -> (PathBuf, Command) {
    let program = site.path("tidegate");
    fs::copy(env!("CARGO_BIN_EXE_tidegate"), &program).expect("copy the program");
    let mut command = Command::new(&program);
    command.arg("run").arg("--config").arg(site.manifest()).current_dir(site.path(""));
    (program, command)
}

#[test]
fn the_command_waits_for_the_process_that_takes_over_or_says_why_none_does() {
    let site = site("");
    let (program, command) = copy_of_the_program(&site);
    let mut upgraded = Upgraded::start(command);
    let ask = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.arg("upgrade").arg("--config").arg(site.manifest()).output().expect("run it")
    };

    // Not a program any more; by rename, as the file of one that runs cannot be written.
    fs::write(site.path("broken"), "not a program").expect("write it");
    fs::rename(site.path("broken"), &program).expect("replace the program");
    let refused = ask();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("not upgraded: cannot start"), "{said}");
    assert!(is_there(upgraded.pid), "the one that serves is gone");

    fs::copy(env!("CARGO_BIN_EXE_tidegate"), site.path("new")).expect("copy the program");
    fs::rename(site.path("new"), &program).expect("replace the program");
    let before = upgraded.pid;
    let done = ask();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{said} {}", String::from_utf8_lossy(&done.stderr));
    let pid = said.split("process ").nth(1).and_then(|rest| rest.split(' ').next());
    upgraded.pid = pid.and_then(|pid| pid.parse().ok()).unwrap_or_else(|| panic!("{said:?}"));
    assert_ne!(upgraded.pid, before);
    wait_for_end(before);
    assert!(is_there(upgraded.pid), "nobody serves");
}
