use std::task::Waker;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn account(weight: usize) -> Arc<Account> {
    Account::new(NonZeroUsize::new(weight).unwrap())
}

/// The ticket, if it was granted.
fn granted(waiting: &mut Waiting) -> Option<Ticket> {
    match Pin::new(waiting).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(ticket) => Some(ticket),
        Poll::Pending => None,
    }
}

/// Guests that loop, and wait for a ticket each time that theirs is over.
struct Loops {
    share: Arc<Share>,
    guests: Vec<(Arc<Account>, Waiting)>,
}

impl Loops {
    fn new(share: &Arc<Share>) -> Self {
        Self { share: share.clone(), guests: Vec::new() }
    }

    fn add(&mut self, account: &Arc<Account>, count: usize) {
        for _ in 0..count {
            let waiting = self.share.wait(account, None, Duration::ZERO);
            self.guests.push((account.clone(), waiting));
        }
    }

    /// One computes for a tick, of which it uses so much, and waits again. Whose it is.
    fn turn(&mut self, used: Duration) -> Arc<Account> {
        for (account, waiting) in &mut self.guests {
            if let Some(ticket) = granted(waiting) {
                account.count(used);
                *waiting = self.share.wait(account, Some(ticket), used);
                return account.clone();
            }
        }
        panic!("nobody has a ticket");
    }

    fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.turn(MS);
        }
    }
}

fn used(account: &Account) -> u128 {
    account.used().as_millis()
}

#[test]
fn apps_have_turns_by_their_weights_however_many_guests_they_have() {
    let share = Share::new(1);
    let (heavy, light) = (account(300), account(100));
    let mut loops = Loops::new(&share);
    loops.add(&light, 50);
    loops.add(&heavy, 2);
    loops.turns(4000);
    assert!((2990..=3010).contains(&used(&heavy)), "{} of 4000", used(&heavy));
    assert_eq!(used(&heavy) + used(&light), 4000);
}

#[test]
fn who_uses_less_of_its_ticket_has_more_of_them() {
    let share = Share::new(1);
    let (long, short) = (account(100), account(100));
    let mut loops = Loops::new(&share);
    loops.add(&long, 1);
    loops.add(&short, 1);
    for _ in 0..3000 {
        // Who it will be is not known before.
        let next = loops.guests.iter_mut().find_map(|(account, waiting)| {
            granted(waiting).map(|ticket| (account.clone(), ticket))
        });
        let (account, ticket) = next.unwrap();
        let time = if Arc::ptr_eq(&account, &long) { MS } else { MS / 2 };
        account.count(time);
        let waiting = share.wait(&account, Some(ticket), time);
        loops.guests.iter_mut().find(|(of, _)| Arc::ptr_eq(of, &account)).unwrap().1 = waiting;
    }
    assert!(used(&long).abs_diff(used(&short)) <= 3, "{} {}", used(&long), used(&short));
}

#[test]
fn a_weight_holds_from_the_moment_that_it_is_set() {
    let share = Share::new(1);
    let (a, b) = (account(100), account(100));
    let mut loops = Loops::new(&share);
    loops.add(&a, 3);
    loops.add(&b, 3);
    loops.turns(1000);
    assert!(used(&a).abs_diff(500) <= 2, "{}", used(&a));
    a.set_weight(NonZeroUsize::new(900).unwrap());
    loops.turns(1000);
    assert!(used(&a).abs_diff(500 + 900) <= 10, "{}", used(&a));
}

#[test]
fn an_app_alone_has_every_turn() {
    let share = Share::new(1);
    let alone = account(1);
    let mut loops = Loops::new(&share);
    loops.add(&alone, 3);
    loops.turns(100);
    assert_eq!(used(&alone), 100);
}

#[test]
fn time_that_an_app_has_not_used_is_little_credit() {
    let share = Share::new(1);
    let (busy, idle) = (account(100), account(100));
    let mut loops = Loops::new(&share);
    loops.add(&busy, 2);
    loops.turns(10_000);
    loops.add(&idle, 2);
    loops.turns(100);
    // All of its credit at first, then half.
    let fair = (100 + CREDIT.as_millis()) / 2;
    assert!(used(&idle).abs_diff(fair) <= 2, "{} of 100", used(&idle));
}

#[test]
fn who_comes_anew_is_next() {
    let share = Share::new(1);
    let (busy, fresh) = (account(100), account(100));
    let mut loops = Loops::new(&share);
    loops.add(&busy, 50);
    loops.turns(1000);
    loops.add(&fresh, 1);
    let next = [loops.turn(MS), loops.turn(MS)];
    assert!(next.iter().any(|account| Arc::ptr_eq(account, &fresh)));
}

#[test]
fn those_of_an_app_have_their_turns_in_the_order_they_came() {
    let share = Share::new(1);
    let app = account(100);
    let mut first = share.wait(&app, None, Duration::ZERO);
    let mut second = share.wait(&app, None, Duration::ZERO);
    let mut third = share.wait(&app, None, Duration::ZERO);
    let ticket = granted(&mut first).unwrap();
    assert!(granted(&mut second).is_none() && granted(&mut third).is_none());
    drop(ticket);
    let ticket = granted(&mut second).unwrap();
    assert!(granted(&mut third).is_none());
    drop(ticket);
    assert!(granted(&mut third).is_some());
}

