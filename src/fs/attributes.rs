//! Attributes: stat, and what can be changed about a file without its bytes.
//!
//! The answer to `stat` comes from the last listing while that is young. Then the folder is listed again, because one
//! listing costs what one question costs and answers for all siblings, or, in a large folder, this one file is asked
//! for. Where listings tell minutes, the seconds of a whole folder are asked for in one batch the first time somebody
//! wants a time.
//!
//! What a server cannot do (chmod on some, utimes on some, chown on all) is accepted quietly, because `cp -p`, `tar`
//! and `git clone` would fail otherwise; `strict_attributes` makes it an error.

use std::time::{Duration, Instant, SystemTime};

use log::debug;

use super::{Answer, Caller, Errno, Fh, FileSystem};
use crate::ftp::{Entry, Error, Kind, Modified, Precision, Refusal, explain};
use crate::queue::{Claim, Job, Priority};
use crate::tree::{Ino, Tree};

/// What stat shows.
#[derive(Clone, Debug)]
pub struct Stat {
    pub ino: Ino,
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    pub modified: SystemTime,
    /// Permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Only who has it open still knows it.
    pub removed: bool,
}

/// What setattr asks for.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub mode: Option<u32>,
    pub owner: bool,
    pub size: Option<u64>,
    pub modified: Option<SystemTime>,
    /// The handle through which it was asked: its close() will bring the change to the server.
    pub handle: Option<Fh>,
}

impl FileSystem {
    /// getattr. The answer comes with how long it may be believed.
    pub fn attributes(&self, caller: Caller, ino: Ino, answer: Answer<(Stat, Duration)>) {
        if let Some(known) = self.known(ino) {
            return answer.send(known);
        }
        let answer = self.hold(caller, answer);
        self.renew(
            ino,
            Box::new(move |fs, outcome| match outcome {
                Err(error) if error.refusal() == Some(Refusal::NotFound) => answer.error(Errno::NOENT),
                Err(error) => answer.error(fs.fail_at("stat", ino, &error)),
                Ok(()) => fs.attributes_with_time(ino, answer),
            }),
        );
    }

    /// Answers at once when everything about `ino` is known, times to the second included.
    fn known(&self, ino: Ino) -> Option<Result<(Stat, Duration), Errno>> {
        let tree = self.tree.lock();
        let Some(node) = tree.node(ino) else { return Some(Err(Errno::STALE)) };
        let removed = ino != Ino::ROOT && node.parent.is_none();
        if removed && node.opens == 0 && !node.local {
            return Some(Err(Errno::NOENT));
        }
        let life = tree.attributes_life(ino, Instant::now());
        if !removed && (life.is_zero() || node.has_coarse_time()) {
            return None;
        }
        Some(self.stat_of(&tree, ino).map(|stat| (stat, life)).ok_or(Errno::STALE))
    }

    fn attributes_with_time(&self, ino: Ino, answer: Answer<(Stat, Duration)>) {
        let folder = {
            let tree = self.tree.lock();
            tree.node(ino).filter(|node| node.has_coarse_time()).and_then(|node| node.parent)
        };
        let stat = move |fs: &FileSystem, _| {
            let tree = fs.tree.lock();
            let life = tree.attributes_life(ino, Instant::now());
            let gone = tree.path(ino).is_none();
            let stat = fs.stat_of(&tree, ino).filter(|_| !gone);
            drop(tree);
            answer.send(stat.map(|stat| (stat, life)).ok_or(Errno::NOENT));
        };
        match folder {
            Some(folder) => self.refresh_times(folder, ino, Box::new(stat)),
            None => stat(self, Ok(())),
        }
    }

    /// Asks the server about `ino` again, unless it is known well enough.
    pub(super) fn renew(&self, ino: Ino, then: super::Then) {
        let (parent, listed) = {
            let tree = self.tree.lock();
            if !tree.attributes_life(ino, Instant::now()).is_zero() {
                drop(tree);
                return then(self, Ok(()));
            }
            let parent = tree.node(ino).and_then(|node| node.parent);
            (parent, parent.and_then(|parent| tree.known_size(parent)))
        };
        match (parent, listed) {
            (Some(parent), Some(size)) if size > SMALL_FOLDER => self.ask_one(parent, ino, then),
            (Some(parent), _) => self.refresh(parent, then),
            (None, _) => then(self, Ok(())),
        }
    }

