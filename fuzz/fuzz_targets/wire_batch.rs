//! `cargo fuzz run wire_batch`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (relay_fuzz::target("wire_batch").run)(data));
