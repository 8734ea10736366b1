//! The file of one entry: two places for a record, and behind them the bytes. Written so that it is there whole or not at
//! all, and read without believing it. Used by `journal`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use openssl::sha::Sha256;
use parking_lot::Mutex;

use super::record::{self, PIECE, Record};
use super::{BYTES_AT, Place};
use crate::write::Draft;
use crate::write::draft::Generation;

/// Finds the record in the beginning of an entry, of which two may be there. Pure: it may be anything.
pub fn record_in(head: &[u8]) -> Option<Record> {
    let places = [head.get(..record::MAX_TEXT), head.get(record::MAX_TEXT..)];
    // A short head has one place, or a part of one.
    let places = places.map(|place| place.unwrap_or(head));
    places.into_iter().filter_map(Record::parse).max_by_key(|record| record.turn)
}

/// Copies what a draft has to `file` from [`BYTES_AT`] on, and writes the record. Safe when this returns.
pub(super) fn save_to(
    file: &File,
    draft: &Mutex<Draft>,
    place: &Place<'_>,
) -> io::Result<Option<(Record, Generation)>> {
    for _ in 0..ATTEMPTS {
        let (mut record, generation) = {
            let draft = draft.lock();
            (describe(&draft, place), draft.generation())
        };
        // Before the bytes are copied in vain.
        if record.to_text().is_none() {
            return Ok(None);
        }
        file.set_len(0)?;
        let is_large = record.held() > SUMMED;
        let mut sum = Sha256::new();
        let mut buffer = vec![0; PIECE];
        for (at, len) in record.pieces() {
            let piece = buffer.get_mut(..len).unwrap_or_default();
            {
                let draft = draft.lock();
                if draft.generation() != generation {
                    break;
                }
                draft.copy_out(at, piece)?;
            }
            if !is_large {
                sum.update(piece);
            }
            file.write_all_at(piece, BYTES_AT + at)?;
        }
        if draft.lock().generation() != generation {
            continue;
        }
        if is_large {
            // No sum that takes long: the bytes are safe before there is a record of them.
            file.sync_data()?;
        } else {
            record.sum = Some(sum.finish());
        }
        write_record(file, &record)?;
        file.sync_all()?;
        return Ok(Some((record, generation)));
    }
    Ok(None)
}

/// The record of a draft as it is now, without a sum.
pub(in crate::write) fn describe(draft: &Draft, place: &Place<'_>) -> Record {
    Record {
        server: place.server.to_owned(),
        root: place.root.clone(),
        path: place.path.clone(),
        size: draft.size(),
        parts: draft.unsent().into_iter().filter(|part| !part.is_empty()).collect(),
        below: draft.below(place.is_new),
        at: SystemTime::now(),
        modified: draft.modified,
        mode: draft.mode,
        reason: place.reason.to_owned(),
        sum: None,
        turn: 0,
    }
}

pub(super) fn write_record(file: &File, record: &Record) -> io::Result<()> {
    let text = record.to_text().ok_or(io::ErrorKind::InvalidInput)?;
    let place = (record.turn % 2) * record::MAX_TEXT as u64;
    file.write_all_at(text.as_bytes(), place)
}

pub(super) enum Found {
    Entry(Box<Record>),
    /// Nothing has been acknowledged.
    Unfinished,
    Broken,
}

pub(super) fn read(file: &File) -> io::Result<Found> {
    let mut head = vec![0; BYTES_AT as usize];
    let mut filled = 0;
    while let Some(rest) = head.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    head.truncate(filled);
    let Some(record) = record_in(&head) else {
        return Ok(if head.iter().all(|&b| b == 0) { Found::Unfinished } else { Found::Broken });
    };
    match record.sum {
        Some(sum) if sum_of(file, &record)? != sum => Ok(Found::Broken),
        _ => Ok(Found::Entry(Box::new(record))),
    }
}

pub(super) fn sum_of(file: &File, record: &Record) -> io::Result<[u8; 32]> {
    let mut sum = Sha256::new();
    let mut buffer = vec![0; PIECE];
    for (at, len) in record.pieces() {
        let piece = buffer.get_mut(..len).unwrap_or_default();
        match file.read_exact_at(piece, BYTES_AT + at) {
            // Shorter than its record says.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok([0; 32]),
            read => read?,
        }
        sum.update(piece);
    }
    Ok(sum.finish())
}

/// Up to so many bytes a checksum takes less time than a second fsync().
const SUMMED: u64 = 32 << 20;
/// How often a draft is copied again because a program has written meanwhile.
const ATTEMPTS: u32 = 3;
