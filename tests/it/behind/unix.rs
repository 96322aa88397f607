//! Listeners on Unix sockets: who may connect, what is left of them, and whose requests they are.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::{HOST, Seen, inspect, seen, shake_hands, site, told};
use crate::support::client::{VERSIONS, Version};
use crate::support::server::{Site, run};

const SOCKETS: &str = "http = [\"unix:run/http.sock\"]\nhttps = [\"unix:run/https.sock\"]";

/// A site that listens on Unix sockets alone, in a folder of its own.
fn sockets(lines: &str) -> Site {
    let site = site(&format!("{SOCKETS}\n{lines}"));
    fs::create_dir(site.path("run")).expect("make run/");
    site
}

/// What curl gets of `url` at the socket.
fn curl(socket: &Path, url: &str, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "30", "--unix-socket"]).arg(socket);
    let output = command.args(arguments).arg(url).output().expect("run curl");
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn curl_sees(socket: &Path, url: &str, arguments: &[&str]) -> Seen {
    let answer = curl(socket, url, arguments).expect("an answer");
    seen(&serde_json::from_str::<Value>(&answer).expect("JSON"))
}

async fn connect(site: &Site, name: &str) -> UnixStream {
    UnixStream::connect(site.path(name)).await.expect("connect")
}

#[test]
fn curl_is_served_at_the_sockets_of_either_scheme_in_either_version() {
    let site = sockets("");
    let server = site.start();
    let (http, https) = (site.path("run/http.sock"), site.path("run/https.sock"));
    let root = site.path("state/ca/root.crt").display().to_string();

    for arguments in [&["--http1.1"][..], &["--http2-prior-knowledge"]] {
        let seen = curl_sees(&http, "http://p2.test/inspect", arguments);
        assert_eq!(seen, told("unknown", "http"), "{arguments:?}");
    }
    for version in ["--http1.1", "--http2"] {
        let seen = curl_sees(&https, "https://p2.test/inspect", &[version, "--cacert", &root]);
        assert_eq!(seen, told("unknown", "https"), "{version}");
    }
    server.wait_for_log("client=unix host=p2.test");
    server.wait_for_log(&format!("listening address=http://unix:{}", http.display()));
}

