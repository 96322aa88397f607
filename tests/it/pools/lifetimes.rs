//! How long an instance stays: while it works, while it may be wanted, and no longer.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use tidegate::config::Limits;

use crate::support::pool::{finish, get, inspect, limits, pool, post, read, spawn, text, until};

for_both_kits! {
    an_idle_instance_leaves_after_its_timeout_and_not_before,
    work_after_the_response_is_finished,
    work_after_the_response_is_bounded,
    work_after_the_response_comes_before_idleness,
    an_instance_serves_as_many_requests_as_it_may,
    a_fresh_instance_per_request_if_so_configured,
    an_evicted_pool_empties_and_can_be_used_again,
    an_evicted_pool_finishes_what_runs,
    whose_client_left_mid_body_the_guest_is_told_and_its_instance_serves_on,
    whose_client_left_before_the_head_the_store_goes_in_time,
}

async fn an_idle_instance_leaves_after_its_timeout_and_not_before(kit: &str) {
    let idle_timeout = Duration::from_secs(1);
    let (pool, tasks) = pool(kit, Limits { idle_timeout, ..limits() });
    text(pool.handle(get("/hello")).await).await;
    let start = Instant::now();
    until("it leaves", || pool.live() == 0).await;
    let stayed = start.elapsed();
    assert!(stayed > idle_timeout * 9 / 10 && stayed < idle_timeout * 2, "{stayed:?}");
    pool.emptied().await;
    finish(pool, tasks).await;
}

async fn work_after_the_response_is_finished(kit: &str) {
    let (pool, tasks) = pool(kit, limits());
    let start = Instant::now();
    assert_eq!(text(pool.handle(get("/post-return?ms=1000")).await).await.1, "answered\n");
    assert!(start.elapsed() < Duration::from_millis(700), "after {:?}", start.elapsed());
    // Its idle timeout is over only later, so it is used again if it lives.
    tokio::time::sleep(Duration::from_millis(1300)).await;
    let next = inspect(&pool).await;
    assert_eq!((&next["served"], &next["concurrent"]), (&2.into(), &1.into()));
    finish(pool, tasks).await;
}

async fn work_after_the_response_is_bounded(kit: &str) {
    let post_return_timeout = Duration::from_secs(1);
    let (pool, tasks) = pool(kit, Limits { post_return_timeout, ..limits() });
    let start = Instant::now();
    assert_eq!(text(pool.handle(get("/post-return?ms=60000")).await).await.1, "answered\n");
    until("it is ended", || pool.live() == 0).await;
    let worked = start.elapsed();
    assert!(worked >= post_return_timeout && worked < post_return_timeout * 2, "{worked:?}");
    finish(pool, tasks).await;
}

async fn work_after_the_response_comes_before_idleness(kit: &str) {
    let idle_timeout = Duration::from_secs(1);
    let post_return_timeout = Duration::from_secs(5);
    let (pool, tasks) = pool(kit, Limits { idle_timeout, post_return_timeout, ..limits() });
    let start = Instant::now();
    text(pool.handle(get("/post-return?ms=1500")).await).await;
    until("it leaves", || pool.live() == 0).await;
    assert!(start.elapsed() > Duration::from_millis(2450), "after {:?}", start.elapsed());
    finish(pool, tasks).await;
}

async fn an_instance_serves_as_many_requests_as_it_may(kit: &str) {
    let max_requests_per_instance = NonZeroUsize::new(3).unwrap();
    let max_instances = NonZeroUsize::MIN;
    let (pool, tasks) = pool(kit, Limits { max_requests_per_instance, max_instances, ..limits() });
    for number in 0..9 {
        let seen = inspect(&pool).await;
        assert_eq!(seen["served"], number % 3 + 1);
    }
    until("none stays", || pool.live() == 0).await;
    finish(pool, tasks).await;
}

