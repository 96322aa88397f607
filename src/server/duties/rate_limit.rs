//! How many requests a client may make on a route.

use std::time::Duration;

use super::Caller;
use crate::generation::Limiter;
use crate::limit::{ClientBuckets, Limit, Rate};
use crate::server::response::Refusal;

/// Counts a request of this client.
///
/// # Errors
/// When it has made as many as it may.
pub fn check(limiter: &Limiter, caller: &Caller<'_>) -> Result<(), Refusal> {
    take(&limiter.clients, limiter.rate, Limit::RateLimit, caller)
        .map_err(|retry_after| Refusal::TooMany { retry_after })
}

/// Takes one for this client, or tells that it reached `limit` and how long to wait.
pub fn take(
    clients: &ClientBuckets,
    rate: Rate,
    limit: Limit,
    caller: &Caller<'_>,
) -> Result<(), Duration> {
    let taken = clients.take(caller.address(), rate);
    if taken.forgotten > 0 {
        let forgotten = taken.forgotten as u64;
        caller.tally.reached_often(Limit::RememberedClients, forgotten, caller.at);
    }
    match taken.wait {
        None => Ok(()),
        Some(wait) => {
            caller.tally.reached(limit, caller);
            Err(wait)
        }
    }
}