    /// Asks the server about one file.
    pub(super) fn ask_one(&self, parent: Ino, ino: Ino, then: super::Then) {
        let (Ok(path), Some(fs)) = (self.path(ino), self.arc()) else {
            return then(self, Err(Error::Cancelled));
        };
        let asked = path.clone();
        let end = move |outcome: Result<Entry, Error>| {
            let outcome = match outcome {
                Ok(entry) => {
                    let name = path.name().unwrap_or_else(|| entry.name.clone());
                    fs.tree.lock().apply_one(parent, &Entry { name, ..entry }, Instant::now());
                    Ok(())
                }
                Err(error) => {
                    if error.refusal() == Some(Refusal::NotFound)
                        && let Some(name) = path.name()
                    {
                        fs.tree.lock().lose(parent, &name, Instant::now());
                    }
                    Err(error)
                }
            };
            then(&fs, outcome);
        };
        let job =
            Job::new(Priority::Names, move |session, _| session.stat(&asked), end).until(self.deadline());
        self.submit(job);
    }

    /// setattr: answers with the attributes as they are afterwards.
    pub fn change(&self, caller: Caller, ino: Ino, change: Change, answer: Answer<(Stat, Duration)>) {
        if let Err(errno) = self.may_write() {
            return answer.error(errno);
        }
        if change.owner && self.options.strict_attributes {
            return answer.error(Errno::PERM);
        }
        // What is cut off must be what the server has now.
        let known = self.drafts.find(ino).is_some() || change.handle.is_some();
        if change.size.is_some() && !known && self.tree.lock().attributes_life(ino, Instant::now()).is_zero()
        {
            let answer = self.hold(caller, answer);
            return self.renew(
                ino,
                Box::new(move |fs, outcome| match outcome {
                    Err(error) => answer.error(fs.fail_at("truncate", ino, &error)),
                    Ok(()) => {
                        if let Some(answer) = answer.claim() {
                            fs.change_known(caller, ino, change, answer);
                        }
                    }
                }),
            );
        }
        self.change_known(caller, ino, change, answer);
    }

    fn change_known(&self, caller: Caller, ino: Ino, change: Change, answer: Answer<(Stat, Duration)>) {
        let resized = match change.size {
            Some(size) => self.resize(ino, size),
            None => Ok(()),
        };
        if let Err(errno) = resized {
            return answer.error(errno);
        }
        if change.mode.is_some() || change.modified.is_some() {
            let deferred = self.defer(ino, &change);
            if let (false, true, Ok(path)) = (deferred, self.is_pending(ino), self.path(ino)) {
                // Its upload may take longer than a call may wait for a connection.
                return self.when_settled(caller, &[path], answer, move |fs, _, answer| {
                    fs.change_known(caller, ino, change, answer);
                });
            }
            if !deferred {
                return self.change_on_server(caller, ino, change, answer);
            }
            if let (true, Some(fs)) = (self.is_pending(ino), self.arc()) {
                let saved = move |outcome: Result<(), Errno>| match outcome {
                    Ok(()) => fs.stat_after(ino, answer),
                    Err(errno) => answer.error(errno),
                };
                return self.save_attributes(ino, self.hold(caller, Answer::new(saved)));
            }
        }
        // truncate(2) without an open file: nobody will close it, so it is done when this returns.
        if change.size.is_some() && change.handle.is_none() {
            let fs = self.arc();
            let answer = self.waiting.hold(caller, None, answer);
            return self.confirm(
                ino,
                Answer::new(move |outcome: Result<(), Errno>| match (outcome, fs) {
                    (Ok(()), Some(fs)) => fs.stat_after(ino, answer),
                    (outcome, _) => answer.error(outcome.err().unwrap_or(Errno::IO)),
                }),
            );
        }
        self.stat_after(ino, answer);
    }

