//! The CPU, shared among apps by their weights.
//!
//! Each server is kept on one core. What an app has had of it is counted by its requests that
//! loop until their `cpu_time` ends them: each is that much CPU, whatever the machine does besides.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::support::client::Reply;
use crate::support::connection::{Connection, Transport};
use crate::support::cores::{Busy, pinned, ticker_sleeps};
use crate::support::holds::{Shown, times};
use crate::support::pool::guest;
use crate::support::server::{PATIENCE, Server, Site};
use crate::support::traffic::Traffic;

pub const PART: &str = "Tenants: CPU";

/// Requests that are counted: each loops until it has used this much CPU.
const COUNTED: &str = "cpu_time = \"20ms\"";
const WORK: Duration = Duration::from_millis(20);

/// Requests that are not.
pub const PATIENT: &str = "cpu_time = \"60s\"";

pub const LOOP: &str = "/spin?ms=0";

for_both_kits! {
    fifty_loops_of_one_app_do_not_hold_up_another,
    apps_that_all_compute_have_the_cpu_by_their_weights,
    an_app_alone_has_all_of_the_cpu,
    an_app_that_was_idle_has_no_credit,
    what_times_out_while_it_waits_for_the_cpu_leaves_it,
    the_ticker_sleeps_while_no_guest_runs,
}

/// A server on one core, with the apps `a.test` and `b.test` of one kit and these settings.
///
/// For each kit one at a time: they would share their core.
pub async fn with_apps(kit: &str, [a, b]: [&str; 2], test: impl AsyncFnOnce(&Server)) {
    static TURNS: [Mutex<()>; 2] = [Mutex::const_new(()), Mutex::const_new(())];
    let core = usize::from(kit == "kit-p3");
    let _turn = TURNS[core].lock().await;
    let site = Site::new(&format!(
        "[defaults]\nmax_concurrent_per_instance = 1\nrequest_timeout = \"60s\"\n\
         [apps.a]\ncomponent = \"apps/kit.wasm\"\n{a}\n\
         [apps.b]\ncomponent = \"apps/kit.wasm\"\n{b}\n\
         [hosts]\n\"a.test\" = \"a\"\n\"b.test\" = \"b\"\n"
    ));
    site.put("apps/kit.wasm", &guest(kit));
    let server = Server::spawn(pinned(site.command(), core));
    test(&server).await;
}

/// Clients that ask `host` for `path` again and again, and expect this status.
pub fn ask(server: &Server, host: &str, path: &str, clients: usize, status: u16) -> Traffic {
    let mut traffic = Traffic::default();
    for _ in 0..clients {
        let judge = move |(), _: &Connection, reply: Reply| match reply.status == status {
            true => Ok(()),
            false => Err(format!("{} {:?}", reply.status, reply.text())),
        };
        traffic.add(&Transport::plain(server), (host, path), u32::MAX, || (), judge);
    }
    traffic
}

