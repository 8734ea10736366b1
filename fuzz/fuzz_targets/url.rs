//! URLs and mount sources: see `fuzz/bodies/url.rs`.
//!
//! ```text
//! cargo +nightly fuzz run url -- -max_total_time=3600
//! ```

#![no_main]

#[path = "../bodies/url.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
