//! A worker's clocks, in paused time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, advance};

use super::exchange::{answer, limits, started};
use crate::pool::Failure;
use crate::pool::exchange::Exchange;
use crate::pool::ledger::{Entry, Ledger, Standing, Verdict};
use crate::request_id::RequestId;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_lonely_request_fails_at_its_timeout_and_takes_its_store_along() {
    let mut ledger = Ledger::new();
    let lonely = enter(&mut ledger);
    assert_eq!(review(&mut ledger), in_time(10));
    advance(10 * SECOND).await;
    assert_eq!(review(&mut ledger), Verdict::Kill);
    assert_eq!(lonely.take_head().unwrap().err(), Some(Failure::TimedOut));
}

#[tokio::test(start_paused = true)]
async fn who_came_later_gets_its_full_time_but_none_after_twice_the_timeout() {
    let mut ledger = Ledger::new();
    let first = enter(&mut ledger);
    advance(9 * SECOND).await;
    let second = enter(&mut ledger);
    advance(SECOND).await;
    assert!(ledger.is_late(&limits()) && !ledger.overdue());
    assert_eq!(review(&mut ledger), in_time(9), "until the second's end");
    assert!(ledger.overdue(), "so no third");
    assert_eq!(first.take_head().unwrap().err(), Some(Failure::TimedOut));
    assert!(second.take_head().is_none());

    advance(9 * SECOND).await;
    assert_eq!(review(&mut ledger), Verdict::Kill);
    assert_eq!(second.take_head().unwrap().err(), Some(Failure::TimedOut));
}

#[tokio::test(start_paused = true)]
async fn a_stream_beside_a_request_that_timed_out_ends_at_twice_its_timeout() {
    let mut ledger = Ledger::new();
    let _stuck = enter(&mut ledger);
    let streaming = enter(&mut ledger);
    let frames = answer(&streaming);
    for _ in 0..19 {
        advance(SECOND).await;
        streaming.progress();
        assert!(matches!(review(&mut ledger), Verdict::Until(_)));
    }
    advance(SECOND).await;
    streaming.progress();
    assert_eq!(review(&mut ledger), Verdict::Kill);
    drop(frames);
}

#[tokio::test(start_paused = true)]
async fn work_after_the_responses_of_others_is_waited_for_unless_the_guest_computes() {
    for computes in [false, true] {
        let mut ledger = Ledger::new();
        let _stuck = enter(&mut ledger);
        let other = enter(&mut ledger);
        advance(9 * SECOND).await;
        drop(answer(&other));
        other.leave();
        ledger.forget_ended();
        advance(SECOND).await;
        ledger.polled = !computes;
        let expected = if computes { Verdict::Kill } else { in_time(1) };
        assert_eq!(ledger.review(&limits(), false), expected);
        advance(SECOND).await;
        assert_eq!(ledger.review(&limits(), false), Verdict::Kill);
    }
}

#[tokio::test(start_paused = true)]
async fn the_idle_clock_starts_when_the_work_after_the_response_is_done() {
    let mut ledger = Ledger::new();
    let request = enter(&mut ledger);
    ledger.stand(Standing::Busy);
    drop(answer(&request));
    request.leave();
    ledger.forget_ended();
    ledger.stand(Standing::PostReturn);
    assert_eq!(review(&mut ledger), in_time(2));
    advance(SECOND).await;
    ledger.stand(Standing::PostReturn);
    assert_eq!(review(&mut ledger), in_time(1));

    ledger.stand(Standing::Idle);
    assert_eq!(review(&mut ledger), in_time(20));
    advance(19 * SECOND).await;
    ledger.stand(Standing::Idle);
    assert_eq!(review(&mut ledger), in_time(1));
    advance(SECOND).await;
    assert_eq!(review(&mut ledger), Verdict::Leave);
}

#[tokio::test(start_paused = true)]
async fn work_after_the_response_is_bounded_from_the_responses_end() {
    let mut ledger = Ledger::new();
    let request = enter(&mut ledger);
    ledger.stand(Standing::Busy);
    drop(answer(&request));
    request.leave();
    // It computed meanwhile, so nobody looked.
    advance(SECOND).await;
    ledger.forget_ended();
    ledger.stand(Standing::PostReturn);
    assert_eq!(review(&mut ledger), in_time(1));
    advance(SECOND).await;
    assert_eq!(review(&mut ledger), Verdict::Kill);
}

#[tokio::test(start_paused = true)]
async fn who_came_before_a_shorter_timeout_was_over_has_all_of_its_own_time() {
    let mut ledger = Ledger::new();
    ledger.stand(Standing::Busy);
    let rests = enter(&mut ledger);
    let _frames = answer(&rests);
    advance(SECOND * 4).await;
    let other = enter(&mut ledger);
    advance(SECOND).await;
    // The stream has rested for too long, and the worker takes no more requests.
    assert!(matches!(review(&mut ledger), Verdict::Until(_)));
    assert!(ledger.overdue() && rests.ended().is_some());
    advance(SECOND * 8).await;
    assert!(matches!(review(&mut ledger), Verdict::Until(_)), "it has a second left");
    assert!(other.ended().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_evicted_worker_leaves_as_soon_as_it_is_idle() {
    let mut ledger = Ledger::new();
    ledger.stand(Standing::PostReturn);
    assert!(matches!(ledger.review(&limits(), true), Verdict::Until(_)));
    ledger.stand(Standing::Idle);
    assert_eq!(ledger.review(&limits(), true), Verdict::Leave);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_ends_tells_all_of_its_requests() {
    let mut ledger = Ledger::new();
    let waiting = enter(&mut ledger);
    let streaming = enter(&mut ledger);
    let frames = answer(&streaming);
    frames.send(Some("some".into())).unwrap();
    ledger.failure = Failure::Guest("it trapped".into());
    drop(ledger);
    assert_eq!(waiting.take_head().unwrap().err(), Some(Failure::Guest("it trapped".into())));
    assert!(streaming.take_head().unwrap().is_ok());
    assert!(!streaming.settle(Failure::TimedOut), "its body is cut");
}

fn enter(ledger: &mut Ledger) -> Arc<Exchange> {
    let exchange = started();
    ledger.entries.push(Entry::new(RequestId::next(), exchange.clone(), Instant::now()));
    exchange
}

/// As after a turn in which the guest waited.
fn review(ledger: &mut Ledger) -> Verdict {
    ledger.polled = true;
    ledger.review(&limits(), false)
}

fn in_time(seconds: u32) -> Verdict {
    Verdict::Until(Instant::now() + SECOND * seconds)
}
