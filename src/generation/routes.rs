//! From host and path to app.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{App, Route};
use crate::config::{AppName, Host, HostPattern, Paths};

/// The hosts of a manifest with their apps.
pub struct Routes {
    exact: HashMap<Host, Prefixes>,
    /// By the domain below which they match one label.
    wildcard: HashMap<Host, Prefixes>,
    any: Option<Prefixes>,
}

/// The paths of one host. Its apps are found by name, so a prefix costs no second table.
struct Prefixes {
    paths: Paths,
    apps: HashMap<AppName, Arc<App>>,
}

impl Routes {
    /// Every app that `hosts` names is in `apps`: the config is valid.
    pub fn new(hosts: &BTreeMap<HostPattern, Paths>, apps: &BTreeMap<AppName, Arc<App>>) -> Self {
        let mut routes = Self { exact: HashMap::new(), wildcard: HashMap::new(), any: None };
        for (pattern, paths) in hosts {
            let apps = paths
                .iter()
                .filter_map(|(_, name)| Some((name.clone(), apps.get(name)?.clone())))
                .collect();
            let prefixes = Prefixes { paths: paths.clone(), apps };
            match pattern {
                HostPattern::Exact(host) => {
                    routes.exact.insert(host.clone(), prefixes);
                }
                HostPattern::Wildcard(domain) => {
                    routes.wildcard.insert(domain.clone(), prefixes);
                }
                HostPattern::Any => routes.any = Some(prefixes),
            }
        }
        routes
    }

    pub fn find(&self, host: &Host, path: &str) -> Route<'_> {
        let prefixes = self
            .exact
            .get(host)
            .or_else(|| self.wildcard.get(host.parent()?))
            .or(self.any.as_ref());
        let Some(prefixes) = prefixes else {
            return Route::UnknownHost;
        };
        match prefixes.paths.find(path).and_then(|name| prefixes.apps.get(name)) {
            Some(app) => Route::App(app),
            None => Route::UnknownPath,
        }
    }
}
