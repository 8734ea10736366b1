//! The upload: bringing a draft to the server, in the way that risks nothing and sends no more than needed.
//!
//! Every server measured empties the target before the first byte of a STOR arrives, some even when the data
//! connection never comes up. So an existing file is never written directly: its new content goes to a temporary name
//! beside it, is checked by size, and is renamed over it (RNFR and RNTO in one segment). A new file goes straight to its name: there is nothing to lose, and it saves a
//! round trip. Bytes added at the end go by APPE, and the size is compared afterwards. Small changes in large files are
//! written into them, see [`patch`].
//!
//! What is made from an old content must not replace another one that nobody here has seen: size and time of the file are
//! asked for in the same segment as those of the upload, or before a patch, and when they are not what they were the
//! upload ends with an error, and the file stays as somebody else left it.
//!
//! A file that is about to be removed needs no upload: what runs makes way for that ([`is_making_way`]), and is repeated where the
//! server does not let it be removed.
//!
//! Success means 226 *and* the right size. After a lost connection the attempt looks at what the server has before it
//! repeats anything that must not happen twice.

mod patch;
mod source;

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use log::debug;
use parking_lot::Mutex;

use super::Draft;
use super::compare::ends_as_ours;
use super::draft::{Change, Sending};
use super::temporary::{Given, aside_name, temporary_name};
use crate::ftp::{
    After, Error, How, Modified, Refusal, RemotePath, Session, Stored, Told, explain, replace, spelling,
};
use crate::queue::{Task, Turn};
use crate::read::Locate;
use source::Source;

/// A task that uploads a draft.
pub struct Upload {
    draft: Arc<Mutex<Draft>>,
    locate: Locate,
    /// Permission bits that the replaced file has, when they are not what a new file gets.
    keep_mode: Option<u32>,
    in_place: bool,
    spool_dir: PathBuf,
    change: Change,
    /// The ranges to write into the file, where the server can do that.
    patches: Option<Vec<Range<u64>>>,
    /// What it is made from, as it was.
    old: Option<Told>,
    /// The new content may have its name already.
    renaming: bool,
    sending: Sending,
    temporary: Option<(Given, RemotePath)>,
    /// Somebody waits to remove the file.
    is_unlinked: IsUnlinked,
    /// An earlier upload of the same bytes may have come through in part.
    is_repeated: bool,
    product: Option<Uploaded>,
    end: Box<dyn FnOnce(Result<Uploaded, Error>, Sending) + Send>,
}

/// Whether a file is about to be removed: then its upload makes way.
pub type IsUnlinked = Box<dyn Fn() -> bool + Send>;

/// What the user chose.
pub struct Policy {
    /// Existing files are written into.
    pub in_place: bool,
    /// Files of so many bytes are changed in part where that is worth it.
    pub patch_from: u64,
    pub spool_dir: PathBuf,
}

/// A confirmed upload.
#[derive(Clone, Debug)]
pub struct Uploaded {
    /// Bytes on the server.
    pub size: u64,
    /// Nothing was sent: the file has been removed meanwhile.
    pub removed: bool,
    pub modified: Option<Modified>,
    /// What became of a time and of permission bits that a program had set.
    pub modified_set: Option<Result<(), Error>>,
    pub mode_set: Option<Result<(), Error>>,
}

impl Uploaded {
    pub(super) fn of(size: u64) -> Self {
        Self { size, removed: false, modified: None, modified_set: None, mode_set: None }
    }
}

impl Upload {
    /// Takes what is dirty out of the draft. `exists` says whether there may be such a file on the server, even if the
    /// draft is not made from it. `end` gets what was dirty back with the outcome.
    pub fn new(
        draft: Arc<Mutex<Draft>>,
        locate: Locate,
        exists: bool,
        keep_mode: Option<u32>,
        policy: Policy,
        end: Box<dyn FnOnce(Result<Uploaded, Error>, Sending) + Send>,
    ) -> Self {
        let (change, patches, old, sending) = {
            let mut draft = draft.lock();
            let least = if policy.in_place { PATCH_IN_PLACE_FROM } else { u64::MAX };
            let patches = patch::plan(&draft, policy.patch_from.min(least));
            (draft.change(), patches, draft.old_content(), draft.begin_upload())
        };
        let change = if change == Change::New && exists { Change::Rewritten } else { change };
        let keep_mode = keep_mode.filter(|&mode| mode != NEW_FILE_MODE);
        Self {
            draft,
            locate,
            keep_mode,
            in_place: policy.in_place,
            spool_dir: policy.spool_dir,
            change,
            patches,
            old,
            renaming: false,
            sending,
            temporary: None,
            is_unlinked: Box::new(|| false),
            is_repeated: false,
            product: None,
            end,
        }
    }

