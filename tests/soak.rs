//! The soak: mixed work by several programs while faults come by chance, every byte checked against a model, and at the end as
//! many threads, descriptors and sockets, and as much memory, as at the start.
//!
//! Each worker has a folder of its own and knows what is in every file of it. What a call acknowledged must be there; a file whose
//! call failed may be as before or as it was meant to be (a late success is none of our business: NFS's `soft`), so it is
//! put aside, and looked at when everything has come to rest. Everything is made from a seed.
//!
//! A minute by default. `FTPFS_SOAK_SECONDS=3600` makes it an hour, `FTPFS_SOAK_SEED` another one.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use harness::files::{close, store};
use harness::patience::eventually;
use harness::scratch::Scratch;
use harness::scripted::{self, DataEnd, Fault, Rule, Then};
use harness::{Kind, Mount, Relay, Server};
use nix::sys::signal::Signal;

#[test]
fn mixed_work_under_faults_of_every_kind_loses_nothing_and_leaves_nothing_behind() {
    let scratch = Scratch::new("served");
    let server = scripted::Server::start(scratch.path()).unwrap();
    let relay = Relay::new(&server);
    soak(
        "scripted",
        &relay,
        scratch.path(),
        |dice| scripted_fault(dice, &server, &relay),
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
        |dice| real_fault(dice, &mut server.lock().unwrap(), &relay),
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
         lost: 0; the longest call took {} ms; before {before:?}, after {after:?}",
        tally.faults.load(Ordering::Relaxed),
        tally.compared.load(Ordering::Relaxed),
        tally.longest.load(Ordering::Relaxed),
    );
    assert!(operations > 20 && errors < operations / 2, "hardly anything was done");
    assert!(tally.longest.load(Ordering::Relaxed) < 60_000, "a call took ten times the time-out");
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

/// A program that works in a folder of its own.
struct Worker<'t> {
    folder: PathBuf,
    dice: Dice,
    tally: &'t Tally,
    known: BTreeMap<String, Vec<u8>>,
    doubtful: Vec<Doubt>,
    names: u64,
}

/// A file whose call failed.
enum Doubt {
    /// As before (none: no such file) or as it should be.
    Replaced {
        name: String,
        old: Option<Vec<u8>>,
        new: Vec<u8>,
    },
    /// As before, with nothing, all or the beginning of what was to be added.
    Grown {
        name: String,
        old: Vec<u8>,
        more: Vec<u8>,
    },
    Removed {
        name: String,
        old: Vec<u8>,
    },
    Moved {
        from: String,
        to: String,
        content: Vec<u8>,
    },
}

impl Doubt {
    fn check(&self, root: &Path) {
        let read = |name: &String| fs::read(root.join(name)).ok();
        match self {
            Self::Replaced { name, old: Some(old), new } => {
                let found = read(name);
                assert!(
                    found.as_ref().is_some_and(|found| found == old || found == new),
                    "LOST: {name}: neither the {} bytes of before nor the {} new ones: {:?}",
                    old.len(),
                    new.len(),
                    found.map(|found| found.len())
                );
            }
            // A new file may have come in part: the program was told that it failed.
            Self::Replaced { name, old: None, new } => {
                let found = read(name).unwrap_or_default();
                assert!(new.starts_with(&found), "LOST: {name}: something that nobody wrote");
            }
            Self::Grown { name, old, more } => {
                let found = read(name).unwrap_or_default();
                let whole = [&old[..], more].concat();
                assert!(
                    found.starts_with(old) && whole.starts_with(&found),
                    "LOST: {name}: {} bytes",
                    found.len()
                );
            }
            Self::Removed { name, old } => {
                assert!(read(name).is_none_or(|found| found == *old), "LOST: {name}");
            }
            Self::Moved { from, to, content } => {
                let (at_from, at_to) = (read(from), read(to));
                let found = at_from.is_some() as u8 + at_to.is_some() as u8;
                let right = at_from.or(at_to).is_some_and(|found| found == *content);
                assert!(found == 1 && right, "LOST: {from} -> {to}: {found} of them are there");
            }
        }
    }
}

