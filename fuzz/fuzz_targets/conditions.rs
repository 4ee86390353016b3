//! `cargo fuzz run conditions`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (relay_fuzz::target("conditions").run)(data));
