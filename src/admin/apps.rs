//! What is done to one app: draining it, taking that back, and ending its instances.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use http::StatusCode;
use tokio::time::{Instant, sleep};
use tracing::info;

use super::Admin;
use super::answer::{self, Failure, JSON_LINES, Outcome, json, json_line};
use super::router::Call;
use super::shapes::{Drained, Killed, Undrained};
use crate::config::AppName;
use crate::generation::{App, Current};
use crate::pool::Pool;

/// How long a drain is watched; it goes on after that.
const DRAIN_WATCHED: Duration = Duration::from_secs(600);

/// How often it is looked how many instances are left.
const LOOK: Duration = Duration::from_millis(200);

/// Refuses the app's requests from now on, and tells how many instances are left until none is.
pub async fn drain(call: Call) -> Outcome {
    let (admin, app) = (call.admin.clone(), app(&call)?);
    app.drain.set(true);
    info!(app = %app.name, "drained by its operator: its requests are answered 503");
    let (name, end) = (app.name.clone(), Instant::now() + DRAIN_WATCHED);
    let lines = stream::unfold(Some(false), move |state| {
        let (admin, name) = (admin.clone(), name.clone());
        async move {
            // None: the last line was told. False: the first one is not told yet.
            if state? {
                sleep(LOOK).await;
            }
            let (instances, undone) = let_go(&admin, &name).await;
            let done = instances == 0 && !undone;
            let is_last = done || undone || Instant::now() >= end;
            let line = Drained { app: name.to_string(), instances, done, undone };
            Some((json_line(&line), (!is_last).then_some(true)))
        }
    });
    Ok(answer::stream(JSON_LINES, lines))
}

/// Lets the app take requests again.
pub async fn undrain(call: Call) -> Outcome {
    let app = app(&call)?;
    app.drain.set(false);
    for pool in pools(&call.admin, &app.name) {
        pool.evict(false);
    }
    info!(app = %app.name, "takes requests again, as its operator says");
    json(&Undrained { app: app.name.to_string() })
}

/// Ends all instances of the app; new requests get fresh ones.
pub async fn kill(call: Call) -> Outcome {
    let app = app(&call)?;
    let pools = pools(&call.admin, &app.name);
    // Where the instances run: what they leave behind belongs there.
    let ending =
        call.admin.serving.spawn(async move { pools.iter().map(Pool::kill).sum::<usize>() });
    let instances =
        ending.await.map_err(|error| Failure::internal(format!("cannot end them: {error}")))?;
    info!(app = %app.name, instances, "killed by its operator");
    json(&Killed { app: app.name.to_string(), instances })
}

/// Lets idle instances of a drained app go, also those that were busy a moment ago. Returns how
/// many are left, and whether the drain was undone meanwhile.
async fn let_go(admin: &Arc<Admin>, name: &AppName) -> (usize, bool) {
    let drain = admin.metrics.builder.tenants().drain(name);
    let pools = pools(admin, name);
    let letting = admin.serving.spawn(async move {
        if drain.is_on() {
            pools.iter().for_each(|pool| pool.evict(true));
        }
        let undone = !drain.is_on();
        if undone {
            // In between: who undid it has told the pools before we did.
            pools.iter().for_each(|pool| pool.evict(false));
        }
        (pools.iter().map(Pool::live).sum(), undone)
    });
    letting.await.unwrap_or((0, true))
}

/// The app that is named in the path.
pub fn app(call: &Call) -> Result<Arc<App>, Failure> {
    let name = call.required("app")?;
    let current = &call.admin.current;
    let generation = current.load();
    let found = generation.apps.values().find(|app| app.name.as_str() == name);
    found.cloned().ok_or_else(|| unknown_app(current, name))
}

/// There is no such app, and this one may be meant, or these are there.
pub fn unknown_app(current: &Current, name: &str) -> Failure {
    let failure = Failure::new(StatusCode::NOT_FOUND, format!("there is no app {name:?}"));
    let generation = current.load();
    let names: Vec<_> = generation.apps.keys().map(AppName::as_str).collect();
    failure.with_help(match generation.config.app_like(name) {
        Some(meant) => format!("did you mean {meant}?"),
        None if names.is_empty() => "the manifest has none".to_owned(),
        None => format!("the manifest has {}", names.join(", ")),
    })
}

/// Its pools: the one that serves, and those before it that have instances left.
fn pools(admin: &Admin, name: &AppName) -> Vec<Pool> {
    let generation = admin.current.load();
    let serving = generation.apps.get(name).and_then(|app| app.pool.clone());
    let retired = admin.current.draining().into_iter().filter(|(app, _)| app == name);
    serving.into_iter().chain(retired.map(|(_, pool)| pool)).collect()
}
