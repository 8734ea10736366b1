//! Systems that are met once in a lifetime, a few lines for each.
//!
//! ```text
//!        1123 DIR  A    10-05-100  23:38  OS/2
//! 206876  Apr 04, 2000 21:06 VShell
//!   2048    Feb-28-1998  05:23:30   VxWorks           <DIR>
//! wfFtp.image       1014196  06/03/04  Thur.   10:20:03
//! 0100644   500  101   12345    123456789       Unix in numbers
//! -C--E-----FTP B BCC3I1       7670  1294495 Jan 13 07:42 Connect:Enterprise
//! GUARDIAN   101            16354 18-Mar-09 15:09:12 244, 10 "NNNN"
//! ```
//!
//! Each needs a date (or a time) where it belongs, so that no text is taken for a file.

use std::time::{Duration, UNIX_EPOCH};

use super::time::{self, Clock, Order, token};
use super::unix::find_date;
use super::{Draft, Kind, Line, Modified, Precision};

/// Reads a line of any of them.
pub(super) fn parse<'a>(line: &'a [u8], clock: &Clock) -> Option<Line<'a>> {
    if is_header(line) {
        return Some(Line::Noise);
    }
    let draft = os2(line, clock)
        .or_else(|| vshell(line, clock))
        .or_else(|| vxworks(line, clock))
        .or_else(|| unix_in_numbers(line))
        .or_else(|| guardian(line, clock))
        .or_else(|| wf_ftp(line, clock))
        .or_else(|| connect_enterprise(line, clock))?;
    Some(Line::Entry(draft))
}

/// The headers of Guardian (`File Code EOF ...`) and VxWorks (`size date time name`, and the rules below it).
fn is_header(line: &[u8]) -> bool {
    let has = |word: &[u8]| line.split(|b| time::is_blank(*b)).any(|other| other == word);
    has(b"File") && has(b"Code") && has(b"EOF")
        || has(b"size") && has(b"date") && has(b"time") && has(b"name")
        || has(b"--------") && line.iter().all(|b| time::is_blank(*b) || *b == b'-')
}

/// OS/2: size, `DIR`, attributes, date with the years since 1900, time, name.
fn os2<'a>(line: &'a [u8], clock: &Clock) -> Option<Draft<'a>> {
    let (size, mut end) = token(line, 0)?;
    let size = super::size(size)?;
    let mut kind = Kind::File;
    for _ in 0..3 {
        let (column, after) = token(line, end)?;
        end = after;
        if let Some(date) = time::numeric_date(column, Order::Mdy) {
            let (at, end) = token(line, end)?;
            let (seconds, precision) = time::time_of_day(at)?;
            let name = line.get(end..)?.trim_ascii_start();
            let size = Some(size).filter(|_| kind == Kind::File);
            return Some(Draft {
                kind,
                size,
                modified: clock.at(date, seconds, precision),
                ..Draft::named(name)
            });
        }
        match column {
            b"DIR" => kind = Kind::Directory,
            attributes if attributes.iter().all(|b| b"RHSA".contains(b)) => {}
            _ => return None,
        }
    }
    None
}

/// VShell before version 2.2: size, `Apr 04, 2000 21:06`, name; a slash marks a folder.
fn vshell<'a>(line: &'a [u8], clock: &Clock) -> Option<Draft<'a>> {
    let (size, end) = token(line, 0)?;
    let size = super::size(size)?;
    let (month, _) = token(line, end)?;
    time::month(month)?;
    let rest = line.get(end..)?.trim_ascii_start();
    let (modified, length) = time::unix_date(rest, clock)?;
    let name = rest.get(length + 1..)?;
    Some(match name.strip_suffix(b"/") {
        Some(folder) => Draft { kind: Kind::Directory, modified, ..Draft::named(folder) },
        None => Draft { size: Some(size), modified, ..Draft::named(name) },
    })
}

