//! The table of the files that are being changed: one [`Draft`] each, and who waits for its upload.
//!
//! Its lock is the first in the order (the drafts, one draft, the tree) and is never held across I/O on the network.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::fs::Answer;
use crate::lock;
use crate::queue::Ticket;
use crate::tree::{Ino, Version};
use crate::write::draft::{Generation, Sending};
use crate::write::{Draft, Streaming};

/// The files that are being changed.
#[derive(Default)]
pub struct Drafts(pub(super) lock::Mutex<HashMap<Ino, Entry>>);

pub(super) struct Entry {
    pub draft: Arc<Mutex<Draft>>,
    pub there: There,
    /// A program has taken its name away: nothing of it needs to be sent any more.
    pub unlinked: bool,
    pub uploading: bool,
    /// It is uploaded while it is written, and this is how far that is.
    pub stage: Option<Stage>,
    pub ticket: Option<Ticket>,
    /// They wait for the upload that runs.
    pub waiting: Vec<Answer<()>>,
    /// They came after a write during that upload: they wait for the next.
    pub next: Vec<Answer<()>>,
    pub kept: Option<Kept>,
}

/// Whether the server has a file of this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum There {
    Never,
    /// An upload of it has begun, and failed: a part of it may be there.
    Perhaps,
    Yes,
}

/// Bytes of an upload that failed, on the local disk.
pub(in crate::fs) struct Kept {
    pub file: PathBuf,
    /// Of the draft, when they were kept.
    pub generation: Generation,
}

/// How far an upload is that began before close().
pub(super) enum Stage {
    /// To a temporary name.
    Sending,
    /// No job: it goes on when there is more.
    Parked(Box<Streaming>),
    /// All is sent and confirmed; now it gets its name.
    Placing,
}

/// Whether an upload that nobody waits for has begun.
pub enum Begun {
    Now,
    AnotherRuns,
    NothingToSend,
}

/// A file that the server lacks something of.
pub struct Unconfirmed {
    pub ino: Ino,
    /// Bytes of the whole file.
    pub size: u64,
    /// Bytes given to the connection.
    pub sent: u64,
    /// Whether an upload runs, or waits for a connection.
    pub is_running: bool,
}

impl Entry {
    /// The task that waits for more to be written; it counts as going on from here.
    pub fn unpark(&mut self) -> Option<Box<Streaming>> {
        match self.stage.replace(Stage::Sending) {
            Some(Stage::Parked(task)) => Some(task),
            other => {
                self.stage = other;
                None
            }
        }
    }

    /// Whether what is sent has not got its name yet.
    pub fn is_being_sent(&self) -> bool {
        matches!(self.stage, Some(Stage::Sending | Stage::Parked(_)))
    }

    /// Whether there is nothing to send that is not safe.
    pub fn is_settled(&self) -> bool {
        let draft = self.draft.lock();
        !draft.is_dirty() || self.kept.as_ref().is_some_and(|kept| kept.generation == draft.generation())
    }

    /// Its upload has failed.
    pub fn note_failure(&mut self, sending: &Sending) {
        if sending.may_be_there && self.there == There::Never {
            self.there = There::Perhaps;
        }
    }

    /// Whether the server is being told of the file's name just now.
    fn is_told(&self) -> bool {
        self.uploading && matches!(self.stage, None | Some(Stage::Placing))
    }
}

impl Drafts {
    /// The draft of a file that is being changed.
    pub fn find(&self, ino: Ino) -> Option<Arc<Mutex<Draft>>> {
        self.0.lock().get(&ino).map(|entry| entry.draft.clone())
    }

    /// Whether the server does not know this file, and is not being told of it just now.
    pub fn is_only_local(&self, ino: Ino) -> bool {
        self.0.lock().get(&ino).is_some_and(|entry| entry.there == There::Never && !entry.is_told())
    }

    /// Does something while no upload can begin.
    pub fn hold<T>(&self, act: impl FnOnce() -> T) -> T {
        let _drafts = self.0.lock();
        act()
    }

    /// Does something with a file that the server does not know while it cannot be told of it. With `replaces`, its upload
    /// will replace one that the server has. None when the server knows it, or is being told.
    pub fn if_only_local<T>(&self, ino: Ino, replaces: bool, act: impl FnOnce() -> T) -> Option<T> {
        let mut drafts = self.0.lock();
        let entry = drafts.get_mut(&ino).filter(|entry| entry.there == There::Never && !entry.is_told())?;
        let done = act();
        if replaces {
            entry.there = There::Yes;
        }
        Some(done)
    }

    /// Whether the server has not confirmed that it has such a file, also while it is being told of it.
    pub fn is_new(&self, ino: Ino) -> bool {
        self.0.lock().get(&ino).is_some_and(|entry| entry.there != There::Yes)
    }

    /// Whether nothing of this file needs to be sent any more, because a program has removed it.
    pub fn is_unlinked(&self, ino: Ino) -> bool {
        self.0.lock().get(&ino).is_some_and(|entry| entry.unlinked)
    }

