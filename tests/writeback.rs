//! `-o writeback`: close() answers when the file is safe here, and the server gets it whatever happens.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::files::{close, store};
use harness::moments::{content, moments};
use harness::patience::at_once;
use harness::program::{self, ok};
use harness::scratch::Scratch;
use harness::scripted::{self, DataEnd, Fault, Rule, Then};
use harness::shell::Script;
use harness::{Kind, Mount, Options, Scripted, Server, Target, shell};
use nix::sys::signal::Signal;

#[test]
fn a_copied_tree_is_on_the_server_when_the_mount_has_ended() {
    for kind in Kind::MAIN {
        let Some(server) = Server::start_with(kind, &Options::default()) else { continue };
        let mount = Mount::new(&server, WRITEBACK);
        let source = Scratch::new("source");
        shell::ok(
            source.path(),
            "for d in a b c d; do mkdir -p t/$d/e && for i in $(seq 40); do seq $i 500 > t/$d/e/$i; done; done",
        );
        shell::ok(
            mount.path(),
            &format!("cp -rp '{}/t' . && cp t/a/e/3 again && mv again t/moved", source.path().display()),
        );
        // Everything is seen here already, and a program that reads it cannot tell.
        shell::ok(
            mount.path(),
            &format!(
                "diff -r '{}/t' t | grep -v '^Only in t: moved'; test -f t/moved",
                source.path().display()
            ),
        );
        let spool = mount.spool();
        assert!(mount.unmount().success());
        shell::ok(
            server.root(),
            &format!("mv t/moved .. && diff -r '{}/t' t && mv ../moved .", source.path().display()),
        );
        shell::ok(
            server.root(),
            &format!("cmp moved t/a/e/3 && test '{}/t/a/e/3' -ot t/a || true", source.path().display()),
        );
        assert_eq!(entries(&spool), 0, "{kind:?}");
        let time = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
        let seconds = |path: &Path| time(path).duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!(
            seconds(&server.root().join("t/c/e/7")),
            seconds(&source.path().join("t/c/e/7")),
            "{kind:?}"
        );
    }
}

#[test]
fn close_answers_before_the_server_does_and_fsync_waits_for_it() {
    let at = Scripted::with(scripted::Options::default(), &["writeback", "timeout=60"]);
    at.server.faults().add(Rule::on("STOR").act(Fault::Silent));
    store(&at.path("f"), b"hello").unwrap();
    assert_eq!(fs::read(at.path("f")).unwrap(), b"hello");
    assert_eq!(fs::metadata(at.path("f")).unwrap().len(), 5);
    assert_eq!(shell::ok(at.mount.path(), "ls"), "f\n");
    assert!(!at.root().join("f").exists() && entries(&at.mount.spool()) == 1);
    let told = ok(&["status", at.point()]);
    assert!(told.contains("/f") && told.contains("1 files"), "{told}");
    let file = File::options().append(true).open(at.path("f")).unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| file.sync_all());
        std::thread::sleep(Duration::from_millis(500));
        assert!(!waits.is_finished(), "fsync() did not wait");
        at.mend();
        waits.join().unwrap().unwrap();
    });
    assert_eq!(fs::read(at.root().join("f")).unwrap(), b"hello");
    drop(file);
    until("the journal is empty", || entries(&at.mount.spool()) == 0);
    // Without a change there is nothing to wait for.
    at.server.counters().reset();
    File::options().append(true).open(at.path("f")).unwrap().sync_all().unwrap();
    assert_eq!(at.server.counters().of("STOR") + at.server.counters().of("APPE"), 0);
}

#[test]
fn what_fsync_cannot_bring_to_the_server_is_told_and_stays_safe() {
    let mut at = Scripted::with(scripted::Options::default(), WRITEBACK);
    at.server.faults().add(Rule::on("STOR").act(Fault::Reply("552 Quota exceeded.".into())));
    let mut file = File::create(at.path("f")).unwrap();
    file.write_all(b"hello").unwrap();
    assert!(file.sync_all().is_err());
    close(file).unwrap();
    at.crash();
    at.mend();
    at.again();
    until("it gets there", || fs::read(at.root().join("f")).is_ok_and(|found| found == b"hello"));
}

