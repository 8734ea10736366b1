//! What becomes of bytes when names change under them, here or on the server: nothing is confirmed that is nowhere, and nothing
//! that was removed comes back.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs;
use std::time::Duration;

use harness::patience::eventually;
use harness::scripted::{self, DataEnd, Fault, Rule, Then};
use harness::shell::{self, Script};
use harness::{Kind, Mounted, Options, Scripted, files};

/// Nothing that was told is believed for long.
const CURIOUS: &[&str] = &["attr_timeout=0", "dir_timeout=0", "negative_timeout=0", "timeout=10"];

#[test]
fn a_file_whose_folder_somebody_else_has_moved_away_is_not_confirmed_and_its_bytes_are_kept() {
    let at = mounted(CURIOUS);
    fs::create_dir(at.root().join("folder")).unwrap();
    let mut writer = Script::start(
        at.mount.path(),
        "f = open('folder/new', 'w')\nf.write('ours')\nf.flush()\npause()\ntry:\n f.close()\nexcept OSError as e:\n print(e.errno)",
    );
    writer.await_pause();
    fs::rename(at.root().join("folder"), at.root().join("elsewhere")).unwrap();
    shell::ok(at.mount.path(), "test \"$(ls)\" = elsewhere");
    writer.go_on();
    assert_eq!(writer.end(), (true, "116\n".to_owned()), "ESTALE: {}", at.mount.log());
    assert_eq!(kept(&at), ["ours"]);
}

#[test]
fn a_log_that_the_server_has_removed_takes_no_more_lines_without_a_word() {
    let at = mounted(CURIOUS);
    fs::write(at.root().join("log"), "old\n").unwrap();
    let mut writer = Script::start(
        at.mount.path(),
        "f = os.open('log', os.O_WRONLY | os.O_APPEND)\nos.write(f, b'first\\n')\nos.fsync(f)\npause()\n\
         os.write(f, b'second\\n')\ntry:\n os.fsync(f)\nexcept OSError as e:\n print(e.errno)",
    );
    writer.await_pause();
    fs::remove_file(at.root().join("log")).unwrap();
    shell::ok(at.mount.path(), "test -z \"$(ls)\"");
    writer.go_on();
    assert_eq!(writer.end(), (true, "116\n".to_owned()), "ESTALE: {}", at.mount.log());
}

#[test]
fn half_of_an_append_that_is_replaced_by_another_is_not_taken_for_that() {
    let at = mounted(&["timeout=10"]);
    fs::write(at.root().join("log"), "o".repeat(100)).unwrap();
    let breaks = Fault::Data { after: 50, end: DataEnd::Closed, then: Then::reply("426 It broke off.") };
    at.server.faults().add(Rule::on("APPE").times(1).act(breaks));
    at.server.faults().add(Rule::on("APPE").times(2).act(Fault::Close));
    let writer = Script::start(
        at.mount.path(),
        "f = os.open('log', os.O_WRONLY | os.O_APPEND)\nos.write(f, b'a' * 90)\n\
         try:\n os.fsync(f)\nexcept OSError:\n print('failed')\n\
         os.ftruncate(f, 100)\nos.write(f, b'b' * 90)\n\
         try:\n os.fsync(f)\n print('confirmed')\nexcept OSError:\n print('failed again')",
    );
    let (_, told) = writer.end();
    assert!(told.starts_with("failed\n"), "{told}{}", at.mount.log());
    let there = fs::read_to_string(at.root().join("log")).unwrap();
    if told.contains("confirmed") {
        assert_eq!(there, "o".repeat(100) + &"b".repeat(90), "{told}{}", at.mount.log());
    }
}

#[test]
fn what_is_written_in_place_does_not_replace_what_somebody_else_has_written_meanwhile() {
    let at = mounted(&["in_place"]);
    fs::write(at.root().join("file"), "o".repeat(1000)).unwrap();
    let mut writer = Script::start(
        at.mount.path(),
        "f = os.open('file', os.O_WRONLY)\nos.pwrite(f, b'u' * 500, 100)\npause()\n\
         try:\n os.close(f)\nexcept OSError as e:\n print(e.errno)",
    );
    writer.await_pause();
    fs::write(at.root().join("file"), "t".repeat(1000)).unwrap();
    files::date(&at.root().join("file"), 1000);
    writer.go_on();
    assert_eq!(writer.end(), (true, "116\n".to_owned()), "ESTALE: {}", at.mount.log());
    assert_eq!(fs::read_to_string(at.root().join("file")).unwrap(), "t".repeat(1000));
}

