//! `writeback`: close() answers when the file is safe on the local disk, and the server gets it afterwards.
//!
//! A thread of its own does what takes time on the disk. [`acknowledge`](FileSystem::acknowledge) sends it a close(); it saves the
//! draft in the [`journal`](crate::write::journal), answers, and starts uploads, the oldest first, as many at once as there may be
//! connections. The draft stays until the server has confirmed it, so reads and `stat` are answered from it. fsync() waits for the server as
//! always. What fails is tried again, later and later; when the server cannot be reached, one upload at a time finds out.
//!
//! **Names** ([`settle`]): a name is changed on the server when its uploads are there. Renaming, removing or replacing waits for the
//! uploads of what is below these names; but a file that the server has never heard of is renamed or removed here alone.
//!
//! **Conflicts** ([`care`]): an upload that comes late looks first whether the server still has what was there when
//! the program wrote. If not, the server's file stays, and ours goes beside it under a name that says so.
//!
//! **After a crash** ([`restore`]) the entries of the journal become drafts again before the first call is answered. So does what
//! `ftpfs recover push` brings.
//!
//! The order of locks is the drafts, one draft, the tree, and last the one here, which is never held with I/O. Without the option, without
//! left-overs and without a push there is no thread, and nothing here does anything.

mod care;
mod outcome;
mod restore;
mod settle;
mod start;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use log::{error, warn};
use parking_lot::Mutex;

pub use care::Careful;
pub use restore::{Leftovers, open_journal};
pub use settle::Settled;

use super::{Answer, Caller, Errno, FileSystem};
use crate::tree::Ino;
use crate::write::draft::Generation;
use crate::write::journal::{EntryNumber, Journal, Place};
use crate::write::{Draft, kept};
use settle::Settling;

/// What is acknowledged and not yet on the server.
#[derive(Default)]
pub struct Writeback {
    /// close() does not wait for the server.
    acknowledges: bool,
    journal: Option<Journal>,
    state: Mutex<State>,
    requests: Mutex<Option<Sender<Request>>>,
}

#[derive(Default)]
struct State {
    files: HashMap<Ino, Pending>,
    settling: Vec<Settling>,
    /// They wait for space in the journal, until then.
    full: Vec<(Ino, Answer<()>, Instant)>,
    /// The server cannot be reached: when it is tried again, and how often it was.
    down: Option<(Instant, u32)>,
    is_ending: bool,
}

/// One file.
pub(super) struct Pending {
    /// The oldest first; the last is what counts.
    kept: Vec<Source>,
    /// Of the draft, when it was saved last.
    generation: Generation,
    /// When it was saved first, and last.
    first: Instant,
    since: Instant,
    /// Comes from an earlier mount: the server may have changed, or have got some of it.
    is_restored: bool,
    /// What its upload that runs brings over at least.
    sending: Option<Source>,
    /// Exactly that, whatever is written meanwhile.
    sends_a_copy: bool,
    attempts: u32,
    /// Not tried before.
    after: Option<Instant>,
    /// Somebody waits for it.
    is_urgent: bool,
    /// The server has said no while the mount was ending.
    is_hopeless: bool,
}

/// Where saved bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Journal(EntryNumber),
    /// Kept by an upload that failed, pushed by `ftpfs recover`.
    Unsent(PathBuf),
}

/// What a confirmed upload means for what is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brought {
    /// The server has the file as it was here at this generation of its draft.
    All(Generation),
    /// A program was told that the server has what it had written by then; it is writing on.
    WhatWasAskedFor,
    /// A program was writing meanwhile, and nobody has asked for what went over: what was saved stays the truth until the
    /// next close().
    Something,
    /// The file has no place any more.
    Nothing,
}

enum Request {
    /// A close() wants to be answered.
    Save(Ino, Answer<()>),
    /// It has another name now.
    Move(Ino, Answer<()>),
    /// Something has changed: see what can be uploaded.
    Go,
}

impl Writeback {
    pub fn new(acknowledges: bool, journal: Option<Journal>) -> Self {
        Self { acknowledges: acknowledges && journal.is_some(), journal, ..Self::default() }
    }