#[test]
fn after_a_kill_at_any_moment_the_next_mount_brings_what_was_closed() {
    at_once(4, moments(), |moment| {
        let mut at = Scripted::serving(&["old"], WRITEBACK);
        at.server.faults().add(Rule::on(moment.verb).act(moment.fault.clone()));
        store(&at.path("old"), &content(2)).unwrap();
        store(&at.path("new"), &content(3)).unwrap();
        let mut file = File::options().append(true).open(at.path("old")).unwrap();
        file.write_all(b"and more").unwrap();
        close(file).unwrap();
        let counters = at.server.counters();
        until("the moment comes", || {
            counters.of(moment.verb) > 0 && counters.now().bytes_received >= moment.bytes
        });
        at.crash();
        at.mend();
        at.again();
        let both = [content(2), b"and more".to_vec()].concat();
        // At once, and before the server has it.
        assert!(fs::read(at.path("old")).unwrap() == both, "{moment:?}");
        assert!(fs::read(at.path("new")).unwrap() == content(3), "{moment:?}");
        until("both are there", || {
            fs::read(at.root().join("old")).unwrap() == both
                && fs::read(at.root().join("new")).is_ok_and(|found| found == content(3))
        });
        until("the journal is empty", || entries(&at.mount.spool()) == 0);
        assert_eq!(shell::ok(at.mount.path(), "ls -A"), "new\nold\n", "{moment:?}: {}", at.mount.log());
    });
}

#[test]
fn an_append_that_is_killed_adds_once() {
    at_once(4, vec![0, 1, 5_000, 20_000], |&after: &u64| {
        let mut at = Scripted::serving(&["log"], WRITEBACK);
        let more = vec![b'+'; 20_000];
        let stalled = Fault::Data { after, end: DataEnd::Stalled, then: Then::Silent };
        at.server.faults().add(Rule::on("APPE").act(stalled));
        let mut file = File::options().append(true).open(at.path("log")).unwrap();
        file.write_all(&more).unwrap();
        close(file).unwrap();
        let counters = at.server.counters();
        until("the moment comes", || counters.of("APPE") > 0 && counters.now().bytes_received >= after);
        at.crash();
        at.mend();
        at.again();
        let whole = [content(1), more].concat();
        assert!(fs::read(at.path("log")).unwrap() == whole);
        until("it is there", || fs::read(at.root().join("log")).unwrap() == whole);
        until("the journal is empty", || entries(&at.mount.spool()) == 0);
        assert!(fs::read(at.root().join("log")).unwrap() == whole);
        assert_eq!(shell::ok(at.mount.path(), "ls -A"), "log\n");
    });
}

#[test]
fn names_are_changed_in_the_order_in_which_programs_did_it() {
    let mut at = Scripted::serving(&["old"], &["writeback", "max_conns=1", "timeout=60"]);
    at.server.faults().add(Rule::on("STOR").act(Fault::Delay(Duration::from_millis(200))));
    shell::ok(
        at.mount.path(),
        "mkdir d e; echo 1 > d/1; echo 2 > d/2; mv d/2 d/two; echo 3 > d/3; rm d/3; echo 4 > d/4; mv d/4 d/1
         echo 5 > e/5; mv e f; echo 6 > f/6; echo new > old; mv old older; echo 7 > seven; rm seven; echo 8 > seven
         mkdir g; echo x > g/x; rm -r g; echo 9 > old; ! rmdir f",
    );
    at.crash();
    at.server.faults().clear();
    at.again();
    until("everything is there", || entries(&at.mount.spool()) == 0);
    let script =
        "find . -type f ! -name '.ftpfs*' | LC_ALL=C sort | while read f; do echo $f $(cat $f); done";
    let want = "./d/1 4\n./d/two 2\n./f/5 5\n./f/6 6\n./old 9\n./older new\n./seven 8\n";
    assert_eq!(shell::ok(at.root(), script), want, "{}", at.mount.log());
    assert_eq!(shell::ok(at.mount.path(), script), want);
}

