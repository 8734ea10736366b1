//! Writing: how much is sent, and programs that other FTP mounts turn away.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, UNIX_EPOCH};

use harness::patience::eventually;
use harness::scratch::Scratch;
use harness::scripted::{self, DataEnd, Fault, Rule, Then};
use harness::shell::Script;
use harness::{Kind, Mount, Mounted, Options, Relay, Scripted, Server, shell, skip};

on_each_server! {
    fn split_cuts_and_cat_joins(at: &mut Mounted) {
        at.ok("seq 100000 > ../numbers && split -n 7 ../numbers part. && cat part.* | cmp - ../numbers");
        at.ok("split -l 9999 --filter='cat > $FILE' ../numbers lines. && cat lines.* > joined && cmp joined ../numbers");
        at.remount();
        at.ok("cat part.* | cmp - ../numbers && cmp joined ../numbers");
    }

    fn zip_makes_changes_and_tests_an_archive(at: &mut Mounted) {
        if !shell::has("zip") {
            return;
        }
        at.ok("mkdir ../z && for i in $(seq 20); do seq $i 900 > ../z/$i; done && zip -qr a.zip ../z");
        at.ok("zip -q a.zip ../numbers 2>/dev/null; seq 7 > ../z/3 && zip -q a.zip ../z/3 && zip -qd a.zip '*z/4' && zip -qT a.zip");
        at.remount();
        at.ok("python3 -c 'import zipfile; z = zipfile.ZipFile(\"a.zip\"); assert z.testzip() is None; assert len(z.namelist()) >= 19'");
    }

    fn rsync_changes_files_in_place(at: &mut Mounted) {
        if !shell::has("rsync") {
            return;
        }
        at.ok("seq 200000 > ../big && rsync -t --inplace ../big big && cmp big ../big");
        at.ok("sed -i s/^777$/seven/ ../big && echo more >> ../big && rsync -t --inplace --no-whole-file ../big big && cmp big ../big");
        at.ok("echo appended >> ../big && rsync -t --append-verify ../big big && cmp big ../big");
        at.ok("head -n 1000 ../big > ../short && mv ../short ../big && rsync -t --inplace ../big big");
        shell::ok(at.server.root(), &format!("cmp big '{}'", at.path("../big").display()));
    }

    fn tar_updates_an_archive_in_place(at: &mut Mounted) {
        at.ok("mkdir ../t && for i in 1 2 3; do seq $i 2000 > ../t/$i; done && tar -C .. -cf a.tar t/1 && tar -C .. -rf a.tar t/2");
        at.ok("tar -C .. -uf a.tar t/3 && tar --delete -f a.tar t/1 && test \"$(tar -tf a.tar | tr '\\n' ' ')\" = 't/2 t/3 '");
        at.remount();
        at.ok("tar -xf a.tar && cmp t/2 ../t/2 && cmp t/3 ../t/3");
    }

    fn borg_keeps_its_repository(at: &mut Mounted) {
        if !shell::has("borg") {
            return;
        }
        let borg = "export BORG_BASE_DIR=$PWD/../borg BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes; borg";
        at.ok("mkdir ../data && for i in $(seq 30); do head -c 40000 /dev/urandom > ../data/$i; done");
        at.ok(&format!("{borg} init -e none repo && {borg} create repo::one ../data"));
        at.ok(&format!("echo more >> ../data/3; {borg} create repo::two ../data && {borg} delete repo::one && {borg} compact repo"));
        at.remount();
        at.ok(&format!("{borg} check --verify-data repo && mkdir ../out && cd ../out && {borg} extract ../point/repo::two"));
    }

    fn a_mapped_file_is_written_through_its_mapping(at: &mut Mounted) {
        at.server.put("mapped", vec![b'a'; 20_000]);
        at.ok("python3 -c '\nimport mmap, os\nf = os.open(\"mapped\", os.O_RDWR)\nm = mmap.mmap(f, 20000)\nos.close(f)\nm[5000:5005] = b\"hello\"\nm.flush()\nm[19999:20000] = b\"z\"\nm.close()\n'");
        let want = [vec![b'a'; 5000], b"hello".to_vec(), vec![b'a'; 14_994], b"z".to_vec()].concat();
        assert!(at.read("mapped") == want);
        // What the mapping wrote after the last close() has nobody to wait for it.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while at.server.read("mapped") != want && std::time::Instant::now() < until {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(at.server.read("mapped") == want);
    }
}

