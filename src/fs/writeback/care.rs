//! Care: an upload that comes late, or again, looks at what the server has before it changes anything.
//!
//! Four things may be there: what was there when the program wrote (then go on); our own bytes, all of them or
//! the first part, from an upload whose end nobody saw (then go on from there); nothing; or something else, which is a
//! conflict. A conflict loses nothing: the server's file stays as it is, ours goes beside it as `NAME.ftpfs-conflict-DATE`, or,
//! when it is only a part that fits nothing any more, to where `ftpfs recover` has it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use log::{info, warn};
use parking_lot::Mutex;

use super::{Settled, Source};
use crate::fs::{Errno, FileSystem};
use crate::ftp::command::timestamp;
use crate::ftp::{Entry, Error, Kind, Modified, Name, Precision, Refusal, RemotePath, Session};
use crate::queue::{Task, Turn};
use crate::read::Locate;
use crate::tree::Ino;
use crate::write::draft::Generation;
use crate::write::journal::{BYTES_AT, Below, Record};
use crate::write::kept::Kept;
use crate::write::{Draft, Upload};

/// What is known of an upload's bytes.
pub struct Care {
    /// The newest first: older ones may have got there, too.
    versions: Vec<Version>,
    /// Of the draft, when the newest was saved.
    generation: Generation,
    verdict: Mutex<Verdict>,
    /// Looks before it sends.
    looks: bool,
}

struct Version {
    record: Record,
    file: File,
    /// Where in the file the bytes begin.
    start: u64,
}

#[derive(Clone, Debug, Default)]
enum Verdict {
    #[default]
    Go,
    /// To another name.
    Beside(RemotePath),
    /// It is a part of a file that is no longer there.
    Lost,
}

impl FileSystem {
    /// An upload of this file begins. None when it is not in the journal.
    pub(in crate::fs) fn care_for(&self, ino: Ino) -> Option<Arc<Care>> {
        let (kept, generation, looks) = {
            let mut state = self.writeback.state.lock();
            let pending = state.files.get_mut(&ino)?;
            pending.sending = pending.kept.last().cloned();
            pending.sends_a_copy = false;
            let is_late = pending.first.elapsed() > self.options.attr_timeout;
            (pending.kept.clone(), pending.generation, pending.is_restored || pending.attempts > 0 || is_late)
        };
        let version = |source: &Source| match source {
            Source::Journal(number) => {
                let (record, file) = self.writeback.journal.as_ref()?.entry(*number)?;
                Some(Version { record, file, start: BYTES_AT })
            }
            Source::Unsent(path) => {
                let kept = Kept::at(path);
                let (file, start) = kept.open().ok()?;
                Some(Version { record: kept.record?, file, start })
            }
        };
        let versions: Vec<Version> = kept.iter().rev().filter_map(version).collect();
        Some(Arc::new(Care { versions, generation, verdict: Mutex::default(), looks }))
    }

    /// The saved bytes as a draft of their own, for an upload that begins now: what is written meanwhile must not get into
    /// it, because nobody was told that it is safe. None for a large file, and for one that has changed since it was saved.
    pub(in crate::fs) fn copy_for(&self, ino: Ino, care: &Care, draft: &Mutex<Draft>) -> Option<Draft> {
        let newest = care.versions.first()?;
        if newest.record.held() > LARGE {
            return None;
        }
        let base = {
            let draft = draft.lock();
            (draft.generation() == care.generation).then(|| draft.base())?
        };
        let base = base.filter(|_| !newest.record.is_whole());
        let bytes = |at: u64, piece: &mut [u8]| newest.file.read_exact_at(piece, newest.start + at);
        let copy = Draft::restored(&newest.record, base, &self.options.spool_dir, bytes).ok()?;
        if let Some(pending) = self.writeback.state.lock().files.get_mut(&ino) {
            pending.sends_a_copy = true;
        }
        Some(copy)
    }

