//! How an upload of saved bytes ended, and what that means for them: dropped, kept, tried again, or put on the shelf.

use std::time::Instant;

use log::{error, info, warn};

use super::{Brought, FIRST_PAUSE, Pending, Request, Settled, Source, pause};
use crate::fs::{Errno, FileSystem};
use crate::ftp::Error;
use crate::tree::Ino;
use crate::write::draft::Sending;
use crate::write::journal::{Below, EntryNumber};
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
        if let Some(pending) = self.take_pending(ino) {
            self.shelve(pending, "its folder is gone from the server");
            self.settled(ino, &Settled::Failed(Errno::STALE));
        }
    }

    /// Nothing of this file will be uploaded: its newest bytes go to where `ftpfs recover` has them for ever. What came with
    /// `ftpfs recover push` stays there.
    pub(super) fn shelve(&self, pending: Pending, reason: &str) {
        let mut older = pending.kept;
        if let Some(Source::Journal(newest)) = older.pop() {
            self.shelve_entry(newest, reason);
        }
        older.retain(|source| matches!(source, Source::Journal(_)));
        older.iter().for_each(|source| self.writeback.drop_source(source));
    }

    /// Copies an entry; where there is no space for that, its file moves; and if that fails as well, it stays.
    fn shelve_entry(&self, number: EntryNumber, reason: &str) {
        let Some(journal) = &self.writeback.journal else { return };
        let Some((mut record, file)) = journal.entry(number) else { return };
        record.reason = reason.to_owned();
        let copied = kept::keep_bytes(&record, &self.options.spool_dir, |at, piece| {
            std::os::unix::fs::FileExt::read_exact_at(&file, piece, crate::write::journal::BYTES_AT + at)
        });
        let path = &record.path;
        let kept = match copied {
            Ok(name) => {
                journal.remove(number);
                Ok(name)
            }
            Err(error) => {
                warn!("{path}: its bytes could not be copied: {error}");
                journal.shelve(number, reason, &self.options.spool_dir)
            }
        };
        match kept {
            Ok(name) => error!(
                "{path} was not uploaded ({reason}); its bytes are in {} (`ftpfs recover`)",
                name.display()
            ),
            Err(error) => error!(
                "{path} was not uploaded ({reason}); its bytes stay in the journal (`ftpfs recover`): {error}"
            ),
        }
    }
}
