//! `tidegate upgrade`: has another process take over from the running tidegate.

use std::process::ExitCode;

use http::Method;

use super::admin_client::Ask;
use super::app::{answered, shown};
use crate::admin::TIMEOUT_OF_UPGRADES;
use crate::admin::shapes::Upgraded;

pub fn upgrade(ask: &Ask) -> ExitCode {
    answered(ask, |client| {
        let told: Upgraded = client.ask(Method::POST, "/v1/upgrade", TIMEOUT_OF_UPGRADES)?;
        let text = format!(
            "upgraded: process {} serves, and the one before finishes its requests",
            told.pid
        );
        Ok(shown(ask, &told, text))
    })
}
