//! `ftpfs recover`: what could not be uploaded is found, and gets where it belongs.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use harness::files::store;
use harness::program::{self, text};
use harness::scripted::{Fault, Rule};
use harness::shell::Script;
use harness::{Mounted, Scripted, Target, shell};

on_each_server! {
    fn a_file_that_could_not_be_uploaded_is_listed_and_pushed_through_its_mount(at: &mut Mounted) {
        at.server.make_folder("full/ä %41");
        at.server.put("full/log", "old\n");
        at.ok("ls -l full full/*");
        shell::ok(at.server.root(), "chmod 555 full full/*; chmod 444 full/log");
        assert!(store(&at.path("full/ä %41/new"), b"new\n").is_err());
        assert!(store(&at.path("full/log"), b"another\n").is_err());
        let spool = at.mount.spool();
        let listed = recover(&spool, &[]);
        for words in ["tester@127.0.0.1", "/full/ä %41/new", "/full/log", "4 B", "8 B", "55"] {
            assert!(listed.contains(words), "{words}: {listed}");
        }
        // Not yet.
        let output = run(&spool, &["push", "--all"]);
        assert_eq!(output.status.code(), Some(7), "{}", text(&output));
        assert_eq!(ids(&spool).len(), 2);
        shell::ok(at.server.root(), "chmod 755 full full/*; chmod 644 full/log");
        let told = recover(&spool, &["push", "--all"]);
        assert_eq!(told.matches("uploaded").count(), 2, "{told}");
        assert_eq!(at.server.read("full/ä %41/new"), b"new\n");
        assert_eq!(at.server.read("full/log"), b"another\n");
        assert_eq!(at.ok("cat full/*/new full/log"), "new\nanother\n");
        assert_eq!(at.ok("ls -A full"), "log\nä %41\n");
        assert!(recover(&spool, &[]).contains("Nothing is kept"), "{}", recover(&spool, &[]));
        assert_eq!(shell::ok(&spool, "find . -type f ! -name lock"), "");
    }

    fn without_a_mount_it_is_pushed_in_a_session_of_its_own(at: &mut Mounted) {
        at.server.put("log", "old\n");
        at.ok("cat log; chmod 600 log");
        shell::ok(at.server.root(), "chmod 555 .; chmod 444 log");
        assert!(append(&at.path("log"), b"more\n").is_err());
        assert!(store(&at.path("new"), b"new\n").is_err());
        shell::ok(at.server.root(), "chmod 755 .; chmod 644 log");
        let spool = at.mount.spool();
        shell::ok(Path::new("/"), &format!("umount '{}'", at.mount.path().display()));
        assert!(at.mount.wait(std::time::Duration::from_secs(20)).is_some());
        let output = run(&spool, &["push", "--all"]);
        assert!(!output.status.success() && text(&output).contains("--server"), "{}", text(&output));
        let url = at.server.url();
        let told = recover_as(&spool, &["push", "--all", "--server", &url], &at.server.password());
        assert_eq!(told.matches("uploaded").count(), 2, "{told}");
        assert_eq!(at.server.read("log"), b"old\nmore\n");
        assert_eq!(at.server.read("new"), b"new\n");
        assert!(ids(&spool).is_empty());
    }

    fn what_another_has_changed_meanwhile_is_not_overwritten(at: &mut Mounted) {
        at.server.put("d/f", "old\n");
        at.server.put("d/log", "old\n");
        at.ok("cat d/f d/log");
        shell::ok(at.server.root(), "chmod 555 d; chmod 444 d/f d/log");
        assert!(store(&at.path("d/f"), b"ours\n").is_err());
        assert!(append(&at.path("d/log"), b"more\n").is_err());
        shell::ok(at.server.root(), "chmod 755 d; chmod 644 d/f d/log; echo theirs > d/f; echo theirs > d/log");
        let spool = at.mount.spool();
        let output = run(&spool, &["push", "--all"]);
        assert!(text(&output).contains("both are kept"), "{}", text(&output));
        assert_eq!(at.server.read("d/f"), b"theirs\n");
        assert_eq!(at.server.read("d/log"), b"theirs\n");
        assert_eq!(shell::ok(at.server.root(), "cat d/f.ftpfs-conflict-2*"), "ours\n");
        let left = ids(&spool);
        if left.is_empty() {
            // Where nothing could be added, all of it was to be sent.
            assert_eq!(shell::ok(at.server.root(), "cat d/log.ftpfs-conflict-2*"), "old\nmore\n");
            return;
        }
        // A line without its log can be looked at, and thrown away.
        assert_eq!(output.status.code(), Some(7), "{}", text(&output));
        let to = at.path("../saved");
        recover(&spool, &["save", &left[0], to.to_str().unwrap()]);
        assert_eq!(fs::read(to).unwrap(), b"\0\0\0\0more\n");
        recover(&spool, &["drop", &left[0]]);
        assert!(ids(&spool).is_empty());
    }
}

