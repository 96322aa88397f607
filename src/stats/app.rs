//! What becomes of one app's instances, and of the requests that need one.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::histogram::Histogram;

/// One app, over all of its pools.
#[derive(Debug, Default)]
pub struct App {
    /// How long requests waited that had to, until an instance took them.
    pub queue: Histogram,
    /// How long it took to make instances.
    pub instantiate: Histogram,
    /// Requests that had no answer within their time.
    pub timeouts: AtomicU64,
    gone: [AtomicU64; Gone::ALL.len()],
    trapped: [AtomicU64; Trapped::ALL.len()],
}

/// Declares why something happens, with the names that metrics give that.
macro_rules! reasons {
    ($(#[$doc:meta])* $type:ident: $($(#[$what:meta])* $variant:ident => $name:literal,)+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type {
            $($(#[$what])* $variant,)+
        }

        impl $type {
            /// In the order of their counters.
            pub const ALL: &[$type] = &[$($type::$variant,)+];

            pub fn name(self) -> &'static str {
                match self {
                    $($type::$variant => $name,)+
                }
            }
        }
    };
}
pub(super) use reasons;

reasons! {
    /// Why an instance is gone.
    Gone:
    /// It was idle for its timeout.
    Idle => "idle",
    /// It has served as many requests as it may, or holds too much.
    UsedUp => "used_up",
    /// Others needed its memory, or its place in the engine.
    Evicted => "evicted",
    /// Its pool serves no more: it was replaced, or the process stops.
    Replaced => "replaced",
    /// Its guest took too long.
    Timeout => "timeout",
    /// Its operator has ended it.
    Killed => "killed",
    /// Its guest failed, or did not finish its answer.
    Failed => "failed",
}

reasons! {
    /// How a guest failed. All but the last two are wasmtime's traps.
    Trapped:
    Unreachable => "unreachable",
    StackOverflow => "stack_overflow",
    MemoryOutOfBounds => "memory_out_of_bounds",
    TableOutOfBounds => "table_out_of_bounds",
    IndirectCall => "indirect_call",
    Arithmetic => "arithmetic",
    Deadlock => "deadlock",
    Component => "component_model",
    OtherTrap => "other_trap",
    /// It has ended itself, with a code that says that something went wrong.
    Exit => "exit",
    /// The host refused something that it did.
    Error => "error",
}

impl App {
    pub fn gone(&self, why: Gone) {
        self.gone[why as usize].fetch_add(1, Relaxed);
    }

    pub fn trapped(&self, how: Trapped) {
        self.trapped[how as usize].fetch_add(1, Relaxed);
    }

    /// Instances that are gone, by the reason.
    pub fn all_gone(&self) -> impl Iterator<Item = (Gone, u64)> {
        Gone::ALL.iter().map(|why| (*why, self.gone[*why as usize].load(Relaxed)))
    }

    /// Failures of guests, by their kind.
    pub fn all_trapped(&self) -> impl Iterator<Item = (Trapped, u64)> {
        Trapped::ALL.iter().map(|how| (*how, self.trapped[*how as usize].load(Relaxed)))
    }
}
