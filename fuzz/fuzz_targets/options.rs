//! `-o` options: see `fuzz/bodies/options.rs`.
//!
//! ```text
//! cargo +nightly fuzz run options -- -max_total_time=3600
//! ```

#![no_main]

#[path = "../bodies/options.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
