//! What an upload reads its bytes from: the draft, as far as nobody waits to remove the file. Used by [`super::Upload`].

use std::io;
use std::ops::Range;

use parking_lot::Mutex;

use super::IsUnlinked;
use crate::write::Draft;

/// A range of a draft.
pub(super) struct Source<'d> {
    draft: &'d Mutex<Draft>,
    is_unlinked: &'d IsUnlinked,
    at: u64,
    end: u64,
}

impl<'d> Source<'d> {
    pub fn new(draft: &'d Mutex<Draft>, is_unlinked: &'d IsUnlinked, range: Range<u64>) -> Self {
        Self { draft, is_unlinked, at: range.start, end: range.end }
    }
}

impl io::Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if (self.is_unlinked)() {
            return Err(io::Error::from_raw_os_error(libc::ECANCELED));
        }
        let len = buffer.len().min((self.end - self.at) as usize);
        let buffer = &mut buffer[..len];
        let mut draft = self.draft.lock();
        draft.copy_out(self.at, buffer)?;
        self.at += len as u64;
        draft.note_sent(self.at);
        Ok(len)
    }
}
