//! The connections behind outbound requests: used again, never shared, and gone with who used them.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::certificates::root;
use crate::support::client::GUESTS;
use crate::support::holds::{Shown, times};
use crate::support::origin::Origin;
use crate::support::server::Server;

use super::{HELLO, SENDERS, escaped, fetched, sent, site, until};

#[tokio::test(flavor = "multi_thread")]
async fn an_app_s_requests_share_connections_and_those_of_two_apps_do_not() {
    let (plain, tls) = (Origin::plain().await, Origin::tls("localhost").await);
    let tls_url = format!("https://localhost:{}", tls.address.port());
    let granted = format!("https://{}", tls.address);
    let site = site(&[&plain.url(""), &tls_url, &granted], "");
    site.put("roots.pem", root().as_bytes());
    let mut command = site.command();
    command.env("SSL_CERT_FILE", site.path("roots.pem")).env_remove("SSL_CERT_DIR");
    let server = Server::spawn(command);

    for (number, host) in GUESTS.into_iter().enumerate() {
        for _ in 0..10 {
            assert_eq!(fetched(&server, host, &plain.url("/")).await, HELLO, "{host}");
            assert_eq!(fetched(&server, host, &format!("{tls_url}/")).await, HELLO, "{host}");
        }
        assert_eq!((plain.connections(), tls.connections()), (number + 1, number + 1), "{host}");
        assert_eq!(tls.resumed(), 0, "{host}");
    }
    // A session is resumed only by the app whose it is.
    for (number, host) in GUESTS.into_iter().enumerate() {
        assert!(fetched(&server, host, &format!("{tls_url}/close")).await.contains("closed"));
        assert_eq!(fetched(&server, host, &format!("{tls_url}/")).await, HELLO, "{host}");
        assert_eq!(tls.resumed(), number + 1, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_finds_its_connection_closed_is_sent_again_only_where_that_is_safe() {
    let origin = Origin::plain().await;
    let server = site(&[&origin.url("")], "").start();
    let url = origin.url("/once");

    for host in SENDERS {
        let (requests, connections) = (origin.requests().len(), origin.connections());
        for _ in 0..2 {
            let told = sent(&server, host, &[("url", &url)]).await;
            assert!(told.contains("got 200"), "{host}: {told}");
        }
        // The second came over the first's connection, was not answered, and came again.
        assert_eq!(origin.requests().len() - requests, 3, "{host}");
        assert_eq!(origin.connections() - connections, 2, "{host}");

        // Nobody knows what a POST has done by now, be there a body or not.
        for body in [Some(("body", "10")), None] {
            let mut post = vec![("url", &*url), ("method", "POST")];
            post.extend(body);
            let requests = origin.requests().len();
            let told = sent(&server, host, &post).await;
            assert!(told.contains("ConnectionTerminated"), "{host}, {body:?}: {told}");
            assert_eq!(origin.requests().len() - requests, 1, "{host}, {body:?}");
            let told = sent(&server, host, &[("url", &url)]).await;
            assert!(told.contains("got 200"), "{host}: {told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_an_origin_closes_is_not_used_again() {
    let origin = Origin::plain().await;
    let server = site(&[&origin.url("")], "").start();
    for host in SENDERS {
        let before = origin.connections();
        for _ in 0..3 {
            let post = [("url", &*origin.url("/close")), ("method", "POST"), ("body", "1")];
            let told = sent(&server, host, &post).await;
            assert!(told.contains("whole: closed"), "{host}: {told}");
        }
        assert_eq!(origin.connections() - before, 3, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_nobody_asked_for_is_nobody_s() {
    let origin = Origin::plain().await;
    let server = site(&[&origin.url("")], "").start();
    for host in GUESTS {
        for _ in 0..times(20, 200) {
            let told = fetched(&server, host, &origin.url("/poison")).await;
            assert_eq!(told, "200 good", "{host}");
            assert_eq!(fetched(&server, host, &origin.url("/")).await, HELLO, "{host}");
        }
    }
    Shown {
        part: "Tenants: outbound",
        tried: "a second response smuggled behind the first, on a connection kept for the next request",
        times: 2 * times(20, 200),
        bound: "never taken for the next request's",
    }
    .holds("never", true);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_has_under_way_ends_with_its_request() {
    let origin = Origin::plain().await;
    let settings =
        "request_timeout = \"1s\"\noutbound_timeout = \"1h\"\nmax_requests_per_instance = 1";
    let server = site(&[&origin.url("")], settings).start();

    // A guest that waits for an origin, and is ended at its timeout.
    for host in GUESTS {
        let told = fetched(&server, host, &origin.url("/never")).await;
        assert!(told.starts_with("504"), "{host}: {told}");
    }
    until("calls of guests that were ended are closed", || origin.open() == 0).await;

    // A guest that leaves a response unread in an instance that is not used again.
    for host in SENDERS {
        let told = sent(&server, host, &[("url", &origin.url("/slow-body")), ("keep", "1")]).await;
        assert!(told.contains("kept"), "{host}: {told}");
    }
    until("kept responses are closed", || origin.open() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_serves_on_keeps_no_call_of_a_request_that_is_over() {
    let origin = Origin::plain().await;
    let server = site(&[&origin.url("")], "max_outbound = 1\noutbound_timeout = \"1h\"").start();
    let count = times(5, 50);
    for host in SENDERS {
        for _ in 0..count {
            // Were the place of the one before not free, this would be refused.
            let kept = [("url", &*origin.url("/slow-body")), ("keep", "1")];
            let mut told = sent(&server, host, &kept).await;
            for _ in 0..100 {
                if told.contains("got 200, kept") {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
                told = sent(&server, host, &kept).await;
            }
            assert!(told.contains("got 200, kept"), "{host}: {told}");
        }
    }
    until("all are closed", || origin.open() == 0).await;
    Shown {
        part: "Tenants: outbound",
        tried: "guests that keep an unread response when their request ends",
        times: SENDERS.len() * count,
        bound: "no connection left",
    }
    .holds("none", true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_takes_its_guest_s_call_with_it() {
    let origin = Origin::plain().await;
    let settings = "outbound_timeout = \"1h\"\nstream_idle_timeout = \"1s\"";
    let server = site(&[&origin.url("")], settings).start();
    for host in GUESTS {
        let before = origin.open();
        let mut client = TcpStream::connect(server.http).await.expect("connect");
        let path = format!("/fetch?url={}", escaped(&origin.url("/endless")));
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        client.write_all(request.as_bytes()).await.expect("send");
        until("the guest's call is there", || origin.open() == before + 1).await;
        drop(client);
        until("it is gone", || origin.open() == before).await;
    }
}
