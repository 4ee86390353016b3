//! `cargo fuzz run proxy_protocol`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (relay_fuzz::target("proxy_protocol").run)(data));
