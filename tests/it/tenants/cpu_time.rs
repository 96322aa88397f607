//! `cpu_time`: the CPU that one request may use, and nobody's but its own.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::sleep;

use super::cpu::{LOOP, PART, PATIENT, ask, with_apps};
use crate::support::client::{Reply, get};
use crate::support::cores::Busy;
use crate::support::holds::{Shown, times};
use crate::support::server::Server;

const CPU_TIME: Duration = Duration::from_millis(200);
const LIMITED: &str = "cpu_time = \"200ms\"";

for_both_kits! {
    a_request_that_computes_for_longer_than_its_cpu_time_ends,
    time_asleep_is_no_cpu_time,
    time_that_others_compute_is_no_cpu_time,
}

async fn get_of_b(server: &Server, path: &str) -> Reply {
    get(server, "b.test", path).await.unwrap()
}

fn id(reply: &Reply) -> &str {
    reply.headers["x-request-id"].to_str().unwrap()
}

async fn a_request_that_computes_for_longer_than_its_cpu_time_ends(kit: &str) {
    with_apps(kit, [PATIENT, LIMITED], async |server| {
        assert_eq!(get_of_b(server, "/hello").await.status, 200);
        let rounds = times(5, 50);
        let mut used = Vec::new();
        for round in 0..rounds {
            let (begun, before) = (Instant::now(), Busy::of(server));
            let reply = get_of_b(server, LOOP).await;
            assert_eq!(reply.status, 504);
            assert!(begun.elapsed() >= CPU_TIME, "it had no time for it: {:?}", begun.elapsed());
            used.push(Busy::of(server).since(before).ran);
            if round == 0 {
                server.wait_for_log(&format!("limit=cpu_time times=1 by={}", id(&reply)));
            }
        }
        let (least, most) = (*used.iter().min().unwrap(), *used.iter().max().unwrap());
        Shown {
            part: PART,
            tried: &format!("{kit}: loops with a cpu_time of {CPU_TIME:?}"),
            times: rounds,
            bound: "504 after that CPU (less a scheduler's tick), and at most twice it; the log names limit and request",
        }
        .holds(
            format!("{least:.1?} to {most:.1?}"),
            least + Duration::from_millis(10) >= CPU_TIME && most <= 2 * CPU_TIME,
        );
    })
    .await;
}

async fn time_asleep_is_no_cpu_time(kit: &str) {
    with_apps(kit, [PATIENT, LIMITED], async |server| {
        let replies = join_all((0..10).map(|_| get_of_b(server, "/sleep?ms=600"))).await;
        let whole = replies.iter().filter(|reply| reply.status == 200).count();
        // Nor is it where it wakes up often, each time longer after its last deadline.
        let ticks = get_of_b(server, "/drip?ms=3&count=400").await;
        assert_eq!(ticks.text(), "tick\n".repeat(400));
        Shown {
            part: PART,
            tried: &format!("{kit}: requests that sleep for three times their cpu_time"),
            times: replies.len(),
            bound: "all are answered",
        }
        .holds(whole, whole == replies.len());
        assert!(server.logged("limit=cpu_time").is_empty());
    })
    .await;
}

async fn time_that_others_compute_is_no_cpu_time(kit: &str) {
    with_apps(kit, [PATIENT, LIMITED], async |server| {
        let loops = ask(server, "a.test", LOOP, 8, 0);
        assert_eq!(get_of_b(server, "/hello").await.status, 200);
        sleep(Duration::from_millis(200)).await;
        let (mut whole, rounds) = (0, times(5, 50));
        for _ in 0..rounds {
            // By the clock, of which half is its neighbours'.
            whole += usize::from(get_of_b(server, "/spin?ms=300").await.status == 200);
        }
        Shown {
            part: PART,
            tried: &format!(
                "{kit}: half the CPU for 1.5 times cpu_time, the other half is 8 loops'"
            ),
            times: rounds,
            bound: "all are answered",
        }
        .holds(whole, whole == rounds);
        assert_eq!(loops.answered(), 0, "they loop: {:?}", loops.wrong());
    })
    .await;
}

/// The instance that all requests of the app share.
fn shared() -> String {
    format!("{LIMITED}\nmax_instances = 1\nmax_concurrent_per_instance = 16")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_on_an_instance_has_its_own_cpu_time() {
    with_apps("kit-p3", [PATIENT, &shared()], async |server| {
        let replies = join_all((0..10).map(|_| get_of_b(server, "/spin?ms=100"))).await;
        let whole = replies.iter().filter(|reply| reply.status == 200).count();
        Shown {
            part: PART,
            tried: "kit-p3: requests at a time on one instance, together five times cpu_time",
            times: replies.len(),
            bound: "all are answered",
        }
        .holds(whole, whole == replies.len());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_request_on_an_instance_is_named_that_used_up_its_cpu_time() {
    with_apps("kit-p3", [PATIENT, &shared()], async |server| {
        // More often than one after the other would be named by chance.
        let rounds = times(3, 20);
        for _ in 0..rounds {
            let told = server.log().len();
            let sleepers = join_all((0..8).map(|_| get_of_b(server, "/sleep?ms=1000")));
            let looping = async {
                sleep(Duration::from_millis(100)).await;
                get_of_b(server, LOOP).await
            };
            let (_, reply) = tokio::join!(sleepers, looping);
            assert_eq!(reply.status, 504);
            server.wait_for_log_after(told, &format!("limit=cpu_time times=1 by={}", id(&reply)));
            // The limit is only counted for a while.
            sleep(Duration::from_millis(2100)).await;
        }
        Shown {
            part: PART,
            tried: "kit-p3: a request loops on an instance beside 8 that sleep",
            times: rounds,
            bound: "the log names it, each time",
        }
        .holds("it does", true);
    })
    .await;
}
