//! Counters and histograms: plain atomics, owned by what they count, read by whoever looks.
//!
//! To count takes no lock and no allocation. `requests` counts what clients ask, by app and host;
//! `app` what becomes of an app's instances; `listener` connections; `reloads` changes to the files.
//! `rates` tells the last minute of it, from what `window` remembers. What all of it is called for
//! monitoring is not known here.

mod app;
mod histogram;
mod listener;
mod rates;
mod reloads;
mod requests;
mod shards;
mod window;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

pub use app::{App, Gone, Trapped};
pub use histogram::{BOUNDS, Durations, Histogram};
pub use listener::{Listener, Open, Protocol, Refused, Seen, Tls};
pub use rates::Rates;
pub use reloads::{Reloads, Verdict};
pub use requests::{Answered, Class, InFlight, Received, Requests, Sum};

use crate::config::{AppName, HostPattern, Paths};
use crate::limit::Tally;
use window::Window;

/// What the process counts that belongs to no app alone.
pub struct Stats {
    pub started: SystemTime,
    /// How often clients reached their limits.
    pub clients: Arc<Tally>,
    pub reloads: Reloads,
    /// Requests that no route answers.
    pub unrouted: Arc<Requests>,
    routed: Mutex<BTreeMap<Key, Arc<Requests>>>,
    listeners: Mutex<Vec<Arc<Listener>>>,
    window: Window,
}

/// Whose requests are counted together. All of it is the manifest's, and nothing a client's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Absent where tidegate answers by itself.
    pub app: Option<AppName>,
    pub host: HostPattern,
}

impl Key {
    /// Whether it is that of one of a host's routes.
    pub fn is_of(&self, paths: &Paths) -> bool {
        paths.iter().any(|(_, route)| route.app() == self.app.as_ref())
    }
}

impl Stats {
    pub fn new() -> Arc<Stats> {
        Arc::new(Stats {
            started: SystemTime::now(),
            clients: Tally::new(None),
            reloads: Reloads::default(),
            unrouted: Arc::default(),
            routed: Mutex::default(),
            listeners: Mutex::default(),
            window: Window::default(),
        })
    }

    /// Where requests for `host` that `app` answers are counted, in every generation.
    pub fn requests(&self, app: Option<&AppName>, host: &HostPattern) -> Arc<Requests> {
        let key = Key { app: app.cloned(), host: host.clone() };
        Arc::clone(lock(&self.routed).entry(key).or_default())
    }

    /// Forgets those that `keep` does not want.
    pub fn retain(&self, keep: impl Fn(&Key) -> bool) {
        lock(&self.routed).retain(|key, _| keep(key));
    }

    /// What was counted so far by app and host.
    pub fn routed(&self) -> Vec<(Key, Sum)> {
        let routed = lock(&self.routed);
        routed.iter().map(|(key, requests)| (key.clone(), requests.sum())).collect()
    }

    /// The counters of one more listener, at this address.
    pub fn listener(&self, address: String) -> Arc<Listener> {
        let listener = Arc::new(Listener::new(address));
        lock(&self.listeners).push(Arc::clone(&listener));
        listener
    }

    pub fn listeners(&self) -> Vec<Arc<Listener>> {
        lock(&self.listeners).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
