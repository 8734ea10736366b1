//! The moments at which the server must have what was written.
//!
//! close() (FUSE flush) and fsync() answer when an upload that began after the last write is confirmed; callers that
//! come while it runs share it, or the next one when there were writes meanwhile. There is one way in,
//! `FileSystem::confirm`, and one way out, `FileSystem::uploaded`: nobody is answered anywhere else. When an upload
//! fails, everybody who waits gets the error, the bytes are kept on the local disk and the log says where.

use std::sync::Arc;
use std::time::Instant;

use log::{debug, error, warn};
use parking_lot::Mutex;

use crate::fs::handles::Handle;
use crate::fs::writeback::{Brought, Careful};
use crate::fs::writing::drafts::{Kept, There};
use crate::fs::{Answer, Caller, Fh, FileSystem};
use crate::ftp::{Error, Name, Precision};
use crate::queue::{Claim, Job, Priority, Task};
use crate::read::Content;
use crate::tree::Ino;
use crate::write::draft::Sending;
use crate::write::journal::Place;
use crate::write::upload::is_making_way;
use crate::write::{Draft, Policy, Upload, Uploaded, kept};

impl FileSystem {
    /// flush: every close() of a descriptor of this handle. A file without a byte in it waits for the last of them.
    pub fn flush(&self, caller: Caller, ino: Ino, handle: Fh, answer: Answer<()>) {
        if !matches!(self.handles.at(handle), Some(Handle::File { writable: true, .. })) {
            return answer.ok(());
        }
        let is_empty = self.drafts.find(ino).is_some_and(|draft| draft.lock().size() == 0);
        if is_empty && self.descriptors.has_another(caller, ino) {
            return answer.ok(());
        }
        self.acknowledge(caller, ino, answer);
    }

    /// fsync.
    pub fn sync(&self, caller: Caller, ino: Ino, answer: Answer<()>) {
        let answer = self.waiting.hold(caller, None, answer);
        self.confirm(ino, answer);
    }

    /// Answers when the server has confirmed everything that has been written to `ino` so far.
    pub(in crate::fs) fn confirm(&self, ino: Ino, answer: Answer<()>) {
        let start = {
            let mut drafts = self.drafts.0.lock();
            let Some(entry) = drafts.get_mut(&ino) else {
                drop(drafts);
                return answer.ok(());
            };
            let dirty = entry.draft.lock().is_dirty();
            let start = !entry.uploading && dirty;
            match (entry.uploading, dirty) {
                (true, true) => entry.next.push(answer),
                (true, false) => entry.waiting.push(answer),
                (false, true) => {
                    entry.waiting.push(answer);
                    entry.uploading = true;
                }
                (false, false) => {
                    drop(drafts);
                    return answer.ok(());
                }
            }
            start
        };
        if start {
            self.upload(ino, Priority::Upload);
        }
    }

    /// Starts the upload of a draft whose entry says that it is uploading.
    pub(in crate::fs) fn upload(&self, ino: Ino, priority: Priority) {
        // First: it notes what of the journal is on its way.
        let care = self.care_for(ino);
        if self.seal(ino, priority) {
            return;
        }
        let (Some(draft), Some(fs)) = (self.drafts.find(ino), self.arc()) else { return };
        let keep_mode = self.tree.lock().node(ino).and_then(|node| node.attributes.mode);
        let claims = self.path(ino).ok().map(Claim::Exclusive);
        let exists = self.drafts.0.lock().get(&ino).is_some_and(|entry| entry.there != There::Never);
        let usual = self.locate_visible(ino);
        let locate = care.as_ref().map_or_else(|| usual.clone(), |care| care.locate(usual.clone()));
        let end = {
            let care = care.clone();
            Box::new(move |outcome: Result<Uploaded, Error>, sending| match care {
                Some(care) if fs.ended_otherwise(ino, &care, outcome.is_ok()) => {}
                None if outcome.as_ref().is_err_and(is_making_way) => fs.upload_makes_way(ino, sending),
                _ => fs.uploaded(ino, outcome, sending),
            })
        };
        let real = draft.clone();
        let policy = Policy {
            in_place: self.options.in_place,
            patch_from: self.options.patch_from,
            spool_dir: self.options.spool_dir.clone(),
        };
        let mut upload = Upload::new(draft, locate, exists, keep_mode, policy, end);
        if care.is_none() {
            let (queue, locate) = (self.queue.clone(), usual.clone());
            upload.makes_way(Box::new(move || locate().is_some_and(|path| queue.unlinks(&path))));
        }
        if let Some(copy) = care.as_ref().and_then(|care| self.copy_for(ino, care, &real)) {
            upload.reads(copy);
        }
        let task: Box<dyn Task> = match care {
            Some(care) => {
                let is_exact = care.is_of(&real);
                Box::new(Careful { upload, care, locate: usual, has_looked: false, is_exact })
            }
            None => Box::new(upload),
        };
        self.submit(Job::of(priority, task).claim(claims).with_data());
    }

