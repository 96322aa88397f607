//! Profiles: those that are stored, and one of what an app computes from now on.

use std::time::Duration;

use http::StatusCode;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::answer::{Failure, Outcome, json, whole};
use super::apps::app;
use super::router::Call;
use super::shapes::{Profiles, StoredProfile, time};
use crate::config::{self, AppName};
use crate::guest::profile::{MAX_DEMAND, stored};

/// How long samples are taken where the request does not say.
const SECONDS: u64 = 10;

/// The profile has to be written after the longest time that may be asked for.
pub const TIMEOUT: Duration = MAX_DEMAND.saturating_add(Duration::from_secs(30));

/// Profiles in the list, the newest.
const LISTED_MAX: usize = 1000;

/// The profiles of all apps, the newest first.
pub async fn list(call: Call) -> Outcome {
    let config = call.admin.current.load().config.clone();
    let profiles = blocking(move || {
        let profiled = config.apps.iter().filter_map(|(app, it)| Some((app, it.profile.as_ref()?)));
        let mut all = Vec::new();
        for (app, profile) in profiled {
            let stored = stored::list(&profile.dir, app.as_str()).map_err(|error| {
                Failure::internal(format!("cannot read {}: {error}", profile.dir.display()))
            })?;
            all.extend(stored.into_iter().map(|stored| (app.as_str(), stored)));
        }
        all.sort_by_key(|(_, stored)| std::cmp::Reverse(stored.written));
        all.truncate(LISTED_MAX);
        let shape = |(app, stored): (&str, stored::Stored)| StoredProfile {
            app: app.to_owned(),
            name: stored.name,
            bytes: stored.size,
            written: time(stored.written.into()),
        };
        Ok(all.into_iter().map(shape).collect())
    });
    json(&Profiles { profiles: profiles.await? })
}

/// One of them, as it is stored.
pub async fn file(call: Call) -> Outcome {
    let (app, name) = (call.required("app")?, call.required("name")?.to_owned());
    let missing = || Failure::new(StatusCode::NOT_FOUND, "no such profile");
    let config = call.admin.current.load().config.clone();
    let app = AppName::parse(app).ok_or_else(missing)?;
    let settings: Option<config::Profile> = config.apps.get(&app).and_then(|it| it.profile.clone());
    let settings = settings.ok_or_else(missing)?;
    let read = blocking(move || {
        stored::read(&settings, app.as_str(), &name)
            .map_err(|error| Failure::internal(format!("cannot read {name}: {error}")))
    });
    Ok(whole("application/json", read.await?.ok_or_else(missing)?))
}

/// Samples an app's instances for a while, and answers with the profile.
pub async fn demand(call: Call) -> Outcome {
    let name = call.required("app")?.to_owned();
    let seconds = match call.parameter("seconds").map(str::parse) {
        None => SECONDS,
        Some(Ok(seconds)) if (1..=MAX_DEMAND.as_secs()).contains(&seconds) => seconds,
        Some(_) => {
            let most = MAX_DEMAND.as_secs();
            let error = format!("`seconds` is a whole number from 1 to {most}");
            return Err(Failure::new(StatusCode::BAD_REQUEST, error));
        }
    };
    let demand = {
        let app = app(&call)?;
        let pool = app.pool.as_ref().ok_or_else(|| {
            Failure::new(StatusCode::CONFLICT, format!("{name} does not serve"))
                .with_help("GET /v1/status tells why")
        })?;
        pool.demand().clone()
    };
    let collecting = demand.begin().map_err(|error| {
        let failure = Failure::new(StatusCode::CONFLICT, error.to_string());
        failure.with_help("ask again when it is done")
    })?;
    sleep(Duration::from_secs(seconds)).await;
    let collected = collecting.finish();
    let written = blocking(move || {
        let failed = |error| Failure::internal(format!("cannot write the profile: {error}"));
        collected.json(&name).map_err(failed)
    });
    Ok(whole("application/json", written.await?))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    spawn_blocking(work).await.unwrap_or_else(|panic| Err(Failure::internal(panic.to_string())))
}
