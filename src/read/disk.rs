//! The disk cache (`cache_dir=`): blocks that survive the mount.
//!
//! A block is kept under what it is a block of: server, path, size and time to the second. So it needs no freshness of its
//! own: once the server tells another size or time, nobody asks for it any more, and it ages out. Files whose time is not
//! exact, or so young that a second change could have the same time, are not kept. Nor is a block when the server has
//! said another time right ahead of sending it than the listing did.
//!
//! The local disk may be slow, full, or gone. Two threads of our own use it, one for looking and one for adding, and
//! nobody waits for the second: when it falls behind, blocks are left out. The first error in adding turns the adding off.

mod folder;
pub mod record;

use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use log::{debug, warn};

use self::folder::Folder;
use self::record::Key;
use super::blocks::BLOCK;
use super::{Content, UNKNOWN_SIZE};

/// What was found: offsets in the file, and the bytes there. Called once, on a thread of the cache.
pub(super) type Found = Box<dyn FnOnce(Vec<(u64, Vec<u8>)>) + Send>;

/// A cache on the local disk.
pub(super) struct Disk {
    server: String,
    looks: SyncSender<Look>,
    tasks: SyncSender<Task>,
    shared: Arc<Shared>,
}

/// What the threads know of each other.
#[derive(Default)]
struct Shared {
    /// Tasks that are not done.
    pending: AtomicUsize,
    is_off: AtomicBool,
    /// How often everything was to be forgotten. What was asked for or read before the last time is not used.
    epoch: AtomicU64,
    /// The epoch up to which that is done.
    forgotten: AtomicU64,
}

struct Look {
    key: Key,
    blocks: RangeInclusive<u64>,
    found: Found,
    epoch: u64,
}

enum Task {
    Store {
        key: Key,
        index: u64,
        data: Arc<Vec<u8>>,
        epoch: u64,
    },
    /// There is something to be forgotten.
    Wake,
}

impl Disk {
    /// Opens the folder, which is made when it is missing, and starts the threads; they end with the value.
    ///
    /// # Errors
    /// Those of the local disk; `PermissionDenied` when the folder belongs to somebody else.
    pub(super) fn start(folder: &Path, limit: u64, server: &str) -> io::Result<Self> {
        let folder = Folder::open(folder, limit, server)?;
        let (looks, to_look) = sync_channel(LOOKS);
        let (tasks, to_do) = sync_channel(TASKS);
        let shared = Arc::<Shared>::default();
        let (below, with) = (folder.clone(), shared.clone());
        std::thread::Builder::new().name("disk cache".into()).spawn(move || look(&below, &to_look, &with))?;
        let with = shared.clone();
        std::thread::Builder::new().name("disk cache".into()).spawn(move || work(&folder, &to_do, &with))?;
        Ok(Self { server: server.to_owned(), looks, tasks, shared })
    }

    /// What the blocks of a content are kept under; none when they are not to be kept.
    pub(super) fn key(&self, content: &Content) -> Option<Key> {
        if self.shared.forgotten.load(Ordering::SeqCst) != self.shared.epoch.load(Ordering::SeqCst) {
            return None;
        }
        let modified = content.modified.filter(|_| content.size != UNKNOWN_SIZE)?;
        if SystemTime::now().duration_since(modified).is_ok_and(|age| age > SETTLED) {
            return Key::new(&self.server, (content.locate)()?.as_bytes(), content.size, modified);
        }
        None
    }

    /// Looks for blocks, by their numbers; `found` gets those that are there, up to the first that is not.
    pub(super) fn fetch(&self, key: Key, blocks: RangeInclusive<u64>, found: Found) {
        let Err(error) = self.looks.try_send(Look { key, blocks, found, epoch: self.epoch() }) else {
            return;
        };
        let (TrySendError::Full(look) | TrySendError::Disconnected(look)) = error;
        // A disk that is slower than the line is no help.
        (look.found)(Vec::new());
    }

    /// Keeps a whole block, when there is time for it.
    pub(super) fn store(&self, key: Key, index: u64, data: Arc<Vec<u8>>) {
        if !self.shared.is_off.load(Ordering::Relaxed) {
            self.submit(Task::Store { key, index, data, epoch: self.epoch() });
        }
    }

    /// Removes everything that is kept of this server.
    pub(super) fn forget(&self) {
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        // When there is no room for it, there are others that wake as well.
        self.submit(Task::Wake);
    }

    /// Waits until everything is on the disk, at most so long.
    pub(super) fn settle(&self, limit: Duration) {
        let until = Instant::now() + limit;
        while self.shared.pending.load(Ordering::Acquire) > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn submit(&self, task: Task) {
        self.shared.pending.fetch_add(1, Ordering::Relaxed);
        if self.tasks.try_send(task).is_err() {
            self.shared.pending.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn epoch(&self) -> u64 {
        self.shared.epoch.load(Ordering::SeqCst)
    }
}

fn look(folder: &Folder, looks: &Receiver<Look>, shared: &Shared) {
    for Look { key, blocks, found, epoch } in looks {
        let block = |index| Some((index * BLOCK, folder.fetch(&key, index)?));
        let mut there: Vec<_> = blocks.map_while(block).collect();
        if shared.epoch.load(Ordering::SeqCst) != epoch {
            there.clear();
        }
        found(there);
    }
}

fn work(folder: &Folder, tasks: &Receiver<Task>, shared: &Shared) {
    for task in tasks {
        let now = shared.epoch.load(Ordering::SeqCst);
        let mut done = Ok(());
        if shared.forgotten.load(Ordering::SeqCst) != now {
            done = folder.forget();
            if done.is_ok() {
                shared.forgotten.store(now, Ordering::SeqCst);
            }
        }
        let is_on = done.is_ok() && !shared.is_off.load(Ordering::Relaxed);
        if let Task::Store { key, index, data, epoch } = task
            && is_on
            && epoch == now
        {
            done = folder.store(&key, index, &data).map(|is_stored| {
                if !is_stored {
                    debug!("another mount is using the disk cache: a block is left out");
                }
            });
        }
        if let Err(error) = done {
            warn!("the disk cache is off until the next mount: {error}");
            shared.is_off.store(true, Ordering::Relaxed);
        }
        // Whoever sees it done sees what was done.
        shared.pending.fetch_sub(1, Ordering::Release);
    }
}

/// Readers that wait for the disk at most; more go to the server.
const LOOKS: usize = 64;
/// Blocks that wait to be written at most: 8 MiB.
const TASKS: usize = 64;
/// A file changed less than this ago may change once more within the same second; and clocks differ.
const SETTLED: Duration = Duration::from_secs(3);
