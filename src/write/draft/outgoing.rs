//! The state of a draft that is uploaded while it is written.
//!
//! Bytes are given to the connection in the order of their offsets, as far as they have been written without a gap. All such
//! drafts together hold at most `spool_size` on the local disk: beyond it, a draft lets go of what was sent long enough
//! ago, and a program that is further ahead of the line than its share waits for room. What was let go can only be had
//! again from the server, so a program that goes back to it *seals* the upload first.
//!
//! Part of [`super::Draft`], under its lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Condvar;

use super::{Draft, Sending, Wish};
use crate::ftp::Error;

impl Draft {
    /// Whether an upload may begin now that `from` bytes are there, while more are written: the file is new or was emptied,
    /// and is written from its start on.
    pub fn may_stream(&self, from: u64) -> bool {
        self.outgoing.is_none()
            && !self.must_not_stream
            && self.dropped == 0
            && self.base.as_ref().is_none_or(|base| base.limit == 0)
            && self.dirty.reach(0) >= from
    }

    /// An upload begins that goes on while the file is written.
    pub fn begin_streaming(&mut self) {
        self.outgoing = Some(Outgoing::default());
    }

    pub fn is_streaming(&self) -> bool {
        self.outgoing.is_some()
    }

    /// What is there now is what shall be confirmed; what is written from now on belongs to the next upload.
    pub fn seal(&mut self) {
        if self.outgoing.as_ref().is_some_and(|outgoing| outgoing.sealed.is_none()) {
            let sending = self.begin_upload();
            let size = self.size;
            if let Some(outgoing) = &mut self.outgoing {
                outgoing.sealed = Some((size, sending));
            }
            self.changed.notify_all();
        }
    }

    /// Whether a change at `offset` touches what is no longer here but with the server: the upload must be sealed first.
    pub fn must_be_sealed_before(&self, offset: u64) -> bool {
        let unsealed = self.outgoing.as_ref().is_some_and(|outgoing| outgoing.sealed.is_none());
        unsealed && self.dropped > 0 && self.sent() > offset
    }

    /// A change at `offset`, or of everything behind it: whether that has been sent already.
    pub(super) fn goes_back(&mut self, offset: u64) {
        if let Some(outgoing) = self.outgoing.as_mut().filter(|outgoing| outgoing.sealed.is_none()) {
            outgoing.spoiled |= offset < outgoing.sent;
        }
    }

    /// Looks after the disk limit, and says what the upload under way needs.
    pub fn after_write(&mut self, limit: u64, from: u64) -> Wish {
        if self.may_stream(from) {
            return Wish::Begin;
        }
        let reach = self.reach();
        let Some(outgoing) = &mut self.outgoing else { return Wish::Nothing };
        if outgoing.sealed.is_some() {
            return Wish::Nothing;
        }
        outgoing.hold(reach.saturating_sub(self.dropped));
        if let Some(end) = outgoing.droppable(limit)
            && end > self.dropped
            && !outgoing.spoiled
            && self.spool.let_go(self.dropped..end)
        {
            self.present.cut_front(end);
            self.dropped = end;
            outgoing.hold(reach.saturating_sub(end));
        }
        let must_wait = outgoing.is_full(reach, limit) && !outgoing.spoiled;
        let is_worth_it = reach.saturating_sub(outgoing.sent) >= from.min(limit / 8);
        if outgoing.parked && (is_worth_it || must_wait) {
            return Wish::GoOn;
        }
        if must_wait { Wish::Room } else { Wish::Nothing }
    }

    /// Whether so much waits to be sent that a connection is worth it.
    pub fn has_more(&self, from: u64) -> bool {
        self.outgoing.as_ref().is_some_and(|outgoing| {
            !outgoing.blocked.is_empty()
                || outgoing.spoiled
                || self.reach().saturating_sub(outgoing.sent) >= from
        })
    }

    pub fn is_sealed(&self) -> bool {
        self.outgoing.as_ref().is_some_and(|outgoing| outgoing.sealed.is_some())
    }

    pub fn is_parked(&self) -> bool {
        self.outgoing.as_ref().is_some_and(|outgoing| outgoing.parked)
    }

    /// A time or permission bits for what is sealed. False when nothing is.
    pub fn defer_sealed(&mut self, modified: Option<SystemTime>, mode: Option<u32>) -> bool {
        let Some((_, sending)) = self.outgoing.as_mut().and_then(|outgoing| outgoing.sealed.as_mut()) else {
            return false;
        };
        sending.modified = modified.or(sending.modified);
        sending.mode = mode.map(|mode| mode & 0o7777).or(sending.mode);
        true
    }

