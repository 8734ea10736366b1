//! The soak: mixed work by several programs while faults come by chance, every byte checked against a model, and at the end as
//! many threads, descriptors and sockets, and as much memory, as at the start.
//!
//! Each worker has a folder of its own and knows what is in every file of it. What a call acknowledged must be there; a file whose
//! call failed may be as before or as it was meant to be (a late success is none of our business: NFS's `soft`), so it is
//! put aside, and looked at when everything has come to rest. Everything is made from a seed.
//!
//! A minute by default. `FTPFS_SOAK_SECONDS=3600` makes it an hour, `FTPFS_SOAK_SEED` another one.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
#[path = "../harness/mod.rs"]
mod harness;

mod calls;
mod dice;
mod faults;
mod worker;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use calls::Tally;
use dice::Dice;
use harness::patience::eventually;
use harness::scratch::Scratch;
use harness::standstill::describe;
use harness::{Kind, Mount, Relay, Server, program, scripted};
use nix::sys::signal::Signal;
use worker::{Doubt, Worker};

#[test]
fn mixed_work_under_faults_of_every_kind_loses_nothing_and_leaves_nothing_behind() {
    let scratch = Scratch::new("served");
    let server = scripted::Server::start(scratch.path()).unwrap();
    let relay = Relay::new(&server);
    soak(
        "scripted",
        &relay,
        scratch.path(),
        |dice| faults::scripted_fault(dice, &server, &relay),
        || {
            server.faults().clear();
            server.set_max_sessions(64);
            mend(&relay);
        },
    );
}

#[test]
fn mixed_work_on_a_server_that_is_killed_again_and_again_loses_nothing() {
    let Some(server) = Server::start(Kind::Vsftpd) else { return };
    let relay = Relay::new(&server);
    let root = server.root().to_path_buf();
    let server = std::sync::Mutex::new(server);
    soak(
        "vsftpd",
        &relay,
        &root,
        |dice| faults::real_fault(dice, &mut server.lock().unwrap(), &relay),
        || mend(&relay),
    );
}

fn mend(relay: &Relay) {
    relay.delay(Duration::ZERO);
    relay.heal();
}

fn soak(label: &str, relay: &Relay, root: &Path, fault: impl Fn(&mut Dice) + Sync, mend: impl Fn()) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    // Both tests run at the same time.
    let time = Duration::from_secs(number("FTPFS_SOAK_SECONDS").unwrap_or(60) * 3 / 4);
    let seed = number("FTPFS_SOAK_SEED").unwrap_or(1);
    let mut mount =
        Mount::new(relay, &["timeout=6", "connect_timeout=3", "cache_size=8M", "shutdown_timeout=5"]);
    mount.may_take(time * 2 + Duration::from_secs(300));
    let tally = Tally::default();
    // What the first work makes (threads, buffers, connections) is there before it is measured.
    work(mount.path(), root, seed ^ 0xABCD, "warm", Duration::from_secs(3), &tally, |_| {
        std::thread::sleep(Duration::from_millis(50));
    });
    let before = at_rest(&mount);
    let doubtful = work(mount.path(), root, seed, "work", time, &tally, |dice| {
        fault(dice);
        tally.faults.fetch_add(1, Ordering::Relaxed);
        if tally.is_stuck(TOO_LONG) {
            eprintln!("{label}: {}", describe(mount.pid(), &program::path(), mount.path()));
        }
        std::thread::sleep(Duration::from_millis(dice.below(1500)));
    });
    mend();
    // Whatever was under way comes to its end: no table keeps what nobody waits for.
    eventually("an empty queue", || mount.status(&[]).contains(" 0 jobs for a connection, 0 calls"));
    for (folder, files) in &doubtful {
        for doubt in files {
            doubt.check(&root.join(folder));
        }
    }
    let after = at_rest(&mount);
    let (errors, operations) =
        (tally.errors.load(Ordering::Relaxed), tally.operations.load(Ordering::Relaxed));
    eprintln!(
        "{label}, seed {seed}, {time:?}: {} faults; {operations} operations, {errors} of them honest errors; {} bytes compared; \
         lost: 0; before {before:?}, after {after:?}; {}",
        tally.faults.load(Ordering::Relaxed),
        tally.compared.load(Ordering::Relaxed),
        tally.say(),
    );
    assert!(operations > 20 && errors < operations / 2, "hardly anything was done");
    let (longest, confirmed) = tally.longest();
    assert!(longest < TOO_LONG, "a call took much longer than the time-out");
    assert!(confirmed < CONFIRMED_LATE, "a close() took much longer than others have the only session for");
    assert!(after.threads <= before.threads + 2, "threads: {before:?}, {after:?}");
    assert!(after.descriptors <= before.descriptors + 4, "descriptors: {before:?}, {after:?}");
    assert!(after.sockets <= before.sockets + 2, "sockets: {before:?}, {after:?}");
    // What the allocator keeps, and the cache that is full now.
    assert!(after.memory <= before.memory + (32 << 10), "KiB of memory: {before:?}, {after:?}");
    assert!(!mount.log().contains("panicked"), "{}", mount.log());
}