#[test]
fn a_shells_redirection_sends_the_file_once() {
    let at = Scripted::new();
    for (script, sent) in [
        ("echo hello > new1", 1),
        ("printf '' > new2", 1),
        (": > new3", 1),
        ("touch new4", 1),
        ("dd if=/dev/zero of=new5 bs=1000 count=3 2>/dev/null", 1),
        ("cat /etc/hostname > new6", 1),
        ("{ echo one; echo two; } > new7", 1),
        ("echo again > new1", 1),
        (": > new1", 1),
        // Two files at once.
        ("tee new8 new9 < /dev/null", 2),
    ] {
        at.server.counters().reset();
        shell::ok(at.mount.path(), script);
        let counters = at.server.counters();
        // The shell and dd close a copy of the descriptor before they write.
        let uploads = counters.of("STOR") + counters.of("APPE");
        assert_eq!(uploads, sent, "{script}: {:?}", counters.now().lines);
    }
    let holds =
        |name: &str, content: &[u8]| assert_eq!(fs::read(at.server.root().join(name)).unwrap(), content);
    holds("new2", b"");
    holds("new4", b"");
    holds("new5", &[0; 3000]);
    holds("new7", b"one\ntwo\n");
    holds("new1", b"");
    holds("new8", b"");
    holds("new9", b"");
}

#[test]
fn appending_twenty_lines_to_a_large_file_sends_little() {
    let at = Scripted::new();
    let old = vec![b'x'; 100 << 20];
    fs::write(at.server.root().join("log"), &old).unwrap();
    at.server.counters().reset();
    shell::ok(at.mount.path(), "for i in $(seq 20); do echo \"line $i\" >> log; done");
    let counts = at.server.counters().now();
    assert!(counts.bytes_received < 20 << 10, "{} bytes", counts.bytes_received);
    assert!(counts.bytes_sent < 64 << 10, "{} bytes", counts.bytes_sent);
    let lines: String = (1..=20).map(|i| format!("line {i}\n")).collect();
    assert!(fs::read(at.server.root().join("log")).unwrap() == [&old, lines.as_bytes()].concat());
}

/// The file system exerciser: random reads, writes, mappings, truncations and closes of one file, each checked. `FTPFS_FSX` is
/// how many (100,000 take minutes).
#[test]
fn fsx_finds_nothing_wrong() {
    let fsx = match harness::fetch::fsx() {
        Ok(fsx) => fsx,
        Err(why) => return skip(format!("fsx: {why}")),
    };
    let count = std::env::var("FTPFS_FSX").ok().and_then(|text| text.parse().ok()).unwrap_or(5_000u64);
    // As always, and with every file uploaded while it is written or changed in place.
    let early: &[&str] = &["stream_from=16K", "spool_size=64K", "patch_from=16K"];
    for options in [&[], early] {
        let Some(at) = Mounted::new(Kind::Vsftpd, &Options::default(), options) else { return };
        let count = if options.is_empty() { count } else { count / 5 };
        let config = at.path("../fsx.toml");
        fs::write(&config, FSX).unwrap();
        // In pieces: each has to end within the time limit of a script.
        let piece = 5_000;
        for from in (0..count).step_by(piece) {
            let some = (count - from).min(piece as u64);
            let (fsx, config) = (fsx.display(), config.display());
            at.ok(&format!(
                "'{fsx}' -q -N {some} -S {} -P .. -f '{config}' file && cp file ../copy",
                from + 7
            ));
            assert!(at.server.read("file") == fs::read(at.path("../copy")).unwrap());
        }
    }
}

/// Everything that a mount can do, with closing and opening again, which is what uploads.
const FSX: &str = "
flen = 300000
[opsize]
max = 40000
[weights]
close_open = 3
read = 10
write = 10
mapread = 5
mapwrite = 5
truncate = 4
invalidate = 1
fsync = 1
fdatasync = 1
punch_hole = 0
";

#[test]
fn a_small_change_in_a_large_file_sends_little_where_the_server_keeps_the_rest() {
    for kind in Kind::MAIN {
        let Some(server) = Server::start(kind) else { continue };
        let mut content = vec![b'x'; 24 << 20];
        server.put("image", &content);
        let relay = Relay::new(&server);
        let mount = Mount::new(&relay, &[]);
        for (n, at, first) in [
            (1, 20 << 20, b'p'),
            (2, 1000, b'p'),
            (3, (24 << 20) - 96, b'p'),
            // The first byte as it was, and another one: only a STOR of all of it can change that.
            (4, 0, b'x'),
            (5, 0, b'y'),
        ] {
            let page = [vec![first], vec![b'p'; 4095]].concat();
            shell::ok(mount.path(), "stat image");
            relay.reset();
            let file = File::options().write(true).open(mount.path().join("image")).unwrap();
            file.write_all_at(&page, at).unwrap();
            close(file).unwrap();
            content.resize(content.len().max(at as usize + page.len()), 0);
            content[at as usize..][..page.len()].copy_from_slice(&page);
            assert!(server.read("image") == content, "{kind:?} {n}");
            let traffic = relay.traffic();
            eprintln!("{kind:?} {n}: {traffic:?}");
            // Pure-FTPd cuts the file off behind what it gets; ProFTPD does so when it is told to.
            if n < 5 && [Kind::Vsftpd, Kind::Pyftpdlib].contains(&kind) {
                assert!(traffic.bytes_up < 20_000, "{kind:?} {n}: {traffic:?}");
            }
        }
        assert_eq!(fs::read_dir(server.root()).unwrap().count(), 1, "the probe is still there");
    }
}

