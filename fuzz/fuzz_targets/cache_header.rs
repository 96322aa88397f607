//! See `tidegate::fuzz::cache_header`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate::fuzz::cache_header(bytes));
