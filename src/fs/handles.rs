//! Open files and folders.

use std::collections::HashMap;
use std::sync::Arc;

use super::arriving::Arriving;
use crate::lock::Mutex;
use crate::tree::{Entries, Ino, Version};

/// What the kernel calls an open file or folder by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fh(pub u64);

/// All handles of a mount.
#[derive(Default)]
pub struct Handles(Mutex<Table>);

#[derive(Default)]
struct Table {
    next: u64,
    open: HashMap<Fh, Handle>,
}

/// What a program has open.
#[derive(Clone)]
pub enum Handle {
    File {
        ino: Ino,
        writable: bool,
        /// The content that it was opened with, or has followed since.
        version: Version,
        /// The size that it had when it was opened, for readers whose kernel had no pages of it.
        unread: Option<u64>,
    },
    /// The entries as they were when the folder was opened (or rewound), and whether they were read since.
    Folder { ino: Ino, entries: Entries, is_read: bool },
    /// A huge folder that was opened while its listing was still coming.
    Arriving { ino: Ino, entries: Arc<Arriving> },
}

impl Handles {
    pub fn add(&self, handle: Handle) -> Fh {
        let mut table = self.0.lock();
        table.next += 1;
        let fh = Fh(table.next);
        table.open.insert(fh, handle);
        fh
    }

    pub fn at(&self, fh: Fh) -> Option<Handle> {
        self.0.lock().open.get(&fh).cloned()
    }

    /// It may have been closed meanwhile.
    pub fn replace(&self, fh: Fh, handle: Handle) {
        if let Some(open) = self.0.lock().open.get_mut(&fh) {
            *open = handle;
        }
    }

    /// An open file goes on with a newer content.
    pub fn follow(&self, fh: Fh, to: Version) {
        if let Some(Handle::File { version, .. }) = self.0.lock().open.get_mut(&fh) {
            *version = to;
        }
    }

    pub fn count(&self) -> usize {
        self.0.lock().open.len()
    }

    pub fn remove(&self, fh: Fh) -> Option<Handle> {
        self.0.lock().open.remove(&fh)
    }
}
