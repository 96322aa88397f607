//! A real authority: pebble, Let's Encrypt's test server, with the name server that comes with it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use http::Request;
use http_body_util::Full;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;

use crate::support::certificates::{pair, root};
use crate::support::client::{Version, connect, send, trusting, whole};
use crate::support::connection::{Connection, Transport};
use crate::support::python::missing;
use crate::support::server::{Server, Site, wait_until, write_by_rename};

/// The id and the key, in base64url, of the external account that [`Options::external_account`] is about.
pub const EXTERNAL: (&str, &str) =
    ("kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W");

/// What is different about an authority.
#[derive(Clone, Default)]
pub struct Options {
    /// How long certificates are valid, in seconds; five years without.
    pub validity: Option<u32>,
    /// Whether it wants an external account.
    pub external_account: bool,
    /// Where it looks names up, if not in the name server that comes with it.
    pub name_server: Option<SocketAddr>,
    /// Nonces in a hundred that it refuses.
    pub bad_nonces: u32,
    /// Seconds that it takes at the most to check a host.
    pub slowness: Option<u32>,
    /// The OCSP responder that certificates name.
    pub responder: Option<String>,
}

/// Ended when dropped.
pub struct Pebble {
    options: Options,
    dir: TempDir,
    authority: Option<Child>,
    names: Child,
    ports: Ports,
}

/// Ports that were free a moment ago, and that nobody else asks for by their numbers.
#[derive(Clone, Copy)]
struct Ports {
    authority: u16,
    management: u16,
    names: u16,
    names_management: u16,
    http: u16,
    https: u16,
}

impl Pebble {
    /// None where it is not installed.
    pub fn start(options: Options) -> Option<Pebble> {
        let mut pebble = Pebble::named(options)?;
        pebble.up();
        Some(pebble)
    }

