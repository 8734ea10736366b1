//! Folders: listings shared by everybody who waits for them, and reading a folder's entries.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use log::debug;

use parking_lot::Mutex;

use super::handles::Handle;
use super::{Answer, Caller, Errno, FileSystem, Flights, MAX_NODES, Stat, Then};
use crate::ftp::{Error, Kind, Listing, Name, Refusal, RemotePath};
use crate::queue::{Claim, Job, Priority, Ticket};
use crate::read::Wanted;
use crate::tree::{Ino, Stamp};
use crate::write::{is_left_over, is_temporary};

/// Listings and time look-ups under way: who comes later waits for the same one.
#[derive(Default)]
pub struct Listings {
    folders: Flights,
    /// The jobs among them that nobody waited for when they began.
    ahead: Mutex<HashMap<Ino, Ticket>>,
    times: Flights,
}

impl FileSystem {
    /// opendir: the folder is listed unless its listing is within its lifetime.
    pub fn open_folder(&self, caller: Caller, ino: Ino, answer: Answer<u64>) {
        self.lists_ahead_of(ino);
        let entries = self.tree.lock().entries(ino, Instant::now());
        if let Some(entries) = entries {
            return answer.ok(self.handles.add(Handle::Folder { ino, entries: Arc::new(entries) }));
        }
        let answer = self.hold(caller, answer);
        self.refresh(
            ino,
            Box::new(move |fs, outcome| match outcome {
                Err(error) => answer.error(fs.fail_at("list", ino, &error)),
                Ok(()) => {
                    let entries = fs.tree.lock().entries_as_listed(ino).unwrap_or_default();
                    answer.ok(fs.handles.add(Handle::Folder { ino, entries: Arc::new(entries) }));
                }
            }),
        );
    }

