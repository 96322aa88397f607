//! Memory of instances that are gone, until the system has it back.
//!
//! wasmtime returns it in batches of [`DECOMMIT_BATCH`] memories and stacks,
//! collected by each thread (or by a few of them together). It tells nobody
//! when, but a batch is complete at the latest when a thread has dropped
//! [`INSTANCES`]. So what each thread has dropped last is counted as still
//! there; when that is much, or memory is short, the batch is completed.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use super::engine::{DECOMMIT_BATCH, Engines, Kind};
use super::memory::Node;

/// Instances that fill a batch: each that holds memory has a stack too.
const INSTANCES: usize = DECOMMIT_BATCH / 2;

/// Bytes that a thread leaves in an unfinished batch, and those of them that are stacks.
const MAX_LINGERING: usize = 32 << 20;
const MAX_STACKS: usize = 4 << 20;

thread_local! {
    static LAST: RefCell<[Batch; 2]> = RefCell::default();
}

/// The instances of one engine that a thread has dropped last, oldest first.
#[derive(Default)]
struct Batch {
    dropped: VecDeque<(Arc<Node>, usize)>,
    /// Bytes of filled stacks since it was last completed.
    stacks: usize,
    engines: Weak<Engines>,
}

/// An instance has gone that held so many bytes, of memories and of stack: they are `node`'s again
/// when they are the system's.
pub fn dropped(
    node: &Arc<Node>,
    (bytes, stack): (usize, usize),
    engines: &Weak<Engines>,
    kind: Kind,
) {
    let bytes = bytes + stack;
    let full = LAST.try_with(|last| {
        let batch = &mut last.borrow_mut()[kind as usize];
        batch.engines = engines.clone();
        batch.stacks += stack;
        batch.dropped.push_back((node.clone(), bytes));
        if batch.dropped.len() >= INSTANCES
            && let Some((node, bytes)) = batch.dropped.pop_front()
        {
            node.give(bytes);
        }
        let lingering = batch.dropped.iter().map(|(_, bytes)| bytes).sum::<usize>();
        lingering > MAX_LINGERING || batch.stacks > MAX_STACKS
    });
    match full {
        Ok(true) => drop(settle()),
        Ok(false) => {}
        // The thread ends.
        Err(_) => node.give(bytes),
    }
}

/// Returns to the system what this thread has dropped. False when there was nothing.
pub fn settle() -> bool {
    let take = |last: &RefCell<[Batch; 2]>| last.take();
    let Ok(batches) = LAST.try_with(take) else { return false };
    let any = batches.iter().any(|batch| !batch.dropped.is_empty());
    for (batch, kind) in batches.into_iter().zip([Kind::Plain, Kind::Concurrent]) {
        if !batch.dropped.is_empty()
            && let Some(engines) = batch.engines.upgrade()
        {
            engines.side(kind).complete();
        }
    }
    any
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.dropped.drain(..).for_each(|(node, bytes)| node.give(bytes));
    }
}
