//! The journal of `writeback`: what programs were told is written, until the server has it.
//!
//! close() answers when its file is safe on the local disk: a file of the journal holds the bytes and a [`Record`] of where
//! they belong. A crash, a kill and a power cut leave it there, and the next mount of the same server, folder and
//! user brings it over.
//!
//! **One folder for each mount**, `writeback-HEX` in the spool folder, named after the server, the user and the folder in the
//! URL, and locked as long as the mount lives. A second mount of the same at the same time gets `writeback-HEX.1`, and so
//! on; what a dead one left there is taken over by the next.
//!
//! **One file for each close()**, `NUMBER.entry`, in the order of the closes: two places for a record, and then the bytes,
//! each at its offset (a changed range of a large file costs what was changed). The record is written last, with a checksum of
//! itself and of the bytes, so an entry is there whole or not at all. When a file is renamed before it is
//! uploaded, its entry gets a new record in the other place: of two, the one with the higher turn counts.
//!
//! **One fsync()**: it is what a close() costs. So that the name is safe as well, empty entries are made ahead, a few dozen with one
//! fsync() of the folder.
//!
//! Used by `fs::writeback`; [`open`](Journal::open) and [`look`] may meet anything in these files, and believe nothing.

mod entry;
pub mod record;

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use log::warn;
use nix::fcntl::{Flock, FlockArg};
use openssl::sha::sha256;
use parking_lot::Mutex;

pub(super) use entry::describe;
pub use entry::record_in;
use entry::{Found, read, save_to, write_record};
pub use record::{Below, Record};

use super::Draft;
use super::draft::Generation;
use super::kept;
use super::spool::{make_folder, open_file};
use crate::ftp::RemotePath;

/// The journal of one mount.
pub struct Journal {
    folder: PathBuf,
    state: Mutex<State>,
    _lock: Flock<File>,
}

/// Names an entry: the close() that it is of, counted from the first one of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryNumber(u64);

impl fmt::Display for EntryNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

struct State {
    next: u64,
    /// Empty entries whose names are safe.
    spare: Vec<(EntryNumber, File)>,
    held: HashMap<EntryNumber, Held>,
}

struct Held {
    file: File,
    record: Record,
}

/// An entry that an earlier mount left.
pub struct Stored {
    pub number: EntryNumber,
    pub record: Record,
    pub file: File,
}

/// Where a draft belongs.
pub struct Place<'p> {
    pub server: &'p str,
    pub root: &'p RemotePath,
    pub path: &'p RemotePath,
    /// The server has no such file.
    pub is_new: bool,
    pub reason: &'p str,
}

impl Journal {
    /// Opens the journal of the mount called `identity`, and what earlier ones left. None when there is nothing, and it
    /// is not to be made.
    ///
    /// # Errors
    /// Those of the local disk.
    pub fn open(spool: &Path, identity: &str, make: bool) -> io::Result<Option<(Self, Vec<Stored>)>> {
        let mut ours: Option<(PathBuf, Flock<File>)> = None;
        let mut others = Vec::new();
        for folder in folders(spool, identity) {
            if !folder.is_dir() {
                if ours.is_some() || !make {
                    continue;
                }
                make_folder(&folder)?;
            }
            let Some(lock) = lock(&folder)? else { continue };
            match &ours {
                None => ours = Some((folder, lock)),
                Some(_) => others.push((folder, lock)),
            }
        }
        let Some((folder, mut lock)) = ours else { return Ok(None) };
        let named =
            lock.set_len(0).and_then(|()| writeln!(lock, "{identity}\nprocess {}", std::process::id()));
        named?;
        let mut next = numbers(&folder)?.last().map_or(0, |last| last.0 + 1);
        for (other, _lock) in &others {
            for number in numbers(other)? {
                std::fs::rename(entry(other, number), entry(&folder, EntryNumber(next)))?;
                next += 1;
            }
        }
        let mut stored = Vec::new();
        let mut held = HashMap::new();
        for number in numbers(&folder)? {
            let path = entry(&folder, number);
            if !std::fs::symlink_metadata(&path)?.is_file() {
                warn!("{} is no file; it is left alone", path.display());
                continue;
            }
            let file = open_file(File::options().read(true).write(true), &path)?;
            match read(&file)? {
                Found::Entry(record) => {
                    held.insert(number, Held { file: file.try_clone()?, record: (*record).clone() });
                    stored.push(Stored { number, record: *record, file });
                }
                // Its close() has not been answered.
                Found::Unfinished => std::fs::remove_file(&path)?,
                Found::Broken => {
                    let aside = path.with_extension("broken");
                    warn!("{} is broken; it is now {}", path.display(), aside.display());
                    std::fs::rename(&path, aside)?;
                }
            }
        }
        let state = Mutex::new(State { next, spare: Vec::new(), held });
        Ok(Some((Self { folder, state, _lock: lock }, stored)))
    }

