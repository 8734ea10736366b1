//! Folders: huge ones, many of them, and vsftpd's listings by STAT. Counted and compared, never timed.
//!
//! `FTPFS_LONG=1` makes the million entries a million, in one folder and in many.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use harness::patience::eventually;
use harness::scratch::Scratch;
use harness::scripted::faults::{DataEnd, Fault, Rule, Then};
use harness::scripted::{Options, Server};
use harness::{Kind, Mount, Scripted, shell};

#[test]
fn the_first_entries_of_a_huge_folder_are_there_while_the_rest_still_comes() {
    for without in [vec![], vec!["MLSD", "MLST"]] {
        let at = with_huge_folder(without, &["timeout=3"]);
        let (mount, server) = (&at.mount, &at.server);
        shell::ok(mount.path(), "ls > ../out");
        let stalled = Fault::Data { after: 300_000, end: DataEnd::Stalled, then: Then::Silent };
        for verb in ["MLSD", "LIST"] {
            server.faults().add(Rule::on(verb).act(stalled.clone()));
        }
        let mut entries = fs::read_dir(mount.path().join("huge")).unwrap();
        let first: Vec<_> = entries.by_ref().take(1000).map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(first.len(), 1000);
        // The end never comes: that is an error, not the end of the folder.
        assert!(entries.any(|entry| entry.is_err()));
        server.faults().clear();
        // Whoever comes before the server has been given up joins what is under way.
        eventually("all of it", || {
            let entries: Result<Vec<_>, _> =
                fs::read_dir(mount.path().join("huge")).and_then(Iterator::collect);
            entries.is_ok_and(|entries| entries.len() == 6000)
        });
    }
}

#[test]
fn a_listing_that_breaks_off_anywhere_is_whole_in_the_end_or_an_error() {
    for without in [vec![], vec!["MLSD", "MLST"]] {
        let at = with_huge_folder(without, &["timeout=2", "cache_timeout=0"]);
        let (huge, server) = (at.path("huge"), &at.server);
        let list = || fs::read_dir(&huge).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        // Two seconds may be too short for it on a busy machine: that is an error, then.
        let is_whole = || list().is_ok_and(|found| found.len() == 6000);
        eventually("a listing", is_whole);
        let replies =
            ["426 Connection closed.", "451 Local error.", "421 Service not available.", "550 Gone."];
        let mut ends: Vec<Then> = replies.iter().map(|text| Then::Reply((*text).to_owned())).collect();
        ends.extend([Then::Close, Then::Silent]);
        // Nothing of it, before and behind the first entries that are handed out, and all of it but the final reply.
        for (after, then) in
            [50_000, 300_000, u64::MAX].into_iter().flat_map(|at| ends.iter().map(move |end| (at, end)))
        {
            for (end, times) in [(DataEnd::Closed, 1), (DataEnd::Closed, 100), (DataEnd::Reset, 1)] {
                // A time-out each: not for every combination.
                let is_costly = matches!(then, Then::Silent);
                if is_costly && (server.counters().of("LIST") > 0 || (end, times) != (DataEnd::Closed, 1)) {
                    continue;
                }
                for verb in ["MLSD", "LIST"] {
                    let fault = Fault::Data { after, end, then: then.clone() };
                    server.faults().add(Rule::on(verb).times(times).act(fault));
                }
                let found = list();
                server.faults().clear();
                if let Ok(found) = found {
                    assert_eq!(found.len(), 6000, "after {after} bytes, {end:?}, {then:?}");
                    assert!(
                        times == 1,
                        "after {after} bytes, {end:?}, {then:?}: there never was a whole listing"
                    );
                }
            }
        }
        // What came of the listings that were cut is nobody's whole folder.
        eventually("a listing", is_whole);
        eventually("a look-up", || huge.join("05999").exists());
    }
}

