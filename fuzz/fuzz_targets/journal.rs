//! Records of the journal: see `fuzz/bodies/journal.rs`.
//!
//! ```text
//! cargo +nightly fuzz run journal -- -max_total_time=3600
//! ```

#![no_main]

#[path = "../bodies/journal.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
