//! `cargo fuzz run cache_control`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (relay_fuzz::target("cache_control").run)(data));