    /// Saves a draft; it is safe when this returns, with its number and the generation of the draft that was saved. None
    /// for what cannot be saved so: too many ranges, or somebody who goes on writing.
    ///
    /// # Errors
    /// Those of the local disk.
    pub fn save(
        &self,
        draft: &Mutex<Draft>,
        place: &Place<'_>,
    ) -> io::Result<Option<(EntryNumber, Generation)>> {
        let (number, file) = self.spare()?;
        let outcome = save_to(&file, draft, place);
        match outcome {
            Ok(Some((record, generation))) => {
                self.state.lock().held.insert(number, Held { file, record });
                Ok(Some((number, generation)))
            }
            outcome => {
                let _ = std::fs::remove_file(entry(&self.folder, number));
                outcome.map(|_| None)
            }
        }
    }

    /// Writes another record for the same bytes; it is safe when this returns.
    ///
    /// # Errors
    /// Those of the local disk.
    pub fn change(&self, number: EntryNumber, change: impl FnOnce(&mut Record)) -> io::Result<()> {
        let (file, mut record) = {
            let state = self.state.lock();
            let Some(held) = state.held.get(&number) else { return Ok(()) };
            (held.file.try_clone()?, held.record.clone())
        };
        change(&mut record);
        record.turn += 1;
        write_record(&file, &record)?;
        file.sync_data()?;
        if let Some(held) = self.state.lock().held.get_mut(&number) {
            held.record = record;
        }
        Ok(())
    }

    /// The record of an entry, and its bytes.
    pub fn entry(&self, number: EntryNumber) -> Option<(Record, File)> {
        let state = self.state.lock();
        let held = state.held.get(&number)?;
        Some((held.record.clone(), held.file.try_clone().ok()?))
    }

    /// Takes an entry out of the journal and its file to `unsent`, which needs no space. Gives its name there.
    ///
    /// # Errors
    /// Those of the local disk; then it is where it was.
    pub fn shelve(&self, number: EntryNumber, reason: &str, spool: &Path) -> io::Result<PathBuf> {
        let Some((record, _)) = self.entry(number) else { return Err(io::ErrorKind::NotFound.into()) };
        // On a full disk there may be no space for that either.
        let told = self.change(number, |record| reason.clone_into(&mut record.reason));
        if let Err(error) = told {
            warn!("the journal: {error}");
        }
        let name = kept::keep_entry(&entry(&self.folder, number), &record, spool)?;
        self.state.lock().held.remove(&number);
        Ok(name)
    }

    /// Forgets an entry: the server has it, or nobody wants it any more.
    pub fn remove(&self, number: EntryNumber) {
        self.state.lock().held.remove(&number);
        if let Err(error) = std::fs::remove_file(entry(&self.folder, number)) {
            warn!("{}: {error}", entry(&self.folder, number).display());
        }
    }

