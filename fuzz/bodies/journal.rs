//! Any bytes in the place of a journal's record: no panic, nothing believed that is not sound, and what was believed is written
//! back as it was read.

use ftpfs::write::journal;

/// One input.
pub fn run(data: &[u8]) {
    let Some(record) = journal::record_in(data) else { return };
    let _ = (record.is_whole(), record.held());
    let Some(text) = record.to_text() else { return };
    let again = journal::record_in(text.as_bytes()).expect("what was written can be read");
    assert_eq!(format!("{record:?}"), format!("{again:?}"));
}
