//! Whether the bytes that a server has at the end of a file are ours: after an upload that broke off, nobody else can tell.
//!
//! Used by [`super::upload`] before an append is repeated, and by [`super::streaming`] before an upload goes on.

use std::ops::Range;

use parking_lot::Mutex;

use super::Draft;
use crate::ftp::{Error, RemotePath, Session};

/// Whether the file at `path` ends with what the draft has at `range`, whose end is the size that the file should have. A file that
/// cannot be read is not ours.
pub(super) fn ends_as_ours(
    session: &mut Session,
    draft: &Mutex<Draft>,
    path: &RemotePath,
    range: Range<u64>,
) -> Result<bool, Error> {
    let mut download = match session.retrieve(path, range.start) {
        Ok(download) => download,
        Err(error) if error.refusal().is_some() => return Ok(false),
        Err(error) => return Err(error),
    };
    let (mut theirs, mut ours) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut at = range.start;
    loop {
        // One byte more than there should be: the file may have grown.
        let len = CHUNK.min((range.end - at + 1) as usize);
        let got = download.read(theirs.get_mut(..len).unwrap_or_default())?;
        if got == 0 {
            download.finish()?;
            return Ok(at == range.end);
        }
        let ours = ours.get_mut(..got).unwrap_or_default();
        let is_read = at + got as u64 <= range.end && draft.lock().copy_out(at, ours).is_ok();
        if !is_read || theirs.get(..got) != Some(&*ours) {
            download.abandon();
            return Ok(false);
        }
        at += got as u64;
    }
}

const CHUNK: usize = 64 * 1024;
