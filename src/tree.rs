//! The tree: what is known about names and attributes, and for how long it may be believed.
//!
//! Every file and folder that has been seen has a [`Node`] with a stable inode number, its parent and its name; a path
//! is made by walking up, so renaming a folder of a million files changes one node. A folder's [`Folder`] holds its
//! children and when they were listed: one listing answers for every name in it, also for the names that are *not*
//! there. What we change ourselves (mkdir, unlink, uploads) is applied here at once instead of throwing listings away.
//!
//! A listing takes a while, and we may change the folder meanwhile. Every local change gets a [`Stamp`]; a listing
//! that began before the change does not overrule it.
//!
//! Times are the other trap: LIST tells minutes or days, MDTM seconds, and if the two took turns in `stat`, rsync would
//! send everything again and the kernel would drop its pages. So a second-precise time that is known stays as long as
//! the coarse one agrees with it.
//!
//! No I/O, no locks: `fs` owns the tree behind its own lock.

pub mod node;
mod shrink;
mod update;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

pub use node::{Attributes, Entries, Folder, Ino, Node, Stamp, Version};

use crate::ftp::{Kind, Name, RemotePath};

/// All nodes of a mount.
pub struct Tree {
    /// Boxed: a table that doubles would hold them twice meanwhile.
    nodes: HashMap<Ino, Box<Node>>,
    root_path: RemotePath,
    next_ino: u64,
    /// Removed while open: still on the server, under a name that no listing shows.
    hidden: HashSet<Ino>,
    stamp: Stamp,
    lifetimes: Lifetimes,
    /// So many nodes could not be dropped the last time.
    unshrinkable: usize,
}

/// How long what a server told is believed.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    pub attributes: Duration,
    /// How long a listing proves that a name is not there.
    pub absence: Duration,
    pub listings: Duration,
}

/// What the tree knows about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Child {
    Known(Ino),
    /// A listing within its lifetime does not have it.
    Missing,
    /// Ask the server.
    Unknown,
}

impl Tree {
    /// A tree with only its root, which is `root` on the server.
    pub fn new(root: RemotePath, lifetimes: Lifetimes) -> Self {
        let mut nodes = HashMap::new();
        nodes.insert(Ino::ROOT, Box::new(Node::root()));
        Self {
            nodes,
            root_path: root,
            next_ino: Ino::ROOT.0 + 1,
            hidden: HashSet::new(),
            stamp: Stamp::default(),
            lifetimes,
            unshrinkable: 0,
        }
    }

    pub fn node(&self, ino: Ino) -> Option<&Node> {
        self.nodes.get(&ino).map(Box::as_ref)
    }

    pub fn node_mut(&mut self, ino: Ino) -> Option<&mut Node> {
        self.nodes.get_mut(&ino).map(Box::as_mut)
    }

    /// Whether a name in a folder still stands for this node.
    pub fn is_at(&self, ino: Ino, folder: Ino, name: &Name) -> bool {
        let node = self.nodes.get(&ino);
        node.is_some_and(|node| node.parent == Some(folder) && node.name.as_ref() == Some(name))
    }

    /// Where a node is on the server; none when it has been removed.
    pub fn path(&self, ino: Ino) -> Option<RemotePath> {
        let mut names = Vec::new();
        let mut at = ino;
        while at != Ino::ROOT {
            let node = self.nodes.get(&at)?;
            names.push(node.name.clone()?);
            at = node.parent?;
        }
        Some(names.iter().rev().fold(self.root_path.clone(), |path, name| path.join(name)))
    }

    /// The folder on the server that is the root of the mount.
    pub fn root_path(&self) -> &RemotePath {
        &self.root_path
    }

    /// The root of the mount has turned out to be here.
    pub fn set_root_path(&mut self, root: &RemotePath) {
        if self.root_path != *root {
            self.root_path = root.clone();
        }
    }

