//! Which origins a guest reaches: those of the manifest, and no others.

use crate::support::certificates::root;
use crate::support::client::{GUESTS, get};
use crate::support::origin::Origin;
use crate::support::server::Server;

use super::{HELLO, fetched, manifest, sent, site};

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_reaches_the_origins_of_its_manifest_and_no_others() {
    let (granted, other) = (Origin::plain().await, Origin::plain().await);
    let server = site(&[&granted.url("")], "").start();

    for host in GUESTS {
        assert_eq!(fetched(&server, host, &granted.url("/hello")).await, HELLO, "{host}");
        for url in [
            other.url("/hello"),
            format!("https://{}/", granted.address),
            format!("http://localhost:{}/", granted.address.port()),
            "https://example.com/".into(),
        ] {
            let refused = fetched(&server, host, &url).await;
            assert!(refused.starts_with("502 "), "{host}: {refused}");
            assert!(refused.contains("HttpRequestDenied"), "{host}: {refused}");
        }
    }
    assert_eq!((granted.requests().len(), other.connections()), (2, 0));
    server.wait_for_log(&format!("limit=outbound times=1 by=http://{}", other.address));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_reaches_nothing_unless_it_is_told() {
    let origin = Origin::plain().await;
    let server = site(&[], "").start();

    for host in GUESTS {
        let refused = fetched(&server, host, &origin.url("/hello")).await;
        assert!(refused.contains("HttpRequestDenied"), "{host}: {refused}");
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_speaks_tls_with_a_certificate_for_its_name() {
    let (origin, other) = (Origin::tls("localhost").await, Origin::tls("other.test").await);
    let urls = [&origin, &other].map(|it| format!("https://localhost:{}", it.address.port()));
    let granted = [&origin, &other].map(|it| format!("https://{}", it.address));
    let origins = [&urls[0], &urls[1], &granted[0], &granted[1]].map(String::as_str);
    let site = site(&origins, "");
    site.put("roots.pem", root().as_bytes());
    let mut command = site.command();
    command.env("SSL_CERT_FILE", site.path("roots.pem"));
    let server = Server::spawn(command);

    for host in GUESTS {
        assert_eq!(fetched(&server, host, &format!("{}/", urls[0])).await, HELLO, "{host}");
        let refused = fetched(&server, host, &format!("{}/", urls[1])).await;
        assert!(refused.contains("TlsCertificateError"), "{host}: {refused}");
    }
    assert!(other.requests().is_empty());

    // Without that root the same certificate is nobody's.
    site.put("none.pem", b"");
    let mut command = site.command();
    command.env("SSL_CERT_FILE", site.path("none.pem")).env_remove("SSL_CERT_DIR");
    let server = Server::spawn(command);
    for host in GUESTS {
        let refused = fetched(&server, host, &format!("{}/", urls[0])).await;
        assert!(refused.contains("TlsCertificateError"), "{host}: {refused}");
    }
    server.wait_for_log("no root certificates");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_leads_to_those_of_its_addresses_that_are_granted() {
    let origin = Origin::plain().await;
    let port = origin.address.port();
    // The same port over IPv6, which the name may lead to as well.
    let v6 = Origin::try_at(([0, 0, 0, 0, 0, 0, 0, 1], port).into()).await;
    let name = format!("http://localhost:{port}");
    let site = site(&[&name], "");
    let server = site.start();

    for host in GUESTS {
        let refused = fetched(&server, host, &name).await;
        assert!(refused.contains("DestinationIpProhibited"), "{host}: {refused}");
    }
    server.wait_for_log(&format!("by=\"{name}: "));
    let to_v6 = || v6.as_ref().map_or(0, Origin::connections);
    assert_eq!((origin.connections(), to_v6()), (0, 0));

    site.write_manifest(&manifest(&[&name, &origin.url("")], ""));
    server.wait_for_log("reloaded");
    for host in GUESTS {
        assert_eq!(fetched(&server, host, &name).await, HELLO, "{host}");
    }
    assert!(origin.connections() > 0);
    assert_eq!(to_v6(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_nowhere_is_an_error_in_time() {
    let settings = "outbound_timeout = \"2s\"";
    let server = site(&["http://nobody.invalid", "http://127.0.0.1:9"], settings).start();
    for host in GUESTS {
        let began = std::time::Instant::now();
        let told = fetched(&server, host, "http://nobody.invalid/").await;
        let nowhere = told.contains("DnsError") || told.contains("ConnectionTimeout");
        assert!(nowhere, "{host}: {told}");
        assert!(began.elapsed() < std::time::Duration::from_secs(4), "{host}");
        let told = fetched(&server, host, "http://127.0.0.1:9/").await;
        assert!(told.contains("ConnectionRefused"), "{host}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_the_guest_s_to_follow_and_is_checked_like_any_request() {
    let (origin, inner) = (Origin::plain().await, Origin::plain().await);
    let server = site(&[&origin.url("")], "").start();

    for host in GUESTS {
        let redirect = origin.url(&format!("/redirect?{}", inner.url("/")));
        let reply = get(&server, host, &format!("/fetch?url={}", super::escaped(&redirect))).await;
        assert_eq!(reply.expect("an answer").status, 302, "{host}");
        let refused = fetched(&server, host, &inner.url("/")).await;
        assert!(refused.contains("HttpRequestDenied"), "{host}: {refused}");
    }
    assert_eq!(inner.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_reaches_follows_a_reload() {
    let (first, second) = (Origin::plain().await, Origin::plain().await);
    let site = site(&[&first.url("")], "");
    let server = site.start();
    for host in GUESTS {
        assert_eq!(fetched(&server, host, &first.url("/")).await, HELLO, "{host}");
    }

    site.write_manifest(&manifest(&[&second.url("")], ""));
    server.wait_for_log("reloaded");
    let before = first.requests().len();
    for host in GUESTS {
        let refused = fetched(&server, host, &first.url("/")).await;
        assert!(refused.contains("HttpRequestDenied"), "{host}: {refused}");
        assert_eq!(fetched(&server, host, &second.url("/")).await, HELLO, "{host}");
    }
    assert_eq!(first.requests().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_have_no_sockets() {
    let origin = Origin::plain().await;
    let server = site(&[&origin.url("")], "").start();

    let path = format!("/sockets?port={}", origin.address.port());
    let reply = get(&server, "f2.test", &path).await.expect("an answer");
    let denied = reply.text().matches("name: \"access-denied\"").count();
    assert_eq!(denied, 3, "{}", reply.text());
    assert!(!reply.text().contains("open"), "{}", reply.text());
    assert_eq!(origin.connections(), 0);
    // The same guest reaches the same origin where it is asked over HTTP.
    assert!(sent(&server, "f2.test", &[("url", &origin.url("/"))]).await.contains("got 200"));
}
