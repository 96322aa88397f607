//! Many reloads in a row under load leave nothing behind.
//!
//! `TIDEGATE_SOAK_RELOADS=2000 cargo test --release --test it soak -- --nocapture` is the long
//! form; without the variable it is short.

use std::time::{Duration, Instant};

use crate::support::client::answer;
use crate::support::cores::{descriptors, resident};
use crate::support::server::Server;
use crate::support::world::{Kind, World};

const RELOADS: usize = 60;

/// Memory may have grown by so much since the first tenth of the reloads.
const GROWTH: f64 = 1.05;

/// With few reloads the allocator has not seen its peak yet.
const GROWTH_OF_FEW: f64 = 1.25;

/// Far longer than idle instances stay and periodic looks are apart.
const CALM: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn many_reloads_under_load_leave_nothing_behind() {
    let reloads = match std::env::var("TIDEGATE_SOAK_RELOADS") {
        Ok(count) => count.parse().expect("TIDEGATE_SOAK_RELOADS is a number"),
        Err(_) => RELOADS,
    };
    let mut world = World::start();
    let before = at_rest(&world.server, None).await;
    let traffic = world.traffic();
    let began = Instant::now();
    let kinds = [Kind::Manifest, Kind::Component, Kind::Certificate];
    let mut latencies = kinds.map(|_| Vec::new());
    let mut memory = Vec::new();

    for reload in 0..reloads {
        let kind = reload % kinds.len();
        world.change(kinds[kind], false);
        latencies[kind].push(world.settle(kinds[kind]).await);
        memory.push(resident(&world.server));
        let wrong = traffic.wrong();
        assert!(wrong.is_empty(), "after {reload} reloads: {wrong:#?}");
    }
    let took = began.elapsed();
    let answered = traffic.stop().await;
    let after = at_rest(&world.server, Some(before)).await;

    let tenth = (reloads / 10).max(3);
    let early = median(&memory[tenth..2 * tenth]);
    let late = median(&memory[reloads - tenth..]);
    eprintln!("{reloads} reloads in {took:.0?}, {answered} answers, none wrong");
    for (kind, latencies) in kinds.iter().zip(&mut latencies) {
        latencies.sort();
        let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize];
        eprintln!(
            "{kind:?}: served after {:.0?}, p99 {:.0?}, at most {:.0?}",
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }
    eprintln!("resident: {} MiB early, {} MiB late", early >> 20, late >> 20);
    eprintln!("at rest, descriptors and executable mappings: {before:?} before, {after:?} after");
    assert!(after <= before, "{after:?} after, {before:?} before");
    let growth = late as f64 / early as f64;
    let limit = if reloads < 1000 { GROWTH_OF_FEW } else { GROWTH };
    assert!(growth <= limit, "resident memory grew {growth:.3} times");
}

/// Descriptors and executable mappings once nothing is open and nobody asks; waits until they
/// are down to `goal`, if there is one.
async fn at_rest(server: &Server, goal: Option<(usize, usize)>) -> (usize, usize) {
    // Whatever is made at a first request is there.
    for host in ["hello.test", "greet.test", "p2.test", "p3.test"] {
        answer(server, host, "/hello").await;
    }
    let began = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = (descriptors(server), server.executable_mappings());
        let is_calm = match goal {
            Some((descriptors, mappings)) => now.0 <= descriptors && now.1 <= mappings,
            None => began.elapsed() > Duration::from_secs(3),
        };
        if is_calm || began.elapsed() > CALM {
            return now;
        }
    }
}

fn median(of: &[u64]) -> u64 {
    let mut sorted = of.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}
