//! A real nginx, which answers every request with 200, to be compared with.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};

use tempfile::TempDir;

use super::peer::{daemon, free_address};
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
        let address = free_address();
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
        let mut command = daemon("nginx");
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
