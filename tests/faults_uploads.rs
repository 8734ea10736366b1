//! Uploads on bad days: what close() and fsync() call a success is on the server, byte for byte. Everything else is an error within
//! the time-out; then the server has the old content or the new, and what it lacks is kept (`ftpfs recover`).

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::Command;
use std::time::Duration;

use harness::files::{close, content, store};
use harness::patience::{LONGEST, at_once, eventually, within};
use harness::scripted::{DataEnd, Fault, Options, Rule, Then};
use harness::{Scripted, fetch};
use nix::libc;

#[test]
fn an_upload_that_breaks_once_is_done_again() {
    let broken = |after, end, then| Fault::Data { after, end, then };
    for fault in [
        Fault::Close,
        broken(1000, DataEnd::Reset, Then::reply("426 Connection closed.")),
        broken(1000, DataEnd::Closed, Then::Close),
        broken(u64::MAX, DataEnd::Closed, Then::Close),
        broken(1000, DataEnd::Swallowed, Then::confirmed()),
    ] {
        let at = Scripted::patient();
        at.server.faults().add(Rule::on("STOR").once().act(fault.clone()));
        within(LONGEST, || store(&at.path("new"), &content())).unwrap_or_else(|e| panic!("{fault:?}: {e}"));
        assert!(at.holds("new", &content()), "{fault:?}");
    }
}

#[test]
fn a_full_disk_and_a_quota_have_their_own_numbers() {
    for (text, errno) in
        [("452 Insufficient storage space.", libc::ENOSPC), ("552 Quota exceeded.", libc::EDQUOT)]
    {
        for fault in [
            Fault::Reply(text.into()),
            Fault::Data { after: 1000, end: DataEnd::Reset, then: Then::reply(text) },
            Fault::Data { after: u64::MAX, end: DataEnd::Closed, then: Then::reply(text) },
        ] {
            let at = Scripted::patient();
            at.server.faults().add(Rule::on("STOR").act(fault.clone()));
            let error = within(LONGEST, || store(&at.path("new"), &content())).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno), "{fault:?}");
        }
    }
}

#[test]
fn a_rename_that_is_refused_is_an_error_and_loses_nothing() {
    for verb in ["RNFR", "RNTO"] {
        for fault in [Fault::Reply("550 Permission denied.".into()), Fault::Close, Fault::Silent] {
            let at = Scripted::impatient();
            at.put("a", b"a");
            at.put("b", b"b");
            at.server.faults().add(Rule::on(verb).act(fault.clone()));
            assert!(within(LONGEST, || fs::rename(at.path("a"), at.path("b"))).is_err(), "{verb} {fault:?}");
            assert!(at.holds("a", b"a") && at.holds("b", b"b"), "{verb} {fault:?}");
            // Saving over a file may use a rename too.
            let saved = within(LONGEST, || store(&at.path("b"), b"new"));
            let found = fs::read(at.server.root().join("b"));
            let whole = found.as_ref().is_ok_and(|found| found == b"new" || saved.is_err() && found == b"b");
            assert!(whole, "{verb} {fault:?}: close() said {saved:?}, the server has {found:?}");
        }
    }
}

#[test]
fn a_confirmation_that_was_lost_does_not_append_twice() {
    for then in [Then::Close, Then::reply("426 Connection closed."), Then::Silent] {
        let at = Scripted::impatient();
        at.put("log", b"first\n");
        let fault = Fault::Data { after: u64::MAX, end: DataEnd::Closed, then: then.clone() };
        at.server.faults().add(Rule::on("APPE").once().act(fault.clone()));
        at.server.faults().add(Rule::on("STOR").once().act(fault));
        let appended = within(LONGEST, || {
            let mut file = OpenOptions::new().append(true).open(at.path("log"))?;
            file.write_all(b"second\n")?;
            close(file)
        });
        let found = fs::read(at.server.root().join("log")).unwrap();
        assert!(
            found == b"first\nsecond\n" || appended.is_err() && found == b"first\n",
            "{then:?}: {found:?}"
        );
    }
}

/// Every kind of upload under every fault. `FTPFS_FAULTS=all` ends each by close() and by fsync(), otherwise they take turns.
mod matrix {
    use super::*;

    #[test]
    fn new_files() {
        play(Upload::New);
    }

    #[test]
    fn overwritten_files() {
        play(Upload::Overwrite);
    }

    #[test]
    fn appended_files() {
        play(Upload::Append);
    }

    #[test]
    fn patched_files() {
        play(Upload::Patch);
    }

    #[test]
    fn files_that_are_uploaded_while_they_are_written() {
        play(Upload::Big);
    }
}

/// What an upload does to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upload {
    New,
    Overwrite,
    Append,
    Patch,
    /// Uploaded while it is written.
    Big,
}

