//! Small changes in large files, written into the file on the server.
//!
//! To replace a file as a whole is one step for its readers, and costs its whole size twice (what did not change is fetched
//! first). For a few pages of a disk image or of a database that is out of proportion, and who writes in such a way does
//! not count on more than a local disk gives: writes that happen one after the other, in place. So where a file is large and
//! the change small, the changed ranges go out by REST and STOR.
//!
//! Most servers cut the file off behind what they get, and one throws away what is before. So the server first has to prove
//! on a file of our own that it keeps both, once per mount. What a patch that breaks off leaves behind is a part of
//! the change, not half a file; it is repeated as a whole, because to write the same bytes twice does no harm. The size says
//! nothing about success here, so what was sent is read back.

use std::io;
use std::ops::Range;

use log::debug;
use openssl::sha::Sha256;

use super::{CHUNK, Source, Upload, Uploaded, confirmed, local};
use crate::ftp::{After, Error, How, Modified, Precision, Refusal, RemotePath, Session, Told};
use crate::write::draft::Draft;
use crate::write::temporary::temporary_name;

impl Upload {
    /// Writes the changed ranges into the file. None where the whole of it must be sent.
    pub(super) fn patch(
        &mut self,
        session: &mut Session,
        path: &RemotePath,
    ) -> Option<Result<Uploaded, Error>> {
        let ranges = self.patches.clone()?;
        let folder = path.parent().unwrap_or_else(RemotePath::root);
        match is_proven(session, &folder) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => return Some(Err(error)),
        }
        let ranges = match self.after_first_byte(session, path, ranges) {
            Ok(Some(ranges)) => ranges,
            Ok(None) => return None,
            Err(error) => return Some(Err(error)),
        };
        match self.write_ranges(session, path, &ranges) {
            Err(Error::Unsupported { .. }) => None,
            Err(Error::Refused { meaning: Refusal::Unclear | Refusal::Denied, .. }) => None,
            done => Some(done),
        }
    }

    /// A STOR from the very first byte on would empty the file. Most changes there leave the first byte as it is, and can
    /// begin behind it; none for one that does not.
    fn after_first_byte(
        &self,
        session: &mut Session,
        path: &RemotePath,
        mut ranges: Vec<Range<u64>>,
    ) -> Result<Option<Vec<Range<u64>>>, Error> {
        let Some(first) = ranges.first_mut().filter(|range| range.start == 0) else {
            return Ok(Some(ranges));
        };
        first.start = 1;
        let is_all = first.is_empty();
        let (mut theirs, mut ours) = ([0; 1], [0; 1]);
        let mut download = session.retrieve_held(path, 0)?;
        let got = download.read(&mut theirs)?;
        download.abandon();
        self.draft.lock().copy_out(0, &mut ours).map_err(local)?;
        if got == 0 || theirs != ours {
            return Ok(None);
        }
        if is_all {
            ranges.remove(0);
        }
        Ok(Some(ranges).filter(|ranges| !ranges.is_empty()))
    }

    /// Whether the file is still what our content was made from, as far as an upload of ours that broke off has not changed it.
    ///
    /// # Errors
    /// `Changed` when it is not.
    pub(super) fn check_base(&self, now: Told) -> Result<(), Error> {
        let Some(old) = self.old else { return Ok(()) };
        if !self.sending.failed_before {
            return check_unchanged(old, now);
        }
        match now.size {
            // It may have become longer by that, not more than that.
            Some(size) if !(old.size.unwrap_or(0)..=self.draft.lock().size()).contains(&size) => {
                Err(Error::Changed { text: format!("{size} bytes after an upload that broke off") })
            }
            _ => Ok(()),
        }
    }

    fn write_ranges(
        &mut self,
        session: &mut Session,
        path: &RemotePath,
        ranges: &[Range<u64>],
    ) -> Result<Uploaded, Error> {
        let Some(old) = self.old else { return Err(Error::Unsupported { command: "REST" }) };
        let now = session.stat(path)?;
        self.check_base(told(now.size, now.modified))?;
        let mut size = old.size.unwrap_or(0);
        let is_first = !std::mem::replace(&mut self.sending.failed_before, true);
        let mut done = Uploaded::of(size);
        for (number, range) in ranges.iter().enumerate() {
            size = size.max(range.end);
            let is_last = number + 1 == ranges.len();
            let after = if is_last { self.after(None) } else { After::default() };
            let mut source = Summed { source: self.source(range.clone()), sum: Sha256::new() };
            let stored = session.store(path, How::From(range.start), &mut source, &after)?;
            let sum = source.sum.finish();
            // A repeated patch finds what the one before has added.
            let expected = if is_last || is_first { size } else { stored.size.unwrap_or(size) };
            done = confirmed(session, path, stored, expected)?;
            read_back(session, path, range, sum)?;
        }
        Ok(done)
    }
}