    /// readdir and readdirplus: hands out entries from `offset` on until `add` says that it is full.
    ///
    /// # Errors
    /// EBADF for a handle that is no folder.
    pub fn read_folder(
        &self,
        handle: u64,
        offset: u64,
        plus: bool,
        mut add: impl FnMut(FolderEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        let Some(Handle::Folder { ino: folder, mut entries }) = self.handles.at(handle) else {
            return Err(Errno::BADF);
        };
        let now = Instant::now();
        let mut tree = self.tree.lock();
        if offset == 0
            && let Some(now) = tree.entries(folder, now).filter(|now| *now != *entries)
        {
            entries = Arc::new(now);
            self.handles.replace(handle, Handle::Folder { ino: folder, entries: entries.clone() });
        }
        let parent = tree.node(folder).and_then(|node| node.parent).unwrap_or(Ino::ROOT);
        for (at, (name, ino)) in
            [(&b"."[..], folder), (b"..", parent)].into_iter().enumerate().skip(offset as usize)
        {
            let stat = self.stat_of(&tree, ino).ok_or(Errno::NOENT)?;
            let entry = FolderEntry { name, offset: at as u64 + 1, stat, life: Duration::ZERO };
            if add(entry) {
                return Ok(());
            }
        }
        for (at, (name, ino)) in entries.iter().enumerate().skip(offset.saturating_sub(DOTS) as usize) {
            let Some(stat) = self.stat_of(&tree, *ino) else { continue };
            let coarse = tree.node(*ino).is_some_and(|node| node.has_coarse_time());
            let life = if coarse { Duration::ZERO } else { tree.attributes_life(*ino, now) };
            if add(FolderEntry { name: name.as_bytes(), offset: at as u64 + 1 + DOTS, stat, life }) {
                break;
            }
            if plus {
                tree.remember(*ino);
            }
        }
        Ok(())
    }

    /// releasedir.
    pub fn close_folder(&self, handle: u64) {
        self.handles.remove(handle);
    }

    /// Lists a folder, once for everybody who asks meanwhile; `then` is called when the tree knows.
    pub(super) fn refresh(&self, folder: Ino, then: Then) {
        {
            let mut folders = self.listings.folders.lock();
            if let Some(waiting) = folders.get_mut(&folder) {
                waiting.push(then);
                drop(folders);
                return self.hurry(folder);
            }
            folders.insert(folder, vec![then]);
        }
        self.list(folder, None);
    }

    /// As [`FileSystem::refresh`], when nobody waits for it yet.
    pub(super) fn refresh_ahead(&self, folder: Ino, wanted: Wanted) {
        {
            let mut folders = self.listings.folders.lock();
            if folders.contains_key(&folder) {
                return;
            }
            folders.insert(folder, Vec::new());
        }
        self.list(folder, Some(wanted));
    }

    /// A listing that was fetched ahead has somebody who waits for it now.
    fn hurry(&self, folder: Ino) {
        let ticket = self.listings.ahead.lock().get(&folder).copied();
        ticket.into_iter().for_each(|ticket| self.queue.promote(ticket, Priority::Names));
    }

    fn is_awaited(&self, folder: Ino) -> bool {
        self.listings.folders.lock().get(&folder).is_some_and(|waiting| !waiting.is_empty())
    }

    fn list(&self, folder: Ino, wanted: Option<Wanted>) {
        let Ok(path) = self.path(folder) else {
            return self.listed(folder, Err(Error::Cancelled));
        };
        let Some(fs) = self.arc() else { return };
        let ahead = wanted.is_some();
        let attempt = {
            let (fs, path) = (fs.clone(), path.clone());
            move |session: &mut crate::ftp::Session, _: &crate::queue::Turn<'_>| {
                if wanted.as_ref().is_some_and(|wanted| !wanted()) && !fs.is_awaited(folder) {
                    return Ok(None);
                }
                let stamp = {
                    let mut tree = fs.tree.lock();
                    if folder == Ino::ROOT {
                        // Where the login was put off, nobody knew before now.
                        tree.set_root_path(session.root());
                    }
                    tree.stamp()
                };
                let path = if folder == Ino::ROOT { session.root().clone() } else { path.clone() };
                session.list(&path).map(|listing| Some((stamp, listing)))
            }
        };
        let end = move |outcome: Result<Option<(Stamp, Listing)>, Error>| {
            fs.listings.ahead.lock().remove(&folder);
            let outcome = match outcome {
                Ok(None) => {
                    // Not fetched; whoever came since then has it fetched after all.
                    let waiting = fs.listings.folders.lock().remove(&folder).unwrap_or_default();
                    return waiting.into_iter().for_each(|then| fs.refresh(folder, then));
                }
                Ok(Some((stamp, listing))) => {
                    fs.take_listing(folder, listing, stamp);
                    Ok(())
                }
                Err(error) => Err(error),
            };
            fs.listed(folder, outcome);
        };
        let priority = if ahead { Priority::ReadAhead } else { Priority::Names };
        let mut job = Job::new(priority, attempt, end).claim([Claim::Shared(path)]).with_data();
        if !ahead {
            job = job.until(self.deadline());
            self.submit(job);
            return;
        }
        let ticket = self.queue.submit(job);
        self.listings.ahead.lock().insert(folder, ticket);
        // It may have ended, or be waited for, before there was a ticket.
        match self.listings.folders.lock().get(&folder).map(Vec::is_empty) {
            None => drop(self.listings.ahead.lock().remove(&folder)),
            Some(true) => {}
            Some(false) => self.queue.promote(ticket, Priority::Names),
        }
    }

    /// Takes over a listing of `folder` that began at `stamp`.
    pub(super) fn take_listing(&self, folder: Ino, mut listing: Listing, stamp: Stamp) {
        self.clean_up(folder, &listing);
        listing.entries.retain(|entry| !is_temporary(&entry.name));
        self.correct_zone(&mut listing);
        let mut tree = self.tree.lock();
        tree.apply(folder, &listing, stamp, Instant::now());
        tree.shrink(MAX_NODES);
    }

    /// Deletes what mounts that are dead left in a folder.
    fn clean_up(&self, folder: Ino, listing: &Listing) {
        let Ok(path) = self.path(folder) else { return };
        let now = SystemTime::now();
        let left: Vec<_> = listing.entries.iter().filter(|entry| is_left_over(&entry.name, now)).collect();
        for entry in left.iter().take(CLEANED_AT_ONCE).filter(|_| !self.options.read_only) {
            let path = path.join(&entry.name);
            let end =
                |outcome: Result<(), Error>| drop(outcome.inspect_err(|error| debug!("left over: {error}")));
            self.submit(Job::new(Priority::ReadAhead, move |session, _| session.delete(&path), end));
        }
    }