    /// The upload has ended otherwise than it was meant to. False when it has not.
    pub(in crate::fs) fn ended_otherwise(&self, ino: Ino, care: &Care, is_ok: bool) -> bool {
        let verdict = care.verdict.lock().clone();
        let settled = match verdict {
            Verdict::Beside(path) if is_ok => {
                warn!("conflict: the file was changed on the server; ours is there as {path}");
                self.features.troubles().note(format!("conflict: ours is on the server as {path}"));
                Settled::Beside(path)
            }
            Verdict::Lost => {
                let reason = "the server's file has changed, and this is only a part of ours";
                self.features.troubles().note(format!("conflict: {reason}: see `ftpfs recover`"));
                if let Some(pending) = self.take_pending(ino) {
                    self.shelve(pending, reason);
                }
                Settled::Failed(Errno::STALE)
            }
            _ => return false,
        };
        for source in self.take_pending(ino).iter().flat_map(|pending| &pending.kept) {
            self.writeback.drop_source(source);
        }
        self.drop_draft(ino);
        self.settled(ino, &settled);
        self.request(super::Request::Go);
        true
    }

    /// The local version is given up: what the server has is shown.
    pub(super) fn drop_draft(&self, ino: Ino) {
        for answer in self.drafts.give_up(ino) {
            answer.error(Errno::STALE);
        }
        if let Some(node) = self.tree.lock().node_mut(ino) {
            node.replaced();
        }
        self.show_server(ino);
    }
}

impl Care {
    /// Whether a draft is what was saved: asked when the upload has taken what it sends out of it.
    pub fn is_of(&self, draft: &Mutex<Draft>) -> bool {
        draft.lock().generation() == self.generation
    }

    /// Where the upload goes: where the file is, or beside it.
    pub fn locate(self: &Arc<Self>, usual: Locate) -> Locate {
        let care = self.clone();
        Arc::new(move || match &*care.verdict.lock() {
            Verdict::Beside(path) => Some(path.clone()),
            _ => usual(),
        })
    }
}

/// An upload that looks first.
pub struct Careful {
    pub upload: Upload,
    pub care: Arc<Care>,
    pub locate: Locate,
    pub has_looked: bool,
    /// It sends just what is saved, nothing newer.
    pub is_exact: bool,
}

impl Task for Careful {
    fn attempt(&mut self, session: &mut Session, turn: &Turn<'_>) -> Result<(), Error> {
        if self.care.looks && !self.has_looked {
            let Some(path) = (self.locate)() else { return self.upload.attempt(session, turn) };
            let is_there = self.look(session, &path)?;
            self.has_looked = true;
            if is_there {
                return Ok(());
            }
        }
        self.upload.attempt(session, turn)
    }

    fn finish(self: Box<Self>, outcome: Result<(), Error>) {
        Box::new(self.upload).finish(outcome);
    }
}

impl Careful {
    /// Looks at what is there. True when all of it is, and nothing needs to be sent.
    fn look(&mut self, session: &mut Session, path: &RemotePath) -> Result<bool, Error> {
        let care = self.care.clone();
        let Some(newest) = care.versions.first() else { return Ok(false) };
        let record = &newest.record;
        let found = match session.stat(path) {
            Ok(entry) => entry,
            Err(error) if matches!(error.refusal(), Some(Refusal::NotFound | Refusal::Unclear)) => {
                self.upload.sends_all();
                return if record.is_whole() { Ok(false) } else { self.lost() };
            }
            Err(error) => return Err(error),
        };
        if record.below == Below::Unknown && record.is_whole() && found.kind == Kind::File {
            return Ok(false);
        }
        if found.kind == Kind::File {
            if is_below(&found, record) {
                return Ok(false);
            }
            let Some(size) = found.size else { return Ok(false) };
            for (index, version) in care.versions.iter().enumerate() {
                if !version.is_there(session, path, size)? {
                    continue;
                }
                if index == 0 && self.is_exact && size == version.record.size {
                    info!("{path} is there already");
                    self.upload.already_there(session, path, size, found.modified);
                    return Ok(true);
                }
                self.go_on_from(version, size, found.modified);
                return Ok(false);
            }
        }
        if !record.is_whole() {
            return self.lost();
        }
        let date = timestamp(SystemTime::now());
        let (day, time) = date.split_at_checked(8).unwrap_or((&date, ""));
        let own = path.name();
        let mut name = own.as_ref().map_or(b"file".as_slice(), Name::as_bytes).to_vec();
        name.truncate(MAX_NAME - 40);
        name.extend_from_slice(format!(".ftpfs-conflict-{day}-{time}").as_bytes());
        let beside = path.parent().unwrap_or_else(RemotePath::root).join(&Name::new(&name)?);
        *self.care.verdict.lock() = Verdict::Beside(beside);
        self.upload.sends_all();
        Ok(false)
    }