    /// Reads the bytes from a copy of the draft as it was when this was made, so that writers may go on.
    pub fn reads(&mut self, copy: Draft) {
        self.draft = Arc::new(Mutex::new(copy));
    }

    /// Ends with [`is_making_way`] when this says so.
    pub fn makes_way(&mut self, when: IsUnlinked) {
        self.is_unlinked = when;
    }

    /// Some of it may be on the server already, from an upload that was cut: it is looked at before anything is added.
    pub fn repeated(&mut self) {
        self.is_repeated = true;
    }

    /// Whether it only adds, and behind bytes that are the same in it as those of a copy: what `parts` name and `copy` brings.
    pub fn adds_behind(
        &self,
        parts: impl Iterator<Item = Range<u64>>,
        mut copy: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
    ) -> bool {
        let (mut ours, mut theirs) = (vec![0; CHUNK], vec![0; CHUNK]);
        let mut is_same = |at: u64, len: usize| -> io::Result<bool> {
            let (ours, theirs) =
                (ours.get_mut(..len).unwrap_or_default(), theirs.get_mut(..len).unwrap_or_default());
            self.draft.lock().copy_out(at, ours)?;
            copy(at, theirs)?;
            Ok(ours == theirs)
        };
        let pieces = |part: Range<u64>| {
            let end = part.end;
            part.step_by(CHUNK).map(move |at| (at, (end - at).min(CHUNK as u64) as usize))
        };
        matches!(self.change, Change::Added(_))
            && parts.flat_map(pieces).all(|(at, len)| is_same(at, len).unwrap_or(false))
    }

    /// The server has `size` bytes that an earlier upload of the same draft brought: a new content is made from them.
    pub fn over(&mut self, size: u64, at: Option<Modified>) {
        let now = patch::told(Some(size), at);
        if self.draft.lock().rebase(size, now.modified) {
            self.old = self.old.map(|_| now);
            self.sends_all();
        }
    }

    /// What it would have added to is not there.
    pub fn sends_all(&mut self) {
        self.change = Change::Rewritten;
        self.patches = None;
    }

    /// The server has all of it already, from an upload whose end nobody saw: only what a program has set goes there.
    pub fn already_there(
        &mut self,
        session: &mut Session,
        path: &RemotePath,
        size: u64,
        at: Option<Modified>,
    ) {
        let modified_set = self.sending.modified.map(|at| session.set_modified(path, at));
        let mode_set = self.sending.mode.map(|mode| session.set_mode(path, mode));
        let at = if matches!(modified_set, Some(Ok(()))) { None } else { at };
        self.product = Some(Uploaded { modified: at, modified_set, mode_set, ..Uploaded::of(size) });
    }
}

impl Task for Upload {
    fn attempt(&mut self, session: &mut Session, turn: &Turn<'_>) -> Result<(), Error> {
        // Removed meanwhile: nobody can see it any more.
        let Some(path) = (self.locate)() else {
            let size = self.draft.lock().size();
            self.product = Some(Uploaded { removed: true, ..Uploaded::of(size) });
            return Ok(());
        };
        if self.draft.lock().is_lost() {
            return Err(Error::Local { errno: libc::EIO });
        }
        if (self.is_unlinked)() {
            return Err(MAKING_WAY);
        }
        let done = match self.change.clone() {
            Change::Added(range) if session.features().can_append() => {
                match self.append(session, &path, range, turn) {
                    Err(Error::Unsupported { .. } | Error::Refused { meaning: Refusal::Unclear, .. }) => {
                        debug!("{path}: cannot append on this server, sending all of it");
                        self.replace(session, &path)
                    }
                    done => done,
                }
            }
            Change::New => self.store_new(session, &path),
            _ => self.patch(session, &path).unwrap_or_else(|| self.replace(session, &path)),
        };
        self.product = Some(done.map_err(|error| explain::store(session, &path, error))?);
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<(), Error>) {
        let product = self.product;
        (self.end)(outcome.and_then(|()| product.ok_or(Error::Cancelled)), self.sending);
    }
}

