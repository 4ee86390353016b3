//! `cargo fuzz run wire_messages`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (relay_fuzz::target("wire_messages").run)(data));
