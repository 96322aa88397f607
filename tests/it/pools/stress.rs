//! Everything at once, at random: no request is orphaned and no slot is lost.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use tidegate::config::Limits;
use tidegate::pool::{Failure, Pool};

use crate::support::pool::{finish, get, limits, pool, read, text};

const TIMEOUT: Duration = Duration::from_secs(1);

for_both_kits! {
    every_request_resolves_whatever_its_neighbours_do,
}

async fn every_request_resolves_whatever_its_neighbours_do(kit: &str) {
    let limits = Limits {
        request_timeout: TIMEOUT,
        stream_idle_timeout: TIMEOUT,
        post_return_timeout: TIMEOUT,
        idle_timeout: Duration::from_millis(5),
        max_requests_per_instance: NonZeroUsize::new(20).unwrap(),
        max_concurrent_per_instance: NonZeroUsize::new(4).unwrap(),
        max_instances: NonZeroUsize::new(3).unwrap(),
        ..limits()
    };
    let (pool, tasks) = pool(kit, limits);
    let end = Instant::now() + Duration::from_secs(6);
    let clients: Vec<_> =
        (0..24).map(|seed| tokio::spawn(client(pool.clone(), Random(seed * 2 + 1), end))).collect();
    let mut served = 0;
    for client in clients {
        served += client.await.expect("a client");
    }
    assert!(served > 100, "{served}");
    assert_eq!(text(pool.handle(get("/hello")).await).await.1, "hello world\n");
    finish(pool, tasks).await;
}

/// Asks for this and that until `end`, and leaves early now and then. Counts good answers.
async fn client(pool: Pool, mut random: Random, end: Instant) -> usize {
    let mut served = 0;
    while Instant::now() < end {
        if random.below(200) == 0 {
            pool.evict(random.below(2) == 0);
        }
        let path = match random.below(100) {
            0..60 => "/hello",
            60..70 => "/stream?bytes=300000&chunk=10000",
            70..78 => "/sleep?ms=2",
            78..84 => "/spin?ms=2",
            84..88 => "/post-return?ms=2",
            88..91 => "/trap",
            91..94 => "/trap-after-head",
            94..96 => "/exit0",
            96..98 => "/endless",
            98 => "/stall",
            _ => "/never-answer",
        };
        let patience = match random.below(4) {
            0 => Duration::from_micros(random.below(3000)),
            _ => TIMEOUT * 10,
        };
        let request = async {
            let answer = pool.handle(get(path)).await;
            match answer {
                // An endless one is left to the client to leave.
                Ok(_) if path == "/endless" => true,
                Ok(answer) => read(answer).await.1.is_ok(),
                Err(Failure::TooLarge) => panic!("none was"),
                Err(_) => false,
            }
        };
        match tokio::time::timeout(patience, request).await {
            Ok(good) => served += usize::from(good),
            Err(_) => assert!(patience < TIMEOUT * 10, "{path} never resolved"),
        }
    }
    served
}

/// xorshift: the same sequence at each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}
