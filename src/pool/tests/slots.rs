//! The slots by themselves, in paused time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::pool::slots::{Bounds, Lease, Slots, Taken, Waiting};

fn slots(instances: usize, waiting: usize) -> Arc<Slots<u32>> {
    let bounds = Bounds { instances, waiting, idle_timeout: Duration::from_secs(60) };
    Slots::new(bounds, TaskTracker::new())
}

fn now(slots: &Arc<Slots<u32>>) -> Lease<u32> {
    match slots.take() {
        Taken::Now(lease) => lease,
        _ => panic!("nothing free"),
    }
}

fn later(slots: &Arc<Slots<u32>>) -> Waiting<u32> {
    match slots.take() {
        Taken::Later(waiting) => waiting,
        _ => panic!("expected to wait"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_most_recently_used_comes_first() {
    let slots = slots(3, 0);
    let (a, b) = (now(&slots), now(&slots));
    a.put_back(1);
    b.put_back(2);
    assert_eq!(now(&slots).instance, Some(2));
}

#[tokio::test(start_paused = true)]
async fn an_idle_instance_leaves_at_its_timeout_and_a_used_one_stays() {
    let slots = slots(3, 0);
    let (a, b) = (now(&slots), now(&slots));
    a.put_back(1);
    b.put_back(2);
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_secs(20)).await;
        let mut lease = now(&slots);
        let instance = lease.instance.take().unwrap();
        assert_eq!(instance, 2);
        lease.put_back(instance);
    }
    assert_eq!(slots.live(), 1);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(slots.live(), 0);
    at_once(slots.emptied()).await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_longest_is_served_first_and_the_queue_is_bounded() {
    let slots = slots(1, 2);
    let lease = now(&slots);
    let (first, second) = (later(&slots), later(&slots));
    assert!(matches!(slots.take(), Taken::Full));
    lease.put_back(7);
    let mut lease = at_once(first).await;
    assert_eq!(lease.instance.take(), Some(7));
    drop(lease); // its instance failed: the right to make one is passed on
    assert_eq!(at_once(second).await.instance, None);
    assert_eq!(slots.live(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_leaves_the_queue_and_takes_nothing_along() {
    let slots = slots(1, 2);
    let lease = now(&slots);
    let (first, second) = (later(&slots), later(&slots));
    drop(first);
    let third = later(&slots); // its place is free again
    lease.put_back(7);
    drop(second); // was sent the lease already
    assert_eq!(at_once(third).await.instance, Some(7));
}

#[tokio::test(start_paused = true)]
async fn an_evicted_pool_empties_at_once_and_keeps_nothing() {
    let slots = slots(2, 0);
    let (a, b) = (now(&slots), now(&slots));
    a.put_back(1);
    slots.evict(true);
    assert_eq!(slots.live(), 1);
    b.put_back(2);
    at_once(slots.emptied()).await;
    slots.evict(false);
    now(&slots).put_back(3);
    assert_eq!(now(&slots).instance, Some(3));
}

#[tokio::test(start_paused = true)]
async fn the_longest_unused_leaves_first() {
    let slots = slots(3, 0);
    let (a, b) = (now(&slots), now(&slots));
    let start = Instant::now();
    a.put_back(1);
    tokio::time::advance(Duration::from_secs(1)).await;
    b.put_back(2);
    assert_eq!(slots.longest_unused(), Some(start));
    assert!(slots.take_longest_unused().is_some());
    let last = now(&slots);
    assert_eq!((slots.live(), last.instance), (1, Some(2)));
    assert!(slots.take_longest_unused().is_none());
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_left_to_the_other_slots_where_there_is_no_room_for_one_more() {
    let slots = slots(2, 2);
    let (a, b) = (now(&slots), now(&slots));
    let waiting = later(&slots);
    a.close();
    assert_eq!((slots.live(), slots.waiting()), (1, 1));
    b.close();
    assert!(at_once(waiting).await.instance.is_none(), "there are no others");
    assert_eq!(slots.live(), 0);
}

/// In paused time the second is over as soon as nothing else is left to do.
async fn at_once<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(1), future).await.expect("it never came")
}
