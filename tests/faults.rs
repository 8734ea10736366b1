//! Bad days, scripted: transfers that end early, confirmations that get lost, servers that lie, fall silent or attack.
//!
//! The rule behind all of it: a program is told the truth. What reads as success has happened, byte for byte; everything else is an
//! error, and it comes within the time-out.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use harness::files::{close, names};
use harness::patience::{at_once, eventually, within};
use harness::scratch::Scratch;
use harness::scripted::{DataEnd, Fault, Options, Rule, Server, Then};
use harness::{Mount, Relay, Target, shell};
use nix::libc;

#[test]
fn a_download_that_ends_early_is_never_a_short_file() {
    let mut cases = Vec::new();
    for end in [DataEnd::Closed, DataEnd::Reset] {
        for then in
            [ok226(), reply("426 Connection closed."), reply("451 Local error."), Then::Close, Then::Silent]
        {
            cases.extend([0, 1, 100_000].map(|after| Fault::Data { after, end, then: then.clone() }));
        }
    }
    at_once(8, cases, |fault| {
        let day = Day::new();
        day.put("film", &content());
        day.server.faults().add(Rule::on("RETR").act(fault.clone()));
        if let Ok(bytes) = within(LONGEST, || fs::read(day.path("film"))) {
            assert!(bytes == content(), "{} bytes: {fault:?}", bytes.len());
        }
    });
}

#[test]
fn a_download_that_breaks_once_is_completed() {
    for end in [DataEnd::Closed, DataEnd::Reset] {
        for then in [ok226(), reply("426 Connection closed."), Then::Close] {
            let day = Day::new();
            day.put("film", &content());
            day.server.faults().add(Rule::on("RETR").once().act(Fault::Data {
                after: 70_000,
                end,
                then: then.clone(),
            }));
            assert!(fs::read(day.path("film")).unwrap() == content(), "{end:?} {then:?}");
        }
    }
}

#[test]
fn a_download_that_stalls_is_an_error_in_time() {
    let day = Day::new();
    day.put("film", &content());
    // Nothing at all comes: a few bytes at each try would be progress, and be taken for it.
    let fault = Fault::Data { after: 0, end: DataEnd::Stalled, then: Then::Silent };
    day.server.faults().add(Rule::on("RETR").act(fault));
    // Resumed after each stall, it may arrive in the end; but never short.
    if let Ok(read) = within(LONGEST, || fs::read(day.path("film"))) {
        assert!(read == content());
    }
    day.server.faults().clear();
    eventually("all is well afterwards", || fs::read(day.path("film")).is_ok_and(|bytes| bytes == content()));
}

#[test]
fn close_and_fsync_never_report_a_success_that_did_not_happen() {
    at_once(8, bad_uploads(), |fault| {
        for how in [How::Close, How::Fsync] {
            let day = Day::new();
            day.server.faults().add(Rule::on("STOR").act(fault.clone()));
            day.server.faults().add(Rule::on("APPE").act(fault.clone()));
            if within(LONGEST, || store(&day.path("new"), &content(), how)).is_ok() {
                assert!(day.holds("new", &content()), "{how:?} lied about {fault:?}");
            }
        }
    });
}

