//! A generation: everything one manifest produced. `Current` holds the one that serves.

mod build;
mod compilations;
mod duties;
mod files;
mod job;
mod route;
mod routes;
mod tenants;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;

pub use build::{Builder, Built, Fault};
pub use duties::{Door, Duties, Limiter};
pub use route::{Route, Target};
use routes::Routes;
pub use tenants::{Tenant, Tenants};

use crate::certificates::{Certificates, ClientVerifier};
use crate::config::{self, AppName, Config, Host};
use crate::guest::component::Digest;
use crate::guest::{Component, ComponentError};
use crate::pool::{Drain, Pool, WeakPool};
use crate::stats::{Requests, Stats};
use crate::users::UserFiles;

/// Everything one manifest produced: complete before it is visible, unchanged after.
pub struct Generation {
    /// From 1; each swap is one more.
    pub number: u64,
    pub config: Config,
    pub certificates: Arc<Certificates>,
    pub users: Arc<UserFiles>,
    pub apps: BTreeMap<AppName, Arc<App>>,
    /// Where requests are counted that no route answers.
    pub unrouted: Arc<Requests>,
    routes: Routes,
}

/// What the operator's files say of who is who.
#[derive(Clone)]
pub struct Credentials {
    pub certificates: Arc<Certificates>,
    pub users: Arc<UserFiles>,
}

/// An app as it is served.
pub struct App {
    pub name: AppName,
    /// What serves it; absent while there has been no usable component.
    pub pool: Option<Pool>,
    /// Whether it takes requests; the same in all generations.
    pub drain: Arc<Drain>,
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
pub enum Found<'a> {
    Route(&'a Route),
    UnknownHost,
    UnknownPath,
}

impl Generation {
    /// A generation whose apps are all made, whose requests `stats` counts. Its routes keep what those of the `running` one
    /// know of their clients.
    pub fn new(
        number: u64,
        config: Config,
        credentials: Credentials,
        apps: BTreeMap<AppName, Arc<App>>,
        stats: &Stats,
        running: Option<&Generation>,
    ) -> Self {
        let running = running.map(|running| &running.routes);
        let Credentials { certificates, users } = credentials;
        let routes = Routes::new(&config.hosts, &apps, &users, stats, running);
        let unrouted = Arc::clone(&stats.unrouted);
        Self { number, config, certificates, users, apps, unrouted, routes }
    }

    /// Whether a client would find the same here, as far as the manifest, the certificates and
    /// the users go.
    pub fn serves_as(&self, other: &Generation) -> bool {
        self.config == other.config
            && Arc::ptr_eq(&self.certificates, &other.certificates)
            && Arc::ptr_eq(&self.users, &other.users)
    }

    /// What verifies the clients of `host`, if it asks them for a certificate.
    pub fn client_verifier(&self, host: &Host) -> Option<&Arc<ClientVerifier>> {
        let auth = self.config.policy(host)?.client_auth.as_ref()?;
        self.certificates.client_verifier(auth)
    }

    /// Whether one of its apps is served by this pool.
    pub fn has(&self, pool: &Pool) -> bool {
        self.apps.values().any(|app| app.pool.as_ref().is_some_and(|it| it.is(pool)))
    }

    /// Whether plain HTTP for `host` is sent to HTTPS: as the manifest says; otherwise where the
    /// certificate is one that clients may know, or they need one themselves.
    pub fn goes_to_https(&self, host: &Host) -> bool {
        let policy = self.config.policy(host);
        let asks = || policy.is_some_and(|policy| policy.client_auth.is_some());
        policy
            .and_then(|policy| policy.redirect_to_https)
            .unwrap_or_else(|| asks() || self.certificates.is_known(host))
    }

    /// Why `app` is not served, if its developer may see that.
    pub fn shown_fault(&self, app: &App) -> Option<String> {
        let settings = self.config.apps.get(&app.name).filter(|settings| settings.dev)?;
        let error = &app.fault.as_ref()?.error;
        Some(format!("{} cannot be served: {error}", settings.component.value.display()))
    }

    /// Which route answers for `path` at `host`: an exact host beats a wildcard,
    /// which beats `*`; then the longest path prefix.
    pub fn route(&self, host: &Host, path: &str) -> Found<'_> {
        self.routes.find(host, path)
    }
}

impl App {
    /// What its instances are made of; absent while there has been no usable component.
    pub fn component(&self) -> Option<&Arc<Component>> {
        self.made_of.as_ref().map(|(component, _)| component)
    }

    /// Why its newest component, under its newest settings, cannot be served.
    pub fn fault(&self) -> Option<&ComponentError> {
        self.fault.as_ref().map(|tried| &tried.error)
    }

    /// Whether this and `other` are served by the same instances.
    pub fn same_pool(&self, other: &App) -> bool {
        match (&self.pool, &other.pool) {
            (Some(a), Some(b)) => a.is(b),
            _ => false,
        }
    }
}

/// The generation that serves. A request loads it once and keeps that `Arc`.
pub struct Current {
    serving: ArcSwap<Generation>,
    /// Pools of generations before it, as far as they are still there.
    retired: Mutex<Vec<(AppName, WeakPool)>>,
    /// Told of each swap.
    swapped: watch::Sender<()>,
}

impl Current {
    /// Starts with the first generation.
    pub fn new(first: Generation) -> Self {
        Self {
            serving: ArcSwap::from_pointee(first),
            retired: Mutex::default(),
            swapped: watch::Sender::default(),
        }
    }

    pub fn load(&self) -> Arc<Generation> {
        self.serving.load_full()
    }

    /// Publishes `next`; what is returned serves the requests that hold it, and no other.
    pub fn swap(&self, next: Generation) -> Arc<Generation> {
        // Before the swap: at no moment a pool is neither here nor there.
        self.remember(&self.load(), &next);
        let retired = self.serving.swap(Arc::new(next));
        self.swapped.send_replace(());
        retired
    }

    /// Pools of retired generations that have instances left, by app. Those of one app are in the
    /// order in which they were retired.
    ///
    /// Each knows its generation, and that is all that is needed to see a drain from outside.
    pub fn draining(&self) -> Vec<(AppName, Pool)> {
        let serving = self.load();
        let pools = self.lock_retired();
        let pools = pools.iter().filter_map(|(app, pool)| Some((app.clone(), pool.upgrade()?)));
        pools.filter(|(_, pool)| !serving.has(pool) && pool.live() > 0).collect()
    }

    /// Keeps those pools of the `running` generation in mind that the next one is without.
    fn remember(&self, running: &Generation, next: &Generation) {
        let mut retired = self.lock_retired();
        let is_kept = |pool: &WeakPool| pool.upgrade().is_some_and(|pool| !next.has(&pool));
        retired.retain(|(_, pool)| is_kept(pool));
        for (name, app) in &running.apps {
            if let Some(pool) = &app.pool
                && !next.has(pool)
            {
                retired.push((name.clone(), pool.downgrade()));
            }
        }
    }

    fn lock_retired(&self) -> MutexGuard<'_, Vec<(AppName, WeakPool)>> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of each swap from now on, for those who follow and do not change.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.swapped.subscribe()
    }
}

/// Runs `work` off the async threads. A panic in it goes on here.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
