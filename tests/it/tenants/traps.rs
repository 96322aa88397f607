//! Stack overflows and traps: each costs its own request, and nobody else anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;

use crate::support::client::{answer, get};
use crate::support::connection::{Connection, Transport};
use crate::support::cores::{descriptors, resident};
use crate::support::holds::{Shown, times};
use crate::support::server::{Server, Site};
use crate::support::traffic::Traffic;

const PART: &str = "Tenants: stack, traps, panics";

/// Memory may have grown by so much since the first tenth of the failures.
const GROWTH: f64 = 1.25;

const CLIENTS: usize = 8;

for_both_kits! {
    stack_overflows_cost_their_requests_and_nothing_else,
    traps_cost_their_requests_and_nothing_else,
    a_trap_is_logged_with_its_request_and_where_in_the_guest,
}

/// A server with the kit as `a.test`, and an app beside it as `b.test`.
fn start(kit: &str, settings: &str) -> (Site, Server) {
    let site = Site::with_neighbour(kit, settings);
    let server = site.start();
    (site, server)
}

async fn stack_overflows_cost_their_requests_and_nothing_else(kit: &str) {
    cost_their_requests_and_nothing_else(kit, "stack overflows", "/stack").await;
}

async fn traps_cost_their_requests_and_nothing_else(kit: &str) {
    cost_their_requests_and_nothing_else(kit, "traps", "/trap").await;
}

async fn cost_their_requests_and_nothing_else(kit: &str, what: &str, path: &'static str) {
    // One request on an instance at a time: others on it would end with it.
    let (_site, server) = start(kit, "max_concurrent_per_instance = 1");
    let transport = Transport::plain(&server);
    let mut neighbour = Traffic::default();
    neighbour.expect(&transport, ("b.test", "/"), "hello world");
    neighbour.pass(10).await;

    let count = times(500, 10_000);
    fail(&transport, path, count / 10).await;
    let before = (resident(&server), descriptors(&server));
    let failed = count / 10 + fail(&transport, path, count - count / 10).await;
    neighbour.pass(10).await;
    let after = (resident(&server), descriptors(&server));

    assert_eq!(answer(&server, "a.test", "/hello").await, "200 hello world");
    let answered = neighbour.stop().await;
    let growth = after.0 as f64 / before.0 as f64;
    Shown {
        part: PART,
        tried: &format!("{kit}: {what}, while another app is asked"),
        times: failed,
        bound: &format!("a 502 each on connections that stay open, every answer of the other app; at most {GROWTH} of the memory, 16 more descriptors"),
    }
    .holds(
        format!("{failed} and {answered}; {growth:.2}; {} after {}", after.1, before.1),
        failed == count && growth <= GROWTH && after.1 <= before.1 + 16,
    );
}

/// Asks for `path` so often, over some connections that stay open. Every answer has to be a 502.
async fn fail(transport: &Transport, path: &'static str, count: usize) -> usize {
    let begun = Arc::new(AtomicUsize::new(0));
    let clients = (0..CLIENTS).map(|_| {
        let (transport, begun) = (transport.clone(), begun.clone());
        tokio::spawn(async move {
            let mut connection = Connection::open(&transport, "a.test").await.unwrap();
            let mut failed = 0;
            while begun.fetch_add(1, Relaxed) < count {
                let reply = connection.get(path).await.expect("the connection stays open");
                assert_eq!(reply.status, 502, "{}", reply.text());
                failed += 1;
            }
            failed
        })
    });
    join_all(clients).await.into_iter().map(|failed| failed.expect("a client")).sum()
}

async fn a_trap_is_logged_with_its_request_and_where_in_the_guest(kit: &str) {
    let (_site, server) = start(kit, "");
    for (path, reason, function) in
        [("/trap", "unreachable", "handle"), ("/stack", "call stack exhausted", "consume_stack")]
    {
        let told = server.log().len();
        let reply = get(&server, "a.test", path).await.unwrap();
        assert_eq!(reply.status, 502);
        let line = server.wait_for_log_after(told, "the guest failed: ");
        let named = [reason, function, reply.headers["x-request-id"].to_str().unwrap()]
            .iter()
            .all(|what| line.contains(what));
        Shown {
            part: PART,
            tried: &format!("{kit}: the log of {path}"),
            times: 1,
            bound: "the request, the reason, and the guest's functions by name",
        }
        .holds(if named { "all of them" } else { &line }, named);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_requests_on_an_instance_the_one_that_trapped_is_named() {
    let settings = "max_instances = 1\nmax_concurrent_per_instance = 16";
    let (mut _site, mut server) = start("kit-p3", settings);
    let rounds = times(10, 50);
    for round in 0..rounds {
        // A new one before so many failures that no more of them are told.
        if round % 5 == 4 {
            (_site, server) = start("kit-p3", settings);
        }
        let told = server.log().len();
        let sleepers = join_all((0..8).map(|_| get(&server, "a.test", "/sleep?ms=5000")));
        let trapping = async {
            sleep(Duration::from_millis(50)).await;
            let path = ["/trap", "/stack"][round % 2];
            get(&server, "a.test", path).await.unwrap()
        };
        let (sleepers, reply) = tokio::join!(sleepers, trapping);
        assert_eq!(reply.status, 502);
        assert!(sleepers.iter().all(|reply| reply.as_ref().unwrap().status == 502), "one instance");
        let line = server.wait_for_log_after(told, "the guest failed: ");
        let id = reply.headers["x-request-id"].to_str().unwrap();
        assert!(line.contains(&format!("request={id}")), "{id} is not in {line}");
    }
    Shown {
        part: PART,
        tried: "kit-p3: a request traps on an instance on which 8 others wait",
        times: rounds,
        bound: "the log names it, each time",
    }
    .holds("it does", true);
}