#[test]
fn renaming_and_removing_what_is_only_here_costs_no_upload() {
    let at = Scripted::with(scripted::Options::default(), &["writeback", "max_conns=1", "timeout=60"]);
    at.server.faults().add(Rule::on("STOR").act(Fault::Silent).once());
    store(&at.path("stuck"), b"x").unwrap();
    until("it is stuck", || at.server.counters().of("STOR") == 1);
    shell::ok(
        at.mount.path(),
        "echo a > a; mv a b; echo c > c; rm c; ls | tr '\\n' ' ' | grep -x 'b stuck '",
    );
    at.server.drop_sessions();
    until("both are there", || entries(&at.mount.spool()) == 0);
    assert_eq!(fs::read(at.root().join("b")).unwrap(), b"a\n");
    assert!(!at.root().join("a").exists() && !at.root().join("c").exists());
    let counts = at.server.counters();
    assert_eq!((counts.of("DELE"), counts.of("RNFR")), (0, 0), "{:?}", counts.now().lines);
}

#[test]
fn the_end_of_a_mount_waits_for_its_uploads() {
    for way in ["ftpfs", "umount", "TERM"] {
        let mut at = Scripted::with(scripted::Options::default(), WRITEBACK);
        at.server.faults().add(Rule::on("STOR").act(Fault::Delay(Duration::from_millis(700))));
        shell::ok(at.mount.path(), "for i in 1 2 3 4 5 6 7 8 9; do echo $i > $i; done");
        assert!(!at.root().join("9").exists());
        match way {
            "ftpfs" => {
                ok(&["umount", at.point()]);
            }
            "umount" => {
                shell::ok(Path::new("/"), &format!("umount '{}'", at.point()));
            }
            _ => at.mount.signal(Signal::SIGTERM),
        }
        let status = at.mount.wait(Duration::from_secs(30)).unwrap();
        assert!(status.success(), "{way}: {status}: {}", at.mount.log());
        for i in 1..=9 {
            assert_eq!(
                fs::read(at.root().join(i.to_string())).unwrap(),
                format!("{i}\n").as_bytes(),
                "{way}"
            );
        }
        assert_eq!(entries(&at.mount.spool()), 0);
    }
}

#[test]
fn what_cannot_be_uploaded_before_the_end_is_said_and_brought_by_the_next_mount() {
    let mut at = Scripted::with(scripted::Options::default(), &["writeback", "umount_timeout=1"]);
    at.server.faults().add(Rule::on("STOR").act(Fault::Silent));
    store(&at.path("f"), b"hello").unwrap();
    shell::ok(Path::new("/"), &format!("umount '{}'", at.point()));
    let status = at.mount.wait(Duration::from_secs(30)).unwrap();
    assert_eq!(status.code(), Some(7), "{}", at.mount.log());
    assert!(at.mount.log().contains("ftpfs recover"), "{}", at.mount.log());
    assert_eq!(entries(&at.mount.spool()), 1);
    at.mend();
    // Also a mount without the option.
    at.mount.again(&at.server, &[]);
    assert_eq!(fs::read(at.path("f")).unwrap(), b"hello");
    until("it is there", || fs::read(at.root().join("f")).is_ok_and(|found| found == b"hello"));
}

#[test]
fn a_server_that_is_away_is_waited_for() {
    for kind in [Kind::Vsftpd, Kind::Proftpd] {
        let Some(mut server) = Server::start(kind) else { continue };
        // What is known stays known, also on a slow machine.
        let known = ["writeback", "attr_timeout=600", "dir_timeout=600", "negative_timeout=600"];
        let mount = Mount::new(&server, &known);
        shell::ok(mount.path(), "mkdir d; ls -A . d");
        server.stop();
        shell::ok(
            mount.path(),
            "for i in $(seq 30); do echo $i > d/$i; done; cat d/30; ls d | wc -l | grep -x 30",
        );
        let told = until_some("the trouble is told", || {
            let told = ok(&["status", mount.path().to_str().unwrap()]);
            told.contains("last errors").then_some(told)
        });
        assert!(told.contains("30 files"), "{told}");
        server.restart();
        until("everything is there", || entries(&mount.spool()) == 0);
        shell::ok(server.root(), "for i in $(seq 30); do echo $i | cmp - d/$i || exit 1; done");
    }
}

