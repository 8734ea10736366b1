//! Bytes from an earlier mount, or from `ftpfs recover push`, become drafts again.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use log::{error, info, warn};

use super::{Pending, Request, Settled, Source};
use crate::fs::{Errno, FileSystem, Options};
use crate::ftp::{Kind, Name, RemotePath};
use crate::read::Content;
use crate::tree::{Child, Ino, Tree};
use crate::write::Draft;
use crate::write::draft::Base;
use crate::write::draft::Generation;
use crate::write::journal::{BYTES_AT, Below, EntryNumber, Journal, Record, Stored};
use crate::write::kept::Kept;

/// What earlier mounts left.
pub type Leftovers = Vec<Stored>;

/// Opens the journal of a mount: with `writeback`, or when an earlier mount left something there.
pub fn open_journal(options: &Options, identity: &str) -> (Option<Journal>, Leftovers) {
    if options.read_only {
        return (None, Vec::new());
    }
    match Journal::open(&options.spool_dir, identity, options.writeback) {
        Ok(Some((journal, left))) => {
            if !left.is_empty() {
                info!("{} files of an earlier mount are still to be uploaded", left.len());
            }
            (Some(journal), left)
        }
        Ok(None) if options.writeback => {
            error!("too many mounts of the same server have a journal: close() waits for the server");
            (None, Vec::new())
        }
        Ok(None) => (None, Vec::new()),
        Err(error) => {
            error!("the journal in {}: {error}: close() waits for the server", options.spool_dir.display());
            (None, Vec::new())
        }
    }
}

impl FileSystem {
    /// Makes drafts of what earlier mounts left; of several entries for one file the last counts.
    pub(in crate::fs) fn restore(&self, left: Leftovers) {
        if left.is_empty() {
            return;
        }
        let mut older: Vec<(RemotePath, EntryNumber)> = Vec::new();
        let newest =
            |at: usize, path: &RemotePath| !left.iter().skip(at + 1).any(|later| later.record.path == *path);
        for (at, stored) in left.iter().enumerate() {
            let record = &stored.record;
            if !newest(at, &record.path) {
                older.push((record.path.clone(), stored.number));
                continue;
            }
            let mut sources: Vec<Source> = Vec::new();
            older.retain(|(path, number)| {
                let is_same = *path == record.path;
                if is_same {
                    sources.push(Source::Journal(*number));
                }
                !is_same
            });
            sources.push(Source::Journal(stored.number));
            let bytes = |at: u64, piece: &mut [u8]| stored.file.read_exact_at(piece, BYTES_AT + at);
            match self.plant(record, &record.root, bytes) {
                Ok((ino, generation)) => self.pend(ino, sources, generation),
                // It stays in the journal, and `ftpfs recover` has it.
                Err(errno) => {
                    warn!("{}: what an earlier mount left cannot be uploaded now: {errno}", record.path)
                }
            }
        }
        self.request(Request::Go);
    }

    /// Uploads what was kept; `then` hears how it ended.
    ///
    /// # Errors
    /// EINVAL for what is no record, EXDEV for what belongs to another server or lies outside of the mount, EBUSY for a file that is
    /// being changed.
    pub fn push(&self, file: &Path, then: impl FnOnce(Settled) + Send + 'static) -> Result<(), Errno> {
        self.may_write()?;
        let kept = Kept::at(file);
        let record = kept.record.as_ref().ok_or(Errno::INVAL)?;
        let root = self.tree.lock().root_path().clone();
        if record.server != self.server || !record.path.is_within(&root) {
            return Err(Errno(libc::EXDEV));
        }
        let (bytes, start) = kept.open()?;
        let (ino, generation) =
            self.plant(record, &root, |at, piece| bytes.read_exact_at(piece, start + at))?;
        self.pend(ino, vec![Source::Unsent(file.to_owned())], generation);
        self.settle([ino].into(), Box::new(move |_, outcome| then(outcome)));
        Ok(())
    }

    fn pend(&self, ino: Ino, kept: Vec<Source>, generation: Generation) {
        let pending = Pending { kept, is_restored: true, ..Pending::new(generation) };
        self.writeback.state.lock().files.insert(ino, pending);
    }

    /// Makes a node and a draft of a record. Gives the generation of the draft.
    fn plant(
        &self,
        record: &Record,
        root: &RemotePath,
        bytes: impl FnMut(u64, &mut [u8]) -> std::io::Result<()>,
    ) -> Result<(Ino, Generation), Errno> {
        let names = names_below(record, root)?;
        let (file, folders) = names.split_last().ok_or(Errno::INVAL)?;
        let size_below = match record.below {
            Below::File { size, limit, modified, .. } if !record.is_whole() => Some((size, limit, modified)),
            _ if record.is_whole() => None,
            _ => return Err(Errno::INVAL),
        };
        let ino = {
            let now = Instant::now();
            let mut tree = self.tree.lock();
            let mut parent = Ino::ROOT;
            for name in folders {
                parent = self.child_or_new(&mut tree, parent, name, Kind::Directory, now)?;
            }
            self.child_or_new(&mut tree, parent, file, Kind::File, now)?
        };
        if self.drafts.find(ino).is_some() {
            return Err(Errno(libc::EBUSY));
        }
        let base = size_below.map(|(size, limit, modified)| {
            let (version, locate) = (self.version(ino), self.locate(ino));
            let content = Content { ino, version, size, modified, locate };
            Base { content, limit }
        });
        let mut draft = Draft::restored(record, base, &self.options.spool_dir, bytes)?;
        if let Below::File { modified, .. } = record.below {
            draft.base_time = modified;
        }
        let generation = draft.generation();
        self.drafts.plant(ino, draft);
        if let Some(node) = self.tree.lock().node_mut(ino) {
            node.replaced();
            node.local = true;
            node.attributes.size = record.size;
            node.attributes.modified = record.modified.unwrap_or(record.at);
            node.attributes.mode = record.mode.or(node.attributes.mode);
        }
        Ok((ino, generation))
    }

    fn child_or_new(
        &self,
        tree: &mut Tree,
        parent: Ino,
        name: &Name,
        kind: Kind,
        now: Instant,
    ) -> Result<Ino, Errno> {
        if let Child::Known(ino) = tree.child_as_listed(parent, name) {
            let found = tree.node(ino).map(|node| node.attributes.kind);
            return match (found, kind) {
                (Some(found), wanted) if found == wanted => Ok(ino),
                (_, Kind::Directory) => Err(Errno::NOTDIR),
                _ => Err(Errno::ISDIR),
            };
        }
        let ino = tree.insert(parent, name, Tree::fresh_attributes(kind, None), now).ok_or(Errno::STALE)?;
        if let Some(node) = tree.node_mut(ino) {
            // Nobody has seen it yet.
            node.expire();
        }
        Ok(ino)
    }
}

fn names_below(record: &Record, root: &RemotePath) -> Result<Vec<Name>, Errno> {
    let inside = record.path.is_within(root).then(|| record.path.as_bytes());
    let rest = inside.and_then(|path| path.get(if root.is_root() { 0 } else { root.as_bytes().len() }..));
    let parts = rest.ok_or(Errno(libc::EXDEV))?.split(|&b| b == b'/').filter(|part| !part.is_empty());
    parts.map(|part| Ok(Name::new(part)?)).collect()
}