fn play(kind: Upload) {
    let all = std::env::var("FTPFS_FAULTS").is_ok_and(|which| which == "all");
    let more = Fault::Data { after: 60_001, end: DataEnd::Swallowed, then: Then::confirmed() };
    let in_the_clear = bad_uploads().into_iter().chain([more]).map(|fault| (fault, false));
    let faults = in_the_clear.chain(cuts().into_iter().map(|fault| (fault, true)));
    let hows = [How::Close, How::Fsync];
    let cases = faults.enumerate().flat_map(|(number, (fault, is_tls))| {
        let hows = hows.into_iter().enumerate().filter(move |(which, _)| all || number % 2 == *which);
        hows.map(move |(_, how)| (fault.clone(), is_tls, how))
    });
    at_once(8, cases.collect(), |(fault, is_tls, how)| check(kind, *how, fault, *is_tls));
}

fn check(kind: Upload, how: How, fault: &Fault, is_tls: bool) {
    let mut mount_options = ["timeout=1", "shutdown_timeout=1", "patch_from=1K"].map(str::to_owned).to_vec();
    if kind == Upload::Big {
        mount_options.extend(["stream_from=16K", "spool_size=64K"].map(str::to_owned));
    }
    let mut options = Options::default();
    if is_tls {
        let (certificate, key) = fetch::certificate().unwrap();
        mount_options.push(format!("cacert={}", certificate.display()));
        options.tls = Some((certificate, key));
    }
    let mount_options: Vec<&str> = mount_options.iter().map(String::as_str).collect();
    let at = Scripted::with(options, &mount_options);
    let strike = || {
        for verb in ["STOR", "APPE"] {
            at.server.faults().add(Rule::on(verb).path("f").act(fault.clone()));
        }
    };
    let old = bytes(1, 90_000);
    if kind != Upload::New {
        at.put("f", &old);
    }
    if kind == Upload::Patch {
        // The first change makes the server prove that it keeps the rest. On a loaded machine a time-out of a second is short.
        eventually("a first change", || write(&at, "r+", 20, &bytes(2, 10), How::Close) == Some(true));
    }
    strike();
    let outcome = match kind {
        Upload::New => write(&at, "w", 0, &bytes(2, 400_003), how),
        Upload::Overwrite => write(&at, "w", 0, &bytes(2, 9_000), how),
        Upload::Big => write(&at, "w", 0, &bytes(2, 700_000), how),
        Upload::Append => write(&at, "a", 0, &bytes(2, 70_000), how),
        Upload::Patch => write(&at, "r+", 40_000, &bytes(2, 20_000), how),
    };
    let Some(is_success) = outcome else {
        return eprintln!("{how:?} of {kind:?} under {fault:?}: not even opened");
    };
    let new = match kind {
        Upload::New => bytes(2, 400_003),
        Upload::Overwrite => bytes(2, 9_000),
        Upload::Big => bytes(2, 700_000),
        Upload::Append => [old.clone(), bytes(2, 70_000)].concat(),
        Upload::Patch => {
            let mut new = old.clone();
            new[20..30].copy_from_slice(&bytes(2, 10));
            new[40_000..60_000].copy_from_slice(&bytes(2, 20_000));
            new
        }
    };
    let found = fs::read(at.server.root().join("f"));
    if is_success {
        assert!(found.is_ok_and(|found| found == new), "{how:?} of {kind:?} lied about {fault:?}");
        return;
    }
    let is_whole = match (kind, &found) {
        (Upload::New, _) => true,
        (Upload::Overwrite | Upload::Big, Ok(found)) => *found == old || *found == new,
        (Upload::Append, Ok(found)) => found.starts_with(&old) && new.starts_with(found),
        // What a disk may have after a crash: each byte is an old or a new one, and none is missing.
        (Upload::Patch, Ok(found)) => {
            found.len() == new.len()
                && found.iter().zip(old.iter().zip(&new)).all(|(f, (o, n))| f == o || f == n)
        }
        (_, Err(_)) => false,
    };
    assert!(is_whole, "{how:?} of {kind:?} destroyed it: {fault:?}");
    // Nothing that a program was told of is lost; of what is uploaded while it is written the program still has the rest.
    let part = match kind {
        Upload::New | Upload::Overwrite => 0..new.len(),
        Upload::Append => old.len()..new.len(),
        Upload::Patch => 40_000..60_000,
        Upload::Big => return,
    };
    let is_kept = || {
        let Ok(kept) = fs::read_dir(at.mount.spool().join("unsent")) else { return false };
        kept.flatten().any(|entry| {
            fs::read(entry.path()).is_ok_and(|kept| kept.get(part.clone()) == Some(&new[part.clone()]))
        })
    };
    let is_there = || fs::read(at.server.root().join("f")).is_ok_and(|found| found == new);
    assert!(is_kept() || is_there(), "{how:?} of {kind:?}: nobody has it: {fault:?}\n{}", at.mount.log());
}

