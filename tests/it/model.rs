//! Requests run while manifest, component and certificate change at random. Every answer is
//! right for the generation before or after, and none fails.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::world::{Kind, World};

const LENGTH: Duration = Duration::from_secs(15);

/// Changes at the least, however slow the machine is.
const LEAST: usize = 24;

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_right_for_the_generation_before_or_after() {
    let mut random = Random::seeded();
    let mut world = World::start();
    let traffic = world.traffic();
    let end = Instant::now() + LENGTH;
    let mut changes = 0_usize;

    while Instant::now() < end || changes < LEAST {
        let kind = random.of(&[Kind::Component, Kind::Manifest, Kind::Certificate]);
        // Three in four by rename.
        world.change(kind, random.below(4) == 0);
        changes += 1;
        match random.below(5) {
            // Another follows at once, in the middle of this one's build perhaps.
            0 | 1 => {}
            2 => tokio::time::sleep(Duration::from_millis(random.below(300))).await,
            3 => _ = world.settle(kind).await,
            _ => {
                world.settle(kind).await;
                world.break_it(kind);
                tokio::time::sleep(Duration::from_millis(random.below(1500))).await;
                world.change(kind, false);
            }
        }
    }
    for kind in [Kind::Component, Kind::Manifest, Kind::Certificate] {
        world.settle(kind).await;
    }

    let reloads = world.server.logged("reloaded").len();
    let answered = traffic.stop().await;
    eprintln!("{answered} answers, {changes} changes, {reloads} reloads");
    assert!(reloads > 10, "{reloads} reloads of {changes} changes");
}

/// A generator whose seed is printed, so that a failure can be had again.
struct Random(u64);

impl Random {
    fn seeded() -> Random {
        let seed = match std::env::var("TIDEGATE_MODEL_SEED") {
            Ok(seed) => seed.parse().expect("TIDEGATE_MODEL_SEED is a number"),
            Err(_) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
                u64::from(now.subsec_nanos()) << 16 | 1
            }
        };
        eprintln!("TIDEGATE_MODEL_SEED={seed}");
        Random(seed)
    }

    /// xorshift64*: any will do.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn of<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[self.below(choice.len() as u64) as usize]
    }
}
