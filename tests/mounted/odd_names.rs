//! Odd names: blanks, other alphabets, line ends, whatever breaks naive clients. Kept exactly or refused; never another name.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::libc;

use crate::harness::patience::eventually;
use crate::harness::{Kind, Mounted, servers};
use crate::{errno, write_synced};

everywhere! {
    fn a_name_with_a_line_end_is_refused_and_never_sent(at: &mut Mounted) {
        at.server.put("victim", "x");
        for name in ["new\nline", "cr\rname", "x\r\nDELE /victim", "\n", "\r"] {
            assert_eq!(errno(fs::write(at.path(name), "x")), libc::EINVAL, "{name:?}");
            assert_eq!(errno(fs::create_dir(at.path(name))), libc::EINVAL, "{name:?}");
            assert_eq!(errno(fs::rename(at.path("victim"), at.path(name))), libc::EINVAL, "{name:?}");
        }
        assert_eq!(fs::read_dir(at.server.root()).unwrap().count(), 1);
        assert_eq!(at.server.read("victim"), b"x");
    }

    fn files_with_odd_names_on_the_server_can_be_read_renamed_and_removed(at: &mut Mounted) {
        let names: Vec<&[u8]> = ODD_NAMES.iter().copied().filter(|name| is_readable(at.kind(), name)).collect();
        for name in &names {
            let path = at.server.root().join(OsStr::from_bytes(name));
            fs::write(&path, name).unwrap();
            servers::own(&path);
        }
        let mut listed: Vec<Vec<u8>> =
            fs::read_dir(at.mount.path()).unwrap().map(|e| e.unwrap().file_name().as_bytes().to_vec()).collect();
        listed.sort();
        let mut wanted: Vec<Vec<u8>> = names.iter().map(|name| name.to_vec()).collect();
        wanted.sort();
        assert_eq!(shown(&listed), shown(&wanted));
        for name in &names {
            let path = at.path(OsStr::from_bytes(name));
            assert_eq!(fs::read(&path).unwrap_or_else(|e| panic!("{path:?}: {e}")), *name);
            assert_eq!(fs::metadata(&path).unwrap().len(), name.len() as u64);
        }
        for name in names {
            let path = at.path(OsStr::from_bytes(name));
            fs::rename(&path, at.path("plain")).unwrap_or_else(|e| panic!("{path:?}: {e}"));
            fs::remove_file(at.path("plain")).unwrap();
        }
        // A program started meanwhile by another test may hold the file open for a moment.
        eventually("they are removed", || fs::read_dir(at.server.root()).unwrap().count() == 0);
    }

    fn an_odd_name_is_stored_exactly_or_refused(at: &mut Mounted) {
        for name in ODD_NAMES {
            let name = OsStr::from_bytes(name);
            let (file, folder) = (at.path(name), at.path("folders").join(name));
            fs::create_dir_all(at.path("folders")).unwrap();
            match write_synced(&file) {
                Ok(()) => assert_eq!(at.server.read(name), b"x", "{name:?}"),
                Err(e) => assert!(!is_storable(at.kind(), name.as_bytes()), "{name:?}: {e}"),
            }
            match fs::create_dir(&folder) {
                Ok(()) => assert!(at.server.root().join("folders").join(name).is_dir(), "{name:?}"),
                Err(e) => assert!(!is_storable(at.kind(), name.as_bytes()), "folder {name:?}: {e}"),
            }
            for folder in ["", "folders"] {
                for entry in fs::read_dir(at.server.root().join(folder)).unwrap() {
                    let found = entry.unwrap().file_name();
                    // Of an upload that such a program has begun: it goes, as is waited for below.
                    let is_temporary = found.as_bytes().starts_with(b".ftpfs-");
                    let is_known = found == name || found == "folders" || is_temporary;
                    assert!(is_known, "{name:?} was stored as {found:?}");
                }
            }
            let _ = fs::remove_file(&file);
            let _ = fs::remove_dir(&folder);
            let left = |folder: &str| fs::read_dir(at.server.root().join(folder)).unwrap().count();
            // A program started meanwhile by another test may hold the file open for a moment.
            eventually("they are removed", || (left(""), left("folders")) == (1, 0));
        }
    }

    fn folders_with_odd_names_can_be_entered(at: &mut Mounted) {
        let names: Vec<&[u8]> = ODD_NAMES.iter().copied().filter(|name| is_readable(at.kind(), name)).collect();
        for name in &names {
            let folder = Path::new(OsStr::from_bytes(name));
            at.server.make_folder(folder.join("below"));
            let file = at.server.root().join(folder).join("file");
            fs::write(&file, name).unwrap();
            servers::own(&file);
        }
        for name in &names {
            // Debian's ProFTPD forbids commands in which a slash follows a star.
            if at.kind() == Kind::Proftpd && name.contains(&b'*') {
                continue;
            }
            let folder = at.path(OsStr::from_bytes(name));
            let mut found: Vec<_> = fs::read_dir(&folder)
                .unwrap_or_else(|e| panic!("{folder:?}: {e}"))
                .map(|entry| entry.unwrap().file_name())
                .collect();
            found.sort();
            assert_eq!(found, ["below", "file"], "{folder:?}");
            assert_eq!(fs::read(folder.join("file")).unwrap_or_else(|e| panic!("{folder:?}: {e}")), *name);
        }
    }
}

/// Names as bytes: what people really call their files, and what breaks naive clients.
const ODD_NAMES: &[&[u8]] = &[
    b" leading",
    b"  two leading",
    b"trailing ",
    b"in  the middle",
    b"100%",
    b"%41%0A",
    b"#hash",
    b"[brackets]",
    b"st*r",
    b"what?",
    b"back\\slash",
    b"{braces}",
    b"-dash",
    b"--",
    b"~tilde",
    b"a -> b",
    b"quo\"te",
    b"it's",
    b"semi;colon",
    b"comma,equals=",
    b"$HOME",
    b"a&b|c<d>",
    b"...",
    b"Nov 21 12:00 file",
    b"-rw-r--r-- 1 x x 1 Jan 1 00:00 y",
    b"tab\there",
    b"\xc3\xbcml\xc3\xa4ut",
    b"u\xcc\x88 decomposed",
    b"\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e",
    b"\xf0\x9f\x90\xa7",
    b"latin1-\xe9",
    b"\xff\xfe",
];

/// What facts about the servers say (section 8 of the survey): a name that is there can be listed and read.
fn is_readable(kind: Kind, name: &[u8]) -> bool {
    let utf8 = std::str::from_utf8(name).is_ok();
    let control = name.iter().any(u8::is_ascii_control);
    match kind {
        // It lists names with a backslash, and prohibits every command about them.
        Kind::PureFtpd => !control && !name.contains(&b'\\'),
        Kind::Pyftpdlib => utf8,
        _ => true,
    }
}

/// And a name that is given is kept as it is.
fn is_storable(kind: Kind, name: &[u8]) -> bool {
    let odd_here = match kind {
        Kind::PureFtpd => name.ends_with(b" ") || name.contains(&b'\\'),
        Kind::Proftpd => name.contains(&b'*'),
        _ => false,
    };
    is_readable(kind, name) && !odd_here
}

fn shown(names: &[Vec<u8>]) -> Vec<String> {
    names.iter().map(|name| name.escape_ascii().to_string()).collect()
}
