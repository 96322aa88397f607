//! HTTP/3, with a client that is not ours: aioquic, in tests/python/http3.py.

mod changes;
mod floods;
mod limits;
mod requests;
mod sockets;

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::python::script;
use crate::support::server::{Server, Site};

/// What the script prints, run to its end. None where there is no Python for it.
pub async fn http3(
    site: &Site,
    server: &Server,
    host: &str,
    name: &str,
    given: Value,
) -> Option<Value> {
    let mut command = client(site, server, host, name, given)?;
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.expect("no panic").expect("run the client");
    let text = String::from_utf8_lossy(&output.stdout);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {text}{told}\n{}", server.log().join("\n"));
    Some(serde_json::from_str(text.lines().last().unwrap_or_default()).expect("JSON"))
}

/// The script's call.
pub fn client(
    site: &Site,
    server: &Server,
    host: &str,
    name: &str,
    given: Value,
) -> Option<Command> {
    let roots = site.path("roots.pem");
    let known = std::fs::read_to_string(&roots).unwrap_or_default();
    if !known.contains(&site.root()) {
        std::fs::write(&roots, known + &site.root()).expect("write the roots");
    }
    let mut command = script("http3.py")?;
    command.arg(server.https.to_string()).arg(host).arg(roots).arg(name).arg(given.to_string());
    Some(command)
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The server's own panics; a guest that is cut off from its client has one as well.
fn panics(server: &Server) -> Vec<String> {
    let mut lines = server.logged("panicked");
    lines.retain(|line| !line.contains("stream=stderr"));
    lines
}

/// A client that runs beside the test.
pub struct Beside {
    child: Child,
    told: BufReader<ChildStdout>,
}

impl Beside {
    /// Returns once it has told that it has begun.
    pub fn begin(mut command: Command) -> Beside {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("run the client");
        let told = BufReader::new(child.stdout.take().expect("its output"));
        let mut beside = Beside { child, told };
        assert_eq!(beside.line(), "begun");
        beside
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.told.read_line(&mut line).expect("read what it says");
        serde_json::from_str(&line).expect("JSON")
    }

    /// Ends what it reads, and returns what it says last.
    pub fn end(mut self) -> Value {
        drop(self.child.stdin.take());
        let last = self.line();
        assert!(self.child.wait().expect("wait for it").success());
        last
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
