//! The model: random file operations on a mount and on a plain local folder must do the same, step by step.
//!
//! A round is a list of operations made from a seed. Three threads run one round each, in folders of their own, at the same time
//! on one mount. Each operation is done in the mount and in a local folder, and what a program would see of it (bytes, sizes,
//! names, modes, times, error numbers) is compared at once; all of both trees is compared every so often; and at the end, when everything is closed, the
//! local folder is compared with what the server really has.
//!
//! A round that fails is run again alone with ever fewer operations, and the shortest list that still fails is printed.
//! `FTPFS_MODEL_ROUNDS` makes it longer (the default takes about a minute on each server), `FTPFS_MODEL_SEED` different.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
#[path = "../harness/mod.rs"]
mod harness;

mod side;
mod steps;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use harness::standstill::Guard;
use harness::{Kind, Mounted, Options};
use nix::libc;
use side::{Side, bytes, same_trees, show};
use steps::{NAMES, SLOTS, STEPS, Step, make, told};

#[test]
fn vsftpd_does_what_a_local_folder_does() {
    check(Kind::Vsftpd, &[]);
}

#[test]
fn proftpd_does_what_a_local_folder_does() {
    check(Kind::Proftpd, &[]);
}

#[test]
fn pure_ftpd_does_what_a_local_folder_does() {
    check(Kind::PureFtpd, &[]);
}

#[test]
fn pyftpdlib_does_what_a_local_folder_does() {
    check(Kind::Pyftpdlib, &[]);
}

/// Nothing is believed for longer than one call: every path through the code that asks again.
#[test]
fn a_mount_that_remembers_nothing_does_what_a_local_folder_does() {
    check(Kind::Vsftpd, &["attr_timeout=0", "dir_timeout=0", "negative_timeout=0"]);
}

#[test]
fn writing_in_place_does_what_a_local_folder_does() {
    check(Kind::Proftpd, &["in_place"]);
}

/// Every file is uploaded while it is written, over a spool that holds hardly anything.
#[test]
fn uploading_while_writing_does_what_a_local_folder_does() {
    check(Kind::Vsftpd, STREAMING);
}

/// This one goes on with no upload.
#[test]
fn uploading_while_writing_in_one_piece_does_what_a_local_folder_does() {
    check(Kind::Proftpd, STREAMING);
}

#[test]
fn uploading_while_writing_over_few_sessions_does_what_a_local_folder_does() {
    check(Kind::Pyftpdlib, &["max_conns=1", "stream_from=1000", "spool_size=64K", "patch_from=1000"]);
}

/// Programs go on before the server has what they wrote; at the end it has all of it.
#[test]
fn writing_back_later_does_what_a_local_folder_does() {
    check(Kind::Vsftpd, &["writeback"]);
}

#[test]
fn writing_back_over_one_session_does_what_a_local_folder_does() {
    check(Kind::Proftpd, &["writeback", "max_conns=1", "stream_from=1000", "spool_size=64K"]);
}

fn check(kind: Kind, options: &[&str]) {
    let Some(mut at) = Mounted::new(kind, &Options::default(), options) else { return };
    // As long as it gets on: on a loaded machine, or with many rounds, that is minutes.
    at.mount.may_take(Duration::from_secs(24 * 3600));
    let guard = at.mount.guard(STUCK);
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = number("FTPFS_MODEL_ROUNDS").unwrap_or(ROUNDS);
    let seed = number("FTPFS_MODEL_SEED").unwrap_or(1);
    let alone = options.contains(&"dir_timeout=0");
    for round in 0..rounds {
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (at, guard) = (&at, &guard);
                scope.spawn(move || {
                    let steps = make(seed.wrapping_mul(1_000_003) + round * THREADS + thread, alone);
                    if let Err(failure) = play(at, guard, &steps) {
                        let label = format!("{kind:?}, seed {seed}, round {round}, thread {thread}");
                        explain(at, guard, &label, steps, failure);
                    }
                });
            }
        });
    }
    eprintln!("{kind:?} {options:?}: {} operations agreed", rounds * THREADS * STEPS as u64);
}

/// Plays a round; says what went wrong, and at which step.
fn play(at: &Mounted, guard: &Guard, steps: &[Step]) -> Result<(), (usize, String)> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let folder = format!("round{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let local = harness::scratch::Scratch::new("model");
    let mut here = Side::new(local.path().join(&folder));
    let mut there = Side::new(at.path(&folder));
    let mut problem = None;
    for (number, step) in steps.iter().enumerate() {
        guard.tick();
        let found = match step {
            Step::CompareAll => same_trees(&here.root, &there.root),
            Step::Behind { name, len, fill } => {
                behind(at, &here, &folder, *name, *len, *fill);
                Ok(())
            }
            step => one(&mut here, &mut there, step),
        };
        if let Err(found) = found {
            problem = Some((number, found));
            break;
        }
    }
    for slot in 0..SLOTS {
        let (ours, theirs) = (here.close(slot), there.close(slot));
        if problem.is_none() && ours.is_err() != theirs.is_err() {
            problem = Some((steps.len(), format!("the last close of slot {slot}: {theirs:?}")));
        }
    }
    if let Some(problem) = problem {
        return Err(problem);
    }
    let end = |what: &str, outcome: Result<(), String>| {
        outcome.map_err(|why| (steps.len(), format!("{what}: {why}")))
    };
    end("in the mount, at the end", same_trees(&here.root, &there.root))?;
    // A file removed while it was open goes from the server soon after its last close.
    let on_server = at.server.root().join(&folder);
    let deadline = Instant::now() + SOON;
    let mut outcome = same_trees(&here.root, &on_server);
    // With writeback, everything does.
    while outcome.is_err() && (Instant::now() < deadline || at.mount.has_journal(deadline + SOON)) {
        std::thread::sleep(Duration::from_millis(20));
        outcome = same_trees(&here.root, &on_server);
    }
    end("on the server", outcome)?;
    end("rm -r", fs::remove_dir_all(&there.root).map_err(|error| error.to_string()))?;
    end("rm -r", if on_server.exists() { Err("the folder is still there".into()) } else { Ok(()) })
}

