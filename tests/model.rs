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
mod harness;

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::IntoRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use harness::{Kind, Mounted, Options};

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
    let Some(at) = Mounted::new(kind, &Options::default(), options) else { return };
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = number("FTPFS_MODEL_ROUNDS").unwrap_or(ROUNDS);
    let seed = number("FTPFS_MODEL_SEED").unwrap_or(1);
    let alone = options.contains(&"dir_timeout=0");
    for round in 0..rounds {
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let at = &at;
                scope.spawn(move || {
                    let steps = make(seed.wrapping_mul(1_000_003) + round * THREADS + thread, alone);
                    if let Err(failure) = play(at, &steps) {
                        let label = format!("{kind:?}, seed {seed}, round {round}, thread {thread}");
                        explain(at, &label, steps, failure);
                    }
                });
            }
        });
    }
    eprintln!("{kind:?} {options:?}: {} operations agreed", rounds * THREADS * STEPS as u64);
}

/// One operation. Slots hold open files; names are indices into [`NAMES`].
#[derive(Clone, Debug)]
enum Step {
    Open {
        slot: usize,
        name: usize,
        how: How,
    },
    Write {
        slot: usize,
        offset: u64,
        len: usize,
        fill: u8,
    },
    Add {
        slot: usize,
        len: usize,
        fill: u8,
    },
    Read {
        slot: usize,
        offset: u64,
        len: usize,
    },
    SetLen {
        slot: usize,
        len: u64,
    },
    Sync {
        slot: usize,
    },
    CloseCopy {
        slot: usize,
    },
    Close {
        slot: usize,
    },
    Touch {
        slot: usize,
        seconds: u64,
    },
    Truncate {
        name: usize,
        len: u64,
    },
    Load {
        name: usize,
    },
    MakeFolder {
        name: usize,
    },
    RemoveFolder {
        name: usize,
    },
    Remove {
        name: usize,
    },
    Rename {
        from: usize,
        to: usize,
        keep: bool,
    },
    Chmod {
        name: usize,
        mode: u32,
    },
    SetTime {
        name: usize,
        seconds: u64,
    },
    Stat {
        name: usize,
    },
    List {
        name: usize,
    },
    /// Another client writes a file (only where everything is asked for again).
    Behind {
        name: usize,
        len: usize,
        fill: u8,
    },
    CompareAll,
}

#[derive(Clone, Copy, Debug)]
struct How {
    read: bool,
    append: bool,
    truncate: bool,
    create: bool,
    exclusive: bool,
}

