//! The dashboard in a real browser: what it shows of a server with traffic, and what it does not let in.

mod pictures;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::interval;

use crate::admin::{TOKEN, ask_tcp, put_token, tcp_address};
use crate::support::chromium::Page;
use crate::support::client::get;
use crate::support::server::{Server, Site, hello_version};

/// Becomes a script where text is taken for markup.
const MARKUP: &str = "<img src=x onerror=hurt=1>";

const WINDOW: (u32, u32) = (1280, 900);
const TELEPHONE: (u32, u32) = (400, 800);

/// Between two requests of the traffic.
const PACE: Duration = Duration::from_millis(25);

fn manifest(more: &str) -> String {
    format!(
        r#"
[admin]
listen = "127.0.0.1:0"
token_file = "admin.token"

[defaults]
idle_timeout = "5s"
profile = {{ dir = "profiles", sample = "1/1", when = "slow", over = "250ms" }}

[apps.hello]
component = "apps/hello.wasm"
{more}
[apps.p2]
component = "apps/kit-p2.wasm"

[hosts]
"hello.test" = "hello"
"p2.test" = "p2"
"files.test" = {{ "/" = {{ files = "{MARKUP}" }} }}
"#
    )
}

fn site() -> Site {
    let site = Site::usual();
    put_token(&site, TOKEN);
    std::fs::create_dir(site.path(MARKUP)).expect("make a folder");
    site.write_manifest(&manifest(""));
    site
}

/// Requests to two apps, at a pace that leaves the browser its turn.
fn traffic(server: &Server) -> JoinHandle<()> {
    let server = server.http;
    tokio::spawn(async move {
        let mut pace = interval(PACE);
        loop {
            pace.tick().await;
            for host in ["hello.test", "p2.test"] {
                let _ = crate::support::client::get_at(server, host, "/hello").await;
            }
        }
    })
}

/// A profile in the processed format, with one sample of `function`.
fn profile_of(function: &str) -> Value {
    json!({
        "meta": {"interval": 1.0},
        "threads": [{
            "name": MARKUP,
            "stringArray": [function],
            "funcTable": {"length": 1, "name": [0]},
            "frameTable": {"length": 1, "func": [0]},
            "stackTable": {"length": 1, "frame": [0], "prefix": [null]},
            "samples": {"length": 1, "stack": [0], "weight": [1], "weightType": "samples"},
        }],
    })
}

/// Shows the token.
fn log_in(page: &mut Page, token: &str) {
    page.wait_until("!document.querySelector('#login').hidden");
    page.evaluate(&format!("document.querySelector('#token').value = '{token}'"));
    page.evaluate("document.querySelector('#login button').click()");
}

/// Chooses the profile whose name has this in it, once there is one.
fn choose_profile(page: &mut Page, part: &str) {
    let option = format!(
        "[...document.querySelector('#profile').options].find((it) => it.text.includes('{part}'))"
    );
    page.wait_until(&option);
    page.evaluate(&format!(
        "{{ const choice = document.querySelector('#profile'); choice.value = {option}.value; \
         choice.dispatchEvent(new Event('change')) }}"
    ));
}

fn open_profile(page: &mut Page, part: &str) {
    choose_profile(page, part);
    page.wait_until("document.querySelector('.frame')");
}

/// That an element in one of these places has this text in it.
fn is_shown(places: &str, text: &str) -> String {
    let text = json!(text);
    format!(
        "[...document.querySelectorAll('{places}')].some((it) => it.textContent.includes({text}))"
    )
}

/// What `column` of an app's row says.
fn cell(app: &str, column: &str) -> String {
    format!(
        "[...document.querySelectorAll('#apps tbody tr')].find((row) => \
         row.querySelector('.name').textContent === '{app}')\
         .querySelector('[data-label=\"{column}\"]').textContent"
    )
}

