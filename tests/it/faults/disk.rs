//! A disk without room, for logs, profiles, compiled code and the rest of the state.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::not_tested;
use crate::support::client::{Version, answer, get, get_tls, until_answer};
use crate::support::disk::Disk;
use crate::support::holds::{Shown, times};
use crate::support::pool::guest;
use crate::support::server::{Server, Site, hello_version, wait_until};

/// A site with all that it writes on a small disk, each request's instance of its own and sampled.
fn site() -> Option<(Site, Disk)> {
    let site = Site::new(
        r#"[server]
http = ["127.0.0.1:0"]
https = ["127.0.0.1:0"]
state_dir = "disk/state"

[log]
dir = "disk/logs"
rotation = "never"
max_total_size = "8MiB"

[defaults]
max_requests_per_instance = 1
profile = { interval = "1ms", sample = "1/1", dir = "disk/profiles", max_total_size = "1MiB" }

[apps.hello]
component = "apps/hello.wasm"

[apps.p2]
component = "apps/kit-p2.wasm"

[hosts]
"hello.test" = "hello"
"p2.test" = "p2"
"#,
    );
    site.put("apps/hello.wasm", &guest("hello"));
    site.put("apps/kit-p2.wasm", &guest("kit-p2"));
    symlink("disk/state", site.path("state")).expect("link");
    match Disk::mount(site.path("disk")) {
        Ok(disk) => Some((site, disk)),
        Err(reason) => {
            not_tested("a full disk", format_args!("cannot mount a file system: {reason}"));
            None
        }
    }
}

/// What lies in a folder that is no whole file under its own name.
fn torn(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let files = entries.map(|entry| entry.expect("an entry").path());
    let is_torn = |path: &PathBuf| match path.extension().and_then(|it| it.to_str()) {
        Some("json") => serde_json::from_slice::<Value>(&fs::read(path).unwrap()).is_err(),
        Some("cwasm") => fs::metadata(path).unwrap().len() == 0,
        _ => true,
    };
    files.filter(is_torn).map(|path| path.display().to_string()).collect()
}

fn profiles(site: &Site) -> usize {
    fs::read_dir(site.path("disk/profiles")).map_or(0, Iterator::count)
}

async fn serves(server: &Server, requests: usize) {
    for _ in 0..requests {
        let reply = answer(server, "p2.test", "/hello").await;
        assert_eq!(reply, "200 hello world", "{:#?}", server.complaints());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_nothing_and_leaves_nothing_torn() {
    let Some((site, disk)) = site() else { return };
    let mut server = site.start();
    let rounds = times(1, 20);
    for round in 1..=rounds {
        disk.fill();
        serves(&server, 50).await;
        server.wait_for_log("log lines are lost: No space left on device");
        server.wait_for_log("a profile was lost");
        // Code that cannot be kept serves all the same.
        let number = u32::try_from(round).unwrap();
        site.put("apps/hello.wasm", &hello_version(number * 2));
        let version = format!("200 {:08}", number * 2);
        until_answer(&server, "hello.test", "/version", &version).await;
        server.wait_for_log("compiled code was not kept");
        let reply = get_tls(&site, &server, "p2.test", "/hello", Version::H2).await;
        assert_eq!(reply.expect("a reply over TLS").status, 200);
        for dir in ["disk/state/cache", "disk/profiles"] {
            wait_until("nothing torn lies on the full disk", || torn(&site.path(dir)).is_empty());
        }

        // A start on a full disk, too.
        drop(server);
        server = site.start();
        serves(&server, 5).await;
        until_answer(&server, "hello.test", "/version", &version).await;

        disk.make_room();
        let before = profiles(&site);
        let log = || fs::read_to_string(site.path("disk/logs/tidegate.log")).unwrap_or_default();
        wait_until("lines and profiles are written again", || {
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(serves(&server, 1));
            });
            profiles(&site) > before
                && log().contains("log lines were lost: they could not be written")
        });
        let cached = fs::read_dir(site.path("disk/state/cache")).unwrap().count();
        site.put("apps/hello.wasm", &hello_version(number * 2 + 1));
        wait_until("new code is kept again", || {
            fs::read_dir(site.path("disk/state/cache")).unwrap().count() > cached
        });
        for dir in ["disk/state/cache", "disk/profiles"] {
            wait_until("nothing torn is left", || torn(&site.path(dir)).is_empty());
        }
    }
    Shown {
        part: "Faults",
        tried: "ENOSPC on logs, profiles, compiled code and state, while it serves and at a start",
        times: rounds,
        bound: "every request answered, the loss told, nothing torn left, all written again once there is room",
    }
    .holds("all of it", true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_on_a_full_disk_says_what_it_needs() {
    let Some((site, disk)) = site() else { return };
    fs::create_dir_all(site.path("disk/logs")).expect("make logs/");
    fs::create_dir_all(site.path("disk/state/ca")).expect("make state/ca/");
    disk.fill();
    let (status, text) = site.tidegate(&["run"]);
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.contains("cannot write") && text.contains("root.pem"), "{text}");
    assert!(text.contains("No space left on device"), "{text}");
    assert_eq!(fs::read_dir(site.path("disk/state/ca")).unwrap().count(), 0, "nothing is left");

    disk.make_room();
    let server = site.start();
    assert_eq!(get(&server, "p2.test", "/hello").await.expect("a reply").status, 200);
}
