//! Reading: blocks kept in memory, and streams that run ahead of whoever reads.
//!
//! FUSE asks for small pieces, 96 KiB at most ahead of the reader; FTP gives a whole stream per transfer, and starting
//! one costs a round trip. So a read that finds its pages in the [`blocks`] cache is answered at once; otherwise it
//! joins a [`stream`] that will soon pass there, or starts one at its offset. A stream runs ahead of a sequential
//! reader by a window that doubles while the reader keeps on, waits when nobody wants more (TCP then holds the server),
//! and ends when its connection is wanted for something more urgent. A random reader gets what it asked for and no
//! more: a page is the unit of what is kept, not a block.
//!
//! The end of a transfer is never the end of a file: what counts is the size that the server told. A stream that ends
//! early is resumed where it was; when that brings nothing new, the reader gets an error. Only where the server tells no
//! size at all does a transfer that it has confirmed tell it.
//!
//! Nor may a reader get a mixture of two files. What the server said of a content when it was first read is kept
//! ([`versions`]); whenever more of it is fetched the server says it again, and a difference is an error that tells what
//! the file is like now ([`Error::Replaced`]).
//!
//! `fs` calls [`Reads::read`]; nothing here knows why somebody reads.

pub mod blocks;
mod cursor;
pub mod disk;
mod further;
mod incoming;
mod stream;
#[cfg(test)]
mod tests;
mod transfer;
mod versions;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use log::warn;

use crate::ftp::{Error, RemotePath};
use crate::lock::Mutex;
use crate::queue::{Priority, Queue};
use crate::tree::{Ino, Version};
pub use blocks::Bytes;

use blocks::Blocks;
use cursor::{Cursors, Window};
use disk::Disk;
use disk::record::Key;
use further::{Further, Lesson};
use stream::{Stream, Waiter};
use versions::Versions;

/// Where a file is on the server now; none when it is gone.
pub type Locate = Arc<dyn Fn() -> Option<RemotePath> + Send + Sync>;
/// What happens with the bytes: called once, perhaps at once, perhaps on a connection thread.
pub type Done = Box<dyn FnOnce(Result<Bytes, Error>) + Send>;

/// Whether what is fetched ahead will still be of use: asked before it is fetched.
pub type Wanted = Arc<dyn Fn() -> bool + Send + Sync>;

/// The reading side of a mount.
pub struct Reads {
    blocks: Blocks,
    disk: Option<Disk>,
    queue: Arc<Queue>,
    files: Mutex<HashMap<(Ino, Version), File>>,
    versions: Versions,
    /// How many streams one reader may have.
    streams: usize,
    lesson: Mutex<Lesson>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// Where blocks are kept over the mount, and how many bytes of them.
#[derive(Clone, Debug)]
pub struct DiskPlace {
    pub folder: PathBuf,
    pub limit: u64,
}

/// One content of one file.
#[derive(Clone)]
pub struct Content {
    pub ino: Ino,
    pub version: Version,
    /// Bytes; [`UNKNOWN_SIZE`] when only its end will tell.
    pub size: u64,
    /// When the server says that it was changed, where that is exact to the second.
    pub modified: Option<SystemTime>,
    pub locate: Locate,
}

/// A transfer that runs.
#[derive(Clone, Copy, Debug)]
pub struct Fetching {
    pub ino: Ino,
    /// Up to where it has come.
    pub at: u64,
    /// Bytes of the whole file.
    pub size: u64,
}

/// A read that memory cannot answer.
pub struct Miss {
    offset: u64,
    len: usize,
    size: u64,
    window: Window,
}

#[derive(Default)]
struct File {
    streams: Vec<Arc<Stream>>,
    cursors: Cursors,
    further: Further,
    /// Where a file of unknown size has turned out to end.
    end: Option<u64>,
}

impl Reads {
    /// Keeps at most `cache_size` bytes of blocks in memory; and some on the disk, if there is a place for them. With
    /// `prefetch`, a reader may have several streams.
    pub fn new(
        queue: Arc<Queue>,
        cache_size: u64,
        place: Option<&DiskPlace>,
        prefetch: bool,
        server: &str,
    ) -> Arc<Self> {
        let disk = place.and_then(|place| {
            let started = Disk::start(&place.folder, place.limit, server);
            let trouble = |error| warn!("no disk cache in {}: {error}", place.folder.display());
            started.map_err(trouble).ok()
        });
        Arc::new(Self {
            blocks: Blocks::new(cache_size),
            disk,
            queue,
            files: Mutex::default(),
            versions: Versions::default(),
            streams: if prefetch { further::MOST } else { 1 },
            lesson: Mutex::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        })
    }