    /// Entries, and the bytes in them.
    pub fn held(&self) -> (usize, u64) {
        let state = self.state.lock();
        (state.held.len(), state.held.values().map(|held| held.record.held()).sum())
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes the entries that were made ahead.
    pub fn tidy(&self) {
        for (number, _) in self.state.lock().spare.drain(..) {
            let _ = std::fs::remove_file(entry(&self.folder, number));
        }
    }

    fn spare(&self) -> io::Result<(EntryNumber, File)> {
        let mut state = self.state.lock();
        if let Some(spare) = state.spare.pop() {
            return Ok(spare);
        }
        let first = state.next;
        state.next += SPARES;
        drop(state);
        let mut made = Vec::new();
        for number in (first..first + SPARES).rev().map(EntryNumber) {
            let mut options = File::options();
            options.read(true).write(true).create_new(true).mode(0o600);
            made.push((number, options.open(entry(&self.folder, number))?));
        }
        File::open(&self.folder)?.sync_all()?;
        let mut state = self.state.lock();
        state.spare = made;
        state.spare.pop().ok_or_else(|| io::Error::other("no entry could be made"))
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.tidy();
    }
}

/// A folder of entries, looked at from outside.
pub struct Looked {
    pub folder: PathBuf,
    /// A mount is at work with it, or that cannot be found out.
    pub is_locked: bool,
    pub entries: Vec<(EntryNumber, Record)>,
}

/// Every journal in a spool folder, for `ftpfs recover`. No entry is changed; a journal that no mount has is locked for a moment.
///
/// # Errors
/// Those of the local disk.
pub fn look(spool: &Path) -> io::Result<Vec<Looked>> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(spool)? {
        let item = item?;
        let is_journal = item.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if !is_journal || !item.file_type()?.is_dir() {
            continue;
        }
        let folder = item.path();
        let is_locked = !matches!(lock(&folder), Ok(Some(_)));
        let mut entries = Vec::new();
        for number in numbers(&folder)? {
            // A mount may have finished it meanwhile, and somebody may have put something else there.
            let Ok(file) = open_file(File::options().read(true), &entry(&folder, number)) else { continue };
            if let Found::Entry(record) = read(&file)? {
                entries.push((number, *record));
            }
        }
        found.push(Looked { folder, is_locked, entries });
    }
    found.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(found)
}

/// Takes hold of a journal that no mount has; none when one has.
///
/// # Errors
/// Those of the local disk.
pub fn lock(folder: &Path) -> io::Result<Option<Flock<File>>> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    let file = open_file(&mut options, &folder.join("lock"))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno.into()),
    }
}

/// The file of an entry; its bytes begin at [`BYTES_AT`].
pub fn entry(folder: &Path, number: EntryNumber) -> PathBuf {
    folder.join(format!("{number:08}{ENTRY}"))
}

fn numbers(folder: &Path) -> io::Result<Vec<EntryNumber>> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(folder)? {
        let name = item?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(ENTRY));
        let number = number.filter(|digits| digits.len() >= 8).and_then(|digits| digits.parse().ok());
        found.extend(number.map(EntryNumber));
    }
    found.sort_unstable();
    Ok(found)
}

