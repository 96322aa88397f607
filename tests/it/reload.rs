//! Every change is taken while requests run, and a bad one changes nothing.

use crate::support::client::{Version, get, get_tls};
use crate::support::server::{Site, hello_version};

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_component_serves_without_a_restart() {
    let site = Site::usual();
    let server = site.start();
    let version = async || {
        let reply = get(&server, "hello.test", "/version").await.expect("an answer");
        reply.text().trim().to_owned()
    };
    assert_eq!(version().await, "00000001");

    let skipped = server.log().len();
    site.put("apps/hello.wasm", &hello_version(2));
    server.wait_for_log_after(skipped, "reloaded");

    assert_eq!(version().await, "00000002");
    let reply = get_tls(&site, &server, "hello.test", "/version", Version::H2).await;
    assert_eq!(reply.expect("an answer").text().trim(), "00000002");
}
