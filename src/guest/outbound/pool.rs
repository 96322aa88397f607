//! An app's connections: those that rest between two calls, and what becomes of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use super::connect::Stream;
use super::upload::UploadBody;
use crate::config::Origin;

/// Idle connections of one app, and of those to one origin.
const MAX_IDLE: usize = 32;
const MAX_IDLE_PER_ORIGIN: usize = 8;

/// How long a connection may be idle.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection older than this is not used again, so that a name's new addresses are.
const MAX_AGE: Duration = Duration::from_secs(300);

/// Bytes and number of a response's headers, and bytes read ahead of the guest.
pub const MAX_HEAD: usize = 32 << 10;
const MAX_HEADERS: usize = 100;
const READ_BUFFER: usize = 64 << 10;

/// A connection. Dropping it closes it at once, whatever is under way.
pub struct Connection {
    pub sender: SendRequest<UploadBody>,
    opened: Instant,
    /// Drives it; ours alone to end, so shutdown need not wait for it.
    _task: AbortOnDropHandle<()>,
    /// Its place among those of the node.
    _place: OwnedSemaphorePermit,
}

impl Connection {
    /// Speaks HTTP/1.1 over `stream`.
    pub async fn open(stream: Stream, place: OwnedSemaphorePermit) -> hyper::Result<Self> {
        let (sender, connection) = http1::Builder::new()
            .max_headers(MAX_HEADERS)
            .max_header_size(MAX_HEAD)
            .max_buf_size(READ_BUFFER)
            .handshake(TokioIo::new(stream))
            .await?;
        let task = tokio::spawn(async move {
            // Its error is also that of the call, if there is one.
            let _ = connection.await;
        });
        let task = AbortOnDropHandle::new(task);
        Ok(Self { sender, opened: Instant::now(), _task: task, _place: place })
    }
}

/// The idle connections of one app: its own, as what a connection has seen is.
#[derive(Default)]
pub struct Pool(Mutex<Idle>);

#[derive(Default)]
struct Idle {
    /// Those idle for longest first.
    connections: Vec<(Origin, Instant, Connection)>,
    /// Closes them at their timeout; there while there are any.
    reaper: Option<AbortOnDropHandle<()>>,
}

impl Pool {
    /// The connection to `origin` that was used last.
    pub fn take(&self, origin: &Origin) -> Option<Connection> {
        let mut idle = self.lock();
        loop {
            let at = idle.connections.iter().rposition(|(to, ..)| to == origin)?;
            let (_, since, connection) = idle.connections.remove(at);
            if !connection.sender.is_closed() && since.elapsed() < IDLE_TIMEOUT {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose call is complete.
    pub fn put(self: &Arc<Self>, origin: Origin, connection: Connection) {
        if connection.opened.elapsed() > MAX_AGE {
            return;
        }
        let mut idle = self.lock();
        idle.connections.retain(|(.., idle)| !idle.sender.is_closed());
        let same = idle.connections.iter().filter(|(to, ..)| *to == origin).count();
        if same >= MAX_IDLE_PER_ORIGIN {
            return;
        }
        if idle.connections.len() >= MAX_IDLE {
            idle.connections.remove(0);
        }
        idle.connections.push((origin, Instant::now(), connection));
        if idle.reaper.is_none() {
            let reaping = tokio::spawn(reap(Arc::downgrade(self)));
            idle.reaper = Some(AbortOnDropHandle::new(reaping));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes connections at their timeout until none is left.
async fn reap(pool: Weak<Pool>) {
    while let Some(pool) = pool.upgrade() {
        let next = {
            let mut idle = pool.lock();
            idle.connections.retain(|(_, since, _)| since.elapsed() < IDLE_TIMEOUT);
            let Some((_, since, _)) = idle.connections.first() else {
                // The handle of this task, which ends here all the same.
                idle.reaper = None;
                return;
            };
            *since + IDLE_TIMEOUT
        };
        drop(pool);
        sleep_until(next).await;
    }
}
