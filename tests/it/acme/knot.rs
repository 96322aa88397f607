//! A real name server, knot, which takes signed updates of the zone `test`.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};

use tempfile::TempDir;

use crate::support::peer::{daemon, free_address};
use crate::support::python::missing;
use crate::support::server::wait_until;

/// The secret of the key `tidegate`, in base64.
pub const SECRET: &str = "bm90IHRoZSBzZWNyZXQgb2YgYW55Ym9keSBlbHNlIQ==";

/// Ended when dropped.
pub struct Knot {
    child: Child,
    pub address: SocketAddr,
    dir: TempDir,
}

impl Knot {
    /// None where it is not installed.
    pub fn start() -> Option<Knot> {
        let dir = tempfile::tempdir().expect("make a directory");
        let address = free_address();
        let here = dir.path().display();
        let config = format!(
            "server:\n  rundir: {here}\n  listen: 127.0.0.1@{}\n\
             database:\n  storage: {here}\n\
             key:\n  - id: tidegate\n    algorithm: hmac-sha256\n    secret: {SECRET}\n\
             acl:\n  - id: ours\n    key: tidegate\n    action: update\n\
             zone:\n  - domain: test\n    storage: {here}\n    file: test.zone\n    acl: ours\n",
            address.port()
        );
        let zone = "$ORIGIN test.\n$TTL 60\n@ SOA ns ops 1 60 60 600 60\n@ NS ns\nns A 127.0.0.1\n";
        std::fs::write(dir.path().join("knot.conf"), config).expect("write its configuration");
        std::fs::write(dir.path().join("test.zone"), zone).expect("write its zone");
        let mut command = daemon("knotd");
        command.arg("-c").arg(dir.path().join("knot.conf"));
        match command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(child) => {
                wait_until("knot listens", || TcpStream::connect(address).is_ok());
                Some(Knot { child, address, dir })
            }
            Err(error) => {
                missing("knot, a name server", &error.to_string());
                None
            }
        }
    }

    /// What is in the zone now.
    pub fn zone(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("test.zone")).expect("read its zone")
    }
}

impl Drop for Knot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