/// Kinds of uploads under every fault, ended by close() and by fsync(). Those that other tests here play as well only when
/// `FTPFS_FAULTS` says `all`.
#[test]
fn no_kind_of_upload_reports_a_success_that_did_not_happen() {
    let mut faults = bad_uploads();
    faults.push(Fault::Data { after: 60_001, end: DataEnd::Swallowed, then: ok226() });
    let cases = faults.into_iter().flat_map(|f| KINDS.map(|kind| (f.clone(), kind)));
    let all = std::env::var("FTPFS_FAULTS").is_ok_and(|which| which == "all");
    let cases: Vec<_> =
        cases.filter(|(_, kind)| all || matches!(kind, Upload::Patch | Upload::Big)).collect();
    at_once(8, cases, |(fault, kind)| {
        for how in [How::Close, How::Fsync] {
            let day = Day::with(
                Options::default(),
                &["timeout=1", "shutdown_timeout=1", "stream_from=16K", "spool_size=64K", "patch_from=1K"],
            );
            if *kind != Upload::Patch {
                for verb in ["STOR", "APPE"] {
                    day.server.faults().add(Rule::on(verb).path("f").act(fault.clone()));
                }
            }
            let old = bytes(1, 90_000);
            let (new, outcome) = match kind {
                Upload::New => {
                    (bytes(2, 100_000), within(LONGEST, || store(&day.path("f"), &bytes(2, 100_000), how)))
                }
                Upload::Overwrite | Upload::Big => {
                    day.put("f", &old);
                    let new = bytes(2, if *kind == Upload::Big { 700_000 } else { 9_000 });
                    let started = Instant::now();
                    let outcome = store(&day.path("f"), &new, how);
                    // Tried while it is written, and once more at close(): twice the longest wait for a reason.
                    assert!(
                        started.elapsed() < Duration::from_secs(60),
                        "{fault:?}: {:?}",
                        started.elapsed()
                    );
                    if started.elapsed() > Duration::from_secs(15) {
                        eprintln!(
                            "{kind:?} {how:?} {fault:?} took {:?}\n{}",
                            started.elapsed(),
                            day.mount.log()
                        );
                    }
                    (new, outcome)
                }
                Upload::Append => {
                    day.put("f", &old);
                    let added = bytes(2, 70_000);
                    let outcome = within(LONGEST, || {
                        let mut file = OpenOptions::new().append(true).open(day.path("f"))?;
                        file.write_all(&added)?;
                        end(file, how)
                    });
                    ([old.clone(), added].concat(), outcome)
                }
                Upload::Patch => {
                    day.put("f", &old);
                    // The first change makes the server prove that it keeps the rest.
                    let change = |at: usize, len: usize, how: How| {
                        let file = OpenOptions::new().write(true).open(day.path("f"))?;
                        std::os::unix::fs::FileExt::write_all_at(&file, &bytes(2, len), at as u64)?;
                        end(file, how)
                    };
                    change(20, 10, How::Close).unwrap();
                    for verb in ["STOR", "APPE"] {
                        day.server.faults().add(Rule::on(verb).path("f").act(fault.clone()));
                    }
                    let outcome = within(LONGEST, || change(40_000, 20_000, how));
                    let mut new = old.clone();
                    new[20..30].copy_from_slice(&bytes(2, 10));
                    new[40_000..60_000].copy_from_slice(&bytes(2, 20_000));
                    (new, outcome)
                }
            };
            let found = fs::read(day.server.root().join("f"));
            if outcome.is_ok() {
                assert!(found.is_ok_and(|found| found == new), "{how:?} of {kind:?} lied about {fault:?}");
                continue;
            }
            let kept = match (kind, found) {
                (Upload::New, _) => true,
                (Upload::Overwrite | Upload::Big, Ok(found)) => {
                    found == old || found == new || new.starts_with(&found)
                }
                (Upload::Append, Ok(found)) => found.starts_with(&old) && new.starts_with(&found),
                // What a disk may have after a crash: each byte is an old or a new one, and none is missing.
                (Upload::Patch, Ok(found)) => {
                    found.len() == new.len()
                        && found.iter().zip(old.iter().zip(&new)).all(|(f, (o, n))| f == o || f == n)
                }
                (_, Err(_)) => false,
            };
            assert!(kept, "{how:?} of {kind:?} destroyed it: {fault:?}");
        }
    });
}

#[test]
fn a_failed_upload_leaves_the_old_content_or_the_new_never_half() {
    at_once(8, bad_uploads(), |fault| {
        let day = Day::new();
        day.put("file", b"the old content");
        assert_eq!(fs::read(day.path("file")).unwrap(), b"the old content");
        day.server.faults().add(Rule::on("STOR").act(fault.clone()));
        match within(LONGEST, || store(&day.path("file"), &content(), How::Close)) {
            Ok(()) => assert!(day.holds("file", &content()), "a lie about {fault:?}"),
            Err(_) => {
                let whole = day.holds("file", b"the old content") || day.holds("file", &content());
                assert!(whole, "{fault:?} destroyed it");
            }
        }
    });
}

#[test]
fn an_upload_that_breaks_once_is_done_again() {
    let broken = |after, end, then| Fault::Data { after, end, then };
    for fault in [
        Fault::Close,
        broken(1000, DataEnd::Reset, reply("426 Connection closed.")),
        broken(1000, DataEnd::Closed, Then::Close),
        broken(u64::MAX, DataEnd::Closed, Then::Close),
        broken(1000, DataEnd::Swallowed, ok226()),
    ] {
        let day = Day::new();
        day.server.faults().add(Rule::on("STOR").once().act(fault.clone()));
        within(LONGEST, || store(&day.path("new"), &content(), How::Close))
            .unwrap_or_else(|e| panic!("{fault:?}: {e}"));
        assert!(day.holds("new", &content()), "{fault:?}");
    }
}

