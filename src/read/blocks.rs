//! The block cache: contents of files in memory, bounded in bytes, evicted least recently used first.
//!
//! A block is 128 KiB of one version of one file. Which of its 4 KiB pages are there is a bit mask, so that a random
//! reader of 4 KiB costs 4 KiB on the wire; the last page of a file may be short. A new version of a file has a new
//! key, so an old block can never be mixed with a new one: it just ages out.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use lru::LruCache;

use crate::lock::Mutex;
use crate::tree::{Ino, Version};

/// Blocks of all files of a mount.
pub struct Blocks {
    inner: Mutex<Inner>,
    limit: u64,
}

struct Inner {
    blocks: LruCache<Key, Block>,
    bytes: u64,
    /// Buffers of whole blocks that were evicted, for those that come next: memory that is mapped already.
    spare: Vec<Vec<u8>>,
}

type Key = (Ino, Version, u64);

struct Block {
    pages: u32,
    data: Arc<Vec<u8>>,
}

/// Bytes of a file: a part of a block, which is not copied, or some of their own.
pub enum Bytes {
    Part(Arc<Vec<u8>>, Range<usize>),
    Own(Vec<u8>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Part(block, range) => block.get(range.clone()).unwrap_or_default(),
            Self::Own(bytes) => bytes,
        }
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Own(bytes)
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

impl Blocks {
    /// Holds at most `limit` bytes, but at least 4 MiB: the largest read must find all its blocks here at once.
    pub fn new(limit: u64) -> Self {
        Self {
            inner: Mutex::new(Inner { blocks: LruCache::unbounded(), bytes: 0, spare: Vec::new() }),
            limit: limit.max(SMALLEST),
        }
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes held now.
    pub fn bytes(&self) -> u64 {
        self.inner.lock().bytes
    }

    /// All of `len` bytes at `offset`, or the offset of the first page that is not here.
    pub fn read(&self, ino: Ino, version: Version, offset: u64, len: usize) -> Result<Bytes, u64> {
        self.find(ino, version, offset, len, true)
    }

    /// As [`Blocks::read`], for one who passes by once: what he leaves behind is not kept longer for it than what lies ahead
    /// of him.
    pub fn pass(&self, ino: Ino, version: Version, offset: u64, len: usize) -> Result<Bytes, u64> {
        self.find(ino, version, offset, len, false)
    }

    fn find(&self, ino: Ino, version: Version, offset: u64, len: usize, is_use: bool) -> Result<Bytes, u64> {
        let end = offset + len as u64;
        let mut parts = Vec::with_capacity(len / BLOCK as usize + 2);
        {
            let mut inner = self.inner.lock();
            let mut at = offset;
            while at < end {
                let start = at - at % BLOCK;
                let upto = end.min(start + BLOCK);
                let key = (ino, version, start / BLOCK);
                let block = if is_use { inner.blocks.get(&key) } else { inner.blocks.peek(&key) };
                let Some(block) = block else { return Err(at - at % PAGE) };
                if let Some(page) =
                    (at % BLOCK / PAGE..(upto - start).div_ceil(PAGE)).find(|&p| block.pages >> p & 1 == 0)
                {
                    return Err(start + page * PAGE);
                }
                parts.push((block.data.clone(), (at - start) as usize..(upto - start) as usize));
                at = upto;
            }
        }
        let bytes = match parts.pop() {
            Some((block, range)) if parts.is_empty() => Bytes::Part(block, range),
            last => {
                let mut data = Vec::with_capacity(len);
                for (block, range) in parts.iter().chain(&last) {
                    data.extend_from_slice(block.get(range.clone()).unwrap_or_default());
                }
                Bytes::Own(data)
            }
        };
        if bytes.len() == len { Ok(bytes) } else { Err(offset - offset % PAGE) }
    }

    /// What is known of one page, whose last bytes are missing at the end of a file.
    pub fn page(&self, ino: Ino, version: Version, offset: u64) -> Option<Vec<u8>> {
        let mut inner = self.inner.lock();
        let block = inner.blocks.get(&(ino, version, offset / BLOCK))?;
        let inside = (offset % BLOCK) as usize;
        if block.pages >> (inside as u64 / PAGE) & 1 == 0 {
            return None;
        }
        Some(block.data.get(inside..block.data.len().min(inside + PAGE as usize))?.to_vec())
    }

    /// One block of a content of `size` bytes, if all of it is here.
    pub fn whole(&self, ino: Ino, version: Version, index: u64, size: u64) -> Option<Arc<Vec<u8>>> {
        let inner = self.inner.lock();
        let block = inner.blocks.peek(&(ino, version, index))?;
        let len = size.checked_sub(index * BLOCK)?.min(BLOCK);
        let pages = len.div_ceil(PAGE);
        let is_whole = block.pages.count_ones() as u64 == pages && block.data.len() as u64 == len;
        (is_whole && len > 0).then(|| block.data.clone())
    }

    /// Adds bytes by copying them; `offset` is the start of a page, and only the last page of a file may be short.
    pub fn insert(&self, ino: Ino, version: Version, offset: u64, mut data: &[u8]) {
        debug_assert_eq!(offset % PAGE, 0);
        let mut inner = self.inner.lock();
        let mut at = offset;
        while !data.is_empty() {
            let inside = (at % BLOCK) as usize;
            let (part, rest) = data.split_at(data.len().min(BLOCK as usize - inside));
            let key = (ino, version, at / BLOCK);
            let needed = inside + part.len();
            let block = inner.blocks.get_or_insert_mut(key, || Block { pages: 0, data: Arc::default() });
            // Of a block whose reply is still being written this makes a copy, which may be smaller.
            let before = block.data.capacity() as u64;
            let bytes = Arc::make_mut(&mut block.data);
            if bytes.len() < needed {
                bytes.reserve_exact(needed.next_power_of_two().min(BLOCK as usize).max(needed) - bytes.len());
                // What is appended need not be zeros first.
                bytes.resize(inside.max(bytes.len()), 0);
            }
            let (over, behind) = part.split_at(part.len().min(bytes.len() - inside));
            if let Some(target) = bytes.get_mut(inside..inside + over.len()) {
                target.copy_from_slice(over);
            }
            bytes.extend_from_slice(behind);
            let after = bytes.capacity() as u64;
            block.pages |= pages(inside, part.len());
            inner.bytes = (inner.bytes + after).saturating_sub(before);
            at += part.len() as u64;
            data = rest;
        }
        inner.evict(self.limit);
    }

    /// Adds a whole block, or the last one of a file, without copying it.
    pub fn insert_whole(&self, ino: Ino, version: Version, index: u64, data: Vec<u8>) {
        debug_assert!(!data.is_empty() && data.len() as u64 <= BLOCK);
        let mut inner = self.inner.lock();
        inner.bytes += data.capacity() as u64;
        let block = Block { pages: pages(0, data.len()), data: Arc::new(data) };
        if let Some((_, old)) = inner.blocks.push((ino, version, index), block) {
            inner.bytes -= old.data.capacity() as u64;
        }
        inner.evict(self.limit);
    }

    /// Room for so many bytes that are about to come. What is in it means nothing.
    pub fn buffer(&self, len: usize) -> Vec<u8> {
        let spare = if len as u64 == BLOCK { self.inner.lock().spare.pop() } else { None };
        spare.unwrap_or_else(|| vec![0; len])
    }

    /// Forgets everything.
    pub fn clear(&self) {
        let mut inner = self.inner.lock();
        inner.blocks.clear();
        inner.bytes = 0;
        inner.spare.clear();
    }
}

impl Inner {
    fn evict(&mut self, limit: u64) {
        while self.bytes > limit {
            let Some((_, block)) = self.blocks.pop_lru() else { break };
            self.bytes -= block.data.capacity() as u64;
            // Not one whose reply is still being written.
            if self.spare.len() < MAX_SPARE
                && let Some(data) = Arc::into_inner(block.data)
                && data.len() as u64 == BLOCK
            {
                self.spare.push(data);
            }
        }
    }
}

/// The bits of the pages in which `len` bytes lie, from the page at `inside` on.
fn pages(inside: usize, len: usize) -> u32 {
    (((1u64 << (len as u64).div_ceil(PAGE)) - 1) << (inside as u64 / PAGE)) as u32
}

/// What the kernel asks for and fills its cache in.
pub const PAGE: u64 = 4096;
/// 32 pages: what the kernel asks for at once when a program reads large pieces (`cp`, `dd`), so that such a read is one
/// block and needs no copy. One bit each in a `u32`.
pub const BLOCK: u64 = 32 * PAGE;

const SMALLEST: u64 = 4 << 20;
/// One for each of the transfers that may run at once, as a rule.
const MAX_SPARE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const INO: Ino = Ino(7);
    const VERSION: Version = Version(1);

