//! Large files are uploaded while they are written.
//!
//! close() then waits for the rest only; the spool stays small; what is promised stays the same: the name shows the old content
//! or the new one, and close() tells the truth whatever breaks meanwhile.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use harness::files::close;
use harness::patience::eventually_within;
use harness::scratch::Scratch;
use harness::scripted::{self, DataEnd, Fault, Rule, Then};
use harness::{Kind, Mount, Options, Relay, Scripted, Server, shell};
use nix::libc;
use nix::sys::signal::Signal;

#[test]
fn most_of_a_file_is_there_before_it_is_closed_and_its_name_only_after() {
    let _alone = alone();
    let at = Scripted::new();
    let content = content(12 << 20);
    let mut file = File::create(at.path("film")).unwrap();
    file.write_all(&content).unwrap();
    at.wait("the server has nearly all of it", |at| at.received() > 11 << 20);
    assert!(!at.server.root().join("film").exists(), "half a file has its name");
    assert_eq!(shell::ok(at.mount.path(), "ls -A"), "film\n");
    at.server.counters().reset();
    close(file).unwrap();
    assert!(at.received() < 1 << 20);
    assert_eq!(fs::read(at.server.root().join("film")).unwrap(), content);
    assert_eq!(at.server.counters().of("STOR"), 0, "{:?}", at.server.counters().now().lines);
    assert_eq!(at.names_there(), ["film"]);
}

#[test]
fn an_old_content_stays_until_the_new_one_is_complete() {
    let _alone = alone();
    let at = Scripted::prepared(scripted::Options::default(), SMALL, |server| server.put("film", OLD));
    let mut file = File::create(at.path("film")).unwrap();
    file.write_all(&content(500_000)).unwrap();
    at.wait("the upload has begun", |at| at.received() > 100_000);
    assert_eq!(fs::read(at.server.root().join("film")).unwrap(), OLD);
    shell::ok(
        Path::new("/"),
        &format!("chmod 640 '{0}' && touch -d @1000000000 '{0}'", at.path("film").display()),
    );
    close(file).unwrap();
    assert_eq!(fs::read(at.server.root().join("film")).unwrap(), content(500_000));
    let attributes = shell::ok(at.server.root(), "stat -c '%a %Y' film");
    assert_eq!(attributes, "640 1000000000\n");
    assert_eq!(at.names_there(), ["film"]);
}

#[test]
fn a_writer_that_is_too_far_ahead_waits_and_the_spool_stays_small() {
    let _alone = alone();
    let scratch = Scratch::new("spool");
    for kind in Kind::MAIN {
        let Some(server) = Server::start(kind) else { continue };
        let spool = format!("spool_dir={}", scratch.path().display());
        let mount = Mount::new(&server, &["stream_from=256K", "spool_size=4M", "cache_size=4M", &spool]);
        let content = content(48 << 20);
        let mut file = File::create(mount.path().join("film")).unwrap();
        let mut most = 0;
        for piece in content.chunks(1 << 20) {
            file.write_all(piece).unwrap();
            most = most.max(spooled(mount.pid(), scratch.path()));
        }
        close(file).unwrap();
        assert!(server.read("film") == content, "{kind:?}");
        // What may be on its way, a writer's share, and a write.
        assert!(most < 8 << 20, "{kind:?}: the spool held {most} bytes");
        assert!(mount.peak_memory() < 64 << 10, "{kind:?}: {} KiB", mount.peak_memory());
    }
}

#[test]
fn a_server_that_takes_nothing_any_more_holds_no_writer_for_ever() {
    let _alone = alone();
    for after in [0, 100_000, 3 << 20] {
        let at = Scripted::with(
            scripted::Options::default(),
            &["timeout=2", "stream_from=64K", "spool_size=1M", "shutdown_timeout=2"],
        );
        let fault = Fault::Data { after, end: DataEnd::Stalled, then: Then::Silent };
        at.server.faults().add(Rule::on("STOR").act(fault.clone()));
        at.server.faults().add(Rule::on("APPE").act(fault));
        let content = content(32 << 20);
        let started = Instant::now();
        let mut file = File::create(at.path("film")).unwrap();
        let written = file.write_all(&content);
        let closed = close(file);
        assert!(written.is_err() && closed.is_err(), "{after}: {written:?}, {closed:?}");
        assert!(started.elapsed() < Duration::from_secs(25), "it took {:?}", started.elapsed());
        assert!(!at.server.root().join("film").exists());
    }
}

