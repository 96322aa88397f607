//! What outlives an app's pools: how often it reached its limits, and what it has of the node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::{AppName, Limits};
use crate::guest::memory::{self, Node};
use crate::guest::share;
use crate::limit::Tally;

/// One app, over all of its pools.
#[derive(Clone)]
pub struct Tenant {
    pub tally: Arc<Tally>,
    /// What its instances take of the node's memory.
    pub memory: Arc<memory::Account>,
    /// Its share of the node's CPU.
    pub cpu: Arc<share::Account>,
}

/// All apps of the manifest, on one node.
pub struct Tenants {
    pub node: Arc<Node>,
    all: Mutex<BTreeMap<AppName, Tenant>>,
}

impl Tenants {
    pub fn new() -> Self {
        Self { node: Node::new(0), all: Mutex::default() }
    }

    /// The tenant `app`, whose limits are from now on these.
    pub fn get(&self, app: &AppName, limits: &Limits) -> Tenant {
        let mut all = self.lock();
        let tenant = all.entry(app.clone()).or_insert_with(|| Tenant {
            tally: Tally::new(Some(app.as_str().into())),
            memory: self.node.account(),
            cpu: share::Account::new(limits.cpu_weight),
        });
        tenant.cpu.set_weight(limits.cpu_weight);
        tenant.clone()
    }

    /// Forgets those that `keep` does not want.
    pub fn retain(&self, keep: impl Fn(&AppName) -> bool) {
        self.lock().retain(|app, _| keep(app));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AppName, Tenant>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