    /// Lets a writer wait until there is room. Gives it back when there is some already.
    pub fn wait_for_room(&mut self, limit: u64, room: Room) -> Option<Room> {
        let reach = self.reach();
        match &mut self.outgoing {
            Some(outgoing) if !outgoing.spoiled && outgoing.is_full(reach, limit) => {
                outgoing.blocked.push(room);
                None
            }
            _ => Some(room),
        }
    }

    /// The upload under way has come to nothing before it was sealed: all of it is sent at close(). Until then no more is
    /// taken than the disk limit allows when there was an error.
    pub fn end_streaming(&mut self, failed: Option<Error>) {
        self.outgoing = None;
        self.must_not_stream = true;
        self.failed = failed;
    }

    /// The upload under way is over, however it went: what was sealed, and who waits for room.
    pub fn take_outgoing(&mut self) -> (Option<Sending>, Vec<Room>) {
        let Some(outgoing) = &mut self.outgoing else { return Default::default() };
        (outgoing.sealed.as_ref().map(|(_, sending)| sending.clone()), std::mem::take(&mut outgoing.blocked))
    }

    /// Why nothing more is taken: there is no room for it, and its upload has failed.
    pub fn failure(&self, limit: u64) -> Option<&Error> {
        self.failed.as_ref().filter(|_| self.size > limit)
    }

    /// What the upload under way does next, when `at` bytes of the file are given to the connection: how many more there
    /// are. None when it is to come to an end here.
    pub(in crate::write) fn ready(&self, at: u64) -> Option<u64> {
        let outgoing = self.outgoing.as_ref().filter(|outgoing| !outgoing.spoiled)?;
        match &outgoing.sealed {
            Some((size, _)) => Some(size.saturating_sub(at)).filter(|&left| left > 0),
            None => Some(self.present.reach(at).min(self.size).saturating_sub(at)),
        }
    }

    /// What is to be confirmed once it is sealed.
    pub(in crate::write) fn sealed(&self) -> Option<(u64, Sending)> {
        self.outgoing.as_ref()?.sealed.clone()
    }

    pub(in crate::write) fn is_spoiled(&self) -> bool {
        self.outgoing.as_ref().is_none_or(|outgoing| outgoing.spoiled)
    }

    /// So many bytes are given to the connection. Gives those who waited for room, when there is some.
    pub(in crate::write) fn note_outgoing(&mut self, upto: u64, limit: u64) -> Vec<Room> {
        let reach = self.reach();
        let Some(outgoing) = &mut self.outgoing else { return Vec::new() };
        outgoing.sent = upto;
        outgoing.parked = false;
        if outgoing.is_full(reach, limit) { Vec::new() } else { std::mem::take(&mut outgoing.blocked) }
    }

    /// No connection works on it now.
    pub fn park(&mut self) {
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.parked = true;
        }
    }

    /// Below this the spool holds nothing any more.
    pub(in crate::write) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(in crate::write) fn changed(&self) -> Arc<Condvar> {
        self.changed.clone()
    }

    /// Whether a part of it is nowhere any more: the spool has let go of it, and its upload has failed.
    pub fn is_lost(&self) -> bool {
        self.dropped > 0 && self.outgoing.is_none()
    }

    /// How far it is written without a gap.
    fn reach(&self) -> u64 {
        self.present.reach(self.dropped).min(self.size)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_upload_goes_on_when_its_writer_must_wait_for_room() {
        const MIB: usize = 1 << 20;
        let folder = std::env::temp_dir().join(format!("ftpfs-outgoing-{}", std::process::id()));
        let (limit, from) = (256 * MIB as u64, 64 * MIB as u64);
        let mut draft = Draft::new();
        draft.begin_streaming();
        draft.park();
        draft.write(0, &vec![7; 10 * MIB], &folder).unwrap();
        assert_eq!(draft.after_write(limit, from), Wish::Nothing);
        // Others have taken all of it.
        let mut others = Outgoing::default();
        others.hold(limit);
        assert_eq!(draft.after_write(limit, from), Wish::GoOn);
        let waits = draft.wait_for_room(limit, Box::new(|_| ()));
        assert!(waits.is_none(), "the writer goes on without room");
        let woken = draft.note_outgoing(4 * MIB as u64, limit);
        assert_eq!(woken.len(), 1);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
