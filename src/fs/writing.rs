//! Writing files: write() changes a draft and answers; the server must have it at close() and fsync().
//!
//! [`drafts`] is the table of the files that are being changed, [`create`] makes new ones, and [`confirm`] is where
//! close() and fsync() wait for the server. Large files are on their way before that: [`streaming`].

mod confirm;
mod create;
mod drafts;
mod streaming;

use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use drafts::There;
pub use drafts::{Begun, Drafts, Unconfirmed};

use super::handles::{Fh, Handle};
use super::{Answer, Caller, Change, Errno, FileSystem};
use crate::ftp::Precision;
use crate::queue::Priority;
use crate::tree::Ino;
use crate::write::{Draft, Wish};

impl FileSystem {
    /// write. The errors are those of the local disk, ESTALE for a file that is gone, and those of an upload that goes on
    /// meanwhile when this write must wait for it.
    pub fn write(&self, caller: Caller, ino: Ino, offset: u64, data: &[u8], answer: Answer<usize>) {
        match self.write_locally(ino, offset, data) {
            Ok(wish) => self.after_write(caller, ino, data.len(), wish, answer),
            Err(errno) => answer.error(errno),
        }
    }

    fn write_locally(&self, ino: Ino, offset: u64, data: &[u8]) -> Result<Wish, Errno> {
        self.may_write()?;
        if offset.checked_add(data.len() as u64).is_none_or(|end| end > i64::MAX as u64) {
            return Err(Errno::FBIG);
        }
        let draft = self.draft(ino)?;
        self.seal_before(ino, &draft, offset);
        let stream_from = if self.options.in_place { u64::MAX } else { self.options.stream_from };
        let (size, wish) = {
            let mut draft = draft.lock();
            if let Some(error) = draft.failure(self.options.spool_size) {
                return Err(Errno::from(error));
            }
            draft.write(offset, data, &self.options.spool_dir)?;
            (draft.size(), draft.after_write(self.options.spool_size, stream_from))
        };
        self.show_local(ino, size);
        Ok(wish)
    }

    /// Before a change of what is no longer here, because it was sent: that is confirmed first, as by fsync(), and the change
    /// belongs to the next upload.
    fn seal_before(&self, ino: Ino, draft: &Mutex<Draft>, offset: u64) {
        if !draft.lock().must_be_sealed_before(offset) {
            return;
        }
        if let Some(entry) = self.drafts.0.lock().get_mut(&ino) {
            entry.uploading = true;
        }
        self.upload(ino, Priority::BackgroundUpload);
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
        if size > 0 {
            self.seal_before(ino, &draft, size);
        }
        draft.lock().resize(size)?;
        self.show_local(ino, size);
        Ok(())
    }

    fn draft(&self, ino: Ino) -> Result<Arc<Mutex<Draft>>, Errno> {
        if let Some(draft) = self.drafts.find(ino) {
            return Ok(draft);
        }
        let mut draft = Draft::of(self.content(ino)?);
        draft.base_time = self.tree.lock().node(ino).and_then(|node| {
            let known = &node.attributes;
            (known.precision == Precision::Second).then_some(known.modified)
        });
        Ok(self.drafts.add(ino, draft, There::Yes))
    }

    fn show_local(&self, ino: Ino, size: u64) {
        if let Some(node) = self.tree.lock().node_mut(ino) {
            node.local = true;
            node.shown = node.version;
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
            if entry.is_being_sent() && draft.defer_sealed(change.modified, change.mode) {
                // It is set before the file gets its name.
            } else if !draft.is_dirty() {
                return false;
            }
            draft.modified = change.modified.or(draft.modified);
            draft.mode = change.mode.map(|mode| mode & 0o7777).or(draft.mode);
            draft.note_attributes();
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

    /// release: the last descriptor of a handle is closed.
    pub fn release(&self, handle: Fh) {
        let Some(Handle::File { ino, .. }) = self.handles.remove(handle) else { return };
        let removed = self.is_unlinked(ino);
        if self.tree.lock().closed(ino) > 0 {
            return;
        }
        self.reads.closed(ino);
        if removed {
            self.drafts.0.lock().remove(&ino);
            return;
        }
        self.delete_hidden_if_closed(ino);
        if self.closes_pending(ino) {
            return;
        }
        let start = {
            let mut drafts = self.drafts.0.lock();
            match drafts.get_mut(&ino) {
                None => return,
                Some(entry) if entry.uploading => return,
                Some(entry) if entry.is_settled() => {
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

    /// Whether a program has removed this file, and no name of it is left on the server either.
    fn is_unlinked(&self, ino: Ino) -> bool {
        let tree = self.tree.lock();
        tree.path(ino).is_none() && tree.node(ino).is_some_and(|node| node.unlinked)
    }

    /// Whether the server has lost the place of a file that no program has removed.
    fn has_vanished(&self, ino: Ino) -> bool {
        if self.drafts.is_unlinked(ino) {
            return false;
        }
        let tree = self.tree.lock();
        tree.path(ino).is_none() && tree.node(ino).is_none_or(|node| !node.unlinked)
    }

    /// The tree shows again what the server has: nothing local is left of this file.
    pub(super) fn show_server(&self, ino: Ino) {
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
}