    fn stat_after(&self, ino: Ino, answer: Answer<(Stat, Duration)>) {
        let tree = self.tree.lock();
        let stat = self.stat_of(&tree, ino).map(|stat| (stat, Duration::ZERO));
        drop(tree);
        answer.send(stat.ok_or(Errno::STALE));
    }

    fn change_on_server(&self, caller: Caller, ino: Ino, change: Change, answer: Answer<(Stat, Duration)>) {
        let path = match self.path(ino) {
            Ok(path) => path,
            Err(_) => return self.stat_after(ino, answer),
        };
        let Some(fs) = self.arc() else { return };
        let strict = self.options.strict_attributes;
        let folder = self.tree.lock().node(ino).is_some_and(|node| node.attributes.kind == Kind::Directory);
        let answer = self.hold(caller, answer);
        let attempt = {
            let (path, change) = (path.clone(), change.clone());
            move |session: &mut crate::ftp::Session, _: &crate::queue::Turn<'_>| {
                // The times and modes of folders cannot be set on half of the servers, and nobody depends on them.
                let quiet = |outcome: Result<(), Error>| match outcome {
                    Err(error @ Error::Refused { .. }) if folder && !strict => {
                        debug!("{path}: {error}: ignored for a folder");
                        Ok(false)
                    }
                    Err(Error::Unsupported { command }) if !strict => {
                        debug!("{path}: this server cannot do {command}: ignored");
                        Ok(false)
                    }
                    outcome => outcome.map(|()| true),
                };
                let mode =
                    change.mode.map_or(Ok(false), |mode| quiet(session.set_mode(&path, mode & 0o7777)));
                let time = mode.and_then(|mode| {
                    let time =
                        change.modified.map_or(Ok(false), |at| quiet(session.set_modified(&path, at)))?;
                    Ok((mode, time))
                });
                time.map_err(|error| explain::access(session, &path, error))
            }
        };
        let shown = path.clone();
        let end = move |outcome: Result<(bool, bool), Error>| match outcome {
            Err(error) => answer.error(fs.fail("change the attributes of", &shown, &error)),
            Ok((mode, time)) => {
                fs.drafts.forget_time(ino);
                let mut tree = fs.tree.lock();
                if let Some(node) = tree.node_mut(ino) {
                    if mode {
                        node.attributes.mode = change.mode.map(|mode| mode & 0o7777);
                    }
                    if let Some(at) = change.modified.filter(|_| time) {
                        node.set_time(Modified { at: to_the_second(at), precision: Precision::Second });
                    }
                }
                drop(tree);
                if let (Some(at), true, Some(draft)) = (change.modified, time, fs.drafts.find(ino)) {
                    draft.lock().base_time = Some(to_the_second(at));
                }
                fs.stat_after(ino, answer);
            }
        };
        self.submit(
            Job::new(Priority::Names, attempt, end).claim([Claim::Exclusive(path)]).until(self.deadline()),
        );
    }

    /// The attributes of a node, as this mount shows them.
    pub(super) fn stat_of(&self, tree: &Tree, ino: Ino) -> Option<Stat> {
        let node = tree.node(ino)?;
        let known = &node.attributes;
        let options = &self.options;
        let shown = |usual: u32| match known.mode {
            Some(told) => told & !options.umask.unwrap_or(0),
            None => usual & !options.umask.unwrap_or(super::Options::UMASK),
        };
        let mode = match known.kind {
            Kind::Directory => options.dir_mode.unwrap_or_else(|| shown(0o777)),
            Kind::Symlink => 0o777,
            Kind::File | Kind::Special => options.file_mode.unwrap_or_else(|| shown(0o666)),
        };
        Some(Stat {
            ino,
            kind: known.kind,
            size: known.size,
            modified: known.modified,
            mode,
            uid: options.uid,
            gid: options.gid,
            removed: node.hidden || (node.parent.is_none() && ino != Ino::ROOT),
        })
    }
}

fn to_the_second(at: SystemTime) -> SystemTime {
    match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs()),
        Err(_) => at,
    }
}

/// Up to this many entries a folder is listed again to learn about one of them; in a larger one, one is asked for.
const SMALL_FOLDER: usize = 1000;
