//! `cargo fuzz run decode`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (relay_fuzz::target("decode").run)(data));
