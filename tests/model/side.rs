//! One of the two folders: does an operation with plain calls, and says what a program sees of it.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::libc;

use crate::harness::files::{close, names};
use crate::steps::{NAMES, SLOTS, Step};

/// What a program sees of an operation.
#[derive(PartialEq, Eq)]
pub enum Seen {
    Nothing,
    Bytes(Vec<u8>),
    Names(Vec<String>),
    Attributes(Attributes),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    folder: bool,
    size: u64,
    mode: u32,
    /// Seconds; none for a time of today: then both sides show about now.
    old_time: Option<i64>,
}

/// One of the two folders, and the files that are open in it.
pub struct Side {
    pub root: PathBuf,
    pub slots: [Option<File>; SLOTS],
}

impl Side {
    pub fn new(root: PathBuf) -> Self {
        fs::create_dir(&root).unwrap_or_else(|e| panic!("{}: {e}", root.display()));
        Self { root, slots: [const { None }; SLOTS] }
    }

    pub fn path(&self, name: usize) -> PathBuf {
        self.root.join(NAMES[name])
    }

    pub fn size(&self, slot: usize) -> Option<u64> {
        Some(self.slots[slot].as_ref()?.metadata().unwrap().len())
    }

    pub fn close(&mut self, slot: usize) -> io::Result<()> {
        match self.slots[slot].take() {
            Some(file) => close(file),
            None => Ok(()),
        }
    }

    pub fn run(&mut self, step: &Step) -> io::Result<Seen> {
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
pub fn same_trees(here: &Path, there: &Path) -> Result<(), String> {
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

pub fn show(seen: &io::Result<Seen>) -> String {
    match seen {
        Err(error) => error.to_string(),
        Ok(Seen::Nothing) => "done".into(),
        Ok(Seen::Bytes(bytes)) => format!("{} bytes: {:?}…", bytes.len(), &bytes[..bytes.len().min(8)]),
        Ok(Seen::Names(names)) => format!("{names:?}"),
        Ok(Seen::Attributes(attributes)) => format!("{attributes:?}"),
    }
}

pub fn bytes(len: usize, fill: u8) -> Vec<u8> {
    (0..len).map(|i| fill.wrapping_add((i / 61) as u8)).collect()
}

fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}
