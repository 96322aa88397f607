//! How long a request may run: at least its timeout, never more than twice that.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use tidegate::config::Limits;
use tidegate::pool::{BodyError, Failure, Pool};

use crate::support::pool::{finish, get, inspect, limits, pool, read, spawn, text, until};

const TIMEOUT: Duration = Duration::from_secs(2);

/// What a busy machine takes to notice that a moment has come.
const LATE: Duration = Duration::from_millis(400);

for_both_kits! {
    a_guest_that_sleeps_is_ended_between_one_and_two_timeouts,
    a_guest_that_computes_is_ended_between_one_and_two_timeouts,
    a_guest_that_computes_after_its_head_is_ended,
    a_guest_that_stalls_after_its_head_is_ended,
    a_stream_outlives_the_request_timeout,
    who_has_queued_still_gets_its_full_time,
    who_queues_for_the_queue_timeout_is_told_that_the_app_is_busy,
    guests_that_compute_do_not_starve_the_timeouts_of_others,
}

async fn a_guest_that_sleeps_is_ended_between_one_and_two_timeouts(kit: &str) {
    times_out(kit, "/never-answer").await;
}

async fn a_guest_that_computes_is_ended_between_one_and_two_timeouts(kit: &str) {
    times_out(kit, "/spin?ms=0").await;
}

async fn times_out(kit: &str, path: &str) {
    let (pool, tasks) = pool(kit, limits());
    let start = Instant::now();
    let failure = pool.handle(get(path)).await.err();
    assert_eq!(failure, Some(Failure::TimedOut));
    assert!(start.elapsed() >= TIMEOUT, "after {:?}", start.elapsed());
    assert!(start.elapsed() < TIMEOUT * 2, "after {:?}", start.elapsed());
    ended_by(&pool, start + TIMEOUT * 2).await;
    finish(pool, tasks).await;
}

async fn ended_by(pool: &Pool, deadline: Instant) {
    until("its store goes", || pool.live() == 0).await;
    let now = Instant::now();
    assert!(now < deadline + LATE, "{:?} too late", now - deadline);
}

async fn a_guest_that_computes_after_its_head_is_ended(kit: &str) {
    is_cut_after_its_head(kit, "/spin-after-head?ms=0").await;
}

async fn a_guest_that_stalls_after_its_head_is_ended(kit: &str) {
    is_cut_after_its_head(kit, "/stall").await;
}

async fn is_cut_after_its_head(kit: &str, path: &str) {
    let (pool, tasks) = pool(kit, limits());
    let start = Instant::now();
    let answer = pool.handle(get(path)).await.expect("a head");
    assert!(start.elapsed() < TIMEOUT / 2, "the head took {:?}", start.elapsed());
    assert_eq!(read(answer).await, (b"partial".to_vec(), Err(BodyError)));
    assert!(start.elapsed() >= TIMEOUT, "after {:?}", start.elapsed());
    ended_by(&pool, start + TIMEOUT * 2).await;
    finish(pool, tasks).await;
}

async fn a_stream_outlives_the_request_timeout(kit: &str) {
    let (pool, tasks) = pool(kit, limits());
    let start = Instant::now();
    let (_, body) = text(pool.handle(get("/drip?ms=500&count=9")).await).await;
    assert_eq!(body, "tick\n".repeat(9));
    assert!(start.elapsed() > TIMEOUT * 2);
    finish(pool, tasks).await;
}

async fn who_has_queued_still_gets_its_full_time(kit: &str) {
    let (pool, tasks) = pool(kit, one_at_a_time());
    let start = Instant::now();
    let first = spawn(&pool, "/sleep?ms=1500");
    until("the first runs", || pool.live() == 1).await;
    let second = pool.handle(get("/sleep?ms=1500")).await;
    assert_eq!(text(second).await, (200, "slept\n".into()));
    assert!(start.elapsed() > Duration::from_millis(3000), "they ran one after the other");
    assert!(first.await.unwrap().is_ok());
    finish(pool, tasks).await;
}

async fn who_queues_for_the_queue_timeout_is_told_that_the_app_is_busy(kit: &str) {
    let queue_timeout = Duration::from_secs(1);
    let (pool, tasks) = pool(kit, Limits { queue_timeout, ..one_at_a_time() });
    let running = pool.handle(get("/drip?ms=100&count=25")).await.expect("a head");
    let running = tokio::spawn(read(running));
    let start = Instant::now();
    let failure = pool.handle(get("/hello")).await.err();
    assert!(matches!(failure, Some(Failure::Busy { .. })), "{failure:?}");
    assert!(start.elapsed() >= queue_timeout, "after {:?}", start.elapsed());
    assert!(start.elapsed() < queue_timeout + LATE, "after {:?}", start.elapsed());
    assert_eq!(running.await.unwrap().1, Ok(()));
    finish(pool, tasks).await;
}

