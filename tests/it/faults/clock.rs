//! A wall clock that jumps by ten years, forward and back, under a server that runs.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};

use super::not_tested;
use crate::support::client::{Version, answer, until_answer};
use crate::support::connection::{Connection, Transport};
use crate::support::holds::{Shown, times};
use crate::support::server::{Server, Site, USUAL, hello_version, wait_until};

const YEAR: u64 = 365 * 24 * 3600;

/// A time, as years from now.
#[derive(Clone, Copy, Debug)]
pub struct Years(pub i64);

impl TimeProvider for Years {
    fn current_time(&self) -> Option<UnixTime> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
        let then = now.checked_add_signed(self.0 * YEAR as i64)?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(then)))
    }
}

/// Sets the clock that the server sees.
pub fn set(site: &Site, years: Years) {
    site.put("clock", format!("{:+}\n", years.0 * YEAR as i64).as_bytes());
}

/// The library that fakes a process's wall clock.
pub fn faketime() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    folders.map(|dir| dir.join("faketime/libfaketimeMT.so.1")).find(|path| path.exists())
}

pub fn start(site: &Site, library: PathBuf) -> Server {
    let mut command = site.command();
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", site.path("clock"))
        .env("FAKETIME_NO_CACHE", "1")
        // The time that passes is nobody's to set: a system's monotonic clock does not jump.
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("DONT_FAKE_MONOTONIC", "1")
        .env("NO_FAKE_STAT", "1");
    Server::spawn(command)
}

/// A request over a new TLS connection of a client whose clock is at `years`, and trusts the root
/// it was shown in the beginning.
async fn ask_over_tls(server: &Server, root: &str, years: Years) -> u16 {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(root.as_bytes()).expect("a certificate");
    roots.add(certificate).expect("a root");
    let builder = ClientConfig::builder_with_details(Arc::new(default_provider()), Arc::new(years));
    let mut config = builder
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let transport = Transport::Tls(server.https, Version::H2, Arc::new(config));
    let mut connection = Connection::open(&transport, "hello.test").await.expect("a handshake");
    connection.get("/").await.expect("a reply").status.as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_ten_years_changes_no_timeout_and_stops_nothing() {
    let Some(library) = faketime() else {
        return not_tested("a clock that jumps", "libfaketime is not installed");
    };
    let site = Site::usual();
    site.write_manifest(&format!("[log]\ndir = \"logs\"\n{USUAL}"));
    set(&site, Years(0));
    let mut server = start(&site, library);
    let root = site.root();
    let mut kept = Connection::open(&Transport::plain(&server), "p3.test").await.expect("connect");
    kept.get("/hello").await.expect("a reply");

    let jumps = times(4, 40);
    let mut longest = Duration::ZERO;
    for number in 1..=jumps {
        let years = Years([10, 0, -10, 0][(number - 1) % 4]);
        let (slow, never) = (answer(&server, "p2.test", "/sleep?ms=1500"), async {
            let begun = Instant::now();
            (answer(&server, "p3.test", "/never-answer").await, begun.elapsed())
        });
        let jump = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            set(&site, years);
        };
        let (slow, (never, waited), ()) = tokio::join!(slow, never, jump);
        assert!(slow.starts_with("200"), "{slow}");
        assert!(never.starts_with("504"), "{never}");
        longest = longest.max(waited);
        assert!(
            (1.9..4.5).contains(&waited.as_secs_f64()),
            "its request_timeout is 2 s: {waited:?}"
        );
        assert_eq!(kept.get("/hello").await.expect("the same connection").status, 200);

        assert_eq!(ask_over_tls(&server, &root, years).await, 200, "{years:?}");
        let version = u32::try_from(number).expect("a version") + 1;
        site.put("apps/hello.wasm", &hello_version(version));
        until_answer(&server, "hello.test", "/version", &format!("200 {version:08}")).await;
        let date = years.current_time().expect("a time").as_secs() / YEAR + 1970;
        wait_until("there is a log file of that year", || {
            let files = fs::read_dir(site.path("logs")).expect("logs/").flatten();
            // Leap days make the last days of a year those of the next.
            let is_it = |name: &str| {
                [date - 1, date].iter().any(|year| name.contains(&format!(".{year}-")))
            };
            files.into_iter().any(|file| is_it(&file.file_name().to_string_lossy()))
        });
    }
    assert_eq!(server.logged(" ERROR "), [""; 0]);
    server.signal(libc::SIGTERM);
    let stopped = server.exit().code();

    Shown {
        part: "Faults",
        tried: "the wall clock jumps by ten years, forward and back, in the middle of requests",
        times: jumps,
        bound: "a request_timeout of 2 s is over after 2 to 4.5 s; requests, TLS, logs and changes to files go on",
    }
    .holds(
        format!("the longest took {:.1} s", longest.as_secs_f64()),
        stopped == Some(0) && longest < Duration::from_millis(4500),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_was_made_under_a_wrong_clock_is_good_under_the_right_one() {
    let Some(library) = faketime() else {
        return not_tested("a clock that is wrong at first", "libfaketime is not installed");
    };
    // As after a boot without a battery for the clock, and the other way round.
    for wrong in [Years(-50), Years(9)] {
        let site = Site::usual();
        set(&site, wrong);
        let server = start(&site, library.clone());
        let root = site.root();
        assert_eq!(ask_over_tls(&server, &root, wrong).await, 200, "{wrong:?}");
        set(&site, Years(0));
        assert_eq!(ask_over_tls(&server, &root, Years(0)).await, 200, "{wrong:?}, then now");

        drop(server);
        let server = site.start();
        assert_eq!(site.root(), root, "{wrong:?}: clients need trust no other");
        assert_eq!(ask_over_tls(&server, &root, Years(0)).await, 200);
        let certificate = site.path("state/ca/root.crt");
        let verify = Command::new("openssl")
            .args(["verify", "-CAfile"])
            .args([&certificate, &certificate])
            .output();
        let Ok(output) = verify else {
            return not_tested("a root's dates", "openssl is not installed");
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
