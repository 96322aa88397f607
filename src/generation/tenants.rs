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
        let mut drains = self.drains.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(drains.entry(app.clone()).or_default())
    }

    /// Forgets those that `keep` does not want.
    pub fn retain(&self, keep: impl Fn(&AppName) -> bool) {
        self.lock().retain(|app, _| keep(app));
        self.drains.lock().unwrap_or_else(PoisonError::into_inner).retain(|app, _| keep(app));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AppName, Tenant>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
