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

use std::ops::Range;

use log::debug;

use super::draft::Draft;
use super::temporary::temporary_name;
use crate::ftp::{After, Error, How, Modified, Precision, RemotePath, Session, Told};

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
    let probe = folder.join(&temporary_name()?);
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
pub(super) fn check_unchanged(old: Told, now: Told) -> Result<(), Error> {
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