fn folders(spool: &Path, identity: &str) -> impl Iterator<Item = PathBuf> {
    let hex: String = sha256(identity.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let name = spool.join(format!("{PREFIX}{hex}"));
    (0..MOST_MOUNTS).map(move |index| match index {
        0 => name.clone(),
        index => name.with_extension(index.to_string()),
    })
}

/// The end of an entry's name.
pub const ENTRY: &str = ".entry";
/// Where the bytes of an entry begin: behind two places for a record.
pub const BYTES_AT: u64 = 2 * record::MAX_TEXT as u64;
const PREFIX: &str = "writeback-";
/// Entries made ahead with one fsync() of the folder.
const SPARES: u64 = 32;
/// Mounts of the same server, folder and user at the same time.
const MOST_MOUNTS: u32 = 8;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ftpfs-journal-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn path(text: &str) -> RemotePath {
        RemotePath::parse(text.as_bytes()).unwrap()
    }

    fn save(journal: &Journal, name: &str, content: &[u8]) -> EntryNumber {
        let mut draft = Draft::new();
        draft.write(0, content, Path::new("/nonexistent")).unwrap();
        let place =
            Place { server: "ftp://joe@h:21", root: &path("/"), path: &path(name), is_new: true, reason: "" };
        journal.save(&Mutex::new(draft), &place).unwrap().unwrap().0
    }

    fn open(folder: &Folder) -> (Journal, Vec<Stored>) {
        Journal::open(&folder.0, "me", true).unwrap().unwrap()
    }

    #[test]
    fn what_was_saved_is_there_for_the_next_mount_and_what_was_removed_is_not() {
        let folder = Folder::new("again");
        assert!(Journal::open(&folder.0, "me", false).unwrap().is_none());
        let (journal, stored) = open(&folder);
        assert!(stored.is_empty());
        let (first, second) = (save(&journal, "/a", b"one"), save(&journal, "/b", b"two"));
        save(&journal, "/empty", b"");
        journal.remove(first);
        journal.change(second, |record| record.path = path("/c")).unwrap();
        journal.change(second, |record| record.path = path("/d")).unwrap();
        drop(journal);
        let (journal, stored) = open(&folder);
        let paths: Vec<_> = stored.iter().map(|stored| stored.record.path.to_string()).collect();
        assert_eq!(paths, ["/d", "/empty"]);
        let mut bytes = [0; 3];
        stored[0].file.read_exact_at(&mut bytes, BYTES_AT).unwrap();
        assert_eq!(&bytes, b"two");
        assert_eq!(journal.held(), (2, 3));
        assert!(save(&journal, "/e", b"x") > stored[1].number);
    }

    #[test]
    fn what_somebody_has_put_there_is_not_followed_or_waited_for() {
        let folder = Folder::new("planted");
        let (journal, _) = open(&folder);
        save(&journal, "/a", b"x");
        let place = journal.folder().to_owned();
        drop(journal);
        let victim = folder.0.join("victim");
        std::fs::write(&victim, "safe").unwrap();
        nix::unistd::mkfifo(&place.join("00000040.entry"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink(&victim, place.join("00000041.entry")).unwrap();
        let (journal, stored) = open(&folder);
        assert_eq!(stored.len(), 1);
        assert!(save(&journal, "/b", b"y") > EntryNumber(41));
        drop(journal);
        assert_eq!(look(&folder.0).unwrap()[0].entries.len(), 2);
        std::fs::remove_file(place.join("lock")).unwrap();
        std::os::unix::fs::symlink(&victim, place.join("lock")).unwrap();
        assert!(Journal::open(&folder.0, "me", true).is_err());
        assert_eq!(std::fs::read(&victim).unwrap(), b"safe");
    }

    #[test]
    fn a_second_mount_has_its_own_and_what_it_leaves_is_taken_over() {
        let folder = Folder::new("second");
        let (first, _) = open(&folder);
        let (second, _) = open(&folder);
        assert_ne!(first.folder(), second.folder());
        save(&second, "/x", b"x");
        save(&first, "/y", b"y");
        drop((first, second));
        let (_, stored) = open(&folder);
        let paths: Vec<_> = stored.iter().map(|stored| stored.record.path.to_string()).collect();
        assert_eq!(paths, ["/y", "/x"]);
    }

    #[test]
    fn an_entry_that_is_cut_or_changed_is_never_taken_for_one() {
        let folder = Folder::new("torn");
        let (journal, _) = open(&folder);
        let number = save(&journal, "/a", &[7; 1000]);
        let file = entry(journal.folder(), number);
        let whole = std::fs::read(&file).unwrap();
        drop(journal);
        let record_len = whole.iter().position(|&b| b == 0).unwrap();
        let cuts = [0, 1, record_len / 2, record_len, 70_000, BYTES_AT as usize, whole.len() - 1];
        for cut in cuts {
            std::fs::write(&file, &whole[..cut]).unwrap();
            let (_, stored) = open(&folder);
            assert!(stored.is_empty(), "cut at {cut}");
        }
        for at in [0, record_len / 2, record_len - 2, BYTES_AT as usize + 500] {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            std::fs::write(&file, &changed).unwrap();
            assert!(open(&folder).1.is_empty(), "changed at {at}");
        }
        std::fs::write(&file, &whole).unwrap();
        assert_eq!(open(&folder).1.len(), 1);
    }

    #[test]
    fn a_record_torn_while_it_was_replaced_leaves_the_one_before() {
        let folder = Folder::new("replaced");
        let (journal, _) = open(&folder);
        let number = save(&journal, "/a", b"x");
        journal.change(number, |record| record.path = path("/b")).unwrap();
        let file = entry(journal.folder(), number);
        drop(journal);
        let mut torn = std::fs::read(&file).unwrap();
        torn[record::MAX_TEXT + 30] ^= 1;
        std::fs::write(&file, torn).unwrap();
        assert_eq!(open(&folder).1[0].record.path, path("/a"));
    }
}
