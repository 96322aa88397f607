//! A browser, Chromium, that trusts the local authority and loads a page over HTTP/2 and HTTP/3.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::pool::guest;
use crate::support::python::missing;
use crate::support::server::{Server, Site};

/// A browser may hang; far longer than it takes.
const PATIENCE: Duration = Duration::from_secs(90);

const MANIFEST: &str = r#"[apps.hello]
component = "apps/hello.wasm"
[hosts]
"page.internal" = { "/" = { files = "page", compress = true }, "/app" = "hello" }
"#;

/// What the page says of itself, all of it over `protocol`.
fn expected(protocol: &str) -> String {
    let parts = ["/", "/app/hello", "/page.js", "/style.css"];
    let came = parts.map(|path| format!("{path}={protocol}")).join("; ");
    format!("hello world; 7px; {came}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_loaded_over_http2_and_http3() {
    let Some(browser) = Browser::installed() else { return };
    let site = Site::new(MANIFEST);
    site.put("apps/hello.wasm", &guest("hello"));
    std::fs::create_dir(site.path("page")).expect("make page/");
    for name in ["index.html", "style.css", "page.js"] {
        let from = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser")).join(name);
        std::fs::copy(from, site.path("page").join(name)).expect("copy the page");
    }
    let server = site.start();

    // Not trusted: the browser shows no page.
    let page = browser.load(&site, &server, "stranger", &[]).await;
    assert!(!page.contains("hello world"), "{page}");

    browser.trust(&site);
    let page = browser.load(&site, &server, "home", &[]).await;
    assert!(page.contains(&expected("h2")), "{page}\n{}", server.log().join("\n"));

    // A browser has a root that was added by hand for QUIC only where it is told to.
    let quic = format!("--origin-to-force-quic-on=page.internal:{}", server.https.port());
    let page = browser.load(&site, &server, "home", &[&quic]).await;
    assert!(page.contains(&expected("h3")), "{page}\n{}", server.log().join("\n"));
}

struct Browser(&'static str);

impl Browser {
    fn installed() -> Option<Browser> {
        for tool in ["chromium", "certutil"] {
            let mut command = Command::new(tool);
            command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
            if let Err(error) = command.status() {
                missing(tool, &error.to_string());
                return None;
            }
        }
        Some(Browser("chromium"))
    }

    /// Has whose home `home` is trust the site's authority.
    fn trust(&self, site: &Site) {
        let store = site.path("home/.pki/nssdb");
        std::fs::create_dir_all(&store).expect("make the store");
        let store = format!("sql:{}", store.display());
        let root = site.path("state/ca/root.crt");
        for arguments in [
            vec!["-d", &store, "-N", "--empty-password"],
            vec![
                "-d",
                &store,
                "-A",
                "-t",
                "C,,",
                "-n",
                "tidegate",
                "-i",
                root.to_str().expect("text"),
            ],
        ] {
            let done = Command::new("certutil").args(arguments).status();
            assert!(done.expect("run certutil").success());
        }
    }

    /// What the page is, once its scripts have run.
    async fn load(&self, site: &Site, server: &Server, home: &str, more: &[&str]) -> String {
        // A new one each time: what is cached came over the protocol of then.
        let profile = tempfile::tempdir().expect("a folder");
        let mut command = tokio::process::Command::new(self.0);
        command
            .env("HOME", site.path(home))
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("--host-resolver-rules=MAP page.internal {}", server.https.ip()))
            .args(["--virtual-time-budget=10000", "--dump-dom"])
            .args(more)
            .arg(format!("https://page.internal:{}/", server.https.port()))
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output()).await;
        let output = output.expect("the browser ends").expect("run the browser");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}
