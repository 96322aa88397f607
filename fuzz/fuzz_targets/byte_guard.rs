//! See `tidegate::fuzz::byte_guard`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate::fuzz::byte_guard(bytes));
