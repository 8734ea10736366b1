//! Bytes on their way from the socket into the block cache.
//!
//! They are received where they will stay: into the buffer of their block, which becomes the block when it is full, so that
//! nothing is copied. Before that, a part of it is copied into the cache when somebody waits for just that part, when nobody
//! wants more, or when the server is waited for and nobody waits here: whoever asks next must find what has come.
//!
//! Used by `transfer`.

use std::ops::Range;

use super::Content;
use super::blocks::{BLOCK, Blocks, PAGE};

/// What has come of one block, or is about to.
pub(super) struct Incoming {
    /// The place in the file of the first byte: the start of a page, or the end of the file.
    at: u64,
    data: Vec<u8>,
    received: usize,
    /// So many of them are in the cache.
    put: usize,
}

impl Incoming {
    /// For what comes at `at`, up to `end` but not beyond the end of a block.
    pub(super) fn new(blocks: &Blocks, at: u64, end: u64, size: u64) -> Self {
        let len = if at < size {
            let pages = end.saturating_sub(at).clamp(1, BLOCK).next_multiple_of(PAGE);
            pages.min(BLOCK - at % BLOCK).min(size - at)
        } else {
            // Room to find out that the file has grown.
            PAGE
        };
        Self { at, data: blocks.buffer(len as usize), received: 0, put: 0 }
    }

    /// The place in the file of the next byte that is to come.
    pub(super) fn next(&self) -> u64 {
        self.at + self.received as u64
    }

    /// How many bytes have come that are not in the cache.
    pub(super) fn pending(&self) -> u64 {
        (self.received - self.put) as u64
    }

    /// Where the last whole page ends that has come.
    pub(super) fn pages_end(&self) -> u64 {
        self.at + self.whole_pages() as u64
    }

    /// How many of the bytes that have come are in whole pages.
    fn whole_pages(&self) -> usize {
        self.received - self.received % PAGE as usize
    }

    pub(super) fn is_full(&self) -> bool {
        self.received == self.data.len()
    }

    /// Where the next bytes are received.
    pub(super) fn room(&mut self) -> &mut [u8] {
        self.data.get_mut(self.received..).unwrap_or_default()
    }

    /// So many bytes have been received.
    pub(super) fn add(&mut self, bytes: usize) {
        self.received = (self.received + bytes).min(self.data.len());
    }

    /// Copies the pages that have come into the cache; tells which are new there. A short page only at the end of the file.
    pub(super) fn put(&mut self, blocks: &Blocks, content: &Content, is_end: bool) -> Range<u64> {
        let upto = if is_end { self.received } else { self.whole_pages() };
        let new = self.put..upto.max(self.put);
        let range = self.at + new.start as u64..self.at + new.end as u64;
        self.put = new.end;
        if let Some(data) = self.data.get(new).filter(|data| !data.is_empty()) {
            blocks.insert(content.ino, content.version, range.start, data);
        }
        range
    }

    /// It is full: puts all of it into the cache, without a copy if it is a block. Tells what is new there.
    pub(super) fn finish(mut self, blocks: &Blocks, content: &Content) -> Range<u64> {
        let is_last = self.next() == content.size;
        if self.at.is_multiple_of(BLOCK) && (self.data.len() as u64 == BLOCK || is_last) {
            let range = self.at + self.put as u64..self.next();
            blocks.insert_whole(content.ino, content.version, self.at / BLOCK, self.data);
            range
        } else {
            self.put(blocks, content, is_last)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::tree::{Ino, Version};

    const MUCH: u64 = 1 << 30;

    fn content(size: u64) -> Content {
        Content { ino: Ino(7), version: Version(1), size, modified: None, locate: Arc::new(|| None) }
    }

    fn receive(incoming: &mut Incoming, bytes: usize) {
        incoming.room()[..bytes].fill(b'x');
        incoming.add(bytes);
    }

    #[test]
    fn what_has_come_is_told_once() {
        let (blocks, content) = (Blocks::new(MUCH), content(MUCH));
        let mut incoming = Incoming::new(&blocks, 0, MUCH, MUCH);
        receive(&mut incoming, 10_000);
        assert_eq!(incoming.put(&blocks, &content, false), 0..8192, "whole pages");
        assert_eq!(incoming.pending(), 10_000 - 8192);
        assert_eq!(incoming.put(&blocks, &content, false), 8192..8192);
        assert_eq!(blocks.read(content.ino, content.version, 0, 8193).unwrap_err(), 8192);
        receive(&mut incoming, BLOCK as usize - 10_000);
        assert!(incoming.is_full());
        assert_eq!(incoming.finish(&blocks, &content), 8192..BLOCK);
        assert_eq!(blocks.read(content.ino, content.version, 0, BLOCK as usize).unwrap().len() as u64, BLOCK);
    }

    #[test]
    fn there_is_room_up_to_what_is_wanted_the_end_of_a_block_and_that_of_the_file() {
        let (blocks, size) = (Blocks::new(MUCH), 3 * BLOCK + 5000);
        let room = |at, end| Incoming::new(&blocks, at, end, size).room().len() as u64;
        assert_eq!(room(PAGE, PAGE + 10), PAGE);
        assert_eq!(room(PAGE, MUCH), BLOCK - PAGE);
        assert_eq!(room(3 * BLOCK, MUCH), 5000);
        assert_eq!(room(size, MUCH), PAGE, "has it grown?");
    }

    #[test]
    fn the_short_page_at_the_end_of_a_file_is_one() {
        let (blocks, content) = (Blocks::new(MUCH), content(BLOCK + 5000));
        let mut incoming = Incoming::new(&blocks, BLOCK, MUCH, content.size);
        receive(&mut incoming, 5000);
        assert_eq!(incoming.finish(&blocks, &content), BLOCK..BLOCK + 5000);
        assert_eq!(blocks.read(content.ino, content.version, BLOCK, 5000).unwrap().len(), 5000);
    }
}
