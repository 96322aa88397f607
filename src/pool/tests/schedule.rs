//! The schedule by itself.

use std::time::Duration;

use tokio::time::Instant;

use crate::pool::schedule::{Placed, Schedule, Seat};

#[test]
fn the_most_recently_listed_worker_is_asked_first() {
    let schedule = Schedule::new(2, 0);
    assert!(matches!(schedule.dispatch(1), Placed::Start(1)));
    assert!(matches!(schedule.dispatch(2), Placed::Start(2)));
    let (first, second) = (Seat::new(), Seat::new());
    assert_eq!(schedule.list(&first), None);
    assert_eq!(schedule.list(&second), None);
    assert!(matches!(schedule.dispatch(3), Placed::Taken));
    assert_eq!((first.take(), second.take()), (None, Some(3)));
}

#[test]
fn a_worker_that_lists_itself_takes_who_waits_longest() {
    let schedule = Schedule::new(1, 2);
    assert!(matches!(schedule.dispatch(1), Placed::Start(1)));
    assert!(matches!(schedule.dispatch(2), Placed::Waits(_)));
    assert!(matches!(schedule.dispatch(3), Placed::Waits(_)));
    assert!(matches!(schedule.dispatch(4), Placed::Full(4)));
    assert_eq!(schedule.list(&Seat::new()), Some(2));
    assert_eq!(schedule.closed(false), Some(3), "or the one that is started in its place");
    assert_eq!(schedule.closed(false), None);
    assert_eq!(schedule.workers(), 0);
}

#[test]
fn who_withdraws_is_not_served_and_makes_room() {
    let schedule = Schedule::new(1, 1);
    assert!(matches!(schedule.dispatch(1), Placed::Start(1)));
    let Placed::Waits(place) = schedule.dispatch(2) else { panic!("no place") };
    assert_eq!(schedule.withdraw(place), Some(2));
    assert_eq!(schedule.withdraw(place), None);
    assert!(matches!(schedule.dispatch(3), Placed::Waits(_)));
    assert_eq!(schedule.list(&Seat::new()), Some(3));
}

#[test]
fn a_worker_that_can_take_none_gives_back_what_it_was_just_handed() {
    let schedule = Schedule::new(1, 1);
    assert!(matches!(schedule.dispatch(1), Placed::Start(1)));
    let seat = Seat::new();
    assert_eq!(schedule.list(&seat), None);
    assert!(matches!(schedule.dispatch(2), Placed::Taken));
    assert_eq!(schedule.unlist(&seat), Some(2));
    assert!(matches!(schedule.dispatch(2), Placed::Waits(_)), "it is asked no more");
}

#[test]
fn what_comes_back_goes_before_those_that_wait_and_is_never_refused() {
    let schedule = Schedule::new(1, 1);
    assert!(matches!(schedule.dispatch(1), Placed::Start(1)));
    assert!(matches!(schedule.dispatch(2), Placed::Waits(_)));
    assert!(matches!(schedule.give_back(3), Placed::Waits(_)));
    assert_eq!(schedule.closed(false), Some(3));
    assert_eq!(schedule.closed(false), Some(2));
}

#[test]
fn who_waits_is_left_to_the_other_workers_where_there_is_no_room_for_one_more() {
    let schedule = Schedule::new(2, 2);
    assert!(matches!(schedule.dispatch(1), Placed::Start(1)));
    assert!(matches!(schedule.dispatch(2), Placed::Start(2)));
    assert!(matches!(schedule.dispatch(3), Placed::Waits(_)));
    assert_eq!(schedule.closed(true), None);
    assert_eq!(schedule.closed(true), Some(3), "there are no others");
}

#[tokio::test(start_paused = true)]
async fn the_longest_unused_worker_is_dismissed_and_asked_no_more() {
    let schedule = Schedule::new(3, 0);
    let seats: Vec<_> = (1..=3).map(|_| Seat::new()).collect();
    for job in 1..=3 {
        assert!(matches!(schedule.dispatch(job), Placed::Start(_)));
    }
    assert!(seats.iter().all(|seat| schedule.list(seat).is_none()));
    assert!(!schedule.dismiss_longest_unused(), "each may still be busy");
    let now = Instant::now();
    seats[1].rest(now + Duration::from_secs(1));
    seats[2].rest(now);
    assert_eq!(schedule.longest_unused(), Some(now));
    assert!(schedule.dismiss_longest_unused());
    assert!(seats[2].is_dismissed());
    assert!(matches!(schedule.dispatch(7), Placed::Taken));
    assert_eq!(seats[1].take(), Some(7));
    assert_eq!(schedule.longest_unused(), None, "what has a job is in use");
}
