//! Any text given to `-o`: no panic; whatever was a secret is taken out of the list, once and for all.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use ftpfs::cli::options::{self, Settings};

/// One input.
pub fn run(data: &[u8]) {
    let list = OsStr::from_bytes(data);
    let (kept, _) = options::take_secrets(list);
    let (again, more) = options::take_secrets(&kept);
    assert!(more.is_empty() && again == kept, "{}", data.escape_ascii());
    let mut settings = Settings::new();
    if let Err(error) = settings.apply(&kept) {
        assert!(!error.is_empty() && error.len() < 2000 + data.len(), "{error}");
    }
    let _ = options::is_flag(&String::from_utf8_lossy(data));
}
