//! More events than the kernel keeps: those that tell of a change are among the lost ones.

use std::fs::{self, File};
use std::time::{Duration, Instant};

use super::not_tested;
use crate::support::client::{answer, until_answer};
use crate::support::holds::{Shown, times};
use crate::support::server::{Site, hello_version};

/// What is looked for without a hint is found after ten seconds at the latest.
const HINTED: Duration = Duration::from_secs(6);

/// A queue longer than this is not filled by a test.
const QUEUE_MAX: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_change_among_lost_events_is_found() {
    let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events");
    let queue: usize = match queue.map(|text| text.trim().parse()) {
        Ok(Ok(queue)) if queue <= QUEUE_MAX => queue,
        _ => return not_tested("lost events", "the kernel's queue is unknown or too long"),
    };
    let site = Site::usual();
    let readable = ["apps/one", "apps/two"].map(|name| site.path(name));
    readable.iter().for_each(|path| fs::write(path, "x").expect("a file"));
    let server = site.start();
    assert_eq!(answer(&server, "hello.test", "/version").await, "200 00000001");
    // Its own start is done, and what it has to look at again.
    tokio::time::sleep(Duration::from_secs(1)).await;

    let rounds = times(2, 20);
    let mut longest = Duration::ZERO;
    for round in 1..=rounds {
        let version = u32::try_from(round).expect("a version") + 1;
        server.signal(libc::SIGSTOP);
        // Files that are opened to be read are no hint: only the overflow can be one. The kernel
        // keeps one of several equal events in a row.
        for _ in 0..=queue {
            readable.iter().for_each(|path| drop(File::open(path).expect("open it")));
        }
        site.put("apps/hello.wasm", &hello_version(version));
        server.signal(libc::SIGCONT);
        let begun = Instant::now();
        until_answer(&server, "hello.test", "/version", &format!("200 {version:08}")).await;
        longest = longest.max(begun.elapsed());
    }
    Shown {
        part: "Faults",
        tried: "more events on files than the kernel's queue holds, a changed component after them",
        times: rounds,
        bound: "found within 6 s, where a look without a hint comes after 10 s",
    }
    .holds(format!("the longest took {:.2} s", longest.as_secs_f64()), longest < HINTED);
}
