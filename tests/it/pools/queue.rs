//! Which instance takes which request, and what those do that find none.

use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use tidegate::config::Limits;
use tidegate::pool::{Answer, Failure, Pool};

use crate::support::pool::{finish, get, inspect, limits, pool, spawn, text, until};

/// As many as wait by default.
const QUEUE: usize = 1024;

for_both_kits! {
    the_most_recently_used_instance_serves_and_the_others_leave,
    no_more_instances_than_allowed_and_the_rest_queue,
    those_who_queue_are_served_in_order,
    when_the_queue_is_full_the_next_is_refused_at_once,
    a_queued_request_whose_caller_left_is_never_run,
    who_leaves_the_queue_makes_room_in_it,
}

async fn the_most_recently_used_instance_serves_and_the_others_leave(kit: &str) {
    let idle_timeout = Duration::from_secs(1);
    let (pool, tasks) = pool(kit, Limits { idle_timeout, ..alone() });
    let sleeping: Vec<_> = (0..4).map(|_| spawn(&pool, "/sleep?ms=300")).collect();
    until("four run", || pool.live() == 4).await;
    for request in sleeping {
        request.await.unwrap().unwrap();
    }
    // Taken in turn, each of the four would be used every 80 ms, and none would ever leave.
    let start = Instant::now();
    while pool.live() > 1 {
        assert!(start.elapsed() < idle_timeout * 4, "{} stay", pool.live());
        inspect(&pool).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    finish(pool, tasks).await;
}

async fn no_more_instances_than_allowed_and_the_rest_queue(kit: &str) {
    let max_instances = NonZeroUsize::new(3).unwrap();
    let (pool, tasks) = pool(kit, Limits { max_instances, ..alone() });
    let requests: Vec<_> = (0..30).map(|_| spawn(&pool, "/sleep?ms=20")).collect();
    let mut most = 0;
    until("all are served", || {
        most = most.max(pool.live());
        requests.iter().all(tokio::task::JoinHandle::is_finished)
    })
    .await;
    assert_eq!(most, 3);
    for request in requests {
        assert!(request.await.unwrap().unwrap().instance <= 3);
    }
    finish(pool, tasks).await;
}

async fn those_who_queue_are_served_in_order(kit: &str) {
    let (pool, tasks) = pool(kit, Limits { max_instances: NonZeroUsize::MIN, ..alone() });
    let mut waiting = Vec::new();
    for path in ["/sleep?ms=300", "/inspect", "/inspect", "/inspect", "/inspect"] {
        // A task each, for who is next takes its turn itself.
        waiting.push(tokio::spawn(begun(&pool, path).await));
    }
    let last = waiting.pop().unwrap();
    let (_, json) = text(last.await.unwrap()).await;
    assert!(json.contains(r#""served":5"#), "{json}");
    for request in waiting {
        assert!(request.await.unwrap().is_ok());
    }
    finish(pool, tasks).await;
}

async fn when_the_queue_is_full_the_next_is_refused_at_once(kit: &str) {
    let (pool, tasks) = pool(kit, Limits { max_instances: NonZeroUsize::MIN, ..alone() });
    let running = spawn(&pool, "/sleep?ms=1500");
    until("it runs", || pool.live() == 1).await;
    let mut queued = Vec::new();
    for _ in 0..QUEUE {
        queued.push(begun(&pool, "/hello").await);
    }

    let mut waits = Vec::new();
    for _ in 0..21 {
        let start = Instant::now();
        let failure = pool.handle(get("/hello")).await.err();
        waits.push(start.elapsed());
        assert_eq!(failure, Some(Failure::Busy { retry_after: Duration::from_secs(1) }));
    }
    waits.sort();
    assert!(waits[10] < Duration::from_millis(5), "{waits:?}");
    assert_eq!(pool.live(), 1);

    assert!(running.await.unwrap().is_ok());
    for request in queued {
        let answer = request.await;
        assert!(answer.is_ok(), "{:?}", answer.err());
    }
    finish(pool, tasks).await;
}

async fn a_queued_request_whose_caller_left_is_never_run(kit: &str) {
    let (pool, tasks) = pool(kit, Limits { max_instances: NonZeroUsize::MIN, ..alone() });
    let running = spawn(&pool, "/sleep?ms=500");
    until("it runs", || pool.live() == 1).await;
    for _ in 0..50 {
        drop(begun(&pool, "/spin?ms=0").await);
    }
    // Had one of them run, it would be ahead of us, for ever.
    assert_eq!(inspect(&pool).await["served"], 2);
    assert!(running.await.unwrap().is_ok());
    finish(pool, tasks).await;
}

async fn who_leaves_the_queue_makes_room_in_it(kit: &str) {
    let (pool, tasks) = pool(kit, Limits { max_instances: NonZeroUsize::MIN, ..alone() });
    let running = spawn(&pool, "/sleep?ms=500");
    until("it runs", || pool.live() == 1).await;
    for _ in 0..QUEUE * 3 {
        drop(begun(&pool, "/trap").await);
    }
    assert_eq!(inspect(&pool).await["served"], 2);
    assert!(running.await.unwrap().is_ok());
    finish(pool, tasks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_p3_instance_takes_as_many_requests_at_once_as_it_may() {
    let max_concurrent_per_instance = NonZeroUsize::new(4).unwrap();
    let max_instances = NonZeroUsize::new(2).unwrap();
    let (pool, tasks) =
        pool("kit-p3", Limits { max_concurrent_per_instance, max_instances, ..limits() });
    // One by one, so that each finds the instance waiting.
    let mut sleeping = Vec::new();
    for _ in 0..8 {
        sleeping.push(spawn(&pool, "/sleep?ms=1500"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(pool.live(), 2);
    let mut instances = Vec::new();
    for request in sleeping {
        instances.push(request.await.unwrap().unwrap().instance);
    }
    instances.sort();
    assert_eq!(instances, [1, 1, 1, 1, 2, 2, 2, 2]);
    finish(pool, tasks).await;
}

/// A request that has taken its place: in an instance or in the queue.
async fn begun(
    pool: &Pool,
    path: &str,
) -> Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send>> {
    let (pool, request) = (pool.clone(), get(path));
    let mut handle = Box::pin(async move { pool.handle(request).await });
    poll_fn(|cx| {
        assert!(handle.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    handle
}

/// One request per instance at a time, for p3 as for p2.
fn alone() -> Limits {
    Limits { max_concurrent_per_instance: NonZeroUsize::MIN, ..limits() }
}