    /// As `locate`, but none for a file that was removed while open: its bytes are needed here only.
    pub(super) fn locate_visible(&self, ino: Ino) -> crate::read::Locate {
        let this = self.this.clone();
        Arc::new(move || {
            let fs = this.upgrade()?;
            let tree = fs.tree.lock();
            tree.node(ino).filter(|node| !node.hidden)?;
            tree.path(ino)
        })
    }

    pub(super) fn uploaded(&self, ino: Ino, outcome: Result<Uploaded, Error>, sending: Sending) {
        match outcome {
            Ok(uploaded) if uploaded.removed && self.has_vanished(ino) => self.upload_vanished(ino, sending),
            Ok(uploaded) => self.upload_confirmed(ino, uploaded),
            Err(error) => {
                self.upload_failed(ino, &error, sending);
            }
        }
    }

    /// There is no place for it on the server any more, though no program here has removed it: somebody else has, or has moved its
    /// folder. Trying again would not help.
    fn upload_vanished(&self, ino: Ino, sending: Sending) {
        let pending = self.take_pending(ino);
        let error = Error::Changed { text: "its place on the server is gone".to_owned() };
        if self.upload_failed(ino, &error, sending) {
            self.drop_pending(ino, pending);
        }
    }

    /// The file is to be removed. Behind that in line the upload begins anew: it finds that the file is gone, or brings it there.
    fn upload_makes_way(&self, ino: Ino, sending: Sending) {
        let Some(draft) = self.drafts.find(ino) else { return };
        draft.lock().upload_failed(sending);
        self.upload(ino, Priority::Upload);
    }

    fn upload_confirmed(&self, ino: Ino, uploaded: Uploaded) {
        let set = [("the time", &uploaded.modified_set), ("the mode", &uploaded.mode_set)];
        for (what, error) in set.iter().filter_map(|(what, set)| Some((what, set.as_ref()?.as_ref().err()?)))
        {
            match (self.path(ino), error) {
                (Ok(path), Error::Unsupported { .. }) => debug!("{path}: {what} was not set: {error}"),
                (Ok(path), _) => warn!("{path}: {what} was not set: {error}"),
                _ => {}
            }
        }
        let removed = uploaded.removed;
        let exact = uploaded.modified.filter(|time| time.precision == Precision::Second).map(|time| time.at);
        let (version, written) = {
            let mut tree = self.tree.lock();
            let written = tree.node(ino).map(|node| node.attributes.modified);
            let version = (!removed)
                .then(|| tree.uploaded(ino, uploaded.size, uploaded.modified, Instant::now()))
                .flatten();
            (version, written)
        };
        // A write may have come in between: the size is what was sent, not what the tree says by now.
        let sent = |content: Content| match version {
            Some(version) => Content { version, size: uploaded.size, ..content },
            None => content,
        };
        let Ok(content) = self.content(ino).map(sent) else {
            self.pending_confirmed(ino, Brought::Nothing);
            return self.forget_draft(ino);
        };
        let (done, again, is_dirty, generation) = {
            let mut drafts = self.drafts.0.lock();
            let Some(entry) = drafts.get_mut(&ino) else { return };
            if !removed {
                entry.there = There::Yes;
            }
            let (dirty, size, generation) = {
                let mut draft = entry.draft.lock();
                if !removed {
                    draft.upload_confirmed(content.clone());
                    draft.base_time = exact;
                }
                if let (Some(version), true) = (version, content.size <= KEEP_IN_CACHE && !draft.is_dirty())
                    && let Ok(crate::write::Piece::Here(data)) = draft.read(0, content.size as usize)
                {
                    self.reads.keep(&Content { version, modified: exact, ..content.clone() }, &data);
                }
                (draft.is_dirty(), draft.size(), draft.generation())
            };
            if let Some(old) = entry.kept.take() {
                kept::forget(&old.file);
            }
            let mut done = std::mem::take(&mut entry.waiting);
            if dirty {
                entry.waiting = std::mem::take(&mut entry.next);
            } else {
                // They came between the decision for this upload and its beginning: it had their bytes, too.
                done.append(&mut entry.next);
            }
            // Both looked at together: a write in between makes the draft dirty, and the node local, again.
            let mut tree = self.tree.lock();
            let opens = tree.node(ino).map_or(0, |node| node.opens);
            // Also what a mapping wrote after the last close(), when this upload was on its way.
            entry.uploading = dirty && (!entry.waiting.is_empty() || opens == 0);
            let again = entry.uploading;
            if let Some(node) = tree.node_mut(ino) {
                node.local = dirty || removed;
                if dirty || removed {
                    node.attributes.size = size;
                    node.attributes.modified = written.unwrap_or(node.attributes.modified);
                } else {
                    // The kernel's pages are what was written.
                    node.kernel_version = Some(node.version);
                }
            }
            if !dirty && opens == 0 {
                drafts.remove(&ino);
            }
            (done, again, dirty, generation)
        };
        self.pending_confirmed(
            ino,
            match (removed, is_dirty, done.is_empty()) {
                (true, ..) => Brought::Nothing,
                (_, false, _) => Brought::All(generation),
                (_, true, false) => Brought::WhatWasAskedFor,
                (_, true, true) => Brought::Something,
            },
        );
        done.into_iter().for_each(|answer| answer.ok(()));
        if again {
            self.upload(ino, Priority::Upload);
        }
    }