impl<'t> Worker<'t> {
    fn new(folder: PathBuf, seed: u64, tally: &'t Tally) -> Self {
        let dice = Dice::new(seed);
        Self { folder, dice, tally, known: BTreeMap::new(), doubtful: Vec::new(), names: 0 }
    }

    fn step(&mut self) {
        let started = Instant::now();
        let outcome = self.act();
        self.tally.longest.fetch_max(started.elapsed().as_millis() as u64, Ordering::Relaxed);
        self.tally.operations.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = outcome {
            self.tally.errors.fetch_add(1, Ordering::Relaxed);
            // What is there must not be said not to be.
            assert_ne!(
                error.kind(),
                io::ErrorKind::NotFound,
                "LOST: a file that is there was not found: {error}"
            );
        }
    }

    fn act(&mut self) -> io::Result<()> {
        let roll = self.dice.below(100);
        let Some(name) = self.any() else { return self.make() };
        let at = self.folder.join(&name);
        let old = self.known[&name].clone();
        match roll {
            0..20 if self.known.len() < FILES => self.make(),
            0..25 => {
                let new = self.content();
                self.known.remove(&name);
                match store(&at, &new) {
                    Ok(()) => drop(self.known.insert(name, new)),
                    Err(error) => {
                        self.doubtful.push(Doubt::Replaced { name, old: Some(old), new });
                        return Err(error);
                    }
                }
                Ok(())
            }
            25..40 => {
                let more = self.content();
                self.known.remove(&name);
                let added = OpenOptions::new().append(true).open(&at).and_then(|mut file| {
                    file.write_all(&more)?;
                    close(file)
                });
                match added {
                    Ok(()) => drop(self.known.insert(name, [old, more].concat())),
                    Err(error) => {
                        self.doubtful.push(Doubt::Grown { name, old, more });
                        return Err(error);
                    }
                }
                Ok(())
            }
            40..50 => {
                let patch = self.content();
                let offset = self.dice.below(old.len() as u64 + 1) as usize;
                let mut new = old.clone();
                new.resize(new.len().max(offset + patch.len()), 0);
                new[offset..offset + patch.len()].copy_from_slice(&patch);
                self.known.remove(&name);
                let patched = OpenOptions::new().write(true).open(&at).and_then(|file| {
                    file.write_all_at(&patch, offset as u64)?;
                    file.sync_all()?;
                    close(file)
                });
                match patched {
                    Ok(()) => drop(self.known.insert(name, new)),
                    Err(error) => {
                        self.doubtful.push(Doubt::Replaced { name, old: Some(old), new });
                        return Err(error);
                    }
                }
                Ok(())
            }
            50..58 => {
                let to = self.fresh();
                self.known.remove(&name);
                match fs::rename(&at, self.folder.join(&to)) {
                    Ok(()) => drop(self.known.insert(to, old)),
                    Err(error) => {
                        self.doubtful.push(Doubt::Moved { from: name, to, content: old });
                        return Err(error);
                    }
                }
                Ok(())
            }
            58..64 => {
                self.known.remove(&name);
                let removed = fs::remove_file(&at);
                if removed.is_err() {
                    self.doubtful.push(Doubt::Removed { name, old });
                }
                removed
            }
            64..72 => {
                let mut names = Vec::new();
                for entry in fs::read_dir(&self.folder)? {
                    names.push(entry?.file_name().to_string_lossy().into_owned());
                }
                let missing: Vec<_> = self.known.keys().filter(|name| !names.contains(name)).collect();
                assert!(missing.is_empty(), "LOST from a listing: {missing:?} of {names:?}");
                Ok(())
            }
            72..76 => {
                let name = self.fresh();
                let deep = self.folder.join(name);
                fs::create_dir(&deep)?;
                fs::remove_dir(&deep)
            }
            _ => {
                let found = fs::read(&at)?;
                assert!(found == old, "LOST: {name}: {} bytes instead of {}", found.len(), old.len());
                self.tally.compared.fetch_add(found.len() as u64, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    fn make(&mut self) -> io::Result<()> {
        let (name, new) = (self.fresh(), self.content());
        match store(&self.folder.join(&name), &new) {
            Ok(()) => drop(self.known.insert(name, new)),
            Err(error) => {
                self.doubtful.push(Doubt::Replaced { name, old: None, new });
                return Err(error);
            }
        }
        Ok(())
    }

    fn any(&mut self) -> Option<String> {
        let at = self.dice.below(self.known.len().max(1) as u64) as usize;
        self.known.keys().nth(at).cloned()
    }

    fn fresh(&mut self) -> String {
        self.names += 1;
        format!("f{}", self.names)
    }

    fn content(&mut self) -> Vec<u8> {
        let length = match self.dice.below(10) {
            0 => self.dice.below(2_000_000),
            1..4 => self.dice.below(200_000),
            _ => self.dice.below(5_000),
        };
        let word = self.dice.below(u64::MAX).to_le_bytes();
        word.iter().copied().cycle().take(length as usize).collect()
    }
}

fn scripted_fault(dice: &mut Dice, server: &scripted::Server, relay: &Relay) {
    let verb = ["RETR", "STOR", "APPE", "MLSD", "SIZE", "RNFR", "RNTO", "DELE", "MKD", "RMD", "EPSV", "PASS"]
        [dice.below(12) as usize];
    let transfer = ["RETR", "STOR", "APPE", "MLSD"][dice.below(4) as usize];
    match dice.below(12) {
        0 => server.drop_sessions(),
        1 => relay.cut(),
        2 => dark(dice, relay),
        3 => relay.delay(Duration::from_millis(dice.below(20))),
        4 => server.set_max_sessions(1 + dice.below(4) as usize),
        5 => {
            server.set_max_sessions(1 + dice.below(3) as usize);
            server.drop_sessions();
        }
        6 => {
            server.faults().add(Rule::on(verb).once().act(Fault::Reply("421 Service not available.".into())))
        }
        7 => server.faults().add(Rule::on(verb).once().act(Fault::Close)),
        8 => server.faults().add(Rule::on(verb).once().act(Fault::Done(Then::Close))),
        9 => server.faults().add(Rule::on("*").times(5).act(Fault::Delay(Duration::from_millis(100)))),
        10 => server.faults().add(
            Rule::on(transfer).once().act(Fault::Data {
                after: dice.below(300_000),
                end: [DataEnd::Closed, DataEnd::Reset, DataEnd::Swallowed][dice.below(3) as usize],
                then: [
                    Then::Close,
                    Then::Reply("426 Connection closed.".into()),
                    Then::Reply("451 Local error.".into()),
                ][dice.below(3) as usize]
                    .clone(),
            }),
        ),
        _ => {
            // The server is away for a moment.
            server.set_max_sessions(0);
            server.drop_sessions();
            std::thread::sleep(Duration::from_millis(dice.below(1500)));
            server.set_max_sessions(8);
        }
    }
}

fn real_fault(dice: &mut Dice, server: &mut Server, relay: &Relay) {
    match dice.below(5) {
        0 => {
            server.stop();
            std::thread::sleep(Duration::from_millis(dice.below(1500)));
            server.restart();
        }
        1 | 2 => relay.cut(),
        3 => dark(dice, relay),
        _ => relay.delay(Duration::from_millis(dice.below(10))),
    }
}

fn dark(dice: &mut Dice, relay: &Relay) {
    relay.black_hole();
    // Now and then for longer than anybody waits.
    let long = dice.below(8) == 0;
    std::thread::sleep(Duration::from_millis(if long { 8000 } else { dice.below(1500) }));
    if long {
        relay.cut();
    }
    relay.heal();
}

#[derive(Default)]
struct Tally {
    faults: AtomicU64,
    operations: AtomicU64,
    errors: AtomicU64,
    compared: AtomicU64,
    /// Milliseconds.
    longest: AtomicU64,
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

struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % limit.max(1)
    }
}

const WORKERS: u64 = 6;
/// A worker makes no new file beyond so many.
const FILES: usize = 30;
