//! `cargo fuzz run chunked_body`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (relay_fuzz::target("chunked_body").run)(data));