    /// False when the bytes could not be kept.
    fn upload_failed(&self, ino: Ino, error: &Error, sending: Sending) -> bool {
        let sending = match self.pending_failed(ino, error, sending) {
            Ok(()) => return true,
            Err(sending) => sending,
        };
        let path = self.path(ino).map(|path| path.to_string()).unwrap_or_default();
        let errno = self.fail("upload", &path, error);
        let (draft, is_new) = {
            let mut drafts = self.drafts.0.lock();
            let Some(entry) = drafts.get_mut(&ino) else { return true };
            entry.note_failure(&sending);
            entry.draft.lock().upload_failed(sending);
            (entry.draft.clone(), entry.there == There::Never)
        };
        // There may be much of it. It still counts as being uploaded, so nothing else begins meanwhile.
        let kept = self.keep(ino, &draft, is_new, error);
        let is_kept = kept.is_some();
        let (waiting, open) = {
            let mut drafts = self.drafts.0.lock();
            let Some(entry) = drafts.get_mut(&ino) else { return is_kept };
            // At no time are they in neither place; and where the disk is full, the older ones are better than none.
            if let Some(new) = kept
                && let Some(old) = entry.kept.replace(new)
            {
                kept::forget(&old.file);
            }
            entry.uploading = false;
            let mut waiting = std::mem::take(&mut entry.waiting);
            waiting.append(&mut entry.next);
            let open = self.tree.lock().node(ino).is_some_and(|node| node.opens > 0);
            if !open {
                drafts.remove(&ino);
            }
            (waiting, open)
        };
        if !open {
            self.show_server(ino);
        }
        waiting.into_iter().for_each(|answer| answer.error(errno));
        is_kept
    }

    /// Puts the bytes of a draft where `ftpfs recover` finds them.
    pub(in crate::fs) fn keep(
        &self,
        ino: Ino,
        draft: &Mutex<Draft>,
        is_new: bool,
        reason: &Error,
    ) -> Option<Kept> {
        let (path, root) = {
            let tree = self.tree.lock();
            let root = tree.root_path().clone();
            // Its folder has vanished: the bytes are worth something all the same.
            let lost = || Some(root.join(&Name::new(b"lost").ok()?));
            (tree.path(ino).or_else(lost)?, root)
        };
        let (server, why) = (&self.server, reason.to_string());
        let place = Place { server, root: &root, path: &path, is_new, reason: &why };
        match kept::keep(draft, &self.options.spool_dir, &place) {
            Ok((file, generation)) => {
                error!(
                    "{path} was not uploaded ({reason}); its bytes are in {} (`ftpfs recover`)",
                    file.display()
                );
                Some(Kept { file, generation })
            }
            Err(local) => {
                error!("{path} was not uploaded ({reason}), and its bytes could not be kept: {local}");
                None
            }
        }
    }

    fn forget_draft(&self, ino: Ino) {
        let entry = self.drafts.0.lock().remove(&ino);
        for answer in entry.into_iter().flat_map(|entry| entry.waiting.into_iter().chain(entry.next)) {
            answer.ok(());
        }
    }

    /// Starts the upload of every draft that has something to send.
    pub(in crate::fs) fn upload_everything(&self) {
        let dirty: Vec<Ino> = {
            let drafts = self.drafts.0.lock();
            drafts.iter().filter(|(_, entry)| entry.draft.lock().is_dirty()).map(|(&ino, _)| ino).collect()
        };
        // What is in the journal goes by itself.
        self.hurry_uploads();
        let safe = self.safe_files();
        dirty
            .into_iter()
            .filter(|ino| !safe.contains(ino))
            .for_each(|ino| self.confirm(ino, Answer::new(drop)));
    }

    /// The mount ends: what is still not on the server is kept. Returns how many files.
    pub(in crate::fs) fn keep_everything(&self) -> usize {
        let safe = self.safe_files();
        let drafts = self.drafts.0.lock();
        let unsent: Vec<_> =
            drafts.iter().filter(|(_, entry)| entry.uploading || entry.draft.lock().is_dirty()).collect();
        for (ino, entry) in unsent.iter().filter(|(ino, _)| !safe.contains(ino)) {
            self.keep(**ino, &entry.draft, entry.there == There::Never, &Error::Cancelled);
        }
        unsent.len()
    }
}

/// An uploaded file up to this size stays readable from memory.
const KEEP_IN_CACHE: u64 = 4 << 20;