    /// A program has taken its name away.
    pub fn unlink(&self, ino: Ino, opens: u32) {
        let mut drafts = self.0.lock();
        let Some(entry) = drafts.get_mut(&ino) else { return };
        entry.unlinked = true;
        if opens == 0 && !entry.uploading {
            drafts.remove(&ino);
        }
    }

    pub fn is_uploading(&self, ino: Ino) -> bool {
        self.0.lock().get(&ino).is_some_and(|entry| entry.uploading)
    }

    /// Does something while this draft is still the file's, and not on the server. None when it is not.
    pub fn if_unsent<T>(&self, ino: Ino, draft: &Arc<Mutex<Draft>>, act: impl FnOnce() -> T) -> Option<T> {
        let drafts = self.0.lock();
        let entry = drafts.get(&ino).filter(|entry| Arc::ptr_eq(&entry.draft, draft))?;
        (entry.uploading || draft.lock().is_dirty()).then(act)
    }

    /// An upload that nobody waits for is to begin.
    pub fn begin(&self, ino: Ino) -> Begun {
        let mut drafts = self.0.lock();
        let Some(entry) = drafts.get_mut(&ino) else { return Begun::NothingToSend };
        if entry.uploading || entry.stage.is_some() {
            return Begun::AnotherRuns;
        }
        entry.uploading = entry.draft.lock().is_dirty();
        if entry.uploading { Begun::Now } else { Begun::NothingToSend }
    }

    /// The upload has failed, and will be tried again: gives back who waits for it.
    pub fn failed(&self, ino: Ino, sending: Sending) -> Vec<Answer<()>> {
        let mut drafts = self.0.lock();
        let Some(entry) = drafts.get_mut(&ino) else { return Vec::new() };
        entry.note_failure(&sending);
        entry.draft.lock().upload_failed(sending);
        entry.uploading = false;
        let mut waiting = std::mem::take(&mut entry.waiting);
        waiting.append(&mut entry.next);
        waiting
    }

    /// The local version is given up: gives back who waits for it.
    pub fn give_up(&self, ino: Ino) -> Vec<Answer<()>> {
        let entry = self.0.lock().remove(&ino);
        entry.into_iter().flat_map(|entry| entry.waiting.into_iter().chain(entry.next)).collect()
    }

    /// A draft made from what was kept: there may be such a file on the server.
    pub fn plant(&self, ino: Ino, draft: Draft) {
        self.add(ino, draft, There::Yes);
    }

    /// How many files the server lacks something of.
    pub fn unconfirmed(&self) -> usize {
        self.0.lock().values().filter(|entry| entry.uploading || entry.draft.lock().is_dirty()).count()
    }

    /// The file's time on the server has been set by us.
    pub fn forget_time(&self, ino: Ino) {
        if let Some(entry) = self.0.lock().get(&ino) {
            entry.draft.lock().forget_time();
        }
    }

    /// The same files, with how far they are. None when a lock cannot be had within `patience`.
    pub fn look(&self, patience: Duration) -> Option<Vec<Unconfirmed>> {
        let drafts = self.0.try_lock_for(patience)?;
        let mut found = Vec::new();
        for (&ino, entry) in drafts.iter() {
            // One file's disk may be slow: what is known of it is that an upload runs, or not.
            let Some(draft) = entry.draft.try_lock_for(patience / 4) else {
                found.push(Unconfirmed { ino, size: 0, sent: 0, is_running: entry.uploading });
                continue;
            };
            if entry.uploading || draft.is_dirty() {
                let is_running = entry.uploading || entry.stage.is_some();
                found.push(Unconfirmed { ino, size: draft.size(), sent: draft.sent(), is_running });
            }
        }
        Some(found)
    }

    /// The files that the server lacks something of.
    pub fn unconfirmed_files(&self) -> Vec<Ino> {
        let drafts = self.0.lock();
        let lacks = |entry: &Entry| entry.uploading || entry.draft.lock().is_dirty();
        drafts.iter().filter(|(_, entry)| lacks(entry)).map(|(&ino, _)| ino).collect()
    }

    /// Forgets a draft that has nothing to send when the file has another content by now: whoever opens it shall see that.
    pub fn forget_if_outdated(&self, ino: Ino, version: Version) {
        let mut drafts = self.0.lock();
        let is_outdated = drafts.get(&ino).is_some_and(|entry| {
            let draft = entry.draft.lock();
            let is_at_rest = !entry.uploading && entry.stage.is_none() && entry.kept.is_none();
            is_at_rest
                && !draft.is_dirty()
                && draft.base().is_some_and(|base| base.content.version != version)
        });
        if is_outdated {
            drafts.remove(&ino);
        }
    }

    pub(super) fn add(&self, ino: Ino, draft: Draft, there: There) -> Arc<Mutex<Draft>> {
        let entry = || Entry {
            draft: Arc::new(Mutex::new(draft)),
            there,
            unlinked: false,
            uploading: false,
            stage: None,
            ticket: None,
            waiting: Vec::new(),
            next: Vec::new(),
            kept: None,
        };
        self.0.lock().entry(ino).or_insert_with(entry).draft.clone()
    }
}
