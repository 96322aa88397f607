//! Unix sockets that the service manager has opened, passed as systemd passes them.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::site;
use crate::support::python::missing;
use crate::support::server::{Site, wait_until};

/// Ended when dropped.
struct Activated(Child);

impl Drop for Activated {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Has systemd's own tool listen at `address`, and start the server when a connection comes.
fn activate(site: &Site, address: &str, name: &str) -> Option<Activated> {
    let mut command = Command::new("systemd-socket-activate");
    command.args(["--listen", address, "--fdname", name]).arg(env!("CARGO_BIN_EXE_tidegate"));
    command.args(["run", "--config"]).arg(site.manifest()).stderr(Stdio::null());
    match command.spawn() {
        Ok(child) => Some(Activated(child)),
        Err(error) => {
            missing("systemd-socket-activate", &error.to_string());
            None
        }
    }
}

fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl").args(["-s", "--max-time", "60"]).args(arguments).output();
    String::from_utf8_lossy(&output.expect("run curl").stdout).into_owned()
}

fn is_there(path: &Path) -> impl FnMut() -> bool {
    || path.exists()
}

#[test]
fn a_unix_socket_of_the_service_manager_stands_in_for_those_of_the_manifest() {
    let site = site("http = [\"unix:mine.sock\"]\nhttps = [\"127.0.0.1:0\"]");
    let socket = site.path("theirs.sock");
    let address = socket.display().to_string();
    let Some(activated) = activate(&site, &address, "http") else { return };
    wait_until("the tool listens", is_there(&socket));

    let answer = curl(&["--unix-socket", &address, "http://p2.test/hello"]);

    assert_eq!(answer, "hello world\n");
    assert!(!site.path("mine.sock").exists());
    // SAFETY: the child has not been waited for, so the id is still its own.
    unsafe { libc::kill(i32::try_from(activated.0.id()).expect("an id"), libc::SIGTERM) };
    let mut activated = activated;
    wait_until("it ends", || activated.0.try_wait().expect("wait").is_some());
    assert!(socket.exists(), "the file is the service manager's");
}

#[test]
fn one_without_a_path_is_taken_as_well() {
    let site = site("");
    let name = format!("tidegate-test-{}", std::process::id());
    let Some(_activated) = activate(&site, &format!("@{name}"), "https") else { return };
    let ask = || curl(&["-k", "--abstract-unix-socket", &name, "https://p2.test/hello"]);
    wait_until("it is served", || ask() == "hello world\n");
}
