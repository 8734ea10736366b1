//! The state of a draft that is uploaded while it is written.
//!
//! Bytes are given to the connection in the order of their offsets, as far as they have been written without a gap. All such
//! drafts together hold at most `spool_size` on the local disk: beyond it, a draft lets go of what was sent long enough
//! ago, and a program that is further ahead of the line than its share waits for room. What was let go can only be had
//! again from the server, so a program that goes back to it *seals* the upload first.
//!
//! Part of [`super::Draft`], under its lock.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Sending;
use crate::ftp::Error;

/// Told when there is room again, or that there will be none.
pub type Room = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// How an upload goes on while its file is written.
#[derive(Default)]
pub(super) struct Outgoing {
    /// Given to the connection.
    pub sent: u64,
    /// No connection works on it just now.
    pub parked: bool,
    /// The program went back to what was sent: the upload is worth nothing.
    pub spoiled: bool,
    /// The file as it is to be confirmed: its size, and what was taken out of the draft.
    pub sealed: Option<(u64, Sending)>,
    /// Writers that wait for room.
    pub blocked: Vec<Room>,
    held: u64,
}

impl Outgoing {
    /// Counts what the spool holds of this draft.
    pub fn hold(&mut self, bytes: u64) {
        HELD.fetch_add(bytes, Ordering::Relaxed);
        HELD.fetch_sub(self.held, Ordering::Relaxed);
        self.held = bytes;
    }

    /// Where the spool may let go of what was sent: what may still be on its way is kept.
    pub fn droppable(&self, limit: u64) -> Option<u64> {
        (HELD.load(Ordering::Relaxed) > limit).then(|| self.sent.saturating_sub(UNDER_WAY.min(limit / 4 * 3)))
    }

    /// Whether a program that has written up to `end` must wait.
    pub fn is_full(&self, end: u64, limit: u64) -> bool {
        self.sealed.is_none()
            && HELD.load(Ordering::Relaxed) > limit
            && end.saturating_sub(self.sent) > SHARE.min(limit / 4)
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        HELD.fetch_sub(self.held, Ordering::Relaxed);
    }
}

/// What all drafts that are uploaded while they are written hold on the local disk.
static HELD: AtomicU64 = AtomicU64::new(0);
/// More than the buffers of both sides hold: when the line breaks, the server has everything before.
const UNDER_WAY: u64 = 32 << 20;
/// However full the disk limit is, a writer may be so far ahead of the line: enough for one that is slow now and then.
const SHARE: u64 = 8 << 20;
