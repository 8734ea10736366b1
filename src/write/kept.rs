//! What the server does not have is kept on the local disk: what is there, where it belongs, and why it is there.
//!
//! When an upload fails, its program gets the error and [`keep`] puts the bytes into a file of their own in `unsent`
//! below the spool folder; beside it lies a [`Record`] as a text file, with `.info` behind the name. What `writeback` has
//! acknowledged is in the [`journal`]; an entry that must leave it while the disk is full moves to `unsent` as it is. [`list`] finds both, for `ftpfs recover`; a [`Kept`] is one of them.
//!
//! Names in these files are believed as far as [`Record`] does, not further: whoever can write there could have written
//! anything.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::Flock;
use parking_lot::Mutex;

use super::Draft;
use super::draft::Generation;
use super::journal::record::{self, PIECE};
use super::journal::{self, Place, Record};
use super::spool::{make_folder, open_file};

/// Copies the unsent bytes of a draft to `folder`/unsent/; gives the file's name, and the generation of the draft that is in it. There
/// may be much of it, so its programs can go on meanwhile: what they change is copied anew, the last time without letting them in.
///
/// # Errors
/// Those of the local disk.
pub fn keep(draft: &Mutex<Draft>, folder: &Path, place: &Place<'_>) -> io::Result<(PathBuf, Generation)> {
    for _ in 1..TRIES {
        let (record, written, generation) = {
            let draft = draft.lock();
            (journal::describe(&draft, place), draft.written(), draft.generation())
        };
        let mut is_another = false;
        let kept = keep_parts(&record, &written, folder, |at, piece| {
            let draft = draft.lock();
            is_another = draft.generation() != generation;
            if is_another { Err(io::ErrorKind::Interrupted.into()) } else { draft.copy_out(at, piece) }
        });
        if !is_another {
            return kept.map(|file| (file, generation));
        }
    }
    let draft = draft.lock();
    let record = journal::describe(&draft, place);
    let file = keep_parts(&record, &draft.written(), folder, |at, piece| draft.copy_out(at, piece))?;
    Ok((file, draft.generation()))
}

/// As [`keep`], for bytes that are elsewhere: `bytes` brings them (offset, buffer).
///
/// # Errors
/// Those of the local disk.
pub fn keep_bytes(
    record: &Record,
    folder: &Path,
    bytes: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
) -> io::Result<PathBuf> {
    keep_parts(record, &record.parts, folder, bytes)
}

/// As [`keep_bytes`]; what is not in `written` is zeros, and need not be read.
fn keep_parts(
    record: &Record,
    written: &[Range<u64>],
    folder: &Path,
    bytes: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
) -> io::Result<PathBuf> {
    let folder = folder.join(FOLDER);
    make_folder(&folder)?;
    let plain = plain_name(record);
    let since = since(record);
    let mut attempt = 0u32;
    let (name, file) = loop {
        let name = folder.join(format!("{since}-{}-{attempt}-{plain}", std::process::id()));
        match new_file(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 1000 => attempt += 1,
            opened => break (name, opened?),
        }
    };
    let filled = fill(&file, record, written, bytes).and_then(|()| write_info(&name, record));
    // On a full disk a part would only take room, one more with each attempt.
    filled.inspect_err(|_| forget(&name))?;
    File::open(&folder)?.sync_all()?;
    Ok(name)
}

fn fill(
    file: &File,
    record: &Record,
    written: &[Range<u64>],
    mut bytes: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    for (at, len) in record::pieces(written) {
        let piece = buffer.get_mut(..len).unwrap_or_default();
        bytes(at, piece)?;
        // Holes stay holes.
        if piece.iter().any(|&byte| byte != 0) {
            file.write_all_at(piece, at)?;
        }
    }
    file.set_len(record.size)?;
    file.sync_all()
}

