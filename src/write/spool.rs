//! The spool: where the bytes of a draft are until the server has them.
//!
//! Small ones stay in memory, because a file in a spool costs more than a small upload; all of them together are
//! bounded by [`MEMORY`]. Larger ones go to an unnamed file in the spool folder, which vanishes with the process: what
//! was not confirmed was not acknowledged either. What must survive is copied out by [`super::kept`].

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::{FallocateFlags, fallocate};

/// Bytes at offsets; what was never written reads as zeros.
pub struct Spool(Place);

enum Place {
    Memory(Vec<u8>),
    Disk(File),
}

impl Spool {
    /// An empty spool.
    pub fn new() -> Self {
        Self(Place::Memory(Vec::new()))
    }

    /// Writes at an offset. Moves to a file in `folder` when it gets large.
    pub fn write_at(&mut self, offset: u64, data: &[u8], folder: &Path) -> io::Result<()> {
        let end = offset + data.len() as u64;
        match &mut self.0 {
            Place::Memory(bytes) if end <= SMALL && reserve(bytes.len(), end) => {
                if bytes.len() < end as usize {
                    bytes.resize(end as usize, 0);
                }
                bytes[offset as usize..end as usize].copy_from_slice(data);
                Ok(())
            }
            Place::Memory(_) => {
                self.move_to(folder)?;
                self.write_at(offset, data, folder)
            }
            Place::Disk(file) => file.write_all_at(data, offset),
        }
    }

    /// Fills `buffer` from an offset.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        buffer.fill(0);
        match &self.0 {
            Place::Memory(bytes) => {
                let from = bytes.get(offset.min(bytes.len() as u64) as usize..).unwrap_or_default();
                let len = from.len().min(buffer.len());
                buffer[..len].copy_from_slice(&from[..len]);
                Ok(())
            }
            Place::Disk(file) => {
                let mut filled = 0;
                while filled < buffer.len() {
                    match file.read_at(&mut buffer[filled..], offset + filled as u64)? {
                        0 => break,
                        n => filled += n,
                    }
                }
                Ok(())
            }
        }
    }

    /// Forgets everything at and after `end`: it reads as zeros, also when the file grows over it again.
    pub fn truncate(&mut self, end: u64) -> io::Result<()> {
        match &mut self.0 {
            Place::Memory(bytes) => {
                if end < bytes.len() as u64 {
                    release(bytes.len() as u64 - end);
                    bytes.truncate(end as usize);
                }
                Ok(())
            }
            Place::Disk(file) if file.metadata()?.len() > end => file.set_len(end),
            Place::Disk(_) => Ok(()),
        }
    }

    /// Gives the room of a part back to the disk. False when that cannot be: nothing is forgotten then.
    pub fn let_go(&mut self, part: Range<u64>) -> bool {
        let Place::Disk(file) = &self.0 else { return false };
        let (Ok(start), Ok(len)) = (i64::try_from(part.start), i64::try_from(part.end - part.start)) else {
            return false;
        };
        let how = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(file, how, start, len).is_ok()
    }

    fn move_to(&mut self, folder: &Path) -> io::Result<()> {
        let Place::Memory(bytes) = &self.0 else { return Ok(()) };
        let file = unnamed(folder)?;
        file.write_all_at(bytes, 0)?;
        release(bytes.len() as u64);
        self.0 = Place::Disk(file);
        Ok(())
    }
}

impl Default for Spool {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if let Place::Memory(bytes) = &self.0 {
            release(bytes.len() as u64);
        }
    }
}

/// Creates the folder, for its owner only.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Opens a file by its name, whoever has put it there: no link is followed, nothing that is no file is taken, and
/// nothing is waited for, as a FIFO would be.
pub(super) fn open_file(options: &mut OpenOptions, name: &Path) -> io::Result<File> {
    let file = options.mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(name)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn unnamed(folder: &Path) -> io::Result<File> {
    make_folder(folder)?;
    let mut options = File::options();
    options.read(true).write(true).mode(0o600);
    match options.clone().custom_flags(libc::O_TMPFILE).open(folder) {
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL)) => {}
        opened => return opened,
    }
    let name = folder.join(format!("spool-{}-{}", std::process::id(), NAMES.fetch_add(1, Ordering::Relaxed)));
    let file = options.create_new(true).open(&name)?;
    std::fs::remove_file(&name)?;
    Ok(file)
}

fn reserve(held: usize, end: u64) -> bool {
    let more = end.saturating_sub(held as u64);
    let total = IN_MEMORY.fetch_add(more, Ordering::Relaxed) + more;
    if total > MEMORY {
        release(more);
    }
    total <= MEMORY
}

fn release(bytes: u64) {
    IN_MEMORY.fetch_sub(bytes, Ordering::Relaxed);
}

static IN_MEMORY: AtomicU64 = AtomicU64::new(0);
static NAMES: AtomicU64 = AtomicU64::new(0);
/// A draft up to this size stays in memory.
const SMALL: u64 = 256 * 1024;
/// All drafts in memory together.
const MEMORY: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spool_that_grows_over_the_small_size_keeps_its_bytes() {
        let folder = std::env::temp_dir().join(format!("ftpfs-spool-{}", std::process::id()));
        let mut spool = Spool::new();
        spool.write_at(10, b"hello", &folder).unwrap();
        spool.write_at(SMALL + 5, b"far", &folder).unwrap();
        let mut buffer = [1; 16];
        spool.read_at(8, &mut buffer).unwrap();
        assert_eq!(&buffer, b"\0\0hello\0\0\0\0\0\0\0\0\0");
        spool.truncate(12).unwrap();
        spool.read_at(8, &mut buffer).unwrap();
        assert_eq!(&buffer[..8], b"\0\0he\0\0\0\0");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "the file has no name");
        std::fs::remove_dir(&folder).unwrap();
    }
}
