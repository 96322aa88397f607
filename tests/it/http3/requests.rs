//! Requests and answers over HTTP/3, as over HTTP/1 and HTTP/2.

use serde_json::{Value, json};

use super::{http3, panics, sha256};
use crate::support::client::GUESTS;
use crate::support::server::Site;

/// Of the body that the script sends where it is told to send so many bytes.
fn digest(length: usize) -> String {
    let body: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).expect("a byte")).collect();
    sha256(&body)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_with_bodies_and_trailers_both_ways() {
    let site = Site::usual();
    let server = site.start();
    let large = 3 << 20;

    for host in GUESTS {
        let requests = json!([
            {"path": "/hello"},
            {"method": "POST", "path": "/echo", "body": "hi", "headers": [["te", "trailers"]],
                "trailers": [["x-sum", "6"]]},
            {"method": "POST", "path": "/echo", "body": large,
                "headers": [["content-length", large.to_string()]]},
            {"method": "HEAD", "path": "/hello"},
            {"path": "/status?code=204"},
            {"path": "/status?code=304"},
            {"path": "/nowhere-special", "authority": "nobody.test"},
        ]);
        let Some(answers) =
            http3(&site, &server, host, "exchange", json!({"requests": requests})).await
        else {
            return;
        };
        let statuses: Vec<_> = (0..7).map(|at| answers[at]["status"].as_u64()).collect();
        let expected = [200, 200, 200, 200, 204, 304, 404].map(Some);
        assert_eq!(statuses, expected, "{host}: {answers:#}");

        assert_eq!(answers[0]["text"], "hello world\n");
        assert!(answers[0]["headers"]["date"].is_string(), "{answers:#}");
        assert!(answers[0]["headers"].get("alt-svc").is_none(), "it is known");
        assert_eq!(answers[1]["text"], "hi");
        assert_eq!(answers[1]["trailers"]["x-sum"], "6", "{host}");
        assert_eq!(answers[2]["length"], large);
        assert_eq!(answers[2]["sha256"], digest(large));
        for bodiless in [3, 4, 5] {
            assert_eq!(answers[bodiless]["length"], 0, "{host} {bodiless}");
            assert!(answers[bodiless]["reset"].is_null(), "{host} {bodiless}: {answers:#}");
        }
        assert!(answers[6]["text"].as_str().expect("a page").contains("no such host"));
    }
    let line = server.wait_for_log("path=/echo");
    assert!(line.contains("protocol=HTTP/3") && line.contains("client=127.0.0.1"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_a_guest_that_fails_never_looks_complete() {
    let site = Site::usual();
    let server = site.start();
    for host in GUESTS {
        let given = json!({"requests": [{"path": "/trap"}, {"path": "/trap-after-head"}],
            "together": false});
        let Some(answers) = http3(&site, &server, host, "exchange", given).await else { return };
        assert_eq!(answers[0]["status"], 502, "{host}: {answers:#}");
        assert!(answers[0]["text"].as_str().expect("a page").contains("application failed"));
        // H3_INTERNAL_ERROR.
        assert_eq!((&answers[1]["status"], &answers[1]["reset"]), (&json!(200), &json!(0x102)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_streams_and_ends_only_where_the_client_ends_it() {
    let site = Site::usual();
    let server = site.start();
    for host in GUESTS {
        let given = json!({"path": "/echo", "chunks": ["one", "two", "three"]});
        let Some(answer) = http3(&site, &server, host, "pieces", given).await else { return };
        assert_eq!(answer["text"], "onetwothree", "{answer:#}");
        assert!(answer["reset"].is_null());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_run_at_a_time_on_one_connection() {
    let site = Site::usual();
    let server = site.start();
    for host in GUESTS {
        let requests: Vec<Value> = (0..100).map(|_| json!({"path": "/hello"})).collect();
        let given = json!({"requests": requests});
        let Some(answers) = http3(&site, &server, host, "exchange", given).await else { return };
        let answers = answers.as_array().expect("answers");
        assert_eq!(answers.len(), 100);
        assert!(answers.iter().all(|it| it["status"] == 200 && it["text"] == "hello world\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_another_certificates_host_is_misdirected() {
    let site = Site::usual();
    let server = site.start();
    let requests = json!([{"path": "/", "authority": "p3.test"}, {"path": "/hello"}]);
    let given = json!({"requests": requests});
    let Some(answers) = http3(&site, &server, "p2.test", "exchange", given).await else { return };
    assert_eq!((&answers[0]["status"], &answers[1]["status"]), (&json!(421), &json!(200)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_its_client_gives_up_frees_the_guest() {
    let site = Site::new(
        "[defaults]\nrequest_timeout = \"20s\"\nmax_instances = 2\nqueue_timeout = \"10s\"\n\
         max_concurrent_per_instance = 1\n\
         [apps.p2]\ncomponent = \"apps/kit-p2.wasm\"\n[apps.p3]\ncomponent = \"apps/kit-p3.wasm\"\n\
         [hosts]\n\"p2.test\" = \"p2\"\n\"p3.test\" = \"p3\"\n",
    );
    for name in ["kit-p2", "kit-p3"] {
        let guest = crate::support::pool::guest(name);
        site.put(&format!("apps/{name}.wasm"), &guest);
    }
    let server = site.start();
    for host in GUESTS {
        for reset in [true, false] {
            // Both instances are held until they are given up: what comes next has one soon.
            let given = json!({"path": "/drip?ms=100&count=150", "count": 2, "then": "/hello",
                "reset": reset});
            let begun = std::time::Instant::now();
            let Some(answer) = http3(&site, &server, host, "reset", given).await else { return };
            assert_eq!(answer["status"], 200, "{answer:#} {}", server.log().join("\n"));
            assert!(begun.elapsed().as_secs() < 8, "{host}: it waited {:?}", begun.elapsed());
        }
    }
    let cut = server.logged("path=/drip").iter().filter(|line| line.contains("cut=true")).count();
    assert_eq!(cut, 8, "{}", server.log().join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_does_not_read_an_upload_stops_it() {
    let site = Site::usual();
    let server = site.start();
    for host in GUESTS {
        let upload = json!({"method": "POST", "path": "/never-read", "body": 4 << 20});
        let given = json!({"requests": [upload, {"path": "/hello"}], "together": false});
        let Some(answers) = http3(&site, &server, host, "exchange", given).await else { return };
        assert_eq!(answers[0]["text"], "unread\n", "{answers:#}");
        // H3_NO_ERROR.
        assert_eq!(answers[0]["stopped"], 0x100, "{host}: {answers:#}");
        assert!(answers[0]["reset"].is_null(), "{host}: {answers:#}");
        assert_eq!(answers[1]["status"], 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_another_length_than_announced_is_an_error() {
    let site = Site::usual();
    let server = site.start();
    for host in GUESTS {
        for announced in ["3", "5"] {
            let request = json!({"method": "POST", "path": "/discard", "body": "four",
                "headers": [["content-length", announced]]});
            let given = json!({"requests": [request]});
            let Some(answers) = http3(&site, &server, host, "exchange", given).await else {
                return;
            };
            // Never taken for a whole one: the guest counts what it has read.
            assert_ne!(answers[0]["status"], 200, "{host} {announced}: {answers:#}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_an_upload_is_never_taken_for_a_whole_one() {
    let site = Site::usual();
    let server = site.start();
    for host in GUESTS {
        let given = json!({"path": "/discard"});
        let Some(answer) = http3(&site, &server, host, "abandon_upload", given).await else {
            return;
        };
        assert_ne!(answer["status"], 200, "{host}: {answer:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_too_large_are_refused() {
    let site = Site::usual();
    let server = site.start();
    // A page, with some room; then without one; and what is too large to be kept ends the connection.
    for (length, page) in [(33 << 10, true), (60 << 10, false)] {
        let request = json!({"path": "/hello", "headers": [["x-long", "x".repeat(length)]]});
        let given = json!({"requests": [request, {"path": "/hello"}], "together": false});
        let Some(answers) = http3(&site, &server, "p2.test", "exchange", given).await else {
            return;
        };
        assert_eq!(answers[0]["status"], 431, "{length}: {answers:#}");
        assert_eq!(answers[0]["text"] != "", page, "{length}: {answers:#}");
        assert_eq!(answers[1]["status"], 200);
    }
    let path = format!("/{}", "x".repeat(9 << 10));
    let given = json!({"requests": [{"path": path}]});
    let answers = http3(&site, &server, "p2.test", "exchange", given).await.expect("Python");
    assert_eq!(answers[0]["status"], 414);
    server.wait_for_log("limit=clients.max_head");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_the_protocol_ends_the_stream_or_the_connection_and_nothing_else() {
    let site = Site::usual();
    let server = site.start();
    for (kind, stream, connection) in [
        // H3_FRAME_ERROR, H3_EXCESSIVE_LOAD, H3_FRAME_UNEXPECTED, H3_MESSAGE_ERROR, H3_REQUEST_INCOMPLETE.
        ("data-cut", None, Some(0x106)),
        ("head-long", None, Some(0x107)),
        ("settings-twice", None, Some(0x105)),
        ("reserved", None, Some(0x105)),
        ("data-first", None, Some(0x105)),
        ("two-lengths", Some(0x10e), None),
        ("connection-header", Some(0x10e), None),
        ("nothing", Some(0x10d), None),
    ] {
        let given = json!({"kind": kind});
        let Some(answer) = http3(&site, &server, "p2.test", "broken", given).await else { return };
        assert_eq!(answer["code"].as_u64(), connection, "{kind}: {answer:#}");
        assert!(stream.is_none() || answer["reset"].as_u64() == stream, "{kind}: {answer:#}");
        assert!(connection.is_some() || answer["still"] == 200, "{kind}: {answer:#}");
    }
    let before = server.memory("RssAnon:");
    let given = json!({"kind": "unknown-long"});
    http3(&site, &server, "p2.test", "broken", given).await.expect("Python");
    assert!(server.memory("RssAnon:") < before + (8 << 20), "what is ignored is not kept");
    assert_eq!(panics(&server), [""; 0]);
}
