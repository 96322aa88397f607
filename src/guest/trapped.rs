//! How a guest failed, for counters: wasmtime knows more kinds of traps than monitoring can use.

use wasmtime::{Error, Trap};
use wasmtime_wasi::I32Exit;

use super::budget::Exhausted;
use crate::stats::Trapped;

/// The kind of a guest's failure. None where it is no fault of its code: it has left in good
/// order, or has used up its time, which is a limit.
pub fn kind(error: &Error) -> Option<Trapped> {
    if let Some(I32Exit(code)) = error.downcast_ref() {
        return (*code != 0).then_some(Trapped::Exit);
    }
    if error.is::<Exhausted>() {
        return None;
    }
    Some(error.downcast_ref().map_or(Trapped::Error, of))
}

fn of(trap: &Trap) -> Trapped {
    match trap {
        Trap::UnreachableCodeReached => Trapped::Unreachable,
        Trap::StackOverflow => Trapped::StackOverflow,
        Trap::MemoryOutOfBounds | Trap::HeapMisaligned => Trapped::MemoryOutOfBounds,
        Trap::TableOutOfBounds => Trapped::TableOutOfBounds,
        Trap::IndirectCallToNull | Trap::BadSignature => Trapped::IndirectCall,
        Trap::IntegerOverflow | Trap::IntegerDivisionByZero | Trap::BadConversionToInteger => {
            Trapped::Arithmetic
        }
        Trap::AsyncDeadlock => Trapped::Deadlock,
        Trap::CannotEnterComponent
        | Trap::CannotLeaveComponent
        | Trap::CannotBlockSyncTask
        | Trap::NoAsyncResult
        | Trap::InvalidChar => Trapped::Component,
        _ => Trapped::OtherTrap,
    }
}
