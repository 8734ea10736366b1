//! Uploading a file while it is written.
//!
//! A large file that is written from its start on does not wait for close(): once some MiB are there a STOR begins, to a
//! temporary name, and follows the writer. close() then waits for the tail only, and for the rename. Nothing is promised
//! earlier, and nobody sees half a file: its name appears, or shows the new content, when all of it is confirmed.
//!
//! The transfer is made of *pieces*, each ended properly and confirmed by its size, so that the connection can be given
//! back: to a more urgent job when there is no other connection, to whoever moves the folder, or because the
//! writer makes a pause. The next piece goes on by APPE (or REST and STOR). After a broken connection the server is asked
//! how much it has, and the bytes before that point are compared with ours; then it goes on from there, or from
//! the beginning while the spool still has everything. Where neither can be, the program gets an error.
//!
//! A server that can do neither APPE nor REST gets the file in one piece: it does not step aside once the spool has let go of
//! something, and otherwise gives up its work to whoever waits, and the whole file is sent at close().
//!
//! `fs` decides when to begin, seals the draft at close(), and submits the task again after each pause.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, warn};
use parking_lot::{Mutex, MutexGuard};

use super::Draft;
use super::compare::ends_as_ours;
use super::draft::Sending;
use super::temporary::{Given, aside_name, temporary_name};
use super::upload::{NEW_FILE_MODE, Uploaded, confirmed, forbids_new_files};
use crate::ftp::features::{Ability, Capability};
use crate::ftp::{After, Error, How, Modified, Refusal, RemotePath, Session, explain, replace, spelling};
use crate::queue::{Task, Turn};
use crate::read::Locate;

/// A task that uploads a draft while it is written.
pub struct Streaming {
    draft: Arc<Mutex<Draft>>,
    /// The file's place, none once it is removed.
    target: Locate,
    /// The folder of the temporary name.
    folder: Locate,
    name: Given,
    /// Permission bits that the replaced file has, when they are not what a new file gets.
    keep_mode: Option<u32>,
    spool_size: u64,
    /// Bytes confirmed under the temporary name.
    there: u64,
    /// A piece was begun, and has not been confirmed.
    broken: bool,
    placing: bool,
    modified: Option<Modified>,
    progress: bool,
    ended: Option<Ended>,
    end: End,
}

/// Gets the task back, to be submitted again, with the reason why it ended.
pub type End = Arc<dyn Fn(Box<Streaming>, Result<Ended, Error>) + Send + Sync>;

/// Why a task ended.
#[derive(Clone, Debug)]
pub enum Ended {
    /// There may be more to come.
    Paused,
    /// Everything is there under the temporary name: to be renamed.
    Sent,
    /// It has its name.
    Placed(Uploaded),
    /// The program changed what had been sent, or this is no server or folder for it: everything is to be sent at close().
    Spoiled,
}

impl Streaming {
    /// # Errors
    /// None but that of an impossible clock.
    pub fn new(
        draft: Arc<Mutex<Draft>>,
        target: Locate,
        folder: Locate,
        keep_mode: Option<u32>,
        spool_size: u64,
        end: End,
    ) -> Result<Self, Error> {
        Ok(Self {
            draft,
            target,
            folder,
            name: temporary_name()?,
            keep_mode: keep_mode.filter(|&mode| mode != NEW_FILE_MODE),
            spool_size,
            there: 0,
            broken: false,
            placing: false,
            modified: None,
            progress: false,
            ended: None,
            end,
        })
    }

    /// Where the bytes go first.
    pub fn temporary(&self) -> Option<RemotePath> {
        Some((self.folder)()?.join(&self.name))
    }

    pub fn is_placing(&self) -> bool {
        self.placing
    }

    /// All is sent: the next attempt gives it its name. The caller claims that name.
    pub fn place_next(&mut self) {
        self.placing = true;
    }
}

impl Task for Streaming {
    fn attempt(&mut self, session: &mut Session, turn: &Turn<'_>) -> Result<(), Error> {
        self.progress = false;
        let ended = match self.temporary() {
            None => Ended::Spoiled,
            Some(temporary) if self.placing => self.place(session, turn, &temporary)?,
            Some(temporary) => self.send(session, turn, &temporary)?,
        };
        self.ended = Some(ended);
        Ok(())
    }

    fn has_progressed(&self) -> bool {
        self.progress
    }

    fn finish(mut self: Box<Self>, outcome: Result<(), Error>) {
        let ended = self.ended.take();
        let end = self.end.clone();
        end(self, outcome.and_then(|()| ended.ok_or(Error::Cancelled)));
    }
}