    /// An earlier upload has brought the first `size` bytes of this version: what is sent now goes on from there.
    fn go_on_from(&mut self, version: &Version, size: u64, at: Option<Modified>) {
        self.upload.repeated();
        let parts = version.record.parts.iter().map(|part| part.start..part.end.min(size));
        let ours = |at: u64, piece: &mut [u8]| version.file.read_exact_at(piece, version.start + at);
        // What has been written since may have changed those bytes, too: adding behind them would make a mixture.
        if !version.record.is_whole() && !self.upload.adds_behind(parts, ours) {
            self.upload.over(size, at);
        }
    }

    fn lost(&self) -> Result<bool, Error> {
        *self.care.verdict.lock() = Verdict::Lost;
        Err(Error::Cancelled)
    }
}

/// Whether the server has what was there when the program wrote.
fn is_below(found: &Entry, record: &Record) -> bool {
    let Below::File { size, modified, .. } = record.below else { return false };
    let exact = found.modified.filter(|modified| modified.precision == Precision::Second);
    let is_same_time = match (modified, exact) {
        (Some(then), Some(now)) => then == now.at,
        _ => true,
    };
    found.size == Some(size) && is_same_time
}

impl Version {
    /// Whether the `size` bytes that the server has are the first ones of these, as far as these are known.
    fn is_there(&self, session: &mut Session, path: &RemotePath, size: u64) -> Result<bool, Error> {
        let first = self.record.parts.first().map_or(0, |part| part.start);
        if size > self.record.size || (!self.record.is_whole() && size < first) {
            return Ok(false);
        }
        let began = Instant::now();
        let (mut theirs, mut ours) = (vec![0; CHUNK], vec![0; CHUNK]);
        for part in &self.record.parts {
            let end = part.end.min(size);
            let mut at = part.start;
            if at >= end {
                break;
            }
            let mut download = session.retrieve(path, at)?;
            while at < end {
                let len = theirs.len().min((end - at) as usize);
                let got = download.read(theirs.get_mut(..len).unwrap_or_default())?;
                let (theirs, ours) =
                    (theirs.get(..got).unwrap_or_default(), ours.get_mut(..got).unwrap_or_default());
                let is_read = self.file.read_exact_at(ours, self.start + at).is_ok();
                if got == 0 || !is_read || theirs != ours {
                    download.abandon();
                    return Ok(false);
                }
                at += got as u64;
            }
            match at == size {
                true => match download.read(theirs.get_mut(..1).unwrap_or_default())? {
                    0 => download.finish()?,
                    _ => {
                        download.abandon();
                        return Ok(false);
                    }
                },
                false => download.abandon(),
            }
        }
        log::debug!("{path}: compared {size} bytes in {:?}", began.elapsed());
        Ok(true)
    }
}

const CHUNK: usize = 128 * 1024;
/// Beyond this, copying costs more than it is worth: the upload reads the draft, and shows how far it is.
const LARGE: u64 = 8 << 20;
const MAX_NAME: usize = 255;
