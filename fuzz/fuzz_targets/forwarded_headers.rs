//! See `tidegate::fuzz::forwarded_headers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate::fuzz::forwarded_headers(bytes));
