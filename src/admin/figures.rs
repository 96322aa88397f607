//! What was counted, for `/v1/status`: rates of the last minute, connections, and lines that the log lost.

use super::shapes::{CountedListener, Log, Rates};
use crate::logging;
use crate::stats::{self, Stats};

pub fn rates(rates: &stats::Rates) -> Rates {
    Rates {
        over_seconds: rates.over.as_secs_f64(),
        requests_per_second: rates.requests_per_second,
        errors_per_second: rates.errors_per_second,
        p50_seconds: rates.p50.map(|it| it.as_secs_f64()),
        p99_seconds: rates.p99.map(|it| it.as_secs_f64()),
        requests: rates.requests,
        errors: rates.errors,
    }
}

/// All of them, those of HTTP/3 included.
pub fn listeners(stats: &Stats) -> Vec<CountedListener> {
    let all = stats.listeners().into_iter();
    all.map(|listener| {
        let (seen, whole) = (listener.seen(), &listener.address);
        let (scheme, address) = whole.split_once("://").unwrap_or(("", whole));
        CountedListener {
            scheme: scheme.to_owned(),
            address: address.to_owned(),
            open: seen.open,
            accepted: seen.accepted,
            refused: seen.refused.iter().map(|(_, times)| times).sum(),
        }
    })
    .collect()
}

pub fn log() -> Log {
    let losses = logging::losses();
    Log { dropped: losses.dropped, lost: losses.lost }
}
