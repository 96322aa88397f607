//! How many connections there may be: over all, from one address, and shaking hands.
//!
//! Where there is no room, those who are there without a request make it: the
//! longest at rest goes first. A client who comes is thus served, however many
//! hold connections open and say nothing. Were it to wait instead until one of
//! them leaves, they would decide when.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::warn;

use super::activity::Activity;
use crate::config::Clients;
use crate::limit::{Limit, Network};

/// Connections open at once at the most, where the manifest does not say.
const CONNECTIONS_MAX: usize = 8192;

/// One descriptor in this many may be a connection: guests and files need some as well.
const DESCRIPTORS_PER_CONNECTION: u64 = 2;

/// One connection in this many is dismissed at once when there is no room, so that not each one
/// who comes has to look at all.
const DISMISSED_PART: usize = 64;

/// How soon to look again for one at rest, when none was.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The connections that are open.
pub struct Caps {
    /// As many as there are descriptors for.
    most: usize,
    /// The last number wanted for which it was said that there are too few.
    warned: AtomicUsize,
    open: Mutex<Open>,
    left: Notify,
}

#[derive(Default)]
struct Open {
    next: u64,
    /// In the order in which they came.
    connections: BTreeMap<u64, Seat>,
    /// Those of them that shake hands.
    handshakes: BTreeSet<u64>,
    /// An entry leaves with the last connection of its network. Those that are counted as
    /// nobody's are together here, as if they were of one.
    networks: HashMap<Option<Network>, Share>,
}

struct Seat {
    network: Option<Network>,
    activity: Arc<Activity>,
}

/// What one network has.
#[derive(Clone, Copy, Default)]
struct Share {
    connections: usize,
    handshakes: usize,
}

/// A connection's place. Dropping it leaves it to the next.
pub struct Place {
    caps: Arc<Caps>,
    number: u64,
}

/// A handshake that is under way, until it is dropped.
pub struct Handshake<'a>(&'a Place);

/// There is no place for a client, who has been counted.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused;

impl Caps {
    /// No connection yet, and room for as many as there are descriptors for, having asked for as
    /// many as we may have.
    pub fn new() -> Caps {
        let most = raise_descriptors() / DESCRIPTORS_PER_CONNECTION;
        let most = usize::try_from(most).unwrap_or(usize::MAX).max(1);
        Caps { most, warned: AtomicUsize::new(0), open: Mutex::default(), left: Notify::new() }
    }

    /// How many connections there may be at a time: what the manifest says, if there are descriptors for them.
    pub fn connections_max(&self, clients: &Clients) -> usize {
        let wanted = clients.max_connections.map_or(CONNECTIONS_MAX, usize::from);
        if wanted > self.most && self.warned.swap(wanted, Relaxed) != wanted {
            warn!(
                connections_max = self.most,
                wanted, "few descriptors: raise the limit of open files (LimitNOFILE=)"
            );
        }
        wanted.min(self.most)
    }

