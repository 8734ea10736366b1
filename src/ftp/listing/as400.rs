//! IBM i (OS/400, AS/400) in its own style, list format 0.
//!
//! ```text
//! JOE             77824 02/23/00 15:09:55 *DIR       folder/
//! JOE              1024 02/23/00 15:10:02 *STMF      file
//! JOE                                     *MEM       SOURCE.FILE/MAIN.MBR
//! ```
//!
//! The date comes in the order that the server's job has: all three exist. One that could be two days is left out, rather
//! than wrong: MDTM tells.

use super::time::{self, Clock, Order, token};
use super::{Draft, Kind, Line, last_component};

/// Reads a line; none when it has no type like `*STMF`.
pub(super) fn parse<'a>(line: &'a [u8], clock: &Clock) -> Option<Line<'a>> {
    let (_owner, end) = token(line, 0)?;
    let (mut column, mut end) = token(line, end)?;
    let mut size = None;
    let mut modified = None;
    if column.iter().all(u8::is_ascii_digit) {
        size = super::size(column);
        (column, end) = token(line, end)?;
    }
    if column.contains(&b'/') {
        let (at, after) = token(line, end)?;
        let (seconds, precision) = time::time_of_day(at)?;
        let orders = [Order::Ymd, Order::Mdy, Order::Dmy];
        if orders.iter().all(|order| strictly(column, *order).is_none()) {
            return None;
        }
        // Only when all the orders that make sense agree.
        let days = orders.iter().filter_map(|order| clock.at(strictly(column, *order)?, seconds, precision));
        let mut days = days.filter(|day| clock.is_past(day));
        modified = days.next();
        if days.any(|other| Some(other) != modified) {
            modified = None;
        }
        (column, end) = token(line, after)?;
    }
    let kind = kind(column)?;
    let name = line.get(end..)?.trim_ascii();
    // A file of records is a folder of members, except a save file.
    let kind =
        if column == b"*FILE" && name.to_ascii_uppercase().ends_with(b".SAVF") { Kind::File } else { kind };
    let size = size.filter(|_| kind == Kind::File);
    Some(Line::Entry(Draft { name: last_component(name), kind, size, modified, mode: None, target: None }))
}

/// The date in this order and no other.
fn strictly(column: &[u8], order: Order) -> Option<(i64, i64, i64)> {
    let date = time::numeric_date(column, order)?;
    let mut parts = column.split(|b| *b == b'/');
    let first = time::number(parts.next()?)?;
    let second = time::number(parts.next()?)?;
    let is_kept = match order {
        Order::Mdy => (first, second) == (date.1, date.2),
        Order::Dmy => (first, second) == (date.2, date.1),
        Order::Ymd => second == date.1,
    };
    is_kept.then_some(date)
}

fn kind(column: &[u8]) -> Option<Kind> {
    let word = column.strip_prefix(b"*")?;
    if word.is_empty()
        || word.len() > 10
        || !word.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    {
        return None;
    }
    Some(match word {
        b"DIR" | b"DDIR" | b"LIB" | b"FLR" | b"FILE" => Kind::Directory,
        b"STMF" | b"DSTMF" | b"DOC" | b"MEM" => Kind::File,
        b"SYMLNK" => Kind::Symlink,
        _ => Kind::Special,
    })
}
