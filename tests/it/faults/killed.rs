//! Kills at any moment: in a start, the first certificates, writes of code, profiles and logs, a change.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::support::client::{Version, answer, get, get_tls};
use crate::support::holds::{Shown, times};
use crate::support::pool::guest;
use crate::support::server::{Server, Site, hello_version};

/// A site that writes all the time: each request a profile and log lines, whose files roll often.
fn site() -> Site {
    let site = Site::new(&manifest(0));
    site.put("apps/hello.wasm", &hello_version(0));
    site.put("apps/kit-p2.wasm", &guest("kit-p2"));
    site
}

fn manifest(number: u32) -> String {
    format!(
        r#"[server]
http = ["127.0.0.1:0"]
https = ["127.0.0.1:0"]

[log]
dir = "logs"
format = "json"
max_total_size = "256KiB"
keep = 20

[defaults]
max_requests_per_instance = 1
log_rate = 100000
log_burst = 100000
profile = {{ interval = "1ms", sample = "1/1", dir = "profiles", max_files = 20 }}

[apps.hello]
component = "apps/hello.wasm"
env = {{ NUMBER = "{number}" }}

[apps.p2]
component = "apps/kit-p2.wasm"

[hosts]
"hello.test" = "hello"
"p2.test" = "p2"
"#
    )
}

/// Numbers that look random and are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Everything that a server writes while it serves, until it is killed.
async fn work_until_killed(site: &Site, server: Server, version: u32, life: Duration) {
    let server = Arc::new(server);
    let clients =
        [("hello.test", "/"), ("p2.test", "/log?bytes=200&lines=5"), ("p2.test", "/trap")];
    let clients = clients.map(|(host, path)| {
        let server = Arc::clone(&server);
        tokio::spawn(async move { while get(&server, host, path).await.is_ok() {} })
    });
    site.put("apps/hello.wasm", &hello_version(version));
    site.write_manifest(&manifest(version));
    tokio::time::sleep(life).await;
    server.signal(libc::SIGKILL);
    for client in clients {
        client.await.expect("a client");
    }
}

/// Whether each file in `dir` with this extension is whole. A kill may leave others under other names.
fn all_whole(dir: &Path, extension: &str, is_whole: impl Fn(&[u8]) -> bool) -> bool {
    let Ok(entries) = fs::read_dir(dir) else { return true };
    let paths = entries.flatten().map(|entry| entry.path());
    let mut named = paths.filter(|path| path.extension().is_some_and(|it| it == extension));
    named.all(|path| is_whole(&fs::read(path).expect("a file")))
}

/// Lines in the log files that are no JSON.
fn torn_lines(site: &Site) -> usize {
    let Ok(entries) = fs::read_dir(site.path("logs")) else { return 0 };
    let texts = entries.flatten().map(|entry| fs::read_to_string(entry.path()).unwrap_or_default());
    let torn = |text: String| {
        let lines = text.lines().filter(|line| !line.is_empty());
        lines.filter(|line| serde_json::from_str::<Value>(line).is_err()).count()
    };
    texts.map(torn).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_at_any_moment_starts_again_with_all_it_had() {
    let site = site();
    let kills = times(20, 500);
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let (mut shown, mut torn, mut in_start) = (None, 0, 0);
    for number in 1..=kills {
        // Every tenth has all of a first start to do.
        if number % 10 == 5 {
            fs::remove_dir_all(site.path("state")).expect("remove the state");
            shown = None;
        }
        if number % 2 == 0 {
            // Somewhere in its start, which takes some 300 ms.
            let mut command = site.command();
            let mut child = command.stderr(std::process::Stdio::null()).spawn().expect("start");
            tokio::time::sleep(Duration::from_micros(numbers.below(400_000))).await;
            child.kill().expect("kill it");
            child.wait().expect("its end");
            in_start += 1;
        }
        let version = u32::try_from(number).expect("a version");
        let server = site.start();
        let corrupt = server.logged("cannot be used");
        assert_eq!(corrupt, [""; 0], "kill {number}: compiled code that is not whole");
        assert_eq!(answer(&server, "p2.test", "/hello").await, "200 hello world", "kill {number}");
        let reply = get_tls(&site, &server, "hello.test", "/version", Version::H2).await;
        let before = format!("{:08}", version - 1);
        assert_eq!(reply.expect("a reply over TLS").text().trim(), before, "kill {number}");
        let root = site.root();
        assert_eq!(*shown.get_or_insert(root.clone()), root, "kill {number}: another root");

        let life = Duration::from_micros(numbers.below(300_000));
        work_until_killed(&site, server, version, life).await;

        let is_json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).is_ok();
        assert!(all_whole(&site.path("profiles"), "json", is_json), "kill {number}: profiles");
        torn = torn.max(torn_lines(&site));
    }
    Shown {
        part: "Faults",
        tried: "kill -9 at random: in starts, first certificates, writes of code, profiles and logs, changes",
        times: kills + in_start,
        bound: "it always starts again, with the same root and the newest component; no profile and no code is torn, of each log file at most a line per kill",
    }
    .holds(format!("all of it; {torn} lines were cut"), torn <= kills);
}
