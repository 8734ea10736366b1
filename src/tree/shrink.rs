//! What the tree lets go: nodes that nobody knows any more, and the oldest listings when there are too many nodes.

use super::{Ino, Node, Tree};

impl Tree {
    /// Nodes without a name live only as long as the kernel or an open file knows them.
    pub(super) fn drop_if_unused(&mut self, ino: Ino) {
        let unused = |node: &Node| node.parent.is_none() && node.lookups == 0 && node.opens == 0;
        if ino != Ino::ROOT && self.node(ino).is_some_and(unused) {
            self.drop_node(ino);
        }
    }

    /// Takes a node's name away; it goes, too, unless somebody still knows it.
    pub(super) fn take_name(&mut self, ino: Ino) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.parent = None;
            node.name = None;
        }
        self.drop_if_unused(ino);
    }

    fn drop_node(&mut self, ino: Ino) {
        let Some(node) = self.nodes.remove(&ino) else { return };
        for child in node.folder.into_iter().flat_map(|folder| folder.children.into_values()) {
            self.take_name(child);
        }
    }

    /// Drops the listings that are oldest until at most `limit` nodes are left, as far as the kernel lets us. Folders that
    /// somebody has open stay, and do not count: their entries are being read.
    pub fn shrink(&mut self, limit: usize) {
        // Looking at all of them again and again for nothing would cost more than they do.
        let tried = self.unshrinkable + self.unshrinkable / 8;
        if self.nodes.len() <= limit.max(tried) {
            return;
        }
        let (mut folders, mut open) = (Vec::new(), 0);
        for (&ino, node) in &self.nodes {
            match &node.folder {
                Some(folder) if node.opens > 0 => open += folder.children.len(),
                Some(folder) => folders.extend(folder.listed.map(|listed| (listed, ino))),
                None => {}
            }
        }
        let limit = limit + open;
        folders.sort_unstable();
        for (_, ino) in folders {
            if self.nodes.len() <= limit - limit / 8 {
                break;
            }
            self.drop_listing(ino);
        }
        self.unshrinkable = if self.nodes.len() > limit - open { self.nodes.len() } else { 0 };
        // A table that was much larger once keeps its memory otherwise.
        if self.nodes.capacity() > 4 * self.nodes.len().max(limit) {
            self.nodes.shrink_to(limit);
        }
    }

    fn drop_listing(&mut self, ino: Ino) {
        let Some(node) = self.nodes.get_mut(&ino) else { return };
        let folder = node.folder_mut();
        folder.listed = None;
        let mut children = std::mem::take(&mut folder.children);
        children.retain(|_, child| {
            let idle = |node: &Node| {
                node.lookups == 0
                    && node.opens == 0
                    && !node.local
                    && node.folder.as_ref().is_none_or(|folder| folder.children.is_empty())
            };
            let drops = self.node(*child).is_some_and(idle);
            if drops {
                self.nodes.remove(child);
            }
            !drops
        });
        children.shrink_to_fit();
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.folder_mut().children = children;
        }
    }
}
