//! How an upload of saved bytes ended, and what that means for them: dropped, kept, tried again, or put on the shelf.

use std::time::Instant;

use log::{error, info, warn};

use super::{Brought, FIRST_PAUSE, Pending, Request, Settled, Source, pause};
use crate::fs::{Errno, FileSystem};
use crate::ftp::Error;
use crate::tree::Ino;
use crate::write::draft::Sending;
use crate::write::journal::Below;
use crate::write::kept;

impl FileSystem {
    /// An upload has been confirmed.
    pub(in crate::fs) fn pending_confirmed(&self, ino: Ino, brought: Brought) {
        if brought == Brought::Nothing {
            return self.orphaned(ino);
        }
        let (done, left) = {
            let mut state = self.writeback.state.lock();
            state.down = None;
            let Some(pending) = state.files.get_mut(&ino) else { return };
            let (done, left) = pending.confirmed(brought);
            if left.is_none() {
                state.files.remove(&ino);
            }
            (done, left)
        };
        if let (Some(Source::Journal(number)), Some(journal)) = (&left, &self.writeback.journal) {
            // What lies below the newest bytes is now what has just been uploaded.
            let below = self.drafts.find(ino).map(|draft| draft.lock().below(false));
            let changed = journal.change(*number, |record| {
                if let Some(Below::File { size, modified, .. }) = below {
                    // What was cut off before these bytes were written stays cut off.
                    let limit = match record.below {
                        Below::File { limit, .. } => limit.min(size),
                        _ => size.min(record.size),
                    };
                    record.below = Below::File { size, limit, modified };
                }
            });
            if let Err(error) = changed {
                warn!("the journal: {error}");
            }
        }
        done.iter().for_each(|source| self.writeback.drop_source(source));
        if left.is_none() {
            self.settled(ino, &Settled::Done);
        }
        self.request(Request::Go);
    }

    /// An upload has failed. False when the file is none of ours.
    pub(in crate::fs) fn pending_failed(
        &self,
        ino: Ino,
        error: &Error,
        sending: Sending,
    ) -> Result<(), Sending> {
        if !self.writeback.has(ino) {
            return Err(sending);
        }
        let path = self.path(ino).map(|path| path.to_string()).unwrap_or_default();
        let errno = match error {
            // The mount ends.
            Error::Cancelled => Errno::IO,
            error => self.fail("upload", &path, error),
        };
        let waiting = self.drafts.failed(ino, sending);
        let is_pushed = {
            let mut state = self.writeback.state.lock();
            let state = &mut *state;
            if error.is_transient() || error.ends_session() {
                let attempts = state.down.map_or(0, |(_, attempts)| attempts) + 1;
                let pause = if state.is_ending { FIRST_PAUSE } else { pause(attempts) };
                state.down = Some((Instant::now() + pause, attempts));
            }
            let Some(pending) = state.files.get_mut(&ino) else { return Ok(()) };
            pending.sending = None;
            pending.attempts += 1;
            pending.is_urgent = false;
            pending.is_hopeless = state.is_ending && error.refusal().is_some();
            let again = pause(pending.attempts);
            pending.after = Some(Instant::now() + again);
            let is_pushed = matches!(pending.kept.last(), Some(Source::Unsent(_)));
            if !is_pushed {
                info!("{path} is in the journal; it is tried again in {} s", again.as_secs());
            }
            is_pushed
        };
        waiting.into_iter().for_each(|answer| answer.error(errno));
        if is_pushed {
            // It stays where it was.
            self.writeback.state.lock().files.remove(&ino);
            self.drop_draft(ino);
        }
        self.settled(ino, &Settled::Failed(errno));
        self.request(Request::Go);
        Ok(())
    }

    /// Nobody wants these bytes any more: the file was removed or replaced by a program, or the server has it.
    pub(super) fn forget_pending(&self, ino: Ino) {
        let pending = self.take_pending(ino);
        self.drop_pending(ino, pending);
    }

    /// The first half of forgetting, without I/O.
    pub(in crate::fs) fn take_pending(&self, ino: Ino) -> Option<Pending> {
        self.writeback.state.lock().files.remove(&ino)
    }

    /// The second half.
    pub(in crate::fs) fn drop_pending(&self, ino: Ino, pending: Option<Pending>) {
        for source in pending.iter().flat_map(|pending| &pending.kept) {
            self.writeback.drop_source(source);
        }
        if pending.is_some() {
            self.settled(ino, &Settled::Done);
        }
    }

    /// It has no place any more, though no program removed it: its folder has vanished from the server.
    fn orphaned(&self, ino: Ino) {
        let newest = {
            let state = self.writeback.state.lock();
            state.files.get(&ino).and_then(|pending| pending.kept.last().cloned())
        };
        if let Some(source) = newest {
            self.shelve(&source, "its folder is gone from the server");
        }
        self.forget_pending(ino);
    }

    /// Moves saved bytes to where `ftpfs recover` has them for ever.
    pub(super) fn shelve(&self, source: &Source, reason: &str) {
        let (Source::Journal(number), Some(journal)) = (source, &self.writeback.journal) else { return };
        let Some((mut record, file)) = journal.entry(*number) else { return };
        record.reason = reason.to_owned();
        let copied = kept::keep_bytes(&record, &self.options.spool_dir, |at, piece| {
            std::os::unix::fs::FileExt::read_exact_at(&file, piece, crate::write::journal::BYTES_AT + at)
        });
        match copied {
            Ok(name) => error!(
                "{} was not uploaded ({reason}); its bytes are in {} (`ftpfs recover`)",
                record.path,
                name.display()
            ),
            Err(error) => error!("{}: {reason}, and its bytes could not be kept: {error}", record.path),
        }
    }
}
