//! A draft: a file as its writers see it, above what the server has.
//!
//! One that is written from its start on can be uploaded meanwhile ([`outgoing`]); what it does then is told in
//! [`super::streaming`].

mod changes;
pub mod outgoing;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Condvar;

use super::journal::Record;
use super::journal::record::PIECE;
use super::ranges::Ranges;
use super::spool::Spool;
use crate::ftp::Error;
use crate::read::Content;
use outgoing::Outgoing;

/// The local state of a file that somebody changes.
pub struct Draft {
    spool: Spool,
    /// Bytes, as `stat` shows it.
    size: u64,
    /// What the spool holds.
    present: Ranges,
    /// What has been written since the last upload began.
    dirty: Ranges,
    /// Size or existence changed since the last upload began, perhaps without a byte written.
    resized: bool,
    base: Option<Base>,
    /// The smallest size since the last upload began: what it brought over beyond this has been cut off here.
    smallest: u64,
    /// How far the upload that runs has read the draft.
    sent: u64,
    /// It is uploaded while it is written.
    outgoing: Option<Outgoing>,
    /// Below this the spool has let go of what was sent, though it is not confirmed.
    dropped: u64,
    /// It was tried, and is not worth another try before the next confirmed upload.
    must_not_stream: bool,
    /// Why it ended.
    failed: Option<Error>,
    failed_before: bool,
    /// Something came that an upload under way waits for.
    changed: Arc<Condvar>,
    /// A time set by a program after its last write, to be set on the server with the data.
    pub modified: Option<SystemTime>,
    /// Permission bits set by a program, likewise.
    pub mode: Option<u32>,
    /// When the content on the server was modified, to the second; none when that is not known.
    pub base_time: Option<SystemTime>,
    generation: Generation,
}

/// Counts what programs change in drafts: as long as it is the same, so is the draft. All drafts count together, so that the one
/// with the greater count is the newer, also when a draft was forgotten and the next one of the same file begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(u64);

impl Generation {
    pub fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// The content on the server below a draft.
#[derive(Clone)]
pub struct Base {
    pub content: Content,
    /// Bytes of it that are still part of the file: less than its size after a truncation.
    pub limit: u64,
}

/// The first part of a range of a draft.
pub enum Piece {
    /// All of it is here.
    Here(Vec<u8>),
    /// This part must be fetched from the base first.
    Missing(Content, Range<u64>),
    /// The spool has let go of it, and the server has not confirmed it: it can be read once that has happened.
    Sent,
}

/// What a write calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Nothing,
    /// An upload that goes on while the file is written.
    Begin,
    /// The one that was parked: there is enough for it again, or no room without it, and then the writer waits, too.
    GoOn,
    /// The writer is too far ahead.
    Room,
}

/// How a draft can be brought to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// There is nothing to send.
    Nothing,
    /// The server has no such file.
    New,
    /// Only bytes after the end of what the server has.
    Added(Range<u64>),
    /// Anything else.
    Rewritten,
}

impl Draft {
    /// A new, empty file that the server does not have.
    pub fn new() -> Self {
        Self { resized: true, ..Self::over(None, 0) }
    }

    /// A file that the server has.
    pub fn of(content: Content) -> Self {
        let size = content.size;
        Self::over(Some(Base { content, limit: size }), size)
    }