    /// The transfers that run. None when that cannot be told at once.
    pub fn look(&self, patience: Duration) -> Option<Vec<Fetching>> {
        let files = self.files.try_lock_for(patience)?;
        let of = |file: &File| {
            let streams = file.streams.iter().filter_map(|stream| stream.look());
            // Of several for one reader, the one that it is at.
            if file.further.is_active() {
                streams.min_by_key(|fetching| fetching.at).into_iter().collect()
            } else {
                streams.collect::<Vec<_>>()
            }
        };
        Some(files.values().flat_map(of).collect())
    }

    /// Reads up to `len` bytes at `offset`; fewer only at the end of the file.
    pub fn read(self: &Arc<Self>, content: &Content, offset: u64, len: usize, done: Done) {
        self.read_for(content, Waiter::new(offset, len, done));
    }

    /// Reads for somebody who may have waited for another stream before.
    fn read_for(self: &Arc<Self>, content: &Content, waiter: Waiter) {
        match self.at_hand(content, waiter.offset, waiter.len) {
            Ok(bytes) => (waiter.done)(Ok(bytes)),
            Err(Miss { len, size, window, .. }) => {
                self.wait_for(content, size, window, Waiter { len, ..waiter }, true);
            }
        }
    }

    /// As [`Reads::read`], if memory has it all. Otherwise gives what [`Reads::fetch`] needs.
    pub fn at_hand(&self, content: &Content, offset: u64, len: usize) -> Result<Bytes, Miss> {
        let size = self.known_size(content);
        let len = (len as u64).min(size.saturating_sub(offset)) as usize;
        if len == 0 {
            return Ok(Vec::new().into());
        }
        let window = self.note(content, offset, len as u64);
        let found = match window.ahead {
            0 => self.blocks.read(content.ino, content.version, offset, len),
            _ => self.blocks.pass(content.ino, content.version, offset, len),
        };
        let Ok(bytes) = found else {
            self.misses.fetch_add(1, Ordering::Relaxed);
            return Err(Miss { offset, len, size, window });
        };
        self.hits.fetch_add(1, Ordering::Relaxed);
        if window.ahead > 0 {
            self.extend(content, offset + len as u64, window.ahead);
        }
        Ok(bytes)
    }

    /// Has brought what [`Reads::at_hand`] did not find.
    pub fn fetch(self: &Arc<Self>, content: &Content, miss: Miss, done: Done) {
        let Miss { offset, len, size, window } = miss;
        self.wait_for(content, size, window, Waiter::new(offset, len, done), true);
    }

    /// Has somebody's bytes brought: by a stream that will soon pass there, from the disk, or by a new stream.
    fn wait_for(
        self: &Arc<Self>,
        content: &Content,
        size: u64,
        window: Window,
        waiter: Waiter,
        ask_disk: bool,
    ) {
        let (offset, len) = (waiter.offset, waiter.len);
        let end = offset + len as u64;
        let goal = (end + window.ahead).min(size);
        let mut waiter = Some(waiter);
        let mut passed = None;
        let key = if ask_disk { self.disk_key(content) } else { None };
        let (new, promoted) = loop {
            let missing = match self.blocks.read(content.ino, content.version, offset, len) {
                Ok(data) => {
                    if window.ahead > 0 {
                        self.extend(content, end, window.ahead);
                    }
                    if let Some(waiter) = waiter {
                        (waiter.done)(Ok(data));
                    }
                    return;
                }
                Err(missing) => missing,
            };
            let mut files = self.files.lock();
            let file = files.entry((content.ino, content.version)).or_default();
            let joined =
                file.streams.iter().find(|s| s.join(missing, goal, window.ahead, &mut waiter)).cloned();
            if let Some(stream) = joined {
                break (None, stream.to_promote());
            }
            // A stream may have brought it between the two looks.
            if passed.replace(missing) != Some(missing) && !file.streams.is_empty() {
                continue;
            }
            let Some(waiter) = waiter else { return };
            if let (Some(disk), Some(key)) = (&self.disk, key) {
                drop(files);
                let (reads, content) = (self.clone(), content.clone());
                let blocks = missing / blocks::BLOCK..=(end - 1) / blocks::BLOCK;
                let found = move |found| {
                    reads.found_on_disk(&content, found);
                    reads.wait_for(&content, size, window, waiter, false);
                };
                return disk.fetch(key, blocks, Box::new(found));
            }
            let goal = if size <= SMALL_FILE { size } else { goal };
            let from = missing.saturating_sub(window.behind);
            let from = from - from % blocks::PAGE;
            let stream = Arc::new(Stream::new(content.clone(), from, goal, window.ahead, waiter));
            file.streams.push(stream.clone());
            let now = Instant::now();
            for file in files.values_mut().filter(|file| file.further.is_active()) {
                file.further.rest(now);
                file.streams.iter().for_each(|stream| stream.yield_to_others());
            }
            break (Some(stream), None);
        };
        if let Some(ticket) = promoted {
            self.queue.promote(ticket, Priority::Read);
        }
        if let Some(stream) = new {
            transfer::submit(self, stream);
        }
    }

