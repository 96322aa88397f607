//! One app's part of a build: the app as it is to serve, whatever its file holds.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tracing::info;

use super::build::{Builder, Fault};
use super::compilations::{Compiled, Order};
use super::tenants::Tenant;
use super::{App, Tried, blocking};
use crate::config::{self, AppName};
use crate::crashes::{self, Witness};
use crate::guest::component::Digest;
use crate::guest::outbound::Outbound;
use crate::guest::profile::Profiler;
use crate::guest::store::Template;
use crate::guest::{Component, ComponentError};
use crate::pool::{Blueprint, Drain, Failure, Pool};
use crate::settle::SETTLE;

/// How long what failed by no fault of the component's own is remembered: then it is tried again.
const TRIED_AGAIN: Duration = Duration::from_secs(60);

/// Components at hand, so that one file in two apps, or under new settings, is compiled once.
pub(super) struct Components(Mutex<Vec<Arc<Component>>>);

impl Components {
    pub(super) fn new(at_hand: Vec<Arc<Component>>) -> Self {
        Self(Mutex::new(at_hand))
    }

    fn get(&self, digest: &Digest) -> Option<Arc<Component>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|component| component.digest == *digest).cloned()
    }

    fn add(&self, component: &Arc<Component>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(component.clone());
    }
}

/// What came of a job.
pub(super) struct Made {
    pub(super) app: Arc<App>,
    pub(super) fault: Option<Fault>,
    /// What it would be made of is being compiled.
    pub(super) awaits: Option<Order>,
}

/// One app's part of a build.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) builder: Arc<Builder>,
    pub(super) name: AppName,
    pub(super) settings: config::App,
    /// What its compilation may use.
    pub(super) compile: config::Compile,
    pub(super) number: u64,
    /// The process starts: there is nothing yet that could go on serving.
    pub(super) is_first: bool,
    pub(super) running: Option<Arc<App>>,
    pub(super) retired: Vec<Arc<App>>,
    pub(super) known: Arc<Components>,
}

impl Made {
    fn good(app: Arc<App>) -> Self {
        Self { app, fault: None, awaits: None }
    }

    fn bad(app: Arc<App>, fault: Fault) -> Self {
        Self { app, fault: Some(fault), awaits: None }
    }
}

impl Job {
    /// The app as it is to serve from now on. Whatever happens, there is one.
    pub(super) async fn app(self) -> Made {
        let spare = self.clone();
        AssertUnwindSafe(self.make()).catch_unwind().await.unwrap_or_else(|_| {
            let error = ComponentError::Start("tidegate failed while it was prepared".into());
            spare.fall_back(None, error, false)
        })
    }

    async fn make(self) -> Made {
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
            return Made::good(running.without_fault());
        }
        // A change that is taken back within the idle timeout finds its instances warm.
        if let Some(warm) = self.retired.iter().find(same) {
            if let Some(pool) = &warm.pool {
                pool.evict(warm.drain.is_on());
            }
            // Its share of the CPU is as the settings have it, also after others were tried.
            self.tenant();
            return Made::good(warm.without_fault());
        }
        if let Some(error) = self.failed_before(content.digest) {
            return self.fall_back(Some(content.digest), error, content.fresh);
        }