async fn guests_that_compute_do_not_starve_the_timeouts_of_others(kit: &str) {
    // An instance each: p3 ones that wait may well be joined by one that computes.
    let max_concurrent_per_instance = NonZeroUsize::MIN;
    let (pool, tasks) = pool(kit, Limits { max_concurrent_per_instance, ..limits() });
    // More of them than there are threads.
    let spinning: Vec<_> = (0..4).map(|_| spawn(&pool, "/spin?ms=0")).collect();
    let start = Instant::now();
    assert_eq!(text(pool.handle(get("/sleep?ms=500")).await).await.0, 200);
    for request in spinning {
        assert_eq!(request.await.unwrap().err(), Some(Failure::TimedOut));
        assert!(start.elapsed() < TIMEOUT * 2, "after {:?}", start.elapsed());
    }
    ended_by(&pool, start + TIMEOUT * 2).await;
    finish(pool, tasks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_late_on_a_p3_instance_gets_its_full_time_and_who_comes_too_late_another_instance()
 {
    let max_instances = NonZeroUsize::MIN;
    let (pool, tasks) = pool("kit-p3", Limits { max_instances, ..limits() });
    let start = Instant::now();
    let stuck = spawn(&pool, "/never-answer");
    tokio::time::sleep(TIMEOUT * 3 / 4).await;
    let late = spawn(&pool, "/sleep?ms=1700");

    assert_eq!(stuck.await.unwrap().err(), Some(Failure::TimedOut));
    assert!(start.elapsed() < TIMEOUT + LATE, "after {:?}", start.elapsed());
    let too_late = spawn(&pool, "/sleep?ms=0");
    let late = late.await.unwrap().expect("its full time");
    assert_eq!(late.instance, 1);
    assert_eq!(too_late.await.unwrap().expect("an instance").instance, 2);
    assert!(start.elapsed() < TIMEOUT * 2 + LATE, "after {:?}", start.elapsed());
    finish(pool, tasks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_joins_a_p3_instance_while_it_computes() {
    for path in ["/spin?ms=1500", "/spin-after-head?ms=1500"] {
        let (pool, tasks) = pool("kit-p3", limits());
        assert!(pool.handle(get("/hello")).await.is_ok());
        let computing = spawn(&pool, path);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut others = Vec::new();
        for _ in 0..5 {
            let start = Instant::now();
            others.push(pool.handle(get("/hello")).await.unwrap().instance);
            assert!(start.elapsed() < Duration::from_millis(500), "{path}: {:?}", start.elapsed());
        }
        let computed = computing.await.unwrap().unwrap();
        assert!(!others.contains(&computed.instance), "{path}: {others:?}");
        drop(computed);
        finish(pool, tasks).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_queues_for_a_p3_instance_that_computes_is_not_charged_for_what_others_compute() {
    let max_instances = NonZeroUsize::MIN;
    let (pool, tasks) = pool("kit-p3", Limits { max_instances, ..limits() });
    // One after the other, three of them begin before their time in the queue is over. All at
    // once, the third would time out.
    let requests: Vec<_> = (0..5).map(|_| spawn(&pool, "/spin?ms=700")).collect();
    let mut served = 0;
    for request in requests {
        match request.await.unwrap() {
            Ok(_) => served += 1,
            Err(failure) => assert!(matches!(failure, Failure::Busy { .. }), "{failure:?}"),
        }
    }
    assert!(served >= 2, "{served}");
    finish(pool, tasks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_p3_instance_takes_others_again_after_it_has_computed() {
    let (pool, tasks) = pool("kit-p3", Limits { max_instances: NonZeroUsize::MIN, ..limits() });
    assert!(pool.handle(get("/spin?ms=300")).await.is_ok());
    let sleeping = spawn(&pool, "/sleep?ms=500");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(inspect(&pool).await["concurrent"], 2);
    assert!(sleeping.await.unwrap().is_ok());
    finish(pool, tasks).await;
}

fn one_at_a_time() -> Limits {
    let one = NonZeroUsize::MIN;
    Limits { max_instances: one, max_concurrent_per_instance: one, ..limits() }
}
