//! What a bundle tells, and of which failures there is one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use super::{bundles, files, functions, line_that_fails, only, parse, start};
use crate::support::client::{answer, ask, get, status};
use crate::support::pool::guest;
use crate::support::server::wait_until;

for_both_kits! {
    a_trap_leaves_a_bundle_with_all_that_was_known,
    a_panic_is_where_the_guest_is_and_not_where_its_runtime_ends_it,
    a_trap_after_the_response_has_its_request,
    a_loop_leaves_a_bundle_and_a_timeout_none,
}

async fn a_trap_leaves_a_bundle_with_all_that_was_known(kit: &str) {
    let (site, server) = start(kit, "memory = \"32MiB\"");
    assert_eq!(answer(&server, "a.test", "/hello").await, "200 hello world");
    assert_eq!(answer(&server, "a.test", "/log?lines=2&bytes=5").await, "200 logged");
    let headers = "host: a.test\r\nuser-agent: a-browser\r\nauthorization: Bearer s3cret\r\n\
                   cookie: id=s3cret\r\nx-api-key: s3cret\r\nx-of-the-app: s3cret\r\n";
    let reply = ask(&server, "GET", "/stack?token=s3cret", headers).await;
    assert_eq!(status(&reply), 502);

    let bundle = only(&site);
    let text = fs::read_to_string(&files(&site)[0]).unwrap();
    assert!(!text.contains("s3cret"), "{text}");
    assert_eq!(bundle["format"], 1);
    assert_eq!(bundle["tidegate"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&bundle["app"], &bundle["generation"]), (&"a".into(), &1.into()));
    assert_eq!((&bundle["kind"], &bundle["phase"]), (&"trap".into(), &"request".into()));
    assert!(bundle["reason"].as_str().unwrap().contains("call stack exhausted"), "{text}");
    let functions = functions(&bundle);
    assert!(functions.contains(&"common::misbehave::consume_stack"), "{functions:?}");

    let instance = &bundle["instance"];
    assert_eq!((&instance["id"], &instance["requests_served"]), (&1.into(), &3.into()));
    assert_eq!(instance["requests_in_flight"], 1);
    assert!(instance["age_seconds"].as_f64().unwrap() > 0.0);
    let memory = instance["memory_bytes"].as_u64().unwrap();
    assert!((64 << 10..32 << 20).contains(&memory), "{memory}");
    assert_eq!(bundle["limits"]["memory"], "32MiB");
    let component = &bundle["component"];
    let digest: String = Sha256::digest(guest(kit)).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(component["digest"], digest);
    assert!(component["path"].as_str().unwrap().ends_with("/apps/a.wasm"), "{component}");

    let request = &bundle["request"];
    assert!(reply.contains(request["id"].as_str().unwrap()), "{request}");
    assert_eq!((&request["method"], &request["path"]), (&"GET".into(), &"/stack".into()));
    assert_eq!(request["host"], "a.test");
    let header = |name: &str| {
        let headers = request["headers"].as_array().unwrap();
        headers.iter().find(|header| header["name"] == name).unwrap_or(&Value::Null).clone()
    };
    assert_eq!(header("user-agent")["value"], "a-browser");
    for (name, bytes) in
        [("authorization", 13), ("cookie", 9), ("x-api-key", 6), ("x-of-the-app", 6)]
    {
        assert_eq!((&header(name)["value"], &header(name)["bytes"]), (&Value::Null, &bytes.into()));
    }
    let lines: Vec<_> = bundle["lines"].as_array().unwrap().iter().map(|it| &it["text"]).collect();
    assert_eq!(lines, ["xxxxx", "xxxxx", "to stderr"]);
    assert_eq!(fs::metadata(&files(&site)[0]).unwrap().permissions().mode() & 0o777, 0o600);
}

async fn a_panic_is_where_the_guest_is_and_not_where_its_runtime_ends_it(kit: &str) {
    let (site, server) = start(kit, "");
    assert_eq!(get(&server, "a.test", "/panic").await.unwrap().status, 502);
    let bundle = only(&site);
    assert!(bundle["lines"].to_string().contains("somebody asked for /panic"), "{bundle:#}");
    let (_, list) = site.tidegate(&["crashes"]);
    let place = list.lines().find(|line| line.contains(" at ")).unwrap_or_default();
    assert!(place.contains(&kit.replace('-', "_")), "{list}\n{bundle:#}");
}