impl Upload {
    fn append(
        &mut self,
        session: &mut Session,
        path: &RemotePath,
        range: Range<u64>,
        turn: &Turn<'_>,
    ) -> Result<Uploaded, Error> {
        let mut start = range.start;
        if turn.attempt > 0 || self.is_repeated || self.sending.failed_before {
            // The attempt before may have added some of it, or all.
            let there = session.stat(path)?.size.ok_or(Error::Unsupported { command: "SIZE" })?;
            start = there.clamp(range.start, range.end);
            if there != start {
                return Err(grown(range.end, there));
            }
            if start > range.start && !ends_as_ours(session, &self.draft, path, range.start..start)? {
                let text = format!("its end from {} on is not what was added here", range.start);
                return Err(Error::Changed { text });
            }
            if start == range.end {
                return Ok(Uploaded::of(start));
            }
        }
        self.sending.failed_before = true;
        let mut source = self.source(start..range.end);
        let stored = session.store(path, How::Append, &mut source, &self.after(None))?;
        match stored.size {
            // Theirs and ours are both there: nothing was overwritten, but the file is not what the program believes.
            Some(got) if got > range.end => Err(grown(range.end, got)),
            _ => confirmed(session, path, stored, range.end),
        }
    }

    fn replace(&mut self, session: &mut Session, path: &RemotePath) -> Result<Uploaded, Error> {
        if let Err(error) = self.complete(session, path) {
            if self.old.is_some()
                && session.is_alive()
                && let Ok(now) = session.stat(path)
            {
                self.check_base(patch::told(now.size, now.modified))?;
            }
            return Err(error);
        }
        if self.in_place {
            return self.store_in_place(session, path);
        }
        let folder = path.parent().unwrap_or_else(RemotePath::root);
        let (given, temporary) = match self.temporary.take() {
            Some(known) => known,
            None => temporary_name().map(|given| (given.clone(), folder.join(&given)))?,
        };
        self.temporary = Some((given, temporary.clone()));
        let about = self.old.as_ref().map(|_| path.clone());
        let mode = self.keep_mode.unwrap_or(NEW_FILE_MODE);
        let stored = match self.store_and_ask(session, &temporary, How::New, mode, about) {
            Ok((stored, None)) => stored,
            Ok((stored, Some(now))) => {
                // After a rename whose answer was lost it may be our own content already.
                let unchanged = if self.renaming { Ok(()) } else { self.check_base(now) };
                if let Err(error) = unchanged {
                    let _ = session.delete(&temporary);
                    return Err(error);
                }
                stored
            }
            Err(error) if forbids_new_files(session, &temporary, &error) => {
                debug!("{path}: no new file can be made beside it ({error}): writing in place");
                return self.store_in_place(session, path);
            }
            Err(error) => {
                if session.is_alive() {
                    let _ = session.delete(&temporary);
                }
                return Err(error);
            }
        };
        self.renaming = true;
        let name = aside_name()?;
        let aside = temporary.parent().unwrap_or_else(RemotePath::root).join(&name);
        match replace::rename_over(session, &temporary, path, &aside) {
            Ok(()) => Ok(stored),
            Err(error) if error.refusal().is_some() || matches!(error, Error::Unsupported { .. }) => {
                debug!("{path}: nothing can be renamed to it ({error}): writing in place");
                let _ = session.delete(&temporary);
                self.store_in_place(session, path)
            }
            Err(error) => Err(error),
        }
    }