/// Nothing went wrong in the page, nothing of another's came into it, and it asked nobody else.
fn assert_clean(page: &mut Page, origin: &str) {
    assert_eq!(page.evaluate("typeof hurt"), "undefined", "text was taken for markup");
    assert_eq!(page.evaluate("document.querySelectorAll('main img').length"), 0);
    let thrown = page.events("Runtime.exceptionThrown");
    assert!(thrown.is_empty(), "{thrown:#?}");
    let said = page.events("Runtime.consoleAPICalled");
    assert!(said.is_empty(), "{said:#?}");
    // That it has to log in is told by an answer of 401.
    let logged = page.events("Log.entryAdded").into_iter().map(|it| it["entry"].clone());
    let grave = logged.filter(|it| {
        it["level"] == "error" && !it["text"].as_str().unwrap_or_default().contains("status of 401")
    });
    assert_eq!(grave.collect::<Vec<_>>(), Vec::<Value>::new());
    for request in page.events("Network.requestWillBeSent") {
        let url = request["request"]["url"].as_str().expect("a URL");
        assert!(url.starts_with(origin), "{url}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_shows_apps_changes_and_profiles_to_who_has_the_token() {
    let Some(mut page) = Page::open(WINDOW) else { return };
    let site = site();
    let server = site.start();
    let origin = format!("http://{}/", tcp_address(&server));
    let traffic = traffic(&server);

    page.go(&origin);
    log_in(&mut page, "not the token");
    page.wait_until(&is_shown("#refused", "not the token"));
    assert_eq!(page.evaluate("document.querySelector('#main').hidden"), true);
    log_in(&mut page, TOKEN);
    page.wait_until("!document.querySelector('#main').hidden");
    page.wait_until(&is_shown("#troubles .good", "Nothing is wrong"));

    // Figures move.
    for app in ["hello", "p2"] {
        let requests = cell(app, "Requests/s");
        page.wait_until(&format!("parseFloat({requests}) > 0"));
        let before = page.evaluate(&requests);
        page.wait_until(&format!("{requests} !== {before}"));
        page.wait_until(&format!("/ms|µs/.test({})", cell(app, "p99")));
        page.wait_until(&format!("/MiB|KiB/.test({})", cell(app, "Memory")));
        page.wait_until(&format!(
            "parseInt({}) + parseInt({}) > 0",
            cell(app, "Busy"),
            cell(app, "Idle")
        ));
    }
    page.wait_until("document.querySelectorAll('#apps .spark .line[d*=L]').length > 0");
    page.wait_until(&is_shown("#routes td", MARKUP));
    page.wait_until("document.querySelectorAll('#listeners tbody tr').length >= 2");

    // A change that is refused, and one that is taken.
    site.write_manifest(&manifest(&format!("\"{MARKUP}\" = 1\n")));
    page.wait_until(&is_shown("#reloads > li:first-child .badge", "refused"));
    page.wait_until(&is_shown("#reloads > li:first-child .problem", MARKUP));
    page.wait_until(&is_shown("#troubles .bad", MARKUP));
    site.put("apps/hello.wasm", &hello_version(2));
    site.write_manifest(&manifest("request_timeout = \"20s\"\n"));
    for change in ["app hello: request_timeout", "component "] {
        page.wait_until(&is_shown("#reloads .diff li", change));
    }
    page.wait_until(&is_shown("#troubles .good", "Nothing is wrong"));

    // A profile of a slow request names what made it slow.
    get(&server, "p2.test", "/tail?every=1&ms=500").await.expect("an answer");
    open_profile(&mut page, "p2-");
    page.wait_until(&is_shown(".frame", "slow_lookup"));
    page.wait_until(&is_shown("#hot tbody tr:first-child", "slow_lookup"));
    page.evaluate(
        "{ const field = document.querySelector('#find'); field.value = 'slow_look'; \
         field.dispatchEvent(new Event('input')) }",
    );
    page.wait_until("[...document.querySelectorAll('.frame.found')].every((it) => it.title.includes('slow_look'))");
    page.wait_until("document.querySelector('.frame.found')");
    // By keyboard alone: down to what is called, to the width of the box, and back.
    page.evaluate("document.querySelector('.frame[tabindex=\"0\"]').focus()");
    page.press("ArrowDown");
    page.press("ArrowDown");
    page.press("Enter");
    page.wait_until("document.querySelectorAll('.frame.caller').length === 2");
    page.wait_until("document.activeElement.classList.contains('frame')");
    page.press("Escape");
    page.wait_until("document.querySelectorAll('.frame.caller').length === 0");

    page.resize(TELEPHONE);
    page.wait_until("document.documentElement.scrollWidth <= innerWidth");
    assert_clean(&mut page, &origin);

    traffic.abort();
    drop(server);
    page.wait_until(&is_shown("#lost:not([hidden])", "No answer since"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_from_guests_are_text() {
    let Some(mut page) = Page::open(WINDOW) else { return };
    let site = site();
    std::fs::create_dir(site.path("profiles")).expect("make profiles/");
    site.put("profiles/p2-1-1.json", profile_of(MARKUP).to_string().as_bytes());
    site.put("profiles/p2-1-2.json", b"{\"threads\": [{}]}");
    let server = site.start();
    let origin = format!("http://{}/", tcp_address(&server));

    page.go(&origin);
    log_in(&mut page, TOKEN);
    open_profile(&mut page, "p2-1-1.json");
    for place in [".frame", "#hot button", "#track option"] {
        page.wait_until(&is_shown(place, MARKUP));
    }
    choose_profile(&mut page, "p2-1-2.json");
    page.wait_until(&is_shown("#profile-note", "cannot be shown"));

    // A script that got in all the same would be stopped by the page's policy.
    let stopped = page.evaluate(
        "(() => { try { document.body.innerHTML = '<b>x</b>'; return false } catch { return true } })()",
    );
    assert_eq!(stopped, true);
    assert_eq!(page.evaluate("typeof hurt"), "undefined");
    for request in page.events("Network.requestWillBeSent") {
        let url = request["request"]["url"].as_str().expect("a URL");
        assert!(url.starts_with(&origin), "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_comes_with_a_strict_policy_and_tells_strangers_nothing() {
    let site = site();
    let server = site.start();
    let address = tcp_address(&server);
    for (path, media_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/dashboard/app.js", "text/javascript; charset=utf-8"),
        ("/dashboard/style.css", "text/css; charset=utf-8"),
        ("/dashboard/icon.svg", "image/svg+xml"),
    ] {
        let reply = ask_tcp(address, ("GET", path), &[], "").await;
        assert_eq!(reply.status, 200, "{path}");
        let header = |name: &str| reply.headers[name].to_str().expect("text");
        assert_eq!(header("content-type"), media_type, "{path}");
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(header("x-content-type-options"), "nosniff");
        let policy = header("content-security-policy");
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(!reply.text().contains("hello"), "{path} tells of an app");
    }
    assert_eq!(ask_tcp(address, ("GET", "/dashboard/none.js"), &[], "").await.status, 404);
    assert_eq!(ask_tcp(address, ("GET", "/v1/profiles"), &[], "").await.status, 401);
}
