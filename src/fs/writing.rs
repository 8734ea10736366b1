//! Writing files: drafts, and the moments at which the server must have them.
//!
//! write() only changes the draft. close() (FUSE flush) and fsync() answer when an upload that began after the last
//! write is confirmed; callers that come while it runs share it, or the next one when there were writes meanwhile. When
//! an upload fails, everybody who waits gets the error, the bytes are kept on the local disk and the log says where.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use log::{debug, error, warn};
use parking_lot::Mutex;

use super::handles::Handle;
use super::names::Found;
use super::reading::{OpenMode, Opened};
use super::{Answer, Caller, Change, Errno, FileSystem};
use crate::ftp::{Error, Kind, Name, Precision};
use crate::queue::{Claim, Job, Priority};
use crate::read::Content;
use crate::tree::{Child, Ino, Tree};
use crate::write::draft::Sending;
use crate::write::upload::NEW_FILE_MODE;
use crate::write::{Draft, Upload, Uploaded, kept};

/// The files that are being changed.
#[derive(Default)]
pub struct Drafts(Mutex<HashMap<Ino, Entry>>);

struct Entry {
    draft: Arc<Mutex<Draft>>,
    /// The server has no such file yet.
    only_local: bool,
    uploading: bool,
    /// They wait for the upload that runs.
    waiting: Vec<Answer<()>>,
    /// They came after a write during that upload: they wait for the next.
    next: Vec<Answer<()>>,
    kept: Option<PathBuf>,
}

impl Drafts {
    /// The draft of a file that is being changed.
    pub fn find(&self, ino: Ino) -> Option<Arc<Mutex<Draft>>> {
        self.0.lock().get(&ino).map(|entry| entry.draft.clone())
    }

    /// Whether the server does not know this file, and is not being told of it just now.
    pub fn is_only_local(&self, ino: Ino) -> bool {
        self.0.lock().get(&ino).is_some_and(|entry| entry.only_local && !entry.uploading)
    }

    /// How many files the server lacks something of.
    pub fn unconfirmed(&self) -> usize {
        self.0.lock().values().filter(|entry| entry.uploading || entry.draft.lock().is_dirty()).count()
    }

    /// A file that the server does not know has been renamed over one that it has: its upload replaces that one.
    pub fn will_replace(&self, ino: Ino) {
        if let Some(entry) = self.0.lock().get_mut(&ino) {
            entry.only_local = false;
        }
    }