#[test]
fn what_is_removed_while_a_huge_folder_still_comes_is_not_its_end() {
    // Whatever is asked about anew waits for the listing that is stuck.
    let at = with_huge_folder(vec![], &["timeout=10", "cache_timeout=600"]);
    let (mount, server) = (&at.mount, &at.server);
    shell::ok(mount.path(), "ls > ../out");
    let stalled = Fault::Data { after: 300_000, end: DataEnd::Stalled, then: Then::Silent };
    server.faults().add(Rule::on("MLSD").once().act(stalled));
    let mut entries = fs::read_dir(mount.path().join("huge")).unwrap();
    let one = entries.next().unwrap().unwrap();
    // As another program would, which is ahead of this one.
    let ahead: Vec<_> = fs::read_dir(mount.path().join("huge"))
        .unwrap()
        .take(4000)
        .map_while(Result::ok)
        .map(|entry| entry.path())
        .collect();
    assert!(ahead.len() > 2000 && ahead[0] == one.path(), "{}", ahead.len());
    for path in &ahead[600..1800] {
        fs::remove_file(path).unwrap();
    }
    let mut failed = false;
    let mut count = 1;
    for entry in entries {
        failed |= entry.is_err();
        count += 1;
    }
    // Those in front of the gap, those behind it, and what the second attempt brings; or an error.
    assert!(failed || count >= 4800, "{count} of 4800 entries, and no error");
}

#[test]
fn a_huge_folder_that_came_ahead_is_read_although_its_session_breaks_and_nobody_plans_it_any_more() {
    let at = Scripted::prepared(Options::default(), &["timeout=10", "max_conns=3"], |server| {
        for folder in 0..12 {
            fs::create_dir_all(server.root().join(format!("d/{folder:02}"))).unwrap();
        }
        (0..6000).for_each(|i| fs::write(server.root().join(format!("d/06/{i:05}")), "").unwrap());
    });
    let (mount, server) = (&at.mount, &at.server);
    let stalled = Fault::Data { after: 300_000, end: DataEnd::Stalled, then: Then::Silent };
    server.faults().add(Rule::on("MLSD").path("d/06").once().act(stalled));
    shell::ok(mount.path(), "ls d > ../out; ls d/00 d/01 d/02 d/03 > ../out");
    eventually("a listing ahead", || server.counters().now().bytes_sent > 290_000);
    // Time to take them over: who opens it from then on waits for nothing, and has nothing asked for.
    (0..50).for_each(|_| drop(mount.status(&[])));
    let mut entries = fs::read_dir(at.path("d/06")).unwrap();
    assert!(entries.next().unwrap().is_ok());
    // A step further: what was planned there is behind the program.
    assert_eq!(fs::read_dir(at.path("d/07")).unwrap().count(), 0);
    server.drop_sessions();
    // To its end or to an error.
    entries.for_each(drop);
    assert_eq!(fs::read_dir(at.path("d/06")).unwrap().map(Result::unwrap).count(), 6000);
}

#[test]
fn names_that_are_gone_are_not_handed_out_although_their_files_are_open() {
    let at = Scripted::prepared(Options::default(), &["cache_timeout=600"], |server| {
        let name = |i: u32| format!("d/{i:04} {}", "x".repeat(100));
        (0..1900).for_each(|i| server.put(&name(i), "text"));
    });
    // The kernel asks for some of them at a time.
    let mut entries = fs::read_dir(at.path("d")).unwrap();
    let first = entries.next().unwrap().unwrap().path();
    let other = |i: u32| first.with_file_name(format!("{i:04} {}", "x".repeat(100)));
    let open = [fs::File::open(other(1800)).unwrap(), fs::File::open(other(1801)).unwrap()];
    fs::remove_file(other(1800)).unwrap();
    fs::rename(other(1801), at.path("elsewhere")).unwrap();
    let left: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    assert!(!left.contains(&other(1800)) && !left.contains(&other(1801)));
    assert_eq!(left.len(), 1900 - 1 - 2);
    drop(open);
}

#[test]
fn a_folder_that_is_rewound_is_listed_again_when_its_listing_is_old() {
    let at = Scripted::prepared(Options::default(), &["dir_timeout=0"], |server| server.put("d/old", "text"));
    // listdir() of a descriptor rewinds it.
    let script = "fd = os.open('d', os.O_RDONLY)\nfor _ in 'ab':\n print(sorted(os.listdir(fd)), flush=True)\n pause()\n";
    let mut program = shell::Script::start(at.mount.path(), script);
    program.await_line("['old']");
    program.await_pause();
    let listed = at.server.counters().of("MLSD");
    at.put("d/new", "text");
    program.go_on();
    program.await_line("['new', 'old']");
    program.await_pause();
    assert_eq!(at.server.counters().of("MLSD"), listed + 1);
    program.go_on();
    assert!(program.end().0);
}

