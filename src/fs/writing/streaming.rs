//! Files that are uploaded while they are written: when that begins, who waits for room, and what follows a pause.
//!
//! A write that finds enough bytes begins it; close() and fsync() seal it, and then it is an upload as any other, with its
//! end in [`super::confirm`]. Until the last step, when all bytes are on the server under a temporary name, the file's own
//! name is not touched there: the file can be renamed and removed as one that is only local.

use std::sync::Arc;

use log::debug;

use super::drafts::Stage;
use crate::fs::{Answer, Caller, Errno, FileSystem};
use crate::ftp::Error;
use crate::queue::{Claim, Job, Priority};
use crate::tree::Ino;
use crate::write::streaming::Ended;
use crate::write::{Streaming, Wish};

impl FileSystem {
    /// Does what a write of `len` bytes called for, and answers it: at once, unless the writer is too far ahead.
    pub(super) fn after_write(
        &self,
        caller: Caller,
        ino: Ino,
        len: usize,
        wish: Wish,
        answer: Answer<usize>,
    ) {
        match wish {
            Wish::Nothing => return answer.ok(len),
            Wish::Room => {}
            Wish::Begin => {
                self.begin_streaming(ino);
                return answer.ok(len);
            }
            Wish::GoOn => self.go_on(ino),
        }
        self.wait_for_room(caller, ino, len, None, answer);
    }

    /// The bytes are taken; the writer goes on when there is room for more, and gets an error when none is made for a
    /// whole time-out.
    fn wait_for_room(&self, caller: Caller, ino: Ino, len: usize, seen: Option<u64>, answer: Answer<usize>) {
        let (Some(draft), Some(fs)) = (self.drafts.find(ino), self.arc()) else { return answer.ok(len) };
        let mut draft = draft.lock();
        let sent = draft.sent();
        if let Some(error) = draft.failure(self.options.spool_size) {
            let errno = Errno::from(error);
            drop(draft);
            return answer.error(errno);
        }
        // In line behind others that get on with theirs, it has not had its turn.
        if seen == Some(sent) && !draft.is_parked() {
            drop(draft);
            return answer.error(Errno::TIMEDOUT);
        }
        let waiting = Answer::new(move |outcome| match outcome {
            Ok(len) => answer.ok(len),
            // A signal ends the wait, not the write: it has happened.
            Err(Errno::INTR) => answer.ok(len),
            Err(Errno::TIMEDOUT) => fs.wait_for_room(caller, ino, len, Some(sent), answer),
            Err(errno) => answer.error(errno),
        });
        let waiting = self.hold(caller, waiting);
        let room = Box::new(move |outcome: Result<(), Error>| match outcome {
            Ok(()) => waiting.ok(len),
            Err(error) => waiting.error(Errno::from(&error)),
        });
        let at_once = draft.wait_for_room(self.options.spool_size, room);
        drop(draft);
        if let Some(room) = at_once {
            room(Ok(()));
        }
    }

    fn begin_streaming(&self, ino: Ino) {
        let (keep_mode, parent) = {
            let tree = self.tree.lock();
            let Some(node) = tree.node(ino) else { return };
            (node.attributes.mode, node.parent)
        };
        let (Some(parent), Some(fs), Some(draft)) = (parent, self.arc(), self.drafts.find(ino)) else {
            return;
        };
        let end = Arc::new(move |task, outcome| fs.piece_ended(ino, task, outcome));
        let (target, folder) = (self.locate_visible(ino), self.locate(parent));
        let task = match Streaming::new(draft, target, folder, keep_mode, self.options.spool_size, end) {
            Ok(task) => Box::new(task),
            Err(error) => return debug!("{error}"),
        };
        {
            let mut drafts = self.drafts.0.lock();
            let Some(entry) = drafts.get_mut(&ino).filter(|entry| !entry.uploading && entry.stage.is_none())
            else {
                return;
            };
            entry.draft.lock().begin_streaming();
            entry.stage = Some(Stage::Sending);
        }
        self.submit_piece(ino, task, Priority::BackgroundUpload);
    }

