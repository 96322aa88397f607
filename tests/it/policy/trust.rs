//! `tidegate trust`: what it prints, and that a system trusts tidegate after it.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::support::client::{Version, get_tls};
use crate::support::python::missing;
use crate::support::server::Site;

/// A system's store apart from this machine's: its directories are empty, and forgotten with the process.
const APART: &str = "set -e
mount -t tmpfs tmpfs /usr/local/share/ca-certificates
mount -t tmpfs tmpfs /etc/ssl/certs
";

#[tokio::test(flavor = "multi_thread")]
async fn the_root_is_printed_and_described() {
    let site = Site::usual();
    let (status, said) = site.tidegate(&["trust"]);
    assert_eq!(status.code(), Some(1));
    assert!(
        said.contains("no local certificate authority") && said.contains("first runs"),
        "{said}"
    );
    assert!(!site.path("state/ca").exists(), "it is not for this user to make");

    let server = site.start();
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["trust", "--config", "config.toml"])
        .current_dir(site.path(""))
        .output()
        .expect("run tidegate");
    let (pem, said) = (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned());
    assert_eq!(String::from_utf8_lossy(&pem).replace('\r', ""), site.root().replace('\r', ""));
    assert!(said.contains(&site.path("state/ca/root.crt").display().to_string()), "{said}");
    assert!(said.contains("tidegate local CA"), "{said}");
    // What a client trusts then.
    site.put("printed.pem", &pem);
    assert_eq!(get_tls(&site, &server, "hello.test", "/", Version::H1).await.unwrap().status, 200);

    let openssl = Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in", "printed.pem"])
        .current_dir(site.path(""))
        .output();
    match openssl {
        Ok(openssl) => {
            let fingerprint = String::from_utf8_lossy(&openssl.stdout).into_owned();
            let (_, fingerprint) = fingerprint.trim().split_once('=').expect("a fingerprint");
            assert!(said.contains(fingerprint), "{fingerprint}: {said}");
        }
        Err(error) => missing("openssl", &error.to_string()),
    }
}

#[test]
fn who_is_not_root_is_told_so() {
    let site = Site::usual();
    drop(site.start());
    // SAFETY: it only asks.
    if unsafe { libc::geteuid() } != 0 {
        return missing("root", "without it nobody can be anyone else");
    }
    // A copy: the folder it was built in may be closed to others.
    let program = site.path("tidegate");
    std::fs::copy(env!("CARGO_BIN_EXE_tidegate"), &program).expect("copy tidegate");
    let as_nobody = |site: &Site| {
        let output = Command::new(&program)
            .args(["trust", "--install"])
            .current_dir(site.path(""))
            .uid(65534)
            .output()
            .expect("run tidegate");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let open = |path: &str| {
        let done = Command::new("chmod").args(["755", path]).current_dir(site.path("")).status();
        assert!(done.expect("chmod").success());
    };

    open(".");
    let said = as_nobody(&site);
    assert!(said.contains("cannot read") && said.contains("as root, with sudo"), "{said}");
    open("state");
    open("state/ca");
    open("state/ca/root.crt");
    let said = as_nobody(&site);
    assert!(said.contains("cannot write") && said.contains("as root, with sudo"), "{said}");
}

/// With the system's own tools, and a client that is not ours.
#[test]
fn the_system_trusts_it_once_it_is_installed() {
    let site = Site::usual();
    let server = site.start();
    let port = server.https.port();
    let curl = format!(
        "curl --silent --show-error --resolve hello.test:{port}:127.0.0.1 https://hello.test:{port}/"
    );
    let script = format!(
        "{APART}update-ca-certificates >/dev/null 2>&1\n\
         if {curl} 2>/dev/null; then echo trusted before; fi\n\
         {tidegate} trust --install\n\
         {tidegate} trust --install >/dev/null 2>&1\n\
         ls /usr/local/share/ca-certificates\n\
         {curl}\n",
        tidegate = env!("CARGO_BIN_EXE_tidegate"),
    );
    let apart = Command::new("unshare")
        .args(["--mount", "sh", "-c", &format!("{APART}command -v update-ca-certificates curl")])
        .output();
    match apart {
        Ok(apart) if apart.status.success() => {}
        Ok(apart) => {
            return missing("a system store to try", &String::from_utf8_lossy(&apart.stderr));
        }
        Err(error) => return missing("unshare", &error.to_string()),
    }

    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()))
        .env_remove("SSL_CERT_FILE")
        .env_remove("CURL_CA_BUNDLE")
        .current_dir(site.path(""))
        .output()
        .expect("run the script");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!said.contains("trusted before"), "{said}");
    assert!(said.contains("this system trusts it now"), "{said}");
    assert!(said.ends_with("\ntidegate-local-ca.crt\nhello world\n"), "{said}");
}
