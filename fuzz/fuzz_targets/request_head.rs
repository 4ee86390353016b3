//! `cargo fuzz run request_head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (relay_fuzz::target("request_head").run)(data));
