//! A real responder, `openssl ocsp`, with an authority whose certificates name it; and one that answers anything.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use tempfile::TempDir;

use crate::faults::clock::faketime;
use crate::support::certificates::Pair;
use crate::support::peer::free_address;
use crate::support::python::missing;
use crate::support::server::{wait_until, write_by_rename};

/// `id-pe-authorityInfoAccess`.
const ACCESS: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 1, 1];

/// `id-ad-ocsp` as DER.
const OCSP: [u8; 10] = [6, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 1];

/// Who signs what a responder says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The authority itself.
    Issuer,
    /// One that it has appointed.
    Appointed,
    /// One with a certificate of the authority's that is for something else.
    Usurper,
}

/// What is different about a responder.
#[derive(Clone, Copy)]
pub struct Options {
    pub signer: Signer,
    /// How far its clock is from ours, in seconds.
    pub clock: i64,
    /// How long a response holds, in minutes; for ever without.
    pub minutes: Option<u32>,
}

impl Default for Options {
    fn default() -> Options {
        Options { signer: Signer::Appointed, clock: 0, minutes: Some(60) }
    }
}

/// An authority, and what it has issued.
pub struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
    port: u16,
    /// The number of each certificate, and whether it was taken back.
    issued: Mutex<Vec<(u64, bool)>>,
}

/// Ended when dropped.
pub struct Responder(Child);

impl Authority {
    pub fn new() -> Authority {
        let port = free_address().port();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority with a responder");
        let key = KeyPair::generate().expect("a key");
        let own_key = key.serialize_pem();
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let dir = tempfile::tempdir().expect("make a directory");
        let authority = Authority { dir, issuer, port, issued: Mutex::default() };
        authority.put("issuer.pem", &authority.issuer.pem());
        authority.put("issuer.key", &own_key);
        for (name, usage) in [
            ("appointed", ExtendedKeyUsagePurpose::OcspSigning),
            ("usurper", ExtendedKeyUsagePurpose::ServerAuth),
        ] {
            let key = KeyPair::generate().expect("a key");
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![usage];
            let cert = params.signed_by(&key, &*authority.issuer).expect("a certificate");
            authority.put(&format!("{name}.pem"), &cert.pem());
            authority.put(&format!("{name}.key"), &key.serialize_pem());
        }
        authority
    }

    /// The root, as PEM.
    pub fn root(&self) -> String {
        self.issuer.pem()
    }

    /// A new pair for `host` whose certificate names the responder, with the chain in its file, and its number.
    pub fn pair(&self, host: &str) -> (Pair, u64) {
        let mut issued = self.issued.lock().expect("the lock");
        let serial = 0x1000 + issued.len() as u64;
        issued.push((serial, false));
        let url = format!("http://127.0.0.1:{}/", self.port);
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([host.to_owned()]).expect("a host name");
        params.serial_number = Some(serial.into());
        params.custom_extensions = vec![CustomExtension::from_oid_content(&ACCESS, access(&url))];
        let cert = params.signed_by(&key, &*self.issuer).expect("a certificate");
        let chain = format!("{}{}", cert.pem(), self.root());
        let pair = Pair { cert: chain, key: key.serialize_pem(), der: cert.der().to_vec() };
        (pair, serial)
    }

    /// Takes a certificate back. A responder that runs does not know.
    pub fn revoke(&self, serial: u64) {
        let mut issued = self.issued.lock().expect("the lock");
        issued.iter_mut().filter(|it| it.0 == serial).for_each(|it| it.1 = true);
    }

    /// The responder, from now on. None where OpenSSL is not installed.
    pub fn answer(&self, options: Options) -> Option<Responder> {
        let issued = self.issued.lock().expect("the lock");
        let lines = issued.iter().map(|(serial, is_revoked)| match is_revoked {
            false => line(&format!("{serial:04X}")),
            true => format!(
                "R\t491231235959Z\t250101000000Z\t{serial:04X}\tunknown\t/CN={serial:04X}\n"
            ),
        });
        self.put("index.txt", &lines.collect::<String>());
        openssl(self.dir.path(), self.port, options)
    }

    /// Something that answers whatever it is asked with these bytes, once for each of them.
    pub fn answer_with(&self, answers: Vec<Vec<u8>>) -> thread::JoinHandle<()> {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).expect("the port");
        thread::spawn(move || {
            for answer in answers {
                let (mut client, _) = listener.accept().expect("a client");
                read_question(&mut client);
                // A client that has read enough hangs up.
                let _ = client.write_all(&answer);
            }
        })
    }

    /// Something that accepts, and says nothing.
    pub fn hold(&self) -> TcpListener {
        TcpListener::bind(("127.0.0.1", self.port)).expect("the port")
    }

    fn put(&self, name: &str, text: &str) {
        write_by_rename(&self.path(name), text.as_bytes());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// The line of an index for a certificate that is good.
pub fn line(serial: &str) -> String {
    format!("V\t491231235959Z\t\t{serial}\tunknown\t/CN={serial}\n")
}

/// A responder with the files in `dir`. None where OpenSSL is not installed.
pub fn openssl(dir: &Path, port: u16, options: Options) -> Option<Responder> {
    let signer = match options.signer {
        Signer::Issuer => "issuer",
        Signer::Appointed => "appointed",
        Signer::Usurper => "usurper",
    };
    let mut command = Command::new("openssl");
    if options.clock != 0 {
        let Some(library) = faketime() else {
            missing("faketime", "it is not installed");
            return None;
        };
        command.env("LD_PRELOAD", library).env("FAKETIME", format!("{:+}", options.clock));
    }
    command
        .current_dir(dir)
        .args(["ocsp", "-port", &port.to_string(), "-index", "index.txt", "-CA", "issuer.pem"])
        .args(["-rsigner", &format!("{signer}.pem"), "-rkey", &format!("{signer}.key")]);
    if let Some(minutes) = options.minutes {
        command.args(["-nmin", &minutes.to_string()]);
    }
    let log = File::create(dir.join("openssl.log")).expect("its log");
    let child = match command.stdout(Stdio::null()).stderr(log).spawn() {
        Ok(child) => child,
        Err(error) => {
            missing("openssl, an OCSP responder,", &error.to_string());
            return None;
        }
    };
    let responder = Responder(child);
    wait_until("the responder listens", || is_listened_on(port));
    Some(responder)
}

/// Whether somebody listens there. A client that connects and asks nothing would have to be waited for.
fn is_listened_on(port: u16) -> bool {
    let is_it = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let own = fields.next().is_some_and(|own| own.ends_with(&format!(":{port:04X}")));
        own && fields.nth(1) == Some("0A")
    };
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .any(|file| std::fs::read_to_string(file).unwrap_or_default().lines().any(is_it))
}

impl Drop for Responder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read_question(client: &mut TcpStream) {
    client.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    let mut bytes = [0; 4096];
    while client.read(&mut bytes).is_ok_and(|length| length > 0) {}
}

/// The content of the extension, which names `url`.
fn access(url: &str) -> Vec<u8> {
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).expect("a short one");
    let url = [&[0x86, length(url.as_bytes())][..], url.as_bytes()].concat();
    let one = [&OCSP[..], &url].concat();
    let one = [&[0x30, length(&one)][..], &one].concat();
    [&[0x30, length(&one)][..], &one].concat()
}
