//! The command line when there is nobody to ask.

use super::{TOKEN, tcp_address, tcp_site};
use crate::support::server::{Site, USUAL};

#[test]
fn who_asks_where_nobody_is_gets_told_what_to_look_at() {
    let site = Site::usual();
    let (status, told) = site.tidegate(&["reload"]);
    assert_eq!(status.code(), Some(1), "{told}");
    assert!(told.contains("there is no admin socket at unix:"), "{told}");
    assert!(told.contains("is tidegate running?"), "{told}");

    let mut server = site.start();
    server.signal(libc::SIGKILL);
    server.exit();
    let (status, told) = site.tidegate(&["reload"]);
    assert_eq!(status.code(), Some(1), "{told}");
    assert!(told.contains("nobody listens at unix:"), "{told}");

    site.write_manifest(&format!("[admin]\nlisten = false\n{USUAL}"));
    let (status, told) = site.tidegate(&["reload"]);
    assert_eq!(status.code(), Some(78), "{told}");
    assert!(told.contains("admin.listen = false"), "{told}");
}

#[test]
fn the_address_is_found_in_a_manifest_that_is_wrong_elsewhere() {
    let site = Site::usual();
    let _server = site.start();
    site.write_manifest(&format!("{USUAL}\"x.test\" = \"helo\"\n[apps.broken]\n"));
    let (status, told) = site.tidegate(&["reload"]);
    assert_eq!(status.code(), Some(78), "{told}");
    assert!(told.contains("refused"), "{told}");

    // Where not even that can be read, it can be named.
    site.write_manifest("[server\n");
    let (status, told) = site.tidegate(&["reload"]);
    assert_eq!(status.code(), Some(78), "{told}");
    assert!(told.contains("--admin unix:PATH"), "{told}");
    let address = format!("unix:{}", super::socket(&site).display());
    let (status, told) = site.tidegate(&["reload", "--admin", &address]);
    assert_eq!(status.code(), Some(78), "{told}");
    assert!(told.contains("refused"), "{told}");
}

#[test]
fn over_tcp_the_token_is_read_from_its_file() {
    let site = tcp_site("");
    let server = site.start();
    let address = tcp_address(&server).to_string();
    let ask =
        |arguments: &[&str]| site.tidegate(&[&["reload", "--admin", &address], arguments].concat());
    let (status, told) = ask(&["--token-file", "admin.token"]);
    assert!(status.success(), "{told}");
    let (status, told) = ask(&[]);
    assert_eq!(status.code(), Some(1), "{told}");
    assert!(told.contains("a token is needed"), "{told}");
    assert!(!told.contains(TOKEN));
}