/// A range that broke off inside the file leaves its size as it should be, and some servers say 226 to that: so the
/// server has to show what it has. It must be what was sent, not what the draft is by now: programs go on writing.
fn read_back(
    session: &mut Session,
    path: &RemotePath,
    range: &Range<u64>,
    sent: [u8; 32],
) -> Result<(), Error> {
    let mut buffer = vec![0; CHUNK];
    let mut sum = Sha256::new();
    let mut at = range.start;
    let mut download = session.retrieve_held(path, at)?;
    while at < range.end {
        let len = CHUNK.min((range.end - at) as usize);
        match download.read(buffer.get_mut(..len).unwrap_or_default())? {
            0 => break,
            got => {
                sum.update(buffer.get(..got).unwrap_or_default());
                at += got as u64;
            }
        }
    }
    download.abandon();
    if at == range.end && sum.finish() == sent {
        return Ok(());
    }
    Err(Error::Data { during: "STOR", text: "the server does not have what was sent".to_owned() })
}

/// Sums up what is read from `source`.
struct Summed<'d> {
    source: Source<'d>,
    sum: Sha256,
}

impl io::Read for Summed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.source.read(buffer)?;
        self.sum.update(buffer.get(..len).unwrap_or_default());
        Ok(len)
    }
}

/// The ranges to send, when that is all that is needed and worth it for a file of at least `from` bytes.
pub(super) fn plan(draft: &Draft, from: u64) -> Option<Vec<Range<u64>>> {
    let (base, ranges) = draft.changed_ranges()?;
    let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
    let is_worth_it = base.content.size >= from && bytes <= draft.size() / 4 && ranges.len() <= MOST_RANGES;
    is_worth_it.then_some(ranges)
}

/// Whether the server keeps what lies before and behind the bytes of a REST + STOR, shown on a file of our own in `folder`.
pub(super) fn is_proven(session: &mut Session, folder: &RemotePath) -> Result<bool, Error> {
    if let Some(kept) = session.features().tail_is_kept() {
        return Ok(kept && session.features().can_restart_store());
    }
    let name = temporary_name()?;
    let probe = folder.join(&name);
    let outcome = prove(session, &probe);
    if session.is_alive() {
        let _ = session.delete(&probe);
    }
    match outcome {
        Ok(kept) => {
            session.features().learn_tail_is_kept(kept);
            Ok(kept)
        }
        Err(error) if error.is_transient() => Err(error),
        Err(error) => {
            debug!("{probe}: {error}");
            session.features().learn_tail_is_kept(false);
            Ok(false)
        }
    }
}

fn prove(session: &mut Session, probe: &RemotePath) -> Result<bool, Error> {
    let after = After::default();
    session.store(probe, How::Replace, &mut &b"before-XX-behind"[..], &after)?;
    session.store(probe, How::From(7), &mut &b"OK"[..], &after)?;
    let (mut found, mut filled) = ([0; 32], 0);
    let mut download = session.retrieve(probe, 0)?;
    while let Some(rest) = found.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match download.read(rest)? {
            0 => break,
            n => filled += n,
        }
    }
    download.finish()?;
    Ok(found.get(..filled) == Some(b"before-OK-behind"))
}

/// Whether the file is still what our content was made from.
///
/// # Errors
/// `Changed` when it is not.
fn check_unchanged(old: Told, now: Told) -> Result<(), Error> {
    if let (Some(old), Some(now)) = (old.size, now.size)
        && old != now
    {
        return Err(Error::Changed { text: format!("{now} bytes instead of {old}") });
    }
    if let (Some(old), Some(now)) = (old.modified, now.modified) {
        let apart = match now.duration_since(old) {
            Ok(later) => later.as_secs(),
            Err(earlier) => earlier.duration().as_secs(),
        };
        // Whole quarters of an hour are a zone that was learned meanwhile.
        if apart > 0 && apart % QUARTER != 0 {
            return Err(Error::Changed {
                text: format!("its time is {apart} s away from the one that it had"),
            });
        }
    }
    Ok(())
}

/// What an answer about a file says of its size and, to the second, of its time.
pub(super) fn told(size: Option<u64>, modified: Option<Modified>) -> Told {
    let exact = modified.filter(|modified| modified.precision == Precision::Second);
    Told { size, modified: exact.map(|modified| modified.at) }
}

/// Each range costs about six round trips.
const MOST_RANGES: usize = 16;
const QUARTER: u64 = 900;
