//! What runs: `/v1/version` and `/v1/status`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use time::OffsetDateTime;

use super::Admin;
use super::answer::{Outcome, json};
use super::figures;
use super::hosts;
use super::instances::{counts, draining};
use super::reload::reload_shape;
use super::router::Call;
use super::shapes::{
    App, AppKind, AppState, Certificate, CertificateSource, Draining, DrainingApp, LimitReached,
    Listener, Memory, Status, Version, time,
};
use crate::certificates::{Listed, ListedFrom};
use crate::config::{AppName, Config, Paths};
use crate::generation::{self, Generation};
use crate::guest::engine::Kind;
use crate::limit::{Limit, Tally};
use crate::pool::{Census, Pool};
use crate::server::Bound;
use crate::stats::Rates;

pub async fn version(call: Call) -> Outcome {
    json(&version_of(&call.admin))
}

pub async fn status(call: Call) -> Outcome {
    json(&status_of(&call.admin))
}

fn version_of(admin: &Admin) -> Version {
    Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started: time(admin.started),
    }
}

fn status_of(admin: &Admin) -> Status {
    let generation = admin.current.load();
    let uptime = OffsetDateTime::now_utc() - admin.started;
    let draining = draining(&admin.current);
    let is_gone = |(app, _): &&(AppName, Draining)| !generation.apps.contains_key(app);
    let gone = draining.iter().filter(is_gone);
    let gone = gone.map(|(app, it)| DrainingApp { app: app.to_string(), draining: it.clone() });
    let builder = &admin.metrics.builder;
    let (stats, node) = (builder.stats(), &builder.tenants().node);
    let by_app = stats.apps();
    let app_of = |app: &Arc<generation::App>| app_of(&generation, app, &by_app, &draining);
    let bytes = |size: usize| size as u64;
    Status {
        version: version_of(admin),
        uptime_seconds: u64::try_from(uptime.whole_seconds()).unwrap_or(0),
        manifest: generation.config.path.display().to_string(),
        generation: generation.number,
        listeners: figures::listeners(stats),
        apps: generation.apps.values().map(app_of).collect(),
        draining: gone.collect(),
        memory: Memory { used_bytes: bytes(node.used()), limit_bytes: bytes(node.limit()) },
        limits: limits_of(&stats.clients),
        routes: hosts::routes(&generation.config),
        rates: figures::rates(&stats.total()),
        log: figures::log(),
        certificates: generation.certificates.listed().into_iter().map(certificate_of).collect(),
        warnings: generation.config.warnings.clone(),
        last_reload: admin.history.all().first().map(|entry| reload_shape(entry)),
    }
}

pub fn listener_of(bound: &Bound) -> Listener {
    Listener { scheme: bound.scheme.to_string(), address: bound.address.to_string() }
}

fn app_of(
    generation: &Generation,
    app: &generation::App,
    rates: &BTreeMap<AppName, Rates>,
    draining: &[(AppName, Draining)],
) -> App {
    let pool = app.pool.as_ref();
    let census = pool.map(Pool::census);
    let settings = generation.config.apps.get(&app.name);
    let component = app.component();
    App {
        name: app.name.to_string(),
        kind: component.map(|component| match component.kind {
            Kind::Plain => AppKind::P2,
            Kind::Concurrent => AppKind::P3,
        }),
        routes: routes_to(&generation.config, &app.name),
        component: settings.map_or(String::new(), |it| it.component.value.display().to_string()),
        digest: component.map(|component| component.digest.to_string()),
        state: match (&app.pool, app.fault()) {
            (Some(_), None) => AppState::Serving,
            (Some(_), Some(_)) => AppState::Stale,
            (None, Some(_)) => AppState::Failed,
            (None, None) => AppState::Compiling,
        },
        fault: app.fault().map(ToString::to_string),
        rates: figures::rates(&rates.get(&app.name).copied().unwrap_or_default()),
        instances: census.as_ref().map(counts).unwrap_or_default(),
        in_flight: census.as_ref().map_or(0, Census::in_flight),
        waiting: census.as_ref().map_or(0, |census| census.waiting),
        draining: draining
            .iter()
            .filter(|(of, _)| *of == app.name)
            .map(|(_, it)| it.clone())
            .collect(),
        memory_bytes: pool.map_or(0, |pool| pool.memory() as u64),
        cpu_seconds: pool.map_or(0.0, |pool| pool.cpu().as_secs_f64()),
        limits: pool.map_or(Vec::new(), |pool| limits_of(pool.tally())),
        drained: app.drain.is_on(),
    }
}

/// The limits that were reached, the latest first.
fn limits_of(tally: &Tally) -> Vec<LimitReached> {
    let mut all: Vec<_> = tally.reached_so_far().collect();
    all.sort_by_key(|(_, _, last)| std::cmp::Reverse(*last));
    let shape = |(limit, times, last): (Limit, u64, SystemTime)| LimitReached {
        limit: limit.name().to_owned(),
        times,
        last: time(last.into()),
    };
    all.into_iter().map(shape).collect()
}

/// The hosts and path prefixes that lead to `app`, such as `shop.example.com/api`.
fn routes_to(config: &Config, app: &AppName) -> Vec<String> {
    let all = config.hosts.iter().flat_map(|(host, paths): (_, &Paths)| {
        paths.iter().map(move |(prefix, route)| (host, prefix, route))
    });
    let own = all.filter(|(_, _, route)| route.app() == Some(app));
    own.map(|(host, prefix, _)| format!("{host}{prefix}")).collect()
}

pub fn certificate_of(listed: Listed) -> Certificate {
    let source = match listed.from {
        ListedFrom::File => CertificateSource::File,
        ListedFrom::Acme => CertificateSource::Acme,
        ListedFrom::Local => CertificateSource::Local,
    };
    let host = listed.host.to_string();
    let Some(details) = listed.details else {
        let names = Vec::new();
        return Certificate { host, source, names, issuer: None, not_before: None, expires: None };
    };
    Certificate {
        host,
        source,
        names: details.names,
        issuer: Some(details.issuer),
        not_before: Some(time(details.not_before)),
        expires: Some(time(details.not_after)),
    }
}
