//! Names and paths: see `fuzz/bodies/name.rs`.
//!
//! ```text
//! cargo +nightly fuzz run name -- -max_total_time=3600
//! ```

#![no_main]

#[path = "../bodies/name.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
