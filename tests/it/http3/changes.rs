//! Reloads and stops with connections of HTTP/3 open.

use std::time::Duration;

use serde_json::json;

use super::{Beside, client, sha256};
use crate::support::certificates::{pair, root};
use crate::support::client::{Reply, Version};
use crate::support::connection::{Connection, Transport};
use crate::support::holds::{Shown, times};
use crate::support::pool::guest;
use crate::support::server::{Server, Site, hello_version};
use crate::support::traffic::Traffic;

fn manifest(number: usize) -> String {
    format!(
        "[apps.hello]\ncomponent = \"apps/hello.wasm\"\nenv = {{ NUMBER = \"{number}\" }}\n\
         [hosts]\n\"hello.test\" = \"hello\"\n\
         [tls.certificates]\n\"hello.test\" = {{ cert = \"certs/hello.pem\", key = \"certs/hello.key\" }}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn rotations_of_certificates_drop_no_request_over_any_protocol() {
    let site = Site::new(&manifest(0));
    site.put("apps/hello.wasm", &hello_version(0));
    std::fs::create_dir(site.path("certs")).expect("make certs/");
    pair("hello.test").put(&site, "hello");
    std::fs::write(site.path("roots.pem"), root()).expect("write the roots");
    let server = site.start();
    let given = json!({"paths": ["/version"], "expected": ["00000"]});
    let Some(command) = client(&site, &server, "hello.test", "load", given) else { return };
    let load = Beside::begin(command);
    let beside = traffic(&site, &server);

    let rotations = times(60, 500);
    let mut newest = Vec::new();
    for rotation in 1..=rotations {
        let lines = server.log().len();
        let pair = pair("hello.test");
        pair.put(&site, "hello");
        newest = pair.der;
        // Every tenth time an app changes as well, and its manifest.
        match rotation % 20 {
            0 => site.put("apps/hello.wasm", &hello_version(u32::try_from(rotation).expect("few"))),
            10 => site.write_manifest(&manifest(rotation)),
            _ => {}
        }
        server.wait_for_log_after(lines, "reloaded");
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let figures = tokio::task::spawn_blocking(|| load.end()).await.expect("no panic");
    let answered = beside.stop().await;

    let kept = figures["kept"].as_u64().expect("a count");
    let new = figures["new"].as_u64().expect("a count");
    Shown {
        part: "The edge",
        tried: "certificates rotated under load, on connections that stay and new ones",
        times: rotations,
        bound: "no request fails over HTTP/1, 2 or 3, and a connection of HTTP/3 stays",
    }
    .holds(
        format!(
            "{answered} answers over HTTP/1 and 2, {} over HTTP/3, {} wrong",
            kept + new,
            figures["wrong_count"]
        ),
        figures["wrong_count"] == 0 && kept > 50 && new > 10,
    );
    assert_eq!(figures["certificate"], sha256(&newest), "new connections have the new one");
}

/// Clients over TLS that stay, and clients with a handshake for each request.
fn traffic(site: &Site, server: &Server) -> Traffic {
    let roots = format!("{}\n{}", site.root(), root());
    let mut traffic = Traffic::default();
    for version in [Version::H1, Version::H2] {
        let transport = Transport::tls(server, version, &roots);
        for requests in [1, 200] {
            let judge = |(), _: &Connection, reply: Reply| match reply.text().trim().parse::<u32>()
            {
                Ok(_) if reply.status == 200 => Ok(()),
                _ => Err(format!("{} {:?}", reply.status, reply.text())),
            };
            traffic.add(&transport, ("hello.test", "/version"), requests, || (), judge);
        }
    }
    traffic
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_requests_finish_and_refuses_new_ones() {
    let site =
        Site::new("[apps.p2]\ncomponent = \"apps/kit-p2.wasm\"\n[hosts]\n\"p2.test\" = \"p2\"\n");
    site.put("apps/kit-p2.wasm", &guest("kit-p2"));
    let mut server = site.start();
    let given = json!({"path": "/drip?ms=200&count=30", "then": "/hello"});
    let Some(command) = client(&site, &server, "p2.test", "drain", given) else { return };
    let beside = Beside::begin(command);

    server.signal(libc::SIGTERM);
    let figures = tokio::task::spawn_blocking(|| beside.end()).await.expect("no panic");

    let first = &figures["first"];
    assert_eq!(first["status"], 200, "{figures:#}");
    assert_eq!(first["text"].as_str().expect("text").trim(), ["tick"; 30].join("\n"));
    // First that it ends, then what it answers at the last: stream 0 and none behind it.
    assert_eq!(figures["goaways"].as_array().and_then(|all| all.last()), Some(&json!(4)));
    // H3_REQUEST_REJECTED: it may be sent elsewhere.
    assert_eq!(figures["late"]["reset"], 0x10b, "{figures:#}");
    assert_eq!(figures["code"], 0x100, "{figures:#}");
    assert_eq!(figures["new"], "ConnectionError", "{figures:#}");
    assert!(server.exit().success());
}
