//! `cargo fuzz run response_head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (relay_fuzz::target("response_head").run)(data));
