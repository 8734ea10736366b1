//! Folders: listings shared by everybody who waits for them, and reading a folder's entries.
//!
//! An open folder keeps the entries that it was opened with, but for those that are gone; rewinddir() is as good as opening it
//! anew.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use log::debug;

use super::arriving::Arriving;
use super::handles::{Fh, Handle};
use super::{Answer, Caller, Errno, FileSystem, MAX_NODES, Stat, Then};
use crate::ftp::{self, Error, Kind, Listing, Progress, Refusal, RemotePath, Session};
use crate::lock::Mutex;
use crate::queue::{Claim, Job, Priority, Ticket, Turn, Until};
use crate::read::Wanted;
use crate::tree::{Entries, Ino, Stamp};
use crate::write::{is_left_over, is_shown};

/// Listings under way: who comes later waits for the same one.
#[derive(Default)]
pub struct Listings {
    folders: Mutex<HashMap<Ino, Flight>>,
    /// The jobs among them that nobody waited for when they began.
    ahead: Mutex<HashMap<Ino, Ticket>>,
    /// Who waits in opendir.
    openers: Mutex<HashMap<Ino, Vec<Answer<Fh>>>>,
    /// Large folders of which the first entries are here.
    arriving: Mutex<HashMap<Ino, Arc<Arriving>>>,
}

/// Who waits for a listing, and until when.
struct Flight {
    waiting: Vec<Then>,
    until: Until,
}

impl FileSystem {
    /// opendir: the folder is listed unless its listing is within its lifetime.
    pub fn open_folder(&self, caller: Caller, ino: Ino, answer: Answer<Fh>) {
        self.lists_ahead_of(ino);
        let entries = {
            let mut tree = self.tree.lock();
            let entries = tree.entries(ino, Instant::now());
            // At once, so that nothing is dropped in between.
            entries.inspect(|_| tree.opened(ino))
        };
        if let Some(entries) = entries {
            return answer.ok(self.handles.add(Handle::Folder { ino, entries, is_read: false }));
        }
        if let Some(handle) = self.open_arriving(ino) {
            return answer.ok(handle);
        }
        let answer = self.hold(caller, answer);
        self.listings.openers.lock().entry(ino).or_default().push(answer);
        self.refresh(
            ino,
            Box::new(move |fs, outcome| {
                // Empty when they were answered with the first entries.
                let openers = fs.listings.openers.lock().remove(&ino).unwrap_or_default();
                let entries = outcome.map(|()| fs.tree.lock().entries_as_listed(ino).unwrap_or_default());
                for answer in openers.into_iter().filter_map(Answer::claim) {
                    match &entries {
                        Err(error) => answer.error(fs.fail_at("list", ino, error)),
                        Ok(entries) => {
                            let handle = Handle::Folder { ino, entries: entries.clone(), is_read: false };
                            answer.ok(fs.folder_handle(handle, ino));
                        }
                    }
                }
            }),
        );
    }

    /// An open folder's entries are not forgotten.
    fn folder_handle(&self, handle: Handle, folder: Ino) -> Fh {
        self.tree.lock().opened(folder);
        self.handles.add(handle)
    }

    /// Opens a folder whose listing has begun to come.
    fn open_arriving(&self, ino: Ino) -> Option<Fh> {
        let entries = self.listings.arriving.lock().get(&ino).cloned()?;
        Some(self.folder_handle(Handle::Arriving { ino, entries }, ino))
    }