    /// Whether close() need not wait for the server.
    pub fn acknowledges(&self) -> bool {
        self.acknowledges
    }

    /// Files and bytes that are acknowledged and not yet on the server.
    pub fn held(&self) -> (usize, u64) {
        self.journal.as_ref().map_or((0, 0), Journal::held)
    }

    /// Removes what was made ahead.
    pub(super) fn tidy(&self) {
        if let Some(journal) = &self.journal {
            journal.tidy();
        }
    }

    /// Whether a file is in the journal, and with everything that its draft has.
    fn is_saved(&self, ino: Ino, generation: Generation) -> bool {
        let state = self.state.lock();
        state.files.get(&ino).is_some_and(|pending| pending.generation == generation)
    }

    fn has(&self, ino: Ino) -> bool {
        self.state.lock().files.contains_key(&ino)
    }

    /// Deletes saved bytes.
    fn drop_source(&self, source: &Source) {
        match (source, &self.journal) {
            (Source::Journal(number), Some(journal)) => journal.remove(*number),
            (Source::Journal(_), None) => {}
            (Source::Unsent(file), _) => match kept::Kept::at(file).remove() {
                Ok(()) => {}
                Err(error) => warn!("{}: {error}", file.display()),
            },
        }
    }
}

impl FileSystem {
    /// Answers a close(): when it is safe here with `writeback`, else when the server has everything.
    pub(super) fn acknowledge(&self, caller: Caller, ino: Ino, answer: Answer<()>) {
        if !self.writeback.acknowledges {
            let answer = self.waiting.hold(caller, None, answer);
            return self.confirm(ino, answer);
        }
        let Some(draft) = self.drafts.find(ino) else { return answer.ok(()) };
        let generation = draft.lock().generation();
        if self.writeback.is_saved(ino, generation) {
            return answer.ok(());
        }
        let answer = self.waiting.hold(caller, None, answer);
        self.request(Request::Save(ino, answer));
    }

    fn request(&self, request: Request) {
        let mut requests = self.writeback.requests.lock();
        let sender = requests.get_or_insert_with(|| {
            let (sender, receiver) = mpsc::channel();
            let fs = self.this.clone();
            let started =
                std::thread::Builder::new().name("writeback".into()).spawn(move || run(&fs, &receiver));
            if let Err(error) = started {
                error!("cannot start a thread: {error}");
            }
            sender
        });
        // Without the thread the request is dropped, and its answer is an error.
        let _ = sender.send(request);
    }

    fn save(&self, ino: Ino, answer: Answer<()>, until: Option<Instant>) {
        let Some(draft) = self.drafts.find(ino) else { return answer.ok(()) };
        let (path, root) = {
            let tree = self.tree.lock();
            let path = tree.path(ino).filter(|_| tree.node(ino).is_some_and(|node| !node.hidden));
            (path, tree.root_path().clone())
        };
        let Some(path) = path else { return self.confirm(ino, answer) };
        let (is_dirty, generation, is_streaming, bytes) = {
            let draft = draft.lock();
            (draft.is_dirty(), draft.generation(), draft.is_streaming(), draft.held())
        };
        if self.writeback.is_saved(ino, generation) {
            return answer.ok(());
        }
        let journal = match &self.writeback.journal {
            // The server has most of it by now.
            _ if is_streaming => return self.confirm(ino, answer),
            Some(journal) if is_dirty || self.writeback.has(ino) => journal,
            // An fsync() has sent it: there is nothing to save.
            _ => return self.confirm(ino, answer),
        };
        if bytes > self.options.spool_size {
            return self.confirm(ino, answer);
        }
        if journal.held().1 + bytes > self.options.spool_size {
            return self.wait_for_space(ino, answer, until);
        }
        let is_new = self.drafts.is_new(ino);
        let place = Place { server: &self.server, root: &root, path: &path, is_new, reason: "" };
        match journal.save(&draft, &place) {
            Ok(Some((number, generation))) => {
                self.saved(ino, &draft, number, generation);
                answer.ok(());
            }
            // Too scattered, or being written to: as without writeback.
            Ok(None) => self.confirm(ino, answer),
            Err(error) => {
                let text = format!("{path} cannot be saved in the journal: {error}");
                warn!("{text}; its close() waits for the server");
                self.features.troubles().note(text);
                self.confirm(ino, answer);
            }
        }
    }