/// A few thousand ranges have no record: then the bytes are there, but a person must know where they belong.
fn write_info(bytes: &Path, record: &Record) -> io::Result<()> {
    let Some(text) = record.to_text() else { return Ok(()) };
    let info = info_of(bytes);
    // No other file has this name, so what stands there is not wanted; if it is a link, nothing is written through it.
    let _ = std::fs::remove_file(&info);
    let mut info = new_file(&info)?;
    info.write_all(text.as_bytes())?;
    info.sync_all()
}

fn new_file(name: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(name)
}

/// As [`keep`], for a journal's entry that cannot be copied, because the disk is full: the file itself moves.
///
/// # Errors
/// Those of the local disk; then it is where it was.
pub fn keep_entry(entry: &Path, record: &Record, folder: &Path) -> io::Result<PathBuf> {
    let folder = folder.join(FOLDER);
    make_folder(&folder)?;
    let (since, plain) = (since(record), plain_name(record));
    let name = |attempt: u32| {
        folder.join(format!("{since}-{}-{attempt}-{plain}{}", std::process::id(), journal::ENTRY))
    };
    let name = (0..1000).map(name).find(|name| !name.exists()).ok_or(io::ErrorKind::AlreadyExists)?;
    std::fs::rename(entry, &name)?;
    // It is in one of the two folders whatever happens to this.
    let _ = File::open(&folder).and_then(|folder| folder.sync_all());
    Ok(name)
}

/// The last name of its path, as far as it is harmless.
fn plain_name(record: &Record) -> String {
    let base = record.path.as_bytes().rsplit(|&b| b == b'/').next().unwrap_or_default();
    let is_plain = |c: &u8| c.is_ascii_alphanumeric() || b"._-".contains(c);
    let mut plain: String =
        base.iter().take(100).map(|c| if is_plain(c) { char::from(*c) } else { '_' }).collect();
    if [INFO, journal::ENTRY].iter().any(|ours| plain.ends_with(ours)) {
        // Such a name would be taken for a record, or for a journal's entry.
        plain.push('_');
    }
    plain
}

fn since(record: &Record) -> u64 {
    record.at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Takes a file of `unsent` away, with its record.
pub fn forget(bytes: &Path) {
    let _ = std::fs::remove_file(bytes);
    let _ = std::fs::remove_file(info_of(bytes));
}

/// Bytes that the server does not have.
#[derive(Clone, Debug)]
pub struct Kept {
    /// What it is called in commands.
    pub id: String,
    /// The file in `unsent`, or the journal's entry.
    pub file: PathBuf,
    /// None when there is no record that can be believed.
    pub record: Option<Record>,
    /// A mount is bringing it over.
    pub is_in_use: bool,
    /// It is a journal's entry, also when it lies in `unsent`.
    pub is_journal: bool,
}

/// Everything that is kept in a spool folder, the oldest first.
///
/// # Errors
/// Those of the local disk.
pub fn list(spool: &Path) -> io::Result<Vec<Kept>> {
    let mut found = Vec::new();
    let items = match std::fs::read_dir(spool.join(FOLDER)) {
        Ok(items) => Some(items),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    for item in items.into_iter().flatten() {
        let item = item?;
        let name = item.file_name();
        let bytes = name.as_bytes();
        if bytes.ends_with(INFO.as_bytes()) || bytes == LOCK.as_bytes() || !item.file_type()?.is_file() {
            continue;
        }
        let file = item.path();
        found.push(Kept::at(&file));
    }
    let journals = match journal::look(spool) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        journals => journals?,
    };
    for journal in journals {
        let name = journal.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = name.trim_start_matches("writeback-");
        for (number, record) in journal.entries {
            found.push(Kept {
                id: format!("{name}-{number}"),
                file: journal::entry(&journal.folder, number),
                record: Some(record),
                is_in_use: journal.is_locked,
                is_journal: true,
            });
        }
    }
    found.sort_by_key(|kept| (kept.record.as_ref().map(|record| record.at), kept.id.clone()));
    Ok(found)
}

impl Kept {
    /// The one in this file: in `unsent`, or an entry of a journal.
    pub fn at(file: &Path) -> Self {
        let is_journal = file.as_os_str().as_bytes().ends_with(journal::ENTRY.as_bytes());
        let record = match is_journal {
            true => read_head(file, journal::BYTES_AT).as_deref().and_then(journal::record_in),
            false => read_record(&info_of(file)),
        };
        let id = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { id, file: file.to_owned(), record, is_in_use: false, is_journal }
    }

    /// The file, and where in it the bytes begin.
    ///
    /// # Errors
    /// Those of the local disk.
    pub fn open(&self) -> io::Result<(File, u64)> {
        let file = open_file(File::options().read(true), &self.file)?;
        Ok((file, if self.is_journal { journal::BYTES_AT } else { 0 }))
    }

    /// Bytes of the file as it would be.
    pub fn size(&self) -> u64 {
        let on_disk = || self.file.metadata().map_or(0, |found| found.len());
        self.record.as_ref().map_or_else(on_disk, |record| record.size)
    }

    /// Takes it away.
    ///
    /// # Errors
    /// Those of the local disk.
    pub fn remove(&self) -> io::Result<()> {
        std::fs::remove_file(&self.file)?;
        if !self.is_journal {
            let _ = std::fs::remove_file(info_of(&self.file));
        }
        Ok(())
    }

    /// Keeps other `ftpfs recover`, and mounts, off it as long as the value lives; none when one is at work.
    ///
    /// # Errors
    /// Those of the local disk.
    pub fn lock(&self) -> io::Result<Option<Flock<File>>> {
        journal::lock(self.file.parent().unwrap_or(Path::new("/")))
    }
}

fn info_of(bytes: &Path) -> PathBuf {
    let mut name = bytes.as_os_str().to_owned();
    name.push(INFO);
    PathBuf::from(name)
}

fn read_record(info: &Path) -> Option<Record> {
    Record::parse(&read_head(info, record::MAX_TEXT as u64)?)
}

fn read_head(path: &Path, most: u64) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    let file = open_file(File::options().read(true), path).ok()?;
    io::Read::read_to_end(&mut io::Read::take(file, most), &mut head).ok()?;
    Some(head)
}

