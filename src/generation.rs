//! skeleton, being written
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::certificates::Certificates;
use crate::config::{AppName, Config, Host};
use crate::pool::Pool;

/// Everything one manifest produced: complete before it is visible, unchanged after.
pub struct Generation {
    pub number: u64,
    pub config: Config,
    pub certificates: Arc<Certificates>,
}

/// An app as it is served.
pub struct App {
    pub name: AppName,
    /// Absent while its component is missing or bad.
    pub pool: Option<Pool>,
}

/// Where a request goes.
pub enum Route<'a> {
    App(&'a App),
    UnknownHost,
    UnknownPath,
}

impl Generation {
    pub fn route(&self, host: &Host, path: &str) -> Route<'_> {
        let _ = (host, path);
        todo!()
    }
}

/// The generation that serves. A request loads it once and keeps that `Arc`.
pub struct Current(ArcSwap<Generation>);

impl Current {
    pub fn new(first: Generation) -> Self {
        Self(ArcSwap::from_pointee(first))
    }
    pub fn load(&self) -> Arc<Generation> {
        self.0.load_full()
    }
    pub fn swap(&self, next: Generation) -> Arc<Generation> {
        self.0.swap(Arc::new(next))
    }
}
