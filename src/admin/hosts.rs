//! Hosts and where they lead, for `/v1/status`.

use super::shapes::{Route, RouteKind};
use crate::config::{Config, Target};

/// All routes, in the order of the hosts and of their path prefixes.
pub fn routes(config: &Config) -> Vec<Route> {
    let all = config.hosts.iter().flat_map(|(host, paths)| {
        paths.iter().map(move |(prefix, route)| (host, prefix, &route.target))
    });
    all.map(|(host, path, target)| {
        let (kind, target) = told(target);
        Route { host: host.to_string(), path: path.to_string(), kind, target }
    })
    .collect()
}

fn told(target: &Target) -> (RouteKind, String) {
    match target {
        Target::App(app) => (RouteKind::App, app.to_string()),
        Target::Redirect(redirect) => {
            let to = String::from_utf8_lossy(redirect.to.as_bytes());
            (RouteKind::Redirect, format!("{to} ({})", redirect.status.as_u16()))
        }
        Target::Respond(respond) => (RouteKind::Respond, respond.status.to_string()),
        Target::Files(files) => (RouteKind::Files, files.dir.value.display().to_string()),
    }
}