/// VxWorks: size, `Feb-28-1998`, time, name, perhaps `<DIR>` at the end.
fn vxworks<'a>(line: &'a [u8], clock: &Clock) -> Option<Draft<'a>> {
    let (size, end) = token(line, 0)?;
    let size = super::size(size)?;
    let (date, end) = token(line, end)?;
    let date = time::day_month_year(date)?;
    let (at, end) = token(line, end)?;
    let (seconds, precision) = time::time_of_day(at)?;
    let modified = clock.at(date, seconds, precision);
    let name = line.get(end..)?.trim_ascii();
    Some(match name.strip_suffix(b"<DIR>") {
        Some(folder) => Draft { kind: Kind::Directory, modified, ..Draft::named(folder.trim_ascii_end()) },
        None => Draft { size: Some(size), modified, ..Draft::named(name) },
    })
}

/// Type and permissions in octal, user, group, size, seconds since 1970, name.
fn unix_in_numbers(line: &[u8]) -> Option<Draft<'_>> {
    let (mode, end) = token(line, 0)?;
    if !(6..=7).contains(&mode.len()) {
        return None;
    }
    // The four bits above the permissions: S_IFREG and its like.
    let kind = match mode.strip_prefix(b"0").unwrap_or(mode).split_last_chunk::<4>()?.0 {
        b"10" => Kind::File,
        b"4" | b"04" => Kind::Directory,
        b"12" => Kind::Symlink,
        b"1" | b"01" | b"2" | b"02" | b"6" | b"06" | b"14" => Kind::Special,
        _ => return None,
    };
    let mode = Some(super::octal(mode)?);
    let (user, end) = token(line, end)?;
    let (group, end) = token(line, end)?;
    super::size(user).and(super::size(group))?;
    let (size, end) = token(line, end)?;
    let size = Some(super::size(size)?);
    let (seconds, end) = token(line, end)?;
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(super::size(seconds)?))?;
    let modified = Some(Modified { at, precision: Precision::Second });
    let name = line.get(end..)?.trim_ascii_start();
    Some(Draft { kind, size, modified, mode, ..Draft::named(name) })
}

/// NonStop Guardian: name, code, bytes, date, time, owner, security.
fn guardian<'a>(line: &'a [u8], clock: &Clock) -> Option<Draft<'a>> {
    let (name, end) = token(line, 0)?;
    let (code, end) = token(line, end)?;
    // An O behind the code says that the file is open.
    time::number(code.strip_suffix(b"O").unwrap_or(code))?;
    let (size, end) = token(line, end)?;
    let size = Some(super::size(size)?);
    let (date, end) = token(line, end)?;
    let date = time::day_month_year(date)?;
    let (at, _) = token(line, end)?;
    let (seconds, precision) = time::time_of_day(at)?;
    Some(Draft { size, modified: clock.at(date, seconds, precision), ..Draft::named(name) })
}

/// Nortel's wfFtp: name, bytes, date, day of the week, time.
fn wf_ftp<'a>(line: &'a [u8], clock: &Clock) -> Option<Draft<'a>> {
    let (name, end) = token(line, 0)?;
    let (size, end) = token(line, end)?;
    let size = Some(super::size(size)?);
    let (date, end) = token(line, end)?;
    let date = time::numeric_date(date, Order::Mdy)?;
    let (_weekday, end) = token(line, end)?;
    let (at, end) = token(line, end)?;
    let (seconds, precision) = time::time_of_day(at)?;
    let modified = clock.at(date, seconds, precision);
    token(line, end).is_none().then(|| Draft { size, modified, ..Draft::named(name) })
}

/// Sterling Connect:Enterprise: ten flags, then columns that end as those of Unix do.
fn connect_enterprise<'a>(line: &'a [u8], clock: &Clock) -> Option<Draft<'a>> {
    let (flags, columns) = line.split_at_checked(10)?;
    if !flags.starts_with(b"-") || !flags.iter().all(|b| b.is_ascii_uppercase() || *b == b'-') {
        return None;
    }
    let found = find_date(columns, |text| time::unix_date(text, clock))?;
    Some(Draft { size: found.size, modified: found.modified, ..Draft::named(found.name) })
}