#[test]
fn a_full_disk_and_a_quota_have_their_own_numbers() {
    for (text, errno) in
        [("452 Insufficient storage space.", libc::ENOSPC), ("552 Quota exceeded.", libc::EDQUOT)]
    {
        for fault in [
            Fault::Reply(text.into()),
            Fault::Data { after: 1000, end: DataEnd::Reset, then: reply(text) },
            Fault::Data { after: u64::MAX, end: DataEnd::Closed, then: reply(text) },
        ] {
            let day = Day::new();
            day.server.faults().add(Rule::on("STOR").act(fault.clone()));
            let error = within(LONGEST, || store(&day.path("new"), &content(), How::Close)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno), "{fault:?}");
        }
    }
}

#[test]
fn a_rename_that_is_refused_is_an_error_and_loses_nothing() {
    for verb in ["RNFR", "RNTO"] {
        for fault in [Fault::Reply("550 Permission denied.".into()), Fault::Close, Fault::Silent] {
            let day = Day::new();
            day.put("a", b"a");
            day.put("b", b"b");
            day.server.faults().add(Rule::on(verb).act(fault.clone()));
            assert!(
                within(LONGEST, || fs::rename(day.path("a"), day.path("b"))).is_err(),
                "{verb} {fault:?}"
            );
            assert!(day.holds("a", b"a") && day.holds("b", b"b"), "{verb} {fault:?}");
            // Saving over a file may use a rename too.
            let saved = within(LONGEST, || store(&day.path("b"), b"new", How::Close));
            let found = fs::read(day.server.root().join("b"));
            let whole = found.as_ref().is_ok_and(|found| found == b"new" || saved.is_err() && found == b"b");
            assert!(whole, "{verb} {fault:?}: close() said {saved:?}, the server has {found:?}");
        }
    }
}

#[test]
fn an_append_that_fails_keeps_what_was_there() {
    at_once(8, bad_uploads(), |fault| {
        let day = Day::new();
        day.put("log", b"first\n");
        for verb in ["STOR", "APPE"] {
            day.server.faults().add(Rule::on(verb).act(fault.clone()));
        }
        let appended = within(LONGEST, || {
            let mut file = OpenOptions::new().append(true).open(day.path("log"))?;
            file.write_all(b"second\n")?;
            close(file)
        });
        let found = fs::read(day.server.root().join("log")).unwrap();
        match appended {
            Ok(()) => assert_eq!(found, b"first\nsecond\n", "a lie about {fault:?}"),
            Err(_) => assert!(found.starts_with(b"first\n"), "{fault:?} left {found:?}"),
        }
    });
}

