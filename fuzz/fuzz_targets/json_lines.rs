//! `cargo fuzz run json_lines`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (relay_fuzz::target("json_lines").run)(data));
