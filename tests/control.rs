//! A mount tells what it is doing, also when everything else is stuck; and does what it is told.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::patience::eventually;
use harness::program::{self, ok, run, text};
use harness::scratch::Scratch;
use harness::scripted::{self, DataEnd, Fault, Rule, Then};
use harness::shell::Script;
use harness::{Kind, Mount, Mounted, Options, Server, Target, shell, skip};
use nix::sys::signal::Signal;

on_each_server! {
    fn flush_brings_what_is_still_open(at: &mut Mounted) {
        // A process of its own: what another test starts closes copies of what is open in this one, and so has it uploaded.
        let mut letter = Script::start(
            at.mount.path(),
            "f = os.open('letter', os.O_WRONLY | os.O_CREAT)\nos.write(f, b'Dear reader,\\n')\npause()\n\
             os.write(f, b'farewell\\n')\nos.close(f)",
        );
        letter.await_pause();
        assert!(!at.server.root().join("letter").exists());
        ok(&["flush", point(&at.mount)]);
        assert_eq!(at.server.read("letter"), b"Dear reader,\n");
        letter.go_on();
        assert!(letter.end().0);
        assert_eq!(at.server.read("letter"), b"Dear reader,\nfarewell\n");
    }

    fn forget_shows_what_has_changed_on_the_server(at: &mut Mounted) {
        assert_eq!(at.ok("ls"), "");
        at.server.put("new", "x");
        at.ok("ls >/dev/null");
        ok(&["forget", point(&at.mount)]);
        assert_eq!(at.ok("ls"), "new\n");
    }

    fn umount_waits_for_uploads_and_for_the_end_of_the_process(at: &mut Mounted) {
        let content = vec![9; 3_000_000];
        let mut program = Script::start(
            at.mount.path(),
            "f = open('data', 'wb', buffering=0)\nassert f.write(b'\\x09' * 3000000) == 3000000\npause()\nf.close()",
        );
        program.await_pause();
        // A file that is open keeps it busy, but is uploaded.
        let output = run(&["umount", point(&at.mount)]);
        let told = text(&output);
        assert_eq!(output.status.code(), Some(4), "{told}");
        assert!(told.contains("fuser -vm") && at.mount.is_mounted(), "{told}");
        assert!(at.server.read("data") == content);
        program.go_on();
        assert!(program.end().0);
        ok(&["umount", point(&at.mount)]);
        assert!(!at.mount.is_mounted());
        assert!(at.mount.wait(Duration::from_secs(10)).is_some_and(|status| status.success()), "{}", at.mount.log());
        assert!(run(&["status", point(&at.mount)]).status.code() == Some(4));
    }

    fn status_and_list_tell_what_is_mounted_without_the_password(at: &mut Mounted) {
        at.server.put("film", vec![1; 500_000]);
        at.ok("cat film > /dev/null; cat film > /dev/null");
        let mut all = String::new();
        for arguments in [&["status", point(&at.mount)][..], &["status", point(&at.mount), "--metrics"], &["list"]] {
            let told = ok(arguments);
            assert!(told.contains(point(&at.mount)), "{arguments:?}: {told}");
            all += &told;
        }
        for words in ["connections", "nothing is left to upload", "ftpfs_received_bytes_total", "tester@127.0.0.1"] {
            assert!(all.contains(words), "{words} is missing: {all}");
        }
        assert!(!all.contains(&at.server.password()), "{all}");
        // A path inside will do as well.
        assert!(ok(&["status", &format!("{}/film", point(&at.mount))]).contains("connections"));
    }
}