/// When a program learns that its bytes are safe.
#[derive(Clone, Copy, Debug)]
enum How {
    Close,
    Fsync,
}

/// Writes to the file in a process of its own: in this one others are started meanwhile, which close copies of what is open here, and
/// so have it uploaded. Whether all of it was a success, in bounded time; none when it could not even be opened.
fn write(at: &Scripted, mode: &str, offset: u64, bytes: &[u8], how: How) -> Option<bool> {
    const SCRIPT: &str = "
import os, sys, time
name, mode, offset, how, source = sys.argv[1:]
data = open(source, 'rb').read()
try:
    file = open(name, mode + 'b', buffering=0)
except OSError:
    sys.exit(3)
file.seek(int(offset), os.SEEK_END if mode == 'a' else os.SEEK_SET)
began = time.monotonic()
try:
    while data:
        data = data[file.write(data):]
    os.fsync(file.fileno()) if how == 'Fsync' else file.close()
    failed = 0
except OSError:
    failed = 1
print(time.monotonic() - began, flush=True)
os._exit(failed)
";
    let source = at.mount.spool().with_file_name("in");
    fs::write(&source, bytes).unwrap();
    let mut python = Command::new("python3");
    python
        .args(["-c", SCRIPT])
        .arg(at.path("f"))
        .args([mode, &offset.to_string(), &format!("{how:?}")])
        .arg(source);
    let output = python.output().unwrap();
    if output.status.code() == Some(3) {
        return None;
    }
    let told = String::from_utf8_lossy(&output.stdout);
    let took = Duration::from_secs_f64(told.trim().parse().unwrap_or_else(|_| panic!("{output:?}")));
    // Tried while it is written, and once more at close(): twice the longest wait for a reason.
    assert!(took < 2 * LONGEST, "it took {took:?}");
    Some(output.status.success())
}

/// Every eight bytes are different ones.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at / 8 * 31 + at * 7 + seed * 131) as u8).map(|byte| byte.max(1)).collect()
}

fn bad_uploads() -> Vec<Fault> {
    let data = |after, end, then| Fault::Data { after, end, then };
    vec![
        Fault::Reply("550 Permission denied.".into()),
        Fault::Reply("553 Could not create file.".into()),
        Fault::Reply("452 Insufficient storage space.".into()),
        Fault::Reply("226 Transfer complete.".into()),
        Fault::Close,
        Fault::Silent,
        Fault::NoData(Then::reply("425 Cannot open data connection.")),
        Fault::NoData(Then::confirmed()),
        Fault::NoData(Then::Silent),
        data(0, DataEnd::Closed, Then::confirmed()),
        data(1000, DataEnd::Closed, Then::confirmed()),
        data(1000, DataEnd::Swallowed, Then::confirmed()),
        data(1000, DataEnd::Reset, Then::confirmed()),
        data(1000, DataEnd::Reset, Then::reply("426 Connection closed.")),
        data(1000, DataEnd::Reset, Then::reply("451 Error writing.")),
        data(1000, DataEnd::Swallowed, Then::reply("452 No space.")),
        data(1000, DataEnd::Reset, Then::Close),
        data(1000, DataEnd::Reset, Then::Silent),
        data(1000, DataEnd::Stalled, Then::Silent),
        data(u64::MAX, DataEnd::Closed, Then::Silent),
        data(u64::MAX, DataEnd::Closed, Then::Close),
        data(u64::MAX, DataEnd::Closed, Then::reply("426 Connection closed.")),
        data(u64::MAX, DataEnd::Closed, Then::reply("451 Error writing.")),
        data(u64::MAX, DataEnd::Closed, Then::reply("552 Quota exceeded.")),
        Fault::Done(Then::reply("550 Permission denied.")),
    ]
}

/// Inside TLS: somebody in between ends the data or the control connection, and nobody says close_notify.
fn cuts() -> Vec<Fault> {
    let data = |after, end, then| Fault::Data { after, end, then };
    let mut faults = Vec::new();
    for after in [0, 5_000, u64::MAX] {
        for then in [
            Then::confirmed(),
            Then::reply("426 Connection closed."),
            Then::reply("451 Error writing."),
            Then::Cut,
        ] {
            faults.push(data(after, DataEnd::Cut, then));
        }
    }
    // The confirmation itself.
    faults.push(data(u64::MAX, DataEnd::Closed, Then::Cut));
    faults.push(data(u64::MAX, DataEnd::Closed, Then::Close));
    faults.push(data(5_000, DataEnd::Closed, Then::confirmed()));
    faults.push(data(5_000, DataEnd::Reset, Then::Cut));
    faults.push(Fault::Done(Then::Cut));
    faults
}