#[test]
fn a_page_that_is_written_again_while_its_change_is_read_back_is_no_error() {
    let at = Scripted::prepared(scripted::Options::default(), &["patch_from=100K"], |server| {
        server.put("db", vec![b'x'; 400_000]);
    });
    let open = || File::options().read(true).write(true).open(at.path("db")).unwrap();
    let (first, second) = (open(), open());
    let late = Fault::Delay(Duration::from_millis(300));
    at.server.faults().add(Rule::on("RETR").path("db").act(late));
    let mut page = [b'a'; 4096];
    first.write_all_at(&page, 200_000).unwrap();
    let read_back = || at.server.counters().of("RETR");
    std::thread::scope(|scope| {
        let mut seen = read_back();
        let closed = scope.spawn(move || close(first));
        while !closed.is_finished() {
            eventually("it is read back", || closed.is_finished() || read_back() > seen);
            seen = read_back();
            page = page.map(|byte| byte + 1);
            second.write_all_at(&page, 200_000).unwrap();
        }
        closed.join().unwrap().unwrap_or_else(|error| panic!("{error}: {}", at.mount.log()));
    });
    assert!(at.server.counters().of("STOR") > 0);
    at.server.faults().clear();
    close(second).unwrap();
    let content = fs::read(at.root().join("db")).unwrap();
    assert!(content.len() == 400_000 && content[200_000..204_096] == page);
}

#[test]
fn lines_added_to_a_large_log_send_little_more_than_the_lines() {
    // ProFTPD as it is installed refuses APPE.
    for kind in [Kind::Vsftpd, Kind::PureFtpd, Kind::Pyftpdlib] {
        let Some(server) = Server::start(kind) else { continue };
        let mut content = vec![b'x'; 100 << 20];
        server.put("log", &content);
        let relay = Relay::new(&server);
        let mount = Mount::new(&relay, &[]);
        shell::ok(mount.path(), "ls -l");
        relay.reset();
        shell::ok(mount.path(), "for i in $(seq 20); do echo line $i >> log; done");
        (1..=20).for_each(|i| content.extend(format!("line {i}\n").bytes()));
        assert!(server.read("log") == content, "{kind:?}");
        let traffic = relay.traffic();
        eprintln!("{kind:?}: {traffic:?}");
        assert!(traffic.bytes_up < 20 << 10, "{kind:?}: {traffic:?}");
        // Nor is the file fetched.
        assert!(traffic.bytes_down < 20 << 10, "{kind:?}: {traffic:?}");
    }
}

#[test]
fn bytes_that_overtake_their_command_arrive_all_the_same() {
    for kind in Kind::MAIN.into_iter().chain(Kind::OTHERS) {
        let Some(server) = Server::start(kind) else { continue };
        server.put("old", vec![b'o'; 100_000]);
        let relay = Relay::new(&server);
        let mount = Mount::new(&relay, &["timeout=4"]);
        shell::ok(mount.path(), "cat old > /dev/null");
        relay.hold_commands(Duration::from_millis(100));
        for (name, size) in [("small", 10), ("large", 700_000)] {
            let mut file = File::create(mount.path().join(name)).unwrap();
            file.write_all(&vec![b'n'; size]).unwrap();
            close(file).unwrap_or_else(|e| panic!("{kind:?} {name}: {e}"));
            assert!(server.read(name) == vec![b'n'; size], "{kind:?} {name}");
        }
        let mut file = File::options().append(true).open(mount.path().join("old")).unwrap();
        file.write_all(b"added").unwrap();
        close(file).unwrap_or_else(|e| panic!("{kind:?} append: {e}"));
        assert_eq!(server.read("old").len(), 100_005, "{kind:?}");
    }
}

#[test]
fn a_server_that_drops_such_bytes_and_is_not_recognised_costs_one_attempt() {
    let options = Options { extra: vec!["A server like others".into()], ..Options::default() };
    let Some(server) = Server::start_with(Kind::Pyftpdlib, &options) else { return };
    let relay = Relay::new(&server);
    let mount = Mount::new(&relay, &["timeout=6"]);
    relay.hold_commands(Duration::from_millis(100));
    for name in ["first", "second", "third"] {
        let mut file = File::create(mount.path().join(name)).unwrap();
        file.write_all(b"text").unwrap();
        close(file).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(server.read(name), b"text");
    }
    assert_eq!(mount.log().matches("> STOR").count(), 4, "{}", mount.log());
}

