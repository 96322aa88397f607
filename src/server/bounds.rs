//! What files and compression may take of the node, all routes together, and one client of that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, getrlimit};

use super::files::Disk;
use crate::config::Peer;
use crate::limit::Network;

/// Files that are open while they are sent. Those of one chunk are closed before.
const FILES_MAX: u64 = 512;

/// One descriptor in this many may be such a file: connections and guests need the others.
const DESCRIPTORS_PER_FILE: u64 = 8;

/// Answers that are compressed at a time; others are sent as they are. Each holds a window and
/// tables: see `WINDOW_LOG` in `duties::encoder`.
const ENCODERS_MAX: usize = 128;

/// What all connections share.
pub struct Bounds {
    pub disk: Disk,
    pub files: Arc<Places>,
    pub encoders: Arc<Places>,
}

/// So many places, which clients take for as long as an answer lasts.
pub struct Places {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    /// An entry leaves with the last place of its network.
    networks: HashMap<Option<Network>, usize>,
}

/// A client's place. Dropping it leaves it to the next.
pub struct Place {
    places: Arc<Places>,
    /// None for all that come over Unix sockets, who are counted as one.
    network: Option<Network>,
}

impl Bounds {
    /// As many files as there are descriptors for, once that limit has been raised.
    pub fn new() -> Bounds {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let files = (descriptors / DESCRIPTORS_PER_FILE).clamp(1, FILES_MAX);
        Bounds {
            disk: Disk::new(),
            files: Places::new(usize::try_from(files).unwrap_or(1)),
            encoders: Places::new(ENCODERS_MAX),
        }
    }
}

impl Places {
    pub fn new(most: usize) -> Arc<Places> {
        Arc::new(Places { most, taken: Mutex::default() })
    }

    /// A place for the client, as long as more are free than its network has.
    ///
    /// Thus one that takes all it gets has half of them, two have a third each, and whoever comes
    /// without any still finds one.
    pub fn take(self: &Arc<Self>, client: Peer) -> Option<Place> {
        let network = match client {
            Peer::Ip(address) => Some(Network::of(address)),
            Peer::Unix => None,
        };
        let mut taken = self.taken();
        let mine = taken.networks.get(&network).copied().unwrap_or(0);
        if mine >= self.most - taken.all {
            return None;
        }
        taken.all += 1;
        taken.networks.insert(network, mine + 1);
        drop(taken);
        Some(Place { places: Arc::clone(self), network })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        if let Some(mine) = taken.networks.get_mut(&self.network) {
            *mine -= 1;
            if *mine == 0 {
                taken.networks.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many places as the client gets.
    fn all(places: &Arc<Places>, client: &str) -> Vec<Place> {
        let client = Peer::Ip(client.parse().unwrap());
        std::iter::from_fn(|| places.take(client)).collect()
    }

    #[test]
    fn no_client_takes_the_places_of_all() {
        let places = Places::new(96);
        let first = all(&places, "192.0.2.1");
        assert_eq!(first.len(), 48);
        let second = all(&places, "192.0.2.2");
        assert_eq!(second.len(), 24);
        assert_eq!(all(&places, "::ffff:192.0.2.2").len(), 0, "it is the same client");
        let third = all(&places, "2001:db8::1");
        assert_eq!(third.len(), 12);
        assert_eq!(all(&places, "2001:db8::2").len(), 0, "it is the same network");

        drop((first, second, third));
        assert_eq!(all(&places, "192.0.2.1").len(), 48, "what was left can be taken again");
        assert!(places.taken().networks.is_empty() && places.taken().all == 0);
    }

    #[test]
    fn one_place_is_for_one() {
        let places = Places::new(1);
        let only = all(&places, "192.0.2.1");
        assert_eq!((only.len(), all(&places, "192.0.2.2").len()), (1, 0));
    }
}
