//! Makes the pictures in `docs/`, from a server that has something to show.

use std::path::Path;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::interval;

use super::{is_shown, log_in, open_profile};
use crate::admin::{TOKEN, put_token, tcp_address};
use crate::support::certificates::pair;
use crate::support::chromium::Page;
use crate::support::client::{get, get_at};
use crate::support::server::{Server, Site, hello_version};

const WIDTH: u32 = 1280;

/// As much of the page as shows the apps, and the changes.
const HEIGHT: u32 = 1100;

fn manifest(shop: &str) -> String {
    format!(
        r#"
[admin]
listen = "127.0.0.1:0"
token_file = "admin.token"

[defaults]
profile = {{ sample = "1/1", when = "slow", over = "200ms" }}

[apps.shop]
component = "apps/kit-p3.wasm"
{shop}
[apps.search]
component = "apps/kit-p2.wasm"
[apps.reports]
component = "apps/kit-p2.wasm"
idle_timeout = "2s"
profile = {{ sample = "1/1", when = "always" }}
[apps.images]
component = "apps/kit-p3.wasm"
[apps.site]
component = "apps/hello.wasm"

[tls.certificates]
"secure.example.com" = {{ cert = "shop.crt", key = "shop.key" }}

[hosts]
"shop.example.com" = {{ "/" = "shop", "/assets" = {{ files = "assets" }} }}
"search.example.com" = "search"
"images.example.com" = "images"
"reports.example.com" = "reports"
"secure.example.com" = "shop"
"www.example.com" = "site"
"example.com" = {{ "/" = {{ redirect = {{ to = "https://www.example.com", keep_path = true }} }} }}
"*" = {{ "/" = {{ respond = {{ status = 404 }} }} }}
"#
    )
}

/// Clients that ask a host for a path so many times a second, each with its own pace.
fn traffic(server: &Server) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for (host, path, a_second) in [
        ("shop.example.com", "/hello", 40),
        ("shop.example.com", "/work?turns=100000", 12),
        ("shop.example.com", "/sleep?ms=40", 9),
        ("search.example.com", "/work?turns=300000", 7),
        ("search.example.com", "/status?code=503", 1),
        ("images.example.com", "/blob?bytes=300000", 6),
        ("images.example.com", "/sleep?ms=120", 3),
        ("www.example.com", "/", 25),
    ] {
        let address = server.http;
        let mut pace = interval(Duration::from_secs(1) / a_second);
        clients.spawn(async move {
            loop {
                pace.tick().await;
                let _ = get_at(address, host, path).await;
            }
        });
    }
    clients
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "makes the pictures in docs/"]
async fn make() {
    let Some(mut page) = Page::open((WIDTH, HEIGHT)) else { return };
    let site = Site::usual();
    put_token(&site, TOKEN);
    let shop = pair("secure.example.com");
    site.put("shop.crt", shop.cert.as_bytes());
    site.put("shop.key", shop.key.as_bytes());
    std::fs::create_dir(site.path("assets")).expect("make a folder");
    site.write_manifest(&manifest(""));
    let server = site.start();
    let mut clients = traffic(&server);

    page.prefer("light");
    page.go(&format!("http://{}/", tcp_address(&server)));
    log_in(&mut page, TOKEN);
    page.wait_until(&is_shown("#troubles .good", "Nothing is wrong"));
    site.write_manifest(&manifest("request_timeout = \"half a minute\""));
    page.wait_until(&is_shown("#reloads .badge", "refused"));
    site.write_manifest(&manifest("request_timeout = \"20s\"\napp_memory = \"512MiB\""));
    page.wait_until(&is_shown("#reloads .diff li", "request_timeout"));
    site.put("apps/hello.wasm", &hello_version(2));
    page.wait_until(&is_shown("#reloads .diff li", "component"));
    // All of what its one instance did is in one profile, once that has been idle for a while.
    for path in
        ["/tail?every=1&ms=420", "/work?turns=200000000", "/spin?ms=130", "/blob?bytes=60000000"]
    {
        get(&server, "reports.example.com", path).await.expect("an answer");
    }
    open_profile(&mut page, "reports-1-1.json");

    // The lines are as long as they are wide.
    page.wait_until(
        "document.querySelector('#totals .line').getAttribute('d').split('L').length > 55",
    );
    for scheme in ["light", "dark"] {
        page.prefer(scheme);
        let picture = page.picture([0.0, 0.0, f64::from(WIDTH), f64::from(HEIGHT)]);
        write(&format!("dashboard-{scheme}.png"), &picture);
    }
    page.prefer("light");
    page.evaluate(
        "{ const field = document.querySelector('#find'); field.value = 'slow_lookup'; \
         field.dispatchEvent(new Event('input')) }",
    );
    let part = page.evaluate(
        "(() => { const { left, top, width, height } = document.querySelector('#graph').closest('section').getBoundingClientRect(); \
         return [left, top + scrollY, width, height] })()",
    );
    let [left, top, width, height]: [f64; 4] = serde_json::from_value(part).expect("four numbers");
    const MARGIN: f64 = 14.0;
    let all = [left - MARGIN, top - MARGIN, width + 2.0 * MARGIN, height + 2.0 * MARGIN];
    write("flamegraph.png", &page.picture(all));
    clients.shutdown().await;
}

fn write(name: &str, picture: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    std::fs::create_dir_all(&folder).expect("make docs/");
    std::fs::write(folder.join(name), picture).expect("write a picture");
}
