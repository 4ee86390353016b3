//! `cargo fuzz run config_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (relay_fuzz::target("config_file").run)(data));
