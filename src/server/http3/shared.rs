//! What the streams of one connection share: its end, and whether requests are still accepted.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use h3::error::Code;
use quinn::{Connection, VarInt};

use super::budget::Budget;
use super::frames::Refused;
use crate::limit::Limit;
use crate::server::activity::Activity;

/// See the module.
pub struct Shared {
    pub activity: Arc<Activity>,
    pub budget: Budget,
    connection: Connection,
    /// That of the stream that was accepted last, until it is taken.
    last: Mutex<Option<Gone>>,
    has_accepted: AtomicBool,
    rejects: AtomicBool,
}

/// Resolves when nothing more is to be sent on a stream: true if its client gave it up, false once
/// all has arrived or the connection is lost.
pub type Gone = Pin<Box<dyn Future<Output = bool> + Send>>;

impl Shared {
    pub fn new(connection: Connection, activity: Arc<Activity>) -> Shared {
        Shared {
            budget: Budget::new(&activity.limits),
            activity,
            connection,
            last: Mutex::default(),
            has_accepted: AtomicBool::new(false),
            rejects: AtomicBool::new(false),
        }
    }

    /// The client has given up a request.
    pub fn reset(&self) {
        if !self.budget.may(Limit::H3Resets) {
            self.refuse(Refused::load(Limit::H3Resets));
        }
    }

    /// Ends the connection, and tells the client why.
    pub fn refuse(&self, refused: Refused) {
        if let Some(limit) = refused.limit {
            self.activity.flooded(limit);
        }
        self.connection.close(varint(refused.code), b"");
    }

    /// Notes a stream that is handed to h3. `gone` is for [`Shared::take_last`].
    pub fn accepted(&self, gone: Gone) {
        self.has_accepted.store(true, Relaxed);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(gone);
    }

    /// When the client gives up the request that h3 accepted last.
    pub fn take_last(&self) -> Option<Gone> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether any request was accepted.
    pub fn has_accepted(&self) -> bool {
        self.has_accepted.load(Relaxed)
    }

    /// Requests that come from now on are rejected, so that their clients may send them elsewhere.
    pub fn reject(&self) {
        self.rejects.store(true, Relaxed);
    }

    pub fn rejects(&self) -> bool {
        self.rejects.load(Relaxed)
    }
}

/// The code as QUIC writes it.
pub fn varint(code: Code) -> VarInt {
    VarInt::from_u64(code.value()).unwrap_or(VarInt::MAX)
}
