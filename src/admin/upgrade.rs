//! Asking for another process to take over.

use std::time::Duration;

use http::StatusCode;

use super::answer::{Failure, Outcome, json};
use super::router::Call;
use super::shapes::Upgraded;

/// More than `server.upgrade_timeout` can be.
pub const TIMEOUT: Duration = Duration::from_secs(24 * 3600 + 60);

/// Has a new process take over, and answers once it has, or when it is known that none will.
pub async fn upgrade(call: Call) -> Outcome {
    let told = call.admin.upgrades.ask().ok_or_else(|| {
        Failure::new(StatusCode::CONFLICT, "not upgraded: another upgrade is asked for already")
    })?;
    let upgraded = told.await.map_err(|_| {
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "not upgraded: the server stops")
    })?;
    match upgraded {
        Ok(pid) => json(&Upgraded { pid }),
        Err(reason) => {
            let refused = format!("not upgraded: {reason}");
            Err(Failure::new(StatusCode::CONFLICT, refused)
                .with_help("this process goes on serving; mend that and ask again"))
        }
    }
}
