//! VMS: names with versions, sizes in blocks, and long names on lines of their own.
//!
//! ```text
//! Directory DISK$USER:[JOE]
//!
//! LOGIN.COM;3                  2/3     19-NOV-2001 21:41:03  [STAFF,JOE]  (RWED,RWED,RE,)
//! SOURCES.DIR;1                1/3      2-JUL-2003 10:30     [STAFF,JOE]  (RWE,RWE,RE,RE)
//! A_NAME_TOO_LONG_FOR_THE_COLUMN.TXT;1
//!                              4/6     24-APR-2003 08:16:15  [STAFF,JOE]  (RWED,RWED,RE,)
//!
//! Total of 3 files, 7/12 blocks.
//! ```
//!
//! The version goes: without it every command means the newest, which is also the first to be listed. A folder is a file
//! called `.DIR`, and is entered without that. Blocks are not bytes, so there is no size: SIZE has to tell.

use super::time::{self, Clock, is_blank, token};
use super::{Draft, Kind, Line};

/// Reads a line, also one made of two ([`Line::Continues`]); none when no `;version` is in it.
pub(super) fn parse<'a>(line: &'a [u8], clock: &Clock) -> Option<Line<'a>> {
    if is_framing(line) {
        return Some(Line::Noise);
    }
    let rest = line.get(versioned_name(line)?.with_version..)?;
    if rest.iter().all(|b| is_blank(*b)) {
        return Some(Line::Continues);
    }
    let mut draft = name_only(line)?;
    let mut at = 0;
    let mut told_date = false;
    for _ in 0..MOST_COLUMNS {
        let Some((column, end)) = token(rest, at) else { break };
        if let Some(date) = time::day_month_year(column) {
            let next = token(rest, end).and_then(|(next, _)| time::time_of_day(next));
            let (seconds, precision) = next.unwrap_or((0, super::Precision::Day));
            draft.modified = clock.at(date, seconds, precision);
            told_date = true;
            break;
        }
        // A month in a language nobody knows is still a date.
        told_date |= column.split(|b| *b == b'-').count() == 3;
        at = end;
    }
    // The file is there even when the server may not look at it: `%RMS-E-PRV, insufficient privilege`.
    let is_refused =
        rest.trim_ascii_start().starts_with(b"%") || rest.trim_ascii_start().starts_with(b"insuff");
    (told_date || is_refused).then_some(Line::Entry(draft))
}

/// The entry of a line that holds nothing but a name.
pub(super) fn name_only(line: &[u8]) -> Option<Draft<'_>> {
    let name = versioned_name(line)?.name;
    let (stem, extension) = name.split_at_checked(name.len().saturating_sub(4)).unwrap_or((name, b""));
    if extension.eq_ignore_ascii_case(b".dir") {
        return Some(Draft { kind: Kind::Directory, ..Draft::named(stem) });
    }
    Some(Draft::named(name))
}

struct Versioned<'a> {
    name: &'a [u8],
    /// Bytes of name and version.
    with_version: usize,
}

/// `NAME.EXT;12` at the start of a line. A path in front of it (`[JOE]NAME.EXT;12`) goes.
fn versioned_name(line: &[u8]) -> Option<Versioned<'_>> {
    let length = line.iter().position(|b| is_blank(*b)).unwrap_or(line.len());
    let first = line.get(..length)?;
    let semicolon = first.iter().rposition(|b| *b == b';')?;
    let version = first.get(semicolon + 1..)?;
    if version.is_empty() || version.len() > 5 || !version.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let name = first.get(..semicolon)?;
    let start = name.iter().rposition(|b| *b == b']').map_or(0, |bracket| bracket + 1);
    Some(Versioned { name: name.get(start..)?, with_version: length })
}

/// The lines around the files.
fn is_framing(line: &[u8]) -> bool {
    let is_header = line.starts_with(b"Directory ") && line.iter().any(|b| matches!(b, b'[' | b':'));
    let words = line.strip_prefix(b"Grand total of ").or_else(|| line.strip_prefix(b"Total of "));
    is_header || words.is_some_and(|words| words.first().is_some_and(u8::is_ascii_digit))
}

/// Size, date, time, owner and protection, in any order.
const MOST_COLUMNS: usize = 8;
