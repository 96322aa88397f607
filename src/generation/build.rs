//! Building a generation: what did not change is taken over, what did is made anew.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;
use tracing::info;

use super::files::Files;
use super::{App, Generation, Tried};
use crate::certificates::Certificates;
use crate::config::{self, AppName, Config, Problem};
use crate::guest::cache::Cache;
use crate::guest::component::Digest;
use crate::guest::profile::Profiler;
use crate::guest::store::Template;
use crate::guest::{Account, Component, ComponentError, Engines};
use crate::limit::Tally;
use crate::pool::{Blueprint, Failure, Pool};
use crate::settle::SETTLE;

/// What generations are built with; one for the whole process.
pub struct Builder {
    engines: Arc<Engines>,
    cache: Option<Cache>,
    /// What pools spawn; shutdown waits for it.
    tasks: TaskTracker,
    files: Mutex<Files>,
    /// What could not be served when it was last tried, and since when: it is not compiled again.
    tried: Mutex<BTreeMap<AppName, (Tried, Instant)>>,
    /// One for each app, whatever pools it has had.
    tallies: Mutex<BTreeMap<AppName, Arc<Tally>>>,
    /// The same: apps as they share the CPU.
    accounts: Mutex<BTreeMap<AppName, Arc<Account>>>,
    /// One permit for each core that may compile: all but one.
    cores: Arc<Semaphore>,
}

/// A new generation, and what is wrong in it.
pub struct Built {
    pub generation: Generation,
    /// Apps whose component cannot be used as it is now. They keep their last good version, if there was one.
    pub faults: Vec<Fault>,
    /// Nothing differs from what runs.
    pub unchanged: bool,
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
    /// `cache` keeps compiled code; without it every start compiles everything.
    pub fn new(engines: Arc<Engines>, cache: Option<Cache>, tasks: TaskTracker) -> Arc<Self> {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Arc::new(Self {
            engines,
            cache,
            tasks,
            files: Mutex::default(),
            tried: Mutex::default(),
            tallies: Mutex::default(),
            accounts: Mutex::default(),
            cores: Arc::new(Semaphore::new(cores.saturating_sub(1).max(1))),
        })
    }

