//! Servers that lack what clients count on (REST, SIZE, a listing with more than names), and those that do not speak UTF-8:
//! the scripted server without this and that.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use harness::Scripted;
use harness::scripted::{Fault, Options, Rule, Server};

#[test]
fn names_in_the_servers_encoding_are_utf8_in_the_mount_both_ways() {
    for (codepage, name, wire) in [
        ("gbk", "中文.txt", &b"\xd6\xd0\xce\xc4.txt"[..]),
        ("shift_jis", "表示.txt", b"\x95\x5c\x8e\xa6.txt"),
        ("cp949", "한글.txt", b"\xc7\xd1\xb1\xdb.txt"),
        // Its last letter is 0xFF, Telnet's IAC: on a server that is not known to read it so it goes out once.
        ("cp1251", "файл.txt", b"\xf4\xe0\xe9\xeb.txt"),
        ("iso-8859-1", "grün", b"gr\xfcn"),
    ] {
        for without in [vec![], vec!["MLSD", "MLST"]] {
            let option = format!("codepage={codepage}");
            let at = scripted(without, &[&option], |server| {
                fs::create_dir(server.root().join(OsStr::from_bytes(wire))).unwrap();
                fs::write(server.root().join(OsStr::from_bytes(wire)).join("ascii"), "there").unwrap();
            });
            assert_eq!(at.ok("ls").trim_end(), name, "{codepage}");
            assert_eq!(at.ok(&format!("cat '{name}/ascii'")), "there");
            at.ok(&format!(
                "mkdir 'd-{name}' && echo new > 'd-{name}/{name}' && mv '{name}/ascii' '{name}/{name}'"
            ));
            let on_server = |parts: &[&[u8]]| at.root().join(OsStr::from_bytes(&parts.concat()));
            assert_eq!(fs::read(on_server(&[b"d-", wire, b"/", wire])).unwrap(), b"new\n");
            assert_eq!(fs::read(on_server(&[wire, b"/", wire])).unwrap(), b"there");
            at.ok(&format!("rm -r 'd-{name}' '{name}'"));
            assert_eq!(fs::read_dir(at.root()).unwrap().count(), 0);
        }
    }
}

#[test]
fn a_letter_that_the_encoding_lacks_is_an_error_and_makes_nothing() {
    let at = scripted(vec![], &["codepage=iso-8859-1"], |_| {});
    for action in [fs::write::<_, &str> as fn(PathBuf, &'static str) -> _, |path, _| fs::create_dir(path)] {
        let error = action(at.path("中"), "x").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::EILSEQ));
    }
    assert_eq!(fs::read_dir(at.root()).unwrap().count(), 0);
}

#[test]
fn a_name_that_is_not_in_the_encoding_keeps_its_bytes() {
    let raw = OsStr::from_bytes(b"x\x81 y.txt");
    let at = scripted(vec![], &["codepage=gbk"], |server| fs::write(server.root().join(raw), "raw").unwrap());
    assert_eq!(fs::read(at.mount.path().join(raw)).unwrap(), b"raw");
    fs::rename(at.mount.path().join(raw), at.path("plain")).unwrap();
    assert_eq!(fs::read(at.root().join("plain")).unwrap(), b"raw");
}

#[test]
fn without_rest_and_without_size_files_are_read_at_any_offset() {
    for without in [
        vec!["REST"],
        vec!["SIZE"],
        vec!["REST", "SIZE"],
        vec!["REST", "SIZE", "MDTM", "MLSD", "MLST", "FEAT"],
    ] {
        let content: Vec<u8> = (0..700_000u32).flat_map(u32::to_le_bytes).collect();
        let at =
            scripted(without.clone(), &[], |server| fs::write(server.root().join("data"), &content).unwrap());
        assert!(fs::read(at.path("data")).unwrap() == content, "{without:?}");
        let at =
            scripted(without.clone(), &[], |server| fs::write(server.root().join("data"), &content).unwrap());
        let file = fs::File::open(at.path("data")).unwrap();
        for offset in [2_799_990usize, 1_500_001, 3] {
            let mut bytes = [0; 10];
            file.read_exact_at(&mut bytes, offset as u64).unwrap();
            assert_eq!(bytes, content[offset..offset + 10], "{without:?} at {offset}");
        }
        fs::write(at.path("new"), "written").unwrap();
        assert_eq!(fs::read(at.path("new")).unwrap(), b"written");
    }
}

#[test]
fn a_listing_of_names_alone_is_completed_by_asking() {
    let at = scripted(vec!["MLSD", "MLST"], &[], |server| {
        fs::create_dir(server.root().join("folder")).unwrap();
        fs::write(server.root().join("file one"), "12345").unwrap();
        server
            .faults()
            .add(Rule::on("LIST").act(Fault::Content(b"file one\r\nfolder\r\nnot there\r\n".to_vec())));
        server
            .faults()
            .add(Rule::on("NLST").act(Fault::Content(b"file one\r\nfolder\r\nnot there\r\n".to_vec())));
    });
    assert_eq!(at.ok("ls -p"), "file one\nfolder/\n");
    assert_eq!(at.ok("cat 'file one'"), "12345");
}

#[test]
fn a_zone_that_is_given_is_believed() {
    let at = scripted(vec!["MLSD", "MLST", "MDTM"], &["tz=+05:30"], |server| {
        let line = b"-rw-r--r-- 1 a b 5 May 03 2020 day\r\n-rw-r--r-- 1 a b 5 Jan 02 1971 old\r\n";
        server.faults().add(Rule::on("LIST").act(Fault::Content(line.to_vec())));
    });
    let modified = fs::metadata(at.path("old")).unwrap().modified().unwrap();
    let midnight = SystemTime::UNIX_EPOCH + Duration::from_secs(366 * 86_400);
    assert_eq!(midnight.duration_since(modified).unwrap(), Duration::from_secs(5 * 3600 + 1800));
}

#[test]
fn mlsd_can_be_switched_off_and_list_be_given_other_options() {
    for option in ["disable_mlsd", "custom_list=LIST -la"] {
        let at =
            scripted(vec![], &[option], |server| fs::write(server.root().join(".hidden"), "12345").unwrap());
        assert_eq!(at.ok("ls -A"), ".hidden\n");
        let commands = at.server.counters().now().commands;
        assert!(!commands.contains_key("MLSD") && commands.contains_key("LIST"), "{option}: {commands:?}");
    }
}

/// What the server does not know, and what it holds.
fn scripted(without: Vec<&'static str>, options: &[&str], prepare: impl FnOnce(&Server)) -> Scripted {
    Scripted::prepared(Options { without, ..Options::default() }, options, prepare)
}