#[test]
fn json_is_json_and_counts_bytes() {
    let (_scratch, server) = scripted();
    fs::write(server.root().join("film"), vec![1; 500_000]).unwrap();
    let mount = Mount::new(&server, &[]);
    shell::ok(mount.path(), "cat film > /dev/null");
    let script =
        "import json,sys; s = json.load(sys.stdin); assert s['received'] >= 500000 and s['uploads'] == [], s";
    let mut child = Command::new("python3").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
    let told = ok(&["status", point(&mount), "--json"]);
    child.stdin.take().unwrap().write_all(told.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{told}");
}

#[test]
fn status_answers_while_an_upload_and_a_program_are_stuck() {
    let (_scratch, server) = scripted();
    let stalled = Fault::Data { after: 100_000, end: DataEnd::Stalled, then: Then::Silent };
    server.faults().add(Rule::on("STOR").act(stalled));
    let mount = Mount::new(&server, &["timeout=100"]);
    // Another process: children of this one would inherit the file, and wait for its upload when they close it.
    let script = "head -c 30000000 /dev/zero > big";
    let mut writer = Command::new("sh").args(["-c", script]).current_dir(mount.path()).spawn().unwrap();
    let told = until(|| {
        let told = ok(&["status", point(&mount)]);
        (told.contains("uploading") && told.contains("1 calls of programs")).then_some(told)
    });
    assert!(told.contains("/.ftpfs-part-") || told.contains("/big"), "{told}");
    assert!(told.contains("1 files,"), "{told}");
    // It stays mounted, and says why.
    let output = run(&["umount", point(&mount), "--timeout", "1"]);
    assert_eq!(output.status.code(), Some(7), "{}", text(&output));
    assert!(text(&output).contains("stays mounted") && mount.is_mounted());
    server.faults().clear();
    server.drop_sessions();
    assert!(writer.wait().unwrap().success());
    assert!(ok(&["status", point(&mount)]).contains("last errors"));
}

#[test]
fn transfers_are_shown_with_bars_and_their_speed_on_a_terminal() {
    let (_scratch, server) = scripted();
    fs::write(server.root().join("film"), vec![1; 8_000_000]).unwrap();
    for verb in ["STOR", "RETR"] {
        let stalled = Fault::Data { after: 1_000_000, end: DataEnd::Stalled, then: Then::Silent };
        server.faults().add(Rule::on(verb).act(stalled));
    }
    let mount = Mount::new(&server, &["timeout=100"]);
    let sh =
        |script: &str| Command::new("sh").args(["-c", script]).current_dir(mount.path()).spawn().unwrap();
    let mut programs = [
        sh("python3 -c 'f = open(\"big\", \"wb\"); f.write(bytes(9000000)); f.close()'"),
        sh("cat film > /dev/null"),
    ];
    until(|| {
        let told = ok(&["status", point(&mount)]);
        // The whole file has been written, and the server has a part of each.
        let words = ["downloads", "%  /film", "uploading", "of 9.0 MB sent"];
        words.iter().all(|words| told.contains(words)).then_some(())
    });
    let json = ok(&["status", point(&mount), "--json"]);
    assert!(json.contains(r#""downloads":[{"path":"/film","size":8000000,"at":"#), "{json}");
    let words = ["connections", "down /film", "of 8.00 MB", "up   /big", "of 9.00 MB", "/s"];
    shows_on_terminal(&["status", "--watch", point(&mount)], &words);
    let words = ["1 file(s) to upload", "%", "stays mounted"];
    shows_on_terminal(&["umount", "--timeout", "1", point(&mount)], &words);
    assert!(mount.is_mounted());
    server.faults().clear();
    server.drop_sessions();
    assert!(programs.iter_mut().all(|program| program.wait().unwrap().success()));
    // Without a terminal there is nothing but text.
    assert!(!ok(&["status", point(&mount)]).contains('\x1b'));
}

/// A file manager looks into every picture of a folder, several at a time: at its first bytes, and (for what is embedded
/// there) at its last ones.
#[test]
fn thumbnails_of_many_big_files_cost_a_little_of_each() {
    const FILES: u64 = 30;
    let (_scratch, server) = scripted();
    for number in 0..FILES {
        fs::write(server.root().join(format!("{number}.jpg")), vec![7; 5_000_000]).unwrap();
    }
    let mount = Mount::new(&server, &[]);
    let look =
        "for f in *.jpg; do echo $f; done | xargs -P 4 -I F sh -c 'head -c 65536 F; tail -c 4096 F' | wc -c";
    assert_eq!(shell::ok(mount.path(), look).trim(), (FILES * (65_536 + 4096)).to_string());
    let told = ok(&["status", point(&mount), "--json"]);
    let (_, received) = told.split_once(r#""received":"#).unwrap();
    let received: u64 =
        received.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap();
    assert!(received < FILES * 1_000_000, "{received} bytes of {}", FILES * 5_000_000);
}

/// AVBL, where FEAT lists it: asked behind the answer, so the next one has it.
#[test]
fn free_space_is_the_servers_where_it_tells_it() {
    let (_scratch, server) = scripted();
    let features =
        "211-Features:\r\n AVBL\r\n MLST type*;size*;modify*;\r\n EPSV\r\n SIZE\r\n MDTM\r\n211 End";
    server.faults().add(Rule::on("FEAT").act(Fault::Reply(features.into())));
    server.faults().add(Rule::on("AVBL").act(Fault::Reply("213 409600000".into())));
    let mount = Mount::new(&server, &[]);
    let blocks = || shell::ok(Path::new("/"), &format!("stat -f -c %a*%S {}", point(&mount)));
    assert_eq!(blocks().trim(), "274877906944*4096");
    until(|| (blocks().trim() == "100000*4096").then_some(()));
    assert_eq!(server.counters().of("AVBL"), 1);
}

#[test]
fn a_quota_of_proftpd_is_the_size_of_the_mount() {
    // Fetched by whoever starts one.
    if Server::start(Kind::Proftpd).is_none() {
        return;
    }
    let scratch = Scratch::new("quota");
    let ftpquota = harness::scratch::cache().join("proftpd-core/usr/sbin/ftpquota");
    let make = "for kind in limit tally; do \"$0\" --create-table --type=$kind --table-path=$kind; done
        \"$0\" --add-record --type=limit --name=tester --quota-type=user --limit-type=hard --bytes-upload=10 --units=Mb \\
            --table-path=limit";
    let made =
        Command::new("sh").args(["-ec", make]).arg(&ftpquota).current_dir(scratch.path()).output().unwrap();
    if !made.status.success() {
        return skip(format!("ftpquota: {}", text(&made)));
    }
    let table =
        |kind: &str| format!("Quota{kind}Table file:{}/{}", scratch.path().display(), kind.to_lowercase());
    let modules =
        ["LoadModule mod_quotatab.c", "LoadModule mod_quotatab_file.c", "QuotaEngine on"].map(String::from);
    let extra = [modules.to_vec(), vec![table("Limit"), table("Tally")]].concat();
    let options = Options { extra, ..Options::default() };
    let Some(server) = Server::start_with(Kind::Proftpd, &options) else { return };
    let mount = Mount::new(&server, &[]);
    fs::write(mount.path().join("film"), vec![1; 3 << 20]).unwrap();
    // The first look sends the question.
    let space = until(|| {
        let told = shell::ok(Path::new("/"), &format!("stat -f -c '%b %a %S' {}", point(&mount)));
        told.starts_with("2560 ").then_some(told)
    });
    assert_eq!(space.trim(), "2560 1792 4096", "10 MiB, 3 of them used");
}

/// Free space is a convention otherwise, told without asking anybody.
#[test]
fn free_space_is_told_while_the_server_is_silent() {
    let (_scratch, server) = scripted();
    let mount = Mount::new(&server, &[]);
    eventually("the first session to be ready", || mount.log().matches("> EPSV").count() == 2);
    server.faults().add(Rule::on("*").act(Fault::Silent));
    let before = server.counters().now().commands;
    let told = shell::ok(Path::new("/"), &format!("timeout 5 stat -f {}", point(&mount)));
    assert!(told.contains("Type: fuse"), "{told}");
    assert_eq!(server.counters().now().commands, before);
}

#[test]
fn what_the_server_refuses_is_told_by_flush_and_remembered_by_status() {
    let (_scratch, server) = scripted();
    server.faults().add(Rule::on("STOR").act(Fault::Reply("552 Quota \x1b[2J exceeded.".into())));
    let mount = Mount::new(&server, &[]);
    let mut file = File::create(mount.path().join("letter")).unwrap();
    file.write_all(b"x").unwrap();
    let output = run(&["flush", point(&mount)]);
    assert_eq!(output.status.code(), Some(7), "{}", text(&output));
    assert!(text(&output).contains("/letter"), "{}", text(&output));
    let told = ok(&["status", point(&mount)]);
    assert!(!told.contains('\x1b'), "{told}");
    server.faults().clear();
    ok(&["flush", point(&mount)]);
    assert_eq!(fs::read(server.root().join("letter")).unwrap(), b"x");
}

#[test]
fn a_daemon_that_is_stopped_does_not_hold_the_question_up() {
    let (_scratch, server) = scripted();
    let mount = Mount::new(&server, &[]);
    // The table of mounts shows it a moment before its socket is there.
    let answered = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        run(&["status", point(&mount)]).status.success()
    });
    assert!(answered);
    mount.signal(Signal::SIGSTOP);
    let output = run(&["status", point(&mount)]);
    let listed = ok(&["list"]);
    mount.signal(Signal::SIGCONT);
    assert_eq!(output.status.code(), Some(6), "{}", text(&output));
    assert!(text(&output).contains("does not answer"), "{}", text(&output));
    assert!(listed.contains("does not answer"), "{listed}");
}

#[test]
fn the_socket_is_its_owners_alone_and_speaks_lines() {
    let (_scratch, server) = scripted();
    let mount = Mount::new(&server, &[]);
    let socket = socket_of(&mount);
    until(|| socket.exists().then_some(()));
    let file = |path: &Path| fs::metadata(path).map(|found| found.ino()).ok();
    let ours = file(&socket);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&socket), mode(socket.parent().unwrap())), (0o600, 0o700));
    let mut stream = connect(&socket);
    stream.write_all(b"brief\nnonsense\nforget\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut told = String::new();
    stream.read_to_string(&mut told).unwrap();
    let lines: Vec<&str> = told.lines().collect();
    assert!(
        matches!(lines[..], [brief, ".", nonsense, "."]
        if brief.starts_with('+') && nonsense.starts_with("!unknown request")),
        "{told}"
    );
    mount.unmount();
    // A mount of another test may have got its number, and so its name, a moment later.
    assert_ne!(file(&socket), ours);
}

fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Else the end could come, and go, before the request is read.
#[test]
fn who_waits_for_the_end_is_told_that_it_was_heard_and_then_of_the_end() {
    let (_scratch, server) = scripted();
    let mount = Mount::new(&server, &[]);
    let socket = socket_of(&mount);
    until(|| socket.exists().then_some(()));
    let stream = connect(&socket);
    (&stream).write_all(b"wait\n").unwrap();
    let mut lines = BufReader::new(&stream).lines().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("+"));
    mount.unmount();
    assert_eq!(lines.collect::<Vec<_>>(), ["+0", "."]);
}

#[test]
fn a_mount_that_ends_slowly_does_not_take_the_socket_of_the_next_one() {
    let (_scratch, server) = scripted();
    // A number is given to the next mount as soon as the one before is gone, long before its process.
    for _ in 0..20 {
        let first = Mount::new(&server, &[]);
        until(|| socket_of(&first).exists().then_some(()));
        shell::ok(Path::new("/"), &format!("umount {}", point(&first)));
        let second = Mount::new(&server, &[]);
        drop(first);
        assert!(ok(&["status", point(&second)]).contains("connections"));
    }
}

#[test]
fn the_password_is_nowhere_to_be_seen() {
    let scratch = Scratch::new("scripted");
    let options = scripted::Options { password: "s3cret-and-rare".into(), ..scripted::Options::default() };
    let server = scripted::Server::start_with(scratch.path(), options).unwrap();
    fs::write(server.root().join("letter"), "hello\n").unwrap();
    let log = server.root().join("all.log");
    // The most that can be logged; once from the command line, once by a variable.
    for by_variable in [false, true] {
        let kept = Scratch::new("mount");
        let (point, spool) = (kept.path().join("point"), kept.path().join("spool"));
        fs::create_dir(&point).unwrap();
        let mut url = server.url();
        if !by_variable {
            url = url.replace('@', &format!(":{}@", server.password()));
        }
        let program = program::path();
        let mut command = Command::new(program);
        command.args(["-d", &url]).arg(&point).arg("-o").arg(format!("spool_dir={}", spool.display()));
        command.env("FTPFS_LOG", "trace").env_remove("FTPFS_PASSWORD");
        if by_variable {
            command.env("FTPFS_PASSWORD", server.password());
        }
        let output = File::options().create(true).append(true).open(&log).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let mut child = command.spawn().unwrap();
        let at = point.to_str().unwrap();
        let told = until(|| Some(run(&["status", at])).filter(|output| output.status.success()));
        shell::ok(&point, "cat letter; echo x > new; rm new; ls -la; cat missing || true");
        let mut seen = text(&told).into_bytes();
        for arguments in
            [&["status", at, "--json"][..], &["status", at, "--metrics"], &["list"], &["doctor", &url]]
        {
            seen.extend(text(&run(arguments)).into_bytes());
        }
        // Root may look everywhere; the watchdog is the child.
        for pid in family(child.id()) {
            for file in ["cmdline", "environ", "status", "mountinfo", "comm"] {
                seen.extend(fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default());
            }
            let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
            open.for_each(|fd| {
                seen.extend(
                    fs::read_link(fd.unwrap().path())
                        .unwrap_or_default()
                        .into_os_string()
                        .into_encoded_bytes(),
                )
            });
        }
        seen.extend(fs::read("/proc/mounts").unwrap());
        for entry in shell::ok(kept.path(), "find spool -type f").lines() {
            seen.extend(fs::read(kept.path().join(entry)).unwrap());
        }
        ok(&["umount", at]);
        assert!(child.wait().unwrap().success());
        seen.extend(fs::read(&log).unwrap());
        let seen = String::from_utf8_lossy(&seen);
        assert!(seen.contains("PASS ***") && seen.contains("RETR"), "{seen}");
        let found = seen.lines().find(|line| line.contains(server.password()));
        assert_eq!(found, None);
    }
}

