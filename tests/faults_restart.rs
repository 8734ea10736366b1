//! The server comes back: fifty restarts in the middle of reads, writes, listings and renames. Each is a success or one honest
//! error, and the first call after the server is up again works.
//!
//! Commands that must not be repeated blindly (RNTO, DELE, MKD, RMD, STOR, APPE) and whose reply was lost are resolved by looking.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use harness::files::{close, store};
use harness::patience::{eventually, within};
use harness::scratch::Scratch;
use harness::scripted::{self, Fault, Rule, Then};
use harness::shell::Script;
use harness::{Kind, Mount, Server, shell};

#[test]
fn fifty_restarts_of_vsftpd_are_successes_or_honest_errors() {
    restarts(Kind::Vsftpd, 50);
}

#[test]
fn restarts_of_pyftpdlib_are_successes_or_honest_errors() {
    restarts(Kind::Pyftpdlib, 8);
}

fn restarts(kind: Kind, count: u64) {
    let Some(mut server) = Server::start(kind) else { return };
    let film = content(0, 4_000_000);
    server.put("film", &film);
    server.put("saved", content(0, 1_000_000));
    server.put("name0", "moving");
    for number in 0..500 {
        server.put(&format!("folder/f{number}"), "x");
    }
    let mount = Mount::new(&server, &["attr_timeout=0", "dir_timeout=0", "timeout=20"]);
    let guard = mount.guard(Duration::from_secs(90));
    let (mut saved, mut place) = (content(0, 1_000_000), 0);
    let (mut errors, mut slowest) = (0, Duration::ZERO);
    for round in 0..count {
        let at = |name: &str| mount.path().join(name);
        let new = content(round + 1, 1_000_000);
        let outcome = std::thread::scope(|scope| {
            let new = &new;
            let film = &film;
            let at = &at;
            let work = scope.spawn(move || match round % 4 {
                0 => fs::read(at("film")).map(|read| assert!(read == *film, "{} bytes", read.len())),
                1 => store(&at("saved"), new),
                2 => fs::read_dir(at("folder")).and_then(|entries| {
                    let entries: io::Result<Vec<_>> = entries.collect();
                    entries.map(|entries| assert_eq!(entries.len(), 500))
                }),
                _ => fs::rename(at(&format!("name{place}")), at(&format!("name{}", place + 1))),
            });
            // Each time at another moment.
            std::thread::sleep(Duration::from_micros(round * 7919 % 15_000));
            server.stop();
            server.restart();
            work.join().unwrap()
        });
        errors += u64::from(outcome.is_err());
        // The next call works.
        let up = Instant::now();
        let next = fs::metadata(at("film"));
        assert!(next.is_ok(), "round {round}: {next:?}");
        slowest = slowest.max(up.elapsed());
        match round % 4 {
            1 => {
                let found = server.read("saved");
                let is_new = found == new;
                assert!(
                    is_new || outcome.is_err() && found == saved,
                    "round {round}: {outcome:?}, {} bytes",
                    found.len()
                );
                saved = found;
            }
            3 => {
                let (old, new) = (format!("name{place}"), format!("name{}", place + 1));
                let (at_old, at_new) = (server.root().join(&old).exists(), server.root().join(&new).exists());
                assert!(at_old != at_new, "round {round}: {old}: {at_old}, {new}: {at_new}");
                assert!(at_new || outcome.is_err(), "round {round}: a rename that did not happen");
                assert!(at_old || outcome.is_ok(), "round {round}: it happened, and was told as {outcome:?}");
                place += u64::from(at_new);
            }
            _ => {}
        }
        guard.tick();
    }
    eprintln!("{kind:?}: {count} restarts, {errors} honest errors, the next call took {slowest:?} at most");
}

#[test]
fn open_handles_go_on_reading_and_writing_over_a_restart() {
    let Some(mut server) = Server::start(Kind::Vsftpd) else { return };
    let film = content(3, 3_000_000);
    server.put("film", &film);
    let mount = Mount::new(&server, &[]);
    let mut reading = File::open(mount.path().join("film")).unwrap();
    let mut read = vec![0; 1_000_001];
    reading.read_exact(&mut read).unwrap();
    let mut writing = File::create(mount.path().join("copy")).unwrap();
    writing.write_all(&film[..1_500_000]).unwrap();
    server.stop();
    server.restart();
    reading.read_to_end(&mut read).unwrap();
    assert!(read == film);
    writing.write_all(&film[1_500_000..]).unwrap();
    close(writing).unwrap();
    assert!(server.read("copy") == film);
}