/// A folder of 6,000 files, on a server without some commands.
fn with_huge_folder(without: Vec<&'static str>, mount_options: &[&str]) -> Scripted {
    Scripted::prepared(Options { without, ..Options::default() }, mount_options, |server| {
        let huge = server.root().join("huge");
        fs::create_dir(&huge).unwrap();
        (0..6000).for_each(|i| fs::write(huge.join(format!("{i:05}")), "").unwrap());
    })
}

#[test]
fn a_huge_folder_is_shown_whole_and_the_second_time_from_memory() {
    // The long one is more than the nodes that are kept.
    let count = if std::env::var_os("FTPFS_LONG").is_some() { 900_000 } else { 20_000 };
    let line = "type=file;size=1;modify=20200101000000; name{}";
    let served = Scratch::new("served");
    fs::create_dir(served.path().join("huge")).unwrap();
    let server = Server::start(served.path()).unwrap();
    server.faults().add(Rule::on("MLSD").path("huge").act(lines(line, count)));
    let mount = Mount::new(&server, &["cache_timeout=600"]);
    let listed = fs::read_dir(mount.path().join("huge")).unwrap().count() as u64;
    assert!(listed >= count, "{listed}");
    server.counters().reset();
    assert_eq!(fs::read_dir(mount.path().join("huge")).unwrap().count() as u64, listed);
    assert_eq!(server.counters().of("MLSD"), 0, "{:?}", server.counters().now().lines);
}

#[test]
fn a_million_entries_do_not_stay_in_memory() {
    let long = std::env::var_os("FTPFS_LONG").is_some();
    let (folders, files) = if long { (1000, 1000) } else { (150, 1000) };
    let served = Scratch::new("served");
    (0..folders).for_each(|i| fs::create_dir(served.path().join(format!("d{i:03}"))).unwrap());
    let server = Server::start(served.path()).unwrap();
    let line = "type=file;size=1;modify=20200101000000; a file with a name of some length {}";
    server.faults().add(Rule::on("MLSD").path("/d").act(lines(line, files)));
    let mount = Mount::new(&server, &[]);
    // Of a pipe the shell tells the last program's end only.
    let found = shell::ok(mount.path(), "find . -type f > ../found && wc -l < ../found");
    let found: u64 = found.trim().parse().unwrap();
    assert!(found >= folders * files, "{found}");
    let kibibytes = mount.peak_memory();
    // 64 MiB, and what cache_size may be.
    assert!(kibibytes < 128 << 10, "{kibibytes} KiB after {found} entries");
}

#[test]
fn a_program_that_goes_elsewhere_leaves_what_was_planned_for_it_unfetched() {
    let served = Scratch::new("served");
    fs::create_dir(served.path().join("d")).unwrap();
    (0..40).for_each(|i| fs::write(served.path().join(format!("d/{i:02}")), "content").unwrap());
    let server = Server::start(served.path()).unwrap();
    // One connection for the reader, one for what comes ahead, and that one is busy with the first of it until all is over.
    let mount = Mount::new(&server, &["max_conns=2"]);
    shell::ok(mount.path(), "ls d; cat d/00");
    let late = Fault::Delay(std::time::Duration::from_secs(10));
    server.faults().add(Rule::on("RETR").path("d/02").act(late));
    shell::ok(mount.path(), "cat d/01 d/30 d/20");
    let fetched = server.counters().of("RETR");
    assert!(fetched <= 3 + 3, "{fetched}: {:?}", server.counters().now());
}

#[test]
fn vsftpd_lists_many_folders_at_once_and_without_data_connections() {
    let Some(server) = harness::Server::start(Kind::Vsftpd) else { return };
    for folder in 0..60 {
        (0..3).for_each(|file| server.put(&format!("d/{folder:02}/{file}"), "x"));
    }
    let mount = Mount::new(&server, &[]);
    assert_eq!(shell::ok(mount.path(), "find d | wc -l").trim(), "241");
    let log = mount.log();
    let said = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    // The root, `d`, and 60 in it; a listing before that has proven data connections.
    assert_eq!(said("> STAT /"), 62, "{log}");
    assert_eq!((said("> LIST"), said("> MDTM")), (1, 0), "{log}");
}