#[test]
fn a_body_of_many_megabytes_goes_both_ways() {
    let site = sockets("");
    let _server = site.start();
    let body: String = (0..500_000).map(|number| format!("{number:07}\n")).collect();
    fs::write(site.path("body"), &body).expect("write it");
    let upload = format!("@{}", site.path("body").display());
    let socket = site.path("run/http.sock");
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let answer = curl(&socket, "http://p2.test/echo", &[version, "--data-binary", &upload]);
        assert!(answer.expect("an answer") == body, "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_is_for_its_user_and_group_and_goes_with_the_process() {
    let site = sockets("");
    let mut server = site.start();
    for name in ["run/http.sock", "run/https.sock"] {
        let file = fs::metadata(site.path(name)).expect("the socket");
        assert!(file.file_type().is_socket());
        assert_eq!(file.permissions().mode() & 0o777, 0o660, "{name}");
    }
    server.signal(libc::SIGTERM);
    assert_eq!(server.exit().code(), Some(0));
    assert_eq!(fs::read_dir(site.path("run")).expect("run/").count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_has_left_is_replaced() {
    let site = sockets("");
    let mut server = site.start();
    server.signal(libc::SIGKILL);
    server.exit();
    assert!(site.path("run/http.sock").exists());

    let server = site.start();
    let seen = inspect(connect(&site, "run/http.sock").await, Version::H1, &[]).await;
    assert_eq!(seen.expect("a reply"), told("unknown", "http"));
    assert_eq!(server.complaints(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_another_process_listens_at_is_left_to_it() {
    let site = sockets("");
    let _first = site.start();
    let (status, said) = site.tidegate(&["run"]);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("run/http.sock") && said.contains("another process"), "{said}");
    let seen = inspect(connect(&site, "run/http.sock").await, Version::H1, &[]).await;
    assert_eq!(seen.expect("a reply"), told("unknown", "http"));
}

#[test]
fn a_file_that_is_no_socket_is_left_as_it_is() {
    let site = sockets("");
    fs::write(site.path("run/https.sock"), "precious").expect("write it");
    let (status, said) = site.tidegate(&["run"]);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("run/https.sock") && said.contains("no socket"), "{said}");
    assert_eq!(fs::read_to_string(site.path("run/https.sock")).expect("it"), "precious");
    assert!(!site.path("run/http.sock").exists(), "the other one is not left behind");
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let site = site(SOCKETS);
    let (status, said) = site.tidegate(&["run"]);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("there is no folder") && said.contains("/run"), "{said}");
}

#[test]
fn a_path_is_relative_to_the_manifest() {
    let site = sockets("");
    let mut command = run(&site.manifest());
    command.current_dir("/");
    let _server = crate::support::server::Server::spawn(command);
    assert!(curl(&site.path("run/http.sock"), "http://hello.test/version", &[]).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_requests_are_from_is_believed_there_only_if_the_manifest_says_so() {
    let headers = [("x-forwarded-for", "203.0.113.1"), ("x-forwarded-proto", "https")];
    let header = b"PROXY TCP4 203.0.113.2 10.0.0.1 1 80\r\n";
    let site = sockets("trusted_proxies = [\"127.0.0.0/8\"]\nproxy_protocol = [\"127.0.0.0/8\"]");
    let server = site.start();
    for version in VERSIONS {
        let io = connect(&site, "run/http.sock").await;
        let seen = inspect(io, version, &headers).await.expect("a reply");
        assert_eq!(seen, told("unknown", "http"));
    }
    let mut io = connect(&site, "run/http.sock").await;
    io.write_all(header).await.expect("send");
    assert!(inspect(io, Version::H1, &[]).await.is_err(), "no header is understood there");

    super::write(&site, &format!("{SOCKETS}\ntrusted_proxies = [\"unix\"]"), "");
    server.wait_for_log("reloaded generation=2");
    for version in VERSIONS {
        let io = connect(&site, "run/http.sock").await;
        let seen = inspect(io, version, &headers).await.expect("a reply");
        assert_eq!(seen, told("203.0.113.1", "https"));
    }

    super::write(&site, &format!("{SOCKETS}\nproxy_protocol = [\"unix\"]"), "");
    server.wait_for_log("reloaded generation=3");
    for version in VERSIONS {
        let mut io = connect(&site, "run/http.sock").await;
        io.write_all(header).await.expect("send");
        assert_eq!(
            inspect(io, version, &headers).await.expect("a reply"),
            told("203.0.113.2", "http")
        );
        let mut io = connect(&site, "run/https.sock").await;
        io.write_all(header).await.expect("send");
        let io = shake_hands(io, &site, version).await.expect("a handshake");
        assert_eq!(
            inspect(io, version, &headers).await.expect("a reply"),
            told("203.0.113.2", "https")
        );
    }
    let io = connect(&site, "run/http.sock").await;
    assert!(
        inspect(io, Version::H1, &headers).await.is_err(),
        "without a header nothing is served"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_there_are_counted_together_only() {
    let site = sockets("");
    super::write(
        &site,
        SOCKETS,
        "[clients]\nmax_connections_per_address = 2\nmax_connections = 30\n",
    );
    let server = site.start();
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(connect(&site, "run/http.sock").await);
    }
    assert!(inspect(connect(&site, "run/http.sock").await, Version::H1, &[]).await.is_ok());
    assert_eq!(server.logged("limit="), [""; 0]);
    for _ in 0..20 {
        open.push(connect(&site, "run/http.sock").await);
    }
    assert!(inspect(connect(&site, "run/http.sock").await, Version::H1, &[]).await.is_ok());
    server.wait_for_log("limit=clients.max_connections ");
}

#[test]
fn both_kinds_of_listener_serve_side_by_side() {
    let site = site("http = [\"127.0.0.1:0\", \"unix:http.sock\"]");
    let server = site.start();
    let plain = format!("http://{}/inspect", server.http);
    let host = format!("host: {HOST}");
    let output = Command::new("curl").args(["-s", "-H", &host, &plain]).output().expect("run curl");
    let answer = serde_json::from_slice::<Value>(&output.stdout).expect("JSON");
    assert_eq!(seen(&answer), told("127.0.0.1", "http"));
    let seen = curl_sees(&site.path("http.sock"), "http://p2.test/inspect", &[]);
    assert_eq!(seen, told("unknown", "http"));
}
