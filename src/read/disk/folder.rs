//! The folder of the disk cache: a file per block, written beside its name and then renamed, so that a block is there or
//! not there, whatever breaks off. Blocking; only the threads of [`super::Disk`] call it.
//!
//! There is no index that could disagree with what is there. How many bytes all blocks take is a number in a file of its
//! own, changed under a lock together with the blocks, so that several mounts keep one limit together. When it is missing
//! or senseless, and whenever room has to be made, the folder is looked through: blocks that were not used for the longest
//! time go first. A block's time of modification tells when it was last used.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};

use super::record::{self, Key};
use crate::read::blocks::BLOCK;

/// A folder of blocks, possibly shared by several mounts.
#[derive(Clone)]
pub(super) struct Folder {
    /// Of all servers.
    root: PathBuf,
    /// Of this mount's server.
    here: PathBuf,
    /// Bytes.
    limit: u64,
    total: Arc<File>,
}

impl Folder {
    /// Makes the folder, private to its owner.
    ///
    /// # Errors
    /// Those of the local disk; `PermissionDenied` when somebody else owns it.
    pub(super) fn open(folder: &Path, limit: u64, server: &str) -> io::Result<Self> {
        let root = folder.join("blocks");
        DirBuilder::new().recursive(true).mode(0o700).create(&root)?;
        let found = fs::symlink_metadata(&root)?;
        if !found.is_dir() || found.uid() != nix::unistd::geteuid().as_raw() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to somebody else"));
        }
        fs::set_permissions(&root, fs::Permissions::from_mode(0o700))?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let total = options.mode(0o600).custom_flags(libc::O_NOFOLLOW).open(root.join("total"))?;
        let name: String = openssl::sha::sha256(server.as_bytes())
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(Self { here: root.join(name), root, limit, total: Arc::new(total) })
    }

    /// The bytes of a block, if they are there and whole.
    pub(super) fn fetch(&self, key: &Key, index: u64) -> Option<Vec<u8>> {
        let place = self.here.join(key.name(index));
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&place).ok()?;
        let mut bytes = Vec::with_capacity(record::HEAD + BLOCK as usize + 1);
        (&file).take(record::HEAD as u64 + BLOCK + 1).read_to_end(&mut bytes).ok()?;
        if record::data(key, index, &bytes).is_none() {
            log::info!("{}: not a whole block, removed", place.display());
            let _ = fs::remove_file(&place);
            return None;
        }
        let age = file.metadata().ok().and_then(|found| found.modified().ok()?.elapsed().ok());
        if age.is_some_and(|age| age > SAME_USE) {
            let _ = file.set_modified(SystemTime::now());
        }
        bytes.drain(..record::HEAD);
        Some(bytes)
    }

    /// Adds a block, and removes others when there is no room. False when another mount is at it just now.
    ///
    /// # Errors
    /// Those of the local disk.
    pub(super) fn store(&self, key: &Key, index: u64, data: &[u8]) -> io::Result<bool> {
        let Some(lock) = self.lock()? else { return Ok(false) };
        let place = self.here.join(key.name(index));
        if place.exists() {
            return Ok(true);
        }
        let size = taken((record::HEAD + data.len()) as u64);
        let mut total = self.total(&lock)?;
        if total.saturating_add(size) > self.limit {
            total = self.make_room((self.limit / 10 * 9).saturating_sub(size))?;
            if total + size > self.limit {
                return Ok(true);
            }
        }
        // Counted before it is there: what breaks off in between leaves less than the limit, never more.
        self.set_total(&lock, total + size)?;
        let written = self.write(&place, key, index, data);
        if written.is_err() {
            self.set_total(&lock, total)?;
        }
        written.map(|()| true)
    }

    /// Removes all blocks of this mount's server.
    pub(super) fn forget(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.here) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Counted anew by whoever stores next.
        self.total.set_len(0)
    }

    fn write(&self, place: &Path, key: &Key, index: u64, data: &[u8]) -> io::Result<()> {
        let folder = place.parent().unwrap_or(&self.here);
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let beside = folder.join(format!("{UNFINISHED}{}", std::process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let written = options.open(&beside).and_then(|mut file| {
            file.write_all(&record::head(key, index, data))?;
            file.write_all(data)
        });
        written.and_then(|()| fs::rename(&beside, place)).inspect_err(|_| drop(fs::remove_file(&beside)))
    }

    /// Never waits: another mount may be stopped while it holds the lock.
    fn lock(&self) -> io::Result<Option<Flock<File>>> {
        // Opened anew: the lock belongs to an open file, and two mounts in one process are two.
        let file = OpenOptions::new().read(true).write(true).open(self.root.join("total"))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno.into()),
        }
    }

    fn total(&self, lock: &File) -> io::Result<u64> {
        let mut text = [0; 32];
        let read = lock.read_at(&mut text, 0)?;
        match record::total(text.get(..read).unwrap_or_default()) {
            Some(total) => Ok(total),
            None => self.make_room(u64::MAX),
        }
    }

    fn set_total(&self, lock: &File, total: u64) -> io::Result<()> {
        let text = format!("{total}\n");
        lock.write_all_at(text.as_bytes(), 0)?;
        lock.set_len(text.len() as u64)
    }

    /// Removes the blocks that were not used for the longest time until at most `limit` bytes are left; gives how many are.
    fn make_room(&self, limit: u64) -> io::Result<u64> {
        let mut ages: BTreeMap<u64, u64> = BTreeMap::new();
        let mut total: u64 = 0;
        self.walk(&mut |file| {
            *ages.entry(file.used).or_default() += file.size;
            total += file.size;
            false
        })?;
        if total <= limit {
            return Ok(total);
        }
        let mut excess = total - limit;
        let mut oldest = 0;
        for (&used, &size) in &ages {
            oldest = used;
            excess = excess.saturating_sub(size);
            if excess == 0 {
                break;
            }
        }
        let mut excess = total - limit;
        self.walk(&mut |file| {
            let goes = file.used <= oldest && excess > 0;
            if goes {
                excess = excess.saturating_sub(file.size);
                total -= file.size;
            }
            goes
        })?;
        Ok(total)
    }

    /// Shows every block; those for which `remove` says so are removed, and so is what was never finished.
    fn walk(&self, remove: &mut dyn FnMut(&Block) -> bool) -> io::Result<()> {
        for server in folders(&self.root)? {
            // What another mount removes meanwhile is no matter.
            for bucket in folders(&server).unwrap_or_default() {
                for entry in fs::read_dir(&bucket).into_iter().flatten().flatten() {
                    let Ok(found) = entry.metadata() else { continue };
                    let is_unfinished =
                        entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes());
                    let used = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    let goes = match is_unfinished {
                        true => used.elapsed().is_ok_and(|age| age > ABANDONED),
                        false => {
                            let since = used.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                            remove(&Block { size: taken(found.len()), used: since.as_secs() })
                        }
                    };
                    if goes {
                        let _ = fs::remove_file(entry.path());
                    }
                }
            }
        }
        Ok(())
    }
}