#[test]
fn a_file_that_was_changed_on_the_server_meanwhile_is_kept_and_so_is_ours() {
    let mut at = Scripted::serving(&["f", "part"], WRITEBACK);
    shell::ok(at.mount.path(), "ls -l");
    at.server.faults().add(Rule::on("STOR").act(Fault::Silent));
    at.server.faults().add(Rule::on("APPE").act(Fault::Silent));
    store(&at.path("f"), b"ours").unwrap();
    store(&at.path("new"), b"ours, new").unwrap();
    shell::ok(at.mount.path(), "echo more >> part");
    at.crash();
    for name in ["f", "new", "part"] {
        fs::write(at.root().join(name), format!("theirs: {name}")).unwrap();
    }
    at.mend();
    at.again();
    until("it is settled", || entries(&at.mount.spool()) == 0);
    for name in ["f", "new", "part"] {
        assert_eq!(fs::read(at.root().join(name)).unwrap(), format!("theirs: {name}").as_bytes());
    }
    let script = |name: &str| format!("cat {name}.ftpfs-conflict-2*");
    assert_eq!(shell::ok(at.root(), &script("f")), "ours");
    assert_eq!(shell::ok(at.root(), &script("new")), "ours, new");
    assert_eq!(shell::ok(at.mount.path(), &script("f")), "ours");
    assert_eq!(fs::read(at.path("f")).unwrap(), b"theirs: f");
    assert!(at.mount.log().contains("conflict"));
    // A part of a file is no file: it is kept here.
    let listed = recover(&at.mount, &[]);
    assert!(listed.contains("/part") && listed.contains("has changed"), "{listed}");
}

#[test]
fn what_is_lost_in_a_conflict_while_the_disk_is_full_is_kept_all_the_same() {
    // First there is no space for a copy, then no place at all.
    for has_place in [true, false] {
        let mut at = Scripted::prepared(scripted::Options::default(), WRITEBACK, |server| {
            server.put("part", b"what is there".repeat(100));
        });
        shell::ok(at.mount.path(), "ls -l");
        at.server.faults().add(Rule::on("APPE").act(Fault::Silent));
        let more = vec![b'+'; 60_000];
        let mut file = File::options().append(true).open(at.path("part")).unwrap();
        file.write_all(&more).unwrap();
        close(file).unwrap();
        at.crash();
        fs::write(at.root().join("part"), "theirs").unwrap();
        let spool = at.mount.spool();
        let small =
            "mount -t tmpfs -o size=1m,mode=700 none \"$S\" && cp -a --sparse=always \"$S.old/.\" \"$S\"";
        shell::ok(Path::new("/"), &format!("S='{}'; cp -a \"$S\" \"$S.old\" && {small}", spool.display()));
        match has_place {
            true => shell::ok(&spool, "cat /dev/zero > fill || true"),
            false => shell::ok(&spool, "touch unsent"),
        };
        at.mend();
        at.again();
        until("it is settled", || at.mount.log().contains("was not uploaded"));
        assert_eq!(fs::read(at.root().join("part")).unwrap(), b"theirs");
        if !has_place {
            // The next mount tries again.
            assert_eq!(entries(&spool), 1);
            fs::remove_file(spool.join("unsent")).unwrap();
            at.crash();
            at.again();
            until("the journal is empty", || entries(&spool) == 0);
        }
        let listed = recover(&at.mount, &["--json"]);
        let kept =
            listed.split('"').find(|word| word.ends_with(if has_place { "-part.entry" } else { "-part" }));
        let saved = Scratch::new("saved");
        let to = saved.path().join("part");
        recover(&at.mount, &["save", kept.expect(&listed), to.to_str().unwrap()]);
        assert!(fs::read(&to).unwrap().ends_with(&more), "{listed}");
        shell::ok(Path::new("/"), &format!("umount -l '{}'", spool.display()));
    }
}

#[test]
fn a_full_journal_is_waited_for_and_then_told() {
    let at = Scripted::with(
        scripted::Options::default(),
        &["writeback", "spool_size=64K", "timeout=6", "attr_timeout=60"],
    );
    let piece = vec![b'x'; 40_000];
    at.server
        .faults()
        .add(Rule::on("STOR").path("first").times(1).act(Fault::Delay(Duration::from_millis(700))));
    store(&at.path("first"), &piece).unwrap();
    assert!(!at.root().join("first").exists());
    // There is room again once the first is there.
    store(&at.path("second"), &piece).unwrap();
    assert_eq!(fs::read(at.root().join("first")).unwrap(), piece);
    until("both are there", || entries(&at.mount.spool()) == 0);
    at.server.faults().add(Rule::on("STOR").act(Fault::Reply("451 Not now.".into())));
    store(&at.path("third"), &piece).unwrap();
    let error = store(&at.path("fourth"), &piece).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(nix::libc::ENOSPC), "{error}");
    assert_eq!(fs::read(at.path("third")).unwrap(), piece);
    at.mend();
    until("the third is there", || fs::read(at.root().join("third")).is_ok_and(|found| found == piece));
    store(&at.path("fifth"), &piece).unwrap();
}

