//! Who has asked for a look, and is told what it came to.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::history::Entry;

/// How many may wait for an outcome at a time.
const WAITING_MAX: usize = 64;

/// What became of the changes that were there when somebody asked.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// In the order of time; empty where nothing had changed.
    pub entries: Vec<Arc<Entry>>,
}

/// The outcome, when it is known. An error where the server stops first, or too many wait.
pub type Asked = oneshot::Receiver<Told>;

/// Those for whom no look has begun yet.
#[derive(Default)]
pub struct Waiting(Mutex<Vec<Waiter>>);

/// One who waits, with what has happened since.
pub struct Waiter {
    told: Told,
    to: oneshot::Sender<Told>,
}

impl Waiting {
    pub fn add(&self) -> Asked {
        let (to, asked) = oneshot::channel();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|waiter| !waiter.to.is_closed());
        if all.len() < WAITING_MAX {
            all.push(Waiter { told: Told::default(), to });
        }
        asked
    }

    /// Those who asked before now.
    pub fn take(&self) -> Vec<Waiter> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Waiter {
    /// Something has happened meanwhile.
    pub fn saw(&mut self, entry: &Arc<Entry>) {
        self.told.entries.push(Arc::clone(entry));
    }

    /// It is known what has become of everything.
    pub fn tell(self) {
        // Who has left need not know.
        let _ = self.to.send(self.told);
    }
}
