//! A pool at one moment: its instances, and who waits for one.

use super::roster::{Seen, State};
use super::{Kind, Pool};

/// See the module. Counted while requests run, so its parts may be some microseconds apart.
#[derive(Clone, Debug)]
pub struct Census {
    /// The generation that made the pool.
    pub generation: u64,
    /// In the order in which they were begun; no more than the app's `max_instances`.
    pub instances: Vec<Seen>,
    /// Requests that wait for an instance, or for their turn to ask for one.
    pub waiting: usize,
    /// Idle instances leave at once.
    pub evicting: bool,
}

impl Census {
    /// How many instances are in that state.
    pub fn count(&self, state: State) -> usize {
        self.instances.iter().filter(|instance| instance.state == state).count()
    }

    /// Requests that instances work on.
    pub fn in_flight(&self) -> usize {
        self.instances.iter().map(|instance| instance.requests.len()).sum()
    }
}

impl Pool {
    /// What there is to see of it now.
    pub fn census(&self) -> Census {
        let (waiting, evicting) = match &*self.0 {
            Kind::Exclusive(pool) => (pool.waiting(), pool.slots.is_evicting()),
            Kind::Shared(pool) => (pool.waiting(), pool.schedule.is_evicting()),
        };
        let blueprint = self.blueprint();
        let mut instances = blueprint.roster.look();
        if evicting {
            let idle = instances.iter_mut().filter(|instance| instance.state == State::Idle);
            idle.for_each(|instance| instance.state = State::Leaving);
        }
        Census { generation: blueprint.generation, instances, waiting, evicting }
    }
}
