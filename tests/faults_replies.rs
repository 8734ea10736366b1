//! Servers that lie or attack in what they say: listings, replies, ports, names. Nobody is harmed, and what is good is shown.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs;

use harness::Scripted;
use harness::files::{names, store};
use harness::mounted::{IMPATIENT, PATIENT};
use harness::patience::{LONGEST, at_once, eventually, within};
use harness::scripted::{Fault, Options, Rule};
use nix::libc;

#[test]
fn a_hostile_listing_harms_nobody() {
    let good = "type=file;size=4;modify=20200101000000; good\r\n";
    let long = "x".repeat(5000);
    let huge = "y".repeat(3 << 20);
    for bad in [
        "type=file;size=1; ../../../etc/passwd\r\n",
        "type=dir; ..\r\ntype=dir; .\r\ntype=dir; /\r\ntype=dir; /etc\r\n",
        "type=file;size=1; a/b\r\n",
        "type=file;size=1; \r\n",
        "type=file;size=1;\r\n",
        "type=file;size=99999999999999999999999; s\r\n",
        "type=file;size=-1;modify=; t\r\n",
        "type=file;size=1;modify=99999999999999; u\r\n",
        "type=;;;=;=; \u{0}\r\n",
        "no facts at all\r\n\r\n\r\n",
        "type=OS.unix=slink:../../../../etc/passwd;size=1; link\r\n",
        "type=file;size=1; cr\rinside\r\n",
        &format!("type=file;size=1; {long}\r\n"),
        &format!("type=file;size=1; {huge}\r\n"),
    ] {
        let shown = &bad[..bad.len().min(60)];
        for text in [format!("{bad}{good}"), format!("{good}{bad}"), format!("{good}{}", bad.trim_end())] {
            let at = Scripted::patient();
            at.put("good", b"good");
            at.server.faults().add(Rule::on("MLSD").act(Fault::Content(text.clone().into_bytes())));
            match within(LONGEST, || names(at.mount.path())) {
                Ok(names) => assert!(names.iter().any(|name| name == "good"), "{shown}: {names:?}"),
                // A line beyond all bounds may spoil its listing, not the mount.
                Err(e) => assert!(bad.len() > 1 << 20, "{shown}: {e}"),
            }
            at.server.faults().clear();
            assert_eq!(fs::read(at.path("good")).unwrap(), b"good", "{shown}");
        }
    }
}

#[test]
fn odd_lines_in_a_plain_listing_do_not_hide_the_good_ones() {
    for bad in [
        "total 12",
        "ls: cannot open directory: Permission denied",
        "------------   1 x x 1 ??? ?? ????? odd",
        "-rw-r--r-- 1 x x 1 Jan  1  2020 ../up",
        "-rw-r--r-- 1 x x 99999999999999999999999 Jan  1  2020 big",
        "-rw-r--r-- 1 x x -5 Jan  1  2020 negative",
        "-rw-r--r-- 1 x x 5 Feb 31 25:61 impossible",
        "lrwxrwxrwx 1 x x 5 Jan  1  2020 link -> ",
        "lrwxrwxrwx 1 x x 5 Jan  1  2020  -> ../../etc",
        "brw-rw---- 1 x x 7, 0 Jan  1  2020 device",
        "\u{1b}[31mred\u{1b}[0m",
        "",
        " ",
        "drwx",
    ] {
        let server_options = Options { without: vec!["MLSD", "MLST"], ..Options::default() };
        let at = Scripted::with(server_options, &PATIENT);
        at.put("good", b"good");
        let text = format!("{bad}\r\n-rw-r--r-- 1 x x 4 Jan  1  2020 good\r\n{bad}");
        at.server.faults().add(Rule::on("LIST").act(Fault::Content(text.into_bytes())));
        let found = within(LONGEST, || names(at.mount.path())).unwrap_or_else(|e| panic!("{bad:?}: {e}"));
        assert!(found.iter().any(|name| name == "good"), "{bad:?}: {found:?}");
        assert_eq!(fs::read(at.path("good")).unwrap(), b"good", "{bad:?}");
    }
}

