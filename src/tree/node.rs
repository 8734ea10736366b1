//! One file or folder, and what is known of it.
//!
//! Plain data with the rules about age; used through [`super::Tree`].

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::ftp::{Kind, Modified, Name, Precision};

/// An inode number, stable as long as the kernel or a listing knows the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

impl Ino {
    /// The root of every FUSE mount.
    pub const ROOT: Self = Self(1);
}

/// Counts the contents that a file has had: cached blocks belong to one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(pub u64);

/// A moment in the order of our own changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub(super) u64);

/// A file or folder.
#[derive(Debug)]
pub struct Node {
    /// None once the name is gone (and for the root).
    pub parent: Option<Ino>,
    pub name: Option<Name>,
    pub attributes: Attributes,
    /// Changes whenever size or time on the server show a new content.
    pub version: Version,
    /// Since this version the file has only grown, or been written by ourselves: who opened it then may go on reading.
    pub same_since: Version,
    /// The version whose pages the kernel may still hold.
    pub kernel_version: Option<Version>,
    /// The newest version of which a reader may have seen something: what was answered to a read, or written here.
    pub shown: Version,
    /// When the server last told about it.
    pub(super) seen: Instant,
    expired: bool,
    /// The last listing did not tell the size.
    pub(super) unknown_size: bool,
    /// The coarse time of the last LIST, to notice a change without MDTM.
    pub(super) listed_time: Option<SystemTime>,
    /// The server was asked for an exact time and has none.
    pub(super) time_asked: bool,
    /// Our own unsent or open content: size and time are ours, and listings do not overrule them.
    pub local: bool,
    /// Removed by a program, kept on the server under a hidden name until the last handle is closed.
    pub hidden: bool,
    /// A program of this mount has taken its name away. Without this, a node that has no path is one that the server has lost.
    pub unlinked: bool,
    /// How often the kernel has learned of it and not yet forgotten it (FUSE's nlookup).
    pub lookups: u64,
    /// Open handles, of files and folders.
    pub opens: u32,
    /// Boxed: most nodes are files, and there are many.
    pub folder: Option<Box<Folder>>,
}

impl Node {
    pub(super) fn root() -> Self {
        let attributes = Attributes {
            kind: Kind::Directory,
            size: 0,
            modified: SystemTime::now(),
            precision: Precision::Second,
            mode: None,
            target: None,
        };
        Self { lookups: 1, parent: None, name: None, ..Self::bare(attributes, Instant::now()) }
    }

    pub(super) fn new(parent: Ino, name: Name, attributes: Attributes, now: Instant) -> Self {
        Self { parent: Some(parent), name: Some(name), ..Self::bare(attributes, now) }
    }

    fn bare(attributes: Attributes, now: Instant) -> Self {
        Self {
            parent: None,
            name: None,
            attributes,
            version: Version(1),
            same_since: Version(1),
            kernel_version: None,
            shown: Version(0),
            seen: now,
            expired: false,
            unknown_size: false,
            listed_time: None,
            time_asked: false,
            local: false,
            hidden: false,
            unlinked: false,
            lookups: 0,
            opens: 0,
            folder: None,
        }
    }

    /// The content of this file is a new one: blocks of the old version are no longer used.
    pub fn content_changed(&mut self) {
        self.version.0 += 1;
    }

    /// The file on the server is another one: what was read so far does not go with what comes.
    pub fn replaced(&mut self) {
        self.content_changed();
        self.same_since = self.version;
    }

    /// How much longer the attributes may be believed.
    pub fn life(&self, now: Instant, lifetime: Duration) -> Duration {
        if self.expired { Duration::ZERO } else { (self.seen + lifetime).saturating_duration_since(now) }
    }

    /// The server told about it now.
    pub fn seen(&mut self, now: Instant) {
        self.seen = now;
        self.expired = false;
    }

    /// Ask again before it is believed.
    pub fn expire(&mut self) {
        self.expired = true;
    }

