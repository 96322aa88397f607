//! A change of who may be a client is for old connections as well.

use super::{YEAR, get_as, reload, site};
use crate::support::certificates::{Authority, Pair};
use crate::support::client::{VERSIONS, Version, connect, trusting_as};
use crate::support::connection::Connection;
use crate::support::server::{Server, Site};

const ASKING: &str = "\"door.test\" = { \"/\" = \"p2\", client_ca = \"certs/ca.pem\" }\n";
const OPEN: &str = "\"door.test\" = \"p2\"\n";

async fn open(site: &Site, server: &Server, version: Version, own: &Pair) -> Connection {
    let config = trusting_as(&site.root(), version, Some(own));
    let io = connect(server.https, "door.test", config).await.expect("a handshake");
    Connection::over(io, version, "door.test").await.expect("HTTP")
}

async fn status(connection: &mut Connection) -> u16 {
    connection.get("/hello").await.expect("an answer").status.as_u16()
}

async fn is_let_in(site: &Site, server: &Server, own: &Pair) -> bool {
    let config = trusting_as(&site.root(), Version::H1, Some(own));
    let target = ("door.test", "/hello");
    let reply = get_as(server, (Version::H1, &config), "door.test", target, &[]).await;
    reply.is_ok_and(|reply| reply.status == 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn another_authority_counts_at_once() {
    let site = site(ASKING);
    let [old, new] = ["old", "new"].map(Authority::new);
    site.put("certs/ca.pem", old.pem().as_bytes());
    let server = site.start();
    let [ours, theirs] = [&old, &new].map(|authority| authority.client("someone", YEAR));
    let mut before = Vec::new();
    for version in VERSIONS {
        before.push(open(&site, &server, version, &ours).await);
    }
    assert!(!is_let_in(&site, &server, &theirs).await);

    // What does not change leaves the connections alone.
    reload(&site, &server, &format!("{ASKING}\"more.test\" = \"p3\"\n"));
    for connection in &mut before {
        assert_eq!(status(connection).await, 200);
    }

    let skipped = server.log().len();
    site.put("certs/ca.pem", new.pem().as_bytes());
    server.wait_for_log_after(skipped, "reloaded");
    for connection in &mut before {
        assert_eq!(status(connection).await, 421);
    }
    assert!(!is_let_in(&site, &server, &ours).await);
    assert!(is_let_in(&site, &server, &theirs).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_may_begin_to_ask_and_stop_asking() {
    let site = site(OPEN);
    let authority = Authority::new("ca");
    site.put("certs/ca.pem", authority.pem().as_bytes());
    let server = site.start();
    let client = authority.client("someone", YEAR);
    let mut anonymous = open(&site, &server, Version::H2, &client).await;
    assert_eq!(status(&mut anonymous).await, 200);

    reload(&site, &server, ASKING);
    assert_eq!(status(&mut anonymous).await, 421, "nobody asked who it was");
    let mut known = open(&site, &server, Version::H2, &client).await;
    assert_eq!(status(&mut known).await, 200);

    let optional = ASKING.replace(" }", ", client_auth = \"optional\" }");
    reload(&site, &server, &optional);
    let mut optional = open(&site, &server, Version::H2, &client).await;
    assert_eq!(status(&mut optional).await, 200);
    reload(&site, &server, ASKING);
    assert_eq!(status(&mut optional).await, 421, "it was not required then");

    reload(&site, &server, OPEN);
    assert_eq!(status(&mut anonymous).await, 200);
    assert_eq!(status(&mut known).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_goes_bad_is_said_once_and_the_old_one_kept() {
    let site = site(ASKING);
    let authority = Authority::new("ca");
    site.put("certs/ca.pem", authority.pem().as_bytes());
    let server = site.start();
    let client = authority.client("someone", YEAR);

    site.put("certs/ca.pem", b"no authority");
    let told = server.wait_for_log("certs/ca.pem holds no certificate");
    assert!(told.contains("hosts.\"door.test\".client_ca"), "{told}");
    assert!(is_let_in(&site, &server, &client).await);
    assert!(!is_let_in(&site, &server, &Authority::new("x").client("x", YEAR)).await);
    assert_eq!(server.complaints().len(), 1, "{:#?}", server.complaints());

    // A manifest that newly names it is refused as a whole.
    let skipped = server.log().len();
    let newly = "\"new.test\" = { \"/\" = \"p2\", client_ca = \"certs/none.pem\" }\n";
    site.write_manifest(&format!("{}{ASKING}{newly}", crate::support::server::USUAL));
    server.wait_for_log_after(skipped, "certs/none.pem");
    assert_eq!(server.logged("reloaded"), [""; 0]);
}
