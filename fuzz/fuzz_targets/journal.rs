//! Any bytes as the head of a journal's entry, and as the lines of a record whose checksum is right: no panic, and nothing
//! in it that leads out of the mount or beyond the file.
//!
//! ```text
//! cargo +nightly fuzz run journal -- -max_total_time=60
//! ```

#![no_main]

use ftpfs::write::journal::{Record, record_in};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = record_in(data);
    let Some(record) = Record::body(data) else { return };
    assert!(record.path.is_within(&record.root) && record.path != record.root);
    assert!(record.held() <= record.size);
    if let Some(text) = record.to_text() {
        assert_eq!(Record::parse(text.as_bytes()), Some(record));
    }
});