    /// The same, where the authority itself is not up yet.
    pub fn named(options: Options) -> Option<Pebble> {
        let dir = tempfile::tempdir().expect("make a directory");
        let held: Vec<_> =
            (0..6).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let ports: Vec<_> =
            held.iter().map(|it| it.local_addr().expect("its port").port()).collect();
        drop(held);
        let [authority, management, names, names_management, http, https] = ports[..] else {
            unreachable!()
        };
        let ports = Ports { authority, management, names, names_management, http, https };

        let own = pair("localhost");
        write_by_rename(&dir.path().join("own.pem"), own.cert.as_bytes());
        write_by_rename(&dir.path().join("own.key"), own.key.as_bytes());
        let mut command = Command::new("pebble-challtestsrv");
        command
            .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
            .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
            .args(["-dns01", &format!("127.0.0.1:{names}")])
            .args(["-management", &format!("127.0.0.1:{names_management}")]);
        let names = match command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(child) => child,
            Err(error) => {
                missing("pebble, an ACME server", &error.to_string());
                return None;
            }
        };
        let pebble = Pebble { options, dir, authority: None, names, ports };
        wait_until("names are served", || {
            TcpStream::connect(("127.0.0.1", names_management)).is_ok()
        });
        Some(pebble)
    }

    /// Brings the authority up. It remembers nothing of former times.
    pub fn up(&mut self) {
        let Ports { authority, management, names, http, https, .. } = self.ports;
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let mut config = serde_json::json!({
            "listenAddress": format!("127.0.0.1:{authority}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": path("own.pem"),
            "privateKey": path("own.key"),
            "httpPort": http,
            "tlsPort": https,
            "externalAccountBindingRequired": self.options.external_account,
        });
        if let Some(seconds) = self.options.validity {
            config["certificateValidityPeriod"] = seconds.into();
        }
        if let Some(url) = &self.options.responder {
            config["ocspResponderURL"] = url.as_str().into();
        }
        if self.options.external_account {
            config["externalAccountMACKeys"] = serde_json::json!({ EXTERNAL.0: EXTERNAL.1 });
        }
        let config = serde_json::json!({ "pebble": config }).to_string();
        write_by_rename(Path::new(&path("pebble.json")), config.as_bytes());

        let own = SocketAddr::from(([127, 0, 0, 1], names));
        let name_server = self.options.name_server.unwrap_or(own);
        let mut command = Command::new("pebble");
        command
            .args(["-config", &path("pebble.json"), "-dnsserver", &name_server.to_string()])
            .env("PEBBLE_WFE_NONCEREJECT", self.options.bad_nonces.to_string())
            .env("PEBBLE_AUTHZREUSE", "0");
        match self.options.slowness {
            Some(seconds) => command.env("PEBBLE_VA_SLEEPTIME", seconds.to_string()),
            None => command.env("PEBBLE_VA_NOSLEEP", "1"),
        };
        let log = std::fs::File::create(path("pebble.log")).expect("its log");
        let child = command.stdout(log).stderr(Stdio::null()).spawn().expect("start pebble");
        self.authority = Some(child);
        wait_until("pebble listens", || TcpStream::connect(("127.0.0.1", authority)).is_ok());
    }

    /// Takes the authority down, and what it knew with it.
    pub fn down(&mut self) {
        if let Some(mut child) = self.authority.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Has the authority answer nothing any more, with its connections open.
    pub fn hang(&self) {
        let pid = self.authority.as_ref().expect("it is up").id();
        let pid = i32::try_from(pid).expect("a process id");
        // SAFETY: the child has not been waited for, so the id is still its own.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGSTOP) }, 0, "send a signal");
    }

    /// Has it check hosts where `other` does.
    pub fn look_at(&mut self, other: &Pebble) {
        (self.ports.http, self.ports.https) = (other.ports.http, other.ports.https);
    }

    /// A site with hosts of `hello` that are looked after by this authority, by this challenge: `more` is
    /// what else `[tls.acme]` says, and what follows it.
    pub fn site(&self, hosts: &[&str], challenge: &str, more: &str) -> Site {
        let site = Site::new(&self.manifest(hosts, challenge, more));
        site.put("apps/hello.wasm", &crate::support::pool::guest("hello"));
        site.put("pebble.pem", root().as_bytes());
        crate::support::precompiled::put(&site.path("state"));
        site
    }

    /// The manifest of such a site.
    pub fn manifest(&self, hosts: &[&str], challenge: &str, more: &str) -> String {
        let Ports { http, https, .. } = self.ports;
        let hosts: String = hosts.iter().map(|host| format!("\"{host}\" = \"hello\"\n")).collect();
        format!(
            "[server]\nhttp = [\"127.0.0.1:{http}\"]\nhttps = [\"127.0.0.1:{https}\"]\n\
             [apps.hello]\ncomponent = \"apps/hello.wasm\"\n[hosts]\n{hosts}\n[tls.acme]\n\
             email = \"ops@example.com\"\nterms_agreed = true\nca_root = \"pebble.pem\"\n\
             directory = \"{}\"\nchallenge = \"{challenge}\"\n{more}\n",
            self.directory()
        )
    }

    /// The URL of its directory.
    pub fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.ports.authority)
    }

    /// The root of the certificates that it issues.
    pub async fn root(&self) -> String {
        self.get(self.ports.management, "/roots/0").await
    }

    /// What signs the certificates, and its key.
    pub async fn issuer(&self) -> (String, String) {
        let management = self.ports.management;
        let certificate = self.get(management, "/intermediates/0").await;
        (certificate, self.get(management, "/intermediate-keys/0").await)
    }

    /// Whether it says when to renew (RFC 9773): pebble does so from 2.5 on.
    pub async fn gives_advice(&self) -> bool {
        let gives = self.get(self.ports.authority, "/dir").await.contains("renewalInfo");
        if !gives {
            let why = "this pebble has no renewal information: it is older than 2.5";
            crate::faults::not_tested("what an authority wants renewed", why);
        }
        gives
    }

    async fn get(&self, port: u16, path: &str) -> String {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let config = trusting(&root(), Version::H1);
        let io = connect(address, "localhost", config).await.expect("reach pebble");
        let request = Request::get(path).header("host", format!("localhost:{port}"));
        let request = request.body(Full::<bytes::Bytes>::default()).expect("a request");
        let answer = send(io, Version::H1, request).await.expect("an answer of pebble");
        whole(answer).await.expect("all of it").text().to_owned()
    }

    /// What pebble has logged that holds `text`.
    pub fn logged(&self, text: &str) -> usize {
        let log = std::fs::read_to_string(self.dir.path().join("pebble.log")).unwrap_or_default();
        log.lines().filter(|line| line.contains(text)).count()
    }

    /// Has `host` lead to `address`.
    pub fn lead(&self, host: &str, address: &str) {
        self.tell("clear-a", &serde_json::json!({ "host": format!("{host}.") }));
        let leads = serde_json::json!({ "host": format!("{host}."), "addresses": [address] });
        self.tell("add-a", &leads);
    }

    /// Where records can be set.
    pub fn records(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports.names_management).into()
    }

    fn tell(&self, what: &str, value: &serde_json::Value) {
        let body = value.to_string();
        let mut io = TcpStream::connect(self.records()).expect("reach the name server");
        let head = format!("POST /{what} HTTP/1.0\r\ncontent-length: {}\r\n\r\n", body.len());
        io.write_all(format!("{head}{body}").as_bytes()).expect("tell the name server");
        let mut answer = String::new();
        io.read_to_string(&mut answer).expect("its answer");
        assert!(answer.contains(" 200 "), "{what}: {answer}");
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        self.down();
        let _ = self.names.kill();
        let _ = self.names.wait();
    }
}

/// The certificate that `host` shows to a client which trusts `root` alone; none where it is not for it.
pub async fn shown(server: &Server, host: &str, root: &str) -> Option<Vec<u8>> {
    let transport = Transport::tls(server, Version::H1, root);
    Connection::open(&transport, host).await.ok()?.certificate
}

/// Waits until `host` shows a certificate that leads to `root`, and is not `other`.
pub async fn until_shown(server: &Server, host: &str, root: &str, other: Option<&[u8]>) -> Vec<u8> {
    let until = async {
        loop {
            match shown(server, host, root).await {
                Some(certificate) if Some(&certificate[..]) != other => return certificate,
                _ => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            }
        }
    };
    let waited = tokio::time::timeout(crate::support::server::PATIENCE, until).await;
    waited.unwrap_or_else(|_| {
        panic!("{host} has no certificate; the log:\n{}", server.log().join("\n"))
    })
}

/// The one directory in which a site keeps what it has from authorities.
pub fn kept(site: &Site) -> PathBuf {
    let dirs = std::fs::read_dir(site.path("state/acme")).expect("something is kept");
    let dirs: Vec<_> = dirs.map(|entry| entry.expect("an entry").path()).collect();
    let [dir] = &dirs[..] else { panic!("{dirs:?}") };
    dir.clone()
}

/// The certificate in a file, as a client sees it.
pub fn certificate_in(file: &Path) -> Vec<u8> {
    CertificateDer::from_pem_file(file).expect("a certificate").to_vec()
}
