//! Files of the disk cache: see `fuzz/bodies/block.rs`.
//!
//! ```text
//! cargo +nightly fuzz run block -- -max_total_time=3600
//! ```

#![no_main]

#[path = "../bodies/block.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
