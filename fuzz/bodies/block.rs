//! Any bytes, read as a file of the disk cache: no panic, and nothing is a block but what was written as that block.

use std::time::{Duration, SystemTime};

use ftpfs::read::disk::record::{self, Key};

/// One input.
pub fn run(bytes: &[u8]) {
    let Some(key) = Key::new("ftp://u@h:21", b"/file", 7, SystemTime::UNIX_EPOCH + Duration::from_secs(1))
    else {
        return;
    };
    let index = u64::from(bytes.first().copied().unwrap_or_default());
    assert!(key.name(index).is_ascii());
    if let Some(data) = record::data(&key, index, bytes) {
        assert_eq!([record::head(&key, index, data).as_slice(), data].concat(), bytes);
        assert_eq!(record::data(&key, index + 1, bytes), None);
    }
    let own = [record::head(&key, index, bytes).as_slice(), bytes].concat();
    assert_eq!(record::data(&key, index, &own), Some(bytes));
    if let Some(total) = record::total(bytes) {
        assert!(bytes.ends_with(b"\n") && total.to_string().len() < bytes.len().max(2));
    }
}
