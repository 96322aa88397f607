//! What guests reach outside: the HTTP client of one app.
//!
//! An app reaches the origins that its manifest names, at addresses of the
//! internet or such as are written out there, and no others. Redirects are not
//! followed: a guest that follows one makes another request, which is checked
//! like the first. Connections and TLS sessions are an app's own, and what one
//! instance has under way ends with it.

mod address;
mod allow;
mod connect;
mod network;
mod pool;
mod reply;
mod request;
mod send;
mod upload;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::sync::{OnceCell, Semaphore};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

pub use network::Network;
pub use send::Sent;

use crate::config::{Limits, Origin};
use crate::limit::{Limit, Tally};
use crate::traces;
use allow::Allowed;
use pool::{Connection, Pool};

/// Names that one app looks up at a time.
const MAX_LOOKUPS: usize = 2;

/// The client of one app.
pub struct Outbound {
    allowed: Allowed,
    network: Arc<Network>,
    tally: Arc<Tally>,
    /// The longest wait in each phase of a call.
    timeout: Duration,
    /// Bytes, either way.
    max_body: u64,
    calls: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
    tls: OnceCell<Arc<ClientConfig>>,
    pool: Arc<Pool>,
}

impl Outbound {
    /// A client that reaches `origins`, under the outbound ones of `limits`.
    pub fn new(
        origins: &BTreeSet<Origin>,
        limits: &Limits,
        tally: Arc<Tally>,
        network: Arc<Network>,
    ) -> Arc<Self> {
        Arc::new(Self {
            allowed: Allowed::new(origins),
            network,
            tally,
            timeout: limits.outbound_timeout,
            max_body: limits.max_outbound_body,
            calls: Arc::new(Semaphore::new(limits.max_outbound.get())),
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)),
            tls: OnceCell::new(),
            pool: Arc::default(),
        })
    }

    fn reached(&self, limit: Limit, by: impl fmt::Display) {
        self.tally.reached(limit, by);
    }
}

/// One call: from its request to the last byte of its response.
struct Call {
    app: Arc<Outbound>,
    origin: Origin,
    /// Its span, where one is recorded: it lasts as long as the call.
    span: Option<Arc<traces::Call>>,
    /// Cancelled when the instance that made it goes, or has no request left.
    calls: CancellationToken,
}

impl Call {
    fn is_cancelled(&self) -> bool {
        self.calls.is_cancelled()
    }

    fn cancelled(&self) -> WaitForCancellationFutureOwned {
        self.calls.clone().cancelled_owned()
    }

    fn max_body(&self) -> u64 {
        self.app.max_body
    }

    fn reached(&self, limit: Limit) {
        self.app.reached(limit, &self.origin);
    }

    /// A wait was too long. A guest that asked for a shorter one than it may have reached no limit.
    fn waited(&self, wait: Duration) {
        if wait >= self.app.timeout {
            self.reached(Limit::OutboundTimeout);
        }
    }

    /// Keeps a connection for the next call.
    fn keep(&self, connection: Connection) {
        self.app.pool.put(self.origin.clone(), connection);
    }
}
