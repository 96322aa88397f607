//! Connections of one listener.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::app::reasons;

/// See the module.
#[derive(Debug)]
pub struct Listener {
    /// Such as `https://0.0.0.0:443`; `h3://` is HTTP/3's.
    pub address: String,
    accepted: AtomicU64,
    closed: AtomicU64,
    refused: [AtomicU64; Refused::ALL.len()],
    handshakes: [AtomicU64; 2],
    tls: [AtomicU64; Tls::ALL.len()],
    protocols: [AtomicU64; Protocol::ALL.len()],
}

reasons! {
    /// Why a connection is refused before it says anything.
    Refused:
    /// Its address has as many connections as it may.
    Address => "address",
    /// Its address has more handshakes under way than others, and there is room for no more.
    Handshakes => "handshakes",
    /// It is not the proxy that it should be.
    ProxyProtocol => "proxy_protocol",
}

reasons! {
    /// A version of TLS.
    Tls:
    V1_2 => "1.2",
    V1_3 => "1.3",
}

reasons! {
    /// What a connection speaks.
    Protocol:
    H1 => "h1",
    H2 => "h2",
    H3 => "h3",
}

/// A connection that is open. Dropping it is its end.
#[derive(Debug)]
pub struct Open(Arc<Listener>);

/// A handshake that is under way.
#[derive(Debug)]
pub struct Shaking {
    listener: Arc<Listener>,
    is_done: bool,
}

/// What was counted of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub accepted: u64,
    pub open: u64,
    pub refused: Vec<(&'static str, u64)>,
    pub handshakes_done: u64,
    pub handshakes_failed: u64,
    pub tls: Vec<(&'static str, u64)>,
    pub protocols: Vec<(&'static str, u64)>,
}

impl Listener {
    pub fn new(address: String) -> Listener {
        Listener {
            address,
            accepted: AtomicU64::default(),
            closed: AtomicU64::default(),
            refused: Default::default(),
            handshakes: Default::default(),
            tls: Default::default(),
            protocols: Default::default(),
        }
    }

    /// A connection is there, whatever becomes of it.
    pub fn accept(self: &Arc<Self>) -> Open {
        self.accepted.fetch_add(1, Relaxed);
        Open(Arc::clone(self))
    }

    pub fn refuse(&self, why: Refused) {
        self.refused[why as usize].fetch_add(1, Relaxed);
    }

    /// A handshake begins. It has failed unless what is returned is told otherwise.
    pub fn shake(self: &Arc<Self>) -> Shaking {
        Shaking { listener: Arc::clone(self), is_done: false }
    }

    /// A connection is protected by this version.
    pub fn protected(&self, by: Tls) {
        self.tls[by as usize].fetch_add(1, Relaxed);
    }

    /// A connection speaks this protocol.
    pub fn speaks(&self, protocol: Protocol) {
        self.protocols[protocol as usize].fetch_add(1, Relaxed);
    }

    pub fn seen(&self) -> Seen {
        let all = |names: Vec<&'static str>, counters: &[AtomicU64]| {
            let counts = counters.iter().map(|counter| counter.load(Relaxed));
            names.into_iter().zip(counts).collect()
        };
        let [failed, done] = self.handshakes.each_ref().map(|counter| counter.load(Relaxed));
        // What is closed first: it was accepted before.
        let closed = self.closed.load(Relaxed);
        let accepted = self.accepted.load(Relaxed);
        Seen {
            accepted,
            open: accepted.saturating_sub(closed),
            refused: all(Refused::ALL.iter().map(|it| it.name()).collect(), &self.refused),
            handshakes_done: done,
            handshakes_failed: failed,
            tls: all(Tls::ALL.iter().map(|it| it.name()).collect(), &self.tls),
            protocols: all(Protocol::ALL.iter().map(|it| it.name()).collect(), &self.protocols),
        }
    }
}

impl Shaking {
    /// It is over, and well.
    pub fn done(mut self) {
        self.is_done = true;
    }
}

impl Drop for Shaking {
    fn drop(&mut self) {
        self.listener.handshakes[usize::from(self.is_done)].fetch_add(1, Relaxed);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.closed.fetch_add(1, Relaxed);
    }
}