/// A file that holds a block.
struct Block {
    /// On the disk.
    size: u64,
    /// Seconds since 1970.
    used: u64,
}

fn folders(within: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(within)?;
    let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    Ok(entries.flatten().filter(is_folder).map(|entry| entry.path()).collect())
}

/// What a file of so many bytes takes on a usual disk.
fn taken(bytes: u64) -> u64 {
    bytes.next_multiple_of(4096)
}

/// Names of files that are being written begin so.
const UNFINISHED: &str = "unfinished-";
/// An unfinished file this old is a crash's.
const ABANDONED: Duration = Duration::from_secs(60);
/// A block that was used within this time need not be marked as used again.
const SAME_USE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let place = std::env::temp_dir().join(format!("ftpfs-disk-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&place);
            Self(place)
        }

        fn folder(&self, limit: u64) -> Folder {
            Folder::open(&self.0, limit, "ftp://u@h:21").unwrap()
        }

        /// Bytes of blocks, and how many.
        fn holds(&self) -> (u64, usize) {
            let (mut bytes, mut count) = (0, 0);
            self.folder(0)
                .walk(&mut |file| {
                    bytes += file.size;
                    count += 1;
                    false
                })
                .unwrap();
            (bytes, count)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn key(number: u64) -> Key {
        Key::new("s", format!("/{number}").as_bytes(), 1, SystemTime::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn what_is_stored_is_found_and_private() {
        let place = Place::new("found");
        let folder = place.folder(1 << 20);
        assert_eq!(folder.fetch(&key(1), 0), None);
        assert!(folder.store(&key(1), 0, b"bytes").unwrap());
        assert_eq!(place.folder(1 << 20).fetch(&key(1), 0).unwrap(), b"bytes");
        assert_eq!(folder.fetch(&key(1), 1), None);
        assert_eq!(fs::metadata(place.0.join("blocks")).unwrap().mode() & 0o777, 0o700);
        folder.forget().unwrap();
        assert_eq!(folder.fetch(&key(1), 0), None);
        assert!(folder.store(&key(1), 0, b"bytes").unwrap());
        assert_eq!(place.holds(), (4096, 1));
    }

    #[test]
    fn the_limit_holds_at_every_moment_and_the_unused_go_first() {
        let place = Place::new("limit");
        let (one, other) = (place.folder(40 * 4096), place.folder(40 * 4096));
        for number in 0..200 {
            let folder = if number % 2 == 0 { &one } else { &other };
            assert!(folder.store(&key(number), 0, &[7; 3000]).unwrap());
            let name = folder.here.join(key(number).name(0));
            // Every second block was used lately.
            let used =
                SystemTime::now() - Duration::from_secs(if number % 4 < 2 { 0 } else { 9000 - number });
            File::options().write(true).open(name).unwrap().set_modified(used).unwrap();
            let (bytes, count) = place.holds();
            assert!(bytes <= 40 * 4096 && count as u64 * 4096 == bytes, "{bytes}");
        }
        assert!(place.holds().1 >= 30, "no more than needed is removed");
        assert!(one.fetch(&key(197), 0).is_some());
    }

    #[test]
    fn a_torn_file_is_removed_and_a_torn_total_counted_anew() {
        let place = Place::new("torn");
        let folder = place.folder(1 << 20);
        (0..3).for_each(|i| assert!(folder.store(&key(i), 0, b"bytes").unwrap()));
        let file = folder.here.join(key(1).name(0));
        File::options().write(true).open(&file).unwrap().set_len(42).unwrap();
        assert_eq!(folder.fetch(&key(1), 0), None);
        assert!(!file.exists());
        fs::write(place.0.join("blocks/total"), "nonsense").unwrap();
        assert!(folder.store(&key(9), 0, b"bytes").unwrap());
        assert_eq!(fs::read(place.0.join("blocks/total")).unwrap(), format!("{}\n", 3 * 4096).into_bytes());
    }

    #[test]
    fn nobody_waits_for_another_mount() {
        let place = Place::new("busy");
        let folder = place.folder(1 << 20);
        let lock = folder.lock().unwrap().unwrap();
        assert!(!folder.store(&key(1), 0, b"bytes").unwrap());
        drop(lock);
        assert!(folder.store(&key(1), 0, b"bytes").unwrap());
    }
}
