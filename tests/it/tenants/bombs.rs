//! Guests that make the host hold or do too much for them.

use tokio::task::JoinSet;

use crate::support::client::{answer, get_at};
use crate::support::holds::{Shown, times};
use crate::support::pool::guest;
use crate::support::server::{Server, Site};

/// Requests at a time.
const AT_A_TIME: usize = 8;

/// MiB that may be resident: eight times what an instance and its call may have, what two threads
/// have not given back yet, and the server itself.
const RESIDENT: usize = AT_A_TIME * (16 + 2) + 2 * (32 + 16) + 64;

/// MiB that may be more resident than after the first eight.
const GROWTH: usize = 96;

const MANIFEST: &str = r#"
[defaults]
memory = "16MiB"
cpu_time = "4s"
request_timeout = "5s"
post_return_timeout = "2s"
idle_timeout = "1s"

[apps.hello]
component = "apps/hello.wasm"
[apps.hostile]
component = "apps/hostile.wasm"

[hosts]
"hello.test" = "hello"
"hostile.test" = "hostile"
"#;

/// What is tried, its path, and what the answer begins with.
type Bomb = (&'static str, &'static str, &'static str);

/// What both kinds of guest try.
const BOTH: &[Bomb] = &[
    ("100,000 header maps", "/fields?count=100000&bytes=1", "502"),
    ("1,000 header maps of 30 kB each", "/fields?count=1000&bytes=30000", "502"),
    ("a list of 100,000 headers", "/from-list?count=100000&bytes=1", "502"),
    ("a list of 10 MB", "/from-list?count=10&bytes=1000000", "502"),
    ("100,000 copies of a header map", "/copies?count=100000", "502"),
    ("100,000 bodies that nobody asks for", "/bodies?count=100000&bytes=65536", "502"),
    ("100,000 responses", "/responses?count=100000", "502"),
    ("100,000 timers", "/timers?count=100000", "502"),
    ("a wait for ever", "/for-ever", "504"),
    ("files without a preopened directory", "/files", "200 0"),
    ("1,000 TCP sockets", "/tcp?count=1000", "200 0 made"),
    ("1,000 UDP sockets", "/udp?count=1000", "200 0 made"),
    ("a name in DNS", "/dns", "200 refused"),
    ("a response header of 1 MB", "/answer-header?bytes=1000000", "502"),
];

const OF_P2: &[Bomb] = &[
    ("a header map with a million values", "/append?count=1000000&bytes=10", "502"),
    ("a header of 1 MB", "/append?count=1&bytes=1000000", "502"),
    ("100 MB of randomness", "/random?bytes=100000000", "502"),
    ("a poll of 100,000 timers", "/poll?count=100000", "502"),
    ("more written than was granted", "/stdout?bytes=4000000", "502"),
    ("a read of standard input", "/stdin", "200 false"),
];

/// 0.3 has an error for more than a header map may hold, and lets the host give less randomness.
const OF_P3: &[Bomb] = &[
    ("a header map with a million values", "/append?count=1000000&bytes=10", "200 1310"),
    ("a header of 1 MB", "/append?count=1&bytes=1000000", "200 0"),
    ("100 MB of randomness", "/random?bytes=100000000", "200 65536"),
    ("100,000 streams", "/streams?count=100000", "502"),
    ("100,000 futures", "/futures?count=100000", "502"),
    ("100,000 tasks", "/tasks?count=100000", "502"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_p2_guest_makes_the_host_hold_is_bounded() {
    fails_alone("hostile-p2", BOTH.iter().chain(OF_P2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_p3_guest_makes_the_host_hold_is_bounded() {
    fails_alone("hostile-p3", BOTH.iter().chain(OF_P3)).await;
}

/// Each bomb ends as it should, every time; what is resident stays flat and another app answers.
async fn fails_alone(name: &str, bombs: impl Iterator<Item = &Bomb>) {
    let site = Site::new(MANIFEST);
    site.put("apps/hello.wasm", &guest("hello"));
    site.put("apps/hostile.wasm", &guest(name));
    let server = site.start();
    for (what, path, expected) in bombs {
        // Those that wait take five seconds.
        let rounds = if *expected == "504" { times(1, 10) } else { times(2, 25) };
        server.forget_peak();
        let mut wrong = Vec::new();
        let mut first = None;
        for _ in 0..rounds {
            wrong.extend(round(&server, path, expected).await);
            first.get_or_insert_with(|| server.peak());
        }
        let first = first.unwrap_or_default() >> 20;
        let peak = server.peak() >> 20;
        let figure = match wrong.is_empty() {
            true => format!("all of them, {peak} MiB resident, {first} MiB at first"),
            false => format!("{wrong:.3?}"),
        };
        let row = Shown {
            part: "Tenants: host-side bombs",
            tried: &format!("{name}: {what}"),
            times: rounds * AT_A_TIME,
            bound: &format!("{expected}, memory flat, another app answers"),
        };
        row.holds(figure, wrong.is_empty() && peak <= first + GROWTH && peak < RESIDENT);
    }
}

/// Some bombs side by side, and a good request among them: the answers that are not as expected.
async fn round(server: &Server, path: &'static str, expected: &'static str) -> Vec<String> {
    let mut asked = JoinSet::new();
    for _ in 0..AT_A_TIME {
        let address = server.http;
        asked.spawn(async move {
            let said = match get_at(address, "hostile.test", path).await {
                Ok(reply) => format!("{} {}", reply.status.as_str(), reply.text().trim()),
                Err(error) => error.to_string(),
            };
            (!said.starts_with(expected)).then_some(said)
        });
    }
    let mut wrong = Vec::new();
    let good = answer(server, "hello.test", "/").await;
    if !good.starts_with("200") {
        wrong.push(format!("another app: {good}"));
    }
    while let Some(said) = asked.join_next().await {
        wrong.extend(said.expect("no panic"));
    }
    wrong
}