    fn listed(&self, folder: Ino, outcome: Result<(), Error>) {
        if matches!(
            outcome.as_ref().err().and_then(Error::refusal),
            Some(Refusal::NotFound | Refusal::NotDirectory)
        ) {
            let mut tree = self.tree.lock();
            let parent = tree.node(folder).and_then(|node| node.parent);
            parent.into_iter().for_each(|parent| tree.expire_listing(parent));
        }
        let waiting = self.listings.folders.lock().remove(&folder).unwrap_or_default();
        for then in waiting {
            then(self, outcome.clone());
        }
    }

    /// Learns modification times to the second for the files of a folder, in one batch; `then` is called when the tree
    /// has what could be had.
    pub(super) fn refresh_times(&self, folder: Ino, around: Ino, then: Then) {
        {
            let mut times = self.listings.times.lock();
            let waiting = times.entry(folder).or_default();
            waiting.push(then);
            if waiting.len() > 1 {
                return;
            }
        }
        let files = self.coarse_files(folder, around);
        let Some(fs) = self.arc() else { return };
        let paths: Vec<RemotePath> = files.iter().map(|(_, path)| path.clone()).collect();
        let end = move |outcome: Result<Vec<Option<crate::ftp::Modified>>, Error>| {
            let outcome = outcome.map(|times| {
                fs.learn_zone(&files, &times);
                let mut tree = fs.tree.lock();
                for ((ino, _), time) in files.iter().zip(times) {
                    match time {
                        Some(time) => drop(tree.apply_time(*ino, time)),
                        None => tree.accept_coarse_time(*ino),
                    }
                }
            });
            let waiting = fs.listings.times.lock().remove(&folder).unwrap_or_default();
            for then in waiting {
                then(&fs, outcome.clone());
            }
        };
        let attempt =
            move |session: &mut crate::ftp::Session, _: &crate::queue::Turn<'_>| session.exact_times(&paths);
        self.submit(Job::new(Priority::Names, attempt, end).until(self.deadline()));
    }

    /// The files of a folder whose time is only known in minutes or days: all of them in a small folder, those from
    /// `around` on in a large one.
    fn coarse_files(&self, folder: Ino, around: Ino) -> Vec<(Ino, RemotePath)> {
        let tree = self.tree.lock();
        let Some(path) = tree.path(folder) else { return Vec::new() };
        let Some(children) = tree.node(folder).and_then(|node| node.folder.as_ref()) else {
            return Vec::new();
        };
        let mut files: Vec<(&Name, Ino)> = children
            .children
            .iter()
            .map(|(name, &ino)| (name, ino))
            .filter(|&(_, ino)| tree.node(ino).is_some_and(|node| node.has_coarse_time()))
            .collect();
        files.sort_unstable();
        let first = files.iter().position(|&(_, ino)| ino == around).unwrap_or(0);
        files.rotate_left(first);
        files.truncate(TIMES_AT_ONCE);
        files.into_iter().map(|(name, ino)| (ino, path.join(name))).collect()
    }

    /// As [`FileSystem::fail`], for an inode.
    pub(super) fn fail_at(&self, what: &str, ino: Ino, error: &Error) -> Errno {
        match self.path(ino) {
            Ok(path) => self.fail(what, &path, error),
            Err(_) => self.fail(what, &"(removed)", error),
        }
    }
}

/// One entry for readdir.
pub struct FolderEntry<'n> {
    pub name: &'n [u8],
    /// Where the next read goes on.
    pub offset: u64,
    pub stat: Stat,
    /// How long the kernel may believe name and attributes.
    pub life: Duration,
}

impl FolderEntry<'_> {
    pub fn kind(&self) -> Kind {
        self.stat.kind
    }
}

/// Left-overs deleted after one listing: nobody waits for it, and the next listing goes on.
const CLEANED_AT_ONCE: usize = 16;
/// `.` and `..` come first.
const DOTS: u64 = 2;
/// MDTMs in one batch: 1,000 cost about as much as one listing.
const TIMES_AT_ONCE: usize = 1024;