    /// Empties the file and writes it anew, where it cannot be replaced in one step.
    fn store_in_place(&mut self, session: &mut Session, path: &RemotePath) -> Result<Uploaded, Error> {
        if self.old.is_some() && !self.sending.failed_before {
            match session.stat(path) {
                Ok(now) => self.check_base(patch::told(now.size, now.modified))?,
                // There is nothing of somebody else's to lose.
                Err(error) if error.refusal() == Some(Refusal::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        self.sending.failed_before = true;
        self.store(session, path, How::Replace)
    }

    /// Fetches what the draft lacks to be the whole file.
    fn complete(&self, session: &mut Session, path: &RemotePath) -> Result<(), Error> {
        let mut buffer = vec![0; CHUNK];
        loop {
            let gap = {
                let draft = self.draft.lock();
                draft.first_gap(0..draft.size())
            };
            let Some((content, gap)) = gap else { return Ok(()) };
            let mut at = gap.start;
            let mut download = session.retrieve(path, at)?;
            while at < gap.end {
                if (self.is_unlinked)() {
                    download.abandon();
                    return Err(MAKING_WAY);
                }
                let len = buffer.len().min((gap.end - at) as usize);
                let got = download.read(&mut buffer[..len])?;
                if got == 0 {
                    download.finish()?;
                    return Err(Error::WrongLength { expected: content.size, got: at });
                }
                self.draft.lock().fill(&content, at, &buffer[..got], &self.spool_dir).map_err(local)?;
                at += got as u64;
            }
            // What broke off before may have made it longer.
            if at < content.size || self.sending.failed_before {
                download.abandon();
                continue;
            }
            match download.read(&mut buffer[..1])? {
                0 => download.finish()?,
                _ => return Err(Error::WrongLength { expected: content.size, got: at + 1 }),
            }
        }
    }

    fn store_new(&mut self, session: &mut Session, path: &RemotePath) -> Result<Uploaded, Error> {
        spelling::check_before(session, path)?;
        self.sending.may_be_there = true;
        let stored = match self.store(session, path, How::New) {
            Err(error) if matches!(error.refusal(), Some(Refusal::NoSpace | Refusal::Quota)) => {
                // Half a file would only take more room.
                let _ = session.delete(path);
                return Err(error);
            }
            Err(error) => {
                // What is refused by its name has not begun.
                let by_name =
                    [Refusal::Denied, Refusal::NotPermitted, Refusal::NameTooLong, Refusal::NotFound];
                self.sending.may_be_there = !error.refusal().is_some_and(|why| by_name.contains(&why));
                return Err(error);
            }
            Ok(stored) => stored,
        };
        match spelling::check(session, path) {
            Err(Error::NameChanged) => session.delete(path).and(Err(Error::NameChanged)),
            checked => checked.map(|()| stored),
        }
    }

    fn store(&self, session: &mut Session, path: &RemotePath, how: How) -> Result<Uploaded, Error> {
        Ok(self.store_and_ask(session, path, how, NEW_FILE_MODE, None)?.0)
    }

    /// Stores all of it, and asks for size and time of another file on the way.
    fn store_and_ask(
        &self,
        session: &mut Session,
        path: &RemotePath,
        how: How,
        mode: u32,
        about: Option<RemotePath>,
    ) -> Result<(Uploaded, Option<Told>), Error> {
        let size = self.draft.lock().size();
        let mut source = self.source(0..size);
        let mode = Some(mode).filter(|&mode| mode != NEW_FILE_MODE);
        let after = After { about, ..self.after(mode) };
        let stored = session.store(path, how, &mut source, &after)?;
        let seen = stored.about;
        Ok((confirmed(session, path, stored, size)?, seen))
    }

    fn source(&self, range: Range<u64>) -> Source<'_> {
        Source::new(&self.draft, &self.is_unlinked, range)
    }

    fn after(&self, mode: Option<u32>) -> After {
        After { modified: self.sending.modified, mode: self.sending.mode.or(mode), about: None }
    }
}

/// Success needs the right size on the server: told with the upload, or looked up where the server has no SIZE or no
/// longer knows the file.
pub(super) fn confirmed(
    session: &mut Session,
    path: &RemotePath,
    stored: Stored,
    size: u64,
) -> Result<Uploaded, Error> {
    let Stored { modified, modified_set, mode_set, .. } = stored;
    let confirmed = Uploaded { modified, modified_set, mode_set, ..Uploaded::of(size) };
    let got = match (stored.size, path.parent(), path.name()) {
        (None, Some(folder), Some(name)) => {
            let listing = session.list(&folder)?;
            match listing.entries.into_iter().find(|entry| entry.name == name) {
                Some(entry) => entry.size.unwrap_or(size),
                None if listing.truncated => size,
                None => 0,
            }
        }
        (got, ..) => got.unwrap_or(size),
    };
    if got == size && (size > 0 || stored.size.is_some() || session.stat(path).is_ok()) {
        Ok(confirmed)
    } else {
        Err(Error::WrongLength { expected: size, got })
    }
}

/// Whether STOR of a new name was refused because the folder takes none: nothing was stored.
pub(super) fn forbids_new_files(session: &mut Session, temporary: &RemotePath, error: &Error) -> bool {
    let Error::Refused { meaning, reply, .. } = error else { return false };
    let forbidden = matches!(meaning, Refusal::Denied | Refusal::NotPermitted | Refusal::Unclear);
    forbidden && reply.code / 10 == 55 && session.stat(temporary).is_err_and(|e| e.refusal().is_some())
}

fn grown(expected: u64, got: u64) -> Error {
    Error::Changed { text: format!("{got} bytes after bytes were added, instead of {expected}") }
}

fn local(error: io::Error) -> Error {
    Error::Local { errno: error.raw_os_error().unwrap_or(libc::EIO) }
}

/// Whether an upload ended because the file is to be removed. Where that fails it is to be repeated.
pub fn is_making_way(error: &Error) -> bool {
    matches!(error, Error::Local { errno: libc::ECANCELED })
}

/// No disk says so.
const MAKING_WAY: Error = Error::Local { errno: libc::ECANCELED };
const CHUNK: usize = 128 * 1024;
/// With `-o in_place` the whole file would be written in place, too: a small change is worth it in smaller files.
const PATCH_IN_PLACE_FROM: u64 = 64 << 10;
/// What servers give a new file.
pub const NEW_FILE_MODE: u32 = 0o644;
