//! A route as it is served: its target at hand, its duties ready to be done.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::App;
use super::duties::Duties;
use crate::config::{self, AppName, Files, Redirect, Respond};
use crate::stats::Requests;

/// What answers below one path prefix of a host.
pub struct Route {
    /// As [`Paths`](config::Paths) has it: without a trailing `/` but for `/` itself.
    pub prefix: String,
    pub target: Target,
    /// Where its requests are counted, those of all routes to the same app at the same host together.
    pub requests: Arc<Requests>,
    /// Absent where there are none.
    pub duties: Option<Box<Duties>>,
}

/// What makes the answer.
pub enum Target {
    App(Arc<App>),
    Redirect(Redirect),
    Respond(Respond),
    /// Shared with the threads that read them.
    Files(Arc<Files>),
}

impl Route {
    /// The route of this target.
    pub(super) fn new(
        prefix: &str,
        target: &config::Target,
        apps: &BTreeMap<AppName, Arc<App>>,
        requests: Arc<Requests>,
        duties: Option<Box<Duties>>,
    ) -> Self {
        let target = match target {
            config::Target::App(name) => Target::App(apps[name].clone()),
            config::Target::Redirect(redirect) => Target::Redirect(redirect.clone()),
            config::Target::Respond(respond) => Target::Respond(respond.clone()),
            config::Target::Files(files) => Target::Files(Arc::new(files.clone())),
        };
        Self { prefix: prefix.to_owned(), target, requests, duties }
    }

    /// The app that answers, where it is one.
    pub fn app(&self) -> Option<&Arc<App>> {
        match &self.target {
            Target::App(app) => Some(app),
            Target::Redirect(_) | Target::Respond(_) | Target::Files(_) => None,
        }
    }
}

impl Target {
    /// What answers in an app's stead, for the access log.
    pub fn own_name(&self) -> Option<&'static str> {
        match self {
            Target::App(_) => None,
            Target::Redirect(_) => Some("redirect"),
            Target::Respond(_) => Some("respond"),
            Target::Files(_) => Some("files"),
        }
    }
}
