//! `cargo fuzz run forward_lists`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (relay_fuzz::target("forward_lists").run)(data));