    /// Whether `stat` would show a time that only a listing told, in minutes or days, and a better one may be had.
    pub fn has_coarse_time(&self) -> bool {
        !self.local
            && !self.time_asked
            && self.attributes.kind == Kind::File
            && self.attributes.precision != Precision::Second
    }

    /// Whether only reading this file to its end tells how long it is.
    pub fn has_unknown_size(&self) -> bool {
        self.unknown_size && !self.local && self.attributes.kind == Kind::File
    }

    /// When the server says that it was changed, if that is exact to the second.
    pub fn exact_time(&self) -> Option<SystemTime> {
        let is_exact = !self.local && self.attributes.precision == Precision::Second;
        is_exact.then_some(self.attributes.modified)
    }

    /// What the server said while the file was read: another size, another time. One that is longer now has been added to,
    /// as far as that can be told from here.
    pub fn told(&mut self, size: Option<u64>, modified: Option<SystemTime>) {
        if self.local {
            return;
        }
        match size {
            Some(size) if size > self.attributes.size && !self.unknown_size => {
                self.attributes.size = size;
                self.content_changed();
                if let Some(at) = modified {
                    self.set_time(Modified { at, precision: Precision::Second });
                }
            }
            _ => self.replaced(),
        }
        self.expire();
    }

    /// The time is known from what the server was told or asked, not from a listing.
    pub fn set_time(&mut self, modified: Modified) {
        self.attributes.modified = modified.at;
        self.attributes.precision = modified.precision;
        self.listed_time = None;
    }

    /// The children, to be changed.
    pub(super) fn folder_mut(&mut self) -> &mut Folder {
        let folder = self.folder.get_or_insert_default();
        folder.sorted.take();
        folder
    }
}

/// What `stat` shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    pub modified: SystemTime,
    pub precision: Precision,
    /// Permission bits when the server tells them.
    pub mode: Option<u32>,
    /// Where a symbolic link points, as the server tells it.
    pub target: Option<Vec<u8>>,
}

/// The children of a folder, as last listed, with our own changes applied.
#[derive(Debug, Default)]
pub struct Folder {
    pub children: HashMap<Name, Ino>,
    /// When the last listing arrived; none when there was none or it is no longer believed.
    pub listed: Option<Instant>,
    /// The server left names out: a missing name proves nothing.
    pub truncated: bool,
    changes: HashMap<Name, (Stamp, Instant)>,
    /// The children by name, once somebody has asked for them.
    pub(super) sorted: OnceCell<Entries>,
}

/// The names in a folder, sorted.
pub type Entries = Arc<Vec<(Name, Ino)>>;

impl Folder {
    pub(super) fn sorted(&self) -> &Entries {
        self.sorted.get_or_init(|| {
            let mut entries: Vec<_> = self.children.iter().map(|(name, &ino)| (name.clone(), ino)).collect();
            entries.sort_unstable();
            Arc::new(entries)
        })
    }

    pub(super) fn is_fresh(&self, now: Instant, lifetime: Duration) -> bool {
        self.listed.is_some_and(|listed| now.saturating_duration_since(listed) < lifetime)
    }

    pub(super) fn note_change(&mut self, name: Name, stamp: Stamp, now: Instant) {
        self.changes.insert(name, (stamp, now));
    }

    pub(super) fn changed_after(&self, name: &Name, stamp: Stamp) -> bool {
        self.changes.get(name).is_some_and(|&(change, _)| change > stamp)
    }

    pub(super) fn removed_lately(&self, name: &Name, now: Instant, lifetime: Duration) -> bool {
        !self.children.contains_key(name)
            && self.changes.get(name).is_some_and(|&(_, at)| now.saturating_duration_since(at) < lifetime)
    }

    /// A listing that began at `stamp` has been applied: older changes are in it.
    pub(super) fn forget_changes(&mut self, stamp: Stamp) {
        self.changes.retain(|_, &mut (change, _)| change > stamp);
    }
}
