//! What a program sees of a file that somebody else changes on the server while it has it open: the old one or an error,
//! never some of both; what was added to a log; and no byte twice over the line of a file that nobody has touched.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::files::date;
use harness::patience::eventually_within;
use harness::scripted::Options;
use harness::servers::own;
use harness::shell::Script;
use harness::{Kind, Mounted, Scripted};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

mod main_servers {
    use super::*;

    on_each_server! {
        fn a_file_replaced_by_another_of_its_size_while_open_is_never_a_mixture(at: &mut Mounted) {
            never_a_mixture(at, PosixFadviseAdvice::POSIX_FADV_NORMAL, rename_over);
        }

        fn a_file_overwritten_in_place_while_open_is_never_a_mixture(at: &mut Mounted) {
            // What the kernel asks for ahead may be sent while it is overwritten: no server can tell the two apart then.
            never_a_mixture(at, PosixFadviseAdvice::POSIX_FADV_RANDOM, |file, new| fs::write(file, new).unwrap());
        }

        fn a_log_is_followed_by_tail(at: &mut Mounted) {
            at.server.put("log", "one\n");
            at.mount.remount(&at.server, &["cache_timeout=0.2"]);
            follow(at.mount.path(), &at.server.root().join("log"));
        }
    }
}

mod other_servers {
    use super::*;

    on_each_server! {
        [inetutils Inetutils, linux_ftpd LinuxFtpd, twisted Twisted, aioftp Aioftp, libunftp Libunftp]

        fn a_file_replaced_by_another_of_its_size_while_open_is_never_a_mixture(at: &mut Mounted) {
            never_a_mixture(at, PosixFadviseAdvice::POSIX_FADV_NORMAL, rename_over);
        }
    }
}

fn rename_over(file: &Path, new: &[u8]) {
    let beside = file.with_extension("new");
    fs::write(&beside, new).unwrap();
    own(&beside);
    fs::rename(&beside, file).unwrap();
}

/// Reads the first half of a file, has it replaced, and reads on.
fn never_a_mixture(at: &mut Mounted, advice: PosixFadviseAdvice, replace: fn(&Path, &[u8])) {
    let (old, new) = (content(b'o'), content(b'n'));
    at.server.put("file", &old);
    let served = at.server.root().join("file");
    date(&served, 3600);
    let file = File::open(at.path("file")).unwrap();
    posix_fadvise(&file, 0, 0, advice).unwrap();
    let mut block = vec![0; PIECE];
    for i in 0..4 {
        file.read_exact_at(&mut block, (i * PIECE) as u64).unwrap();
        assert_eq!(block, old[i * PIECE..][..PIECE]);
    }
    replace(&served, &new);
    date(&served, 1800);
    let mut stale = 0;
    for i in (0..old.len() / PIECE).rev() {
        match file.read_exact_at(&mut block, (i * PIECE) as u64) {
            Ok(()) => assert!(block == old[i * PIECE..][..PIECE], "piece {i} is of another file"),
            Err(error) => {
                let code = error.raw_os_error();
                assert!(matches!(code, Some(libc::ESTALE | libc::EIO)), "{error}");
                stale += 1;
            }
        }
    }
    // Twisted begins every transfer at the start, so one that runs brings the old one to its end.
    assert!(stale > 0 || at.kind() == Kind::Twisted, "the server does not have the rest any more");
    drop(file);
    if stale > 0 {
        assert!(at.read("file") == new, "whoever opens it now gets the new one");
    }
}

#[test]
fn a_file_that_is_replaced_before_its_first_byte_is_read_is_read_as_it_is_now() {
    for size in [100, 3 << 20] {
        let at = Scripted::prepared(Options::default(), &["cache_timeout=600"], |server| {
            for name in ["shorter", "same", "seen"] {
                let file = server.root().join(name);
                fs::write(&file, vec![b'o'; size]).unwrap();
                date(&file, 3600);
            }
        });
        let open = |name: &str| {
            fs::metadata(at.path(name)).unwrap();
            File::open(at.path(name)).unwrap()
        };
        let replace = |name: &str, new: &[u8]| {
            fs::write(at.server.root().join(name), new).unwrap();
            date(&at.server.root().join(name), 1800);
        };
        let read = |mut file: &File| {
            let mut found = Vec::new();
            file.read_to_end(&mut found).map(|_| found)
        };
        // Its size tells when the first bytes are asked for.
        let file = open("shorter");
        replace("shorter", &vec![b'n'; size - 50]);
        assert!(read(&file).unwrap() == vec![b'n'; size - 50]);
        // It is known from elsewhere that it is another one.
        let file = open("same");
        replace("same", &vec![b'n'; size]);
        at.mount.signal(nix::sys::signal::Signal::SIGHUP);
        let listings = || at.server.counters().of("MLSD");
        let before = listings();
        eventually_within(Duration::from_secs(20), "another look", || {
            drop(File::open(at.path("same")).unwrap());
            listings() > before
        });
        assert!(read(&file).unwrap() == vec![b'n'; size]);
        // Something of it has been seen: the rest of another one is not put behind it.
        let file = open("seen");
        file.read_exact_at(&mut [0; 10], 0).unwrap();
        replace("seen", &vec![b'n'; size - 50]);
        at.mount.signal(nix::sys::signal::Signal::SIGHUP);
        let seen = read(&file);
        assert!(seen.as_ref().map_or(true, |seen| *seen == vec![b'o'; size]), "a mixture");
    }
}