async fn a_trap_after_the_response_has_its_request(kit: &str) {
    let (site, server) = start(kit, "");
    assert_eq!(answer(&server, "a.test", "/trap-late").await, "200 whole");
    wait_until("it has trapped", || files(&site).len() == 1);
    assert!(get(&server, "a.test", "/trap-after-head").await.is_err(), "it is cut");
    let texts = bundles(&site, 2);
    for (text, path) in texts.iter().zip(["/trap-late", "/trap-after-head"]) {
        let bundle = parse(text);
        assert_eq!(bundle["request"]["path"], path, "{bundle:#}");
        assert!(bundle["reason"].as_str().unwrap().contains("unreachable"), "{bundle:#}");
    }
}

async fn a_loop_leaves_a_bundle_and_a_timeout_none(kit: &str) {
    let (site, server) = start(kit, "cpu_time = \"300ms\"\nrequest_timeout = \"3s\"");
    assert_eq!(get(&server, "a.test", "/never-answer").await.unwrap().status, 504);
    assert_eq!(get(&server, "a.test", "/spin?ms=0").await.unwrap().status, 504);
    let bundle = only(&site);
    assert_eq!(bundle["kind"], "cpu_time");
    assert_eq!(bundle["request"]["path"], "/spin");
    let functions = functions(&bundle);
    assert!(functions.contains(&"common::misbehave::spin_forever"), "{functions:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_requests_on_an_instance_the_bundle_has_the_one_that_trapped() {
    let (site, server) = start("kit-p3", "max_instances = 1\nmax_concurrent_per_instance = 16");
    let sleepers = join_all((0..8).map(|_| get(&server, "a.test", "/sleep?ms=60000")));
    let trapping = async {
        // Until all of them are on the instance, an answer says how many there were.
        loop {
            let reply = get(&server, "a.test", "/inspect").await.unwrap();
            let seen: Value = serde_json::from_slice(&reply.body).expect("JSON");
            if seen["concurrent"].as_u64().is_some_and(|requests| requests > 8) {
                break;
            }
            sleep(Duration::from_millis(5)).await;
        }
        get(&server, "a.test", "/trap").await.unwrap()
    };
    let (sleepers, reply) = tokio::join!(sleepers, trapping);
    assert!(sleepers.iter().all(|reply| reply.as_ref().unwrap().status == 502), "one instance");

    let bundle = only(&site);
    assert_eq!(bundle["request"]["id"], reply.headers["x-request-id"].to_str().unwrap());
    assert_eq!(bundle["request"]["path"], "/trap");
    assert_eq!(bundle["instance"]["requests_in_flight"], 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_with_dwarf_names_the_line_and_a_request_that_it_has_dropped() {
    let (site, server) = start("lines-p2", "");
    assert_eq!(get(&server, "a.test", "/cart").await.unwrap().status, 502);
    let bundle = only(&site);
    let top = &bundle["backtrace"][0];
    assert_eq!(top["function"], "lines_p2::add_to_cart");
    let source = top["source"].as_str().unwrap_or_default();
    assert!(source.ends_with(&line_that_fails()), "{bundle:#}");
    assert_eq!(bundle["request"]["path"], "/cart");
    assert_eq!(bundle["lines"][0]["text"], "about to fail at /cart");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exit_with_an_error_leaves_a_bundle_and_one_without_does_not() {
    let (site, server) = start("kit-p2", "");
    assert_eq!(answer(&server, "a.test", "/exit0").await, "200 exiting");
    site.put("apps/a.wasm", &guest("lines-p2"));
    server.wait_for_log("reloaded");
    assert_eq!(get(&server, "a.test", "/exit").await.unwrap().status, 502);
    let bundle = only(&site);
    assert_eq!((&bundle["kind"], &bundle["generation"]), (&"exit".into(), &2.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_that_cannot_start_leaves_a_bundle() {
    let (site, server) = start("trap-at-start", "");
    assert_eq!(get(&server, "a.test", "/").await.unwrap().status, 503);
    let bundle = only(&site);
    assert_eq!((&bundle["kind"], &bundle["phase"]), (&"trap".into(), &"start".into()));
    assert_eq!(bundle["instance"]["id"], 0);
    assert_eq!(bundle["request"], Value::Null);
    assert_eq!(functions(&bundle), ["start"]);
}
