//! A user who means harm, or a program gone mad: ten thousand open files, a spool that is full, names and paths as odd and long
//! as the kernel lets them be, folders a hundred deep. Whoever asks too much gets an error; the others notice nothing.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use harness::files::store;
use harness::patience::eventually;
use harness::scratch::Scratch;
use harness::scripted::{Fault, Options, Rule, Server};
use harness::{Mount, shell};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

#[test]
fn ten_thousand_open_files_are_only_memory() {
    let _alone = alone();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(20_000), hard).unwrap();
    let scratch = Scratch::new("served");
    for number in 0..100 {
        fs::write(scratch.path().join(format!("f{number}")), format!("content {number}")).unwrap();
    }
    let server = Server::start(scratch.path()).unwrap();
    // As few descriptors as a daemon gets by default: files that are open in the mount must not cost one each.
    let mount = Mount::through(&["prlimit", "--nofile=256:256"], &server, &[]);
    let before = descriptors(&mount);
    let open: Vec<File> = (0..10_000)
        .map(|number| File::open(mount.path().join(format!("f{}", number % 100))))
        .collect::<io::Result<_>>()
        .unwrap();
    // And some that are written, the small ones of which need no file of the daemon's either.
    let written: Vec<File> = (0..1000)
        .map(|number| {
            let file = File::create(mount.path().join(format!("new{number}"))).unwrap();
            file.write_all_at(format!("new {number}").as_bytes(), 0).unwrap();
            file
        })
        .collect();
    assert!(descriptors(&mount) < before + 64, "{before}, then {}", descriptors(&mount));
    assert!(mount.memory_now() < 200 << 10, "{} KiB", mount.memory_now());
    shell::ok(mount.path(), "ls > /dev/null && cat f5 > /dev/null && mkdir d && rmdir d");
    for (number, file) in open.iter().enumerate().step_by(997) {
        let mut text = vec![0; 20];
        let length = file.read_at(&mut text, 0).unwrap();
        assert_eq!(&text[..length], format!("content {}", number % 100).as_bytes());
    }
    drop(open);
    for file in written {
        nix::unistd::close(file.into_raw_fd()).unwrap();
    }
    assert_eq!(fs::read(scratch.path().join("new999")).unwrap(), b"new 999");
}

