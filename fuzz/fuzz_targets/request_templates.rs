//! `cargo fuzz run request_templates`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (relay_fuzz::target("request_templates").run)(data));
