//! Floods of HTTP/3 end their own connection.

use serde_json::json;

use super::{http3, panics};
use crate::support::client::get;
use crate::support::holds::Shown;
use crate::support::pool::guest;
use crate::support::server::Site;

/// H3_EXCESSIVE_LOAD.
const LOAD: u64 = 0x107;

/// What may be on its way when the server has had enough.
const ON_ITS_WAY: u64 = 1500;

#[tokio::test(flavor = "multi_thread")]
async fn each_flood_ends_its_own_connection() {
    let site = Site::new(
        "[defaults]\nrequest_timeout = \"20s\"\n[apps.p2]\ncomponent = \"apps/kit-p2.wasm\"\n\
         [hosts]\n\"p2.test\" = \"p2\"\n",
    );
    site.put("apps/kit-p2.wasm", &guest("kit-p2"));
    let server = site.start();
    for (kind, limit, most, per_second) in [
        ("unknown", "h3.frames", 1024, 64),
        ("push-ids", "h3.frames", 1024, 64),
        ("priorities", "h3.frames", 1024, 64),
        ("streams", "h3.frames", 1024, 64),
        ("empty-data", "h3.data", 4096, 1024),
        ("tiny-data", "h3.data", 4096, 1024),
        ("resets", "h3.resets", 200, 20),
    ] {
        let lines = server.log().len();
        let given = json!({"kind": kind, "most": 100_000});
        let Some(figures) = http3(&site, &server, "p2.test", "flood", given).await else { return };
        let sent = figures["sent"].as_u64().expect("a count");
        let ended = figures["ended"] == true && figures["code"] == LOAD;
        let bound =
            format!("ended after {most} frames, {per_second} a second, and what is on its way");
        Shown { part: "Clients: HTTP/3 floods", tried: kind, times: 1, bound: &bound }.holds(
            format!("{sent} sent, {figures}"),
            ended && sent <= most + per_second * 5 + ON_ITS_WAY,
        );
        server.wait_for_log_after(lines, &format!("limit={limit}"));
        assert_eq!(get(&server, "p2.test", "/hello").await.expect("an answer").status, 200);
    }
    assert_eq!(panics(&server), [""; 0]);
}