    /// A place for the connection, as soon as there is room.
    ///
    /// # Errors
    /// When its network has as many as it may have: it is refused at once.
    pub async fn admit(self: &Arc<Self>, activity: &Arc<Activity>) -> Result<Place, Refused> {
        let max = self.connections_max(&activity.limits);
        let mut counted = false;
        loop {
            let dismissed = {
                let mut open = self.open();
                let network = activity.counted_as().map(Network::of);
                if !open.has_room(network, activity) {
                    drop(open);
                    activity.reached(Limit::MaxConnectionsPerAddress);
                    return Err(Refused);
                }
                if open.connections.len() < max {
                    let number = open.enter(network, Arc::clone(activity));
                    return Ok(Place { caps: Arc::clone(self), number });
                }
                open.longest_at_rest(max.div_ceil(DISMISSED_PART))
            };
            for resting in dismissed {
                resting.dismiss();
                resting.stop().cancel();
            }
            if !counted {
                activity.reached(Limit::MaxConnections);
                counted = true;
            }
            // One who leaves now is not missed: the notice is kept until somebody waits.
            let _ = timeout(LOOK_AGAIN, self.left.notified()).await;
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn share(&self, network: Option<Network>) -> Share {
        self.networks.get(&network).copied().unwrap_or_default()
    }

    /// Whether a network may have another connection.
    fn has_room(&self, network: Option<Network>, activity: &Activity) -> bool {
        let max = activity.limits.max_connections_per_address.get();
        network.is_none() || self.share(network).connections < max
    }

    fn enter(&mut self, network: Option<Network>, activity: Arc<Activity>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.connections.insert(number, Seat { network, activity });
        self.networks.entry(network).or_default().connections += 1;
        number
    }

    fn leave(&mut self, number: u64) {
        if let Some(seat) = self.connections.remove(&number) {
            self.leave_network(seat.network);
        }
    }

    fn leave_network(&mut self, network: Option<Network>) {
        let Some(share) = self.networks.get_mut(&network) else { return };
        share.connections -= 1;
        if share.connections == 0 {
            self.networks.remove(&network);
        }
    }

    /// Counts a connection as that of another network, which its client turned out to be of.
    fn move_to(&mut self, number: u64, network: Option<Network>) {
        let Some(seat) = self.connections.get_mut(&number) else { return };
        let before = std::mem::replace(&mut seat.network, network);
        self.networks.entry(network).or_default().connections += 1;
        self.leave_network(before);
    }

    /// Up to `count` connections that have been without a request for the longest. Those that
    /// were dismissed before are left out, and make room soon.
    fn longest_at_rest(&self, count: usize) -> Vec<Arc<Activity>> {
        let mut resting: Vec<_> = self
            .connections
            .values()
            .filter(|seat| !seat.activity.is_dismissed())
            .filter_map(|seat| Some((seat.activity.rests_since()?, &seat.activity)))
            .collect();
        if resting.len() > count {
            resting.select_nth_unstable_by_key(count, |(since, _)| *since);
            resting.truncate(count);
        }
        resting.into_iter().map(|(_, activity)| Arc::clone(activity)).collect()
    }

    /// The handshake that has been under way for the longest, of the network that has the most.
    fn heaviest_handshake(&self) -> Option<(u64, &Seat)> {
        let seat = |number: &u64| Some((*number, self.connections.get(number)?));
        let newest_first = self.handshakes.iter().rev().filter_map(seat);
        // The last one of several that are as heavy is the oldest then.
        newest_first.max_by_key(|(_, seat)| self.share(seat.network).handshakes)
    }

    /// Of one that has ended, or has been told to. The second time is none.
    fn end_handshake(&mut self, number: u64) {
        let network = self.connections.get(&number).map(|seat| seat.network);
        if self.handshakes.remove(&number)
            && let Some(share) = network.and_then(|network| self.networks.get_mut(&network))
        {
            share.handshakes -= 1;
        }
    }
}

impl Place {
    /// Counts the connection as that of the client whom a proxy has announced. No handshake has begun.
    ///
    /// # Errors
    /// When its network has as many as it may have.
    pub fn recount(&self, activity: &Activity) -> Result<(), Refused> {
        let mut open = self.caps.open();
        let network = activity.counted_as().map(Network::of);
        if !open.has_room(network, activity) {
            drop(open);
            activity.reached(Limit::MaxConnectionsPerAddress);
            return Err(Refused);
        }
        open.move_to(self.number, network);
        Ok(())
    }

    /// Begins the handshake of this connection.
    ///
    /// When too many are under way, one of the network with the most of them gives way to a
    /// network that has fewer: whoever opens many and never finishes them is in its own way first.
    ///
    /// # Errors
    /// When no other network has more handshakes under way than this client's.
    pub fn handshake(&self) -> Result<Handshake<'_>, Refused> {
        let mut open = self.caps.open();
        let Some(seat) = open.connections.get(&self.number) else { return Err(Refused) };
        let (network, max) = (seat.network, seat.activity.limits.max_handshakes.get());
        if open.handshakes.len() >= max {
            seat.activity.reached(Limit::MaxHandshakes);
            let mine = open.share(network).handshakes;
            let (number, other) = open.heaviest_handshake().ok_or(Refused)?;
            if open.share(other.network).handshakes <= mine {
                return Err(Refused);
            }
            other.activity.dismiss();
            other.activity.stop().cancel();
            open.end_handshake(number);
        }
        open.handshakes.insert(self.number);
        open.networks.entry(network).or_default().handshakes += 1;
        drop(open);
        Ok(Handshake(self))
    }
}

impl Drop for Handshake<'_> {
    fn drop(&mut self) {
        self.0.caps.open().end_handshake(self.0.number);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.caps.open().leave(self.number);
        self.caps.left.notify_one();
    }
}

/// Raises the soft limit of descriptors to the hard one: the soft one is kept low for `select`, which we do not use.
fn raise_descriptors() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls are given a valid `rlimit` and keep no pointer to it.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return 1024;
        }
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) == 0 {
            raised.rlim_cur
        } else {
            limit.rlim_cur
        }
    }
}

#[cfg(test)]
#[path = "caps_tests.rs"]
mod tests;
