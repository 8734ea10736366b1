//! What `ls -l` prints, and everything that imitates it: nearly every server there is.
//!
//! ```text
//! -rw-r--r--    1 joe      users        1234 Nov 21 06:09 name to the end of the line
//! lrwxrwxrwx  1 joe  users  7 May  3  2020 link -> target
//! brw-r-----  1 root root 7,   0 2020-01-02 03:04 device
//! ```
//!
//! The columns between the permissions and the date cannot be counted: groups are missing, owners hold blanks, numbers
//! grow together. So the date is looked for instead: the leftmost place where a date that makes sense follows a number
//! (the size). One blank behind it the name starts, and goes to the end of the line with all the blanks it has.

use super::time::{self, Clock, is_blank, token};
use super::{Draft, Kind, Line, Modified, last_component};

/// Reads a line; none when it does not look like `ls -l`.
pub(super) fn parse<'a>(line: &'a [u8], clock: &Clock) -> Option<Line<'a>> {
    let (letter, mode, columns) = permissions(skip_inode_and_blocks(line))?;
    let found = find_date(columns, |rest| time::unix_date(rest, clock))
        .or_else(|| find_date(columns, date_in_an_unknown_language))?;
    let kind = match letter {
        b'-' | b'C' | b'm' => Kind::File,
        b'd' => Kind::Directory,
        b'l' => Kind::Symlink,
        _ => Kind::Special,
    };
    let (name, target) = name_and_target(found.name, kind);
    let size = found.size.filter(|_| kind != Kind::Special);
    Some(Line::Entry(Draft {
        name: last_component(name),
        kind,
        size,
        modified: found.modified,
        mode,
        target,
    }))
}

/// The letter of the type, the bits, and what follows.
fn permissions(line: &[u8]) -> Option<(u8, Option<u32>, &[u8])> {
    let (&letter, rest) = line.split_first()?;
    if !b"-dlpscbDCmMnw".contains(&letter) {
        return None;
    }
    let letters: &[u8; 9] = rest.first_chunk()?;
    let mut mode = 0;
    for (index, byte) in letters.iter().enumerate() {
        let bit = 0o400 >> index;
        // The bit that shares the place of user's, group's and others' x: 4000, 2000, 1000.
        let special = 0o4000 >> (index / 3);
        mode |= match (index % 3, byte) {
            (_, b'-') => 0,
            (0, b'r') | (1, b'w') | (2, b'x') => bit,
            (2, b's' | b't') => bit | special,
            (2, b'S' | b'T') => special,
            // System V's mandatory locking: set-group-ID without x.
            (2, b'l' | b'L') => special,
            _ => return None,
        };
    }
    let rest = rest.get(9..)?;
    let rest = match rest.split_first() {
        // Access control list, SELinux context, extended attributes.
        Some((b'+' | b'.' | b'@' | b'*', rest)) => rest,
        _ => rest,
    };
    // A number of links with many digits grows into the permissions.
    rest.first().filter(|b| is_blank(**b) || b.is_ascii_digit())?;
    Some((letter, Some(mode), rest))
}

/// What stands around a date.
pub(super) struct Found<'a> {
    pub(super) size: Option<u64>,
    pub(super) modified: Option<Modified>,
    pub(super) name: &'a [u8],
}

/// The leftmost date behind a number.
pub(super) fn find_date<'a>(
    columns: &'a [u8],
    date: impl Fn(&[u8]) -> Option<(Option<Modified>, usize)>,
) -> Option<Found<'a>> {
    let mut at = 0;
    let mut previous: &[u8] = &[];
    for _ in 0..MOST_COLUMNS {
        let (column, end) = token(columns, at)?;
        let start = end - column.len();
        if looks_like_a_size(previous)
            && let Some((modified, length)) = date(columns.get(start..)?)
        {
            // One blank ends the date; any more belong to the name.
            let name = columns.get(start + length + 1..).unwrap_or_default();
            return Some(Found { size: size_of(previous), modified, name });
        }
        (previous, at) = (column, end);
    }
    None
}

/// A number, also with separators of thousands, a unit, a sign (32 bits were not enough), or of a device (`7,0`).
fn looks_like_a_size(column: &[u8]) -> bool {
    let column = column.strip_prefix(b"-").unwrap_or(column);
    // Owners that grow into the size: `longgroup123456`.
    column.first().is_some_and(u8::is_ascii_digit)
        && column.iter().all(|b| b.is_ascii_digit() || b",.kKMGTPB".contains(b))
        || column.len() > 8 && column.last().is_some_and(u8::is_ascii_digit)
}

fn size_of(column: &[u8]) -> Option<u64> {
    if column.contains(&b',') && column.split(|b| *b == b',').skip(1).all(|group| group.len() == 3) {
        return column.iter().filter(|b| **b != b',').try_fold(0u64, |size, b| {
            let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
            size.checked_mul(10)?.checked_add(digit)
        });
    }
    super::size(column)
}

/// A date that says nothing, but where it ends: a word, a day, and a time or year (a month in a language that nobody knows,
/// a day that does not exist), or numbers with a time behind them. The entry matters more than its date.
fn date_in_an_unknown_language(text: &[u8]) -> Option<(Option<Modified>, usize)> {
    let (first, end) = token(text, 0)?;
    let (second, end_of_second) = token(text, end)?;
    let is_time = |part: &[u8]| part.contains(&b':') && part.iter().all(|b| b.is_ascii_digit() || *b == b':');
    let separators = first.iter().filter(|b| matches!(b, b'-' | b'/' | b'.')).count();
    let digits = first.iter().filter(|b| b.is_ascii_digit()).count();
    if separators == 2 && digits >= 4 && separators + digits == first.len() && is_time(second) {
        return Some((None, end_of_second));
    }
    let (third, end) = token(text, end_of_second)?;
    let is_word = |part: &[u8]| part.iter().any(|b| b.is_ascii_alphabetic() || *b >= 0x80);
    let is_day = |part: &[u8]| {
        let digits = part.iter().take_while(|b| b.is_ascii_digit()).count();
        (1..=2).contains(&digits) && !part.iter().skip(digits).any(u8::is_ascii_alphanumeric)
    };
    let is_year = third.len() == 4
        && (third.starts_with(b"19") || third.starts_with(b"20"))
        && time::number(third).is_some();
    let is_date = is_day(first) && is_word(second) || is_word(first) && is_day(second);
    (is_date && (is_time(third) || is_year)).then_some((None, end))
}

/// `ls -i` and `ls -s` put one or two numbers before the permissions; STAT puts a blank there.
fn skip_inode_and_blocks(line: &[u8]) -> &[u8] {
    let mut rest = line.trim_ascii_start();
    for _ in 0..2 {
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 || !rest.get(digits).is_some_and(|b| is_blank(*b)) {
            break;
        }
        rest = rest.get(digits..).unwrap_or_default().trim_ascii_start();
    }
    rest
}

/// Only links have a target, and only the first arrow is one: a target may hold another.
fn name_and_target(name: &[u8], kind: Kind) -> (&[u8], Option<&[u8]>) {
    if kind != Kind::Symlink {
        return (name, None);
    }
    match name.windows(ARROW.len()).position(|part| part == ARROW) {
        Some(at) => {
            let target = name.get(at + ARROW.len()..).filter(|target| !target.is_empty());
            (name.get(..at).unwrap_or_default(), target)
        }
        None => (name, None),
    }
}

const ARROW: &[u8] = b" -> ";

/// Owners with several blanks, inode, blocks and devices included; the search must end somewhere.
const MOST_COLUMNS: usize = 16;
