//! Which origins a guest reaches: those of the manifest, and no others.

use crate::support::client::GUESTS;
use crate::support::origin::Origin;

use super::{fetched, site};

const HELLO: &str = "200 hello from the origin";

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_reaches_the_origins_of_its_manifest_and_no_others() {
    let (granted, other) = (Origin::plain().await, Origin::plain().await);
    let server = site(&[&granted.url("")], "").start();

    for host in GUESTS {
        assert_eq!(fetched(&server, host, &granted.url("/hello")).await, HELLO, "{host}");
        let refused = fetched(&server, host, &other.url("/hello")).await;
        assert!(refused.starts_with("502 ") && refused.contains("HttpRequestDenied"), "{refused}");
        let refused = fetched(&server, host, &format!("https://{}/", granted.address)).await;
        assert!(refused.contains("HttpRequestDenied"), "{refused}");
    }
    assert_eq!((granted.requests().len(), other.connections()), (2, 0));
    server.wait_for_log(&format!("limit=outbound times=1 by=http://{}", other.address));
}