#[test]
fn what_was_closed_survives_that_somebody_writes_on_and_is_killed() {
    let mut at = Scripted::serving(&["f"], WRITEBACK);
    at.server.faults().add(Rule::on("STOR").times(1).act(Fault::Delay(Duration::from_millis(500))));
    store(&at.path("f"), &content(2)).unwrap();
    until("it is on its way", || at.server.counters().of("STOR") > 0);
    let mut writer = Script::start(
        at.mount.path(),
        "f = os.open('f', os.O_WRONLY | os.O_TRUNC); os.write(f, b'half of another'); pause()",
    );
    writer.await_pause();
    until("it is written", || fs::metadata(at.path("f")).is_ok_and(|found| found.len() == 15));
    until("the first is there", || fs::read(at.root().join("f")).unwrap() != content(1));
    at.crash();
    drop(writer);
    at.again();
    assert!(fs::read(at.path("f")).unwrap() == content(2));
    until("it is there", || entries(&at.mount.spool()) == 0);
    assert!(fs::read(at.root().join("f")).unwrap() == content(2));
    assert_eq!(shell::ok(at.mount.path(), "ls -A"), "f\n");
}

#[test]
fn what_is_written_after_an_upload_that_arrived_without_an_answer_gets_there_with_fsync() {
    let first = content(2);
    let script = |open: &str, write: &str, then: &str| {
        format!(
            "f = os.open('f', os.O_RDWR | {open}); {write}; os.close(os.dup(f)); pause()\n{then}; pause()\nos.fsync(f); pause()"
        )
    };
    let whole = "os.write(f, (2).to_bytes(8, 'little') * 45002)";
    let cases = [
        ("STOR", script("os.O_CREAT | os.O_TRUNC", whole, "os.write(f, b'more')"), first.clone(), "more"),
        ("STOR", script("os.O_CREAT | os.O_TRUNC", whole, "os.pwrite(f, b'else', 0)"), first, "else"),
        (
            "APPE",
            script("os.O_APPEND", "os.write(f, b'added,')", "os.write(f, b'more')"),
            content(1),
            "added,more",
        ),
        (
            "APPE",
            script("0", "os.pwrite(f, b'added,', 360008)", "os.pwrite(f, b'ADD and more', 360008)"),
            content(1),
            "ADD and more",
        ),
    ];
    at_once(4, cases.to_vec(), |(verb, script, before, written)| {
        let at =
            Scripted::serving(if *verb == "APPE" { &["f"] } else { &[] }, &["writeback", "attr_timeout=600"]);
        // It takes all of it, and then says no.
        let no = Then::reply(if *verb == "APPE" { "552 Quota exceeded." } else { "550 Permission denied." });
        at.server.faults().add(Rule::on(verb).act(Fault::Data {
            after: u64::MAX,
            end: DataEnd::Closed,
            then: no,
        }));
        let mut writer = Script::start(at.mount.path(), script);
        writer.await_pause();
        until("it is on its way", || at.server.counters().of(verb) > 0);
        writer.go_on();
        writer.await_pause();
        until("it has failed", || at.mount.log().contains("is tried again"));
        at.mend();
        writer.go_on();
        writer.await_pause();
        let mut wanted = before.clone();
        if *written == "else" {
            wanted.splice(0..4, *b"else");
        } else {
            wanted.extend(written.as_bytes());
        }
        assert!(at.holds("f", &wanted), "{script}: {}", at.mount.log());
        drop(writer);
        until("the journal is empty", || entries(&at.mount.spool()) == 0);
        assert!(at.holds("f", &wanted), "{script}");
        assert_eq!(shell::ok(at.mount.path(), "ls -A"), "f\n");
    });
}

