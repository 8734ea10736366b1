//! Names and uploads: what changes a name waits for the uploads of what lies there.

use std::collections::HashSet;

use super::{Request, Source};
use crate::fs::{Answer, Caller, Errno, FileSystem};
use crate::ftp::RemotePath;
use crate::tree::Ino;

/// How an upload ended that somebody waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    Done,
    /// The server had changed: it went there under this name.
    Beside(RemotePath),
    Failed(Errno),
}

/// Somebody who waits until some files are on the server, or have failed.
pub(super) struct Settling {
    left: HashSet<Ino>,
    /// The worst so far.
    outcome: Settled,
    then: Then,
}

/// What is done when the wait is over.
pub(super) type Then = Box<dyn FnOnce(&FileSystem, Settled) + Send>;

impl FileSystem {
    /// Goes on when no upload is left of what lies at these paths or below; at once when there is none.
    pub(in crate::fs) fn when_settled<T: Send + 'static>(
        &self,
        caller: Caller,
        paths: &[RemotePath],
        answer: Answer<T>,
        then: impl FnOnce(&FileSystem, Settled, Answer<T>) + Send + 'static,
    ) {
        let files = self.pending_within(paths);
        if files.is_empty() {
            return then(self, Settled::Done, answer);
        }
        let answer = self.waiting.hold(caller, None, answer);
        self.settle(files, Box::new(move |fs, outcome| then(fs, outcome, answer)));
    }

    /// Calls `then` when these files have been uploaded, or could not be.
    pub(super) fn settle(&self, files: HashSet<Ino>, then: Then) {
        let at_once = {
            let mut state = self.writeback.state.lock();
            let left: HashSet<Ino> = files.into_iter().filter(|ino| state.files.contains_key(ino)).collect();
            for ino in &left {
                if let Some(pending) = state.files.get_mut(ino) {
                    (pending.is_urgent, pending.after) = (true, None);
                }
            }
            // The server may be back: whoever waits wants to know.
            state.down = state.down.map(|(_, attempts)| (std::time::Instant::now(), attempts));
            if left.is_empty() {
                Some(then)
            } else {
                state.settling.push(Settling { left, outcome: Settled::Done, then });
                None
            }
        };
        match at_once {
            Some(then) => then(self, Settled::Done),
            None => self.request(Request::Go),
        }
    }

    /// Tells those who wait for this file.
    pub(super) fn settled(&self, ino: Ino, outcome: &Settled) {
        let over = {
            let mut state = self.writeback.state.lock();
            for settling in &mut state.settling {
                if settling.left.remove(&ino) && *outcome != Settled::Done {
                    settling.outcome = outcome.clone();
                }
            }
            let (over, left) = std::mem::take(&mut state.settling)
                .into_iter()
                .partition(|settling| settling.left.is_empty());
            state.settling = left;
            over
        };
        let over: Vec<Settling> = over;
        for settling in over {
            (settling.then)(self, settling.outcome);
        }
    }

    /// Whether the server is being told just now of something that lies at these paths or below.
    pub(in crate::fs) fn has_uploads_within(&self, paths: &[RemotePath]) -> bool {
        self.pending_within(paths).into_iter().any(|ino| self.drafts.is_uploading(ino))
    }

    fn pending_within(&self, paths: &[RemotePath]) -> HashSet<Ino> {
        let files: Vec<Ino> = self.writeback.state.lock().files.keys().copied().collect();
        if files.is_empty() {
            return HashSet::new();
        }
        let tree = self.tree.lock();
        let is_there =
            |ino: &Ino| tree.path(*ino).is_some_and(|path| paths.iter().any(|folder| path.is_within(folder)));
        files.into_iter().filter(is_there).collect()
    }

    /// A file has been renamed here: answers when the journal knows. What lies below a folder is looked after as well.
    pub(in crate::fs) fn renamed_here(&self, ino: Ino, answer: Answer<()>) {
        if self.writeback.has(ino) {
            self.request(Request::Move(ino, answer));
        } else {
            answer.ok(());
        }
    }

    /// After a rename on the server: a close() that came in between has been saved under the old name.
    pub(in crate::fs) fn renamed_there(&self, to: &RemotePath) {
        for ino in self.pending_within(std::slice::from_ref(to)) {
            self.request(Request::Move(ino, Answer::new(drop)));
        }
    }

    /// Writes into the journal where a file is now.
    pub(super) fn moved(&self, ino: Ino, answer: Answer<()>) {
        let newest = {
            let state = self.writeback.state.lock();
            state.files.get(&ino).and_then(|pending| pending.kept.last().cloned())
        };
        let (Some(Source::Journal(number)), Some(journal), Ok(path)) =
            (newest, &self.writeback.journal, self.path(ino))
        else {
            return answer.ok(());
        };
        let is_new = self.drafts.is_new(ino);
        let changed = journal.change(number, |record| {
            record.path = path;
            if !is_new && record.is_whole() {
                // It replaces what is there, whatever that is: a program has said so.
                record.below = crate::write::journal::Below::Unknown;
            }
        });
        answer.send(changed.map_err(Errno::from));
    }
}
