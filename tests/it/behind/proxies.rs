//! Real proxies in front: nginx and HAProxy, each with a configuration of the test's.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};

use tempfile::TempDir;

use crate::support::peer::daemon;
use crate::support::python::missing;
use crate::support::server::wait_until;

/// Ended when dropped.
pub struct Proxy {
    child: Child,
    _dir: TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// HAProxy with these sections, once it listens at `address`. None where it is not installed.
pub fn haproxy(address: SocketAddr, sections: &str) -> Option<Proxy> {
    let timeouts = "timeout connect 10s\ntimeout client 60s\ntimeout server 60s\n";
    let configuration = format!("global\nmaxconn 1000\ndefaults\n{timeouts}\n{sections}\n");
    start("haproxy", &["-db", "-q", "-f"], address, &configuration)
}

/// nginx with these blocks, once it listens at `address`. None where it is not installed.
pub fn nginx(address: SocketAddr, blocks: &str) -> Option<Proxy> {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|module| format!("{module}_temp_path {module};\n"))
        .concat();
    // In a file of its own in Debian.
    let stream = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let load = match blocks.contains("stream {") && fs::exists(stream).unwrap_or(false) {
        true => format!("load_module {stream};\n"),
        false => String::new(),
    };
    let configuration = format!(
        "{load}daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr error;\nevents {{}}\n{}\n",
        blocks.replace("http {", &format!("http {{\naccess_log off;\n{temporary}"))
    );
    start("nginx", &["-c"], address, &configuration)
}

fn start(
    program: &str,
    arguments: &[&str],
    address: SocketAddr,
    configuration: &str,
) -> Option<Proxy> {
    let dir = tempfile::tempdir().expect("make a directory");
    let path = dir.path().join("configuration");
    fs::write(&path, configuration).expect("write its configuration");
    let mut command = daemon(program);
    if program == "nginx" {
        command.arg("-p").arg(dir.path());
    }
    command.args(arguments).arg(path).current_dir(dir.path()).stderr(Stdio::inherit());
    match command.spawn() {
        Ok(child) => {
            let mut proxy = Proxy { child, _dir: dir };
            wait_until("the proxy listens", || {
                let ended = proxy.child.try_wait().expect("look at it");
                assert_eq!(ended, None, "{program} ends:\n{configuration}");
                TcpStream::connect(address).is_ok()
            });
            Some(proxy)
        }
        Err(error) => {
            missing(program, &error.to_string());
            None
        }
    }
}
