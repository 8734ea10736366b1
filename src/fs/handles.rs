//! Open files and folders.

use std::collections::HashMap;
use std::sync::Arc;

use super::arriving::Arriving;
use crate::lock::Mutex;
use crate::tree::{Entries, Ino, Version};

/// All handles of a mount.
#[derive(Default)]
pub struct Handles(Mutex<Table>);

#[derive(Default)]
struct Table {
    next: u64,
    open: HashMap<u64, Handle>,
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
    /// The entries as they were when the folder was opened (or rewound).
    Folder { ino: Ino, entries: Entries },
    /// A huge folder that was opened while its listing was still coming.
    Arriving { ino: Ino, entries: Arc<Arriving> },
}

impl Handles {
    pub fn add(&self, handle: Handle) -> u64 {
        let mut table = self.0.lock();
        table.next += 1;
        let number = table.next;
        table.open.insert(number, handle);
        number
    }

    pub fn at(&self, number: u64) -> Option<Handle> {
        self.0.lock().open.get(&number).cloned()
    }

    pub fn replace(&self, number: u64, handle: Handle) {
        self.0.lock().open.insert(number, handle);
    }

    /// An open file goes on with a newer content.
    pub fn follow(&self, number: u64, to: Version) {
        if let Some(Handle::File { version, .. }) = self.0.lock().open.get_mut(&number) {
            *version = to;
        }
    }

    pub fn count(&self) -> usize {
        self.0.lock().open.len()
    }

    pub fn remove(&self, number: u64) -> Option<Handle> {
        self.0.lock().open.remove(&number)
    }
}
