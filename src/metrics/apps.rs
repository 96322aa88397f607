//! Apps: their instances, what they take of the node, and the limits that they reach.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use super::Metrics;
use super::families::{Families, Labels};
use crate::config::AppName;
use crate::generation::Tenant;
use crate::limit::{Limit, Tally};
use crate::pool::State;

/// Adds what there is of each app.
pub fn add(metrics: &Metrics, families: &mut Families) {
    let tenants = metrics.builder.tenants().all();
    counters(&tenants, families);
    limits(metrics, &tenants, families);
    instances(metrics, families);
    node(metrics, &tenants, families);
}

fn counters(tenants: &[(AppName, Tenant)], families: &mut Families) {
    let queue = families.durations(
        "tidegate_queue_seconds",
        "How long requests waited for an instance, of those that had to wait and got one",
    );
    for (app, tenant) in tenants {
        queue.took(of(app), tenant.stats.queue.durations());
    }
    let instantiate =
        families.durations("tidegate_instantiate_seconds", "How long it took to make an instance");
    for (app, tenant) in tenants {
        instantiate.took(of(app), tenant.stats.instantiate.durations());
    }
    let created = families.counter("tidegate_instances_created", "Instances that were made");
    for (app, tenant) in tenants {
        created.count(of(app), tenant.stats.instantiate.durations().count());
    }
    let dropped = families.counter("tidegate_instances_dropped", "Instances that are gone, by why");
    for (app, tenant) in tenants {
        for (why, count) in tenant.stats.all_gone() {
            dropped.count(with(app, "reason", why.name()), count);
        }
    }
    let traps = families.counter("tidegate_traps", "Failures of guests, by their kind");
    for (app, tenant) in tenants {
        for (how, count) in tenant.stats.all_trapped() {
            traps.count(with(app, "kind", how.name()), count);
        }
    }
    let timeouts =
        families.counter("tidegate_timeouts", "Requests that had no answer within their time");
    for (app, tenant) in tenants {
        timeouts.count(of(app), tenant.stats.timeouts.load(Relaxed));
    }
    let lost = families.counter("tidegate_profiles_lost", "Profiles that could not be written");
    for (app, tenant) in tenants {
        lost.count(of(app), tenant.tally.profiles_lost());
    }
}

/// Only those that were reached: there are some dozens, and most of them never are.
fn limits(metrics: &Metrics, tenants: &[(AppName, Tenant)], families: &mut Families) {
    let reached = families.counter(
        "tidegate_limits_reached",
        "How often a limit was reached, by its name in the manifest; of clients, where the app is empty",
    );
    let clients = (String::new(), &metrics.builder.stats().clients);
    let apps = tenants.iter().map(|(app, tenant)| (app.to_string(), &tenant.tally));
    for (app, tally) in apps.chain([clients]) {
        for (limit, times) in times(tally) {
            reached.count(vec![("app", app.clone()), ("limit", limit.to_owned())], times);
        }
    }
}

fn times(tally: &Tally) -> impl Iterator<Item = (&'static str, u64)> {
    let all = Limit::ALL.iter().map(|limit| (limit.name(), tally.times(*limit)));
    all.filter(|(_, times)| *times > 0)
}

fn instances(metrics: &Metrics, families: &mut Families) {
    let generation = metrics.current.load();
    let apps = || generation.apps.iter().filter_map(|(name, app)| Some((name, app.pool.as_ref()?)));

    let instances = families.gauge("tidegate_instances", "Instances that are there, by state");
    let censuses: Vec<_> = apps().map(|(app, pool)| (app, pool.census())).collect();
    for (app, census) in &censuses {
        for state in State::ALL {
            instances.value(with(app, "state", state.name()), census.count(state) as f64);
        }
    }
    for (app, count) in draining(metrics) {
        instances.value(with(&app, "state", "draining"), count as f64);
    }
    let waiting = families.gauge("tidegate_queue_requests", "Requests that wait for an instance");
    for (app, census) in &censuses {
        waiting.value(of(app), census.waiting as f64);
    }
    let max = families.gauge("tidegate_instances_max", "Instances that the app may have");
    for (app, pool) in apps() {
        max.value(of(app), pool.limits().max_instances.get() as f64);
    }
    let max = families.gauge("tidegate_queue_requests_max", "Requests of the app that may wait");
    for (app, pool) in apps() {
        max.value(of(app), pool.limits().queue as f64);
    }
    let max = families.gauge("tidegate_app_memory_max_bytes", "Memory that the app may take");
    for (app, pool) in apps() {
        max.value(of(app), pool.limits().app_memory as f64);
    }
}

/// Instances of retired generations, whatever each does, by app.
fn draining(metrics: &Metrics) -> BTreeMap<AppName, usize> {
    let mut counts = BTreeMap::new();
    for (app, pool) in metrics.current.draining() {
        *counts.entry(app).or_default() += pool.live();
    }
    counts
}

fn node(metrics: &Metrics, tenants: &[(AppName, Tenant)], families: &mut Families) {
    let memory = families.gauge(
        "tidegate_app_memory_bytes",
        "Memory that the app's instances have taken of the node's, whether or not they use it",
    );
    for (app, tenant) in tenants {
        memory.value(of(app), tenant.memory.used() as f64);
    }
    let cpu = families.counter(
        "tidegate_guest_cpu_seconds",
        "CPU that the app's guests have used, to about a millisecond per turn",
    );
    for (app, tenant) in tenants {
        cpu.sum(of(app), tenant.cpu.used().as_secs_f64());
    }
    let node = &metrics.builder.tenants().node;
    families
        .gauge("tidegate_node_memory_bytes", "Memory that all instances have taken")
        .value(Vec::new(), node.used() as f64);
    families
        .gauge("tidegate_node_memory_max_bytes", "Memory that all instances may take")
        .value(Vec::new(), node.limit() as f64);
}

fn of(app: &AppName) -> Labels {
    vec![("app", app.to_string())]
}

fn with(app: &AppName, name: &'static str, value: &str) -> Labels {
    vec![("app", app.to_string()), (name, value.to_owned())]
}