#[test]
fn what_happened_though_its_reply_was_lost_is_a_success() {
    for after in [Then::Close, Then::Reply("421 Service not available.".into())] {
        let scratch = Scratch::new("served");
        fs::write(scratch.path().join("a"), "a").unwrap();
        fs::write(scratch.path().join("over"), "old").unwrap();
        fs::write(scratch.path().join("gone"), "x").unwrap();
        fs::write(scratch.path().join("log"), "first\n").unwrap();
        fs::write(scratch.path().join("kept"), "old").unwrap();
        fs::create_dir(scratch.path().join("empty")).unwrap();
        let server = scripted::Server::start(scratch.path()).unwrap();
        let mount = Mount::new(&server, &["timeout=10"]);
        let (at, there) = (|name: &str| mount.path().join(name), |name: &str| scratch.path().join(name));
        let lose = |verb| server.faults().add(Rule::on(verb).once().act(Fault::Done(after.clone())));
        lose("RNTO");
        fs::rename(at("a"), at("b")).unwrap();
        assert!(there("b").exists() && !there("a").exists());
        lose("RNTO");
        fs::rename(at("b"), at("over")).unwrap();
        assert_eq!(fs::read(there("over")).unwrap(), b"a");
        lose("DELE");
        fs::remove_file(at("gone")).unwrap();
        assert!(!there("gone").exists());
        lose("MKD");
        fs::create_dir(at("made")).unwrap();
        assert!(there("made").is_dir());
        lose("RMD");
        fs::remove_dir(at("empty")).unwrap();
        assert!(!there("empty").exists());
        lose("STOR");
        store(&at("new"), b"new").unwrap();
        assert_eq!(fs::read(there("new")).unwrap(), b"new");
        lose("STOR");
        store(&at("kept"), b"replaced").unwrap();
        assert_eq!(fs::read(there("kept")).unwrap(), b"replaced");
        lose("RNTO");
        store(&at("kept"), b"and again").unwrap();
        assert_eq!(fs::read(there("kept")).unwrap(), b"and again");
        lose("APPE");
        let mut log = OpenOptions::new().append(true).open(at("log")).unwrap();
        log.write_all(b"second\n").unwrap();
        close(log).unwrap();
        assert_eq!(fs::read(there("log")).unwrap(), b"first\nsecond\n", "added once");
        // Nothing is left over.
        let left: Vec<_> =
            fs::read_dir(scratch.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".ftpfs")), "{left:?}");
    }
}

/// The session is lost with the reply, and the next one is refused: another connection goes on with the job, and must know that it
/// is not the first to try.
#[test]
fn a_job_that_moves_to_another_connection_knows_that_it_was_tried_before() {
    type Work = fn(&Path) -> io::Result<()>;
    let works: [(&'static str, Work); 5] = [
        ("DELE", |at| fs::remove_file(at.join("gone"))),
        ("RNTO", |at| fs::rename(at.join("old"), at.join("new"))),
        ("MKD", |at| fs::create_dir(at.join("made"))),
        ("RMD", |at| fs::remove_dir(at.join("empty"))),
        ("APPE", |at| {
            let mut log = OpenOptions::new().append(true).open(at.join("log"))?;
            log.write_all(b"second\n")?;
            close(log)
        }),
    ];
    for (verb, work) in works {
        let scratch = Scratch::new("served");
        for name in ["gone", "old", "log"] {
            fs::write(scratch.path().join(name), "first\n").unwrap();
        }
        fs::create_dir(scratch.path().join("empty")).unwrap();
        File::create(scratch.path().join("film")).unwrap().set_len(8 << 30).unwrap();
        let server = scripted::Server::start(scratch.path()).unwrap();
        let mount = Mount::new(&server, &["timeout=20", "max_conns=2"]);
        // One connection is taken by a download.
        let mut film = std::process::Command::new("cat");
        film.arg(mount.path().join("film")).stdout(std::process::Stdio::null());
        let mut film = film.spawn().unwrap();
        eventually("a second session beside it", || {
            fs::read_dir(mount.path()).unwrap().for_each(drop);
            server.counters().now().transfers > 0 && server.counters().now().open >= 2
        });
        server.faults().add(Rule::on(verb).once().act(Fault::Done(Then::Close)));
        server.set_max_sessions(1);
        let outcome = work(mount.path());
        let _ = film.kill();
        let _ = film.wait();
        assert!(outcome.is_ok(), "{verb}: it was done, and told as {outcome:?}");
        let log = fs::read(scratch.path().join("log")).unwrap();
        assert_eq!(log, if verb == "APPE" { &b"first\nsecond\n"[..] } else { b"first\n" }, "added once");
    }
}

#[test]
fn many_uploads_that_wait_for_a_server_that_is_away_end_together_and_not_one_after_another() {
    let scratch = Scratch::new("served");
    let options = scripted::Options { max_sessions: 1, ..scripted::Options::default() };
    let server = scripted::Server::start_with(scratch.path(), options).unwrap();
    let timeout = Duration::from_secs(10);
    let mount = Mount::new(&server, &["timeout=10", "connect_timeout=2"]);
    // Until it knows that one session is all there is.
    eventually("a limit", || {
        shell::ok(mount.path(), "for n in 1 2 3 4; do echo $n > f$n & done; wait");
        mount.status(&[]).contains("at most 1\n")
    });
    let mut letters = Script::start(
        mount.path(),
        "files = [os.open(f'letter{n}', os.O_WRONLY | os.O_CREAT) for n in range(24)]\nfor f in files: os.write(f, b'text')\n\
         def end(f):\n try: os.close(f)\n except OSError: print('refused', flush=True)\n\
         pause()\nends = [threading.Thread(target=end, args=[f]) for f in files]\n\
         for e in ends: e.start()\nfor e in ends: e.join()",
    );
    letters.await_pause();
    server.set_max_sessions(0);
    server.drop_sessions();
    letters.go_on();
    // Each of them a time-out after the other would be 24.
    let (_, said) = within(4 * timeout, || letters.end());
    assert_eq!(said.lines().count(), 24, "{said}");
    server.set_max_sessions(1);
    within(2 * timeout, || store(&mount.path().join("later"), b"text").unwrap());
}

/// Every eight bytes say which version they are of, and where.
fn content(version: u64, length: usize) -> Vec<u8> {
    (0..length as u64 / 8).flat_map(|at| (version << 32 | at).to_le_bytes()).collect()
}
