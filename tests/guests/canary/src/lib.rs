//! Looking through an instance's whole memory for what another one left there.

use std::hint::black_box;

/// What a needle is disguised with on its way here, so that who looks for it does not hold it.
const DISGUISE: u8 = 0x55;

const PAGE: usize = 1 << 16;

/// How often the disguised needle, given as hexadecimal digits, is anywhere in this memory.
pub fn search(disguised: &str) -> usize {
    let needle: Vec<u8> = (0..disguised.len() / 2)
        .filter_map(|at| u8::from_str_radix(disguised.get(at * 2..at * 2 + 2)?, 16).ok())
        .collect();
    let Some((&first, rest)) = needle.split_first() else {
        return 0;
    };
    let end = core::arch::wasm32::memory_size::<0>() * PAGE;
    // Not at 0, which no pointer may be.
    let base = black_box(1 as *const u8);
    (0..end - 1 - rest.len())
        .filter(|&at| {
            // SAFETY: within the memory, every byte of which may be read.
            let byte = |offset: usize| unsafe { base.add(at + offset).read_volatile() };
            byte(0) ^ DISGUISE == first
                && rest.iter().enumerate().all(|(k, &b)| byte(k + 1) ^ DISGUISE == b)
        })
        .count()
}

/// Leaves a secret wherever a careless program would: in a global, on the heap, and freed there.
pub fn plant(secret: &str) {
    static GLOBAL: std::sync::Mutex<[u8; 64]> = std::sync::Mutex::new([0; 64]);
    let bytes = secret.as_bytes();
    if let Ok(mut global) = GLOBAL.lock() {
        let length = bytes.len().min(global.len());
        global[..length].copy_from_slice(&bytes[..length]);
    }
    black_box(bytes.repeat(1000).leak());
    drop(black_box(bytes.repeat(1000)));
    // Pages that were not there at the start.
    let fresh = core::arch::wasm32::memory_grow::<0>(1);
    if fresh != usize::MAX {
        let page = black_box((fresh * PAGE) as *mut u8);
        for (at, &byte) in bytes.iter().cycle().take(PAGE).enumerate() {
            // SAFETY: the page is new, and nobody else's.
            unsafe { page.add(at).write_volatile(byte) };
        }
    }
}