    fn bytes(offset: u64, len: usize) -> Vec<u8> {
        (0..len as u64).map(|i| ((offset + i) / 3) as u8).collect()
    }

    #[test]
    fn what_was_put_in_comes_out_across_blocks() {
        let blocks = Blocks::new(1 << 20);
        blocks.insert(INO, VERSION, 4096, &bytes(4096, 300_000));
        assert_eq!(*blocks.read(INO, VERSION, 5000, 290_000).unwrap(), *bytes(5000, 290_000));
        assert_eq!(blocks.read(INO, VERSION, 0, 10).unwrap_err(), 0);
        assert_eq!(blocks.read(INO, VERSION, 300_000, 10_000).unwrap_err(), 307_200);
        assert_eq!(blocks.read(INO, Version(2), 5000, 10).unwrap_err(), 4096);
    }

    #[test]
    fn a_page_that_is_missing_in_the_middle_is_named() {
        let blocks = Blocks::new(1 << 20);
        blocks.insert(INO, VERSION, 0, &bytes(0, 4096));
        blocks.insert(INO, VERSION, 8192, &bytes(8192, 4096));
        assert_eq!(blocks.read(INO, VERSION, 0, 12_288).unwrap_err(), 4096);
        assert_eq!(*blocks.read(INO, VERSION, 8192, 4096).unwrap(), *bytes(8192, 4096));
    }

