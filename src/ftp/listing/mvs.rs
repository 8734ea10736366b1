//! z/OS (MVS): data sets, members of partitioned data sets, and jobs. (Its Unix side prints what Unix prints.)
//!
//! ```text
//! Volume Unit    Referred Ext Used Recfm Lrecl BlkSz Dsorg Dsname
//! PUB001 3390   2026/03/12  1   15  FB      80 27920  PO  SOURCE
//! Migrated                                                OLD.DATA
//!
//!  Name     VV.MM   Created       Changed      Size  Init   Mod   Id
//! IEASYS00  01.05 2024/01/15 2025/06/20 09:37    45    45     3 JOE
//! NOSTATS
//!
//! JOBNAME  JOBID    OWNER    STATUS CLASS
//! JOEA     JOB02094 JOE      OUTPUT A        RC=0000 3 spool files
//! ```
//!
//! The lines are nearly free of form, so they are only read below their header. Sizes are told in tracks and records,
//! which are not bytes, and `Referred` is the last use, not the last change: both are left out. A partitioned data set is
//! a folder; VSAM cannot be retrieved.

use super::time::{self, Clock, Order, token};
use super::{Dialect, Draft, Kind, Line};

/// Reads one of the headers, which says how the lines below it are to be read.
pub(super) fn heading(line: &[u8]) -> Option<Line<'static>> {
    let (first, end) = token(line, 0)?;
    let (second, end) = token(line, end)?;
    let (third, _) = token(line, end)?;
    let dialect = match (first, second, third) {
        (b"Volume", b"Unit", _) => Dialect::MvsDataSets,
        (b"Name", b"VV.MM", _) | (b"Name", b"Size", b"TTR") => Dialect::MvsMembers,
        (b"JOBNAME", b"JOBID", _) => Dialect::MvsJobs,
        _ => return None,
    };
    Some(Line::Heading(dialect))
}

/// Reads a line below `Volume Unit`.
pub(super) fn data_set(line: &[u8]) -> Option<Line<'_>> {
    let line = line.trim_ascii();
    let start = line.iter().rposition(|b| time::is_blank(*b))? + 1;
    let (columns, name) = (line.get(..start)?.trim_ascii_end(), line.get(start..)?);
    // SITE QUOTES: fully qualified names in quotes.
    let name = name.strip_prefix(b"'").and_then(|name| name.strip_suffix(b"'")).unwrap_or(name);
    if name.len() > 44 || !name.split(|b| *b == b'.').all(is_qualifier) {
        return None;
    }
    let organisation = columns.rsplit(|b| time::is_blank(*b)).next()?;
    let kind = match organisation {
        b"PO" | b"PO-E" | b"POE" | b"Directory" => Kind::Directory,
        b"VSAM" | b"GDG" | b"AIX" | b"PATH" | b"UCAT" => Kind::Special,
        _ => Kind::File,
    };
    Some(Line::Entry(Draft { kind, ..Draft::named(name) }))
}

/// Reads a line below `Name VV.MM` (members with or without statistics) or `Name Size TTR` (load modules).
pub(super) fn member<'a>(line: &'a [u8], clock: &Clock) -> Option<Line<'a>> {
    let (name, end) = token(line, 0)?;
    if !is_qualifier(name) {
        return None;
    }
    let mut draft = Draft::named(name);
    let Some((version, end)) = token(line, end) else { return Some(Line::Entry(draft)) };
    if let Some(dot) = version.iter().position(|b| *b == b'.') {
        let (version, modification) = (version.get(..dot)?, version.get(dot + 1..)?);
        time::number(version).and(time::number(modification))?;
        let (_created, end) = token(line, end)?;
        let (changed, end) = token(line, end)?;
        let date = time::numeric_date(changed, Order::Ymd)?;
        let (seconds, precision) =
            token(line, end).and_then(|(at, _)| time::time_of_day(at)).unwrap_or((0, super::Precision::Day));
        draft.modified = clock.at(date, seconds, precision);
    } else if version.len() != 6 || !version.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    Some(Line::Entry(draft))
}

/// Reads a line below `JOBNAME JOBID`: a job is retrieved by its number. Its steps and spool files are details.
pub(super) fn job(line: &[u8]) -> Option<Line<'_>> {
    if line.first().is_some_and(|b| time::is_blank(*b) || *b == b'-') {
        return Some(Line::Noise);
    }
    let (name, end) = token(line, 0)?;
    let (number, end) = token(line, end)?;
    token(line, end)?;
    let is_job = is_qualifier(name)
        && (5..=8).contains(&number.len())
        && matches!(number.first(), Some(b'J' | b'T' | b'S'))
        && number.last().is_some_and(u8::is_ascii_digit);
    is_job.then(|| Line::Entry(Draft::named(number)))
}

/// Up to eight letters, digits, national characters and hyphens.
fn is_qualifier(name: &[u8]) -> bool {
    let is_allowed = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b"#@$-{}".contains(b);
    (1..=8).contains(&name.len()) && name.iter().all(is_allowed)
}
