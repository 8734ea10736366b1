//! Any text given as what to mount: no panic, no password in what is shown, and what is understood is sound.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use ftpfs::cli::url::{self, Source};

/// One input.
pub fn run(data: &[u8]) {
    let text = OsStr::from_bytes(data);
    if let Ok(source) = Source::parse(text) {
        assert!(!source.host.is_empty());
        assert!(!source.host.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0 | b'/')), "{:?}", source.host);
        assert!(source.port != Some(0));
        assert!(!source.shown.bytes().any(|b| matches!(b, b'\n' | 0)), "{:?}", source.shown);
        // What is shown has no password any more, and means the same place.
        let is_plain = source.host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:".contains(&b));
        if is_plain && let Ok(again) = Source::parse(OsStr::new(&source.shown)) {
            assert!(again.password.is_none(), "{:?}", source.shown);
            assert_eq!((again.host, again.port), (source.host, source.port));
        }
    }
    if let Some((without, _)) = url::take_password(text) {
        assert!(url::take_password(OsStr::from_bytes(&without)).is_none(), "{}", without.escape_ascii());
    }
}
