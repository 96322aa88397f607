//! `max_in_flight`, `queue` and `queue_timeout`.

use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use http::StatusCode;
use tidegate::config::Limits;
use tidegate::pool::{Answer, Failure, Pool};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::support::connection::{Connection, Transport};
use crate::support::holds::{Shown, times};
use crate::support::pool::{finish, get, guest, limits, pool, read, served, spawn, until};
use crate::support::server::Site;

for_both_kits! {
    a_request_is_in_flight_to_the_last_byte_of_its_response,
    a_small_response_is_in_flight_until_it_is_taken,
    a_request_is_in_flight_as_long_as_its_guest_works_though_its_client_left,
    without_a_queue_nobody_waits,
    those_who_wait_for_either_are_no_more_than_the_queue,
}

fn in_flight(max_in_flight: usize, queue: usize) -> Limits {
    let max_in_flight = NonZeroUsize::new(max_in_flight).unwrap();
    // Nothing of what is tried here is about time.
    let timeout = Duration::from_secs(20);
    Limits { max_in_flight, queue, request_timeout: timeout, queue_timeout: timeout, ..limits() }
}

fn is_busy(answer: &Result<Answer, Failure>) -> bool {
    matches!(answer, Err(Failure::Busy { .. }))
}

async fn a_request_is_in_flight_to_the_last_byte_of_its_response(kit: &str) {
    let (pool, tasks) = pool(kit, in_flight(2, 0));
    let first = pool.handle(get("/stream?bytes=1000000")).await.expect("a head");
    let second = pool.handle(get("/stream?bytes=300000")).await.expect("a head");
    assert!(is_busy(&pool.handle(get("/hello")).await));
    let (bytes, end) = read(second).await;
    assert_eq!((bytes.len(), end), (300_000, Ok(())));
    until("it counts no more", || pool_has_room(&pool)).await;
    drop(first);
    finish(pool, tasks).await;
}

/// Whether a request can be begun; that one then leaves.
fn pool_has_room(pool: &Pool) -> bool {
    let mut handle = Box::pin(pool.handle(get("/hello")));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    !matches!(handle.as_mut().poll(&mut cx), std::task::Poll::Ready(answer) if is_busy(&answer))
}

async fn a_small_response_is_in_flight_until_it_is_taken(kit: &str) {
    let (pool, tasks) = pool(kit, in_flight(1, 0));
    let answer = pool.handle(get("/hello")).await.expect("an answer");
    assert!(is_busy(&pool.handle(get("/hello")).await));
    drop(answer);
    until("it counts no more", || pool_has_room(&pool)).await;
    finish(pool, tasks).await;
}

async fn a_request_is_in_flight_as_long_as_its_guest_works_though_its_client_left(kit: &str) {
    let (pool, tasks) = pool(kit, in_flight(3, 0));
    let begun = Instant::now();
    for _ in 0..50 {
        let request = spawn(&pool, "/spin?ms=500");
        tokio::time::sleep(Duration::from_millis(2)).await;
        request.abort();
    }
    if begun.elapsed() < Duration::from_millis(450) {
        assert!(is_busy(&pool.handle(get("/hello")).await));
    }
    assert!(pool.live() <= 3, "{}", pool.live());
    until("their work is done", || pool_has_room(&pool)).await;
    finish(pool, tasks).await;
}

async fn without_a_queue_nobody_waits(kit: &str) {
    let one = NonZeroUsize::MIN;
    let limits = Limits { max_instances: one, max_concurrent_per_instance: one, ..in_flight(9, 0) };
    let (pool, tasks) = pool(kit, limits);
    let running = spawn(&pool, "/sleep?ms=300");
    until("it runs", || pool.live() == 1).await;
    assert!(is_busy(&pool.handle(get("/hello")).await));
    assert!(running.await.unwrap().is_ok());
    finish(pool, tasks).await;
}

async fn those_who_wait_for_either_are_no_more_than_the_queue(kit: &str) {
    // Of three in flight one waits for the two instances, and five wait to be in flight.
    let one = NonZeroUsize::MIN;
    let max_instances = NonZeroUsize::new(2).unwrap();
    let limits = Limits { max_instances, max_concurrent_per_instance: one, ..in_flight(3, 6) };
    let (pool, tasks) = pool(kit, limits);
    let mut requests: Vec<_> = (0..2).map(|_| spawn(&pool, "/sleep?ms=300")).collect();
    until("they run", || pool.live() == 2).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    // One after the other, as each is counted where it waits.
    let mut busy = 0;
    for _ in 0..20 {
        let (pool, request) = (pool.clone(), get("/hello"));
        let mut handle = Box::pin(async move { pool.handle(request).await });
        let first = poll_fn(|cx| Poll::Ready(handle.as_mut().poll(cx))).await;
        match first {
            Poll::Ready(answer) => busy += usize::from(is_busy(&answer)),
            Poll::Pending => requests.push(tokio::spawn(async { served(handle.await).await })),
        }
    }
    for request in requests {
        assert!(request.await.unwrap().is_ok());
    }
    assert_eq!(busy, 14);
    finish(pool, tasks).await;
}