/// The same bytes in both folders, past the mount. Not for open files: what they read then is not promised.
fn behind(at: &Mounted, here: &Side, folder: &str, name: usize, len: usize, fill: u8) {
    let path = here.path(name);
    let old = fs::metadata(&path).ok();
    let is_open = |old: &fs::Metadata| {
        let mut open = here.slots.iter().flatten().map(|file| file.metadata().unwrap());
        open.any(|file| file.ino() == old.ino())
    };
    if !path.parent().is_some_and(Path::is_dir)
        || old.as_ref().is_some_and(|old| old.is_dir() || is_open(old))
    {
        return;
    }
    // A new content of the same size in the same second cannot be seen from afar.
    let len = len + usize::from(old.is_some_and(|old| old.len() == len as u64));
    let content = bytes(len, fill);
    fs::write(&path, &content).unwrap();
    at.server.put(&format!("{folder}/{}", NAMES[name]), &content);
}

fn one(here: &mut Side, there: &mut Side, step: &Step) -> Result<(), String> {
    match step {
        // A time that only changes because nothing was cut off is not worth an upload: not compared.
        Step::SetLen { slot, len } if here.size(*slot) == Some(*len) => return Ok(()),
        Step::Truncate { name, len }
            if fs::metadata(here.path(*name)).is_ok_and(|found| found.len() == *len) =>
        {
            return Ok(());
        }
        // A file that was removed while it is open is still in its folder on the server, under a hidden name.
        Step::RemoveFolder { .. } | Step::Rename { .. } => {
            for slot in 0..SLOTS {
                if here.slots[slot].as_ref().is_some_and(|file| file.metadata().unwrap().nlink() == 0) {
                    here.close(slot).map_err(|error| error.to_string())?;
                    there.close(slot).map_err(|error| format!("closing a removed file: {error}"))?;
                }
            }
        }
        _ => {}
    }
    let (ours, theirs) = (here.run(step), there.run(step));
    let agree = match (&ours, &theirs) {
        (Ok(ours), Ok(theirs)) => ours == theirs,
        (Err(ours), Err(theirs)) => same_error(ours, theirs),
        _ => false,
    };
    if agree { Ok(()) } else { Err(format!("here {}, in the mount {}", show(&ours), show(&theirs))) }
}

fn same_error(ours: &io::Error, theirs: &io::Error) -> bool {
    let number = |error: &io::Error| match error.raw_os_error() {
        // Both are allowed for a folder that is not empty.
        Some(libc::EEXIST) => Some(libc::ENOTEMPTY),
        number => number,
    };
    number(ours) == number(theirs)
}

/// Prints the shortest list found that still fails, and panics.
fn explain(at: &Mounted, guard: &Guard, label: &str, mut steps: Vec<Step>, failure: (usize, String)) -> ! {
    let original = failure.clone();
    eprintln!("{label}: step {}: {}", failure.0, failure.1);
    let started = Instant::now();
    steps.truncate(failure.0 + 1);
    let mut shown = failure;
    let mut budget = REPLAYS;
    let mut chunk = steps.len().div_ceil(2);
    while chunk > 0 && budget > 0 && started.elapsed() < SHORTENED_WITHIN {
        let mut from = 0;
        while from < steps.len() && budget > 0 && started.elapsed() < SHORTENED_WITHIN {
            let mut fewer = steps.clone();
            fewer.drain(from..(from + chunk).min(steps.len()));
            budget -= 1;
            match play(at, guard, &fewer) {
                Err(failure) => {
                    fewer.truncate(failure.0 + 1);
                    (steps, shown) = (fewer, failure);
                }
                Ok(()) => from += chunk,
            }
        }
        chunk = if chunk == 1 { 0 } else { chunk.div_ceil(2) };
    }
    let list: Vec<String> =
        steps.iter().enumerate().map(|(i, step)| format!("  {i}: {}", told(step))).collect();
    panic!(
        "{label}\nat step {}: {}\nshortest:\n{}\nat step {}: {}",
        original.0,
        original.1,
        list.join("\n"),
        shown.0,
        shown.1
    );
}

const THREADS: u64 = 3;
/// Where nothing else runs it is a moment.
const SOON: Duration = Duration::from_secs(60);
/// What a step, and the comparison at the end of a round, may take at the most.
const STUCK: Duration = Duration::from_secs(180);
const STREAMING: &[&str] = &["stream_from=1000", "spool_size=64K", "patch_from=1000"];
const ROUNDS: u64 = 25;
/// How often a failed round is tried again to make it shorter.
const REPLAYS: u32 = 250;
/// It is only a convenience: some failures take long to show.
const SHORTENED_WITHIN: Duration = Duration::from_secs(30);
