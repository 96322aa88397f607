//! A generation: everything one manifest produced. `Current` holds the one that serves.

mod build;
mod compilations;
mod files;
mod job;
mod routes;
mod tenants;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

pub use build::{Builder, Built, Fault};
use routes::Routes;

use crate::certificates::Certificates;
use crate::config::{self, AppName, Config, Host};
use crate::guest::component::Digest;
use crate::guest::{Component, ComponentError};
use crate::pool::Pool;

/// Everything one manifest produced: complete before it is visible, unchanged after.
pub struct Generation {
    /// From 1; each swap is one more.
    pub number: u64,
    pub config: Config,
    pub certificates: Arc<Certificates>,
    pub apps: BTreeMap<AppName, Arc<App>>,
    routes: Routes,
}

/// An app as it is served.
pub struct App {
    pub name: AppName,
    /// What serves it; absent while there has been no usable component.
    pub pool: Option<Pool>,
    /// What the pool was made of.
    made_of: Option<(Arc<Component>, config::App)>,
    /// The newest thing that was tried in its place, and did not work.
    fault: Option<Tried>,
}

/// A component, with settings, that cannot be served.
#[derive(Clone)]
struct Tried {
    /// Absent where the file could not even be read.
    digest: Option<Digest>,
    settings: config::App,
    compile: config::Compile,
    error: ComponentError,
}

impl PartialEq for Tried {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
            && self.settings == other.settings
            && self.compile == other.compile
            && self.error.to_string() == other.error.to_string()
    }
}

/// Where a request goes.
pub enum Route<'a> {
    App(&'a App),
    UnknownHost,
    UnknownPath,
}

impl Generation {
    /// A generation whose apps are all made.
    pub fn new(
        number: u64,
        config: Config,
        certificates: Arc<Certificates>,
        apps: BTreeMap<AppName, Arc<App>>,
    ) -> Self {
        let routes = Routes::new(&config.hosts, &apps);
        Self { number, config, certificates, apps, routes }
    }

    /// Whether a client would find the same here, as far as the manifest and the certificates go.
    pub fn serves_as(&self, other: &Generation) -> bool {
        self.config == other.config && Arc::ptr_eq(&self.certificates, &other.certificates)
    }

    /// Which app answers for `path` at `host`: an exact host beats a wildcard,
    /// which beats `*`; then the longest path prefix.
    pub fn route(&self, host: &Host, path: &str) -> Route<'_> {
        self.routes.find(host, path)
    }
}

impl App {
    /// Whether this and `other` are served by the same instances.
    pub fn same_pool(&self, other: &App) -> bool {
        match (&self.pool, &other.pool) {
            (Some(a), Some(b)) => a.is(b),
            _ => false,
        }
    }
}

/// The generation that serves. A request loads it once and keeps that `Arc`.
pub struct Current(ArcSwap<Generation>);

impl Current {
    /// Starts with the first generation.
    pub fn new(first: Generation) -> Self {
        Self(ArcSwap::from_pointee(first))
    }

    pub fn load(&self) -> Arc<Generation> {
        self.0.load_full()
    }

    /// Publishes `next`; what is returned serves the requests that hold it, and no other.
    pub fn swap(&self, next: Generation) -> Arc<Generation> {
        self.0.swap(Arc::new(next))
    }
}

/// Runs `work` off the async threads. A panic in it goes on here.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