        let made = match self.component(content.digest).await {
            Some(Ok(component)) => self.pool(component).await,
            Some(Err(error)) => Err(error),
            None => return self.wait(content.digest),
        };
        match made {
            Ok((component, pool)) => {
                let app = App {
                    drain: self.drain(),
                    name: self.name,
                    pool: Some(pool),
                    made_of: Some((component, self.settings)),
                    fault: None,
                };
                Made::good(Arc::new(app))
            }
            Err(error) => self.fall_back(Some(content.digest), error, content.fresh),
        }
    }

    /// The app as it serves now, while its component is being compiled.
    fn wait(self, digest: Digest) -> Made {
        let order = Order { digest, limits: self.compile };
        let (name, drain) = (self.name.clone(), self.builder.tenants.drain(&self.name));
        let empty = || App { name, pool: None, drain, made_of: None, fault: None };
        let app = self.running.clone().unwrap_or_else(|| Arc::new(empty()));
        Made { app, fault: None, awaits: Some(order) }
    }

    /// Why this content, under these settings, could not be served the last time, if there is no
    /// use in trying it again.
    fn failed_before(&self, digest: Digest) -> Option<ComponentError> {
        let mut all = self.builder.lock_tried();
        let (tried, since) = all.get(&self.name)?;
        let same = tried.digest == Some(digest)
            && (&tried.settings, &tried.compile) == (&self.settings, &self.compile);
        if same && tried.error.passes() && since.elapsed() >= TRIED_AGAIN {
            all.remove(&self.name);
            return None;
        }
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

    /// The component with this digest: one at hand, or from the cache, or compiled.
    /// Nothing while it is being compiled, and that takes long.
    async fn component(&self, digest: Digest) -> Option<Compiled> {
        if let Some(component) = self.known.get(&digest) {
            return Some(Ok(component));
        }
        let order = Order { digest, limits: self.compile.clone() };
        let compiled = match self.cached(&order).await {
            Some(compiled) => compiled,
            None => {
                let path = &self.settings.component.value;
                self.builder.compilations.get(order, path, self.is_first).await?
            }
        };
        match &compiled {
            Ok(component) => self.known.add(component),
            Err(ComponentError::TooDear { limit, .. }) => {
                self.tenant().tally.reached(*limit, "its component");
            }
            Err(_) => {}
        }
        Some(compiled)
    }

    /// What the cache knows of it.
    async fn cached(&self, order: &Order) -> Option<Compiled> {
        let (builder, order) = (self.builder.clone(), order.clone());
        let started = Instant::now();
        let cached = blocking(move || {
            let (cache, engines) = (builder.cache.as_ref()?, &builder.engines);
            match cache.load(engines, &order.digest) {
                Some(component) => Some(Ok(Arc::new(component))),
                None => cache.refusal(&engines.id(), &order.digest, &order.limits).map(Err),
            }
        });
        let cached = cached.await;
        if let Some(Ok(_)) = cached {
            info!(app = %self.name, elapsed = ?started.elapsed(), "loaded compiled code");
        }
        cached
    }

    /// A pool for the component, which has been started once as proof.
    async fn pool(
        &self,
        component: Arc<Component>,
    ) -> Result<(Arc<Component>, Pool), ComponentError> {
        let settings = &self.settings;
        let (name, limits) = (self.name.as_str(), &settings.limits);
        let Tenant { tally, memory, cpu, stats, demand, crashes } = self.tenant();
        let network = self.builder.network.clone();
        let outbound = Outbound::new(&settings.outbound, limits, tally.clone(), network);
        let blueprint = Blueprint {
            component: component.clone(),
            template: Template {
                env: settings.env.clone().into_iter().collect(),
                args: settings.args.clone(),
                demand,
                ..Template::new(name, limits, &tally, outbound, cpu)
            },
            limits: limits.clone(),
            drain: self.drain(),
            memory,
            profiler: settings.profile.clone().map(|profile| {
                let writes = self.builder.tasks.clone();
                Profiler::new(profile, name, self.number, writes, tally.clone())
            }),
            crashes: crashes.map(|reporter| {
                let path = settings.component.value.clone();
                Witness::new(reporter, crashes::Component { path, digest: component.digest })
            }),
            dev: settings.dev,
            tally,
            stats,
            generation: self.number,
            tasks: self.builder.tasks.clone(),
            evicting: false.into(),
            roster: Default::default(),
        };
        match Pool::prove(blueprint).await {
            Ok(blueprint) => Ok((component, Pool::new(blueprint))),
            Err(Failure::TimedOut) => Err(ComponentError::Passing(
                "its start took longer than its request_timeout".into(),
            )),
            Err(failure) => Err(ComponentError::Start(failure.to_string())),
        }
    }

    fn drain(&self) -> Arc<Drain> {
        self.builder.tenants.drain(&self.name)
    }

    fn tenant(&self) -> Tenant {
        self.builder.tenants.get(&self.name, &self.settings.limits)
    }

    /// The app as it serves now, if it does, and what is wrong with its file.
    fn fall_back(self, digest: Option<Digest>, error: ComponentError, fresh: bool) -> Made {
        let component = &self.settings.component;
        let again = if error.passes() { ", which is tried again within a minute" } else { "" };
        let message = format!("{} cannot be served: {error}{again}", component.value.display());
        let (settings, compile) = (self.settings.clone(), self.compile.clone());
        let tried = Tried { digest, settings, compile, error };
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
            return Made::bad(as_it_was.clone(), fault);
        }
        let app = App {
            drain: self.drain(),
            pool: running.and_then(|app| app.pool.clone()),
            made_of: running.and_then(|app| app.made_of.clone()),
            fault: (!unfinished).then_some(tried),
            name: self.name,
        };
        Made::bad(Arc::new(app), fault)
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
                drain: self.drain.clone(),
                made_of: self.made_of.clone(),
                fault: None,
            }),
        }
    }
}
