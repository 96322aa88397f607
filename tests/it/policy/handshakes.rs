//! The versions and ciphers of TLS, and the names that handshakes have to be for.

use std::process::Command;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::version::{TLS12, TLS13};

use super::{reload, site};
use crate::support::client::{Version, connect, get_tls, speaking, trusting};
use crate::support::python::missing;
use crate::support::server::{Server, Site, USUAL};

/// What comes of a handshake for `sni`: nothing, or the error.
async fn handshake(server: &Server, sni: &str, config: Arc<ClientConfig>) -> String {
    connect(server.https, sni, config).await.err().map_or(String::new(), |error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_version_is_what_the_manifest_says_from_the_reload_on() {
    let site = site("");
    let server = site.start();
    let tried = async |tls| {
        let config = speaking(&[tls], &site.root(), Version::H1, None);
        handshake(&server, "hello.test", config).await
    };
    assert_eq!([tried(&TLS12).await, tried(&TLS13).await], ["", ""]);

    reload(&site, &server, "[tls]\nmin_version = \"1.3\"\n");
    assert_eq!(tried(&TLS13).await, "");
    let refused = tried(&TLS12).await;
    assert!(refused.contains("ProtocolVersion"), "{refused}");

    reload(&site, &server, "[tls]\nmin_version = \"1.2\"\n");
    assert_eq!(tried(&TLS12).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_strict_sni_a_handshake_is_for_a_host_that_is_served() {
    let site = site("\"*.wild.test\" = \"p2\"\n");
    let server = site.start();
    let tried = async |sni| handshake(&server, sni, trusting(&site.root(), Version::H1)).await;
    // A client sends no SNI for an address.
    for stranger in ["nobody.test", "wild.test", "127.0.0.1"] {
        let refused = tried(stranger).await;
        assert!(refused.contains("invalid peer certificate"), "{stranger}: {refused}");
    }

    reload(&site, &server, "\"*.wild.test\" = \"p2\"\n[tls]\nstrict_sni = true\n");
    for stranger in ["nobody.test", "wild.test", "127.0.0.1"] {
        let refused = tried(stranger).await;
        assert!(refused.contains("UnrecognisedName"), "{stranger}: {refused}");
    }
    for host in ["hello.test", "HELLO.test", "any.wild.test"] {
        assert_eq!(tried(host).await, "", "{host}");
    }
    for version in [Version::H1, Version::H2] {
        let reply = get_tls(&site, &server, "hello.test", "/", version).await.expect("a reply");
        assert_eq!(reply.status, 200);
    }
}

/// A scanner that is not ours looks for what nobody should speak any more.
#[test]
fn sslscan_finds_tls_1_2_with_aead_ciphers_and_1_3_and_nothing_else() {
    let site = Site::usual();
    for (manifest, expected) in [("", &["TLSv1.2", "TLSv1.3"][..]), ("1.3", &["TLSv1.3"])] {
        let tls = match manifest {
            "" => String::new(),
            oldest => format!("[tls]\nmin_version = \"{oldest}\"\nstrict_sni = true\n"),
        };
        site.write_manifest(&format!("{USUAL}{tls}"));
        let server = site.start();
        let scan = Command::new("sslscan")
            .args(["--no-colour", "--xml=-", "--sni-name=hello.test"])
            .arg(server.https.to_string())
            .output();
        let scan = match scan {
            Ok(scan) => String::from_utf8_lossy(&scan.stdout).into_owned(),
            Err(error) => return missing("sslscan", &error.to_string()),
        };

        let attribute = |line: &str, name: &str| {
            let (_, after) = line.split_once(&format!(" {name}=\""))?;
            after.split('"').next().map(str::to_owned)
        };
        let mut versions = Vec::new();
        for line in scan.lines().filter(|line| line.contains("<cipher ")) {
            let cipher = attribute(line, "cipher").expect("its name");
            assert!(cipher.contains("GCM") || cipher.contains("CHACHA20"), "{line}");
            assert!(cipher.starts_with("TLS_") || cipher.starts_with("ECDHE-"), "{line}");
            versions.push(attribute(line, "sslversion").expect("its version"));
        }
        versions.sort();
        versions.dedup();
        assert_eq!(versions, expected, "{scan}");
        for bad in [
            "version=\"2\" enabled=\"1\"",
            "version=\"3\" enabled=\"1\"",
            "version=\"1.0\" enabled=\"1\"",
            "version=\"1.1\" enabled=\"1\"",
            "<compression supported=\"1\"",
            "vulnerable=\"1\"",
            "<renegotiation supported=\"1\" secure=\"0\"",
            "strength=\"weak\"",
        ] {
            assert!(!scan.contains(bad), "{bad}: {scan}");
        }
    }
}