#[test]
fn a_confirmation_that_was_lost_does_not_append_twice() {
    for then in [Then::Close, reply("426 Connection closed."), Then::Silent] {
        let day = Day::new();
        day.put("log", b"first\n");
        let fault = Fault::Data { after: u64::MAX, end: DataEnd::Closed, then: then.clone() };
        day.server.faults().add(Rule::on("APPE").once().act(fault.clone()));
        day.server.faults().add(Rule::on("STOR").once().act(fault));
        let appended = within(LONGEST, || {
            let mut file = OpenOptions::new().append(true).open(day.path("log"))?;
            file.write_all(b"second\n")?;
            close(file)
        });
        let found = fs::read(day.server.root().join("log")).unwrap();
        assert!(
            found == b"first\nsecond\n" || appended.is_err() && found == b"first\n",
            "{then:?}: {found:?}"
        );
    }
}

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
            let day = Day::new();
            day.put("good", b"good");
            day.server.faults().add(Rule::on("MLSD").act(Fault::Content(text.clone().into_bytes())));
            match within(LONGEST, || names(day.mount.path())) {
                Ok(names) => assert!(names.iter().any(|name| name == "good"), "{shown}: {names:?}"),
                // A line beyond all bounds may spoil its listing, not the mount.
                Err(e) => assert!(bad.len() > 1 << 20, "{shown}: {e}"),
            }
            day.server.faults().clear();
            assert_eq!(fs::read(day.path("good")).unwrap(), b"good", "{shown}");
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
        let day = Day::with(server_options, &["timeout=2", "shutdown_timeout=2"]);
        day.put("good", b"good");
        let text = format!("{bad}\r\n-rw-r--r-- 1 x x 4 Jan  1  2020 good\r\n{bad}");
        day.server.faults().add(Rule::on("LIST").act(Fault::Content(text.into_bytes())));
        let found = within(LONGEST, || names(day.mount.path())).unwrap_or_else(|e| panic!("{bad:?}: {e}"));
        assert!(found.iter().any(|name| name == "good"), "{bad:?}: {found:?}");
        assert_eq!(fs::read(day.path("good")).unwrap(), b"good", "{bad:?}");
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
            let day = Day::new();
            day.put("file", b"text");
            day.server.faults().add(Rule::on(verb).act(Fault::Raw(bytes.clone())));
            let shown = bytes[..bytes.len().min(20)].escape_ascii();
            let _ = within(LONGEST, || names(day.mount.path()));
            if let Ok(read) = within(LONGEST, || fs::read(day.path("file"))) {
                assert_eq!(read, b"text", "{verb}: {shown}");
            }
            if within(LONGEST, || store(&day.path("new"), b"new", How::Close)).is_ok() {
                assert!(day.holds("new", b"new"), "{verb}: {shown}");
            }
            if within(LONGEST, || fs::create_dir(day.path("folder"))).is_ok() {
                assert!(day.server.root().join("folder").is_dir(), "{verb}: {shown}");
            }
            day.server.faults().clear();
            eventually(&format!("life after {verb}: {shown}"), || {
                fs::read(day.path("file")).is_ok_and(|b| b == b"text")
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
        let day = Day::new();
        day.put("file", b"text");
        day.server.faults().add(Rule::on("EPSV").act(Fault::Reply(text.into())));
        if let Ok(bytes) = within(LONGEST, || fs::read(day.path("file"))) {
            assert_eq!(bytes, b"text", "{text}");
        }
        day.server.faults().clear();
        eventually(text, || fs::read(day.path("file")).is_ok_and(|b| b == b"text"));
    }
    // PASV's address is not believed: it may lie behind a translation, or be somebody else's.
    let day = Day::with(
        Options { without: vec!["EPSV"], ..Options::default() },
        &["timeout=2", "shutdown_timeout=2"],
    );
    day.put("file", b"text");
    day.server.faults().add(Rule::on("PASV").act(Fault::Address([10, 1, 2, 3])));
    assert_eq!(within(LONGEST, || fs::read(day.path("file"))).unwrap(), b"text");
}

#[test]
fn a_data_connection_that_never_comes_is_an_error_in_time() {
    for verb in ["RETR", "MLSD", "STOR"] {
        let day = Day::new();
        day.put("file", b"text");
        day.server.faults().add(Rule::on(verb).act(Fault::NoData(Then::Silent)));
        let outcome = within(LONGEST, || match verb {
            "RETR" => fs::read(day.path("file")).map(|_| ()),
            "MLSD" => names(day.mount.path()).map(|_| ()),
            _ => store(&day.path("new"), b"new", How::Close),
        });
        assert!(outcome.is_err(), "{verb}");
    }
}

#[test]
fn a_server_that_says_nothing_any_more_holds_nobody_for_ever() {
    let day = Day::new();
    day.put("folder/file", b"text");
    assert_eq!(names(day.mount.path()).unwrap(), ["folder"]);
    day.server.faults().add(Rule::on("*").act(Fault::Silent));
    assert!(within(LONGEST, || fs::read(day.path("folder/file"))).is_err());
    assert!(within(LONGEST, || fs::create_dir(day.path("new"))).is_err());
    assert!(within(LONGEST, || store(&day.path("new"), b"x", How::Close)).is_err());
    // df asks nobody.
    shell::ok(day.mount.path(), "stat -f . > ../df");
    day.server.faults().clear();
    eventually("life afterwards", || fs::read(day.path("folder/file")).is_ok_and(|b| b == b"text"));
}

#[test]
fn a_black_hole_ends_in_errors_and_light_brings_everything_back() {
    let scratch = Scratch::new("served");
    fs::write(scratch.path().join("seen"), content()).unwrap();
    fs::write(scratch.path().join("unseen"), "text").unwrap();
    let server = Server::start(scratch.path()).unwrap();
    let relay = Relay::new(&server);
    let mount = Mount::new(&relay, &["timeout=2", "shutdown_timeout=2"]);
    assert!(fs::read(mount.path().join("seen")).unwrap() == content());
    relay.black_hole();
    assert!(within(LONGEST, || fs::read(mount.path().join("unseen"))).is_err());
    assert!(within(LONGEST, || store(&mount.path().join("new"), b"new", How::Close)).is_err());
    relay.cut();
    relay.heal();
    eventually("light", || fs::read(mount.path().join("unseen")).is_ok_and(|b| b == b"text"));
    store(&mount.path().join("new"), b"new", How::Close).unwrap();
    assert_eq!(fs::read(scratch.path().join("new")).unwrap(), b"new");
}

