//! What is to be done for which host, and when: knows certificates and clocks, and does nothing by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;

use super::pace::{HOST, Pace, Window, renewal, rest};
use super::proof::record_name;
use crate::certificates::kept::Kept;
use crate::config::HostPattern;
use crate::spread::random;

/// How often an authority is asked when to renew: as it says, but within these.
const ADVICE_LEAST: Duration = Duration::from_secs(3600);
const ADVICE_MOST: Duration = Duration::from_secs(86_400);

/// Dates are compared with the clock this often at the least: it may have been set.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

/// The hosts that certificates are kept for.
#[derive(Default)]
pub struct Schedule {
    hosts: BTreeMap<HostPattern, State>,
}

/// One host.
struct State {
    kept: Option<Kept>,
    /// Where in its time a certificate is renewed, between 0 and 1.
    at: f64,
    /// What the authority suggests.
    window: Option<Window>,
    /// When to ask for that.
    ask_at: Instant,
    /// When this process has got the certificate.
    obtained: Option<Instant>,
    pace: Pace,
    /// Something is under way.
    busy: bool,
    /// It is in the manifest. Once it is not, it is here only for what is under way.
    wanted: bool,
}

/// Something to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Task {
    /// Get a certificate, the first or the next.
    Order(HostPattern),
    /// Ask the authority when to renew the one that is there.
    Advice(HostPattern),
}

impl Schedule {
    /// Whether `host` is known.
    pub fn has(&self, host: &HostPattern) -> bool {
        self.hosts.contains_key(host)
    }

    /// Forgets all hosts that are not wanted, those that something is under way for once that has ended: if
    /// they come back before, it is not begun a second time.
    pub fn retain(&mut self, wanted: impl Fn(&HostPattern) -> bool) {
        self.hosts.retain(|host, state| {
            state.wanted = wanted(host);
            state.wanted || state.busy
        });
    }

    /// A host that is new, with the certificate that is kept for it.
    pub fn add(&mut self, host: HostPattern, kept: Option<Kept>) {
        self.hosts.insert(host, State::new(kept));
    }

    /// What is to be done next, if something is: orders first. It is under way then.
    ///
    /// Where `gives_advice` is false, the authority is not asked when to renew.
    pub fn next(&mut self, gives_advice: bool, wall: OffsetDateTime) -> Option<Task> {
        let now = Instant::now();
        let busy = self.busy();
        let is_free = |host: &HostPattern, state: &State| {
            !state.busy && state.pace.is_due(now) && !busy.contains(&record_name(host))
        };
        let order = self.hosts.iter_mut().find(|(host, state)| {
            is_free(host, state) && state.order_at(wall, now).is_some_and(|at| at <= now)
        });
        if let Some((host, state)) = order {
            state.busy = true;
            return Some(Task::Order(host.clone()));
        }
        let is_unsure = |state: &State| gives_advice && state.kept.is_some() && state.ask_at <= now;
        let (host, state) =
            self.hosts.iter_mut().find(|(host, state)| is_free(host, state) && is_unsure(state))?;
        state.busy = true;
        Some(Task::Advice(host.clone()))
    }

    /// When something may be to be done next.
    pub fn wake(&self, gives_advice: bool, wall: OffsetDateTime) -> Instant {
        let now = Instant::now();
        let busy = self.busy();
        let waits = |host: &HostPattern| busy.contains(&record_name(host));
        let free = self.hosts.iter().filter(|(host, state)| !state.busy && !waits(host));
        let times = free.filter_map(|(_, state)| {
            let advice = Some(state.ask_at).filter(|_| gives_advice && state.kept.is_some());
            let next = state.order_at(wall, now).into_iter().chain(advice).min()?;
            Some(state.pace.until().map_or(next, |until| next.max(until)))
        });
        times.min().map_or(now + LOOK_AGAIN, |next| next.min(now + LOOK_AGAIN))
    }

    /// What is being proved. A domain and its wildcard are proved by the same record: one after the other.
    fn busy(&self) -> Vec<String> {
        self.hosts.iter().filter(|(_, it)| it.busy).map(|(host, _)| record_name(host)).collect()
    }

    /// What was under way has ended. None where the host is not wanted any more: it is forgotten.
    fn ended(&mut self, host: &HostPattern) -> Option<&mut State> {
        let state = self.hosts.get_mut(host)?;
        state.busy = false;
        if !state.wanted {
            self.hosts.remove(host);
        }
        self.hosts.get_mut(host)
    }

