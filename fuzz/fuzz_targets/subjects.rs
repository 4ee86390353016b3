//! `cargo fuzz run subjects`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (relay_fuzz::target("subjects").run)(data));
