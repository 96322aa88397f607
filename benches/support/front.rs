//! Others' servers that do TLS in front of one that cannot, with a certificate of their own.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::contestant::Wire;
use super::process::{Server, on_path};

/// A server that takes HTTPS and asks another for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    Nginx,
    Caddy,
}

/// A certificate and its key, in files.
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Pair {
    /// One for `host`, of the kind that tidegate's own authority gives.
    pub fn new(host: &str, dir: &Path) -> Self {
        let made = rcgen::generate_simple_self_signed([host.to_owned()]).expect("a certificate");
        let pair = Pair { certificate: dir.join("front.crt"), key: dir.join("front.key") };
        fs::write(&pair.certificate, made.cert.pem()).expect("write the certificate");
        fs::write(&pair.key, made.signing_key.serialize_pem()).expect("write the key");
        pair
    }
}

impl Front {
    pub const ALL: [Front; 2] = [Front::Nginx, Front::Caddy];

    /// What it speaks, as Debian has it: nginx from 1.25 on has HTTP/3 as well.
    pub fn wires(self) -> &'static [Wire] {
        match self {
            Front::Nginx => &[Wire::Tls, Wire::Http2],
            Front::Caddy => &[Wire::Tls, Wire::Http2, Wire::Http3],
        }
    }

    /// Starts it for `host` on `address` before `behind`, if it is installed.
    ///
    /// It logs no requests, keeps connections to the one behind, and has one core.
    pub fn start(
        self,
        host: &str,
        address: SocketAddr,
        behind: SocketAddr,
        pair: &Pair,
        core: usize,
        dir: &Path,
    ) -> Option<Server> {
        let program = on_path(&self.to_string())?;
        fs::create_dir_all(dir).expect("a folder");
        let (certificate, key) = (pair.certificate.display(), pair.key.display());
        let mut command = Command::new(program);
        let file = dir.join("conf");
        let config = match self {
            Front::Nginx => {
                command.arg("-p").arg(dir).arg("-c").arg(&file).args(["-e", "stderr"]);
                // One process, so that its CPU time is that of the whole.
                format!(
                    "daemon off; master_process off; pid nginx.pid;
                     error_log stderr error;
                     events {{ worker_connections 1024; }}
                     http {{
                       access_log off;
                       client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f;
                       uwsgi_temp_path u; scgi_temp_path s;
                       upstream app {{ server {behind}; keepalive 64; keepalive_requests 1000000000; }}
                       server {{
                         listen {address} ssl http2; server_name {host};
                         ssl_certificate {certificate}; ssl_certificate_key {key};
                         ssl_protocols TLSv1.2 TLSv1.3; keepalive_requests 1000000000;
                         location / {{
                           proxy_pass http://app; proxy_http_version 1.1;
                           proxy_set_header Connection \"\"; proxy_set_header Host $host;
                         }}
                       }}
                     }}\n"
                )
            }
            Front::Caddy => {
                command.env("HOME", dir).args(["run", "--adapter", "caddyfile", "--config"]);
                command.arg(&file);
                format!(
                    "{{\n admin off\n auto_https off\n log {{\n level ERROR\n }}\n}}\n\
                     https://{host}:{} {{\n bind {}\n tls {certificate} {key}\n reverse_proxy {behind}\n}}\n",
                    address.port(),
                    address.ip(),
                )
            }
        };
        fs::write(&file, config).expect("write its configuration");
        Some(Server::start(command, Some(core)))
    }
}

impl fmt::Display for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Front::Nginx => "nginx",
            Front::Caddy => "caddy",
        })
    }
}
