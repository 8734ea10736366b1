//! What `dir` prints on DOS and Windows: IIS in its default style, Windows CE, and many small servers.
//!
//! ```text
//! 04-27-00  12:09PM       <DIR>          folder
//! 04-14-2012  03:47PM                  589 file
//! 2002-09-02  19:06                9,730 file
//! ```
//!
//! IIS always writes month-day-year, whatever the country; a number that cannot be a month is a day even so. IIS pads the
//! name to a fixed column, so blanks beyond that are the name's own.

use super::time::{self, Clock, Order, is_blank, token};
use super::{Draft, Kind, Line, last_component};

/// Reads a line; none when it does not look like `dir`.
pub(super) fn parse<'a>(line: &'a [u8], clock: &Clock) -> Option<Line<'a>> {
    let (date, end) = token(line, 0)?;
    let order = if date.contains(&b'.') { Order::Dmy } else { Order::Mdy };
    let date = time::numeric_date(date, order)?;
    let (hour, mut end) = token(line, end)?;
    let mut modified = time::time_of_day(hour);
    // `3:25 PM`: the half of the day stands apart.
    if let Some((half @ ([b'a' | b'A' | b'p' | b'P'] | [b'a' | b'A' | b'p' | b'P', b'm' | b'M']), after)) =
        token(line, end)
    {
        let mut whole = [0; 16];
        let length = hour.len() + half.len();
        let glued = whole.get_mut(..length)?;
        let (front, back) = glued.split_at_mut(hour.len());
        front.copy_from_slice(hour);
        back.copy_from_slice(half);
        (modified, end) = (time::time_of_day(glued), after);
    }
    let (seconds, precision) = modified?;
    let (mark, end) = token(line, end)?;
    let (kind, size) = match mark {
        b"<DIR>" | b"<dir>" | b"<JUNCTION>" | b"<SYMLINKD>" => (Kind::Directory, None),
        b"<SYMLINK>" => (Kind::File, None),
        number => (Kind::File, Some(grouped_number(number)?)),
    };
    let rest = line.get(end..)?;
    let padding = if size.is_some() { 1 } else { MOST_PADDING };
    let blanks = rest.iter().take(padding).take_while(|b| is_blank(**b)).count();
    let mut name = rest.get(blanks..)?;
    // `dir` shows where a link or a junction leads behind its name.
    if matches!(mark, b"<JUNCTION>" | b"<SYMLINKD>" | b"<SYMLINK>")
        && name.ends_with(b"]")
        && let Some(at) = name.windows(2).position(|pair| pair == b" [")
    {
        name = name.get(..at)?;
    }
    Some(Line::Entry(Draft {
        name: last_component(name),
        kind,
        size,
        modified: clock.at(date, seconds, precision),
        mode: None,
        target: None,
    }))
}

/// `9,730`, `9.730` or `9730`: the separators of thousands say nothing.
fn grouped_number(number: &[u8]) -> Option<u64> {
    if !number.first()?.is_ascii_digit() {
        return None;
    }
    number.iter().filter(|b| !matches!(b, b',' | b'.' | 0xA0)).try_fold(0u64, |size, b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        size.checked_mul(10)?.checked_add(digit)
    })
}

/// Blanks that IIS puts behind `<DIR>`.
const MOST_PADDING: usize = 10;
