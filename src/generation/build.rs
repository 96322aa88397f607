//! Building a generation: what did not change is taken over, what did is made anew.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::compilations::Compilations;
use super::files::Files;
use super::job::{Components, Job};
use super::tenants::Tenants;
use super::{App, Credentials, Generation, Tried};
use crate::available;
use crate::config::{AppName, Config, Problem};
use crate::crashes::Desk;
use crate::guest::cache::Cache;
use crate::guest::component::Digest;
use crate::guest::outbound::Network;
use crate::guest::{Compiler, Component, Engines};
use crate::stats::Stats;

/// What generations are built with; one for the whole process.
pub struct Builder {
    pub(super) engines: Arc<Engines>,
    pub(super) cache: Option<Arc<Cache>>,
    pub(super) compilations: Compilations,
    /// What pools spawn; shutdown waits for it.
    pub(super) tasks: TaskTracker,
    files: Mutex<Files>,
    /// What could not be served when it was last tried, and since when: it is not compiled again.
    tried: Mutex<BTreeMap<AppName, (Tried, Instant)>>,
    /// What the outbound requests of all apps share.
    pub(super) network: Arc<Network>,
    /// What apps keep from one pool to the next.
    pub(super) tenants: Tenants,
    stats: Arc<Stats>,
}

/// A new generation, and what is wrong in it.
pub struct Built {
    pub generation: Generation,
    /// Apps whose component cannot be used as it is now. They keep their last good version, if there was one.
    pub faults: Vec<Fault>,
    /// Nothing differs from what runs.
    pub unchanged: bool,
    /// A component takes long to compile: build again when [`Builder::compiled`] says so.
    pub compiling: bool,
}

/// One app's component cannot be used.
pub struct Fault {
    pub app: AppName,
    pub problem: Problem,
    /// The file was changed just now, so it may only be half written: look again before saying anything.
    pub unfinished: bool,
    /// The same was found the last time.
    pub known: bool,
    /// An earlier version goes on serving.
    pub serving: bool,
}

impl Builder {
    /// `cache` keeps compiled code; without it every start compiles everything. `crashes` makes
    /// bundles of guests that fail.
    pub fn new(
        engines: Arc<Engines>,
        compiler: Compiler,
        cache: Option<Cache>,
        crashes: Option<Arc<Desk>>,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        let cache = cache.map(Arc::new);
        let (shared, kept) = (engines.clone(), cache.clone());
        let compilations = Compilations::new(shared, compiler, kept, tasks.clone());
        Arc::new(Self {
            engines,
            cache,
            compilations,
            tasks,
            files: Mutex::default(),
            tried: Mutex::default(),
            network: Network::new(),
            tenants: Tenants::new(crashes),
            stats: Stats::new(),
        })
    }

    /// No guest is to reach this address of ours, whatever its manifest allows.
    pub fn keep_guests_from(&self, address: SocketAddr) {
        self.network.forbid(address);
    }

    /// What apps keep from one generation to the next.
    pub fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    /// What is counted, in every generation.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// Has what failed by no fault of the component's own be tried again by the next build.
    pub fn try_again(&self) {
        self.lock_tried().retain(|_, (tried, _)| !tried.error.passes());
    }

    /// Builds the generation of `config`, taking over from `running` and from
    /// `retired` what they have of it. `progress` hears of each app that is ready.
    pub async fn build(
        self: &Arc<Self>,
        number: u64,
        config: Config,
        credentials: Credentials,
        running: Option<&Generation>,
        retired: &[Arc<App>],
        progress: impl Fn(&AppName),
    ) -> Built {
        let unread: Vec<Arc<Component>> = running
            .into_iter()
            .flat_map(|generation| generation.apps.values())
            .chain(retired)
            .filter_map(|app| Some(app.made_of.as_ref()?.0.clone()))
            .collect();
        let known = Arc::new(Components::new(unread));
        self.tenants.node.set_limit(node_memory(&config));

        let mut building = JoinSet::new();
        for (name, settings) in &config.apps {
            let job = Job {
                builder: self.clone(),
                name: name.clone(),
                settings: settings.clone(),
                compile: config.compile.clone(),
                number,
                is_first: running.is_none(),
                running: running.and_then(|generation| generation.apps.get(name).cloned()),
                retired: retired.iter().filter(|app| app.name == *name).cloned().collect(),
                known: known.clone(),
            };
            building.spawn(job.app());
        }

        let mut apps = BTreeMap::new();
        let mut faults = Vec::new();
        let mut awaited = Vec::new();
        // A job catches its own panics, so none fails.
        while let Some(Ok(made)) = building.join_next().await {
            progress(&made.app.name);
            faults.extend(made.fault);
            awaited.extend(made.awaits);
            apps.insert(made.app.name.clone(), made.app);
        }
        self.compilations.keep(&awaited);
        self.lock_files()
            .retain(|path| config.apps.values().any(|app| app.component.value == path));
        self.lock_tried().retain(|app, _| config.apps.contains_key(app));
        self.tenants.retain(|app| config.apps.contains_key(app));

        let generation = Generation::new(number, config, credentials, apps, &self.stats, running);
        let hosts = &generation.config.hosts;
        self.stats.retain(|key| hosts.get(&key.host).is_some_and(|paths| key.is_of(paths)));
        let unchanged = running.is_some_and(|running| {
            let pairs = || running.apps.values().zip(generation.apps.values());
            running.serves_as(&generation) && pairs().all(|(a, b)| Arc::ptr_eq(a, b))
        });
        if !unchanged {
            let kept = generation.apps.values().chain(retired);
            self.tidy(kept.filter_map(|app| Some(app.made_of.as_ref()?.0.digest)).collect());
        }
        let compiling = !awaited.is_empty();
        Built { generation, faults, unchanged, compiling }
    }

    /// Resolves when a component is compiled that a build did not wait for.
    pub async fn compiled(&self) {
        self.compilations.finished().await;
    }

    /// Drops retired apps whose instances are gone, and their compiled code with them.
    pub fn free(self: &Arc<Self>, apps: Vec<Arc<App>>) {
        if apps.is_empty() {
            return;
        }
        let engines = self.engines.clone();
        self.tasks.spawn_blocking(move || {
            engines.release();
            drop(apps);
        });
    }

    /// Has the cache drop what is none of the components `in_use`, some time after.
    fn tidy(self: &Arc<Self>, in_use: Vec<Digest>) {
        let builder = self.clone();
        self.tasks.spawn_blocking(move || {
            let Some(cache) = &builder.cache else { return };
            if let Err(error) = cache.prune(&builder.engines.id(), &in_use) {
                warn!(%error, "old compiled code was not removed");
            }
        });
    }

    pub(super) fn lock_tried(
        &self,
    ) -> std::sync::MutexGuard<'_, BTreeMap<AppName, (Tried, Instant)>> {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock_files(&self) -> std::sync::MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What all instances together may take: as configured, or three quarters of what there is.
fn node_memory(config: &Config) -> usize {
    let bytes = config.server.memory.unwrap_or_else(|| available::memory() / 4 * 3);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