    /// The journal is full: the close() waits until something has been uploaded, and is told when nothing is for a while.
    fn wait_for_space(&self, ino: Ino, answer: Answer<()>, until: Option<Instant>) {
        let until = until.unwrap_or_else(|| Instant::now() + self.options.timeout);
        if Instant::now() < until {
            let mut state = self.writeback.state.lock();
            state.full.push((ino, answer, until));
            // Nothing is left alone for a while now, not even what is being written.
            state.files.values_mut().for_each(|pending| pending.is_urgent = true);
            return;
        }
        self.features.troubles().note("the journal is full (spool_size=)".to_owned());
        let is_open = self.tree.lock().node(ino).is_some_and(|node| node.opens > 0);
        if is_open {
            return answer.error(Errno(libc::ENOSPC));
        }
        // Nobody closes it again: as without writeback.
        self.confirm(ino, answer);
    }

    fn saved(&self, ino: Ino, draft: &Arc<Mutex<Draft>>, number: EntryNumber, generation: Generation) {
        // An fsync() may have brought all of it to the server meanwhile, or a program may have removed it.
        let is_wanted = self.drafts.if_unsent(ino, draft, || {
            let is_there = {
                let tree = self.tree.lock();
                tree.path(ino).is_some() && tree.node(ino).is_some_and(|node| !node.hidden)
            };
            if is_there {
                let mut state = self.writeback.state.lock();
                let pending = state.files.entry(ino).or_insert_with(|| Pending::new(generation));
                pending.kept.push(Source::Journal(number));
                pending.generation = generation;
                pending.since = Instant::now();
            }
            is_there
        });
        if is_wanted != Some(true) {
            self.writeback.drop_source(&Source::Journal(number));
        }
    }

    /// Whether a file is acknowledged, and not yet on the server.
    pub(super) fn is_pending(&self, ino: Ino) -> bool {
        self.writeback.acknowledges && self.writeback.has(ino)
    }

    /// A time or permission bits were set on a file that is only here: they must be as safe as its bytes.
    pub(super) fn save_attributes(&self, ino: Ino, answer: Answer<()>) {
        self.request(Request::Save(ino, answer));
    }

    /// The last handle of a file was closed. True when its draft is taken care of.
    pub(super) fn closes_pending(&self, ino: Ino) -> bool {
        if !self.writeback.acknowledges {
            return self.writeback.has(ino);
        }
        let Some(draft) = self.drafts.find(ino) else { return false };
        let (is_dirty, generation) = {
            let draft = draft.lock();
            (draft.is_dirty(), draft.generation())
        };
        if !is_dirty && !self.writeback.has(ino) {
            return false;
        }
        if self.writeback.is_saved(ino, generation) {
            self.request(Request::Go);
        } else {
            // Written through a mapping after the last close().
            self.request(Request::Save(ino, Answer::new(drop)));
        }
        true
    }

    /// The mount ends: everything is tried once more, soon.
    pub(super) fn hurry_uploads(&self) {
        {
            let mut state = self.writeback.state.lock();
            state.is_ending = true;
            state.down = state.down.map(|_| (Instant::now(), 0));
            for pending in state.files.values_mut() {
                (pending.is_urgent, pending.after) = (true, None);
            }
            if state.files.is_empty() {
                return;
            }
        }
        self.request(Request::Go);
    }