    /// Builds the generation of `config`, taking over from `running` and from
    /// `retired` what they have of it. `progress` hears of each app that is ready.
    pub async fn build(
        self: &Arc<Self>,
        number: u64,
        config: Config,
        certificates: Arc<Certificates>,
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
        let known = Arc::new(Components(Mutex::new(unread)));

        let mut building = JoinSet::new();
        for (name, settings) in &config.apps {
            let job = Job {
                builder: self.clone(),
                name: name.clone(),
                settings: settings.clone(),
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
        // A job catches its own panics, so none fails.
        while let Some(Ok((app, fault))) = building.join_next().await {
            progress(&app.name);
            faults.extend(fault);
            apps.insert(app.name.clone(), app);
        }
        self.lock_files()
            .retain(|path| config.apps.values().any(|app| app.component.value == path));
        self.lock_tried().retain(|app, _| config.apps.contains_key(app));
        self.lock_tallies().retain(|app, _| config.apps.contains_key(app));
        self.lock_accounts().retain(|app, _| config.apps.contains_key(app));

        let generation = Generation::new(number, config, certificates, apps);
        let unchanged = running.is_some_and(|running| {
            let pairs = || running.apps.values().zip(generation.apps.values());
            running.serves_as(&generation) && pairs().all(|(a, b)| Arc::ptr_eq(a, b))
        });
        Built { generation, faults, unchanged }
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

    fn tally(&self, app: &AppName) -> Arc<Tally> {
        let mut tallies = self.lock_tallies();
        let new = || Tally::new(Some(app.as_str().into()));
        tallies.entry(app.clone()).or_insert_with(new).clone()
    }

    fn lock_accounts(&self) -> std::sync::MutexGuard<'_, BTreeMap<AppName, Arc<Account>>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_tallies(&self) -> std::sync::MutexGuard<'_, BTreeMap<AppName, Arc<Tally>>> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_tried(&self) -> std::sync::MutexGuard<'_, BTreeMap<AppName, (Tried, Instant)>> {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_files(&self) -> std::sync::MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Components at hand, so that one file in two apps, or under new settings, is compiled once.
struct Components(Mutex<Vec<Arc<Component>>>);

impl Components {
    fn get(&self, digest: &Digest) -> Option<Arc<Component>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|component| component.digest == *digest).cloned()
    }

    fn add(&self, component: &Arc<Component>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(component.clone());
    }
}

/// One app's part of a build.
#[derive(Clone)]
struct Job {
    builder: Arc<Builder>,
    name: AppName,
    settings: config::App,
    number: u64,
    /// The process starts: there is nothing yet that could go on serving.
    is_first: bool,
    running: Option<Arc<App>>,
    retired: Vec<Arc<App>>,
    known: Arc<Components>,
}

impl Job {
    /// The app as it is to serve from now on. Whatever happens, there is one.
    async fn app(self) -> (Arc<App>, Option<Fault>) {
        let spare = self.clone();
        AssertUnwindSafe(self.make()).catch_unwind().await.unwrap_or_else(|_| {
            let error = ComponentError::Start("tidegate failed while it was prepared".into());
            spare.fall_back(None, error, false)
        })
    }

    async fn make(self) -> (Arc<App>, Option<Fault>) {
        let path = self.settings.component.value.clone();
        let builder = self.builder.clone();
        let look = blocking(move || builder.lock_files().look(&path)).await;
        let content = match look {
            Ok(content) => content,
            Err(error) => {
                let unfinished = error.kind() == io::ErrorKind::ResourceBusy;
                let error = ComponentError::Unreadable(error.to_string());
                return self.fall_back(None, error, unfinished);
            }
        };

        let same = |app: &&Arc<App>| app.is_made_of(&content.digest, &self.settings);
        if let Some(running) = self.running.as_ref().filter(same) {
            return (running.without_fault(), None);
        }
        if let Some(error) = self.failed_before(content.digest) {
            return self.fall_back(Some(content.digest), error, content.fresh);
        }
        // A change that is taken back within the idle timeout finds its instances warm.
        if let Some(warm) = self.retired.iter().find(same) {
            if let Some(pool) = &warm.pool {
                pool.evict(false);
            }
            self.account();
            return (warm.without_fault(), None);
        }

        let made = match self.component(content.digest, content.bytes).await {
            Ok(component) => self.pool(component).await,
            Err(error) => Err(error),
        };
        match made {
            Ok((component, pool)) => {
                let app = App {
                    name: self.name,
                    pool: Some(pool),
                    made_of: Some((component, self.settings)),
                    fault: None,
                };
                (Arc::new(app), None)
            }
            Err(error) => self.fall_back(Some(content.digest), error, content.fresh),
        }
    }

    /// Why this content, under these settings, could not be served the last time.
    fn failed_before(&self, digest: Digest) -> Option<ComponentError> {
        let all = self.builder.lock_tried();
        let (tried, _) = all.get(&self.name)?;
        let same = tried.digest == Some(digest) && tried.settings == self.settings;
        same.then(|| tried.error.clone())
    }

    /// Remembers what could not be served, and returns for how long it has been so.
    fn remember(&self, tried: Tried) -> Duration {
        let mut all = self.builder.lock_tried();
        match all.get(&self.name) {
            Some((known, since)) if *known == tried => since.elapsed(),
            _ => {
                all.insert(self.name.clone(), (tried, Instant::now()));
                Duration::ZERO
            }
        }
    }

    /// The component with this digest: one at hand, or compiled from `bytes`, or read again.
    async fn component(
        &self,
        digest: Digest,
        bytes: Option<Vec<u8>>,
    ) -> Result<Arc<Component>, ComponentError> {
        let Ok(_core) = self.builder.cores.acquire().await else {
            return Err(ComponentError::Compile("tidegate is stopping".into()));
        };
        if let Some(component) = self.known.get(&digest) {
            return Ok(component);
        }
        let builder = self.builder.clone();
        let path = self.settings.component.value.clone();
        let app = self.name.clone();
        let loading = tokio::task::spawn_blocking(move || {
            let unreadable = |e: io::Error| ComponentError::Unreadable(e.to_string());
            let bytes = match bytes {
                Some(bytes) => bytes,
                None => {
                    let content = builder.lock_files().read(&path).map_err(unreadable)?;
                    content.bytes.unwrap_or_default()
                }
            };
            let started = Instant::now();
            let component = Component::load(&builder.engines, builder.cache.as_ref(), &bytes)?;
            let elapsed = started.elapsed();
            info!(%app, size = bytes.len(), ?elapsed, "loaded a component");
            Ok(Arc::new(component))
        });
        // A component that makes the compiler panic is its app's trouble alone.
        let panicked = |_| Err(ComponentError::Compile("the compiler panicked on it".into()));
        let component = loading.await.unwrap_or_else(panicked)?;
        self.known.add(&component);
        Ok(component)
    }

    /// A pool for the component, which has been started once as proof.
    async fn pool(
        &self,
        component: Arc<Component>,
    ) -> Result<(Arc<Component>, Pool), ComponentError> {
        let settings = &self.settings;
        let name = self.name.as_str();
        let blueprint = Blueprint {
            component: component.clone(),
            template: Template {
                app: name.into(),
                env: settings.env.clone().into_iter().collect(),
                args: settings.args.clone(),
                memory: usize::try_from(settings.limits.memory).unwrap_or(usize::MAX),
                cpu_time: settings.limits.cpu_time,
                account: self.account(),
            },
            limits: settings.limits.clone(),
            tally: self.builder.tally(&self.name),
            profiler: settings.profile.clone().map(|profile| {
                Profiler::new(profile, name, self.number, self.builder.tasks.clone())
            }),
            generation: self.number,
            tasks: self.builder.tasks.clone(),
            count: 0.into(),
        };
        match Pool::prove(blueprint).await {
            Ok(blueprint) => Ok((component, Pool::new(blueprint))),
            Err(Failure::TimedOut) => {
                Err(ComponentError::Start("it took longer than its request_timeout".into()))
            }
            Err(failure) => Err(ComponentError::Start(failure.to_string())),
        }
    }

    /// The app's share of the CPU, which is from now on as the settings have it.
    fn account(&self) -> Arc<Account> {
        let weight = self.settings.limits.cpu_weight;
        let mut accounts = self.builder.lock_accounts();
        let account = accounts.entry(self.name.clone()).or_insert_with(|| Account::new(weight));
        account.set_weight(weight);
        account.clone()
    }

    /// The app as it serves now, if it does, and what is wrong with its file.
    fn fall_back(
        self,
        digest: Option<Digest>,
        error: ComponentError,
        fresh: bool,
    ) -> (Arc<App>, Option<Fault>) {
        let component = &self.settings.component;
        let message = format!("{} cannot be served: {error}", component.value.display());
        let tried = Tried { digest, settings: self.settings.clone(), error };
        // A file may be missing for a moment as well, while another takes its place.
        let lasting = self.remember(tried.clone());
        let unfinished = !self.is_first && (fresh || lasting < SETTLE);
        let running = self.running.as_ref();
        let known = running.filter(|app| app.fault.as_ref() == Some(&tried));
        let fault = Fault {
            app: self.name.clone(),
            problem: component.place.problem(message),
            unfinished,
            known: known.is_some(),
            serving: running.is_some_and(|app| app.pool.is_some()),
        };
        // The app remembers nothing of a file that may be half written.
        if let Some(as_it_was) = known.or(running.filter(|_| unfinished)) {
            return (as_it_was.clone(), Some(fault));
        }
        let app = App {
            pool: running.and_then(|app| app.pool.clone()),
            made_of: running.and_then(|app| app.made_of.clone()),
            fault: (!unfinished).then_some(tried),
            name: self.name,
        };
        (Arc::new(app), Some(fault))
    }
}

impl App {
    /// Whether its pool runs the component with this digest under these settings.
    fn is_made_of(&self, digest: &Digest, settings: &config::App) -> bool {
        let made_of = self.made_of.as_ref();
        made_of.is_some_and(|(component, with)| component.digest == *digest && with == settings)
    }

    /// The same app, once nothing is wrong with its file any more.
    fn without_fault(self: &Arc<Self>) -> Arc<Self> {
        match self.fault {
            None => self.clone(),
            Some(_) => Arc::new(Self {
                name: self.name.clone(),
                pool: self.pool.clone(),
                made_of: self.made_of.clone(),
                fault: None,
            }),
        }
    }
}

/// Runs `work` off the async threads. A panic in it goes on here.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