/// What a program sees of an operation.
#[derive(PartialEq, Eq)]
enum Seen {
    Nothing,
    Bytes(Vec<u8>),
    Names(Vec<String>),
    Attributes(Attributes),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Attributes {
    folder: bool,
    size: u64,
    mode: u32,
    /// Seconds; none for a time of today: then both sides show about now.
    old_time: Option<i64>,
}

fn make(seed: u64, alone: bool) -> Vec<Step> {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut steps: Vec<Step> = [0, 1].map(|name| Step::MakeFolder { name }).to_vec();
    while steps.len() < STEPS {
        let slot = dice.below(SLOTS as u64) as usize;
        let name = dice.below(NAMES.len() as u64) as usize;
        let fill = dice.below(255) as u8 + 1;
        let len = match dice.below(10) {
            0 => dice.below(300_000),
            1..3 => dice.below(20_000),
            _ => dice.below(200),
        };
        let offset = match dice.below(8) {
            0 => dice.below(300_000),
            1..4 => dice.below(10_000),
            _ => dice.below(150),
        };
        steps.push(match dice.below(103) {
            100.. if alone => Step::Behind { name, len: len as usize, fill },
            0..18 | 100.. => {
                let how = How {
                    read: dice.one_in(4),
                    append: dice.one_in(5),
                    truncate: dice.one_in(4),
                    create: !dice.one_in(3),
                    exclusive: dice.one_in(12),
                };
                Step::Open { slot, name, how }
            }
            18..34 => Step::Write { slot, offset, len: len as usize, fill },
            34..39 => Step::Add { slot, len: len as usize, fill },
            39..46 => Step::Read { slot, offset, len: len as usize },
            46..49 => Step::SetLen { slot, len: offset },
            49..52 => Step::Sync { slot },
            52..54 => Step::CloseCopy { slot },
            54..62 => Step::Close { slot },
            62..64 => Step::Touch { slot, seconds: 1_000_000_000 + offset },
            64..67 => Step::Truncate { name, len: offset },
            67..73 => Step::Load { name },
            73..77 => Step::MakeFolder { name },
            77..79 => Step::RemoveFolder { name },
            79..83 => Step::Remove { name },
            83..89 => {
                let to = dice.below(NAMES.len() as u64) as usize;
                Step::Rename { from: name, to, keep: dice.one_in(6) }
            }
            89..91 => Step::Chmod { name, mode: MODES[dice.below(MODES.len() as u64) as usize] },
            91..93 => Step::SetTime { name, seconds: 1_000_000_000 + offset },
            93..96 => Step::Stat { name },
            96..98 => Step::List { name },
            _ => Step::CompareAll,
        });
    }
    steps
}

/// Plays a round; says what went wrong, and at which step.
fn play(at: &Mounted, steps: &[Step]) -> Result<(), (usize, String)> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let folder = format!("round{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let local = harness::scratch::Scratch::new("model");
    let mut here = Side::new(local.path().join(&folder));
    let mut there = Side::new(at.path(&folder));
    let mut problem = None;
    for (number, step) in steps.iter().enumerate() {
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
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut outcome = same_trees(&here.root, &on_server);
    // With writeback, everything does.
    while outcome.is_err()
        && (Instant::now() < deadline || at.mount.has_journal(deadline + Duration::from_secs(60)))
    {
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

/// One of the two folders, and the files that are open in it.
struct Side {
    root: PathBuf,
    slots: [Option<File>; SLOTS],
}

impl Side {
    fn new(root: PathBuf) -> Self {
        fs::create_dir(&root).unwrap_or_else(|e| panic!("{}: {e}", root.display()));
        Self { root, slots: [const { None }; SLOTS] }
    }

    fn path(&self, name: usize) -> PathBuf {
        self.root.join(NAMES[name])
    }

    fn size(&self, slot: usize) -> Option<u64> {
        Some(self.slots[slot].as_ref()?.metadata().unwrap().len())
    }

    fn close(&mut self, slot: usize) -> io::Result<()> {
        match self.slots[slot].take() {
            Some(file) => close(file),
            None => Ok(()),
        }
    }

    fn run(&mut self, step: &Step) -> io::Result<Seen> {
        let slot = match step {
            Step::Write { slot, .. }
            | Step::Add { slot, .. }
            | Step::Read { slot, .. }
            | Step::SetLen { slot, .. }
            | Step::Sync { slot }
            | Step::CloseCopy { slot }
            | Step::Touch { slot, .. } => Some(*slot),
            _ => None,
        };
        let file = match slot {
            None => None,
            Some(slot) => match &self.slots[slot] {
                None => return Ok(Seen::Nothing),
                file => file.as_ref(),
            },
        };
        match (step, file) {
            (Step::Write { offset, len, fill, .. }, Some(file)) => {
                file.write_all_at(&bytes(*len, *fill), *offset)?;
            }
            (Step::Add { len, fill, .. }, Some(mut file)) => file.write_all(&bytes(*len, *fill))?,
            (Step::Read { offset, len, .. }, Some(file)) => return read(file, *offset, *len),
            (Step::SetLen { len, .. }, Some(file)) => file.set_len(*len)?,
            (Step::Sync { .. }, Some(file)) => file.sync_all()?,
            (Step::CloseCopy { .. }, Some(file)) => close(file.try_clone()?)?,
            (Step::Touch { seconds, .. }, Some(file)) => file.set_modified(time(*seconds))?,
            (Step::Close { slot }, _) => self.close(*slot)?,
            (Step::Open { slot, name, how }, _) => {
                self.close(*slot)?;
                let mut options = OpenOptions::new();
                if how.append {
                    options.append(true);
                } else {
                    options.write(!how.read || how.truncate || how.create);
                }
                options.read(true).create(how.create).truncate(how.truncate && !how.append);
                options.create_new(how.exclusive && (how.create || how.append));
                self.slots[*slot] = Some(options.open(self.path(*name))?);
            }
            (Step::Truncate { name, len }, _) => {
                let path = CString::new(self.path(*name).as_os_str().as_bytes()).unwrap();
                // SAFETY: the path is a C string that lives through the call.
                let done = unsafe { libc::truncate(path.as_ptr(), *len as libc::off_t) };
                nix::errno::Errno::result(done)?;
            }
            (Step::Load { name }, _) => return fs::read(self.path(*name)).map(Seen::Bytes),
            (Step::MakeFolder { name }, _) => fs::create_dir(self.path(*name))?,
            (Step::RemoveFolder { name }, _) => fs::remove_dir(self.path(*name))?,
            (Step::Remove { name }, _) => fs::remove_file(self.path(*name))?,
            (Step::Rename { from, to, keep }, _) => {
                let flags = match keep {
                    true => nix::fcntl::RenameFlags::RENAME_NOREPLACE,
                    false => nix::fcntl::RenameFlags::empty(),
                };
                let (from, to) = (self.path(*from), self.path(*to));
                let folder = nix::fcntl::AT_FDCWD;
                nix::fcntl::renameat2(folder, &from, folder, &to, flags)?;
            }
            // Folders keep their modes: what a server gives a new one differs.
            (Step::Chmod { name, mode }, _) if !self.path(*name).is_dir() => {
                fs::set_permissions(self.path(*name), fs::Permissions::from_mode(*mode))?;
                return Ok(Seen::Attributes(attributes(&self.path(*name))?));
            }
            (Step::SetTime { name, seconds }, _) if !self.path(*name).is_dir() => {
                let path = self.path(*name);
                let options = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path)?;
                options.set_modified(time(*seconds))?;
                return Ok(Seen::Attributes(attributes(&path)?));
            }
            (Step::Stat { name }, _) => return Ok(Seen::Attributes(attributes(&self.path(*name))?)),
            (Step::List { name }, _) => return names(&self.path(*name)).map(Seen::Names),
            _ => {}
        }
        Ok(Seen::Nothing)
    }
}

fn close(file: File) -> io::Result<()> {
    Ok(nix::unistd::close(file.into_raw_fd())?)
}

fn read(file: &File, offset: u64, len: usize) -> io::Result<Seen> {
    let mut buffer = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut buffer[filled..], offset + filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    buffer.truncate(filled);
    Ok(Seen::Bytes(buffer))
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn attributes(path: &Path) -> io::Result<Attributes> {
    let found = fs::symlink_metadata(path)?;
    if found.is_dir() {
        return Ok(Attributes { folder: true, size: 0, mode: 0, old_time: None });
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    let old_time = Some(found.mtime()).filter(|&time| (now - time).abs() > 86_400);
    // Emptying an empty file changes its time only on a local disk.
    let old_time = old_time.filter(|_| found.len() > 0);
    Ok(Attributes { folder: false, size: found.len(), mode: found.mode() & 0o777, old_time })
}

/// Names, attributes and bytes of everything below two folders.
fn same_trees(here: &Path, there: &Path) -> Result<(), String> {
    let listed = |folder: &Path| names(folder).map_err(|error| format!("{}: {error}", folder.display()));
    let (ours, theirs) = (listed(here)?, listed(there)?);
    if ours != theirs {
        return Err(format!("{}: {theirs:?} instead of {ours:?}", there.display()));
    }
    for name in ours {
        let (here, there) = (here.join(&name), there.join(&name));
        let about = |path: &Path| attributes(path).map_err(|error| format!("{}: {error}", path.display()));
        let (ours, theirs) = (about(&here)?, about(&there)?);
        if ours != theirs {
            return Err(format!("{}: {theirs:?} instead of {ours:?}", there.display()));
        }
        if ours.folder {
            same_trees(&here, &there)?;
            continue;
        }
        let load = |path: &Path| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
        let (ours, theirs) = (load(&here)?, load(&there)?);
        if ours != theirs {
            return Err(format!("{}: {}", there.display(), difference(&ours, &theirs)));
        }
    }
    Ok(())
}

fn difference(ours: &[u8], theirs: &[u8]) -> String {
    let at = ours.iter().zip(theirs).position(|(a, b)| a != b).unwrap_or(ours.len().min(theirs.len()));
    let there = |bytes: &[u8]| bytes.get(at..(at + 4).min(bytes.len())).map(<[u8]>::to_vec);
    format!(
        "{} bytes instead of {}; from byte {at}: {:?} instead of {:?}",
        theirs.len(),
        ours.len(),
        there(theirs),
        there(ours)
    )
}

fn show(seen: &io::Result<Seen>) -> String {
    match seen {
        Err(error) => error.to_string(),
        Ok(Seen::Nothing) => "done".into(),
        Ok(Seen::Bytes(bytes)) => format!("{} bytes: {:?}…", bytes.len(), &bytes[..bytes.len().min(8)]),
        Ok(Seen::Names(names)) => format!("{names:?}"),
        Ok(Seen::Attributes(attributes)) => format!("{attributes:?}"),
    }
}

/// Prints the shortest list found that still fails, and panics.
fn explain(at: &Mounted, label: &str, mut steps: Vec<Step>, failure: (usize, String)) -> ! {
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
            match play(at, &fewer) {
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

fn told(step: &Step) -> String {
    let text = format!("{step:?}");
    let name = |key: &str, text: String| match text.find(key) {
        Some(at) => {
            let digits: String = text[at + key.len()..].chars().take_while(|c| c.is_ascii_digit()).collect();
            match digits.parse::<usize>() {
                Ok(index) => text.replacen(&format!("{key}{digits}"), &format!("{key}{}", NAMES[index]), 1),
                Err(_) => text,
            }
        }
        None => text,
    };
    ["name: ", "from: ", "to: "].into_iter().fold(text, |text, key| name(key, text))
}

fn bytes(len: usize, fill: u8) -> Vec<u8> {
    (0..len).map(|i| fill.wrapping_add((i / 61) as u8)).collect()
}

fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// The first two are folders at the start; any may become a file or a folder.
const NAMES: [&str; 12] = ["d", "e", "a", "b", "c", "d/a", "d/b", "d/f", "d/f/a", "e/a", "e/g", "e/g/b"];
const MODES: [u32; 5] = [0o644, 0o600, 0o755, 0o700, 0o664];
const SLOTS: usize = 3;
const THREADS: u64 = 3;
const STREAMING: &[&str] = &["stream_from=1000", "spool_size=64K", "patch_from=1000"];
const STEPS: usize = 120;
const ROUNDS: u64 = 25;
/// How often a failed round is tried again to make it shorter.
const REPLAYS: u32 = 250;
/// It is only a convenience: some failures take long to show.
const SHORTENED_WITHIN: Duration = Duration::from_secs(30);