/// Requests that the app of the next test takes at a time.
const AT_A_TIME: usize = 10;

/// How long each of them lasts. Beside other tests there is less CPU to refuse others with.
fn each() -> Duration {
    Duration::from_millis(times(200, 50) as u64)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_ten_times_its_capacity_an_app_does_as_much_as_ever_and_refuses_the_rest_at_once() {
    let site = Site::new(&format!(
        "[apps.kit]\ncomponent = \"apps/kit.wasm\"\nmax_in_flight = {AT_A_TIME}\n\
         queue = {AT_A_TIME}\n[clients]\nmax_connections_per_address = 8192\n[hosts]\n\"kit.test\" = \"kit\"\n",
    ));
    site.put("apps/kit.wasm", &guest("kit-p2"));
    let server = site.start();
    let transport = Transport::plain(&server);
    let load = Arc::new(Load {
        transport,
        idle: Mutex::default(),
        served: AtomicUsize::new(0),
        failed: AtomicUsize::new(0),
        refused: Mutex::default(),
    });

    let lasting = Duration::from_secs(times(4, 20) as u64);
    // The peak: never idle, never refused.
    let peak = {
        let end = Instant::now() + lasting;
        let mut clients = JoinSet::new();
        for _ in 0..AT_A_TIME * 3 / 2 {
            let load = load.clone();
            clients.spawn(async move {
                while Instant::now() < end {
                    load.ask().await;
                }
            });
        }
        tokio::time::sleep_until(end.into()).await;
        let peak = load.served.load(Ordering::SeqCst);
        while clients.join_next().await.is_some() {}
        load.served.store(0, Ordering::SeqCst);
        peak
    };
    assert_eq!(load.refused.lock().await.len(), 0);

    // The overload: arrivals that wait for nobody.
    let every = each() / (AT_A_TIME * 10) as u32;
    let begun = Instant::now();
    let mut sent = 0;
    let mut arrivals = JoinSet::new();
    while begun.elapsed() < lasting {
        let due = (begun.elapsed().as_nanos() / every.as_nanos()) as usize;
        for _ in sent..due {
            let load = load.clone();
            arrivals.spawn(async move { load.ask().await });
        }
        sent = sent.max(due);
        while arrivals.try_join_next().is_some() {}
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let goodput = load.served.load(Ordering::SeqCst);
    while arrivals.join_next().await.is_some() {}
    let mut refused = load.refused.lock().await;
    refused.sort();
    assert!(refused.len() > sent / 2, "{} of {sent} refused", refused.len());
    assert_eq!(load.failed.load(Ordering::SeqCst), 0);

    let share = 100 * goodput / peak;
    let row = |tried, bound| Shown { part: "Clients: queue", tried, times: sent, bound };
    row("ten times an app's capacity: its good answers", "at least 90 % of its peak")
        .holds(format!("{share} %"), share >= 90);
    let at = |part: usize| refused[refused.len() * part / 100];
    let (median, most) = (at(50), at(99));
    // Beside other tests it is enough that nobody waits to be refused.
    let (late, bound) = if times(0, 1) == 1 { (most, 5) } else { (median, 100) };
    row("ten times an app's capacity: a 503 with Retry-After", "within 5 ms").holds(
        format!("median {median:.1?}, 99 % {most:.1?}"),
        late < Duration::from_millis(bound),
    );
}

/// What the clients share.
struct Load {
    transport: Transport,
    idle: Mutex<Vec<Connection>>,
    served: AtomicUsize,
    failed: AtomicUsize,
    /// How long each refusal took.
    refused: Mutex<Vec<Duration>>,
}

impl Load {
    /// One request, on a connection that is open already if there is one.
    async fn ask(&self) {
        let idle = self.idle.lock().await.pop();
        let connection = match idle {
            Some(connection) => Ok(connection),
            None => Connection::open(&self.transport, "kit.test").await,
        };
        let Ok(mut connection) = connection else {
            self.failed.fetch_add(1, Ordering::SeqCst);
            return;
        };
        let start = Instant::now();
        let path = format!("/sleep?ms={}", each().as_millis());
        match connection.get(&path).await {
            Ok(reply) if reply.status == StatusCode::OK => {
                self.served.fetch_add(1, Ordering::SeqCst);
            }
            Ok(reply)
                if reply.status == StatusCode::SERVICE_UNAVAILABLE
                    && reply.headers.contains_key("retry-after") =>
            {
                self.refused.lock().await.push(start.elapsed());
            }
            Ok(_) | Err(_) => {
                self.failed.fetch_add(1, Ordering::SeqCst);
            }
        }
        self.idle.lock().await.push(connection);
    }
}