#[test]
fn a_cut_line_is_mended_in_the_middle_of_a_file() {
    let scratch = Scratch::new("served");
    let film: Vec<u8> = (0..6_000_000u32).flat_map(u32::to_le_bytes).collect();
    fs::write(scratch.path().join("film"), &film).unwrap();
    let server = Server::start(scratch.path()).unwrap();
    let relay = Relay::new(&server);
    let mount = Mount::new(&relay, &["timeout=5"]);
    let mut file = File::open(mount.path().join("film")).unwrap();
    let mut read = vec![0; 1_000_000];
    file.read_exact(&mut read).unwrap();
    relay.cut();
    file.read_to_end(&mut read).unwrap();
    assert!(read == film);

    let mut file = File::create(mount.path().join("copy")).unwrap();
    file.write_all(&film[..film.len() / 2]).unwrap();
    relay.cut();
    file.write_all(&film[film.len() / 2..]).unwrap();
    close(file).unwrap();
    assert!(fs::read(scratch.path().join("copy")).unwrap() == film);
}

#[test]
fn everything_works_with_one_session() {
    let day = Day::with(Options { max_sessions: 1, ..Options::default() }, &[]);
    for i in 0..20 {
        day.put(&format!("d{}/f{i}", i % 4), &content());
    }
    shell::ok(day.mount.path(), "cp -r d0 d1 d2 d3 .. && for i in 0 1 2 3; do diff -r d$i ../d$i; done");
    shell::ok(
        day.mount.path(),
        "cp -r ../d1 new && cat d2/f2 > n & cat d3/f3 > m & wait; cmp n d2/f2 && cmp m d3/f3",
    );
    assert_eq!(day.server.counters().now().most_open, 1);
}

#[test]
fn an_idle_session_that_was_closed_is_not_noticed() {
    let options = Options { idle: Duration::from_millis(200), ..Options::default() };
    let day = Day::with(options, &[]);
    day.put("one", b"1");
    day.put("two", b"2");
    assert_eq!(fs::read(day.path("one")).unwrap(), b"1");
    eventually("the server to close", || day.server.counters().now().open == 0);
    assert_eq!(fs::read(day.path("two")).unwrap(), b"2");
    eventually("the server to close", || day.server.counters().now().open == 0);
    store(&day.path("three"), b"3", How::Close).unwrap();
    assert!(day.holds("three", b"3"));
    eventually("the server to close", || day.server.counters().now().open == 0);
    fs::rename(day.path("three"), day.path("four")).unwrap();
}

#[test]
fn a_wrong_password_is_told_once_and_not_tried_again() {
    let scratch = Scratch::new("served");
    let server = Server::start(scratch.path()).unwrap();
    struct Wrong(String);
    impl Target for Wrong {
        fn url(&self) -> String {
            self.0.clone()
        }
        fn password(&self) -> String {
            "wrong".into()
        }
    }
    let refused = Mount::attempt(&Wrong(server.url()), &[]).err().expect("it must not mount");
    assert!(refused.status.is_some_and(|status| !status.success()), "{refused:?}");
    assert!(!refused.log.contains("wrong\""), "the password is in the log");
    assert_eq!(server.counters().of("PASS"), 1);
}

#[test]
fn a_server_that_is_not_there_or_is_none_fails_the_mount() {
    for greeting in ["SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.0 400 Bad Request\r\n\r\n", "421 Too many users.\r\n"]
    {
        let scratch = Scratch::new("served");
        let server = Server::start(scratch.path()).unwrap();
        server.faults().add(Rule::on("CONNECT").act(Fault::Raw(greeting.into())));
        let refused =
            Mount::attempt(&server, &["timeout=2", "shutdown_timeout=2"]).err().expect("it must not mount");
        assert!(refused.status.is_some_and(|status| !status.success()), "{greeting}: {refused:?}");
    }
}