    /// A certificate has come. Tells when it will be renewed, as far as is known.
    pub fn obtained(&mut self, host: &HostPattern, kept: Kept) -> OffsetDateTime {
        let (from, to) = (kept.not_before, kept.not_after);
        let Some(state) = self.ended(host) else { return to };
        *state = State { obtained: Some(Instant::now()), ..State::new(Some(kept)) };
        renewal(from, to, None, state.at)
    }

    /// An order has failed. Tells for how long the host is left alone.
    pub fn failed(&mut self, host: &HostPattern, asked: Option<Duration>) -> Option<Duration> {
        let state = self.ended(host)?;
        Some(state.pace.failed(HOST, asked, Instant::now()))
    }

    /// What was under way came to nothing, for no fault of the host's.
    pub fn put_back(&mut self, host: &HostPattern) {
        self.ended(host);
    }

    /// The authority has been asked when to renew, and may have suggested something.
    pub fn advised(&mut self, host: &HostPattern, advice: Option<(Window, Duration)>) {
        if let Some(state) = self.ended(host) {
            let again = advice.map_or(ADVICE_LEAST, |(_, again)| again);
            state.ask_at = Instant::now() + again.clamp(ADVICE_LEAST, ADVICE_MOST);
            state.window = advice.map(|(window, _)| window).or(state.window);
        }
    }

    /// An operator says that things are different now.
    pub fn hurry(&mut self) {
        for state in self.hosts.values_mut() {
            state.pace.hurry();
            state.ask_at = Instant::now();
        }
    }

    /// The certificate that is kept for `host`.
    pub fn kept(&self, host: &HostPattern) -> Option<&Kept> {
        self.hosts.get(host)?.kept.as_ref()
    }

    /// The certificate that a first attempt to renew takes the place of, for an authority that has an
    /// opinion of it. A second attempt does not say so: it may be why the first was refused.
    pub fn replaced(&self, host: &HostPattern) -> Option<&Kept> {
        let state = self.hosts.get(host)?;
        state.kept.as_ref().filter(|_| state.window.is_some() && state.pace.failures == 0)
    }

    pub fn failures(&self, host: &HostPattern) -> u32 {
        self.hosts.get(host).map_or(0, |state| state.pace.failures)
    }
}

impl State {
    fn new(kept: Option<Kept>) -> State {
        State {
            kept,
            at: random(),
            window: None,
            ask_at: Instant::now(),
            obtained: None,
            pace: Pace::default(),
            busy: false,
            wanted: true,
        }
    }

    /// When the certificate is to be ordered, on the clock that does not jump. None where the other one
    /// is so far from it that this cannot be told.
    fn order_at(&self, wall: OffsetDateTime, now: Instant) -> Option<Instant> {
        let Some(kept) = &self.kept else { return Some(now) };
        let renewal = renewal(kept.not_before, kept.not_after, self.window, self.at);
        let left = Duration::try_from(renewal - wall).unwrap_or_default();
        let at = now.checked_add(left)?;
        // One that was ordered because the authority said so is not ordered again at once.
        let rested = self.obtained.map(|at| at + rest(kept.not_before, kept.not_after));
        Some(rested.map_or(at, |rested| at.max(rested)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(host: &str) -> HostPattern {
        HostPattern::parse(host).unwrap()
    }

    fn next(schedule: &mut Schedule) -> Option<Task> {
        schedule.next(false, OffsetDateTime::now_utc())
    }

    #[test]
    fn a_host_that_comes_back_while_it_is_ordered_for_is_not_ordered_for_twice() {
        let host = pattern("a.org");
        let mut schedule = Schedule::default();
        schedule.add(host.clone(), None);
        assert_eq!(next(&mut schedule), Some(Task::Order(host.clone())));

        schedule.retain(|_| false);
        schedule.retain(|_| true);
        assert!(schedule.has(&host), "or it would be added again");
        assert_eq!(next(&mut schedule), None, "the first order is under way");

        schedule.put_back(&host);
        assert_eq!(next(&mut schedule), Some(Task::Order(host)));
    }

    #[test]
    fn a_host_that_is_not_wanted_is_forgotten_once_nothing_is_under_way_for_it() {
        let (busy, idle) = (pattern("a.org"), pattern("b.org"));
        let mut schedule = Schedule::default();
        schedule.add(busy.clone(), None);
        assert_eq!(next(&mut schedule), Some(Task::Order(busy.clone())));
        schedule.add(idle.clone(), None);

        schedule.retain(|_| false);
        assert_eq!((schedule.has(&busy), schedule.has(&idle)), (true, false));
        assert_eq!(schedule.failed(&busy, None), None, "nobody waits for it");
        assert!(!schedule.has(&busy));
    }
}