/// Some seconds of work by several programs, while `trouble` comes again and again. Gives the files in doubt, by folder.
fn work(
    point: &Path,
    root: &Path,
    seed: u64,
    name: &str,
    time: Duration,
    tally: &Tally,
    trouble: impl Fn(&mut Dice) + Sync,
) -> Vec<(String, Vec<Doubt>)> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|number| {
                let folder = format!("{name}{number}");
                fs::create_dir(point.join(&folder)).unwrap();
                let stop = &stop;
                scope.spawn(move || {
                    let mut worker = Worker::new(point.join(&folder), seed * 1000 + number, tally);
                    while !stop.load(Ordering::SeqCst) {
                        worker.step();
                    }
                    (folder, worker)
                })
            })
            .collect();
        let end = Instant::now() + time;
        let mut dice = Dice::new(seed);
        // Also when a fault goes wrong: the workers must not go on for ever.
        let _stop = Stop(&stop);
        while Instant::now() < end {
            trouble(&mut dice);
        }
        stop.store(true, Ordering::SeqCst);
        workers
            .into_iter()
            .map(|worker| {
                let (folder, worker) = worker.join().unwrap();
                // What was acknowledged, as the server has it.
                for (name, content) in &worker.known {
                    let found = fs::read(root.join(&folder).join(name));
                    assert!(
                        found.as_ref().is_ok_and(|found| found == content),
                        "LOST: {folder}/{name}: {} bytes acknowledged, {:?} there",
                        content.len(),
                        found.map(|found| found.len())
                    );
                    tally.compared.fetch_add(content.len() as u64, Ordering::Relaxed);
                }
                (folder, worker.doubtful)
            })
            .collect()
    })
}

struct Stop<'s>(&'s AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// What the program holds when it has nothing to do.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// KiB.
    memory: u64,
    threads: usize,
    descriptors: usize,
    sockets: usize,
}

/// Sessions that rest are given back after a while: what is left then.
fn at_rest(mount: &Mount) -> Held {
    // Forgets the caches.
    mount.signal(Signal::SIGHUP);
    let mut least = held(mount);
    let mut since = Instant::now();
    let end = Instant::now() + Duration::from_secs(30);
    // Until nothing has gone for longer than a spare session is kept.
    while since.elapsed() < Duration::from_secs(5) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(100));
        let now = held(mount);
        if now.threads < least.threads || now.sockets < least.sockets {
            since = Instant::now();
        }
        least = now;
    }
    least
}

fn held(mount: &Mount) -> Held {
    let of = |name: &str| format!("/proc/{}/{name}", mount.pid());
    let descriptors: Vec<_> = fs::read_dir(of("fd")).unwrap().flatten().collect();
    let is_socket = |path: PathBuf| {
        fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
    };
    Held {
        memory: mount.memory_now(),
        threads: fs::read_dir(of("task")).unwrap().count(),
        descriptors: descriptors.len(),
        sockets: descriptors.into_iter().filter(|entry| is_socket(entry.path())).count(),
    }
}

const WORKERS: u64 = 6;
/// `timeout=6` is for one question of the kernel's. A call may be several: a look at the path, a page that was read ahead in vain
/// and is asked for once more.
const TOO_LONG: Duration = Duration::from_secs(25);
/// An upload waits in line, is cut again and again, and is told so when nothing comes of it.
const CONFIRMED_LATE: Duration = Duration::from_secs(60);