#[test]
fn a_line_that_is_cut_is_mended_without_sending_all_of_it_again() {
    let _alone = alone();
    for kind in [Kind::Vsftpd, Kind::PureFtpd] {
        let Some(server) = Server::start(kind) else { continue };
        let relay = Relay::new(&server);
        // Less than the file: what was sent first is nowhere but on the server.
        let mount = Mount::new(&relay, &["stream_from=256K", "spool_size=48M", "timeout=10"]);
        let content = content(100 << 20);
        let mut file = File::create(mount.path().join("film")).unwrap();
        for (number, piece) in content.chunks(1 << 20).enumerate() {
            file.write_all(piece).unwrap();
            if number % 30 == 29 {
                let target = (number as u64 - 15) << 20;
                eventually_within(PATIENCE, "the line is used", || relay.traffic().bytes_up > target);
                relay.cut();
            }
        }
        close(file).unwrap_or_else(|e| panic!("{kind:?}: {e}\n{}", mount.log()));
        assert!(server.read("film") == content, "{kind:?}");
        let sent = relay.traffic().bytes_up;
        assert!(sent < 200 << 20, "{kind:?}: {sent} bytes");
    }
}

#[test]
fn a_line_that_is_cut_under_a_server_that_cannot_go_on_is_an_error_or_a_whole_file() {
    let _alone = alone();
    for (spool, may_succeed) in [("spool_size=64M", true), ("spool_size=4M", false)] {
        let served = Scratch::new("served");
        let options = scripted::Options { without: vec!["APPE", "REST"], ..Default::default() };
        let server = scripted::Server::start_with(served.path(), options).unwrap();
        let relay = Relay::new(&server);
        let mount = Mount::new(&relay, &["stream_from=256K", spool, "timeout=10"]);
        let content = content(24 << 20);
        let mut file = File::create(mount.path().join("film")).unwrap();
        let (first, rest) = content.split_at(16 << 20);
        let mut outcome = file.write_all(first);
        eventually_within(PATIENCE, "the line is used", || relay.traffic().bytes_up > 13 << 20);
        relay.cut();
        outcome = outcome.and_then(|()| file.write_all(rest));
        outcome = close(file).and(outcome);
        assert_eq!(outcome.is_ok(), may_succeed, "{spool}: {outcome:?}\n{}", mount.log());
        let there = fs::read(server.root().join("film"));
        assert!(if may_succeed { there.unwrap() == content } else { there.is_err() }, "{spool}");
    }
}

#[test]
fn one_session_is_enough_for_an_upload_and_for_others() {
    let _alone = alone();
    for kind in [Kind::Vsftpd, Kind::Proftpd, Kind::Pyftpdlib] {
        let options = Options { max_sessions: Some(1), ..Options::default() };
        let Some(server) = Server::start_with(kind, &options) else { continue };
        for n in 0..3 {
            server.put(&format!("d{n}/f"), "text");
        }
        let mount = Mount::new(&server, &["stream_from=256K", "timeout=10"]);
        let content = content(12 << 20);
        let mut file = File::create(mount.path().join("film")).unwrap();
        for (n, piece) in content.chunks(4 << 20).enumerate() {
            file.write_all(piece).unwrap();
            // The writer pauses with its upload under way.
            assert_eq!(shell::ok(mount.path(), &format!("ls d{n} && cat d{n}/f")), "f\ntext", "{kind:?}");
        }
        close(file).unwrap();
        assert!(server.read("film") == content, "{kind:?}");
    }
}

#[test]
fn a_program_may_go_back_to_what_was_sent() {
    let _alone = alone();
    // With all of it still here, and with most of it only on the server.
    for spool in ["spool_size=64M", "spool_size=1M"] {
        for kind in [Kind::Vsftpd, Kind::Proftpd] {
            let Some(server) = Server::start(kind) else { continue };
            let mount = Mount::new(&server, &["stream_from=256K", spool]);
            let mut content = content(6 << 20);
            let mut file = File::create(mount.path().join("film")).unwrap();
            file.write_all(&content).unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            file.write_all(b"the header, at last").unwrap();
            file.write_all_at(b"and in the middle", 3 << 20).unwrap();
            file.set_len(5 << 20).unwrap();
            file.seek(SeekFrom::End(0)).unwrap();
            file.write_all(b"the end").unwrap();
            content[..19].copy_from_slice(b"the header, at last");
            content[3 << 20..(3 << 20) + 17].copy_from_slice(b"and in the middle");
            content.truncate(5 << 20);
            content.extend_from_slice(b"the end");
            close(file).unwrap();
            assert!(server.read("film") == content, "{kind:?} {spool}");
            assert!(fs::read(mount.path().join("film")).unwrap() == content, "{kind:?} {spool}");
        }
    }
}

