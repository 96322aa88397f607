//! What instances do: in all, for the status, and one by one for `/v1/apps/{app}/instances`.

use super::answer::{Outcome, json};
use super::apps::unknown_app;
use super::router::Call;
use super::shapes;
use crate::config::AppName;
use crate::generation::Current;
use crate::pool::{Census, Pool, Seen, State};

pub async fn instances(call: Call) -> Outcome {
    let name = call.required("app")?;
    let current = &call.admin.current;
    let serving = current
        .load()
        .apps
        .iter()
        .find(|(app, _)| app.as_str() == name)
        .map(|(_, app)| app.clone());
    let draining = draining_of(current, name);
    if serving.is_none() && draining.is_empty() {
        return Err(unknown_app(current, name));
    }
    let serving = serving.and_then(|app| app.pool.clone()).map(|pool| of_pool(&pool, true));
    let draining = draining.iter().map(|pool| of_pool(pool, false));
    let pools = serving.into_iter().chain(draining).collect();
    json(&shapes::Instances { app: name.to_owned(), pools })
}

/// Pools of retired generations that are not empty yet.
fn draining_of(current: &Current, name: &str) -> Vec<Pool> {
    let all = current.draining().into_iter();
    all.filter(|(app, _)| app.as_str() == name).map(|(_, pool)| pool).collect()
}

/// How many instances of an app are in each state.
pub fn counts(census: &Census) -> shapes::InstanceCounts {
    shapes::InstanceCounts {
        starting: census.count(State::Starting),
        idle: census.count(State::Idle),
        busy: census.count(State::Busy),
        post_return: census.count(State::PostReturn),
        leaving: census.count(State::Leaving),
    }
}

/// What is left of retired generations, of all apps.
pub fn draining(current: &Current) -> Vec<(AppName, shapes::Draining)> {
    let all = current.draining().into_iter();
    let shape = |pool: &Pool| {
        let census = pool.census();
        shapes::Draining {
            generation: census.generation,
            instances: census.instances.len(),
            in_flight: census.in_flight(),
        }
    };
    all.map(|(app, pool)| (app, shape(&pool))).collect()
}

fn of_pool(pool: &Pool, serves: bool) -> shapes::InstancesOf {
    let census = pool.census();
    shapes::InstancesOf {
        generation: census.generation,
        serves,
        evicting: census.evicting,
        waiting: census.waiting,
        instances: census.instances.iter().map(instance).collect(),
    }
}

fn instance(seen: &Seen) -> shapes::Instance {
    let requests = seen.requests.iter().map(|request| shapes::InFlight {
        id: request.id.to_string(),
        running_seconds: request.running.as_secs_f64(),
    });
    shapes::Instance {
        id: seen.id,
        state: seen.state,
        age_seconds: seen.age.as_secs_f64(),
        served: seen.served,
        requests: requests.collect(),
        memory_bytes: seen.memory as u64,
        cpu_seconds: seen.cpu.as_secs_f64(),
    }
}
