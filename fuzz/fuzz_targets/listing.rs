//! Listings of every dialect: see `fuzz/bodies/listing.rs`.
//!
//! ```text
//! cargo +nightly fuzz run listing -- -dict=fuzz/listing.dict -max_total_time=3600
//! ```

#![no_main]

#[path = "../bodies/listing.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
