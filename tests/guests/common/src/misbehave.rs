//! Ways to waste what the host gives: time, memory and stack.

use std::collections::TryReserveError;
use std::hint::black_box;

const MEBIBYTE: usize = 1 << 20;
const PAGE: usize = 1 << 16;

/// Keeps the processor busy for so long, and for ever if that is nought.
///
/// The clock is an import, where a host may interrupt a guest in passing, so it
/// is asked only every few hundred microseconds.
#[inline(never)]
pub fn spin(milliseconds: u64, now_in_nanoseconds: impl Fn() -> u64) {
    if milliseconds == 0 {
        spin_forever();
    }
    let end = now_in_nanoseconds().saturating_add(milliseconds.saturating_mul(1_000_000));
    while now_in_nanoseconds() < end {
        for turn in 0..100_000u32 {
            black_box(turn);
        }
    }
}

/// Always the same work, however long it takes; a turn is less than a nanosecond to a few.
#[inline(never)]
pub fn work(turns: u64) {
    for turn in 0..turns {
        black_box(turn);
    }
}

/// What makes one request in a hundred slow: a profile is to name it.
#[inline(never)]
pub fn slow_lookup(milliseconds: u64, now_in_nanoseconds: impl Fn() -> u64) {
    let end = now_in_nanoseconds().saturating_add(milliseconds.saturating_mul(1_000_000));
    while now_in_nanoseconds() < end {
        for key in 0..100_000u32 {
            black_box(key);
        }
    }
}

/// Calls nothing, allocates nothing, returns never.
pub fn spin_forever() -> ! {
    let mut turn = 0u64;
    loop {
        turn = black_box(turn).wrapping_add(1);
    }
}

/// Takes this much memory, writes to each page of it, and never gives it back.
pub fn leak_mebibytes(count: u64) -> Result<(), TryReserveError> {
    for _ in 0..count {
        let mut mebibyte: Vec<u8> = Vec::new();
        mebibyte.try_reserve_exact(MEBIBYTE)?;
        for page in mebibyte.spare_capacity_mut().iter_mut().step_by(PAGE) {
            black_box(page).write(1);
        }
        mebibyte.leak();
    }
    Ok(())
}

/// Recurses until the stack is used up.
#[inline(never)]
pub fn consume_stack(depth: u64) -> u64 {
    if depth == u64::MAX {
        return depth;
    }
    // Work left to do after the call keeps this from becoming a loop.
    black_box(consume_stack(black_box(depth) + 1))
}