#[test]
fn what_was_sent_can_be_read_back_before_it_is_closed() {
    let _alone = alone();
    for spool in ["spool_size=64M", "spool_size=1M"] {
        let Some(server) = Server::start(Kind::Vsftpd) else { return };
        let mount = Mount::new(&server, &["stream_from=256K", spool]);
        let content = content(6 << 20);
        let path = mount.path().join("film");
        let mut file =
            OpenOptions::new().create(true).read(true).write(true).truncate(true).open(path).unwrap();
        file.write_all(&content[..5 << 20]).unwrap();
        for from in [0, 4 << 20, 1 << 20] {
            let mut read = vec![0; 100_000];
            file.read_exact_at(&mut read, from).unwrap();
            assert!(read == content[from as usize..][..100_000], "{spool} {from}");
        }
        file.write_all(&content[5 << 20..]).unwrap();
        close(file).unwrap();
        assert!(server.read("film") == content, "{spool}");
    }
}

#[test]
fn a_file_may_be_moved_and_removed_and_its_folder_moved_while_it_is_uploaded() {
    let _alone = alone();
    let at = Scripted::with(scripted::Options::default(), SMALL);
    let content = content(700_000);
    let begin = |name: &str| {
        let mut file = File::create(at.path(name)).unwrap();
        let before = at.received();
        file.write_all(&content[..400_000]).unwrap();
        at.wait("the upload has begun", |at| at.received() > before + 64_000);
        file
    };
    shell::ok(at.mount.path(), "mkdir a b");
    let mut moved = begin("a/moved");
    let (removed, mut kept) = (begin("a/removed"), begin("a/kept"));
    shell::ok(at.mount.path(), "mv a/moved b/moved && rm a/removed && mv a c");
    kept.write_all(&content[400_000..]).unwrap();
    moved.write_all(&content[400_000..]).unwrap();
    [removed, moved, kept].into_iter().for_each(|file| close(file).unwrap());
    assert_eq!(shell::ok(at.server.root(), "find . -type f | sort"), "./b/moved\n./c/kept\n");
    for name in ["b/moved", "c/kept"] {
        assert!(fs::read(at.server.root().join(name)).unwrap() == content, "{name}");
    }
    shell::ok(at.mount.path(), "rm -r b c && test -z \"$(ls -A)\"");
}

#[test]
fn a_server_that_is_full_says_so_to_the_writer() {
    let _alone = alone();
    let at = Scripted::with(scripted::Options::default(), &["stream_from=64K", "spool_size=1M"]);
    let full = Then::Reply("452 Insufficient storage space.".into());
    at.server.faults().add(Rule::on("STOR").act(Fault::Data {
        after: 1 << 20,
        end: DataEnd::Reset,
        then: full,
    }));
    let mut file = File::create(at.path("film")).unwrap();
    let error = file.write_all(&content(32 << 20)).unwrap_err();
    assert!([libc::ENOSPC, libc::EIO].contains(&error.raw_os_error().unwrap()), "{error}");
    close(file).unwrap_err();
    assert_eq!(at.names_there(), [""; 0]);
}

#[test]
fn killing_ftpfs_the_server_or_the_line_at_many_moments_leaves_the_old_or_the_new_content() {
    let _alone = alone();
    let size = 3 << 20;
    for n in 0..8 {
        let target = 70_000 + n * 400_000;
        let Some(mut server) = Server::start([Kind::Vsftpd, Kind::Pyftpdlib][n as usize % 2]) else { return };
        server.put("film", OLD);
        let relay = Relay::new(&server);
        let mount = Mount::new(&relay, &["stream_from=64K", "spool_size=8M", "timeout=5"]);
        let path = mount.path().join("film");
        let outcome = std::thread::scope(|scope| {
            let writer = scope.spawn(move || {
                let mut file = File::create(path)?;
                let written = file.write_all(&content(size));
                // What was written before an error would get its name, as on a local disk.
                let closed = if written.is_ok() {
                    close(file)
                } else {
                    let _: () = std::mem::forget(file);
                    Ok(())
                };
                written.and(closed)
            });
            eventually_within(PATIENCE, "the upload has come that far", || {
                relay.traffic().bytes_up > target || writer.is_finished()
            });
            match n % 3 {
                0 => mount.signal(Signal::SIGKILL),
                1 => {
                    server.stop();
                    server.restart();
                }
                _ => relay.cut(),
            }
            writer.join().unwrap()
        });
        let found = server.read("film");
        let is_new = found == content(size);
        assert!(is_new || found == OLD, "{n}: {} bytes", found.len());
        assert!(is_new || outcome.is_err(), "{n}: a success that is none");
        if n % 3 == 2 {
            outcome.unwrap_or_else(|e| panic!("{n}: {e}\n{}", mount.log()));
        }
    }
}