/// The memory of a running mount holds the password: a crash must not leave it on the disk.
#[test]
fn a_crash_leaves_no_core_dump() {
    let dumps = |program: &str, arguments: &[&str], ready: &dyn Fn() -> bool| {
        let mut child = Command::new("sh");
        child.args(["-c", "ulimit -c unlimited && exec \"$0\" \"$@\"", program]).args(arguments);
        let scratch = Scratch::new("core");
        let mut child = child.current_dir(scratch.path()).stderr(Stdio::null()).spawn().unwrap();
        until(|| ready().then_some(()));
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, Signal::SIGABRT).unwrap();
        std::os::unix::process::ExitStatusExt::core_dumped(&child.wait().unwrap())
    };
    if !dumps("sleep", &["60"], &|| true) {
        eprintln!("SKIPPED: nothing dumps core here");
    }
    let (_scratch, server) = scripted();
    let scratch = Scratch::new("mount");
    let point = scratch.path().join("point");
    fs::create_dir(&point).unwrap();
    let url = server.url().replace('@', &format!(":{}@", server.password()));
    let program = program::path();
    let list = format!("spool_dir={}", scratch.path().join("spool").display());
    let at = point.to_str().unwrap();
    let dumped = dumps(&program, &["-f", "-o", &list, &url, at], &|| run(&["status", at]).status.success());
    assert!(!dumped);
    // The watchdog has cleared the place.
    until(|| run(&["status", at]).status.code().filter(|&code| code == 4));
}