#[test]
fn one_is_saved_and_one_is_dropped() {
    let at = Scripted::new();
    let content: Vec<u8> = (0..400_000u32).flat_map(u32::to_le_bytes).collect();
    at.server.faults().add(Rule::on("STOR").act(Fault::Reply("552 Quota \x1b[2J exceeded.".into())));
    fs::write(at.mount.path().join("../one"), &content).unwrap();
    fs::write(at.mount.path().join("../two"), b"2").unwrap();
    shell::fails(at.mount.path(), "cp ../one one");
    shell::fails(at.mount.path(), "cp ../two two");
    let spool = at.mount.spool();
    let listed = recover(&spool, &[]);
    assert!(listed.contains("exceeded") && !listed.contains('\x1b'), "{listed}");
    let both = ids(&spool);
    let to = at.mount.path().join("../saved");
    recover(&spool, &["save", &both[0], to.to_str().unwrap()]);
    assert!(fs::read(&to).unwrap() == content);
    // Nothing here is overwritten.
    assert!(!run(&spool, &["save", &both[1], to.to_str().unwrap()]).status.success());
    assert_eq!(run(&spool, &["save", &both[1], "-"]).stdout, b"2");
    recover(&spool, &["drop", &both[0]]);
    assert_eq!(ids(&spool), both[1..]);
    assert!(!run(&spool, &["drop", "nonsense"]).status.success());
    let mut json = Command::new("python3");
    let script = "import json,sys; e = json.loads(sys.stdin.readline()); assert e['path'] == '/two' and e['size'] == 1, e";
    let mut child = json.args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(recover(&spool, &["--json"]).as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_file_of_holes_that_could_not_be_uploaded_takes_no_more_room_than_its_bytes() {
    let at = Scripted::new();
    at.server.faults().add(Rule::on("STOR").act(Fault::Reply("552 Full.".into())));
    shell::fails(at.mount.path(), &format!("printf end | dd of=f bs=1 seek={}", HOLES - 3));
    let spool = at.mount.spool();
    let id = ids(&spool).remove(0);
    let kept = fs::metadata(spool.join("unsent").join(&id)).unwrap();
    assert_eq!(kept.len(), HOLES);
    assert!(kept.blocks() * 512 < 1 << 20, "{} blocks", kept.blocks());
    recover(&spool, &["drop", &id]);
}

#[test]
fn whatever_lies_in_the_spool_folder_is_no_trap() {
    let at = Scripted::new();
    fs::write(at.server.root().join("victim"), "safe").unwrap();
    at.server.faults().add(Rule::on("STOR").times(1).act(Fault::Reply("552 Full.".into())));
    assert!(store(&at.mount.path().join("f"), b"x").is_err());
    let spool = at.mount.spool();
    let id = ids(&spool).remove(0);
    let unsent = spool.join("unsent");
    // A record that was tampered with, no record, a link, a folder, and rubbish.
    let info = fs::read_to_string(unsent.join(format!("{id}.info"))).unwrap();
    fs::write(unsent.join("1-1-0-a"), "bytes").unwrap();
    fs::write(unsent.join("1-1-0-a.info"), info.replace("path: /f", "path: /victim")).unwrap();
    fs::write(unsent.join("1-2-0-b"), "bytes").unwrap();
    fs::write(unsent.join("1-3-0-c\n\x1b[2J"), "bytes").unwrap();
    fs::create_dir(unsent.join("1-4-0-d")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", unsent.join("1-5-0-e")).unwrap();
    shell::ok(
        &spool,
        "mkdir writeback-f writeback-l; mkfifo unsent/1-6-0-f writeback-f/00000001.entry; ln -s ../../victim writeback-l/lock",
    );
    fs::create_dir_all(spool.join("writeback-0123456789abcdef")).unwrap();
    for (name, content) in
        [("00000001.entry", &b"ftpfs-record 1\n"[..]), ("00000002.entry", &[0xff; 300_000])]
    {
        fs::write(spool.join("writeback-0123456789abcdef").join(name), content).unwrap();
    }
    let listed = recover(&spool, &[]);
    assert!(!listed.contains('\x1b') && !listed.contains("passwd") && !listed.contains("victim"), "{listed}");
    let output = run(&spool, &["push", "--all"]);
    assert_eq!(output.status.code(), Some(7), "{}", text(&output));
    assert_eq!(text(&output).matches(": uploaded").count(), 1, "{}", text(&output));
    assert_eq!(fs::read(at.server.root().join("f")).unwrap(), b"x");
    assert_eq!(fs::read(at.server.root().join("victim")).unwrap(), b"safe");
    assert!(!at.mount.path().join("../victim").exists());
    recover(&spool, &["save", "1-1-0-a", at.mount.path().join("../a").to_str().unwrap()]);
}

#[test]
fn two_at_once_keep_off_each_other() {
    let at = Scripted::new();
    at.server.faults().add(Rule::on("STOR").times(1).act(Fault::Reply("552 Full.".into())));
    assert!(store(&at.mount.path().join("f"), b"x").is_err());
    let spool = at.mount.spool();
    let id = ids(&spool).remove(0);
    let lock = File::create(spool.join("unsent/lock")).unwrap();
    let lock = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusiveNonblock).unwrap();
    for action in [&["push", &id][..], &["drop", &id], &["save", &id, "-"]] {
        let output = run(&spool, action);
        assert!(!output.status.success() && text(&output).contains("at work"), "{}", text(&output));
    }
    drop(lock);
    recover(&spool, &["push", &id]);
    assert_eq!(fs::read(at.server.root().join("f")).unwrap(), b"x");
}

#[test]
fn a_file_that_a_program_still_holds_open_is_left_to_it() {
    let at = Scripted::new();
    at.server.faults().add(Rule::on("STOR").act(Fault::Reply("552 Full.".into())));
    // A process of its own: what another test starts closes a copy of what this one has open, which is an attempt of its own.
    let mut writer = Script::start(
        at.mount.path(),
        "f = os.open('f', os.O_WRONLY | os.O_CREAT)\nos.write(f, b'x')\ntry:\n os.fsync(f)\nexcept OSError:\n pause()\nos.fsync(f)",
    );
    // It was refused.
    writer.await_pause();
    let spool = at.mount.spool();
    let output = run(&spool, &["push", "--all"]);
    assert!(!output.status.success() && text(&output).contains("changing this file"), "{}", text(&output));
    // It tries again itself, and then nothing is kept any more.
    at.server.faults().clear();
    writer.go_on();
    assert!(writer.end().0);
    assert!(ids(&spool).is_empty());
}

const HOLES: u64 = 1 << 40;

fn ids(spool: &Path) -> Vec<String> {
    let listed = recover(spool, &["--json"]);
    let id = |line: &str| line.split('"').nth(3).unwrap().to_owned();
    listed.lines().map(id).collect()
}

#[track_caller]
fn recover(spool: &Path, arguments: &[&str]) -> String {
    recover_as(spool, arguments, "")
}

#[track_caller]
fn recover_as(spool: &Path, arguments: &[&str], password: &str) -> String {
    let output = command(spool, arguments).env("FTPFS_PASSWORD", password).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn run(spool: &Path, arguments: &[&str]) -> Output {
    command(spool, arguments).output().unwrap()
}

fn command(spool: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["60", &program::path(), "recover", "-o", &format!("spool_dir={}", spool.display())]);
    command.args(arguments).stdin(Stdio::null());
    command
}

fn append(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::options().append(true).open(path)?;
    file.write_all(content)?;
    Ok(nix::unistd::close(file.into_raw_fd())?)
}
