//! `rate_limit`: how many requests a client may make.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::super::read::Value;

const MAX_REQUESTS: usize = 1_000_000;
const MAX_PER: Duration = Duration::from_secs(86_400);

/// How many requests may come from one address, or one /64 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// In the long run, in each time of `per`.
    pub requests: NonZeroUsize,
    pub per: Duration,
    /// At once, after a time without any.
    pub burst: NonZeroUsize,
}

pub(super) fn rate_limit(value: &Value<'_>) -> Option<RateLimit> {
    let help = "write { requests = 100, per = \"1m\" }";
    let table = value.as_table("a table such as { requests = 100, per = \"1m\" }", help)?;
    table.read(|table| {
        let requests = table.require("requests", "100", |value| value.count(MAX_REQUESTS));
        let per = table.require("per", "\"1m\"", |value| value.duration(MAX_PER));
        let burst = table.take("burst", |value| value.count(MAX_REQUESTS));
        let requests = requests?;
        Some(RateLimit { requests, per: per?, burst: burst.unwrap_or(requests) })
    })
}
