//! The date in the columns of `ls -l`, in all its orders: `Nov 21 06:09`, `21 Nov 2020`, `2020-01-02 03:04`, `11月 21`.
//!
//! The form is told by the first column's first byte and then by what follows; nothing is guessed that could also be the
//! size before the date or the name behind it.

use super::{
    Clock, Order, day_month_year, four_digits, month, number, numeric_date, time_of_day, token, two_digits,
};
use crate::ftp::listing::{Modified, Precision};

/// The date at the start of `text`, as the tools of Unix write it: what it says, and how many bytes it takes.
///
/// The outer `None` says that this is no date; the inner one that it is a date which tells nothing (`------------`).
pub(in super::super) fn unix_date(text: &[u8], clock: &Clock) -> Option<(Option<Modified>, usize)> {
    let first = *text.first()?;
    let (token, end) = token(text, 0)?;
    if first.is_ascii_digit() {
        return digits_first(text, token, end, clock);
    }
    if first == b'-' || first == b'?' {
        return unknown_date(text, first);
    }
    day_and_rest(text, end, month(token)?, None, clock)
}

/// What follows a month's name: a day, then a time, a year, or both.
fn day_and_rest(
    text: &[u8],
    end: usize,
    month: i64,
    year: Option<i64>,
    clock: &Clock,
) -> Option<(Option<Modified>, usize)> {
    let (day, end) = token(text, end)?;
    let day = two_digits(unit(day.strip_suffix(b",").unwrap_or(day)))?;
    if let Some(year) = year {
        return Some((Some(clock.at((year, month, day), 0, Precision::Day)?), end));
    }
    time_or_year(text, end, month, day, clock)
}

/// What follows a month and a day: `HH:MM`, a year, `HH:MM:SS` and a year, or a year (with a comma before it) and `HH:MM`.
fn time_or_year(
    text: &[u8],
    end: usize,
    month: i64,
    day: i64,
    clock: &Clock,
) -> Option<(Option<Modified>, usize)> {
    let comma = end.checked_sub(1).and_then(|at| text.get(at)) == Some(&b',');
    let (next, end) = token(text, end)?;
    if let Some((seconds, precision)) = time_of_day(next) {
        // BSD's `ls -lT`. Only after seconds: `12:30 2020` is a time and a name.
        if precision == Precision::Second
            && let Some((year, end)) = token(text, end)
            && let Some(year) = four_digits(year)
            && let Some(modified) = clock.at((year, month, day), seconds, precision)
        {
            return Some((Some(modified), end));
        }
        return Some((Some(clock.recent(month, day, seconds, precision)?), end));
    }
    let year = four_digits(unit(next))?;
    // VShell: `Oct 08, 2002 09:47`. The comma is what says that a time follows.
    if comma
        && let Some((time, end)) = token(text, end)
        && let Some((seconds, precision)) = time_of_day(time)
    {
        return Some((Some(clock.at((year, month, day), seconds, precision)?), end));
    }
    Some((Some(clock.at((year, month, day), 0, Precision::Day)?), end))
}

