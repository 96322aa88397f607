//! Memory: of an instance, of an app, of the node, and who makes room when it is short.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tidegate::config::Limits;
use tidegate::guest::memory::Node;
use tidegate::limit::{Limit, Tally};
use tidegate::pool::{Failure, Pool};
use tokio_util::task::TaskTracker;

use crate::support::pool::{blueprint, component, get, inspect, limits, spawn, text, until};

const MIB: usize = 1 << 20;

for_both_kits! {
    an_instance_grows_to_its_limit_and_no_further,
    the_instances_of_an_app_share_its_memory,
    the_longest_unused_of_all_apps_leaves_first_when_memory_is_short,
    where_nothing_can_leave_a_new_instance_is_refused,
    an_app_that_takes_all_it_gets_leaves_something_to_another,
    all_that_was_taken_is_given_back,
    those_who_wait_are_served_by_the_instances_there_are,
}

/// Apps on one node.
struct Apps {
    node: Arc<Node>,
    tasks: TaskTracker,
    kit: &'static str,
}

/// One of them.
struct App {
    pool: Pool,
    tally: Arc<Tally>,
}

impl Apps {
    /// A node with so much memory.
    fn on(kit: &str, memory: usize) -> Apps {
        let kit = if kit == "kit-p2" { "kit-p2" } else { "kit-p3" };
        Apps { node: Node::new(memory), tasks: TaskTracker::new(), kit }
    }

    /// One request per instance at a time, for p3 as for p2.
    fn app(&self, limits: Limits) -> App {
        let limits = Limits { max_concurrent_per_instance: NonZeroUsize::MIN, ..limits };
        let mut blueprint = blueprint(self.kit, component(self.kit), limits, &self.tasks);
        blueprint.memory = self.node.account();
        let tally = blueprint.tally.clone();
        App { pool: Pool::new(blueprint), tally }
    }

