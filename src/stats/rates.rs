//! The last minute: how many requests a second, how many failed, how long they took.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::requests::Sum;
use super::window::{ByApp, INTERVAL};
use super::{Stats, lock};
use crate::config::AppName;
use crate::shutdown::Shutdown;

/// An app's, or all requests', of the last minute; of less where the process has not run for that
/// long.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// What time it is of.
    pub over: Duration,
    /// Requests that are through.
    pub requests_per_second: f64,
    /// Those of them that failed on our side: with a status of 5xx.
    pub errors_per_second: f64,
    /// How long half of them took at the most, to the last byte. Absent where there were none.
    pub p50: Option<Duration>,
    /// How long 99 in 100 took at the most.
    pub p99: Option<Duration>,
    /// Requests that are being served now.
    pub in_flight: u64,
    /// Requests that are through, since the start.
    pub requests: u64,
    /// Those of them that failed on our side.
    pub errors: u64,
}

impl Stats {
    /// The rates of an app.
    pub fn app(&self, name: &AppName) -> Rates {
        let mut now = self.by_app();
        let now = now.remove(&Some(name.clone())).unwrap_or_default();
        self.rates(&now, |then| then.get(&Some(name.clone())).cloned().unwrap_or_default())
    }

    /// The rates of all apps that were asked for anything since they were there.
    pub fn apps(&self) -> BTreeMap<AppName, Rates> {
        let now = self.by_app().into_iter();
        now.filter_map(|(app, now)| {
            let before = |then: &ByApp| then.get(&app).cloned().unwrap_or_default();
            let rates = self.rates(&now, before);
            Some((app?, rates))
        })
        .collect()
    }

    /// The rates of all requests, those that no route answers included.
    pub fn total(&self) -> Rates {
        self.rates(&total(&self.by_app()), total)
    }

    fn rates(&self, now: &Sum, before: impl FnOnce(&ByApp) -> Sum) -> Rates {
        let (in_flight, requests, errors) = (now.in_flight, now.requests(), now.errors());
        let counted = Rates { in_flight, requests, errors, ..Rates::default() };
        let Some((over, before)) = self.window.oldest(Instant::now(), before) else {
            return counted;
        };
        let seconds = over.as_secs_f64();
        let per_second = |now: u64, before: u64| match seconds > 0.0 {
            true => now.saturating_sub(before) as f64 / seconds,
            false => 0.0,
        };
        let took = now.total.since(&before.total);
        Rates {
            over,
            requests_per_second: per_second(requests, before.requests()),
            errors_per_second: per_second(errors, before.errors()),
            p50: took.quantile(0.5),
            p99: took.quantile(0.99),
            ..counted
        }
    }

    /// Remembers what was counted, every few seconds until the shutdown begins.
    pub async fn watch(self: Arc<Self>, shutdown: Shutdown) {
        loop {
            self.sample();
            tokio::select! {
                () = shutdown.begun() => return,
                () = sleep(INTERVAL) => {}
            }
        }
    }

    fn sample(&self) {
        self.window.push(Instant::now(), self.by_app());
    }

    fn by_app(&self) -> ByApp {
        let mut all = ByApp::from([(None, self.unrouted.sum())]);
        for (key, requests) in &*lock(&self.routed) {
            all.entry(key.app.clone()).or_default().add(&requests.sum());
        }
        all
    }
}

fn total(all: &ByApp) -> Sum {
    let mut total = Sum::default();
    all.values().for_each(|sum| total.add(sum));
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HostPattern;
    use crate::stats::{Answered, Class};

    fn serve(stats: &Stats, app: Option<&AppName>, count: usize, class: Class) {
        for _ in 0..count {
            // What fails takes its time.
            let took = if class == Class::ServerError { 400 } else { 4 };
            let took = Duration::from_millis(took);
            let answered = Answered { class, took, bytes: 0, is_cut: false };
            stats.requests(app, &HostPattern::Any).begin().answered(answered);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rates_are_those_of_the_last_minute() {
        let stats = Stats::new();
        let app = AppName::parse("shop").unwrap();
        let shutdown = Shutdown::new();
        let watch = tokio::spawn(Arc::clone(&stats).watch(shutdown.clone()));
        sleep(Duration::from_millis(1)).await;

        serve(&stats, Some(&app), 100, Class::Success);
        serve(&stats, None, 10, Class::Redirection);
        sleep(Duration::from_secs(10)).await;
        serve(&stats, Some(&app), 20, Class::ServerError);
        let rates = stats.app(&app);
        assert!((rates.requests_per_second - 12.0).abs() < 0.1, "{rates:?}");
        assert!((rates.errors_per_second - 2.0).abs() < 0.1, "{rates:?}");
        assert!((stats.total().requests_per_second - 13.0).abs() < 0.1);
        let (p50, p99) = (rates.p50.unwrap(), rates.p99.unwrap());
        assert!(p50 > Duration::from_micros(2500) && p50 <= Duration::from_millis(5), "{p50:?}");
        assert!(p99 > Duration::from_millis(250) && p99 <= Duration::from_secs(1), "{p99:?}");
        assert_eq!(stats.apps().len(), 1);

        // A minute later none of it is in the window any more.
        sleep(Duration::from_secs(66)).await;
        let rates = stats.app(&app);
        assert_eq!((rates.requests_per_second, rates.p50), (0.0, None));
        assert!(rates.over <= Duration::from_secs(60), "{rates:?}");

        shutdown.begin();
        watch.await.unwrap();
    }
}
