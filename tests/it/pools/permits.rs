//! What a request's permit stands for: a response under way, or a guest's work for a client that has left.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate::config::Limits;
use tidegate::pool::{Pool, Request};
use tokio::sync::Semaphore;

use crate::support::pool::{finish, get, limits, pool, text, until};

for_both_kits! {
    a_client_that_leaves_gives_its_permit_back_when_the_guest_has_ended,
    a_complete_response_gives_its_permit_back_whatever_the_guest_does_then,
    no_more_guests_work_for_clients_that_leave_at_once_than_there_are_permits,
}

fn with_permit(path: &str, room: &Arc<Semaphore>) -> Request {
    Request { permit: Some(Arc::clone(room).try_acquire_owned().expect("room")), ..get(path) }
}

/// Asks for `path`, and leaves once a guest is at work.
async fn ask_and_leave(pool: &Pool, request: Request) {
    let patience = Duration::from_millis(300);
    let answer = tokio::time::timeout(patience, pool.handle(request)).await;
    assert!(answer.is_err(), "it was answered");
}

async fn a_client_that_leaves_gives_its_permit_back_when_the_guest_has_ended(kit: &str) {
    let request_timeout = Duration::from_secs(2);
    let (pool, tasks) = pool(kit, Limits { request_timeout, ..limits() });
    let room = Arc::new(Semaphore::new(1));
    text(pool.handle(get("/hello")).await).await;
    let start = Instant::now();

    ask_and_leave(&pool, with_permit("/never-answer", &room)).await;

    assert_eq!(room.available_permits(), 0, "the guest is at work");
    until("the guest has ended", || room.available_permits() == 1).await;
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    finish(pool, tasks).await;
}

async fn a_complete_response_gives_its_permit_back_whatever_the_guest_does_then(kit: &str) {
    let (pool, tasks) = pool(kit, limits());
    let room = Arc::new(Semaphore::new(1));

    let start = Instant::now();
    text(pool.handle(with_permit("/post-return?ms=1500", &room)).await).await;

    assert_eq!(room.available_permits(), 1);
    assert!(start.elapsed() < Duration::from_millis(1200), "{:?}", start.elapsed());
    finish(pool, tasks).await;
}

async fn no_more_guests_work_for_clients_that_leave_at_once_than_there_are_permits(kit: &str) {
    let (pool, tasks) = pool(kit, limits());
    let room = Arc::new(Semaphore::new(3));
    for _ in 0..3 {
        ask_and_leave(&pool, with_permit("/never-answer", &room)).await;
    }
    assert!(Arc::clone(&room).try_acquire_owned().is_err());
    until("their guests have ended", || room.available_permits() == 3).await;
    finish(pool, tasks).await;
}
