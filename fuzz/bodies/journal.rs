//! Any bytes in the place of a journal's record: no panic, nothing believed that is not sound, and what was believed is written
//! back as it was read. No fuzzer makes a SHA-256 that fits, so the lines above the checksum are tried by themselves, too.

use ftpfs::write::journal::{self, Record};

/// One input.
pub fn run(data: &[u8]) {
    for record in [journal::record_in(data), Record::body(data)].into_iter().flatten() {
        assert!(record.path.is_within(&record.root) && record.path != record.root);
        assert!(record.held() <= record.size && record.size <= i64::MAX as u64);
        let _ = record.is_whole();
        let Some(text) = record.to_text() else { continue };
        let again = journal::record_in(text.as_bytes()).expect("what was written can be read");
        assert_eq!(record, again);
    }
}