impl Streaming {
    /// Sends a piece.
    fn send(
        &mut self,
        session: &mut Session,
        turn: &Turn<'_>,
        temporary: &RemotePath,
    ) -> Result<Ended, Error> {
        if (self.target)().is_none() || self.draft.lock().is_spoiled() {
            return self.give_up(session, temporary);
        }
        if self.broken {
            self.look_what_is_there(session, temporary)?;
        }
        let features = session.features();
        let how = match self.there {
            0 => How::Replace,
            _ if features.can_append() => How::Append,
            there => How::From(there),
        };
        let proven = [Capability::Append, Capability::RestStor].map(|way| features.ability(way));
        let may_pause = if proven.contains(&Ability::Yes) {
            Pause::Whenever
        } else if proven.contains(&Ability::Unknown) {
            Pause::WhileComplete
        } else {
            Pause::ToGiveUp
        };
        self.broken = true;
        let mut source = Source {
            draft: &self.draft,
            turn,
            at: self.there,
            spool_size: self.spool_size,
            may_pause,
            began: Instant::now(),
        };
        let stored = session.store(temporary, how, &mut source, &After::default());
        let end = source.at;
        self.progress |= end.saturating_sub(self.there) > CERTAIN;
        let stored = match stored {
            Ok(stored) => stored,
            Err(Error::Unsupported { .. } | Error::Refused { meaning: Refusal::Unclear, .. })
                if self.there > 0 =>
            {
                return self.begin_anew(session, temporary);
            }
            Err(error) if forbids_new_files(session, temporary, &error) => {
                debug!("{temporary}: no new file can be made here ({error})");
                self.broken = false;
                return Ok(Ended::Spoiled);
            }
            Err(error) => {
                let error = explain::store(session, temporary, error);
                if session.is_alive() && !error.is_transient() {
                    // Half a file would only take room.
                    let _ = session.delete(temporary);
                }
                return Err(error);
            }
        };
        let uploaded = confirmed(session, temporary, stored, end)?;
        self.there = end;
        self.broken = false;
        self.progress = true;
        self.modified = uploaded.modified;
        let (is_spoiled, is_all) = {
            let draft = self.draft.lock();
            (draft.is_spoiled(), draft.sealed().is_some_and(|(size, _)| size == end))
        };
        match (is_spoiled || (self.target)().is_none(), is_all) {
            (true, _) => self.give_up(session, temporary),
            (false, true) => Ok(Ended::Sent),
            (false, false) if may_pause == Pause::ToGiveUp => self.give_up(session, temporary),
            (false, false) => Ok(Ended::Paused),
        }
    }

    /// The server would not go on from a piece: from the beginning, if that is still here.
    fn begin_anew(&mut self, session: &mut Session, temporary: &RemotePath) -> Result<Ended, Error> {
        if self.draft.lock().dropped() > 0 {
            return Err(Error::NotResumable { there: self.there });
        }
        debug!("{temporary}: this server does not go on with an upload: all of it is sent at close()");
        self.give_up(session, temporary)
    }

    fn give_up(&mut self, session: &mut Session, temporary: &RemotePath) -> Result<Ended, Error> {
        if let Err(error) = session.delete(temporary) {
            match error {
                Error::Refused { .. } => debug!("{temporary}: {error}"),
                error => warn!("{temporary} may be left over on the server: {error}"),
            }
        }
        let removed = (self.target)().is_none() && self.draft.lock().sealed().is_some();
        match removed {
            true => Ok(Ended::Placed(Uploaded { removed: true, ..Uploaded::of(self.there) })),
            false => Ok(Ended::Spoiled),
        }
    }

    /// The connection broke: finds where to go on.
    fn look_what_is_there(&mut self, session: &mut Session, temporary: &RemotePath) -> Result<(), Error> {
        let there = match session.stat(temporary) {
            Ok(entry) => entry.size.unwrap_or(0),
            Err(error) if error.refusal().is_some() => 0,
            Err(error) => return Err(error),
        };
        let (dropped, sent) = {
            let draft = self.draft.lock();
            (draft.dropped(), draft.sent())
        };
        let features = session.features();
        let goes_on = (features.can_append() || features.can_restart_store())
            && there > dropped
            && there <= sent.max(self.there)
            && {
                let last = there.saturating_sub(COMPARED).max(dropped)..there;
                ends_as_ours(session, &self.draft, temporary, last)?
            };
        if goes_on {
            debug!("{temporary}: going on from {there} bytes");
            self.progress |= there >= self.there + WORTH_ANOTHER_TRY;
            self.there = there;
            return Ok(());
        }
        if dropped > 0 {
            return Err(Error::NotResumable { there });
        }
        self.there = 0;
        Ok(())
    }