#[test]
fn names_that_break_a_reply_apart_are_neither_believed_nor_in_the_way() {
    let Some(server) = harness::Server::start(Kind::Vsftpd) else { return };
    server.put("d/good", "x");
    server.put("e/good", "x");
    // What stands behind the line break would be the answer to the next command.
    for evil in ["a\r\n213 End of status\r\n226 Transfer complete.", "b\r\n213-\r\n250-x", "c\n213 End"] {
        server.put(&format!("d/{evil}"), "x");
    }
    let mount = Mount::new(&server, &["max_conns=2"]);
    assert_eq!(shell::ok(mount.path(), "ls e").trim(), "good");
    let names: Vec<_> =
        fs::read_dir(mount.path().join("d")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.iter().any(|name| name.as_bytes() == b"good"), "{names:?}");
    fs::write(mount.path().join("d/new"), "content").unwrap();
    assert_eq!(fs::read(server.root().join("d/new")).unwrap(), b"content");
    assert_eq!(fs::read(mount.path().join("d/good")).unwrap(), b"x");
    assert_eq!(shell::ok(mount.path(), "ls e").trim(), "good");
}

#[test]
fn vsftpd_folders_that_cannot_be_listed_say_why_and_odd_names_are_no_patterns() {
    let Some(server) = harness::Server::start(Kind::Vsftpd) else { return };
    for folder in ["*", "[ab]", "-la", " blank", "same/same", "a b"] {
        server.put(&format!("{folder}/inside"), "x");
    }
    server.put("closed/secret", "x");
    server.put("b/other", "x");
    fs::set_permissions(server.root().join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    let mount = Mount::new(&server, &["no_prefetch"]);
    for folder in ["*", "[ab]", "-la", " blank", "same/same", "a b"] {
        assert_eq!(names(&mount.path().join(folder)), ["inside"], "{folder:?}");
    }
    assert_eq!(names(&mount.path().join("same")), ["same"]);
    let refused = fs::read_dir(mount.path().join("closed")).map(Iterator::count).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{refused}: {}", mount.log());
    fs::remove_dir_all(server.root().join("b")).unwrap();
    let gone = fs::read_dir(mount.path().join("b")).map(Iterator::count).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// At least so many lines.
fn lines(line: &str, count: u64) -> Fault {
    Fault::Lines { line: format!("{line}\r\n"), bytes: count * (line.len() as u64 + 6) }
}

#[test]
fn an_umask_that_is_asked_for_takes_away_from_the_modes_that_the_server_tells() {
    let prepare = |server: &Server| {
        server.put("d/f", "text");
        let mode = |name: &str, bits| {
            fs::set_permissions(server.root().join(name), fs::Permissions::from_mode(bits)).unwrap();
        };
        mode("d/f", 0o664);
        mode("d", 0o755);
    };
    for (options, want) in [
        (&[][..], "755\n664\n"),
        (&["umask=077"], "700\n600\n"),
        (&["umask=077,file_mode=640"], "700\n640\n"),
    ] {
        let at = Scripted::prepared(Options::default(), options, prepare);
        assert_eq!(shell::ok(at.mount.path(), "stat -c %a d d/f"), want, "{options:?}");
    }
}

/// Minutes are all that is known of its time, and nobody can be asked any more.
#[test]
fn a_file_whose_folder_is_gone_is_not_asked_about_for_ever() {
    let options = Options { without: vec!["MLSD", "MLST"], ..Options::default() };
    let at =
        Scripted::prepared(options, &["attr_timeout=300", "timeout=6"], |server| server.put("d/f", "text"));
    let mut program = shell::Script::start(
        at.mount.path(),
        "fd = os.open('d/f', os.O_PATH)
pause()
try: os.fstat(fd)
except OSError as error: print(error.errno)
",
    );
    program.await_pause();
    fs::remove_dir_all(at.server.root().join("d")).unwrap();
    harness::program::ok(&["forget", at.mount.path().to_str().unwrap()]);
    shell::ok(at.mount.path(), "ls > /dev/null");
    program.go_on();
    let (_, said) = program.end();
    assert!(!said.contains(&nix::libc::ETIMEDOUT.to_string()), "{said}: {}", at.mount.log());
}