    /// What a content is kept under on the disk; none when it is not kept there, or is not what it was taken for.
    fn disk_key(&self, content: &Content) -> Option<Key> {
        let known = self.versions.modified(content);
        self.disk.as_ref()?.key(content).filter(|_| known.is_none() || known == content.modified)
    }

    fn found_on_disk(&self, content: &Content, found: Vec<(u64, Vec<u8>)>) {
        if !found.is_empty() {
            self.versions.note(content, content.modified);
        }
        for (at, data) in found {
            self.blocks.insert(content.ino, content.version, at, &data);
        }
    }

    /// Bytes have come: blocks that are whole now are kept on the disk.
    fn keep_on_disk(&self, content: &Content, range: std::ops::Range<u64>) {
        let Some(disk) = &self.disk else { return };
        if content.modified.is_none() || self.versions.modified(content) != content.modified {
            return;
        }
        for index in range.start / blocks::BLOCK..=range.end.saturating_sub(1) / blocks::BLOCK {
            if let Some(block) = self.blocks.whole(content.ino, content.version, index, content.size)
                && let Some(key) = disk.key(content)
            {
                disk.store(key, index, block);
            }
        }
    }

    /// The mount ends: what is on its way to the disk gets there, if that is soon.
    pub fn settle(&self) {
        if let Some(disk) = &self.disk {
            disk.settle(GOODBYE);
        }
    }

    /// Whether exact times are worth asking for, because blocks are kept under them.
    pub fn needs_exact_times(&self) -> bool {
        self.disk.is_some()
    }

    /// Fetches the beginning of a file before anybody asks: small files whole. Returns how many bytes that is.
    pub fn fetch_ahead(self: &Arc<Self>, content: &Content, wanted: Wanted) -> u64 {
        let len = if content.size == UNKNOWN_SIZE { 0 } else { ahead_bytes(content.size) };
        let here = || self.blocks.read(content.ino, content.version, 0, len as usize).is_ok();
        if len == 0 || !self.queue.plans_ahead() || here() {
            return 0;
        }
        match (&self.disk, self.disk_key(content)) {
            (Some(disk), Some(key)) => {
                let (reads, content) = (self.clone(), content.clone());
                let found = move |found| {
                    reads.found_on_disk(&content, found);
                    if reads.blocks.read(content.ino, content.version, 0, len as usize).is_err() {
                        reads.stream_ahead(&content, len, wanted);
                    }
                };
                disk.fetch(key, 0..=(len - 1) / blocks::BLOCK, Box::new(found));
                len
            }
            _ => self.stream_ahead(content, len, wanted),
        }
    }

    fn stream_ahead(self: &Arc<Self>, content: &Content, len: u64, wanted: Wanted) -> u64 {
        let stream = {
            let mut files = self.files.lock();
            let file = files.entry((content.ino, content.version)).or_default();
            if !file.streams.is_empty() {
                return 0;
            }
            let stream = Arc::new(Stream::ahead(content.clone(), len, wanted));
            file.streams.push(stream.clone());
            stream
        };
        transfer::submit(self, stream);
        len
    }

    /// Puts a whole content that is known to be on the server (just uploaded) where readers find it.
    pub fn keep(&self, content: &Content, data: &[u8]) {
        self.versions.note(content, content.modified);
        self.blocks.insert(content.ino, content.version, 0, data);
    }

    /// The pages of a content that are still remembered, of `len` bytes from the page at `from` on: with their places in it.
    pub fn known_pages(&self, ino: Ino, version: Version, from: u64, len: usize) -> Vec<(usize, Vec<u8>)> {
        let pages = (0..len).step_by(blocks::PAGE as usize);
        let page = |at: usize| {
            // The last page may have been a short one.
            let page = self.blocks.page(ino, version, from + at as u64)?;
            Some((at, page.into_iter().take(len - at).collect()))
        };
        pages.filter_map(page).collect()
    }