    /// readdir and readdirplus: hands out entries from `offset` on until `add` says that it is full.
    ///
    /// # Errors
    /// EBADF for a handle that is no folder.
    pub fn read_folder(
        &self,
        handle: Fh,
        offset: u64,
        plus: bool,
        mut add: impl FnMut(FolderEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        let first = offset.saturating_sub(DOTS) as usize;
        let open = self.handles.at(handle).ok_or(Errno::BADF)?;
        let now = Instant::now();
        let mut tree = self.tree.lock();
        // The entries, and the place of the first of them in the folder.
        let (folder, mut entries, mut base) = match &open {
            Handle::Folder { ino, entries, .. } => (*ino, entries.clone(), 0),
            Handle::Arriving { ino, entries } => {
                let (base, entries) = entries.from(first, &tree);
                (*ino, Arc::new(entries), base)
            }
            _ => return Err(Errno::BADF),
        };
        if offset == 0 {
            let newer = tree.entries(folder, now);
            if newer.is_some() || matches!(open, Handle::Folder { .. }) {
                base = 0;
                entries = newer.unwrap_or(entries);
                let open = Handle::Folder { ino: folder, entries: entries.clone(), is_read: true };
                self.handles.replace(handle, open);
            }
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
        for (at, (name, ino)) in (base..).zip(entries.iter()).skip(first.saturating_sub(base)) {
            // Removed or renamed since, and perhaps open still.
            let Some(stat) = self.stat_of(&tree, *ino).filter(|_| tree.is_at(*ino, folder, name)) else {
                continue;
            };
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

    /// Before a folder is read from its start: one that is read once more (rewinddir) is listed again when its listing is old.
    pub(super) fn rewind(&self, caller: Caller, handle: Fh, answer: Answer<()>) {
        let folder = match self.handles.at(handle) {
            Some(Handle::Folder { ino, is_read: true, .. }) => ino,
            _ => return answer.ok(()),
        };
        if self.tree.lock().is_listed(folder, Instant::now()) {
            return answer.ok(());
        }
        let answer = self.hold(caller, answer);
        self.refresh(
            folder,
            Box::new(move |fs, outcome| {
                let entries = outcome.map(|()| fs.tree.lock().entries_as_listed(folder).unwrap_or_default());
                match entries {
                    Err(error) => answer.error(fs.fail_at("list", folder, &error)),
                    Ok(entries) => {
                        let open = Handle::Folder { ino: folder, entries, is_read: false };
                        fs.handles.replace(handle, open);
                        answer.ok(());
                    }
                }
            }),
        );
    }

    /// releasedir.
    pub fn close_folder(&self, handle: Fh) {
        let Some(Handle::Folder { ino, .. } | Handle::Arriving { ino, .. }) = self.handles.remove(handle)
        else {
            return;
        };
        let mut tree = self.tree.lock();
        tree.closed(ino);
        tree.shrink(MAX_NODES);
    }

    /// Lists a folder, once for everybody who asks meanwhile; `then` is called when the tree knows.
    pub(super) fn refresh(&self, folder: Ino, then: Then) {
        {
            let mut folders = self.listings.folders.lock();
            if let Some(flight) = folders.get_mut(&folder) {
                flight.waiting.push(then);
                flight.until.extend(self.deadline());
                drop(folders);
                return self.hurry(folder);
            }
            folders.insert(folder, Flight { waiting: vec![then], until: self.deadline().into() });
        }
        self.list(vec![(folder, None)]);
    }

    /// As [`FileSystem::refresh`] for several folders, when nobody waits for them yet. `entries`: how many one is likely to
    /// have.
    pub(super) fn refresh_ahead(&self, folders: Vec<(Ino, Wanted)>, entries: usize) {
        let mut begun: Vec<(Ino, Option<Wanted>)> = Vec::new();
        {
            let mut under_way = self.listings.folders.lock();
            for (folder, wanted) in folders {
                if let Entry::Vacant(entry) = under_way.entry(folder) {
                    entry.insert(Flight { waiting: Vec::new(), until: self.deadline().into() });
                    begun.push((folder, Some(wanted)));
                }
            }
        }
        let together = if self.features.lists_together() {
            (ENTRIES_TOGETHER / entries.max(1)).clamp(1, FOLDERS_TOGETHER)
        } else {
            1
        };
        while !begun.is_empty() {
            let rest = begun.split_off(together.min(begun.len()));
            self.list(std::mem::replace(&mut begun, rest));
        }
    }

    /// A listing that was fetched ahead has somebody who waits for it now.
    fn hurry(&self, folder: Ino) {
        let ticket = self.listings.ahead.lock().get(&folder).copied();
        ticket.into_iter().for_each(|ticket| self.queue.promote(ticket, Priority::Names));
    }

    /// Whether somebody waits for it, or may have opened it when its first entries were here.
    fn is_awaited(&self, folder: Ino) -> bool {
        self.listings.folders.lock().get(&folder).is_some_and(|flight| !flight.waiting.is_empty())
            || self.listings.arriving.lock().contains_key(&folder)
    }

    /// Lists folders in one job: one that somebody waits for, or several ahead.
    fn list(&self, folders: Vec<(Ino, Option<Wanted>)>) {
        let Some(fs) = self.arc() else { return };
        let ahead = folders.iter().any(|(_, wanted)| wanted.is_some());
        let mut paths = Vec::new();
        for (folder, wanted) in folders {
            match self.path(folder) {
                Ok(path) => paths.push((folder, path, wanted)),
                Err(_) => self.listed(folder, Err(Error::Cancelled)),
            }
        }
        let claims: Vec<Claim> = paths.iter().map(|(_, path, _)| Claim::Shared(path.clone())).collect();
        let inos: Vec<Ino> = paths.iter().map(|(folder, ..)| *folder).collect();
        let left = Arc::new(Mutex::new(inos.clone()));
        let attempt = {
            let (fs, left) = (fs.clone(), left.clone());
            move |session: &mut Session, _: &Turn<'_>| {
                let is_left = |folder: &Ino| left.lock().contains(folder);
                // The limit may have dropped since.
                let may_be_ahead = fs.queue.limit() > 1;
                let is_wanted =
                    |wanted: &Option<Wanted>| wanted.as_ref().is_none_or(|wanted| may_be_ahead && wanted());
                let asked: Vec<(Ino, RemotePath)> = paths
                    .iter()
                    .filter(|(folder, _, wanted)| {
                        is_left(folder) && (is_wanted(wanted) || fs.is_awaited(*folder))
                    })
                    .map(|(folder, path, _)| match *folder {
                        // Where the login was put off, nobody knew before now.
                        Ino::ROOT => (Ino::ROOT, session.root().clone()),
                        folder => (folder, path.clone()),
                    })
                    .collect();
                let stamp = {
                    let mut tree = fs.tree.lock();
                    tree.set_root_path(session.root());
                    tree.stamp()
                };
                let paths: Vec<&RemotePath> = asked.iter().map(|(_, path)| path).collect();
                session.list_many(&paths, &mut |at, progress| {
                    let Some(&(folder, _)) = asked.get(at) else { return };
                    let outcome = match progress {
                        Progress::Entries(entries) => return fs.take_entries(folder, entries, stamp),
                        Progress::Ended(outcome) => outcome,
                    };
                    left.lock().retain(|other| *other != folder);
                    let outcome = outcome.map(|listing| fs.take_listing(folder, listing, stamp));
                    let is_held = outcome.is_ok();
                    fs.listed(folder, outcome);
                    let mut tree = fs.tree.lock();
                    if is_held {
                        tree.closed(folder);
                    }
                    tree.shrink(MAX_NODES);
                })
            }
        };
        let end = move |outcome: Result<(), Error>| {
            let left = std::mem::take(&mut *left.lock());
            for folder in left {
                match &outcome {
                    Err(error) => fs.listed(folder, Err(error.clone())),
                    Ok(()) => {
                        // Not fetched; whoever came since then has it fetched after all.
                        fs.listings.ahead.lock().remove(&folder);
                        let flight = fs.listings.folders.lock().remove(&folder);
                        let waiting = flight.map(|flight| flight.waiting).unwrap_or_default();
                        if waiting.is_empty() {
                            fs.end_arriving(folder, &Err(Error::Cancelled));
                        }
                        waiting.into_iter().for_each(|then| fs.refresh(folder, then));
                    }
                }
            }
        };
        let priority = if ahead { Priority::ReadAhead } else { Priority::Names };
        let mut job = Job::new(priority, attempt, end).claim(claims);
        if !self.features.lists_together() {
            job = job.with_data();
        }
        if !ahead {
            let until = |folder| Some(self.listings.folders.lock().get(folder)?.until.clone());
            let until = inos.first().and_then(until);
            self.submit(job.until(until.unwrap_or_else(|| self.deadline().into())));
            return;
        }
        let ticket = self.queue.submit(job);
        for folder in inos {
            self.listings.ahead.lock().insert(folder, ticket);
            // It may have ended, or be waited for, before there was a ticket.
            match self.listings.folders.lock().get(&folder).map(|flight| flight.waiting.is_empty()) {
                None => drop(self.listings.ahead.lock().remove(&folder)),
                Some(true) => {}
                Some(false) => self.queue.promote(ticket, Priority::Names),
            }
        }
    }

    /// Takes over a listing of `folder` that began at `stamp`; the folder counts as open from then on.
    pub(super) fn take_listing(&self, folder: Ino, mut listing: Listing, stamp: Stamp) {
        self.clean_up(folder, &listing);
        listing.entries.retain(|entry| is_shown(&entry.name));
        self.correct_zone(&mut listing);
        let mut tree = self.tree.lock();
        tree.apply(folder, &listing, stamp, Instant::now());
        // Until those who wait have what they waited for.
        tree.opened(folder);
    }

    /// Takes over the first entries of a large folder, or some more of them.
    fn take_entries(&self, folder: Ino, entries: &[ftp::Entry], stamp: Stamp) {
        let shown = entries.iter().filter(|entry| is_shown(&entry.name)).cloned().collect();
        let mut listing = Listing { entries: shown, ..Listing::default() };
        self.correct_zone(&mut listing);
        let added = self.tree.lock().apply_part(folder, &listing, stamp, Instant::now());
        let arriving = self
            .listings
            .arriving
            .lock()
            .entry(folder)
            .or_insert_with(|| Arc::new(Arriving::new(folder)))
            .clone();
        for then in arriving.add(&added) {
            then(self, Ok(()));
        }
        let openers = self.listings.openers.lock().remove(&folder).unwrap_or_default();
        for answer in openers.into_iter().filter_map(Answer::claim) {
            match self.open_arriving(folder) {
                Some(handle) => answer.ok(handle),
                None => answer.error(Errno::STALE),
            }
        }
    }

    /// The listing of a large folder has ended: what it did not bring comes last.
    fn end_arriving(&self, folder: Ino, outcome: &Result<(), Error>) {
        let Some(arriving) = self.listings.arriving.lock().remove(&folder) else { return };
        let rest = match outcome {
            Ok(()) => self.tree.lock().entries_as_listed(folder).unwrap_or_default(),
            Err(_) => Entries::default(),
        };
        let mut woken = arriving.add(&rest);
        woken.extend(arriving.end(outcome.clone()));
        for then in woken {
            then(self, outcome.clone());
        }
    }

    /// Deletes what mounts that are dead left in a folder.
    fn clean_up(&self, folder: Ino, listing: &Listing) {
        let Ok(path) = self.path(folder) else { return };
        let now = SystemTime::now();
        let mut left: Vec<_> = listing.entries.iter().filter(|entry| is_left_over(entry, now)).collect();
        if !left.is_empty() {
            let tree = self.tree.lock();
            let hidden = tree.hidden_in(folder);
            let hidden = hidden.iter().filter_map(|&ino| tree.node(ino)?.name.as_ref());
            left.retain(|entry| !hidden.clone().any(|name| *name == entry.name));
        }
        for entry in left.iter().take(CLEANED_AT_ONCE).filter(|_| !self.options.read_only) {
            let path = path.join(&entry.name);
            let end =
                |outcome: Result<(), Error>| drop(outcome.inspect_err(|error| debug!("left over: {error}")));
            self.submit(Job::new(Priority::ReadAhead, move |session, _| session.delete(&path), end));
        }
    }

    fn listed(&self, folder: Ino, outcome: Result<(), Error>) {
        self.listings.ahead.lock().remove(&folder);
        if matches!(
            outcome.as_ref().err().and_then(Error::refusal),
            Some(Refusal::NotFound | Refusal::NotDirectory)
        ) {
            let mut tree = self.tree.lock();
            let parent = tree.node(folder).and_then(|node| node.parent);
            parent.into_iter().for_each(|parent| tree.expire_listing(parent));
        }
        self.end_arriving(folder, &outcome);
        let flight = self.listings.folders.lock().remove(&folder);
        for then in flight.into_iter().flat_map(|flight| flight.waiting) {
            then(self, outcome.clone());
        }
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
/// Folders listed ahead in one job, where many can be asked for at once: less than what a reader waits for in line anyway.
const FOLDERS_TOGETHER: usize = 32;
/// Fewer of large ones: nobody can step into such a job.
const ENTRIES_TOGETHER: usize = 4096;
/// `.` and `..` come first.
pub(super) const DOTS: u64 = 2;