#[test]
fn a_question_about_nothing_is_answered() {
    let output = run(&["status", "/proc"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output).contains("no ftpfs is mounted on /proc"), "{}", text(&output));
    assert_eq!(run(&["umount"]).status.code(), Some(1));
}

/// Waits until it has shown all these words on a terminal, and ends it then, if it has not ended by itself.
#[track_caller]
fn shows_on_terminal(arguments: &[&str], words: &[&str]) {
    let line = format!("stty cols 150 rows 50; exec timeout 60 {} {}", program::path(), arguments.join(" "));
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm");
    let mut script =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("script(1) of util-linux");
    let mut screen = script.stdout.take().expect("it is a pipe");
    let (mut shown, mut block) = (Vec::new(), [0; 4096]);
    let missing = loop {
        let so_far = String::from_utf8_lossy(&shown);
        let missing = words.iter().find(|words| !so_far.contains(**words));
        // The end of what is shown is that of the program, after a minute at the latest.
        match missing.map(|_| screen.read(&mut block).unwrap()) {
            None | Some(0) => break missing,
            Some(length) => shown.extend(&block[..length]),
        }
    };
    // Its terminal goes with it, and what runs there goes with that.
    script.kill().unwrap();
    script.wait().unwrap();
    // The last screens.
    let shown = String::from_utf8_lossy(&shown[shown.len().saturating_sub(6000)..]);
    assert_eq!(missing, None, "in {shown}");
}

/// A process and its children.
fn family(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    std::iter::once(pid).chain(children.split_whitespace().filter_map(|word| word.parse().ok())).collect()
}

fn socket_of(mount: &Mount) -> std::path::PathBuf {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table.lines().find(|line| line.split(' ').nth(4) == mount.path().to_str()).unwrap();
    Path::new("/run/ftpfs").join(line.split(' ').nth(2).unwrap().replace(':', "-"))
}

fn scripted() -> (Scratch, scripted::Server) {
    let scratch = Scratch::new("scripted");
    let server = scripted::Server::start(scratch.path()).unwrap();
    (scratch, server)
}

fn point(mount: &Mount) -> &str {
    mount.path().to_str().unwrap()
}

#[track_caller]
fn until<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let limit = Instant::now() + Duration::from_secs(30);
    while Instant::now() < limit {
        if let Some(value) = attempt() {
            return value;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("it never happened");
}