    fn go_on(&self, ino: Ino) {
        let task = {
            let mut drafts = self.drafts.0.lock();
            drafts.get_mut(&ino).and_then(|entry| entry.unpark())
        };
        if let Some(task) = task {
            self.submit_piece(ino, task, Priority::BackgroundUpload);
        }
    }

    /// What is there now shall be confirmed. False when this file is not uploaded while it is written.
    pub(super) fn seal(&self, ino: Ino, priority: Priority) -> bool {
        let (task, ticket) = {
            let mut drafts = self.drafts.0.lock();
            let Some(entry) = drafts.get_mut(&ino).filter(|entry| entry.stage.is_some()) else {
                return false;
            };
            entry.draft.lock().seal();
            (entry.unpark(), entry.ticket)
        };
        match (task, ticket) {
            (Some(task), _) => self.submit_piece(ino, task, priority),
            (None, Some(ticket)) => self.queue.promote(ticket, priority),
            (None, None) => {}
        }
        true
    }

    fn submit_piece(&self, ino: Ino, task: Box<Streaming>, priority: Priority) {
        let claims = [task.temporary(), self.path(ino).ok().filter(|_| task.is_placing())];
        let claims = claims.into_iter().flatten().map(Claim::Exclusive);
        let needs_data = !task.is_placing();
        let job = Job::of(priority, task).claim(claims);
        let ticket = self.queue.submit(if needs_data { job.with_data() } else { job });
        // Of a job that has ended meanwhile it names nothing, which does no harm.
        if let Some(entry) = self.drafts.0.lock().get_mut(&ino) {
            entry.ticket = Some(ticket);
        }
    }

    fn piece_ended(&self, ino: Ino, mut task: Box<Streaming>, outcome: Result<Ended, Error>) {
        let mut drafts = self.drafts.0.lock();
        let Some(entry) = drafts.get_mut(&ino) else {
            drop(drafts);
            // Removed: one more piece, which takes away what was sent.
            if let Ok(Ended::Paused | Ended::Sent) = outcome {
                self.submit_piece(ino, task, Priority::BackgroundUpload);
            }
            return;
        };
        let mut draft = entry.draft.lock();
        let priority = if draft.is_sealed() { Priority::Upload } else { Priority::BackgroundUpload };
        match &outcome {
            Ok(Ended::Paused) if draft.is_sealed() || draft.has_more(self.options.stream_from) => {
                drop(draft);
                drop(drafts);
                return self.submit_piece(ino, task, priority);
            }
            Ok(Ended::Paused) => {
                draft.park();
                drop(draft);
                entry.stage = Some(Stage::Parked(task));
                return;
            }
            Ok(Ended::Sent) => {
                drop(draft);
                entry.stage = Some(Stage::Placing);
                drop(drafts);
                task.place_next();
                return self.submit_piece(ino, task, priority);
            }
            _ => {}
        }
        let (sending, waiting) = draft.take_outgoing();
        match (&outcome, &sending) {
            // What was sealed stays so until its upload is taken note of.
            (Ok(Ended::Placed(uploaded)), Some(_)) if !uploaded.removed => {}
            (Err(_), Some(_)) => {}
            (Err(error), None) => draft.end_streaming(Some(error.clone())),
            (_, sending) => {
                draft.end_streaming(None);
                sending.iter().for_each(|sending| draft.upload_failed(sending.clone()));
            }
        }
        drop(draft);
        entry.stage = None;
        drop(drafts);
        if let (Err(error), None) = (&outcome, &sending) {
            let path = self.path(ino).map(|path| path.to_string()).unwrap_or_default();
            self.fail("upload while it is written", &path, error);
        }
        for room in waiting {
            room(outcome.as_ref().map(drop).map_err(Error::clone));
        }
        match (outcome, sending) {
            (Ok(Ended::Spoiled), Some(_)) => self.upload(ino, Priority::Upload),
            (Ok(Ended::Placed(uploaded)), Some(sending)) => self.uploaded(ino, Ok(uploaded), sending),
            (Err(error), Some(sending)) => self.uploaded(ino, Err(error), sending),
            _ => {}
        }
    }
}
