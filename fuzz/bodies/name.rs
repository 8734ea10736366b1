//! Any bytes as names and paths: what passes has nothing in it that could become another command or lead elsewhere, and every
//! encoding gives back what it was given.

use ftpfs::ftp::codepage::Codepage;
use ftpfs::ftp::{Name, RemotePath};

/// One input.
pub fn run(data: &[u8]) {
    if let Ok(name) = Name::new(data) {
        assert_eq!(name.as_bytes(), data);
        assert!(!data.is_empty() && data != b"." && data != b"..");
        assert!(!data.iter().any(|b| matches!(b, b'/' | b'\r' | b'\n' | 0)));
        let path = RemotePath::root().join(&name);
        assert_eq!(path.name().as_ref(), Some(&name));
        assert_eq!(path.parent(), Some(RemotePath::root()));
    }
    if let Ok(path) = RemotePath::parse(data) {
        is_sound(&path);
    }
    let base = RemotePath::parse(b"/a/b").expect("a path");
    if let Ok(path) = base.resolve(data) {
        is_sound(&path);
    }
    for codepage in
        ["gbk", "shift_jis", "euc-kr", "cp1251", "big5"].iter().filter_map(|name| Codepage::named(name))
    {
        // Names only: that is what it is asked about.
        if Name::new(data).is_ok()
            && let Some(decoded) = codepage.decode(data)
        {
            assert_eq!(codepage.encode(&decoded).as_deref(), Ok(data), "{}", data.escape_ascii());
        }
    }
}

fn is_sound(path: &RemotePath) {
    let bytes = path.as_bytes();
    assert!(bytes.starts_with(b"/"));
    assert!(!bytes.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)));
    assert!(
        !bytes.split(|&b| b == b'/').any(|part| part == b".." || part == b"."),
        "{}",
        bytes.escape_ascii()
    );
}