    /// The files whose bytes are safe in the journal as they are.
    pub(super) fn safe_files(&self) -> HashSet<Ino> {
        let saved: Vec<(Ino, Generation)> = {
            let state = self.writeback.state.lock();
            state.files.iter().map(|(&ino, pending)| (ino, pending.generation)).collect()
        };
        let same = |ino: Ino, generation| {
            self.drafts.find(ino).is_some_and(|draft| draft.lock().generation() == generation)
        };
        saved.into_iter().filter(|&(ino, generation)| same(ino, generation)).map(|(ino, _)| ino).collect()
    }

    /// How many files of the journal it makes no sense to wait for any longer, when the mount ends.
    pub(super) fn hopeless(&self) -> usize {
        self.writeback.state.lock().files.values().filter(|pending| pending.is_hopeless).count()
    }
}

impl Pending {
    fn new(generation: Generation) -> Self {
        Self {
            kept: Vec::new(),
            generation,
            first: Instant::now(),
            since: Instant::now(),
            is_restored: false,
            sending: None,
            sends_a_copy: false,
            attempts: 0,
            after: None,
            is_urgent: false,
            is_hopeless: false,
        }
    }

    /// An upload has been confirmed. Gives what is of no use any more, and what counts now if that is something newer.
    fn confirmed(&mut self, brought: Brought) -> (Vec<Source>, Option<Source>) {
        let sending = self.sending.take();
        self.attempts = 0;
        self.after = None;
        self.is_restored = false;
        let newest = self.kept.last().cloned();
        let is_there = match brought {
            // What was saved since then is newer.
            Brought::All(generation) => self.generation <= generation,
            Brought::WhatWasAskedFor => sending == newest,
            Brought::Something | Brought::Nothing => self.sends_a_copy && sending == newest,
        };
        let left = newest.filter(|_| !is_there);
        let done = self.kept.len() - usize::from(left.is_some());
        (self.kept.drain(..done).collect(), left)
    }

    /// The oldest first, but before that what somebody waits for.
    fn order(&self) -> (bool, Option<EntryNumber>) {
        let number = match self.kept.first() {
            Some(Source::Journal(number)) => Some(*number),
            _ => None,
        };
        (!self.is_urgent, number)
    }
}

fn run(fs: &Weak<FileSystem>, requests: &Receiver<Request>) {
    let mut wait = Duration::ZERO;
    loop {
        let request = match requests.recv_timeout(wait) {
            Ok(request) => Some(request),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let Some(fs) = fs.upgrade() else { return };
        match request {
            Some(Request::Save(ino, answer)) => fs.save(ino, answer, None),
            Some(Request::Move(ino, answer)) => fs.moved(ino, answer),
            Some(Request::Go) | None => {}
        }
        let full = std::mem::take(&mut fs.writeback.state.lock().full);
        for (ino, answer, until) in full {
            fs.save(ino, answer, Some(until));
        }
        wait = fs.start_uploads();
        if !fs.writeback.state.lock().full.is_empty() {
            wait = wait.min(FULL);
        }
    }
}

fn pause(attempts: u32) -> Duration {
    (FIRST_PAUSE * 2u32.saturating_pow(attempts.saturating_sub(1).min(10))).min(LONGEST_PAUSE)
}

/// How often a close() looks whether there is space.
const FULL: Duration = Duration::from_millis(200);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// A server that was away for hours is found again within this time.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str) -> Source {
        Source::Unsent(PathBuf::from(name))
    }

    #[test]
    fn what_was_saved_after_an_upload_had_taken_its_bytes_outlives_its_confirmation() {
        let (sent, saved) = (Generation::next(), Generation::next());
        let pending = || Pending {
            kept: vec![source("old"), source("new")],
            sending: Some(source("old")),
            ..Pending::new(saved)
        };
        let old_only = (vec![source("old")], Some(source("new")));
        assert_eq!(pending().confirmed(Brought::All(sent)), old_only);
        assert_eq!(pending().confirmed(Brought::WhatWasAskedFor), old_only);
        assert_eq!(pending().confirmed(Brought::Something), old_only);
        let both = (vec![source("old"), source("new")], None);
        assert_eq!(pending().confirmed(Brought::All(saved)), both);
        assert_eq!(pending().confirmed(Brought::All(Generation::next())), both);
    }
}