    /// Somebody opens this file.
    pub fn opened(&self, ino: Ino) {
        self.versions.opened(ino);
    }

    /// Nobody has this file open any more: what would come ahead of its readers is not wanted.
    pub fn closed(&self, ino: Ino) {
        self.versions.closed(ino);
        let files = self.files.lock();
        let streams = files.iter().filter(|(key, _)| key.0 == ino).flat_map(|(_, file)| &file.streams);
        streams.for_each(|stream| stream.leave());
    }

    /// Forgets all blocks, those on the disk included.
    pub fn forget_all(&self) {
        if let Some(disk) = &self.disk {
            disk.forget();
        }
        // After it: what had just been read there is forgotten, too.
        self.blocks.clear();
    }

    /// How many bytes of blocks are held.
    pub fn cached_bytes(&self) -> u64 {
        self.blocks.bytes()
    }

    /// How many bytes of blocks may be held.
    pub fn cache_limit(&self) -> u64 {
        self.blocks.limit()
    }

    /// How many reads were answered from memory, and how many had to wait.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }

    /// How long a content is, as far as is known by now.
    fn known_size(&self, content: &Content) -> u64 {
        if content.size != UNKNOWN_SIZE {
            return content.size;
        }
        let files = self.files.lock();
        files.get(&(content.ino, content.version)).and_then(|file| file.end).unwrap_or(UNKNOWN_SIZE)
    }

    /// A file of unknown size has been read to its end.
    fn ends_at(&self, content: &Content, end: u64) {
        self.files.lock().entry((content.ino, content.version)).or_default().end = Some(end);
    }

    /// Notes where a reader is; tells how far a stream may run ahead of it.
    fn note(&self, content: &Content, offset: u64, len: u64) -> Window {
        let mut files = self.files.lock();
        if files.len() > MAX_FILES {
            files.retain(|_, file| !file.streams.is_empty());
        }
        let file = files.entry((content.ino, content.version)).or_default();
        let window = file.cursors.advance(offset, len);
        if window.ahead.max(window.behind) <= MIN_WINDOW {
            return window;
        }
        let readers = files.values().filter(|file| !file.streams.is_empty()).count().max(1) as u64;
        let bound = (self.blocks.limit() / (4 * readers)).clamp(MIN_WINDOW, MAX_WINDOW);
        Window { ahead: window.ahead.min(bound), behind: window.behind.min(bound) }
    }

    fn extend(&self, content: &Content, end: u64, window: u64) {
        let files = self.files.lock();
        if let Some(file) = files.get(&(content.ino, content.version)) {
            let goal = (end + window).min(content.size);
            file.streams.iter().for_each(|stream| stream.extend(end, goal, window));
        }
    }

    fn remove(&self, stream: &Arc<Stream>) {
        let mut files = self.files.lock();
        let Some(file) = files.get_mut(&stream.key()) else { return };
        file.streams.retain(|other| !Arc::ptr_eq(other, stream));
        if file.streams.is_empty() {
            file.further = Further::default();
        } else {
            file.further.add(stream.brought());
            if stream.is_further() && stream.was_interrupted() {
                // By somebody who needs its connection, or because nobody reads.
                file.further.rest(Instant::now());
            }
        }
    }
}

/// How much of a file of this size is fetched ahead.
pub fn ahead_bytes(size: u64) -> u64 {
    if size <= SMALL_FILE { size } else { HEAD }
}

/// The size of a file whose server does not tell it.
pub const UNKNOWN_SIZE: u64 = u64::MAX;
/// What the kernel asks for when a program looks at the beginning of a file.
const HEAD: u64 = 96 * 1024;
/// Up to this size a file is fetched whole: the transfer's cost is its round trips.
const SMALL_FILE: u64 = 256 * 1024;
/// A stream may always run this far ahead.
const MIN_WINDOW: u64 = 128 * 1024;
/// Enough for 1 Gbit/s at 60 ms; more would only evict what others read.
const MAX_WINDOW: u64 = 8 * 1024 * 1024;
/// How long the end of a mount waits for the disk cache.
const GOODBYE: Duration = Duration::from_secs(1);
/// Reading positions are remembered for this many files.
const MAX_FILES: usize = 1024;
