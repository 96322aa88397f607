//! See `tidegate::fuzz::log_line`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate::fuzz::log_line(bytes));
