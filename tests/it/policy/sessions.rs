//! Sessions are resumed over reloads, and never past what a host asks of its clients.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind};

use super::{YEAR, reload, site};
use crate::support::certificates::Authority;
use crate::support::client::{Error, Version, connect, speaking};
use crate::support::connection::Connection;
use crate::support::server::{Server, hello_version};

const ASKING: &str = "\"door.test\" = { \"/\" = \"hello\", client_ca = \"certs/ca.pem\" }\n";
const OPEN: &str = "\"door.test\" = \"hello\"\n";

/// Comes once more, and says how: with a session that was kept, or anew.
async fn come(server: &Server, config: &Arc<ClientConfig>) -> Result<HandshakeKind, Error> {
    let io = connect(server.https, "door.test", Arc::clone(config)).await?;
    let kind = io.get_ref().1.handshake_kind();
    // With the answer comes what the next session needs.
    let mut connection = Connection::over(io, Version::H1, "door.test").await?;
    assert_eq!(connection.get("/").await?.status, 200);
    Ok(kind.expect("a handshake"))
}

async fn is_resumed(server: &Server, config: &Arc<ClientConfig>) -> bool {
    come(server, config).await.expect("an answer") == HandshakeKind::Resumed
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_outlive_reloads() {
    let site = site(OPEN);
    let server = site.start();
    for (number, tls) in [&TLS12, &TLS13].into_iter().enumerate() {
        let client = speaking(&[tls], &site.root(), Version::H1, None);
        assert!(!is_resumed(&server, &client).await);
        assert!(is_resumed(&server, &client).await);

        let skipped = server.log().len();
        site.put("apps/hello.wasm", &hello_version(u32::try_from(number).expect("few") + 2));
        server.wait_for_log_after(skipped, "reloaded");
        assert!(is_resumed(&server, &client).await, "another component");
        reload(&site, &server, &format!("{OPEN}\"more{number}.test\" = \"hello\"\n"));
        assert!(is_resumed(&server, &client).await, "another manifest");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_worth_what_the_host_asks_now() {
    let site = site(OPEN);
    let [old, new] = ["old", "new"].map(Authority::new);
    site.put("certs/ca.pem", old.pem().as_bytes());
    let server = site.start();
    let own = old.client("someone", YEAR);
    for tls in [&TLS12, &TLS13] {
        let client = speaking(&[tls], &site.root(), Version::H1, Some(&own));
        assert!(!is_resumed(&server, &client).await);
        assert!(is_resumed(&server, &client).await);

        reload(&site, &server, ASKING);
        assert!(!is_resumed(&server, &client).await, "nobody had asked who it was");
        assert!(is_resumed(&server, &client).await);
        reload(&site, &server, &format!("{ASKING}\"more.test\" = \"p3\"\n"));
        assert!(is_resumed(&server, &client).await, "that is another host's");

        let skipped = server.log().len();
        site.put("certs/ca.pem", format!("{}{}", new.pem(), old.pem()).as_bytes());
        server.wait_for_log_after(skipped, "reloaded");
        assert!(!is_resumed(&server, &client).await, "by other authorities");
        assert!(is_resumed(&server, &client).await);

        let skipped = server.log().len();
        site.put("certs/ca.pem", new.pem().as_bytes());
        server.wait_for_log_after(skipped, "reloaded");
        assert!(come(&server, &client).await.is_err(), "it is nobody's client any more");

        let skipped = server.log().len();
        site.put("certs/ca.pem", old.pem().as_bytes());
        server.wait_for_log_after(skipped, "reloaded");
        reload(&site, &server, OPEN);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_the_clients_certificate() {
    let site = site(ASKING);
    let authority = Authority::new("ca");
    site.put("certs/ca.pem", authority.pem().as_bytes());
    let server = site.start();
    for tls in [&TLS12, &TLS13] {
        let life = Duration::from_secs(4);
        let begun = Instant::now();
        let own = authority.client("leaving", life.try_into().expect("some seconds"));
        let client = speaking(&[tls], &site.root(), Version::H1, Some(&own));
        assert!(!is_resumed(&server, &client).await);
        assert!(is_resumed(&server, &client).await);

        // Certificates count in whole seconds.
        tokio::time::sleep((life + Duration::from_secs(2)).saturating_sub(begun.elapsed())).await;
        assert!(come(&server, &client).await.is_err());
    }
}