    /// What is known of `name` in `parent` at `now`.
    pub fn child(&self, parent: Ino, name: &Name, now: Instant) -> Child {
        let Some(folder) = self.nodes.get(&parent).and_then(|node| node.folder.as_ref()) else {
            return Child::Unknown;
        };
        let fresh = folder.is_fresh(now, self.lifetimes.listings);
        match folder.children.get(name) {
            Some(&ino) if fresh || self.nodes.get(&ino).is_some_and(|n| self.is_fresh(n, now)) => {
                Child::Known(ino)
            }
            Some(_) => Child::Unknown,
            None if folder.is_fresh(now, self.lifetimes.absence) && !folder.truncated => Child::Missing,
            None if folder.removed_lately(name, now, self.lifetimes.attributes) => Child::Missing,
            None => Child::Unknown,
        }
    }

    /// What the last listing says of `name`, however old: for a call that has just waited for it.
    pub fn child_as_listed(&self, parent: Ino, name: &Name) -> Child {
        let Some(folder) = self.nodes.get(&parent).and_then(|node| node.folder.as_ref()) else {
            return Child::Unknown;
        };
        match folder.children.get(name) {
            Some(&ino) => Child::Known(ino),
            None if folder.listed.is_some() && !folder.truncated => Child::Missing,
            None => Child::Unknown,
        }
    }

    /// The entries of a folder; none when they are not known, or no longer believed.
    pub fn entries(&self, folder: Ino, now: Instant) -> Option<Entries> {
        let known = self.nodes.get(&folder)?.folder.as_ref()?;
        known.is_fresh(now, self.lifetimes.listings).then(|| known.sorted().clone())
    }

    /// The entries of the last listing, however old: for a call that has just waited for it.
    pub fn entries_as_listed(&self, folder: Ino) -> Option<Entries> {
        Some(self.nodes.get(&folder)?.folder.as_ref()?.sorted().clone())
    }

    /// Whether a folder's entries are known and believed.
    pub fn is_listed(&self, folder: Ino, now: Instant) -> bool {
        let folder = self.nodes.get(&folder).and_then(|node| node.folder.as_ref());
        folder.is_some_and(|folder| folder.is_fresh(now, self.lifetimes.listings))
    }

    /// The children of one kind that are on the server, in the order in which they are handed out.
    pub fn in_order(&self, folder: Ino, kind: Kind) -> Vec<Ino> {
        let is_one =
            |ino: &Ino| self.nodes.get(ino).is_some_and(|node| node.attributes.kind == kind && !node.local);
        let entries = self.entries_as_listed(folder).unwrap_or_default();
        entries.iter().map(|(_, ino)| *ino).filter(is_one).collect()
    }

    /// How many entries the last listing of a folder had; none when it was never listed.
    pub fn known_size(&self, folder: Ino) -> Option<usize> {
        let folder = self.nodes.get(&folder)?.folder.as_ref()?;
        folder.listed.map(|_| folder.children.len())
    }

    /// How much longer a node's attributes may be believed; zero when they must be asked for.
    pub fn attributes_life(&self, ino: Ino, now: Instant) -> Duration {
        match self.nodes.get(&ino) {
            Some(node) if ino == Ino::ROOT || node.local => {
                self.lifetimes.attributes.max(node.life(now, Duration::ZERO))
            }
            Some(node) => node.life(now, self.lifetimes.attributes),
            None => Duration::ZERO,
        }
    }

    /// How much longer the folder's listing proves that a name is not there.
    pub fn absence_life(&self, folder: Ino, now: Instant) -> Duration {
        self.nodes
            .get(&folder)
            .and_then(|node| node.folder.as_ref()?.listed)
            .map_or(Duration::ZERO, |listed| (listed + self.lifetimes.absence).saturating_duration_since(now))
    }

    fn is_fresh(&self, node: &Node, now: Instant) -> bool {
        node.local || !node.life(now, self.lifetimes.attributes).is_zero()
    }