    /// The same files, with how far they are: inode, size, bytes sent, whether an upload runs. None when a lock cannot be
    /// had within `patience`.
    pub fn look(&self, patience: Duration) -> Option<Vec<(Ino, u64, u64, bool)>> {
        let drafts = self.0.try_lock_for(patience)?;
        let mut found = Vec::new();
        for (&ino, entry) in drafts.iter() {
            // One file's disk may be slow: what is known of it is that an upload runs, or not.
            let Some(draft) = entry.draft.try_lock_for(patience / 4) else {
                found.push((ino, 0, 0, entry.uploading));
                continue;
            };
            if entry.uploading || draft.is_dirty() {
                found.push((ino, draft.size(), draft.sent(), entry.uploading));
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

    /// The file was removed before the server knew it.
    pub fn abandon_unless_open(&self, ino: Ino, opens: u32) {
        if opens == 0 {
            self.0.lock().remove(&ino);
        }
    }

    fn add(&self, ino: Ino, draft: Draft, only_local: bool) -> Arc<Mutex<Draft>> {
        let entry = || Entry {
            draft: Arc::new(Mutex::new(draft)),
            only_local,
            uploading: false,
            waiting: Vec::new(),
            next: Vec::new(),
            kept: None,
        };
        self.0.lock().entry(ino).or_insert_with(entry).draft.clone()
    }
}

impl FileSystem {
    /// create: a new file, which the server learns of at close().
    pub fn create(
        &self,
        caller: Caller,
        parent: Ino,
        name: &[u8],
        mode: OpenMode,
        answer: Answer<(Found, Opened)>,
    ) {
        let name = match self.may_write().and_then(|()| Ok(Name::new(name)?)) {
            Ok(name) => name,
            Err(errno) => return answer.error(errno),
        };
        let known = self.tree.lock().child(parent, &name, Instant::now());
        match known {
            Child::Known(_) if mode.exclusive => answer.error(Errno::EXIST),
            Child::Known(ino) => self.open_known(caller, ino, mode, answer),
            Child::Missing => answer.send(self.create_new(parent, &name, mode.bits)),
            Child::Unknown => {
                let answer = self.hold(caller, answer);
                let (Ok(path), Some(fs)) = (self.path_of(parent, &name), self.arc()) else {
                    return answer.error(Errno::NOENT);
                };
                self.refresh(
                    parent,
                    Box::new(move |_, outcome| {
                        let known = fs.tree.lock().child_as_listed(parent, &name);
                        match (outcome, known) {
                            (Ok(()), Child::Known(_)) if mode.exclusive => answer.error(Errno::EXIST),
                            (Ok(()), Child::Known(ino)) => fs.open_known(caller, ino, mode, answer),
                            (Err(error), _) if !matches!(error, Error::Refused { .. }) => {
                                answer.error(fs.fail("create", &path, &error));
                            }
                            // A folder that cannot be read may still be written to: the upload will tell.
                            _ => answer.send(fs.create_new(parent, &name, mode.bits)),
                        }
                    }),
                );
            }
        }
    }

    fn open_known(&self, caller: Caller, ino: Ino, mode: OpenMode, answer: Answer<(Found, Opened)>) {
        let Some(fs) = self.arc() else { return };
        let opened = Answer::new(move |opened: Result<Opened, Errno>| {
            let found = fs.remembered(ino);
            answer.send(opened.and_then(|opened| Ok((found.ok_or(Errno::STALE)?, opened))));
        });
        self.open(caller, ino, mode, opened);
    }

    fn create_new(&self, parent: Ino, name: &Name, bits: u32) -> Result<(Found, Opened), Errno> {
        if let Some(codepage) = self.codepage {
            // Now, and not when the file is closed: programs look at that less often.
            codepage.encode(name.as_bytes())?;
        }
        let now = Instant::now();
        let ino = {
            let mut tree = self.tree.lock();
            let mode = self.features.can_set_mode().then_some(bits & 0o7777);
            let ino = tree
                .insert(parent, name, Tree::fresh_attributes(Kind::File, mode), now)
                .ok_or(Errno::STALE)?;
            let node = tree.node_mut(ino).ok_or(Errno::STALE)?;
            node.local = true;
            node.opens += 1;
            node.kernel_version = Some(node.version);
            ino
        };
        let mut draft = Draft::new();
        draft.mode = Some(bits & 0o7777).filter(|&mode| mode != NEW_FILE_MODE);
        self.drafts.add(ino, draft, true);
        let found = self.remembered(ino).ok_or(Errno::STALE)?;
        let handle = self.handles.add(Handle::File { ino, writable: true, version: self.version(ino) });
        Ok((found, Opened { handle, keep_pages: true, has_unknown_size: false }))
    }

    fn remembered(&self, ino: Ino) -> Option<Found> {
        let mut tree = self.tree.lock();
        tree.remember(ino);
        let life = tree.attributes_life(ino, Instant::now());
        Some(Found::Node { stat: self.stat_of(&tree, ino)?, name_life: life, life })
    }

    /// write.
    ///
    /// # Errors
    /// Those of the local disk; ESTALE for a file that is gone.
    pub fn write(&self, ino: Ino, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        self.may_write()?;
        if offset.checked_add(data.len() as u64).is_none_or(|end| end > i64::MAX as u64) {
            return Err(Errno::FBIG);
        }
        let draft = self.draft(ino)?;
        let size = {
            let mut draft = draft.lock();
            draft.write(offset, data, &self.options.spool_dir)?;
            draft.size()
        };
        self.show_local(ino, size);
        Ok(data.len())
    }

    /// Cuts or grows a file (setattr with a size, or O_TRUNC), locally: close() brings it to the server.
    pub(super) fn resize(&self, ino: Ino, size: u64) -> Result<(), Errno> {
        if size > i64::MAX as u64 {
            return Err(Errno::FBIG);
        }
        if self.drafts.find(ino).is_none() {
            let tree = self.tree.lock();
            let node = tree.node(ino).ok_or(Errno::STALE)?;
            match node.has_unknown_size() {
                // What is to be kept cannot be told from what is not.
                true if size > 0 => return Err(Errno::NOTSUP),
                false if node.attributes.size == size => return Ok(()),
                _ => {}
            }
        }
        let draft = self.draft(ino)?;
        draft.lock().resize(size)?;
        self.show_local(ino, size);
        Ok(())
    }

    fn draft(&self, ino: Ino) -> Result<Arc<Mutex<Draft>>, Errno> {
        if let Some(draft) = self.drafts.find(ino) {
            return Ok(draft);
        }
        Ok(self.drafts.add(ino, Draft::of(self.content(ino)?), false))
    }

    fn show_local(&self, ino: Ino, size: u64) {
        if let Some(node) = self.tree.lock().node_mut(ino) {
            node.local = true;
            node.attributes.size = size;
            node.attributes.modified = SystemTime::now();
        }
    }

    /// Keeps a time or permission bits until the data is uploaded. False when nothing will be uploaded.
    pub(super) fn defer(&self, ino: Ino, change: &Change) -> bool {
        {
            let drafts = self.drafts.0.lock();
            let Some(entry) = drafts.get(&ino) else { return false };
            let mut draft = entry.draft.lock();
            if !draft.is_dirty() {
                return false;
            }
            draft.modified = change.modified.or(draft.modified);
            draft.mode = change.mode.map(|mode| mode & 0o7777).or(draft.mode);
        }
        if let Some(node) = self.tree.lock().node_mut(ino) {
            if let Some(modified) = change.modified {
                node.attributes.modified = modified;
            }
            let mode = change.mode.filter(|_| self.features.can_set_mode());
            node.attributes.mode = mode.map(|mode| mode & 0o7777).or(node.attributes.mode);
        }
        true
    }

    /// flush: every close() of a descriptor of this handle.
    pub fn flush(&self, caller: Caller, ino: Ino, handle: u64, answer: Answer<()>) {
        match self.handles.at(handle) {
            Some(Handle::File { writable: true, .. }) => {
                let answer = self.waiting.hold(caller, None, answer);
                self.confirm(ino, answer);
            }
            _ => answer.ok(()),
        }
    }

    /// fsync.
    pub fn sync(&self, caller: Caller, ino: Ino, answer: Answer<()>) {
        let answer = self.waiting.hold(caller, None, answer);
        self.confirm(ino, answer);
    }

    /// Answers when the server has confirmed everything that has been written to `ino` so far.
    pub(super) fn confirm(&self, ino: Ino, answer: Answer<()>) {
        let start = {
            let mut drafts = self.drafts.0.lock();
            let Some(entry) = drafts.get_mut(&ino) else {
                drop(drafts);
                return answer.ok(());
            };
            let dirty = entry.draft.lock().is_dirty();
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
            entry.waiting.len() == 1 && entry.next.is_empty() && dirty
        };
        if start {
            self.upload(ino, Priority::Upload);
        }
    }

    /// release: the last descriptor of a handle is closed.
    pub fn release(&self, handle: u64) {
        let Some(Handle::File { ino, .. }) = self.handles.remove(handle) else { return };
        let removed = self.tree.lock().path(ino).is_none();
        if self.tree.lock().closed(ino) > 0 {
            return;
        }
        if removed {
            self.drafts.0.lock().remove(&ino);
            return;
        }
        self.delete_hidden_if_closed(ino);
        let start = {
            let mut drafts = self.drafts.0.lock();
            match drafts.get_mut(&ino) {
                None => return,
                Some(entry) if entry.uploading => return,
                Some(entry) if entry.kept.is_some() || !entry.draft.lock().is_dirty() => {
                    drafts.remove(&ino);
                    false
                }
                Some(entry) => {
                    entry.uploading = true;
                    true
                }
            }
        };
        if start {
            // Pages of a mapping written after the last close(): nobody waits, so the log must tell if it fails.
            return self.upload(ino, Priority::BackgroundUpload);
        }
        self.show_server(ino);
    }

    /// The tree shows again what the server has: nothing local is left of this file.
    fn show_server(&self, ino: Ino) {
        let mut tree = self.tree.lock();
        let Some(node) = tree.node_mut(ino) else { return };
        if node.local {
            node.local = false;
            node.expire();
            node.content_changed();
            // The name stays until the server has been asked: a file that it has must not seem to be gone.
            if let Some(parent) = node.parent {
                tree.expire_listing(parent);
            }
        }
    }

    /// Starts the upload of a draft whose entry says that it is uploading.
    fn upload(&self, ino: Ino, priority: Priority) {
        let (Some(draft), Some(fs)) = (self.drafts.find(ino), self.arc()) else { return };
        let keep_mode = self.tree.lock().node(ino).and_then(|node| node.attributes.mode);
        let claims = self.path(ino).ok().map(Claim::Exclusive);
        let exists = self.drafts.0.lock().get(&ino).is_some_and(|entry| !entry.only_local);
        let end = Box::new(move |outcome, sending| fs.uploaded(ino, outcome, sending));
        let upload = Upload::new(
            draft,
            self.locate_visible(ino),
            exists,
            keep_mode,
            self.options.in_place,
            self.options.spool_dir.clone(),
            end,
        );
        self.submit(Job::of(priority, Box::new(upload)).claim(claims).with_data());
    }

    /// As `locate`, but none for a file that was removed while open: its bytes are needed here only.
    fn locate_visible(&self, ino: Ino) -> crate::read::Locate {
        let this = self.this.clone();
        Arc::new(move || {
            let fs = this.upgrade()?;
            let tree = fs.tree.lock();
            tree.node(ino).filter(|node| !node.hidden)?;
            tree.path(ino)
        })
    }

    fn uploaded(&self, ino: Ino, outcome: Result<Uploaded, Error>, sending: Sending) {
        match outcome {
            Ok(uploaded) => self.upload_confirmed(ino, uploaded),
            Err(error) => self.upload_failed(ino, &error, sending),
        }
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
            let uploaded = (!removed)
                .then(|| tree.uploaded(ino, uploaded.size, uploaded.modified, Instant::now()))
                .flatten();
            (uploaded, written)
        };
        let Ok(content) = self.content(ino) else { return self.forget_draft(ino) };
        let (done, again) = {
            let mut drafts = self.drafts.0.lock();
            let Some(entry) = drafts.get_mut(&ino) else { return };
            entry.only_local &= removed;
            let (dirty, size) = {
                let mut draft = entry.draft.lock();
                if !removed {
                    draft.upload_confirmed(content.clone());
                }
                if let (Some(version), true) = (version, content.size <= KEEP_IN_CACHE && !draft.is_dirty())
                    && let Ok(crate::write::Piece::Here(data)) = draft.read(0, content.size as usize)
                {
                    self.reads.keep(&Content { version, modified: exact, ..content.clone() }, &data);
                }
                (draft.is_dirty(), draft.size())
            };
            if let Some(kept) = entry.kept.take() {
                let _ = std::fs::remove_file(kept.with_extension("info"));
                let _ = std::fs::remove_file(kept);
            }
            let done = std::mem::take(&mut entry.waiting);
            entry.waiting = std::mem::take(&mut entry.next);
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
            (done, again)
        };
        done.into_iter().for_each(|answer| answer.ok(()));
        if again {
            self.upload(ino, Priority::Upload);
        }
    }

    fn upload_failed(&self, ino: Ino, error: &Error, sending: Sending) {
        let path = self.path(ino).map(|path| path.to_string()).unwrap_or_default();
        let errno = self.fail("upload", &path, error);
        let (waiting, open) = {
            let mut drafts = self.drafts.0.lock();
            let Some(entry) = drafts.get_mut(&ino) else { return };
            let mut draft = entry.draft.lock();
            draft.upload_failed(sending);
            if let Some(old) = entry.kept.take() {
                let _ = std::fs::remove_file(old);
            }
            entry.kept = self.keep(&draft, &path, error);
            drop(draft);
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
    }

    fn keep(&self, draft: &Draft, path: &str, reason: &Error) -> Option<PathBuf> {
        match kept::keep(draft, &self.options.spool_dir, &self.server, path, &reason.to_string()) {
            Ok(name) => {
                error!("{path} was not uploaded ({reason}); its bytes are in {}", name.display());
                Some(name)
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
    pub(super) fn upload_everything(&self) {
        let dirty: Vec<Ino> = {
            let drafts = self.drafts.0.lock();
            drafts.iter().filter(|(_, entry)| entry.draft.lock().is_dirty()).map(|(&ino, _)| ino).collect()
        };
        dirty.into_iter().for_each(|ino| self.confirm(ino, Answer::new(drop)));
    }

    /// The mount ends: what is still not on the server is kept. Returns how many files.
    pub(super) fn keep_everything(&self) -> usize {
        let drafts = self.drafts.0.lock();
        let unsent: Vec<_> =
            drafts.iter().filter(|(_, entry)| entry.uploading || entry.draft.lock().is_dirty()).collect();
        for (ino, entry) in &unsent {
            let path = self.path(**ino).map(|path| path.to_string()).unwrap_or_default();
            self.keep(&entry.draft.lock(), &path, &Error::Cancelled);
        }
        unsent.len()
    }
}

/// An uploaded file up to this size stays readable from memory.
const KEEP_IN_CACHE: u64 = 4 << 20;