#[test]
fn who_gives_up_waiting_is_passed_over() {
    let share = Share::new(1);
    let (a, b) = (account(100), account(100));
    let mut first = share.wait(&a, None, Duration::ZERO);
    let ticket = granted(&mut first).unwrap();
    let waiting: Vec<_> = (0..50).map(|_| share.wait(&a, None, Duration::ZERO)).collect();
    let mut other = share.wait(&b, None, Duration::ZERO);
    drop(waiting);
    assert_eq!(share.lock().lines.len(), 1, "only who waits still");
    ticket.end(MS);
    drop(granted(&mut other).unwrap());
    assert!(share.lock().lines.is_empty());
    assert_eq!(share.lock().free, 1);
    assert_eq!(share.lock().claims, 0);
}

#[test]
fn a_ticket_granted_to_who_has_given_up_goes_on() {
    let share = Share::new(1);
    let (a, b) = (account(100), account(100));
    // Granted at once, and never taken.
    let first = share.wait(&a, None, Duration::ZERO);
    let mut second = share.wait(&b, None, Duration::ZERO);
    assert!(granted(&mut second).is_none() && share.is_saturated());
    drop(first);
    drop(granted(&mut second).unwrap());
    assert!(!share.is_saturated());
    assert_eq!(a.turn.load(Relaxed), b.turn.load(Relaxed), "it has used nothing");
}

#[test]
fn there_are_as_many_tickets_as_cores() {
    let share = Share::new(2);
    let app = account(100);
    let mut waiting: Vec<_> = (0..3).map(|_| share.wait(&app, None, Duration::ZERO)).collect();
    let tickets: Vec<_> = waiting.iter_mut().filter_map(granted).collect();
    assert_eq!(tickets.len(), 2);
    assert!(share.is_saturated());
    drop(tickets);
    assert!(granted(&mut waiting[2]).is_some());
    assert!(!share.is_saturated());
}

#[test]
fn an_app_that_seldom_computes_is_let_in_and_one_ahead_of_its_turn_is_not() {
    let share = Share::new(1);
    let (busy, seldom) = (account(100), account(100));
    let mut loops = Loops::new(&share);
    loops.add(&busy, 1);
    loops.turns(100);
    assert!(share.admits(&seldom));
    share.charge(&seldom, CREDIT + MS / 2);
    assert!(share.admits(&seldom));
    share.charge(&seldom, MS);
    assert!(!share.admits(&seldom), "it has had more than a tick in advance");
    loops.turns(2);
    assert!(share.admits(&seldom), "the others have caught up");
}

#[test]
fn while_no_other_app_computes_one_is_let_in_however_much_it_has_had() {
    let share = Share::new(1);
    let (app, other) = (account(100), account(100));
    let mut loops = Loops::new(&share);
    loops.add(&app, 3);
    loops.turns(10);
    share.charge(&app, MS * 10);
    assert!(share.is_saturated() && share.admits(&app));
    // Another has a place in line, and then has given it up.
    let waiting = share.wait(&other, None, Duration::ZERO);
    assert!(!share.admits(&app));
    drop(waiting);
    assert!(share.admits(&app));
    // Another has a ticket, and has given it back.
    drop(loops);
    share.charge(&app, MS * 10);
    let mut waiting = share.wait(&other, None, Duration::ZERO);
    let ticket = granted(&mut waiting).unwrap();
    assert!(!share.admits(&app));
    ticket.end(MS);
    assert!(share.admits(&app));
    assert_eq!(share.lock().claims, 0);
}

#[test]
fn credit_is_no_more_than_was_left_to_others() {
    let share = Share::new(1);
    let (busy, bursts) = (account(100), account(100));
    let mut loops = Loops::new(&share);
    loops.add(&busy, 3);
    // One that computes for its credit, and rests for as long as another turn takes.
    let mut had = Duration::ZERO;
    for _ in 0..1000 {
        loops.turn(MS);
        let mut waiting = share.wait(&bursts, None, Duration::ZERO);
        while granted(&mut waiting).map(|ticket| ticket.end(CREDIT)).is_none() {
            loops.turn(MS);
        }
        had += CREDIT;
    }
    let others = busy.used();
    assert!(had <= others + CREDIT * 2, "{had:?} beside {others:?}");
}

#[test]
fn what_was_used_while_nobody_wanted_it_is_no_debt() {
    let share = Share::new(1);
    let (busy, other) = (account(100), account(100));
    // An hour's worth, none of it in one go, on a core that was free.
    for _ in 0..360_000 {
        share.charge(&busy, MS);
    }
    let mut loops = Loops::new(&share);
    loops.add(&other, 3);
    let turns = (0..100).take_while(|_| !share.admits(&busy)).inspect(|_| loops.turns(1)).count();
    assert!(turns <= 12, "{turns} ticks of another app went before");
}