/// A date that starts with a digit: ISO and other numbers, `21 Nov`, `11月 21`, `2003 3月 20`.
fn digits_first(text: &[u8], first: &[u8], end: usize, clock: &Clock) -> Option<(Option<Modified>, usize)> {
    let digits = first.iter().take_while(|b| b.is_ascii_digit()).count();
    match first.get(digits) {
        Some(b'-' | b'/') if digits <= 4 => numeric_forms(text, first, end, clock),
        // `11月`, `11월` and the like in whatever encoding; a day may be glued to it.
        Some(0x80..) if digits <= 2 => {
            let month = two_digits(first.get(..digits)?)?;
            let glued = first.get(digits..)?;
            match glued.iter().position(u8::is_ascii_digit) {
                None => day_and_rest(text, end, month, None, clock),
                Some(at) => {
                    let day = two_digits(unit(glued.get(at..)?))?;
                    time_or_year(text, end, month, day, clock)
                }
            }
        }
        None | Some(b'.') if digits <= 2 => {
            let day = two_digits(first.strip_suffix(b".").unwrap_or(first))?;
            let (name, end) = token(text, end)?;
            let month = month(name.strip_suffix(b",").unwrap_or(name))?;
            let (date, end) = time_or_year(text, end, month, day, clock)?;
            Some((date, end))
        }
        // `2003 3月 20`, `2003年 3月 20日`.
        None | Some(0x80..) if digits == 4 => {
            let year = four_digits(unit(first))?;
            let (name, end) = token(text, end)?;
            let month = two_digits(unit(name)).filter(|_| name.last().is_some_and(|b| *b >= 0x80))?;
            let found = day_and_rest(text, end, month, Some(year), clock)?;
            // With a time or a year behind it, the "year" was the size and the month starts the date.
            let after = token(text, found.1).map_or(&b""[..], |(next, _)| next);
            (time_of_day(after).is_none() && four_digits(unit(after)).is_none()).then_some(found)
        }
        _ => None,
    }
}

/// `2020-01-02 03:04[:05[.6]] [+0100]`, `2020-01-02`, `01-02 03:04`, `01-02 2020`, `24-04-2003 17:12`, `01-jun-99`.
fn numeric_forms(text: &[u8], first: &[u8], end: usize, clock: &Clock) -> Option<(Option<Modified>, usize)> {
    let next = token(text, end);
    if let [_, _, b'-', _, _] = first {
        let (month, day) = (two_digits(first.get(..2)?)?, two_digits(first.get(3..)?)?);
        return time_or_year(text, end, month, day, clock);
    }
    // Without slashes a date in the middle of a Unix line is the user's own (ISO, or day first).
    let order = if first.contains(&b'/') { Order::Mdy } else { Order::Dmy };
    let date = numeric_date(first, order).or_else(|| day_month_year(first))?;
    if let Some((time, end)) = next
        && let Some((seconds, precision)) = time_of_day(time)
    {
        // GNU's full-iso tells its own zone.
        if let Some((zone, after)) = token(text, end)
            && let Some(zone) = zone_offset(zone)
            && precision == Precision::Second
        {
            return Some((Some(clock.in_zone(zone).at(date, seconds, precision)?), after));
        }
        return Some((Some(clock.at(date, seconds, precision)?), end));
    }
    // GNU's iso style pads a date without a time to the width of one with.
    let padded = text.get(end..).is_some_and(|rest| rest.starts_with(b"  "));
    Some((Some(clock.at(date, 0, Precision::Day)?), end + usize::from(padded)))
}

/// `------------` (Apache FtpServer before 1970) and `??? ?? ?????` (FileZilla's dangling links).
fn unknown_date(text: &[u8], mark: u8) -> Option<(Option<Modified>, usize)> {
    let mut end = 0;
    for expected in if mark == b'-' { [12, 0, 0] } else { [3, 2, 5] } {
        if expected == 0 {
            break;
        }
        let (marks, after) = token(text, end)?;
        if marks.len() != expected || marks.iter().any(|b| *b != mark) {
            return None;
        }
        end = after;
    }
    Some((None, end))
}

/// `+0100`, `-0330`: seconds.
fn zone_offset(token: &[u8]) -> Option<i64> {
    let (sign, digits) = token.split_first()?;
    if digits.len() != 4 {
        return None;
    }
    let seconds = number(digits.get(..2)?)? * 3600 + number(digits.get(2..)?)? * 60;
    match sign {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

/// The number in front of a unit that is written without a blank: `21日`, `2020年`.
fn unit(token: &[u8]) -> &[u8] {
    let digits = token.iter().take_while(|b| b.is_ascii_digit()).count();
    match token.split_at(digits) {
        (number, [unit, ..]) if *unit >= 0x80 => number,
        _ => token,
    }
}
