//! Replies of the control connection: see `fuzz/bodies/reply.rs`.
//!
//! ```text
//! cargo +nightly fuzz run reply -- -dict=fuzz/reply.dict -max_total_time=3600
//! ```

#![no_main]

#[path = "../bodies/reply.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