/// Below the spool folder.
pub const FOLDER: &str = "unsent";
/// How often what programs change meanwhile is copied anew.
const TRIES: usize = 4;
const INFO: &str = ".info";
const LOCK: &str = "lock";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ftp::RemotePath;

    #[test]
    fn a_file_whose_name_ends_like_one_of_ours_is_found_again() {
        let folder = std::env::temp_dir().join(format!("ftpfs-kept-{}", std::process::id()));
        let path = |text: &str| RemotePath::parse(text.as_bytes()).unwrap();
        for name in ["/texinfo.info", "/diary.entry", "/lock"] {
            let mut draft = Draft::new();
            draft.write(0, b"unsent", &folder).unwrap();
            let place = Place {
                server: "ftp://joe@h:21",
                root: &path("/"),
                path: &path(name),
                is_new: true,
                reason: "",
            };
            let file = keep(&Mutex::new(draft), &folder, &place).unwrap().0;
            let found = list(&folder).unwrap();
            let named = |kept: &Kept| kept.record.as_ref().is_some_and(|record| record.path == path(name));
            assert!(found.len() == 1 && named(&found[0]) && named(&Kept::at(&file)), "{name}: {found:?}");
            forget(&file);
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_cannot_be_kept_whole_leaves_nothing_behind() {
        let folder = std::env::temp_dir().join(format!("ftpfs-kept-part-{}", std::process::id()));
        let mut draft = Draft::new();
        draft.write(0, &[7; 2 * PIECE], &folder).unwrap();
        let path = RemotePath::parse(b"/f").unwrap();
        let root = RemotePath::root();
        let place = Place { server: "ftp://joe@h:21", root: &root, path: &path, is_new: true, reason: "" };
        let record = journal::describe(&draft, &place);
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let kept = keep_bytes(&record, &folder, |at, _| if at == 0 { Ok(()) } else { Err(full()) });
        assert_eq!(kept.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(std::fs::read_dir(folder.join(FOLDER)).unwrap().count(), 0);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