#[test]
fn several_tails_follow_a_log_that_grows_all_the_time() {
    let at = Scripted::prepared(Options::default(), &["attr_timeout=0.2,dir_timeout=0.2"], |server| {
        server.put("log", content(b'x'));
    });
    let served = at.server.root().join("log");
    let mut files: Vec<_> = (0..3).map(|_| File::open(at.path("log")).unwrap()).collect();
    let mut texts = vec![Vec::new(); 3];
    for round in 0..10 {
        let line = format!("line {round}\n");
        File::options().append(true).open(&served).unwrap().write_all_at_end(line.as_bytes());
        let whole = fs::read(&served).unwrap();
        eventually_within(PATIENCE, "it", || {
            for (file, text) in files.iter_mut().zip(&mut texts) {
                file.metadata().unwrap();
                file.read_to_end(text).unwrap();
                assert!(whole.starts_with(text), "nothing else than what is there");
            }
            texts.iter().all(|text| *text == whole)
        });
    }
}

#[test]
fn a_file_that_nobody_has_changed_is_fetched_once_and_asked_for_anew_when_told_so() {
    let at = Scripted::prepared(Options::default(), &["attr_timeout=0.1,dir_timeout=0.1"], |server| {
        server.put("file", content(b'x'));
        date(&server.root().join("file"), 3600);
    });
    let whole = content(b'x');
    for _ in 0..3 {
        assert!(fs::read(at.path("file")).unwrap() == whole);
        // Past the lifetime of attributes: the server is asked, and says the same.
        std::thread::sleep(Duration::from_millis(150));
    }
    assert_eq!(at.server.counters().of("RETR"), 1, "{:?}", at.server.counters().now());
    assert!(at.server.counters().of("MLSD") >= 2, "{:?}", at.server.counters().now());
    // Nothing shows this change, so nobody sees it; SIGHUP forgets what we hold and what the kernel holds.
    let served = at.server.root().join("file");
    let time = fs::metadata(&served).unwrap().modified().unwrap();
    let new = content(b'n');
    fs::write(&served, &new).unwrap();
    File::options().write(true).open(&served).unwrap().set_modified(time).unwrap();
    assert!(fs::read(at.path("file")).unwrap() == whole);
    at.mount.signal(nix::sys::signal::Signal::SIGHUP);
    eventually_within(PATIENCE, "it", || fs::read(at.path("file")).unwrap() == new);
}

#[test]
fn whoever_opens_a_file_sees_what_another_client_has_written_though_a_writer_still_holds_it_open() {
    let at = Scripted::prepared(Options::default(), &["attr_timeout=0,dir_timeout=0"], |_| {});
    let mut writer = Script::start(
        at.mount.path(),
        "f = os.open('file', os.O_RDWR | os.O_CREAT)\nos.write(f, b'ours, and longer')\nos.fsync(f)\npause()\n\
         os.write(f, b'!')\nos.close(f)",
    );
    writer.await_pause();
    fs::write(at.server.root().join("file"), "theirs").unwrap();
    assert_eq!(fs::read(at.path("file")).unwrap(), b"theirs");
    writer.go_on();
    // Its place in the file is where it was, as on a local disk.
    assert!(writer.end().0);
    assert_eq!(fs::read(at.path("file")).unwrap(), b"theirs\0\0\0\0\0\0\0\0\0\0!");
}

#[test]
fn the_question_whether_a_file_is_still_the_same_costs_no_round_trip() {
    let at = Scripted::prepared(Options::default(), &["max_conns=1"], |server| {
        server.put("file", content(b'x'));
    });
    let file = File::open(at.path("file")).unwrap();
    nix::fcntl::posix_fadvise(&file, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_RANDOM).unwrap();
    for i in [9, 3, 7, 1, 5] {
        file.read_exact_at(&mut [0; 4096], i * 300_000).unwrap();
    }
    let lines = at.server.counters().now().lines;
    let retrieved: Vec<_> = lines.iter().filter(|(_, line)| line.starts_with("RETR")).collect();
    assert_eq!(retrieved.len(), 5, "{lines:?}");
    assert_eq!(at.server.counters().of("MLST"), 5, "one with every RETR: {lines:?}");
}

/// As `tail -f` does it: looks whether there is more, and reads on.
fn follow(mount: &Path, served: &Path) {
    let mut tail = Command::new("tail")
        .args(["-n", "+1", "-s", "0.1", "-f", "log"])
        .current_dir(mount)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        while let Some(Ok(line)) = lines.next() {
            let _ = tell.send(line);
        }
    });
    let next = || told.recv_timeout(Duration::from_secs(20));
    let first = next();
    let mut seen = vec![first];
    for line in ["two", "three"] {
        let log = File::options().append(true).open(served).unwrap();
        log.write_all_at_end(format!("{line}\n").as_bytes());
        seen.push(next());
    }
    let _ = tail.kill();
    let _ = tail.wait();
    assert_eq!(seen, [Ok("one".into()), Ok("two".into()), Ok("three".into())]);
}

trait AtEnd {
    fn write_all_at_end(self, bytes: &[u8]);
}

impl AtEnd for File {
    fn write_all_at_end(mut self, bytes: &[u8]) {
        std::io::Write::write_all(&mut self, bytes).unwrap();
    }
}

/// 4 MiB that tell whose they are and where they belong.
fn content(tag: u8) -> Vec<u8> {
    (0..4 << 20).map(|i: u32| if i.is_multiple_of(16) { tag } else { (i / 4096 + i) as u8 }).collect()
}

const PIECE: usize = 64 * 1024;

const PATIENCE: Duration = Duration::from_secs(20);