    fn over(base: Option<Base>, size: u64) -> Self {
        Self {
            spool: Spool::new(),
            size,
            present: Ranges::default(),
            dirty: Ranges::default(),
            resized: false,
            sent: 0,
            outgoing: None,
            dropped: 0,
            must_not_stream: false,
            failed: None,
            failed_before: false,
            changed: Arc::default(),
            base,
            smallest: size,
            modified: None,
            mode: None,
            base_time: None,
            generation: Generation::next(),
        }
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Writes at an offset; large drafts go to a file in `folder`.
    pub fn write(&mut self, offset: u64, data: &[u8], folder: &Path) -> io::Result<()> {
        if self.is_lost() {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.goes_back(offset);
        self.spool.write_at(offset, data, folder)?;
        let range = offset..offset + data.len() as u64;
        self.size = self.size.max(range.end);
        self.present.insert(range.clone());
        self.dirty.insert(range);
        self.modified = None;
        self.generation = Generation::next();
        self.changed.notify_all();
        Ok(())
    }

    /// Cuts or grows the file; what is gained reads as zeros.
    pub fn resize(&mut self, size: u64) -> io::Result<()> {
        self.goes_back(size);
        self.smallest = self.smallest.min(size);
        if size < self.size {
            self.dropped = self.dropped.min(size);
            self.spool.truncate(size)?;
            self.present.truncate(size);
            self.dirty.truncate(size);
            if let Some(base) = &mut self.base {
                base.limit = base.limit.min(size);
            }
        }
        self.resized |= size != self.size;
        self.size = size;
        self.modified = None;
        self.generation = Generation::next();
        self.changed.notify_all();
        Ok(())
    }

    /// Up to `len` bytes at an offset, or the first part that must be fetched.
    pub fn read(&self, offset: u64, len: usize) -> io::Result<Piece> {
        let range = offset.min(self.size)..(offset + len as u64).min(self.size);
        if let Some((content, gap)) = self.first_gap(range.clone()) {
            return Ok(Piece::Missing(content, gap));
        }
        if !range.is_empty() && !self.present.gaps(range.start..range.end.min(self.dropped)).is_empty() {
            return if self.is_lost() {
                Err(io::Error::from_raw_os_error(libc::EIO))
            } else {
                Ok(Piece::Sent)
            };
        }
        let mut data = vec![0; (range.end - range.start) as usize];
        self.spool.read_at(range.start, &mut data)?;
        Ok(Piece::Here(data))
    }

    /// The first part of `range` that only the server has.
    pub fn first_gap(&self, range: Range<u64>) -> Option<(Content, Range<u64>)> {
        let base = self.base.as_ref()?;
        let gap = self.present.gaps(range.start..range.end.min(base.limit)).into_iter().next()?;
        Some((base.content.clone(), gap))
    }

    /// Takes over bytes fetched from `content`, where nothing newer is.
    pub fn fill(&mut self, content: &Content, offset: u64, data: &[u8], folder: &Path) -> io::Result<()> {
        let Some(base) = self.base.as_ref().filter(|base| base.content.version == content.version) else {
            return Ok(());
        };
        let end = (offset + data.len() as u64).min(base.limit);
        for gap in self.present.gaps(offset..end.max(offset)) {
            let part =
                data.get((gap.start - offset) as usize..(gap.end - offset) as usize).unwrap_or_default();
            self.spool.write_at(gap.start, part, folder)?;
            self.present.insert(gap);
        }
        Ok(())
    }

    /// Fills `buffer` from the spool at an offset, for the upload: everything must be present.
    pub(super) fn copy_out(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if !self.present.gaps(offset..self.dropped.clamp(offset, offset + buffer.len() as u64)).is_empty() {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.spool.read_at(offset, buffer)
    }

    /// How far the upload that runs has come; bytes given to the connection, not yet confirmed.
    pub fn sent(&self) -> u64 {
        self.outgoing.as_ref().map_or(self.sent, |outgoing| outgoing.sent)
    }

    pub(super) fn note_sent(&mut self, upto: u64) {
        self.sent = upto;
    }

    /// Whether the server lacks something.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty() || self.resized
    }

    /// What the server lacks.
    pub fn change(&self) -> Change {
        let Some(base) = &self.base else {
            return if self.is_dirty() { Change::New } else { Change::Nothing };
        };
        if !self.is_dirty() {
            return Change::Nothing;
        }
        let added = base.content.size..self.size;
        let only_added = base.limit == base.content.size
            && base.content.size > 0
            && self.dirty.start().is_some_and(|start| start >= added.start)
            && self.dirty.gaps(added.clone()).is_empty()
            && !added.is_empty();
        if only_added { Change::Added(added) } else { Change::Rewritten }
    }

    /// The file's time on the server is no longer the one that was known.
    pub fn forget_time(&mut self) {
        self.base_time = None;
    }

    /// An upload begins: what is written from now on belongs to the next one.
    pub fn begin_upload(&mut self) -> Sending {
        self.smallest = self.size;
        self.sent = 0;
        Sending {
            dirty: std::mem::take(&mut self.dirty),
            resized: std::mem::take(&mut self.resized),
            failed_before: self.failed_before,
            may_be_there: false,
            modified: self.modified.take(),
            mode: self.mode.take(),
        }
    }

    /// The upload failed: everything is to be sent again.
    pub fn upload_failed(&mut self, sending: Sending) {
        self.outgoing = None;
        self.failed_before = sending.failed_before;
        self.dirty.extend(sending.dirty);
        self.dirty.truncate(self.size);
        self.resized |= sending.resized;
        self.modified = self.modified.or(sending.modified);
        self.mode = self.mode.or(sending.mode);
    }

    /// The upload is confirmed: `content` is what the server has now.
    pub fn upload_confirmed(&mut self, content: Content) {
        let limit = content.size.min(self.smallest);
        self.base = Some(Base { content, limit });
        self.outgoing = None;
        self.dropped = 0;
        self.must_not_stream = false;
        self.failed = None;
        self.failed_before = false;
    }

    /// The server has `size` bytes now, which an earlier upload of this draft brought: they are what lies below. False when a part of
    /// the old content that is needed is not there any more.
    pub(super) fn rebase(&mut self, size: u64, at: Option<SystemTime>) -> bool {
        let Some(base) = self.base.as_mut().filter(|base| base.limit <= size) else { return false };
        base.content.size = size;
        self.base_time = at;
        true
    }

    /// A draft made again from what a [`Record`] says, whose bytes `bytes` brings (offset, buffer).
    ///
    /// # Errors
    /// Those of the local disk.
    pub fn restored(
        record: &Record,
        base: Option<Base>,
        folder: &Path,
        mut bytes: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<Self> {
        let mut draft = Self { resized: true, ..Self::over(base, record.size) };
        let mut buffer = vec![0; PIECE];
        for (at, len) in record.pieces() {
            let piece = buffer.get_mut(..len).unwrap_or_default();
            bytes(at, piece)?;
            draft.spool.write_at(at, piece, folder)?;
        }
        for part in &record.parts {
            draft.present.insert(part.clone());
            draft.dirty.insert(part.clone());
        }
        draft.modified = record.modified;
        draft.mode = record.mode;
        Ok(draft)
    }

    /// The content on the server below it.
    pub fn base(&self) -> Option<Base> {
        self.base.clone()
    }

    /// Bytes that only this draft has.
    pub fn held(&self) -> u64 {
        self.unsent().iter().map(|part| part.end - part.start).sum()
    }

    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// A time or permission bits were set.
    pub fn note_attributes(&mut self) {
        self.generation = Generation::next();
    }

    /// What the server has below it, for a record. `is_new`: it has no such file.
    pub(crate) fn below(&self, is_new: bool) -> super::journal::Below {
        use super::journal::Below;
        match &self.base {
            // Nobody has told its size.
            Some(base) if base.content.size > i64::MAX as u64 => Below::Unknown,
            Some(base) => {
                Below::File { size: base.content.size, limit: base.limit, modified: self.base_time }
            }
            None if is_new => Below::Nothing,
            None => Below::Unknown,
        }
    }

    /// The parts that only this draft has, for [`super::kept`] and [`super::journal`].
    pub(super) fn unsent(&self) -> Vec<Range<u64>> {
        match &self.base {
            None => std::iter::once(self.dropped..self.size).collect(),
            Some(_) => self.written(),
        }
    }

    /// The same without what was never written, and reads as zeros.
    pub(super) fn written(&self) -> Vec<Range<u64>> {
        self.present.iter().cloned().collect()
    }
}

impl Default for Draft {
    fn default() -> Self {
        Self::new()
    }
}

/// What an upload under way has taken from its draft.
#[derive(Clone, Debug, Default)]
pub struct Sending {
    dirty: Ranges,
    resized: bool,
    /// An upload before this one has failed, and may have changed the file on the server.
    pub failed_before: bool,
    /// It was to make a new file, and has begun.
    pub may_be_there: bool,
    pub modified: Option<SystemTime>,
    pub mode: Option<u32>,
}
