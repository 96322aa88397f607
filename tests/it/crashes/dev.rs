//! `dev`: error pages that show how a guest failed; and none does without it.

use serde_json::Value;

use super::{line_that_fails, start};
use crate::support::client::ask;
use crate::support::server::{Server, Site};

for_both_kits! {
    pages_show_how_a_guest_failed,
    without_dev_pages_show_nothing_of_a_guest,
    a_loop_is_shown_where_it_was_ended,
}

const HTML: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

/// What `a.test` answers to one that accepts this.
async fn page(server: &Server, path: &str, accept: &str) -> String {
    ask(server, "GET", path, &format!("host: a.test\r\naccept: {accept}\r\n")).await
}

fn json(page: &str) -> Value {
    let body = page.split_once("\r\n\r\n").expect("a head").1;
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {page}"))
}

async fn pages_show_how_a_guest_failed(kit: &str) {
    let (_site, server) = start(kit, "dev = true");
    server.wait_for_log("`dev` is on for a:");
    let text = page(&server, "/stack", "text/plain").await;
    assert!(text.starts_with("HTTP/1.1 502 ") && text.contains("text/plain"), "{text}");
    assert!(text.contains("call stack exhausted"), "{text}");
    assert!(text.contains("common::misbehave::consume_stack"), "{text}");

    let html = page(&server, "/panic", HTML).await;
    assert!(html.contains("text/html") && html.contains("<pre>"), "{html}");
    assert!(html.contains("somebody asked for /panic"), "{html}");
    assert!(html.contains("&lt;") && !html.contains("<kit_p"), "{html}");

    let json = json(&page(&server, "/trap", "application/json").await);
    assert_eq!(json["status"], 502);
    assert!(json["reason"].as_str().unwrap().contains("unreachable"), "{json}");
    assert!(!json["backtrace"][0]["function"].as_str().unwrap().is_empty(), "{json}");
}

async fn without_dev_pages_show_nothing_of_a_guest(kit: &str) {
    let settings =
        "cpu_time = \"200ms\"\n[defaults]\ndev = true\n[apps.other]\ncomponent = \"apps/a.wasm\"";
    let (_site, server) = start(kit, &format!("dev = false\n{settings}"));
    for path in ["/stack", "/panic", "/trap", "/no-response", "/spin?ms=0"] {
        for accept in ["text/plain", HTML, "application/json"] {
            let page = page(&server, path, accept).await;
            let status = if path.starts_with("/spin") { "504 " } else { "502 " };
            assert!(page.starts_with(&format!("HTTP/1.1 {status}")), "{page}");
            for inside in ["panic", "stack", "kit", "common", "trap", "unreachable", ".rs", "<pre>"]
            {
                assert!(!page.contains(inside), "{inside:?} is in {page}");
            }
        }
        let page = json(&page(&server, path, "application/json").await);
        let keys: Vec<_> = page.as_object().unwrap().keys().collect();
        assert_eq!(keys.len(), 3, "{keys:?}");
    }
}

async fn a_loop_is_shown_where_it_was_ended(kit: &str) {
    let (_site, server) = start(kit, "dev = true\ncpu_time = \"200ms\"");
    let page = page(&server, "/spin?ms=0", "*/*").await;
    assert!(page.starts_with("HTTP/1.1 504 "), "{page}");
    assert!(page.contains("common::misbehave::spin_forever"), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_name_lines_where_the_component_does() {
    let (_site, server) = start("lines-p2", "dev = true");
    // The second time it is known.
    for _ in 0..2 {
        let page = page(&server, "/cart", "*/*").await;
        assert!(page.contains(&format!("{}\n", line_that_fails())), "{page}");
        assert!(page.contains("about to fail at /cart"), "{page}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_that_cannot_start_is_shown_to_its_developers_only() {
    for (dev, shown) in [(true, true), (false, false)] {
        let site = Site::with_neighbour("trap-at-start", &format!("dev = {dev}"));
        let server = site.start();
        let page = page(&server, "/", "*/*").await;
        assert!(page.starts_with("HTTP/1.1 503 "), "{page}");
        assert_eq!(page.contains("unreachable"), shown, "{page}");
        assert_eq!(page.contains("a.wasm"), shown, "{page}");
    }
}