    /// Gives what was sent its name.
    fn place(
        &mut self,
        session: &mut Session,
        turn: &Turn<'_>,
        temporary: &RemotePath,
    ) -> Result<Ended, Error> {
        let Some(target) = (self.target)() else { return self.give_up(session, temporary) };
        let sealed = self.draft.lock().sealed();
        let Some((size, sending)) = sealed else { return Ok(Ended::Spoiled) };
        if turn.attempt > 0
            && session.stat(temporary).is_err_and(|error| error.refusal().is_some())
            && session.stat(&target)?.size == Some(size)
        {
            // The attempt before renamed it, and the answer was lost.
            return Ok(Ended::Placed(Uploaded { modified: self.modified, ..Uploaded::of(size) }));
        }
        spelling::check_before(session, &target)?;
        let mut uploaded = self.set_attributes(session, temporary, size, &sending)?;
        let name = aside_name()?;
        let aside = temporary.parent().unwrap_or_else(RemotePath::root).join(&name);
        match replace::rename_over(session, temporary, &target, &aside) {
            Ok(()) => {}
            Err(Error::Refused { .. } | Error::Unsupported { .. }) if self.draft.lock().dropped() == 0 => {
                debug!("{target}: nothing can be renamed to it: sending it again");
                return self.give_up(session, temporary);
            }
            Err(error) => {
                let error = explain::rename(session, temporary, &target, error);
                if !error.is_transient() {
                    warn!("{target}: all of it is on the server as {temporary}");
                }
                return Err(error);
            }
        }
        if let Err(Error::NameChanged) = spelling::check(session, &target) {
            return session.delete(&target).and(Err(Error::NameChanged));
        }
        uploaded.modified = uploaded.modified.or(self.modified);
        Ok(Ended::Placed(uploaded))
    }

    fn set_attributes(
        &self,
        session: &mut Session,
        temporary: &RemotePath,
        size: u64,
        sending: &Sending,
    ) -> Result<Uploaded, Error> {
        let mut uploaded = Uploaded::of(size);
        let lost = |outcome: &Result<(), Error>| outcome.as_ref().err().filter(|e| e.ends_session()).cloned();
        if let Some(mode) = sending.mode.or(self.keep_mode) {
            let set = session.set_mode(temporary, mode);
            if let Some(error) = lost(&set) {
                return Err(error);
            }
            uploaded.mode_set = Some(set);
        }
        if let Some(at) = sending.modified {
            let set = session.set_modified(temporary, at);
            if let Some(error) = lost(&set) {
                return Err(error);
            }
            if set.is_ok() {
                let exact = &mut uploaded.modified;
                session.exact_times(std::slice::from_ref(temporary), &|| 1, &mut |_, times| {
                    *exact = times.first().copied().flatten();
                })?;
            }
            uploaded.modified_set = Some(set);
        }
        Ok(uploaded)
    }
}

/// When a piece may end although the file is not complete.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pause {
    /// The server is known to go on later.
    Whenever,
    /// It may turn out that it does not: only while everything is still here.
    WhileComplete,
    /// It does not: what was sent is lost then, and sent again at close().
    ToGiveUp,
}

/// What the connection takes: waits for the writer, and ends where the piece is to end.
struct Source<'a> {
    draft: &'a Mutex<Draft>,
    turn: &'a Turn<'a>,
    at: u64,
    spool_size: u64,
    may_pause: Pause,
    began: Instant,
}

impl io::Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let patience = if self.may_pause == Pause::ToGiveUp { LONG_PAUSE } else { SHORT_PAUSE };
        let until = Instant::now() + patience;
        let mut draft = self.draft.lock();
        loop {
            let is_open = draft.sealed().is_none();
            let may_pause = match self.may_pause {
                Pause::Whenever => true,
                Pause::WhileComplete => draft.dropped() == 0,
                Pause::ToGiveUp => draft.dropped() == 0 && is_open,
            };
            if may_pause
                && self.began.elapsed() > SLICE
                && MutexGuard::unlocked(&mut draft, || self.turn.is_wanted(false))
            {
                return Ok(0);
            }
            match draft.ready(self.at) {
                None => return Ok(0),
                Some(0) if Instant::now() >= until && may_pause => return Ok(0),
                Some(0) => {
                    draft.changed().wait_for(&mut draft, LOOK_AROUND);
                }
                Some(ready) => {
                    let len = buffer.len().min(ready as usize);
                    draft.copy_out(self.at, buffer.get_mut(..len).unwrap_or_default())?;
                    self.at += len as u64;
                    let waiting = draft.note_outgoing(self.at, self.spool_size);
                    drop(draft);
                    waiting.into_iter().for_each(|room| room(Ok(())));
                    return Ok(len);
                }
            }
        }
    }
}

/// How long a writer may pause before the connection is given back; the next piece costs about three round trips.
const SHORT_PAUSE: Duration = Duration::from_secs(5);
/// The same where the whole file must be sent again then. Servers end a data connection that is silent for some minutes.
const LONG_PAUSE: Duration = Duration::from_secs(60);
/// How often it is looked whether the connection is wanted while the writer pauses.
const LOOK_AROUND: Duration = Duration::from_millis(20);
/// A piece lasts at least so long, so that a busy mount still gets on with it.
const SLICE: Duration = Duration::from_millis(250);
/// More than the buffers on the way hold: when so much was sent, the server has got something.
const CERTAIN: u64 = 32 << 20;
/// A line that breaks after less than this each time is not tried for ever.
const WORTH_ANOTHER_TRY: u64 = 256 << 10;
/// What is compared with the server before an upload goes on after a break.
const COMPARED: u64 = 64 << 10;