async fn a_fresh_instance_per_request_if_so_configured(kit: &str) {
    let max_requests_per_instance = NonZeroUsize::MIN;
    let (pool, tasks) = pool(kit, Limits { max_requests_per_instance, ..limits() });
    let requests: Vec<_> = (0..50).map(|_| spawn(&pool, "/inspect")).collect();
    for request in requests {
        let json = request.await.unwrap().unwrap().text;
        assert!(json.contains(r#""served":1,"concurrent":1"#), "{json}");
    }
    until("none stays", || pool.live() == 0).await;
    finish(pool, tasks).await;
}

async fn an_evicted_pool_empties_and_can_be_used_again(kit: &str) {
    let (pool, tasks) = pool(kit, Limits { max_instances: NonZeroUsize::MIN, ..limits() });
    let first = inspect(&pool).await["instance"].clone();
    let start = Instant::now();
    pool.evict(true);
    pool.emptied().await;
    assert!(start.elapsed() < Duration::from_millis(700), "its idle timeout is longer");

    let second = inspect(&pool).await["instance"].clone();
    assert_ne!(first, second, "served while it is evicting, by another instance");
    until("it keeps none while it is evicting", || pool.live() == 0).await;

    pool.evict(false);
    let third = inspect(&pool).await["instance"].clone();
    assert_eq!(inspect(&pool).await["instance"], third, "warm again");
    finish(pool, tasks).await;
}

async fn an_evicted_pool_finishes_what_runs(kit: &str) {
    let (pool, tasks) = pool(kit, limits());
    let sleeping = spawn(&pool, "/sleep?ms=800");
    let streaming = pool.handle(get("/drip?ms=300&count=4")).await.unwrap();
    let working = pool.handle(get("/post-return?ms=500")).await.unwrap();
    text(Ok(working)).await;
    pool.evict(true);
    assert_eq!(sleeping.await.unwrap().unwrap().text, "slept\n");
    assert_eq!(read(streaming).await, ("tick\n".repeat(4).into_bytes(), Ok(())));
    finish(pool, tasks).await;
}

async fn whose_client_left_mid_body_the_guest_is_told_and_its_instance_serves_on(kit: &str) {
    let (pool, tasks) = pool(kit, Limits { max_instances: NonZeroUsize::MIN, ..limits() });
    let stream_idle_timeout = limits().stream_idle_timeout;
    for _ in 0..4 {
        drop(pool.handle(get("/endless")).await.unwrap());
        let left = Instant::now();
        loop {
            let answer = pool.handle(get("/inspect")).await.unwrap();
            assert_eq!(answer.instance, 1);
            if text(Ok(answer)).await.1.contains(r#""concurrent":1"#) {
                break;
            }
            assert!(left.elapsed() < stream_idle_timeout / 2, "the guest was not told");
        }
    }
    finish(pool, tasks).await;
}

async fn whose_client_left_before_the_head_the_store_goes_in_time(kit: &str) {
    let (pool, tasks) = pool(kit, limits());
    let start = Instant::now();
    let upload = post("/never-answer", vec![0; 1 << 20]);
    let left = tokio::time::timeout(Duration::from_millis(200), pool.handle(upload)).await;
    assert!(left.is_err());
    assert_eq!(pool.live(), 1);
    until("its store goes", || pool.live() == 0).await;
    assert!(start.elapsed() < limits().request_timeout * 2, "after {:?}", start.elapsed());
    finish(pool, tasks).await;
}

/// Its call returns after its answer is out, unlike that of a p3 guest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_p2_guest_with_p3_imports_is_served_and_leaves() {
    let (pool, tasks) = pool("mixed-p2", limits());
    for _ in 0..50 {
        assert_eq!(text(pool.handle(get("/")).await).await.1, "mixed\n");
    }
    // One that is still returning is not waited for, but most find theirs free.
    assert!(pool.live() <= 4, "{}", pool.live());
    until("it leaves", || pool.live() == 0).await;
    finish(pool, tasks).await;
}