    #[test]
    fn what_was_passed_goes_before_what_lies_ahead() {
        let blocks = Blocks::new(SMALLEST);
        let all = SMALLEST / BLOCK;
        (0..all).for_each(|i| blocks.insert(INO, VERSION, i * BLOCK, &bytes(0, BLOCK as usize)));
        blocks.read(INO, VERSION, BLOCK, 10).unwrap();
        blocks.pass(INO, VERSION, 0, 10).unwrap();
        blocks.insert(INO, VERSION, all * BLOCK, &bytes(0, BLOCK as usize));
        assert!(blocks.read(INO, VERSION, 0, 10).is_err());
        assert!(blocks.read(INO, VERSION, BLOCK, 10).is_ok());
    }

    #[test]
    fn a_block_that_came_whole_replaces_the_part_of_it_that_was_there() {
        let blocks = Blocks::new(SMALLEST);
        blocks.insert(INO, VERSION, BLOCK, &bytes(0, 8192));
        blocks.insert_whole(INO, VERSION, 1, bytes(BLOCK, BLOCK as usize));
        assert_eq!(*blocks.read(INO, VERSION, BLOCK, 100_000).unwrap(), *bytes(BLOCK, 100_000));
        blocks.insert_whole(INO, VERSION, 2, bytes(2 * BLOCK, 5000));
        assert_eq!(*blocks.read(INO, VERSION, 2 * BLOCK - 10, 5010).unwrap(), *bytes(2 * BLOCK - 10, 5010));
        assert_eq!(blocks.bytes(), BLOCK + 5000);
    }

    #[test]
    fn a_buffer_is_used_again_but_not_while_somebody_reads_it() {
        let blocks = Blocks::new(SMALLEST);
        let all = SMALLEST / BLOCK;
        let fill = |version: u64, index: u64| {
            let mut data = blocks.buffer(BLOCK as usize);
            data.copy_from_slice(&bytes(index * BLOCK + version, BLOCK as usize));
            blocks.insert_whole(INO, Version(version), index, data);
            assert!(blocks.bytes() <= SMALLEST);
        };
        (0..all).for_each(|index| fill(1, index));
        let held = blocks.pass(INO, Version(1), 0, 10_000).unwrap();
        (0..2 * all).for_each(|index| fill(2, index));
        assert_eq!(*held, *bytes(1, 10_000));
        assert!(!blocks.inner.lock().spare.is_empty());
    }

    #[test]
    fn a_block_that_grows_while_somebody_reads_it_is_counted_once() {
        let blocks = Blocks::new(SMALLEST);
        let page = bytes(0, PAGE as usize);
        for at in 0..BLOCK / PAGE {
            blocks.insert(INO, VERSION, at * PAGE, &page);
            // Its reply is still being written when the next page comes, and when this one comes again.
            let _held = blocks.pass(INO, VERSION, at * PAGE, 10).unwrap();
            blocks.insert(INO, VERSION, at * PAGE, &page);
            let held: usize = blocks.inner.lock().blocks.iter().map(|(_, b)| b.data.capacity()).sum();
            assert_eq!(blocks.bytes(), held as u64);
        }
    }

    #[test]
    fn memory_stays_within_the_limit() {
        let blocks = Blocks::new(SMALLEST);
        for i in 0..100 {
            blocks.insert(INO, VERSION, i * 131_072, &bytes(0, 131_072));
            assert!(blocks.bytes() <= SMALLEST);
        }
        assert!(blocks.read(INO, VERSION, 99 * 131_072, 10).is_ok());
        assert!(blocks.read(INO, VERSION, 0, 10).is_err());
    }
}
