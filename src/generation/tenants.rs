//! What outlives an app's pools: how often it reached its limits, and what it has of the node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::{AppName, Limits};
use crate::crashes::{Desk, Reporter};
use crate::guest::memory::{self, Node};
use crate::guest::profile::Demand;
use crate::guest::share;
use crate::limit::Tally;
use crate::pool::Drain;
use crate::stats;

/// One app, over all of its pools.
#[derive(Clone)]
pub struct Tenant {
    pub tally: Arc<Tally>,
    /// What its instances take of the node's memory.
    pub memory: Arc<memory::Account>,
    /// Its share of the node's CPU.
    pub cpu: Arc<share::Account>,
    /// What became of its instances.
    pub stats: Arc<stats::App>,
    /// What an operator asks to be sampled of it.
    pub demand: Arc<Demand>,
    /// Absent where no bundles are made.
    pub crashes: Option<Arc<Reporter>>,
}

/// All apps of the manifest, on one node.
pub struct Tenants {
    pub node: Arc<Node>,
    crashes: Option<Arc<Desk>>,
    all: Mutex<BTreeMap<AppName, Tenant>>,
    /// Apart, as an app without a usable component has one as well.
    drains: Mutex<BTreeMap<AppName, Arc<Drain>>>,
}

impl Tenants {
    /// `crashes` takes what their guests' crashes tell.
    pub(super) fn new(crashes: Option<Arc<Desk>>) -> Self {
        Self { node: Node::new(0), crashes, all: Mutex::default(), drains: Mutex::default() }
    }

    /// The tenant `app`, whose limits are from now on these.
    pub fn get(&self, app: &AppName, limits: &Limits) -> Tenant {
        let mut all = self.lock();
        let tenant = all.entry(app.clone()).or_insert_with(|| Tenant {
            tally: Tally::new(Some(app.as_str().into())),
            memory: self.node.account(),
            cpu: share::Account::new(limits.cpu_weight),
            stats: Arc::default(),
            demand: Arc::default(),
            crashes: self.crashes.as_ref().map(|desk| desk.reporter(app.as_str())),
        });
        tenant.cpu.set_weight(limits.cpu_weight);
        tenant.clone()
    }

    /// All of them.
    pub fn all(&self) -> Vec<(AppName, Tenant)> {
        self.lock().iter().map(|(app, tenant)| (app.clone(), tenant.clone())).collect()
    }

    /// Whether the app takes requests, as its operator has said.
    pub fn drain(&self, app: &AppName) -> Arc<Drain> {
        Arc::clone(self.lock_drains().entry(app.clone()).or_default())
    }

    /// Forgets those that `keep` does not want, and whose pools are gone: the app may come back to
    /// one of them. What its operator has drained stays so.
    pub fn retain(&self, keep: impl Fn(&AppName) -> bool) {
        self.lock().retain(|app, tenant| keep(app) || Arc::strong_count(&tenant.memory) > 1);
        self.lock_drains()
            .retain(|app, drain| keep(app) || drain.is_on() || Arc::strong_count(drain) > 1);
    }

    /// The apps that take no requests, as their operator has said.
    pub fn drained(&self) -> Vec<AppName> {
        let drains = self.lock_drains();
        drains.iter().filter(|(_, drain)| drain.is_on()).map(|(app, _)| app.clone()).collect()
    }

    fn lock_drains(&self) -> MutexGuard<'_, BTreeMap<AppName, Arc<Drain>>> {
        self.drains.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AppName, Tenant>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