    /// The moment now in the order of local changes: taken before a listing starts, given back with its result.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Adds an entry that we made (or replaced) ourselves. Its inode number is new unless the name was known.
    pub fn insert(&mut self, parent: Ino, name: &Name, attributes: Attributes, now: Instant) -> Option<Ino> {
        self.stamp.0 += 1;
        let stamp = self.stamp;
        let fresh = Ino(self.next_ino);
        let folder = self.nodes.get_mut(&parent)?.folder_mut();
        let ino = *folder.children.entry(name.clone()).or_insert(fresh);
        folder.note_change(name.clone(), stamp, now);
        if ino == fresh {
            self.next_ino += 1;
            self.nodes.insert(ino, Box::new(Node::new(parent, name.clone(), attributes, now)));
        } else if let Some(node) = self.nodes.get_mut(&ino) {
            node.attributes = attributes;
            node.seen = now;
        }
        Some(ino)
    }

    /// Takes a name away; the node stays while the kernel or an open file needs it. Returns the inode.
    pub fn remove(&mut self, parent: Ino, name: &Name, now: Instant) -> Option<Ino> {
        self.stamp.0 += 1;
        let stamp = self.stamp;
        let folder = self.nodes.get_mut(&parent)?.folder_mut();
        let ino = folder.children.remove(name)?;
        folder.note_change(name.clone(), stamp, now);
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.unlinked = true;
        }
        self.take_name(ino);
        Some(ino)
    }

    /// Moves a name, over whatever had the new one. Returns the moved and the replaced inode.
    pub fn rename(
        &mut self,
        from: (Ino, &Name),
        to: (Ino, &Name),
        now: Instant,
    ) -> Option<(Ino, Option<Ino>)> {
        let moved = *self.nodes.get(&from.0)?.folder.as_ref()?.children.get(from.1)?;
        let replaced = self.remove(to.0, to.1, now);
        self.stamp.0 += 1;
        let stamp = self.stamp;
        let folder = self.nodes.get_mut(&from.0)?.folder_mut();
        folder.children.remove(from.1);
        folder.note_change(from.1.clone(), stamp, now);
        let folder = self.nodes.get_mut(&to.0)?.folder_mut();
        folder.children.insert(to.1.clone(), moved);
        folder.note_change(to.1.clone(), stamp, now);
        let node = self.nodes.get_mut(&moved)?;
        node.parent = Some(to.0);
        node.name = Some(to.1.clone());
        Some((moved, replaced))
    }

    /// Gives a removed node a name outside every listing (an open file, renamed on the server until it is closed).
    pub fn hide(&mut self, ino: Ino, parent: Ino, hidden: &Name) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.parent = Some(parent);
            node.name = Some(hidden.clone());
            node.hidden = true;
            self.hidden.insert(ino);
        }
    }

    /// The hidden nodes whose file lies in this folder on the server.
    pub fn hidden_in(&self, folder: Ino) -> Vec<Ino> {
        let inside = |ino: &Ino| self.nodes.get(ino).is_some_and(|node| node.parent == Some(folder));
        self.hidden.iter().copied().filter(inside).collect()
    }

    /// The hidden name is gone from the server too.
    pub fn unhide(&mut self, ino: Ino) {
        self.hidden.remove(&ino);
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.hidden = false;
        }
        self.take_name(ino);
    }

    /// The kernel learned of this node once more.
    pub fn remember(&mut self, ino: Ino) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.lookups += 1;
        }
    }

    /// The kernel forgot `count` look-ups.
    pub fn forget(&mut self, ino: Ino, count: u64) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.lookups = node.lookups.saturating_sub(count);
        }
        self.drop_if_unused(ino);
    }

    /// One open handle more or fewer.
    pub fn opened(&mut self, ino: Ino) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.opens += 1;
        }
    }

    /// Returns how many handles are still open.
    pub fn closed(&mut self, ino: Ino) -> u32 {
        let Some(node) = self.nodes.get_mut(&ino) else { return 0 };
        node.opens = node.opens.saturating_sub(1);
        let left = node.opens;
        if let Some(folder) = node.folder.as_ref().filter(|_| left == 0) {
            self.unshrinkable = self.unshrinkable.saturating_sub(folder.children.len());
        }
        self.drop_if_unused(ino);
        left
    }

    /// Nothing that the server told is believed any more: listings and attributes will be asked for again.
    pub fn expire_all(&mut self) {
        for node in self.nodes.values_mut() {
            node.expire();
            node.kernel_version = None;
            if let Some(folder) = &mut node.folder {
                folder.listed = None;
            }
        }
    }

    /// The folder's listing is no longer believed.
    pub fn expire_listing(&mut self, folder: Ino) {
        if let Some(folder) = self.nodes.get_mut(&folder).and_then(|node| node.folder.as_mut()) {
            folder.listed = None;
        }
    }

    /// How many nodes are held.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never: there is always a root.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Attributes for something that we make now.
    pub fn fresh_attributes(kind: Kind, mode: Option<u32>) -> Attributes {
        Attributes {
            kind,
            size: 0,
            modified: SystemTime::now(),
            precision: crate::ftp::Precision::Minute,
            mode,
            target: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ftp::{Entry, Listing, Modified, Precision};

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    fn tree() -> Tree {
        let lifetimes = Lifetimes {
            attributes: Duration::from_secs(5),
            absence: Duration::from_secs(5),
            listings: Duration::from_secs(30),
        };
        Tree::new(RemotePath::parse(b"/home/joe").unwrap(), lifetimes)
    }

    fn entry(text: &str, size: u64, at: u64, precision: Precision) -> Entry {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(at);
        let modified = Some(Modified { at, precision });
        Entry { name: name(text), kind: Kind::File, size: Some(size), modified, mode: None, target: None }
    }

    fn listing(entries: Vec<Entry>) -> Listing {
        Listing { entries, ..Listing::default() }
    }

    #[test]
    fn one_listing_answers_for_every_name_also_for_missing_ones_until_it_is_old() {
        let mut tree = tree();
        let now = Instant::now();
        assert_eq!(tree.child(Ino::ROOT, &name("a"), now), Child::Unknown);
        tree.apply(Ino::ROOT, &listing(vec![entry("a", 1, 0, Precision::Second)]), tree.stamp(), now);
        assert!(matches!(tree.child(Ino::ROOT, &name("a"), now), Child::Known(_)));
        assert_eq!(tree.child(Ino::ROOT, &name("b"), now), Child::Missing);
        let later = now + Duration::from_secs(31);
        assert_eq!(tree.child(Ino::ROOT, &name("b"), later), Child::Unknown);
        assert_eq!(tree.child(Ino::ROOT, &name("a"), later), Child::Unknown);
    }

    #[test]
    fn renaming_a_folder_moves_everything_below_it() {
        let mut tree = tree();
        let now = Instant::now();
        let folder =
            tree.insert(Ino::ROOT, &name("d"), Tree::fresh_attributes(Kind::Directory, None), now).unwrap();
        let file = tree.insert(folder, &name("f"), Tree::fresh_attributes(Kind::File, None), now).unwrap();
        tree.rename((Ino::ROOT, &name("d")), (Ino::ROOT, &name("e")), now).unwrap();
        assert_eq!(tree.path(file).unwrap().as_bytes(), b"/home/joe/e/f");
    }

    #[test]
    fn a_listing_that_began_earlier_does_not_undo_what_we_did() {
        let mut tree = tree();
        let now = Instant::now();
        let before = tree.stamp();
        tree.insert(Ino::ROOT, &name("new"), Tree::fresh_attributes(Kind::File, None), now).unwrap();
        tree.apply(Ino::ROOT, &listing(vec![entry("gone", 1, 0, Precision::Second)]), before, now);
        assert!(matches!(tree.child(Ino::ROOT, &name("new"), now), Child::Known(_)));
        tree.remove(Ino::ROOT, &name("gone"), now);
        tree.apply(Ino::ROOT, &listing(vec![entry("gone", 1, 0, Precision::Second)]), before, now);
        assert_eq!(tree.child(Ino::ROOT, &name("gone"), now), Child::Missing);
        tree.apply(Ino::ROOT, &listing(vec![]), tree.stamp(), now);
        assert_eq!(tree.child(Ino::ROOT, &name("new"), now), Child::Missing);
    }

    #[test]
    fn a_coarse_time_that_agrees_does_not_replace_an_exact_one() {
        let mut tree = tree();
        let now = Instant::now();
        tree.apply(Ino::ROOT, &listing(vec![entry("a", 1, 3605, Precision::Second)]), tree.stamp(), now);
        let Child::Known(ino) = tree.child(Ino::ROOT, &name("a"), now) else { panic!() };
        let version = tree.node(ino).unwrap().version;
        tree.apply(Ino::ROOT, &listing(vec![entry("a", 1, 3600, Precision::Minute)]), tree.stamp(), now);
        let node = tree.node(ino).unwrap();
        assert_eq!(node.version, version);
        assert_eq!(node.attributes.precision, Precision::Second);
        tree.apply(Ino::ROOT, &listing(vec![entry("a", 1, 7200, Precision::Minute)]), tree.stamp(), now);
        assert_ne!(tree.node(ino).unwrap().version, version);
    }

    #[test]
    fn an_exact_time_is_not_kept_for_a_content_of_another_size() {
        let mut tree = tree();
        let now = Instant::now();
        for (size, modified) in [(2, true), (1, true), (3, false)] {
            tree.apply(Ino::ROOT, &listing(vec![entry("a", 1, 3605, Precision::Second)]), tree.stamp(), now);
            let Child::Known(ino) = tree.child(Ino::ROOT, &name("a"), now) else { panic!() };
            let mut changed = entry("a", size, 3600, Precision::Minute);
            changed.modified = changed.modified.filter(|_| modified);
            tree.apply(Ino::ROOT, &listing(vec![changed]), tree.stamp(), now);
            assert_eq!(tree.node(ino).unwrap().exact_time().is_some(), size == 1, "{size} bytes");
        }
    }

    #[test]
    fn a_removed_node_lives_until_the_kernel_forgets_it() {
        let mut tree = tree();
        let now = Instant::now();
        let ino = tree.insert(Ino::ROOT, &name("a"), Tree::fresh_attributes(Kind::File, None), now).unwrap();
        tree.remember(ino);
        tree.remove(Ino::ROOT, &name("a"), now);
        assert!(tree.node(ino).is_some() && tree.path(ino).is_none());
        tree.forget(ino, 1);
        assert!(tree.node(ino).is_none());
    }

    #[test]
    fn a_big_tree_shrinks_to_its_bound() {
        let mut tree = tree();
        let now = Instant::now();
        let entries = (0..1000).map(|i| entry(&format!("f{i}"), 1, 0, Precision::Second)).collect();
        tree.apply(Ino::ROOT, &listing(entries), tree.stamp(), now);
        tree.shrink(100);
        assert!(tree.len() <= 100);
        assert_eq!(tree.child(Ino::ROOT, &name("f1"), now), Child::Unknown);
    }

    #[test]
    fn a_folder_that_somebody_has_open_keeps_all_its_entries_however_many() {
        let mut tree = tree();
        let now = Instant::now();
        let folder =
            tree.insert(Ino::ROOT, &name("d"), Tree::fresh_attributes(Kind::Directory, None), now).unwrap();
        let entries = (0..1000).map(|i| entry(&format!("f{i}"), 1, 0, Precision::Second)).collect();
        tree.opened(folder);
        tree.apply(folder, &listing(entries), tree.stamp(), now);
        tree.shrink(100);
        assert_eq!(tree.entries(folder, now).unwrap().len(), 1000);
        tree.closed(folder);
        tree.shrink(100);
        assert!(tree.len() <= 100);
    }
}
