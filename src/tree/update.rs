//! Applying what the server tells: listings, single answers, and times to the second.

use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime};

use super::{Attributes, Ino, Stamp, Tree, Version};
use crate::ftp::{Entry, Kind, Listing, Modified, Name, Precision};
use crate::tree::node::Node;

impl Tree {
    /// Takes over a listing of `folder` that began at `stamp`.
    pub fn apply(&mut self, folder: Ino, listing: &Listing, stamp: Stamp, now: Instant) {
        let Some(node) = self.nodes.get_mut(&folder) else { return };
        let known = node.folder_mut();
        let mut listed = HashSet::with_capacity(listing.entries.len());
        let mut updates = Vec::with_capacity(listing.entries.len());
        // New inode numbers follow the order of names: cp and others read by inode, and what comes next can be foreseen.
        let mut entries: Vec<_> = listing.entries.iter().collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        for entry in entries {
            if !listed.insert(&entry.name) || known.changed_after(&entry.name, stamp) {
                continue;
            }
            let ino = *known.children.entry(entry.name.clone()).or_insert_with(|| {
                let ino = Ino(self.next_ino);
                self.next_ino += 1;
                ino
            });
            updates.push((ino, entry));
        }
        let missing: Vec<_> = known
            .children
            .iter()
            .filter(|(name, _)| {
                !listed.contains(name) && !known.changed_after(name, stamp) && !listing.truncated
            })
            .map(|(name, &ino)| (name.clone(), ino))
            .collect();
        for (name, ino) in missing {
            if self.nodes.get(&ino).is_some_and(|node| node.local) {
                continue;
            }
            if let Some(known) = self.nodes.get_mut(&folder).and_then(|node| node.folder.as_mut()) {
                known.children.remove(&name);
            }
            self.take_name(ino);
        }
        for (ino, entry) in updates {
            self.update(folder, ino, entry, now);
        }
        if let Some(known) = self.nodes.get_mut(&folder).and_then(|node| node.folder.as_mut()) {
            known.listed = Some(now);
            known.truncated = listing.truncated;
            known.forget_changes(stamp);
        }
    }

    /// Takes over some entries of a listing of `folder` that began at `stamp` and has not ended. Gives them as they are
    /// known now; those that we changed since are left out.
    pub fn apply_part(
        &mut self,
        folder: Ino,
        part: &Listing,
        stamp: Stamp,
        now: Instant,
    ) -> Vec<(Name, Ino)> {
        let mut applied = Vec::with_capacity(part.entries.len());
        for entry in &part.entries {
            let Some(node) = self.nodes.get_mut(&folder) else { break };
            let known = node.folder_mut();
            if known.changed_after(&entry.name, stamp) {
                continue;
            }
            let next = &mut self.next_ino;
            let ino = *known.children.entry(entry.name.clone()).or_insert_with(|| {
                *next += 1;
                Ino(*next - 1)
            });
            self.update(folder, ino, entry, now);
            applied.push((entry.name.clone(), ino));
        }
        applied
    }

    /// Takes over one answer about `name` in `folder` (MLST, SIZE and MDTM). Returns its inode.
    pub fn apply_one(&mut self, folder: Ino, entry: &Entry, now: Instant) -> Option<Ino> {
        let fresh = Ino(self.next_ino);
        let ino =
            *self.nodes.get_mut(&folder)?.folder_mut().children.entry(entry.name.clone()).or_insert(fresh);
        if ino == fresh {
            self.next_ino += 1;
        }
        self.update(folder, ino, entry, now);
        Some(ino)
    }

    /// The server has no such name any more. What is only here, or has unsent content, keeps it.
    pub fn lose(&mut self, parent: Ino, name: &Name, now: Instant) {
        let Some(folder) = self.nodes.get(&parent).and_then(|node| node.folder.as_ref()) else { return };
        let Some(&ino) = folder.children.get(name) else { return };
        if self.nodes.get(&ino).is_some_and(|node| node.local) {
            return;
        }
        self.stamp.0 += 1;
        let stamp = self.stamp;
        if let Some(node) = self.nodes.get_mut(&parent) {
            let folder = node.folder_mut();
            folder.children.remove(name);
            folder.note_change(name.clone(), stamp, now);
        }
        self.take_name(ino);
    }

    /// Takes over a time from MDTM. True when it shows that the content is a new one.
    pub fn apply_time(&mut self, ino: Ino, exact: Modified) -> bool {
        let Some(node) = self.nodes.get_mut(&ino).filter(|node| !node.local) else { return false };
        let changed = node.attributes.precision == Precision::Second && node.attributes.modified != exact.at;
        node.attributes.modified = exact.at;
        node.attributes.precision = exact.precision;
        if changed {
            node.replaced();
        }
        changed
    }