#[test]
fn a_file_that_is_removed_before_anything_of_it_was_sent_is_removed_and_does_not_come_back() {
    let at = mounted(&["max_conns=1", "timeout=20"]);
    fs::create_dir(at.root().join("folder")).unwrap();
    shell::ok(at.mount.path(), "ls; stat folder");
    // The only session is busy while close() and unlink() come.
    at.server.faults().add(Rule::on("MLSD").path("folder").once().act(Fault::Delay(Duration::from_secs(3))));
    shell::ok(
        at.mount.path(),
        "ls folder & sleep 0.5; (echo text > new) & sleep 0.5; test -e new && rm new && wait && test ! -e new",
    );
    assert!(!at.root().join("new").exists(), "{}", at.mount.log());
}

#[test]
fn half_a_file_that_could_not_be_uploaded_goes_when_it_is_removed() {
    let at = mounted(&["timeout=10"]);
    let breaks = Fault::Data { after: 2, end: DataEnd::Closed, then: Then::reply("426 It broke off.") };
    at.server.faults().add(Rule::on("STOR").act(breaks));
    shell::ok(
        at.mount.path(),
        "python3 -c \"
import os
f = os.open('new', os.O_WRONLY | os.O_CREAT)
os.write(f, b'text')
try:
 os.fsync(f)
 raise SystemExit(1)
except OSError:
 os.unlink('new')
\"",
    );
    eventually("an empty folder", || fs::read_dir(at.root()).unwrap().count() == 0);
}

#[test]
fn an_open_file_that_is_removed_stays_readable_also_where_nothing_is_believed_for_long() {
    let at = mounted(&["attr_timeout=0", "dir_timeout=0", "negative_timeout=0"]);
    fs::write(at.root().join("file"), "o".repeat(3_000_000)).unwrap();
    shell::ok(at.mount.path(), "exec 3< file; rm file; test ! -e file; test $(cat <&3 | wc -c) = 3000000");
    fs::write(at.root().join("file"), "o".repeat(3_000_000)).unwrap();
    shell::ok(
        at.mount.path(),
        "exec 3< file; echo new > other; mv other file; test $(cat <&3 | wc -c) = 3000000",
    );
    assert_eq!(fs::read_to_string(at.root().join("file")).unwrap(), "new\n");
}

#[test]
fn a_file_that_is_written_anew_after_a_removal_was_given_up_is_there() {
    let at = mounted(&["timeout=20"]);
    fs::write(at.root().join("file"), "old").unwrap();
    shell::ok(at.mount.path(), "cat file");
    at.server.faults().add(Rule::on("DELE").once().act(Fault::Delay(Duration::from_secs(3))));
    shell::ok(at.mount.path(), "! timeout --signal=INT 1 rm -f file; printf new > file");
    assert_eq!(shell::ok(at.mount.path(), "cat file"), "new");
    assert_eq!(fs::read_to_string(at.root().join("file")).unwrap(), "new", "{}", at.mount.log());
}

#[test]
fn a_move_that_was_refused_does_not_move_something_else_later() {
    // Pure-FTPd keeps the RNFR of a refused RNTO, also when the next RNFR is refused.
    let Some(at) = Mounted::new(Kind::PureFtpd, &Options::default(), &["max_conns=1"]) else { return };
    at.server.put("a", "a");
    at.server.put("b", "b");
    at.ok("stat a b");
    fs::remove_file(at.server.root().join("b")).unwrap();
    at.ok("! mv a 'back\\slash'; ! mv b c");
    assert_eq!(at.server.read("a"), b"a", "{}", at.mount.log());
    assert!(!at.server.root().join("c").exists(), "{}", at.mount.log());
}

fn mounted(options: &[&str]) -> Scripted {
    Scripted::with(scripted::Options::default(), options)
}

/// The contents of what was kept.
fn kept(at: &Scripted) -> Vec<String> {
    let unsent = at.mount.spool().join("unsent");
    let files = fs::read_dir(unsent).into_iter().flatten().map(|entry| entry.unwrap().path());
    let is_content = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name != "lock" && !name.ends_with(".info")
    };
    files.filter(is_content).map(|path| fs::read_to_string(path).unwrap()).collect()
}