/// `cargo build --release && FTPFS_PROGRAM=target/release/ftpfs cargo test --test streaming -- --ignored --nocapture ten_gib`
#[test]
#[ignore = "takes minutes"]
fn ten_gib_are_written_and_read_in_little_memory() {
    const SIZE: u64 = 10 << 30;
    let served = Scratch::new("served");
    let options = scripted::Options { discards: true, ..Default::default() };
    let server = scripted::Server::start_with(served.path(), options).unwrap();
    let scratch = Scratch::new("spool");
    let spool = format!("spool_dir={}", scratch.path().display());
    let mut mount = Mount::new(&server, &["spool_size=64M", "cache_size=32M", &spool]);
    mount.may_take(Duration::from_secs(3600));
    let zeros = vec![0; 1 << 20];
    let started = Instant::now();
    let mut file = File::create(mount.path().join("film")).unwrap();
    let mut most = 0;
    for number in 0..SIZE >> 20 {
        file.write_all(&zeros).unwrap();
        if number % 64 == 0 {
            most = most.max(spooled(mount.pid(), scratch.path()));
        }
    }
    close(file).unwrap();
    let written = started.elapsed();
    assert_eq!(fs::metadata(server.root().join("film")).unwrap().len(), SIZE);
    assert_eq!(server.counters().now().bytes_received, SIZE, "no byte twice");
    let memory = mount.peak_memory();
    eprintln!("written in {written:?}; peak RSS {memory} KiB; the spool held {most} bytes at most");
    assert!(memory < (64 + 32) << 10, "{memory} KiB");
    assert!(most < 128 << 20, "the spool held {most} bytes");

    let started = Instant::now();
    let mut file = File::open(mount.path().join("film")).unwrap();
    let mut block = vec![1; 1 << 20];
    let mut read = 0;
    loop {
        let length = file.read(&mut block).unwrap();
        if length == 0 {
            break;
        }
        assert!(block[..length] == zeros[..length]);
        read += length as u64;
    }
    let memory = mount.peak_memory();
    eprintln!("read in {:?}; peak RSS {memory} KiB", started.elapsed());
    assert_eq!(read, SIZE);
    assert!(memory < (64 + 32) << 10, "{memory} KiB");
}

impl Scripted {
    fn received(&self) -> u64 {
        self.server.counters().now().bytes_received
    }

    fn names_there(&self) -> Vec<String> {
        let entries = fs::read_dir(self.server.root()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[track_caller]
    fn wait(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        eventually_within(PATIENCE, what, || condition(self));
    }
}

/// One test at a time: a process that another test starts has copies of the files that are open here, and closes them. Closing
/// a copy asks for what was written so far to be confirmed.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the unnamed files in a spool folder take on the disk.
fn spooled(pid: u32, folder: &Path) -> u64 {
    let folder = folder.to_string_lossy().into_owned();
    let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let ours =
        files.filter(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().starts_with(&folder)));
    ours.filter_map(|fd| fs::metadata(fd.path()).ok())
        .map(|found| std::os::unix::fs::MetadataExt::blocks(&found) * 512)
        .sum()
}

/// No two pieces of it are alike.
fn content(size: u32) -> Vec<u8> {
    let mut content = Vec::with_capacity(size as usize + 1000);
    for n in 0..=size / 1000 {
        content.extend(n.to_le_bytes().repeat(250));
    }
    content.truncate(size as usize);
    content
}

const OLD: &[u8] = b"the old content";
const SMALL: &[&str] = &["stream_from=64K", "spool_size=1M"];

const PATIENCE: Duration = Duration::from_secs(30);
