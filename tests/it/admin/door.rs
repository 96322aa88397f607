//! Who may ask: by the socket's mode, by the token, and by the names in the request.

use std::os::unix::fs::PermissionsExt;

use http::Request;
use http_body_util::Full;

use super::{TOKEN, ask, ask_tcp, put_token, send_to_socket, socket, tcp_address, tcp_site};
use crate::outbound::{fetched, site as outbound_site};
use crate::support::client::{GUESTS, get};
use crate::support::server::{Server, Site, USUAL, wait_until};

const VERSION: (&str, &str) = ("GET", "/v1/version");

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_is_there_without_a_word_and_for_its_user_alone() {
    let site = Site::usual();
    let mut server = site.start();
    let mode = socket(&site).metadata().expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let reply = ask(&site, "GET", "/v1/version").await.expect("an answer");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.headers["cache-control"], "no-store");

    server.signal(libc::SIGTERM);
    assert!(server.exit().success());
    assert!(!socket(&site).exists(), "it is removed at the end");
    assert_eq!(server.complaints(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_was_left_is_taken_over_and_one_in_use_is_not() {
    let site = Site::usual();
    let mut first = site.start();
    first.signal(libc::SIGKILL);
    first.exit();
    assert!(socket(&site).exists(), "nobody removed it");

    let second = site.start();
    assert_eq!(ask(&site, "GET", "/v1/version").await.expect("an answer").status, 200);
    // Another process beside it serves clients and cannot be asked; it says so.
    let third = site.start();
    third.wait_for_log("no admin socket");
    assert_eq!(get(&third, "hello.test", "/").await.expect("an answer").status, 200);
    let pid = super::asked(&site, "/v1/version").await["pid"].as_u64();
    assert_eq!(pid, Some(u64::from(second.pid())));

    // One that the manifest names has to be had.
    site.write_manifest(&format!("[admin]\nlisten = \"unix:state/admin.sock\"\n{USUAL}"));
    let (status, log) = Server::try_spawn(site.command()).err().expect("it does not start");
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("cannot listen for operators on unix:"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_none_where_the_manifest_says_so() {
    let site = Site::usual();
    site.write_manifest(&format!("[admin]\nlisten = false\n{USUAL}"));
    let server = site.start();
    assert!(!socket(&site).exists());
    assert_eq!(server.logged("operators can ask"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_others_do_not_get_in_by_the_socket() {
    let site = Site::usual();
    let _server = site.start();
    let send = async |host: &str, origin: Option<&str>| {
        let mut request = Request::get("/v1/version").header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let request = request.body(Full::default()).expect("a request");
        send_to_socket(&site, request).await.expect("an answer").status.as_u16()
    };
    assert_eq!(send("localhost", None).await, 200);
    assert_eq!(send("localhost", Some("http://localhost")).await, 200);
    assert_eq!(send("evil.example", None).await, 403);
    assert_eq!(send("localhost", Some("http://evil.example")).await, 403);
    assert_eq!(send("localhost", Some("null")).await, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tcp_each_request_shows_the_token() {
    let site = tcp_site("names = [\"admin.internal\"]\n");
    let server = site.start();
    let address = tcp_address(&server);
    assert!(!socket(&site).exists());
    let bearer = format!("Bearer {TOKEN}");
    let with = async |headers: &[(&str, &str)]| ask_tcp(address, VERSION, headers, "").await;

    let none = with(&[]).await;
    assert_eq!(none.status, 401);
    assert!(none.headers["www-authenticate"].to_str().expect("text").starts_with("Bearer"));
    assert!(none.text().contains("\"help\""), "{}", none.text());
    assert_eq!(with(&[("authorization", &bearer)]).await.status, 200);
    for wrong in ["Bearer x", "Bearer ", "Basic abc", &format!("Bearer {TOKEN}0")] {
        assert_eq!(with(&[("authorization", wrong)]).await.status, 401, "{wrong}");
    }
    server.wait_for_log("somebody showed a wrong admin token");
    // It does not get in by the URL, which logs and histories keep.
    let by_url = ask_tcp(address, ("GET", &format!("/v1/version?token={TOKEN}")), &[], "").await;
    assert_eq!(by_url.status, 401);

    let called =
        async |host: &str| with(&[("host", host), ("authorization", &bearer)]).await.status;
    for ours in ["admin.internal", "localhost:1", "[::1]"] {
        assert_eq!(called(ours).await, 200, "{ours}");
    }
    assert_eq!(called("evil.example").await, 403);
    let origin = format!("http://{address}");
    for (origin, status) in [(origin.as_str(), 200), ("http://hello.test", 403), ("null", 403)] {
        let reply = with(&[("authorization", &bearer), ("origin", origin)]).await;
        assert_eq!(reply.status, status, "{origin}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_shows_the_token_once_and_a_cookie_from_then_on() {
    let site = tcp_site("");
    let server = site.start();
    let address = tcp_address(&server);
    let login = async |body: &str| ask_tcp(address, ("POST", "/login"), &[], body).await;

    assert_eq!(login("").await.status, 400);
    let wrong = login("{\"token\": \"0123456789abcdef\"}").await;
    assert_eq!((wrong.status.as_u16(), wrong.headers.contains_key("set-cookie")), (401, false));
    let reply = login(&format!("{{\"token\": \"{TOKEN}\"}}")).await;
    assert_eq!(reply.status, 204);
    let cookie = reply.headers["set-cookie"].to_str().expect("text");
    assert!(cookie.starts_with("tidegate_admin=") && !cookie.contains(TOKEN), "{cookie}");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");

    let (pair, _) = cookie.split_once(';').expect("attributes");
    let with = async |cookie: &str| ask_tcp(address, VERSION, &[("cookie", cookie)], "").await;
    assert_eq!(with(pair).await.status, 200);
    assert_eq!(with(&format!("theme=dark; {pair}")).await.status, 200);
    assert_eq!(with(&format!("{pair}0")).await.status, 401);

    // Another token ends the sessions of the one before.
    put_token(&site, "another-token-of-32-characters-!");
    assert_eq!(with(pair).await.status, 401);
    let bearer = [("authorization", "Bearer another-token-of-32-characters-!")];
    assert_eq!(ask_tcp(address, VERSION, &bearer, "").await.status, 200);
    // One that cannot be used leaves it.
    put_token(&site, "short");
    assert_eq!(ask_tcp(address, VERSION, &bearer, "").await.status, 200);
    server.wait_for_log("the former one holds");
}

#[test]
fn a_token_that_others_can_read_stops_the_start_and_fails_the_check() {
    let site = tcp_site("");
    std::fs::set_permissions(site.path("admin.token"), PermissionsExt::from_mode(0o644))
        .expect("set its mode");
    let (status, log) = Server::try_spawn(site.command()).err().expect("it does not start");
    assert_eq!(status.code(), Some(78), "{log}");
    assert!(log.contains("admin.token_file") && log.contains("chmod 600"), "{log}");
    let (status, told) = site.tidegate(&["check"]);
    assert_eq!(status.code(), Some(78), "{told}");
    assert!(told.contains("admin.token_file"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_the_public_listeners_do_not_get_there() {
    let site = Site::usual();
    let server = site.start();
    for host in ["localhost", "127.0.0.1"] {
        let reply = get(&server, host, "/v1/version").await.expect("an answer");
        assert_eq!(reply.status, 404, "{host}: {}", reply.text());
    }
}

/// A port of this machine that nobody has right now.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_does_not_reach_it_even_where_its_manifest_grants_the_address() {
    let port = free_port();
    let origins = ["127.0.0.1", "localhost", "0.0.0.0", "127.0.0.2", "[::1]", "[::ffff:127.0.0.1]"];
    let origins = origins.map(|host| format!("http://{host}:{port}"));
    let settings =
        format!("\n[admin]\nlisten = \"127.0.0.1:{port}\"\ntoken_file = \"admin.token\"\n");
    let site = outbound_site(&origins.each_ref().map(String::as_str), &settings);
    put_token(&site, TOKEN);
    let server = site.start();
    assert_eq!(tcp_address(&server).port(), port);

    for host in GUESTS {
        for origin in &origins {
            let url = format!("{origin}/v1/version");
            let refused = fetched(&server, host, &url).await;
            assert!(refused.contains("DestinationIpProhibited"), "{host} {url}: {refused}");
        }
    }
    server.wait_for_log("where operators ask");

    // The same address is granted where nothing of ours listens at that port.
    let other = crate::support::origin::Origin::plain().await;
    let url = other.url("");
    let manifest = crate::outbound::manifest(&[&url], &settings);
    site.write_manifest(&manifest);
    server.wait_for_log("reloaded");
    assert_eq!(fetched(&server, GUESTS[0], &url).await, crate::outbound::HELLO);
    wait_until("it is answered", || other.connections() > 0);
}
