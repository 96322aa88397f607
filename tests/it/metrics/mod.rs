//! What `/metrics` tells: that it is right, that it is bounded, and what monitoring makes of it.

mod bounded;
mod counts;
mod instances;
mod monitoring;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::admin::ask;
use crate::support::server::{PATIENCE, Site};

/// One scrape: each series with its labels, as it is written.
pub struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    pub async fn of(site: &Site) -> Scrape {
        let text = text(site).await;
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            (series.to_owned(), value.parse().expect("a number"))
        };
        Scrape(samples.map(sample).collect())
    }

    /// The sum of all series of this name whose labels are among theirs.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |series: &str| {
            labels.iter().all(|(name, value)| series.contains(&format!("{name}=\"{value}\"")))
        };
        let named = |series: &str| series.split('{').next() == Some(name);
        let samples = self.0.iter().filter(|(series, _)| named(series) && has(series));
        samples.map(|(_, value)| value).sum()
    }

    /// The names of all series.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().filter_map(|series| series.split('{').next())
    }
}

/// What the admin socket answers.
async fn text(site: &Site) -> String {
    let reply = ask(site, "GET", "/metrics").await.expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    reply.text().to_owned()
}

/// Scrapes until `is_so`: a client may have the last byte before its request is counted.
pub async fn until(site: &Site, what: &str, is_so: impl Fn(&Scrape) -> bool) -> Scrape {
    let end = Instant::now() + PATIENCE;
    loop {
        let scrape = Scrape::of(site).await;
        if is_so(&scrape) {
            return scrape;
        }
        assert!(Instant::now() < end, "waited in vain until {what}: {:#?}", scrape.0);
        sleep(Duration::from_millis(10)).await;
    }
}

/// Scrapes once so many requests are through.
async fn after(site: &Site, requests: usize) -> Scrape {
    let through = |scrape: &Scrape| {
        scrape.sum("tidegate_requests_total", &[]) >= requests as f64
            && scrape.sum("tidegate_requests_in_flight", &[]) == 0.0
    };
    until(site, &format!("{requests} requests are through"), through).await
}