#[test]
fn a_name_cannot_smuggle_a_command() {
    let day = Day::new();
    day.put("victim", b"x");
    for name in ["a\r\nDELE /victim", "a\nDELE /victim", "a\rb"] {
        assert_eq!(fs::write(day.path(name), "x").unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert_eq!(fs::create_dir(day.path(name)).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert!(fs::read(day.path(name)).is_err() && fs::remove_file(day.path(name)).is_err());
    }
    let counts = day.server.counters().now();
    assert_eq!(counts.commands.get("DELE"), None);
    assert!(counts.lines.iter().all(|(_, line)| !line.contains("victim")), "{:?}", counts.lines);
}

/// A scripted server and its mount, with a short time-out.
struct Day {
    mount: Mount,
    server: Server,
    _served: Scratch,
}

impl Day {
    fn new() -> Self {
        Self::with(Options::default(), &["timeout=2", "shutdown_timeout=2"])
    }

    fn with(options: Options, mount_options: &[&str]) -> Self {
        let served = Scratch::new("served");
        let server = Server::start_with(served.path(), options).unwrap();
        let mount = Mount::new(&server, mount_options);
        Self { mount, server, _served: served }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.mount.path().join(name)
    }

    fn put(&self, name: &str, content: &[u8]) {
        let at = self.server.root().join(name);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, content).unwrap();
    }

    fn holds(&self, name: &str, content: &[u8]) -> bool {
        fs::read(self.server.root().join(name)).is_ok_and(|found| found == content)
    }
}

/// When a program learns that its bytes are safe.
#[derive(Clone, Copy, Debug)]
enum How {
    Close,
    Fsync,
}

/// What an upload does to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upload {
    New,
    Overwrite,
    Append,
    Patch,
    /// Uploaded while it is written.
    Big,
}

const KINDS: [Upload; 5] = [Upload::New, Upload::Overwrite, Upload::Append, Upload::Patch, Upload::Big];

fn end(file: File, how: How) -> io::Result<()> {
    match how {
        How::Close => close(file),
        How::Fsync => file.sync_all(),
    }
}

/// Every eight bytes are different ones.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at / 8 * 31 + at * 7 + seed * 131) as u8).map(|byte| byte.max(1)).collect()
}

fn store(path: &Path, content: &[u8], how: How) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    match how {
        How::Close => close(file),
        How::Fsync => file.sync_all(),
    }
}

fn bad_uploads() -> Vec<Fault> {
    let data = |after, end, then| Fault::Data { after, end, then };
    vec![
        Fault::Reply("550 Permission denied.".into()),
        Fault::Reply("553 Could not create file.".into()),
        Fault::Reply("452 Insufficient storage space.".into()),
        Fault::Reply("226 Transfer complete.".into()),
        Fault::Close,
        Fault::Silent,
        Fault::NoData(reply("425 Cannot open data connection.")),
        Fault::NoData(ok226()),
        Fault::NoData(Then::Silent),
        data(0, DataEnd::Closed, ok226()),
        data(1000, DataEnd::Closed, ok226()),
        data(1000, DataEnd::Swallowed, ok226()),
        data(1000, DataEnd::Reset, ok226()),
        data(1000, DataEnd::Reset, reply("426 Connection closed.")),
        data(1000, DataEnd::Reset, reply("451 Error writing.")),
        data(1000, DataEnd::Swallowed, reply("452 No space.")),
        data(1000, DataEnd::Reset, Then::Close),
        data(1000, DataEnd::Reset, Then::Silent),
        data(1000, DataEnd::Stalled, Then::Silent),
        data(u64::MAX, DataEnd::Closed, Then::Silent),
        data(u64::MAX, DataEnd::Closed, Then::Close),
        data(u64::MAX, DataEnd::Closed, reply("426 Connection closed.")),
        data(u64::MAX, DataEnd::Closed, reply("451 Error writing.")),
        data(u64::MAX, DataEnd::Closed, reply("552 Quota exceeded.")),
        Fault::Done(reply("550 Permission denied.")),
    ]
}

fn ok226() -> Then {
    reply("226 Transfer complete.")
}

fn reply(text: &str) -> Then {
    Then::Reply(text.to_string())
}

/// More than fits into the buffers between two sockets, and no multiple of anything.
fn content() -> Vec<u8> {
    (0..100_003u32).flat_map(u32::to_le_bytes).collect()
}

/// What hangs is not slow: many times the time-out in force.
const LONGEST: Duration = Duration::from_secs(30);
