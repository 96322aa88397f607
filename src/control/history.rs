//! The latest reloads, for operators who come later.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;

use super::{Changes, Outcome};

/// Reloads that are remembered.
const ENTRIES_MAX: usize = 64;

/// See the module. Older ones are forgotten.
#[derive(Default)]
pub struct History(Mutex<VecDeque<Arc<Entry>>>);

/// One start or reload that changed something, or could not.
#[derive(Clone, Debug)]
pub struct Entry {
    pub at: OffsetDateTime,
    pub verdict: Verdict,
    /// What serves since then.
    pub generation: u64,
    /// From the look at the files to the swap, where there was one.
    pub elapsed: Option<Duration>,
    /// What is not as it was before.
    pub changes: Changes,
    /// Each with its place, and what to write instead.
    pub problems: Vec<String>,
    pub warnings: Vec<String>,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The process began.
    Started,
    /// All of it serves.
    Applied,
    /// Some of it serves, some cannot.
    Partial,
    /// None of it serves; what did goes on.
    Refused,
}

impl Verdict {
    /// Something of the change does not serve.
    fn has_failed(self) -> bool {
        matches!(self, Verdict::Partial | Verdict::Refused)
    }
}

impl History {
    /// Remembers that the process began, with what is wrong in the first generation.
    pub fn started(&self, elapsed: Duration, problems: Vec<String>, warnings: Vec<String>) {
        self.push(Entry {
            at: OffsetDateTime::now_utc(),
            verdict: Verdict::Started,
            generation: 1,
            elapsed: Some(elapsed),
            changes: Changes::default(),
            problems,
            warnings,
        });
    }

    /// Remembers an outcome, if there is anything to it.
    pub(super) fn add(&self, outcome: &Outcome) -> Option<Arc<Entry>> {
        let (last, generation) = match self.lock().back() {
            Some(last) => (last.verdict, last.generation),
            None => (Verdict::Started, 1),
        };
        let verdict = match (&outcome.swap, outcome.problems.is_empty()) {
            (Some(_), true) => Verdict::Applied,
            (Some(_), false) => Verdict::Partial,
            (None, false) => Verdict::Refused,
            // What was refused was taken back: the files are what serves.
            (None, true) if outcome.clean && last.has_failed() => Verdict::Applied,
            (None, true) => return None,
        };
        let generation = outcome.swap.as_ref().map_or(generation, |swap| swap.number);
        Some(self.push(Entry {
            at: OffsetDateTime::now_utc(),
            verdict,
            generation,
            elapsed: outcome.swap.as_ref().map(|swap| swap.elapsed),
            changes: outcome.swap.as_ref().map(|swap| swap.changes.clone()).unwrap_or_default(),
            problems: outcome.problems.clone(),
            warnings: outcome.warnings.clone(),
        }))
    }

    /// The latest first.
    pub fn all(&self) -> Vec<Arc<Entry>> {
        self.lock().iter().rev().cloned().collect()
    }

    fn push(&self, entry: Entry) -> Arc<Entry> {
        let entry = Arc::new(entry);
        let mut entries = self.lock();
        if entries.len() >= ENTRIES_MAX {
            entries.pop_front();
        }
        entries.push_back(Arc::clone(&entry));
        entry
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Entry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
