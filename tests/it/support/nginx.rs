//! A real nginx, which answers every request with 200, to be compared with.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::python::missing;
use super::server::wait_until;

/// Ended when dropped.
pub struct Nginx {
    child: Child,
    pub address: SocketAddr,
    _dir: TempDir,
}

impl Nginx {
    /// None where it is not installed.
    pub fn start() -> Option<Nginx> {
        let dir = tempfile::tempdir().expect("make a directory");
        // Free a moment ago, and nobody else asks for it by its number.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("a free port");
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|module| format!("{module}_temp_path {module};\n"))
            .concat();
        let config = format!(
            "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr crit;\nevents {{}}\n\
             http {{\naccess_log off;\n{temporary}\
             server {{ listen {address}; location / {{ return 200 \"ok\\n\"; }} }}\n}}\n"
        );
        let path = dir.path().join("nginx.conf");
        std::fs::write(&path, config).expect("write its configuration");
        let mut command = Command::new("nginx");
        // Debian has it where only root looks.
        let paths = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{paths}:/usr/sbin:/sbin"));
        command.arg("-p").arg(dir.path()).arg("-c").arg(path).stderr(Stdio::inherit());
        match command.spawn() {
            Ok(child) => {
                wait_until("nginx listens", || TcpStream::connect(address).is_ok());
                Some(Nginx { child, address, _dir: dir })
            }
            Err(error) => {
                missing("nginx", &error.to_string());
                None
            }
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
