//! What a guest can do wrong, and that nobody else pays for it.

use std::num::NonZeroUsize;
use std::time::Duration;

use tidegate::config::Limits;
use tidegate::pool::{BodyError, Failure};

use crate::support::pool::{finish, get, inspect, limits, pool, read, spawn, text, until};

for_both_kits! {
    a_trap_fails_its_request_and_the_next_one_is_served,
    a_stack_overflow_fails_its_request_and_the_next_one_is_served,
    a_panic_of_the_guest_fails_its_request_and_the_next_one_is_served,
    a_guest_without_a_response_fails_its_request_and_the_next_one_is_served,
    a_guest_that_exits_well_has_answered_and_is_not_used_again,
    memory_beyond_the_limit_is_refused,
    the_guest_sees_the_scheme_and_authority_of_the_client,
    a_trap_leaves_other_instances_alone,
    a_runtime_that_ends_takes_its_guests_along_and_their_bodies_are_errors,
}

async fn a_trap_fails_its_request_and_the_next_one_is_served(kit: &str) {
    fails(kit, "/trap").await;
}

async fn a_stack_overflow_fails_its_request_and_the_next_one_is_served(kit: &str) {
    fails(kit, "/stack").await;
}

async fn a_panic_of_the_guest_fails_its_request_and_the_next_one_is_served(kit: &str) {
    fails(kit, "/panic").await;
}

async fn a_guest_without_a_response_fails_its_request_and_the_next_one_is_served(kit: &str) {
    fails(kit, "/no-response").await;
}

async fn fails(kit: &str, path: &str) {
    let (pool, tasks) = pool(kit, Limits { max_instances: NonZeroUsize::MIN, ..limits() });
    for _ in 0..5 {
        let failure = pool.handle(get(path)).await.err();
        assert!(matches!(failure, Some(Failure::Guest(_))), "{path}: {failure:?}");
        assert_eq!(text(pool.handle(get("/hello")).await).await, (200, "hello world\n".into()));
    }
    finish(pool, tasks).await;
}

async fn a_guest_that_exits_well_has_answered_and_is_not_used_again(kit: &str) {
    let (pool, tasks) = pool(kit, Limits { max_instances: NonZeroUsize::MIN, ..limits() });
    for instance in 1..5 {
        let answer = pool.handle(get("/exit0")).await.unwrap();
        assert_eq!(answer.instance, instance);
        assert_eq!(read(answer).await, (b"exiting\n".to_vec(), Ok(())));
        until("the store goes", || pool.live() == 0).await;
    }
    finish(pool, tasks).await;
}

async fn memory_beyond_the_limit_is_refused(kit: &str) {
    let (pool, tasks) = pool(kit, limits());
    assert_eq!(text(pool.handle(get("/grow?mib=40")).await).await, (200, "40".into()));
    assert_eq!(text(pool.handle(get("/grow?mib=40")).await).await, (507, "refused\n".into()));
    assert_eq!(text(pool.handle(get("/hello")).await).await.0, 200);
    finish(pool, tasks).await;
}

async fn the_guest_sees_the_scheme_and_authority_of_the_client(kit: &str) {
    let (pool, tasks) = pool(kit, limits());
    for scheme in ["http", "https"] {
        let mut request = get("/");
        let uri = format!("{scheme}://shop.example.com:8443/inspect?a=b%20c");
        *request.http.uri_mut() = uri.parse().unwrap();
        let (_, json) = text(pool.handle(request).await).await;
        let seen: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(seen["scheme"], scheme);
        assert_eq!(seen["authority"], "shop.example.com:8443");
        assert_eq!(seen["path_with_query"], "/inspect?a=b%20c");
        assert_eq!(seen["method"], "GET");
    }
    finish(pool, tasks).await;
}

async fn a_trap_leaves_other_instances_alone(kit: &str) {
    let one = NonZeroUsize::MIN;
    let (pool, tasks) = pool(kit, Limits { max_concurrent_per_instance: one, ..limits() });
    let sleeping: Vec<_> = (0..4).map(|_| spawn(&pool, "/sleep?ms=700")).collect();
    until("all run", || pool.live() == 4).await;
    for _ in 0..4 {
        assert!(pool.handle(get("/trap")).await.is_err());
    }
    for request in sleeping {
        assert_eq!(request.await.unwrap().unwrap().status, 200);
    }
    finish(pool, tasks).await;
}

async fn a_runtime_that_ends_takes_its_guests_along_and_their_bodies_are_errors(kit: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (pool, tasks) = pool(kit, limits());
    let serving = pool.clone();
    let streaming = runtime.spawn(async move {
        let left = tokio::time::timeout(Duration::ZERO, serving.handle(get("/never-answer"))).await;
        assert!(left.is_err());
        serving.handle(get("/drip?ms=20&count=1000000")).await.expect("a head")
    });
    let streaming = streaming.await.unwrap();
    tokio::task::spawn_blocking(move || drop(runtime)).await.unwrap();
    assert_eq!(read(streaming).await.1, Err(BodyError));
    finish(pool, tasks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trap_fails_what_shares_its_p3_instance_and_nothing_that_comes_after() {
    let (pool, tasks) = pool("kit-p3", Limits { max_instances: NonZeroUsize::MIN, ..limits() });
    let streaming = pool.handle(get("/drip?ms=100&count=100")).await.expect("a head");
    let sleeping = spawn(&pool, "/sleep?ms=1500");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(inspect(&pool).await["concurrent"], 3);
    assert!(pool.handle(get("/trap")).await.is_err());

    assert_eq!(read(streaming).await.1, Err(BodyError));
    assert!(matches!(sleeping.await.unwrap().err(), Some(Failure::Guest(_))));
    let after = pool.handle(get("/hello")).await.unwrap();
    assert_eq!((after.instance, text(Ok(after)).await.0), (2, 200));
    finish(pool, tasks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_cannot_start_fails_only_the_request_that_it_was_made_for() {
    // Starts every other time, by chance, and then returns without a response.
    let max_instances = NonZeroUsize::MIN;
    let (pool, tasks) = pool("flaky-start", Limits { max_instances, ..limits() });
    let requests: Vec<_> = (0..64).map(|_| spawn(&pool, "/")).collect();
    let (mut unstarted, mut unanswered) = (0, 0);
    for request in requests {
        match request.await.unwrap().err() {
            Some(Failure::Guest(why)) if why.what == "the guest could not start" => unstarted += 1,
            Some(Failure::Guest(why)) if why.what.contains("without a response") => unanswered += 1,
            other => panic!("{other:?}"),
        }
    }
    // Each made its own attempt; that 64 fall the same way is as likely as 1 in 10^19.
    assert!(unstarted > 0 && unanswered > 0, "{unstarted} and {unanswered}");
    finish(pool, tasks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_that_never_starts_fails_each_request_at_once() {
    let (pool, tasks) = pool("trap-at-start", limits());
    let requests: Vec<_> = (0..64).map(|_| spawn(&pool, "/")).collect();
    for request in requests {
        let failure = request.await.unwrap().err();
        assert_eq!(failure, Some(Failure::Guest("the guest could not start".into())));
    }
    until("every slot is free", || pool.live() == 0).await;
    finish(pool, tasks).await;
}