    async fn finish(self, apps: impl IntoIterator<Item = App>) {
        for app in apps {
            app.pool.evict(true);
            app.pool.emptied().await;
        }
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl App {
    /// The status and text of an answer to `path`.
    async fn get(&self, path: &str) -> (u16, String) {
        text(self.pool.handle(get(path)).await).await
    }

    async fn grow(&self, mib: usize) -> u16 {
        self.get(&format!("/grow?mib={mib}")).await.0
    }
}

fn idle_for_long() -> Limits {
    Limits { idle_timeout: Duration::from_secs(60), ..limits() }
}

async fn an_instance_grows_to_its_limit_and_no_further(kit: &str) {
    let apps = Apps::on(kit, usize::MAX);
    let app = apps.app(Limits { max_instances: NonZeroUsize::MIN, ..idle_for_long() });
    assert_eq!(app.grow(50).await, 200);
    assert_eq!(app.grow(50).await, 507);
    assert!(app.tally.times(Limit::Memory) > 0);
    assert_eq!(inspect(&app.pool).await["served"], 3, "it serves on");
    apps.finish([app]).await;
}

async fn the_instances_of_an_app_share_its_memory(kit: &str) {
    let apps = Apps::on(kit, usize::MAX);
    let app = apps.app(Limits { app_memory: 64 << 20, ..idle_for_long() });
    let other = apps.app(idle_for_long());
    assert_eq!(app.grow(40).await, 200);
    // It is in use, so it cannot leave.
    let busy = spawn(&app.pool, "/sleep?ms=1000");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(app.grow(40).await, 507);
    assert!(app.tally.times(Limit::AppMemory) > 0);
    assert_eq!(other.grow(40).await, 200, "another app has its own");
    assert!(busy.await.unwrap().is_ok());
    apps.finish([app, other]).await;
}

async fn the_longest_unused_of_all_apps_leaves_first_when_memory_is_short(kit: &str) {
    let apps = Apps::on(kit, 140 * MIB);
    let all: Vec<_> = (0..3).map(|_| apps.app(idle_for_long())).collect();
    for app in &all[..2] {
        assert_eq!(app.grow(35).await, 200);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(all[0].get("/hello").await.0, 200);
    // The second is now the longest unused.
    assert_eq!(all[2].grow(45).await, 200);
    until("it leaves", || all[1].pool.live() == 0).await;
    assert_eq!(all[0].pool.live(), 1);
    assert_eq!(all[2].tally.times(Limit::ServerMemory), 0);
    apps.finish(all).await;
}

async fn where_nothing_can_leave_a_new_instance_is_refused(kit: &str) {
    let apps = Apps::on(kit, 16 * MIB);
    let app = apps.app(Limits { max_instances: NonZeroUsize::new(50).unwrap(), ..limits() });
    let requests: Vec<_> = (0..50).map(|_| spawn(&app.pool, "/sleep?ms=500")).collect();
    let (mut served, mut refused) = (0, 0);
    for request in requests {
        match request.await.unwrap() {
            Ok(_) => served += 1,
            Err(Failure::Busy { retry_after }) if retry_after > Duration::ZERO => refused += 1,
            Err(failure) => panic!("{failure:?}"),
        }
    }
    assert!(served >= 2 && refused >= 30, "{served} served, {refused} refused");
    assert_eq!(app.tally.times(Limit::ServerMemory), refused);
    assert_eq!(app.get("/hello").await.0, 200);
    apps.finish([app]).await;
}

async fn an_app_that_takes_all_it_gets_leaves_something_to_another(kit: &str) {
    let apps = Apps::on(kit, 64 * MIB);
    let max_instances = NonZeroUsize::new(100).unwrap();
    let greedy = apps.app(Limits { max_instances, ..limits() });
    let modest = apps.app(limits());
    let taken: Vec<_> = (0..100).map(|_| spawn(&greedy.pool, "/sleep?ms=1000")).collect();
    until("it is refused more", || greedy.tally.times(Limit::ServerMemory) > 0).await;
    for _ in 0..20 {
        assert_eq!(modest.get("/hello").await.0, 200);
    }
    assert_eq!(modest.tally.times(Limit::ServerMemory), 0);
    for request in taken {
        drop(request.await.unwrap());
    }
    apps.finish([greedy, modest]).await;
}

async fn all_that_was_taken_is_given_back(kit: &str) {
    let apps = Apps::on(kit, usize::MAX);
    let max_requests_per_instance = NonZeroUsize::MIN;
    let app = apps.app(Limits { max_requests_per_instance, ..limits() });
    let all_gone = async |path| {
        for _ in 0..20 {
            drop(app.pool.handle(get(path)).await);
        }
        until("the last is gone", || app.pool.live() == 0).await;
    };
    for path in ["/grow?mib=100", "/trap", "/stack", "/exit0", "/hello"] {
        all_gone(path).await;
    }
    let node = &apps.node;
    assert!(node.used() > 0, "what is small counts until it has been returned");
    all_gone("/grow?mib=40").await;
    // What is left is in the unfinished batches of this runtime's threads.
    assert!(node.used() < 2 * 2 * 33 * MIB, "{} MiB", node.used() / MIB);
    apps.finish([app]).await;
}

async fn those_who_wait_are_served_by_the_instances_there_are(kit: &str) {
    let apps = Apps::on(kit, usize::MAX);
    let max_instances = NonZeroUsize::new(2).unwrap();
    let queue_timeout = Duration::from_secs(20);
    let app = apps.app(Limits { max_instances, queue_timeout, ..limits() });
    let first = spawn(&app.pool, "/never-answer");
    tokio::time::sleep(limits().request_timeout / 2).await;
    let second = spawn(&app.pool, "/sleep?ms=1700");
    until("both run", || app.pool.live() == 2).await;
    let waiting: Vec<_> = (0..10).map(|_| spawn(&app.pool, "/hello")).collect();
    tokio::time::sleep(Duration::from_millis(50)).await;

    // The first instance is gone before the second is free, and nothing may take its place.
    apps.node.set_limit(0);
    assert_eq!(first.await.unwrap().err(), Some(Failure::TimedOut));
    let mut served = 0;
    for request in waiting {
        served += usize::from(request.await.unwrap().is_ok());
    }
    assert_eq!(served, 9, "who was to have it is refused, and nobody else");
    assert!(second.await.unwrap().is_ok());
    apps.finish([app]).await;
}