/// How many requests each of them had answered when all together had so many.
async fn done_of<const N: usize>(count: usize, traffic: [&Traffic; N]) -> [f64; N] {
    let before = traffic.map(Traffic::answered);
    let begun = Instant::now();
    loop {
        let now = traffic.map(Traffic::answered);
        let done: [u64; N] = std::array::from_fn(|which| now[which] - before[which]);
        if done.iter().sum::<u64>() >= count as u64 {
            return done.map(|done| done as f64);
        }
        assert!(begun.elapsed() < PATIENCE, "{done:?} of {count}");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn fifty_loops_of_one_app_do_not_hold_up_another(kit: &str) {
    with_apps(kit, [PATIENT, PATIENT], async |server| {
        let loops = ask(server, "a.test", LOOP, 50, 0);
        let rounds = times(30, 300);
        let mut b = Connection::open(&Transport::plain(server), "b.test").await.unwrap();
        assert_eq!(b.get("/hello").await.unwrap().status, 200);
        sleep(Duration::from_millis(500)).await;
        for (path, work) in [("/hello", 0), ("/spin?ms=5", 5)] {
            let mut latencies = Vec::new();
            for _ in 0..rounds {
                let begun = Instant::now();
                assert_eq!(b.get(path).await.unwrap().status, 200);
                latencies.push(begun.elapsed());
                sleep(Duration::from_millis(10)).await;
            }
            latencies.sort();
            // Fifty loops before each slice of a millisecond would be fifty and more.
            let bound = Duration::from_millis(15 + work);
            let median = latencies[rounds / 2];
            Shown {
                part: PART,
                tried: &format!("{kit}: {path} on one core, beside 50 loops of another app"),
                times: rounds,
                bound: &format!(
                    "half of the answers within {bound:?} (the bench measures more closely)"
                ),
            }
            .holds(format!("{median:?}"), median <= bound);
        }
        assert_eq!(loops.answered(), 0, "they loop: {:?}", loops.wrong());
    })
    .await;
}

async fn apps_that_all_compute_have_the_cpu_by_their_weights(kit: &str) {
    let heavy = format!("cpu_weight = 300\n{COUNTED}");
    with_apps(kit, [&heavy, COUNTED], async |server| {
        let (a, b) = (ask(server, "a.test", LOOP, 4, 504), ask(server, "b.test", LOOP, 12, 504));
        sleep(Duration::from_millis(500)).await;
        let [a, b] = done_of(times(200, 1000), [&a, &b]).await;
        Shown {
            part: PART,
            tried: &format!(
                "{kit}: weights of 3 to 1, the lighter app with three times as many loops"
            ),
            times: (a + b) as usize,
            bound: "2 to 4.5 times the work done",
        }
        .holds(format!("{:.2}", a / b), (2.0..=4.5).contains(&(a / b)));
    })
    .await;
}

async fn an_app_alone_has_all_of_the_cpu(kit: &str) {
    // The lightest there is.
    let light = format!("cpu_weight = 1\n{COUNTED}");
    with_apps(kit, [&light, "cpu_weight = 10000"], async |server| {
        let a = ask(server, "a.test", LOOP, 4, 504);
        sleep(Duration::from_millis(500)).await;
        let (begun, before) = (Instant::now(), Busy::of(server));
        let [done] = done_of(100, [&a]).await;
        let (time, busy) = (begun.elapsed(), Busy::of(server).since(before));
        let wanted = (busy.ran + busy.waited).as_secs_f64() / time.as_secs_f64();
        let used = done * WORK.as_secs_f64() / busy.ran.as_secs_f64();
        Shown {
            part: PART,
            tried: &format!("{kit}: loops of an app of weight 1, alone on the node"),
            times: done as usize,
            bound: "the core is never idle (90 %), and its time is the guests' (70 %)",
        }
        .holds(format!("{wanted:.2} and {used:.2}"), wanted >= 0.9 && used >= 0.7);
    })
    .await;
}

async fn an_app_that_was_idle_has_no_credit(kit: &str) {
    with_apps(kit, [COUNTED, COUNTED], async |server| {
        let a = ask(server, "a.test", LOOP, 4, 504);
        sleep(Duration::from_secs(3)).await;
        let b = ask(server, "b.test", LOOP, 4, 504);
        sleep(Duration::from_millis(200)).await;
        let [done, other] = done_of(times(80, 400), [&a, &b]).await;
        let share = done / (done + other);
        Shown {
            part: PART,
            tried: &format!("{kit}: an app computes for 3 s before another of its weight begins"),
            times: (done + other) as usize,
            bound: "it keeps half of the CPU (0.35 to 0.65)",
        }
        .holds(format!("{share:.2}"), (0.35..=0.65).contains(&share));
    })
    .await;
}

async fn what_times_out_while_it_waits_for_the_cpu_leaves_it(kit: &str) {
    let short = format!("{PATIENT}\nrequest_timeout = \"1s\"");
    with_apps(kit, [&short, COUNTED], async |server| {
        let transport = Transport::plain(server);
        let loops = (0..50).map(|_| {
            let transport = transport.clone();
            tokio::spawn(async move {
                let mut connection = Connection::open(&transport, "a.test").await.unwrap();
                connection.get(LOOP).await.unwrap().status
            })
        });
        for status in futures_util::future::join_all(loops).await {
            assert_eq!(status.unwrap(), 504);
        }
        let before = Busy::of(server);
        sleep(Duration::from_secs(1)).await;
        let idle = Busy::of(server).since(before);
        let b = ask(server, "b.test", LOOP, 2, 504);
        sleep(Duration::from_millis(200)).await;
        let before = Busy::of(server);
        let [done] = done_of(40, [&b]).await;
        let used = done * WORK.as_secs_f64() / Busy::of(server).since(before).ran.as_secs_f64();
        Shown {
            part: PART,
            tried: &format!("{kit}: after 50 loops have timed out, nearly all of them waiting"),
            times: 50,
            bound: "the core is idle (10 % used), and another app has it (70 %)",
        }
        .holds(
            format!("{:.2} and {used:.2}", idle.ran.as_secs_f64()),
            idle.ran < Duration::from_millis(100) && used >= 0.7,
        );
    })
    .await;
}

async fn the_ticker_sleeps_while_no_guest_runs(kit: &str) {
    with_apps(kit, [PATIENT, PATIENT], async |server| {
        let mut a = Connection::open(&Transport::plain(server), "a.test").await.unwrap();
        assert_eq!(a.get("/spin?ms=50").await.unwrap().status, 200);
        let before = ticker_sleeps(server);
        assert!(before > 10, "it ticks while a guest runs: {before}");
        // It ticks for a while after the last guest.
        sleep(Duration::from_secs(1)).await;
        let seconds = times(5, 20);
        let before = ticker_sleeps(server);
        sleep(Duration::from_secs(seconds as u64)).await;
        let woken = ticker_sleeps(server) - before;
        Shown {
            part: PART,
            tried: &format!(
                "{kit}: wake-ups of the ticker's thread in {seconds} s without a guest"
            ),
            times: 1,
            bound: "fewer than one a second",
        }
        .holds(woken, woken < seconds as u64);
    })
    .await;
}