    /// There is no better time to be had for this file than what LIST told.
    pub fn accept_coarse_time(&mut self, ino: Ino) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.time_asked = true;
        }
    }

    /// Takes over where the symbolic links of a folder point.
    pub fn apply_targets(&mut self, folder: Ino, listing: &Listing) {
        let Some(children) = self.nodes.get(&folder).and_then(|node| node.folder.as_ref()) else { return };
        let links: Vec<_> = listing
            .entries
            .iter()
            .filter_map(|entry| Some((*children.children.get(&entry.name)?, entry.target.clone()?)))
            .collect();
        for (ino, target) in links {
            if let Some(node) = self.nodes.get_mut(&ino) {
                node.attributes.target = Some(target);
            }
        }
    }

    /// We made this folder just now: it is known to be empty.
    pub fn made_empty(&mut self, folder: Ino, now: Instant) {
        if let Some(node) = self.nodes.get_mut(&folder) {
            node.folder_mut().listed = Some(now);
        }
    }

    /// The upload of `ino` is confirmed: what the server has now.
    pub fn uploaded(
        &mut self,
        ino: Ino,
        size: u64,
        modified: Option<Modified>,
        now: Instant,
    ) -> Option<Version> {
        self.stamp.0 += 1;
        let stamp = self.stamp;
        let node = self.nodes.get_mut(&ino)?;
        node.content_changed();
        node.attributes.size = size;
        if let Some(modified) = modified {
            node.attributes.modified = modified.at;
            node.attributes.precision = modified.precision;
        }
        node.listed_time = None;
        node.unknown_size = false;
        node.seen(now);
        let (version, parent, name) = (node.version, node.parent, node.name.clone());
        if let (Some(parent), Some(name)) = (parent, name)
            && let Some(folder) = self.nodes.get_mut(&parent).and_then(|node| node.folder.as_mut())
        {
            folder.note_change(name, stamp, now);
        }
        Some(version)
    }

    fn update(&mut self, folder: Ino, ino: Ino, entry: &Entry, now: Instant) {
        let attributes = Attributes {
            kind: entry.kind,
            size: entry.size.unwrap_or(0),
            modified: entry.modified.map_or(SystemTime::UNIX_EPOCH, |modified| modified.at),
            precision: entry.modified.map_or(Precision::Day, |modified| modified.precision),
            mode: entry.mode,
            target: entry.target.clone(),
        };
        let coarse = entry.modified.filter(|modified| modified.precision != Precision::Second).map(|m| m.at);
        let Some(node) = self.nodes.get_mut(&ino) else {
            let mut node = Node::new(folder, entry.name.clone(), attributes, now);
            node.listed_time = coarse;
            node.unknown_size = entry.size.is_none();
            self.nodes.insert(ino, Box::new(node));
            return;
        };
        node.seen(now);
        node.unknown_size = entry.size.is_none();
        if node.local {
            return;
        }
        let same_time = match entry.modified {
            None => true,
            Some(modified) if modified.precision == Precision::Second => {
                let known = Modified { at: node.attributes.modified, precision: node.attributes.precision };
                modified.at == known.at || agrees(modified.at, known)
            }
            Some(modified) => {
                node.listed_time == Some(modified.at) || agrees(node.attributes.modified, modified)
            }
        };
        let same_size = entry.size.is_none_or(|size| size == node.attributes.size);
        let same_kind = entry.kind == node.attributes.kind;
        let changed = !(same_time && same_size && same_kind);
        let known = std::mem::replace(&mut node.attributes, attributes);
        node.attributes.target = node.attributes.target.take().or(known.target);
        if same_kind {
            // Not told by this listing, but by SITE CHMOD or an earlier answer.
            node.attributes.mode = node.attributes.mode.or(known.mode);
        }
        if entry.size.is_none() && same_kind {
            node.attributes.size = known.size;
        }
        // A content of another size has a time of its own, even where that cannot be told from the old one.
        let keeps_time = !changed && coarse.is_some() | entry.modified.is_none();
        if keeps_time || entry.modified.is_none() {
            node.attributes.modified = known.modified;
        }
        if keeps_time {
            node.attributes.precision = known.precision;
        }
        node.listed_time = coarse;
        if changed {
            node.time_asked = false;
            if same_kind && node.attributes.size > known.size {
                node.content_changed();
            } else {
                node.replaced();
            }
        }
        if node.attributes.kind != Kind::Directory {
            node.folder = None;
        }
    }
}

/// Whether a coarse time could be this exact one, in the server's minutes or days.
fn agrees(exact: SystemTime, coarse: Modified) -> bool {
    let unit = match coarse.precision {
        Precision::Second => Duration::ZERO,
        Precision::Minute => Duration::from_secs(60),
        Precision::Day => Duration::from_secs(86_400),
    };
    exact.duration_since(coarse.at).is_ok_and(|past| past < unit)
}