#[test]
fn a_file_is_removed_while_its_endless_upload_runs_whoever_still_waits_for_that() {
    let _alone = alone();
    for sessions in [1, 8] {
        let scratch = Scratch::new("served");
        fs::write(scratch.path().join("big"), "ten bytes\n").unwrap();
        fs::write(scratch.path().join("other"), "ten bytes\n").unwrap();
        let options = Options { discards: true, max_sessions: sessions, ..Options::default() };
        let server = Server::start_with(scratch.path(), options).unwrap();
        let mount = Mount::new(&server, &["timeout=10"]);
        let running = || {
            let before = server.counters().now().bytes_received;
            eventually("an upload", || server.counters().now().bytes_received > before + (20 << 20));
        };
        // Killed: nobody waits for it any more.
        let mut grower =
            Command::new("truncate").args(["-s", "1P"]).arg(mount.path().join("big")).spawn().unwrap();
        running();
        grower.kill().unwrap();
        grower.wait().unwrap();
        shell::ok(mount.path(), "rm big && test ! -e big");
        // This one waits in close(). What it has written went the way of its file, as on a local disk.
        let mut grower =
            Command::new("truncate").args(["-s", "1P"]).arg(mount.path().join("other")).spawn().unwrap();
        running();
        shell::ok(mount.path(), "rm other && test ! -e other");
        assert!(grower.wait().unwrap().success());
        eventually("an idle queue", || mount.status(&[]).contains(" 0 jobs for a connection, 0 calls"));
        let left: Vec<_> =
            fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn an_upload_that_made_way_for_a_removal_is_brought_there_when_the_server_does_not_remove() {
    let _alone = alone();
    let scratch = Scratch::new("served");
    fs::write(scratch.path().join("big"), "ten bytes\n").unwrap();
    let server =
        Server::start_with(scratch.path(), Options { discards: true, ..Options::default() }).unwrap();
    // It is open: it would be moved out of sight.
    server.faults().add(Rule::on("RNFR").path("/big").act(Fault::Reply("550 Permission denied.".into())));
    let mount = Mount::new(&server, &[]);
    let mut grower =
        Command::new("truncate").args(["-s", "3G"]).arg(mount.path().join("big")).spawn().unwrap();
    eventually("an upload", || server.counters().now().bytes_received > 20 << 20);
    shell::fails(mount.path(), "rm big");
    assert!(grower.wait().unwrap().success());
    assert_eq!(fs::metadata(scratch.path().join("big")).unwrap().len(), 3 << 30);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    assert!(server.counters().of("STOR") > 1, "it was not under way when it was to be removed");
}

#[test]
fn large_files_that_need_descriptors_run_into_an_error_not_into_a_standstill() {
    let _alone = alone();
    let scratch = Scratch::new("served");
    fs::write(scratch.path().join("good"), "good").unwrap();
    let server = Server::start(scratch.path()).unwrap();
    let mount = Mount::through(&["prlimit", "--nofile=64:64"], &server, &["timeout=2"]);
    let block = vec![1; 1 << 20];
    let mut open = Vec::new();
    let mut refused = 0;
    // A few more than there are descriptors for: each of those waits until its time is over.
    for number in 0..60 {
        let Ok(file) = File::create(mount.path().join(format!("big{number}"))) else {
            refused += 1;
            continue;
        };
        match (0..3).try_for_each(|part| file.write_all_at(&block, part << 20)) {
            Ok(()) => open.push((number, file)),
            Err(_) => refused += 1,
        }
    }
    eprintln!("{} files of 3 MiB are open with 64 descriptors, {refused} were refused", open.len());
    assert!(refused > 0, "the others of the 64 are the program's own");
    // Whoever was not refused gets what was promised.
    for (number, file) in open {
        if nix::unistd::close(file.into_raw_fd()).is_ok() {
            let there = fs::metadata(scratch.path().join(format!("big{number}"))).unwrap().len();
            assert_eq!(there, 3 << 20, "big{number}");
        }
    }
    assert_eq!(fs::read(mount.path().join("good")).unwrap(), b"good");
    store(&mount.path().join("after"), b"after").unwrap();
    assert_eq!(fs::read(scratch.path().join("after")).unwrap(), b"after");
}

#[test]
fn a_full_spool_is_enospc_for_the_writer_and_nothing_for_the_others() {
    let _alone = alone();
    let tiny = Scratch::new("spool");
    let place = tiny.path().join("tiny");
    fs::create_dir(&place).unwrap();
    shell::ok(tiny.path(), "mount -t tmpfs -o size=4m,mode=755 tmpfs tiny");
    let scratch = Scratch::new("served");
    fs::write(scratch.path().join("film"), vec![7; 5_000_000]).unwrap();
    fs::write(scratch.path().join("edited"), vec![7; 100_000]).unwrap();
    let server = Server::start(scratch.path()).unwrap();
    let spool = format!("spool_dir={}", place.display());
    // Without uploads that begin before the end: then the spool has to hold all of it.
    let mount = Mount::new(&server, &[&spool, "shutdown_timeout=5"]);
    let mut greedy = File::create(mount.path().join("greedy")).unwrap();
    let block = vec![1; 100_000];
    // Written backwards, it cannot be sent meanwhile.
    let full = (0..200_u64).rev().find_map(|part| greedy.write_all_at(&block, part * 100_000).err());
    let full = full.expect("20 MB do not fit into 4");
    assert_eq!(full.raw_os_error(), Some(libc::ENOSPC), "{full}");
    // The others.
    assert!(fs::read(mount.path().join("film")).unwrap() == vec![7; 5_000_000]);
    store(&mount.path().join("small"), b"small").unwrap();
    assert_eq!(fs::read(scratch.path().join("small")).unwrap(), b"small");
    shell::ok(mount.path(), "ls > /dev/null && mkdir d && mv small d/ && echo more >> edited");
    assert_eq!(fs::metadata(scratch.path().join("edited")).unwrap().len(), 100_005);
    // The greedy one gives up; then there is room again.
    let _ = greedy.flush();
    fs::remove_file(mount.path().join("greedy")).unwrap();
    let _ = nix::unistd::close(greedy.into_raw_fd());
    store(&mount.path().join("after"), &vec![2; 3_000_000]).unwrap();
    assert!(fs::read(scratch.path().join("after")).unwrap() == vec![2; 3_000_000]);
    drop(mount);
    shell::ok(tiny.path(), "umount tiny");
}

#[test]
fn names_of_every_byte_are_kept_exactly_or_refused() {
    let _alone = alone();
    let scratch = Scratch::new("served");
    let server = Server::start(scratch.path()).unwrap();
    let mut mount = Mount::new(&server, &[]);
    let mut names: Vec<Vec<u8>> =
        (1..=255_u8).filter(|&byte| byte != b'/').map(|byte| vec![b'x', byte, b'y']).collect();
    names.extend((1..=255_u8).filter(|&byte| !b"/.".contains(&byte)).map(|byte| vec![byte]));
    names.push((1..=255_u8).filter(|byte| !b"/\r\n".contains(byte)).collect());
    names.extend([
        b"n".repeat(255),
        "ü".repeat(127).into_bytes(),
        b"...".to_vec(),
        b" ".to_vec(),
        b"-rf".to_vec(),
    ]);
    let mut kept = 0;
    for (number, name) in names.iter().enumerate() {
        let at = mount.path().join(OsString::from_vec(name.clone()));
        let there = scratch.path().join(OsString::from_vec(name.clone()));
        let content = format!("{number}").into_bytes();
        match store(&at, &content) {
            Ok(()) => {
                assert_eq!(fs::read(&there).unwrap(), content, "{}", name.escape_ascii());
                assert_eq!(fs::read(&at).unwrap(), content, "{}", name.escape_ascii());
                kept += 1;
            }
            Err(error) => {
                // 0xFF is Telnet's escape, which an unknown server may or may not take out; line ends would end the command.
                let escape = name.contains(&255);
                let line_end = name.iter().any(|byte| b"\r\n".contains(byte));
                assert!(line_end || escape, "{}: {error}", name.escape_ascii());
                if line_end {
                    assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{}", name.escape_ascii());
                }
                assert!(!there.exists());
            }
        }
    }
    let refused = names.iter().filter(|name| name.iter().any(|byte| b"\r\n\xff".contains(byte))).count();
    assert!(kept >= names.len() - refused, "{kept} of {}", names.len());
    mount.remount(&server, &[]);
    let mut listed: Vec<Vec<u8>> =
        fs::read_dir(mount.path()).unwrap().map(|entry| entry.unwrap().file_name().into_vec()).collect();
    let mut there: Vec<Vec<u8>> =
        fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().file_name().into_vec()).collect();
    listed.sort();
    there.sort();
    assert!(listed == there, "{} listed, {} there", listed.len(), there.len());
}

#[test]
fn paths_of_4096_bytes_and_folders_a_hundred_deep_work_or_are_refused() {
    let _alone = alone();
    let scratch = Scratch::new("served");
    let server = Server::start(scratch.path()).unwrap();
    let mount = Mount::new(&server, &[]);
    // A hundred levels.
    let deep: PathBuf = (0..100).map(|level| format!("level{level}")).collect();
    fs::create_dir_all(mount.path().join(&deep)).unwrap();
    store(&mount.path().join(&deep).join("file"), b"deep").unwrap();
    assert_eq!(fs::read(scratch.path().join(&deep).join("file")).unwrap(), b"deep");
    shell::ok(mount.path(), "test $(find . -type f | wc -l) = 1 && rm -r level0 && test -z \"$(ls)\"");

    // As long as a path may be, and longer: with openat() there is no end to it.
    let mut at = std::os::fd::OwnedFd::from(File::open(mount.path()).unwrap());
    let name = "n".repeat(250);
    let mut length = 0;
    let mut refused = None;
    for _ in 0..40 {
        match nix::sys::stat::mkdirat(&at, name.as_str(), nix::sys::stat::Mode::S_IRWXU) {
            Ok(()) => length += 251,
            Err(errno) => {
                refused = Some(errno);
                break;
            }
        }
        let flags = nix::fcntl::OFlag::O_DIRECTORY;
        at = nix::fcntl::openat(&at, name.as_str(), flags, nix::sys::stat::Mode::empty()).unwrap();
    }
    // On the server a path may be 4,096 bytes long, the place of its own folder counted in.
    eprintln!("{length} bytes deep, then {refused:?}");
    let errno = refused.expect("there is an end to it");
    assert!([nix::errno::Errno::ENAMETOOLONG, nix::errno::Errno::EIO].contains(&errno), "{errno}");
    assert!(length > 3000);
    assert!(at.as_raw_fd() >= 0);
    shell::ok(mount.path(), "ls > /dev/null && rm -r * && test -z \"$(ls)\"");
}

#[test]
fn a_mount_under_a_memory_limit_reads_and_writes_more_than_it_has() {
    let _alone = alone();
    let scratch = Scratch::new("served");
    let film: Vec<u8> = (0..8_000_000_u32).flat_map(|n| n.to_le_bytes()).collect();
    fs::write(scratch.path().join("film"), &film).unwrap();
    let server = Server::start_with(scratch.path(), Options::default()).unwrap();
    // Data segment, stacks and heap; 32 MB are moved several times at once through a cache of 8.
    let mount = Mount::through(&["prlimit", "--data=150000000"], &server, &["cache_size=8M"]);
    shell::ok(
        mount.path(),
        "cat film | cmp - film && cp film copy & cat film > /dev/null & dd if=film of=/dev/null bs=5000 status=none & wait",
    );
    assert!(fs::read(scratch.path().join("copy")).unwrap() == film);
    assert!(mount.peak_memory() < 120 << 10, "{} KiB", mount.peak_memory());
}

fn descriptors(mount: &Mount) -> usize {
    fs::read_dir(format!("/proc/{}/fd", mount.pid())).unwrap().count()
}

/// One test at a time: a test that starts something closes, in the child, copies of the files that another one has open,
/// and a close() waits for the server.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