#[test]
fn a_server_that_drops_an_upload_without_a_word_costs_one_attempt() {
    // Bytes that overtook their command. Read to the end and forgotten, nothing but silence is to be seen; what is too large for
    // that breaks off while it is sent.
    for (end, size) in [(DataEnd::Swallowed, 4), (DataEnd::Reset, 4), (DataEnd::Reset, 64 << 20)] {
        let served = Scratch::new("served");
        let server = scripted::Server::start(served.path()).unwrap();
        let mount = Mount::new(&server, &["timeout=6", "stream_from=1G"]);
        let drops = Fault::Data { after: 0, end, then: Then::Silent };
        server.faults().add(Rule::on("STOR").once().act(drops));
        for name in ["first", "second"] {
            // In a process of its own: what another test starts would close a copy of it when some of it is written, and so have
            // that uploaded.
            shell::ok(mount.path(), &format!("head -c {size} /dev/zero | tr '\\0' t > {name}"));
            assert!(fs::read(served.path().join(name)).unwrap() == vec![b't'; size], "{end:?} {size}");
        }
        let log = mount.log();
        assert_eq!(log.matches("> STOR").count(), 3, "{end:?} {size}: {log}");
    }
}

#[test]
fn what_somebody_else_changed_meanwhile_is_not_overwritten_unseen() {
    for kind in Kind::MAIN {
        let Some(server) = Server::start(kind) else { continue };
        for name in ["partly", "same size", "patched", "appended", "whole"] {
            server.put(name, vec![b'x'; 200_000]);
        }
        let mount = Mount::new(&server, &["patch_from=100K"]);
        shell::ok(mount.path(), "stat *");
        let theirs = |name: &str, length: usize| {
            server.put(name, vec![b't'; length]);
            let file = File::options().write(true).open(server.root().join(name)).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(1_111_111_111)).unwrap();
        };
        // A quarter of it is too much for a patch.
        for (name, written, length) in
            [("partly", 60_000, 150_000), ("same size", 60_000, 200_000), ("patched", 4, 200_000)]
        {
            let told = closes(&mount, name, "os.O_WRONLY", (100, written), || theirs(name, length));
            assert_eq!(told, [STALE], "{kind:?} {name}");
            assert!(server.read(name) == vec![b't'; length], "{kind:?} {name}");
        }

        let twice = "os.O_WRONLY, 2";
        let told = closes(&mount, "appended", twice, (200_000, 4), || theirs("appended", 200_100));
        assert_eq!(told[0], STALE, "{kind:?}: {told:?}");
        assert_ne!(told[1], "fine", "{kind:?}");
        let found = server.read("appended");
        let whole = [vec![b't'; 200_100], b"oooo".to_vec()].concat();
        assert!(found == whole || found == whole[..200_100], "{kind:?}: {} bytes", found.len());

        // A whole new content is what its writer wants, whatever was there.
        let emptied = "os.O_WRONLY | os.O_TRUNC";
        assert_eq!(closes(&mount, "whole", emptied, (0, 4), || theirs("whole", 150_000)), ["fine"]);
        assert_eq!(server.read("whole"), b"oooo", "{kind:?}");
        let unsent = shell::ok(mount.path(), "ls ../spool/unsent | grep -v lock | grep -vc info");
        assert_eq!(unsent.trim(), "4", "{kind:?}");
    }
}

/// What each close() says of a file that a program has opened, written so many bytes into, and kept open `meanwhile`. `how` is how it
/// is opened, and how often if not once. In a process of its own: in this one, what another test starts would close copies of what is
/// open here, and so have it uploaded before the time.
fn closes(
    mount: &Mount,
    name: &str,
    how: &str,
    (at, length): (u64, usize),
    meanwhile: impl FnOnce(),
) -> Vec<String> {
    let mut program = Script::start(
        mount.path(),
        &format!(
            "def opened(flags, copies=1):\n f = os.open({name:?}, flags)\n return [f] + [os.dup(f) for _ in range(1, copies)]\n\
             files = opened({how})\nassert os.pwrite(files[0], b'o' * {length}, {at}) == {length}\npause()\n\
             for f in files:\n try:\n  os.close(f)\n  print('fine')\n except OSError as e: print(e.errno)"
        ),
    );
    program.await_pause();
    meanwhile();
    program.go_on();
    let (is_success, said) = program.end();
    assert!(is_success, "{name}: {said}");
    said.lines().map(str::to_owned).collect()
}

/// ESTALE, as a program prints it.
const STALE: &str = "116";

/// Dropping a file hides what close() says.
fn close(file: File) -> io::Result<()> {
    Ok(nix::unistd::close(file.into_raw_fd())?)
}