#[test]
fn replies_that_are_no_replies_end_in_errors_not_in_the_program() {
    let lines: String = (0..200_000).map(|n| format!("211-{n}\r\n")).collect();
    let cases = vec![
        vec![b'2'; 1 << 20],
        [b"250 ".to_vec(), vec![b'x'; 1 << 20], b"\r\n".to_vec()].concat(),
        lines.into_bytes(),
        b"\xff\xf4\xff\xf2\x00\x00\r\n".to_vec(),
        b"hello\r\n".to_vec(),
        b"999 what\r\n".to_vec(),
        b"\r\n\r\n\r\n".to_vec(),
        b"22".to_vec(),
        b"200 one\r\n200 two\r\n200 three\r\n".to_vec(),
    ];
    at_once(8, cases, |bytes| {
        for verb in ["EPSV", "MLSD", "RETR", "STOR", "MKD"] {
            let at = Scripted::impatient();
            at.put("file", b"text");
            at.server.faults().add(Rule::on(verb).act(Fault::Raw(bytes.clone())));
            let shown = bytes[..bytes.len().min(20)].escape_ascii();
            let _ = within(LONGEST, || names(at.mount.path()));
            if let Ok(read) = within(LONGEST, || fs::read(at.path("file"))) {
                assert_eq!(read, b"text", "{verb}: {shown}");
            }
            if within(LONGEST, || store(&at.path("new"), b"new")).is_ok() {
                assert!(at.holds("new", b"new"), "{verb}: {shown}");
            }
            if within(LONGEST, || fs::create_dir(at.path("folder"))).is_ok() {
                assert!(at.server.root().join("folder").is_dir(), "{verb}: {shown}");
            }
            at.server.faults().clear();
            eventually(&format!("life after {verb}: {shown}"), || {
                fs::read(at.path("file")).is_ok_and(|b| b == b"text")
            });
        }
    });
}

#[test]
fn passive_replies_lead_nowhere_else() {
    for text in [
        "229 Entering Extended Passive Mode (|||0|)",
        "229 Entering Extended Passive Mode (|||99999|)",
        "229 Entering Extended Passive Mode (|||1|)",
        "229 Entering Extended Passive Mode",
        "229 (|||",
        "227 Entering Passive Mode (1,2,3,4,5)",
        "500 Unknown command.",
    ] {
        let at = Scripted::impatient();
        at.put("file", b"text");
        at.server.faults().add(Rule::on("EPSV").act(Fault::Reply(text.into())));
        if let Ok(bytes) = within(LONGEST, || fs::read(at.path("file"))) {
            assert_eq!(bytes, b"text", "{text}");
        }
        at.server.faults().clear();
        eventually(text, || fs::read(at.path("file")).is_ok_and(|b| b == b"text"));
    }
    // PASV's address is not believed: it may lie behind a translation, or be somebody else's.
    let at = Scripted::with(Options { without: vec!["EPSV"], ..Options::default() }, &IMPATIENT);
    at.put("file", b"text");
    at.server.faults().add(Rule::on("PASV").act(Fault::Address([10, 1, 2, 3])));
    assert_eq!(within(LONGEST, || fs::read(at.path("file"))).unwrap(), b"text");
}

#[test]
fn a_name_cannot_smuggle_a_command() {
    let at = Scripted::impatient();
    at.put("victim", b"x");
    for name in ["a\r\nDELE /victim", "a\nDELE /victim", "a\rb"] {
        assert_eq!(fs::write(at.path(name), "x").unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert_eq!(fs::create_dir(at.path(name)).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert!(fs::read(at.path(name)).is_err() && fs::remove_file(at.path(name)).is_err());
    }
    let counts = at.server.counters().now();
    assert_eq!(counts.commands.get("DELE"), None);
    assert!(counts.lines.iter().all(|(_, line)| !line.contains("victim")), "{:?}", counts.lines);
}
