//! From host and path to route.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::duties::Duties;
use super::route::Route;
use super::{App, Found};
use crate::config::{AppName, Host, HostPattern, Paths};
use crate::stats::Stats;
use crate::users::UserFiles;

/// The hosts of a manifest with their routes.
pub struct Routes {
    exact: HashMap<Host, Paths<Route>>,
    /// By the domain below which they match one label.
    wildcard: HashMap<Host, Paths<Route>>,
    any: Option<Paths<Route>>,
}

impl Routes {
    /// Every app that `hosts` names is in `apps`: the config is valid. Routes keep what they
    /// know of their clients from those that are `running`.
    pub fn new(
        hosts: &BTreeMap<HostPattern, Paths>,
        apps: &BTreeMap<AppName, Arc<App>>,
        users: &UserFiles,
        stats: &Stats,
        running: Option<&Routes>,
    ) -> Self {
        let mut routes = Self { exact: HashMap::new(), wildcard: HashMap::new(), any: None };
        for (pattern, paths) in hosts {
            let before = running.and_then(|running| running.of(pattern));
            let paths = paths.map(|prefix, settings| {
                let before = before.and_then(|before| before.get(prefix));
                let at = format!("{pattern}{prefix}");
                let duties = settings.duties.as_ref().map(|settings| {
                    let before = before.and_then(|before| before.duties.as_deref());
                    Box::new(Duties::new(settings, at, users, before))
                });
                let requests = stats.requests(settings.app(), pattern);
                Route::new(prefix, &settings.target, apps, requests, duties)
            });
            match pattern {
                HostPattern::Exact(host) => {
                    routes.exact.insert(host.clone(), paths);
                }
                HostPattern::Wildcard(domain) => {
                    routes.wildcard.insert(domain.clone(), paths);
                }
                HostPattern::Any => routes.any = Some(paths),
            }
        }
        routes
    }

    pub fn find(&self, host: &Host, path: &str) -> Found<'_> {
        let paths = self
            .exact
            .get(host)
            .or_else(|| self.wildcard.get(host.parent()?))
            .or(self.any.as_ref());
        let Some(paths) = paths else {
            return Found::UnknownHost;
        };
        match paths.find(path) {
            Some(route) => Found::Route(route),
            None => Found::UnknownPath,
        }
    }

    fn of(&self, pattern: &HostPattern) -> Option<&Paths<Route>> {
        match pattern {
            HostPattern::Exact(host) => self.exact.get(host),
            HostPattern::Wildcard(domain) => self.wildcard.get(domain),
            HostPattern::Any => self.any.as_ref(),
        }
    }
}
