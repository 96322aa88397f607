//! What is seen of a pool from outside while its instances work.

use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tidegate::config::Limits;
use tidegate::pool::{Census, Pool, Request, State};
use tidegate::request_id::RequestId;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use wasmtime_wasi_http::{Error, WasiBody};

use crate::support::pool::{Served, finish, get, limits, pool, request, served, text, until};

for_both_kits! {
    requests_in_guests_are_counted_and_named_while_they_run,
    who_waits_is_counted,
    work_after_the_response_is_told_from_a_request,
    an_idle_instance_tells_what_it_has_and_had,
    an_instance_that_is_gone_is_not_seen,
    an_instance_that_has_served_enough_leaves,
}

/// A request whose guest waits for the rest of its body.
struct Hanging {
    id: RequestId,
    body: UnboundedSender<Frame<Bytes>>,
    served: JoinHandle<Served>,
}

impl Hanging {
    fn start(pool: &Pool) -> Hanging {
        let (body, mut frames) = unbounded_channel();
        let stream = futures_util::stream::poll_fn(move |cx| {
            frames.poll_recv(cx).map(|frame| frame.map(Ok::<_, Error>))
        });
        let body_in: WasiBody = StreamBody::new(stream).boxed_unsync();
        let asked: Request = request(http::Method::POST, "/discard", body_in);
        let (id, pool) = (asked.id, pool.clone());
        let served = async move { served(pool.handle(asked).await).await.expect("an answer") };
        Hanging { id, body, served: tokio::spawn(served) }
    }

    async fn finish(self) {
        drop(self.body);
        assert_eq!(self.served.await.expect("no panic").status, 200);
    }
}

/// Nothing of a test times out.
fn patient() -> Limits {
    let long = Duration::from_secs(600);
    Limits {
        request_timeout: long,
        stream_idle_timeout: long,
        post_return_timeout: long,
        idle_timeout: long,
        queue_timeout: long,
        ..limits()
    }
}

fn ids(census: &Census) -> Vec<String> {
    let all = census.instances.iter().flat_map(|instance| &instance.requests);
    let mut ids: Vec<_> = all.map(|request| request.id.to_string()).collect();
    ids.sort();
    ids
}

async fn requests_in_guests_are_counted_and_named_while_they_run(kit: &str) {
    let (pool, tasks) = pool(kit, patient());
    let hanging: Vec<_> = (0..5).map(|_| Hanging::start(&pool)).collect();
    let mut expected: Vec<_> = hanging.iter().map(|it| it.id.to_string()).collect();
    expected.sort();
    until("all are in guests", || pool.census().in_flight() == 5).await;

    let census = pool.census();
    assert_eq!(ids(&census), expected);
    let busy = if kit == "kit-p2" { 5 } else { pool.live() };
    assert_eq!((census.count(State::Busy), census.instances.len()), (busy, busy), "{census:?}");
    assert_eq!((census.waiting, census.evicting, census.generation), (0, false, 1));
    let at_least = |wanted: Duration| {
        let requests = pool.census().instances.into_iter().flat_map(|it| it.requests);
        requests.map(|it| it.running).min() >= Some(wanted)
    };
    until("their time goes on", || at_least(Duration::from_millis(50))).await;
    assert!(pool.census().instances.iter().all(|it| it.age >= it.requests[0].running));

    for hanging in hanging {
        hanging.finish().await;
    }
    until("all are idle", || pool.census().count(State::Idle) == busy).await;
    let census = pool.census();
    assert_eq!(census.in_flight(), 0, "{census:?}");
    assert_eq!(census.instances.iter().map(|instance| instance.served).sum::<u64>(), 5);
    finish(pool, tasks).await;
}

async fn who_waits_is_counted(kit: &str) {
    let one = NonZeroUsize::MIN;
    let limits = Limits { max_instances: one, max_concurrent_per_instance: one, ..patient() };
    let (pool, tasks) = pool(kit, limits);
    let first = Hanging::start(&pool);
    until("it is in a guest", || pool.census().in_flight() == 1).await;
    let others: Vec<_> = (0..3).map(|_| Hanging::start(&pool)).collect();
    until("three wait", || pool.census().waiting == 3).await;
    assert_eq!((pool.census().in_flight(), pool.census().count(State::Busy)), (1, 1));

    first.finish().await;
    // All at once: which of them has the instance first is chance.
    futures_util::future::join_all(others.into_iter().map(Hanging::finish)).await;
    until("nobody waits", || pool.census().waiting == 0).await;
    finish(pool, tasks).await;
}

async fn work_after_the_response_is_told_from_a_request(kit: &str) {
    let (pool, tasks) = pool(kit, patient());
    assert_eq!(text(pool.handle(get("/post-return?ms=1500")).await).await.1, "answered\n");
    until("it is seen", || pool.census().count(State::PostReturn) == 1).await;
    assert_eq!(pool.census().count(State::Busy), 0);
    until("it is over", || pool.census().count(State::Idle) == 1).await;
    finish(pool, tasks).await;
}

async fn an_idle_instance_tells_what_it_has_and_had(kit: &str) {
    let (pool, tasks) = pool(kit, patient());
    text(pool.handle(get("/hello")).await).await;
    until("it is idle", || pool.census().count(State::Idle) == 1).await;
    let before = pool.census().instances[0].clone();
    assert_eq!((before.id, before.served), (1, 1));
    assert!(before.memory >= 64 << 10, "{before:?}");

    text(pool.handle(get("/grow?mib=8")).await).await;
    text(pool.handle(get("/spin?ms=400")).await).await;

    until("it is idle", || pool.census().count(State::Idle) == 1).await;
    let after = pool.census().instances[0].clone();
    assert_eq!((after.id, after.served), (1, 3));
    assert!(after.memory >= before.memory + (8 << 20), "{before:?} {after:?}");
    // Some of it may have gone to others on a loaded machine.
    assert!(after.cpu >= before.cpu + Duration::from_millis(50), "{before:?} {after:?}");
    assert!(after.age > before.age);
    finish(pool, tasks).await;
}

async fn an_instance_that_is_gone_is_not_seen(kit: &str) {
    let (pool, tasks) = pool(kit, patient());
    let hanging: Vec<_> = (0..3).map(|_| Hanging::start(&pool)).collect();
    until("all are in guests", || pool.census().in_flight() == 3).await;

    pool.evict(true);

    assert!(pool.census().evicting);
    assert_eq!(pool.census().in_flight(), 3);
    for hanging in hanging {
        hanging.finish().await;
    }
    until("none is left", || pool.census().instances.is_empty()).await;
    finish(pool, tasks).await;
}

async fn an_instance_that_has_served_enough_leaves(kit: &str) {
    let max_requests_per_instance = NonZeroUsize::new(2).unwrap();
    let (pool, tasks) = pool(kit, Limits { max_requests_per_instance, ..patient() });
    text(pool.handle(get("/hello")).await).await;
    let last = Hanging::start(&pool);
    until("it is in the guest", || pool.census().in_flight() == 1).await;
    let instance = pool.census().instances[0].clone();
    assert_eq!((instance.state, instance.served), (State::Busy, 2));
    last.finish().await;
    until("it has left", || pool.census().instances.is_empty()).await;
    finish(pool, tasks).await;
}