#[test]
fn two_mounts_of_the_same_do_not_share_a_journal() {
    let mut at = Scripted::with(scripted::Options::default(), &["writeback", "timeout=60"]);
    // The spool folder of the first.
    let spool = format!("spool_dir={}", at.mount.spool().display());
    at.server.faults().add(Rule::on("STOR").act(Fault::Silent));
    store(&at.path("one"), b"1").unwrap();
    let point = Scratch::new("second");
    let program = program::path();
    let mut second = Command::new(program)
        .args(["-f", "-o", &format!("writeback,{spool}"), &at.server.url()])
        .arg(point.path())
        .env("FTPFS_PASSWORD", at.server.password())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("it is mounted", || !harness::scratch::mounts_below(point.path()).is_empty());
    store(&point.path().join("two"), b"2").unwrap();
    assert_eq!(entries(&at.mount.spool()), 2);
    assert!(!at.path("two").exists());
    second.kill().unwrap();
    second.wait().unwrap();
    shell::ok(Path::new("/"), &format!("umount -l '{}' 2>/dev/null || true", point.path().display()));
    at.crash();
    at.mend();
    at.again();
    until("both are there", || entries(&at.mount.spool()) == 0);
    assert_eq!(fs::read(at.root().join("one")).unwrap(), b"1");
    assert_eq!(fs::read(at.root().join("two")).unwrap(), b"2");
}

#[test]
fn times_and_modes_that_are_set_after_close_get_there_too() {
    for kind in Kind::MAIN {
        let Some(server) = Server::start(kind) else { continue };
        let mut mount = Mount::new(&server, WRITEBACK);
        set_times_and_die(&mut mount, &server, server.root());
    }
    // While their uploads are under way, which takes long.
    let mut at = Scripted::with(scripted::Options::default(), WRITEBACK);
    at.server.faults().add(Rule::on("STOR").act(Fault::Delay(Duration::from_millis(700))));
    let root = at.root().to_path_buf();
    set_times_and_die(&mut at.mount, &at.server, &root);
}

fn set_times_and_die(mount: &mut Mount, server: &dyn Target, root: &Path) {
    let script = "set -e; for i in 1 2 3; do echo $i > $i; [ $i = 2 ] || sleep 0.4; touch -d 2001-02-03T04:05:06 $i; chmod 600 $i; done";
    shell::ok(mount.path(), script);
    shell::ok(
        mount.path(),
        "TZ=UTC stat -c '%n %a %y' 1 2 3 | grep -c '600 2001-02-03 04:05:06' | grep -x 3",
    );
    mount.signal(Signal::SIGKILL);
    mount.again(server, WRITEBACK);
    until("everything is there", || entries(&mount.spool()) == 0);
    shell::ok(root, "TZ=UTC stat -c '%n %a %y' 1 2 3 | grep -c '600 2001-02-03 04:05:06' | grep -x 3");
}

impl Scripted {
    /// With these files, each of which has version 1 as its content.
    fn serving(files: &[&str], options: &[&str]) -> Self {
        Self::prepared(scripted::Options::default(), options, |server| {
            files.iter().for_each(|name| server.put(name, content(1)));
        })
    }

    fn point(&self) -> &str {
        self.mount.path().to_str().unwrap()
    }

    fn crash(&mut self) {
        self.mount.signal(Signal::SIGKILL);
        assert!(self.mount.wait(Duration::from_secs(20)).is_some());
    }

    /// The server works again; what hangs ends.
    fn mend(&self) {
        self.server.faults().clear();
        self.server.drop_sessions();
    }
}

/// How many files are in journals.
fn entries(spool: &Path) -> usize {
    let script = "find . -name '*.entry' -size +0 | wc -l";
    if !spool.exists() { 0 } else { shell::ok(spool, script).trim().parse().unwrap() }
}

fn recover(mount: &Mount, arguments: &[&str]) -> String {
    let spool = format!("spool_dir={}", mount.spool().display());
    ok(&[&["recover", "-o", &spool], arguments].concat())
}

#[track_caller]
fn until(what: &str, attempt: impl Fn() -> bool) {
    until_some(what, || attempt().then_some(()));
}

#[track_caller]
fn until_some<T>(what: &str, attempt: impl Fn() -> Option<T>) -> T {
    let limit = Instant::now() + Duration::from_secs(40);
    while Instant::now() < limit {
        if let Some(value) = attempt() {
            return value;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it never happened that {what}");
}

const WRITEBACK: &[&str] = &["writeback"];
