//! What runs, as operators are told.

use super::{ask, asked};
use crate::support::certificates::pair;
use crate::support::client::{Version, get_tls};
use crate::support::server::{Site, USUAL, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn apps_listeners_and_certificates_are_told() {
    let site = Site::usual();
    std::fs::create_dir(site.path("certs")).expect("make certs/");
    pair("hello.test").put(&site, "hello");
    let certificates = "[tls.certificates]\n\"hello.test\" = { cert = \"certs/hello.pem\", key = \"certs/hello.key\" }\n";
    site.write_manifest(&format!("{USUAL}{certificates}"));
    let server = site.start();
    get_tls(&site, &server, "p2.test", "/hello", Version::H1).await.expect("an answer");
    let status = asked(&site, "/v1/status").await;

    assert_eq!(status["pid"], server.pid());
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["generation"], 1);
    assert_eq!(status["manifest"], site.manifest().to_str().expect("a path"));
    let addresses = [server.http, server.https].map(|it| it.to_string());
    for (listener, (scheme, address)) in
        [("http", &addresses[0]), ("https", &addresses[1])].into_iter().enumerate()
    {
        assert_eq!(status["listeners"][listener]["scheme"], scheme);
        assert_eq!(status["listeners"][listener]["address"], address.as_str());
    }
    let kinds = [("hello", "p2"), ("p2", "p2"), ("p3", "p3")];
    for (at, (name, kind)) in kinds.into_iter().enumerate() {
        let app = &status["apps"][at];
        assert_eq!((&app["name"], &app["state"]), (&name.into(), &"serving".into()));
        assert_eq!(app["kind"], kind, "{name}");
        assert_eq!(app["routes"][0], format!("{name}.test/"));
        assert_eq!(app["digest"].as_str().map(str::len), Some(64));
    }
    let of = |host: &str| {
        let all = status["certificates"].as_array().expect("certificates");
        all.iter().find(|it| it["host"] == host).unwrap_or_else(|| panic!("{host}: {all:#?}"))
    };
    assert_eq!(
        (&of("hello.test")["source"], &of("p2.test")["source"]),
        (&"file".into(), &"local".into())
    );
    assert_eq!(of("hello.test")["names"][0], "hello.test");
    assert_eq!(of("p2.test")["names"][0], "p2.test");
    assert!(of("p2.test")["issuer"].as_str().expect("an issuer").contains("tidegate local CA"));
    assert!(of("p3.test")["expires"].is_null(), "it was never asked for");
    assert_eq!(status["last_reload"]["result"], "started");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_cannot_be_served_is_told_with_the_reason() {
    let site = Site::usual();
    site.put("apps/kit-p2.wasm", b"\0asm this is none");
    let server = site.start();
    let app = async |at: usize| asked(&site, "/v1/status").await["apps"][at].clone();
    let failed = app(1).await;
    assert_eq!((&failed["state"], &failed["kind"]), (&"failed".into(), &serde_json::Value::Null));
    assert!(!failed["fault"].as_str().expect("a fault").is_empty());

    site.put("apps/hello.wasm", b"\0asm neither is this");
    server.wait_for_log("its last good version goes on serving");
    let stale = app(0).await;
    assert_eq!((&stale["state"], &stale["kind"]), (&"stale".into(), &"p2".into()));
    let status = asked(&site, "/v1/status").await;
    assert_eq!(status["last_reload"]["result"], "refused");
    let problem = status["last_reload"]["problems"][0].as_str().expect("a problem");
    assert!(problem.contains("apps.hello.component"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_end_within_their_bounds() {
    let site = Site::usual();
    let _server = site.start();
    let request = http::Request::post("/v1/reload").header("host", "localhost");
    let body = http_body_util::Full::from(vec![b'x'; 100 << 10]);
    let reply = super::send_to_socket(&site, request.body(body).expect("a request")).await;
    assert_eq!(reply.expect("an answer").status, 413);
    let path = format!("/v1/status?x={}", "y".repeat(9 << 10));
    assert_eq!(ask(&site, "GET", &path).await.expect("an answer").status, 400);
    wait_until("it is answered all the same", || socket_answers(&site));
}

fn socket_answers(site: &Site) -> bool {
    std::os::unix::net::UnixStream::connect(super::socket(site)).is_ok()
}
