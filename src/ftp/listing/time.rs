//! Dates and times as listings and `213` replies spell them.
//!
//! Two worlds. MLSD, MLST and MDTM have one exact form in UTC ([`parse_time`], RFC 3659 section 2.3). LIST has as many
//! forms as there were authors of servers: without a year, without a time, in the server's language and in the server's
//! zone, so a [`Clock`] (what time is it, and how far is the server's clock from UTC) turns them into a [`Modified`].
//!
//! Everything here takes bytes from the network: impossible dates are none, never a panic, and a form that is not known
//! costs the date and not the entry.

mod columns;
mod months;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(super) use self::columns::unix_date;
pub(super) use self::months::month;
use super::{Modified, Precision, Zone};

/// Reads a time as MDTM, `modify` and MFMT spell it: `YYYYMMDDHHMMSS[.fraction]`, UTC (RFC 3659 section 2.3).
///
/// Also takes the `19100` of servers that glue "19" before the years since 1900. Blanks around it are ignored; anything
/// else that does not belong, and dates that do not exist (year 0, 31 February), give none.
pub fn parse_time(text: &[u8]) -> Option<SystemTime> {
    let text = text.trim_ascii();
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let (stamp, rest) = text.split_at(digits);
    let (year, rest_of_stamp) = match digits {
        14 => (number(stamp.get(..4)?)?, stamp.get(4..)?),
        // A year of 100 and more behind a fixed "19": 19100 is 2000.
        15 if stamp.starts_with(b"191") => (1900 + number(stamp.get(2..5)?)?, stamp.get(5..)?),
        _ => return None,
    };
    let mut pairs = [0; 5];
    for (pair, digits) in pairs.iter_mut().zip(rest_of_stamp.chunks(2)) {
        *pair = number(digits)?;
    }
    let [month, day, hour, minute, second] = pairs;
    let seconds = days(year, month, day)? * DAY + seconds_of_day(hour, minute, second)?;
    let nanos = match rest.split_first() {
        None => 0,
        Some((b'.', fraction)) if fraction.iter().all(u8::is_ascii_digit) => {
            fraction.iter().chain(b"000000000").take(9).fold(0, |n, b| n * 10 + u32::from(b - b'0'))
        }
        Some(_) => return None,
    };
    since_epoch(seconds)?.checked_add(Duration::from_nanos(nanos.into()))
}

/// What a LIST date is read against.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    /// The server's local time, in seconds since 1970 as if it were UTC.
    local_now: i64,
    zone: Zone,
}

impl Clock {
    /// The clock of a server in that zone.
    pub(super) fn new(now: SystemTime, zone: Zone) -> Self {
        let now = match now.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |s| -s),
        };
        Self { local_now: now.saturating_add(zone.ahead_at(now)), zone }
    }

    /// A full date with a time of the day in seconds.
    pub(super) fn at(&self, date: (i64, i64, i64), seconds: i64, precision: Precision) -> Option<Modified> {
        let (year, month, day) = date;
        let local = days(year, month, day)? * DAY + seconds;
        Some(Modified { at: since_epoch(local - self.zone.ahead_at_local(local))?, precision })
    }

    /// The same clock where a date tells its zone.
    fn in_zone(&self, seconds: i64) -> Self {
        Self { local_now: self.local_now, zone: Zone::Fixed(seconds) }
    }

    /// Whether a time is not in the future (with a day of slack).
    pub(super) fn is_past(&self, modified: &Modified) -> bool {
        since_epoch(
            self.local_now.saturating_sub(self.zone.ahead_at_local(self.local_now)).saturating_add(DAY),
        )
        .is_none_or(|now| modified.at <= now)
    }

    /// A date without its year: the last such day that is not in the future.
    ///
    /// A day of slack is left for servers whose zone is not known, and for files from a clock that runs ahead. Servers
    /// that leave the year out of dates far in the future (six of those measured) cannot be told apart: MDTM decides.
    pub(super) fn recent(
        &self,
        month: i64,
        day: i64,
        seconds: i64,
        precision: Precision,
    ) -> Option<Modified> {
        let this_year = year_of(self.local_now.div_euclid(DAY));
        // 29 February may be up to eight years back (1896 to 1904); everything else is found at once. On New Year's Eve the
        // day of slack lies in the next year.
        (-1..=8).find_map(|back| {
            let year = this_year.checked_sub(back)?;
            let local = days(year, month, day)? * DAY + seconds;
            if local > self.local_now.saturating_add(DAY) {
                return None;
            }
            self.at((year, month, day), seconds, precision)
        })
    }
}

/// A number of at most nine digits; none for anything else.
pub(super) fn number(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    digits.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
}

/// `HH:MM`, `HH:MM:SS` or `HH:MM:SS.fraction`, with or without `AM`, `PM`, `a`, `p` behind it: seconds of the day.
pub(super) fn time_of_day(token: &[u8]) -> Option<(i64, Precision)> {
    let digits = token.iter().take_while(|b| matches!(b, b'0'..=b'9' | b':' | b'.' | b',')).count();
    let (clock_face, half) = token.split_at(digits);
    let mut parts = clock_face.split(|&b| b == b':');
    let (hour, minute) = (two_digits(parts.next()?)?, parts.next()?);
    if minute.len() != 2 {
        return None;
    }
    let (second, precision) = match parts.next() {
        None => (0, Precision::Minute),
        // The fraction of a second is less than what LIST can be believed.
        Some(second) => (two_digits(second.split(|b| matches!(b, b'.' | b',')).next()?)?, Precision::Second),
    };
    if parts.next().is_some() {
        return None;
    }
    let hour = match half.first().map(u8::to_ascii_lowercase) {
        None => hour,
        Some(b'a') if half.len() <= 2 && (1..=12).contains(&hour) => hour % 12,
        Some(b'p') if half.len() <= 2 && (1..=12).contains(&hour) => hour % 12 + 12,
        // 13:25PM exists; the half is then only repeated.
        Some(b'a' | b'p') if half.len() <= 2 => hour,
        Some(_) => return None,
    };
    Some((seconds_of_day(hour, number(minute)?, second)?, precision))
}

/// A date of digits and separators in one token; `order` says what two ambiguous numbers in front mean.
///
/// Years: four digits, two (70 to 99 are 19xx), or the three of servers that count from 1900 (`04-23-103`).
pub(super) fn numeric_date(token: &[u8], order: Order) -> Option<(i64, i64, i64)> {
    let separator = *token.iter().find(|b| !b.is_ascii_digit())?;
    if !matches!(separator, b'-' | b'/' | b'.') {
        return None;
    }
    let mut parts = token.split(|&b| b == separator);
    let (a, b, c) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let date = if a.len() == 4 {
        (number(a)?, two_digits(b)?, two_digits(c)?)
    } else {
        let (first, second) = (two_digits(a).or_else(|| century(a))?, two_digits(b)?);
        match order {
            Order::Ymd => (century(a)?, second, two_digits(c)?),
            // What cannot be a month is a day, whatever the custom.
            Order::Mdy if first <= 12 => (century(c)?, first, second),
            Order::Mdy | Order::Dmy if second <= 12 => (century(c)?, second, first),
            Order::Mdy | Order::Dmy => (century(c)?, first, second),
        }
    };
    days(date.0, date.1, date.2).map(|_| date)
}

/// Which number of `01-02-03` is which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Mdy,
    Dmy,
    Ymd,
}

/// `2003`, `03` or `103`.
pub(super) fn century(digits: &[u8]) -> Option<i64> {
    let year = number(digits)?;
    match digits.len() {
        4 => Some(year),
        3 if year >= 100 => Some(1900 + year),
        2 if year < 70 => Some(2000 + year),
        2 => Some(1900 + year),
        _ => None,
    }
}

/// The next run of bytes without blanks in `text` from `at` on, and where it ends.
pub(super) fn token(text: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = text.get(at..)?;
    let start = rest.iter().position(|b| !is_blank(*b))?;
    let rest = rest.get(start..)?;
    let length = rest.iter().position(|b| is_blank(*b)).unwrap_or(rest.len());
    Some((rest.get(..length)?, at + start + length))
}

/// Space or tab.
pub(super) fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// `01-jun-99`, `1-Jun-2003`, `Feb-28-1998`.
pub(super) fn day_month_year(token: &[u8]) -> Option<(i64, i64, i64)> {
    let mut parts = token.split(|b| matches!(b, b'-' | b'/' | b'.'));
    let (a, b, c) = (parts.next()?, parts.next()?, parts.next()?);
    let (day, name) = if a.first()?.is_ascii_digit() { (a, b) } else { (b, a) };
    let date = (century(c)?, month(name)?, two_digits(day)?);
    (parts.next().is_none() && days(date.0, date.1, date.2).is_some()).then_some(date)
}

fn two_digits(digits: &[u8]) -> Option<i64> {
    if digits.len() <= 2 { number(digits) } else { None }
}

fn four_digits(digits: &[u8]) -> Option<i64> {
    if digits.len() == 4 { number(digits).filter(|year| (1900..=9999).contains(year)) } else { None }
}

fn seconds_of_day(hour: i64, minute: i64, second: i64) -> Option<i64> {
    // 60 is a leap second.
    (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3600 + minute * 60 + second)
}

/// Days since 1970 of a date of the Gregorian calendar; none when there is no such day.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let index = usize::try_from(month.checked_sub(1)?).ok()?;
    let length = *MONTH_LENGTHS.get(index)? + i64::from(month == 2 && is_leap(year));
    if !(1..=9999).contains(&year) || !(1..=length).contains(&day) {
        return None;
    }
    // Years that start in March, so that the leap day is the last one (Hinnant's days_from_civil).
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    Some(era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// The year of a day since 1970.
fn year_of(day: i64) -> i64 {
    let day = day.saturating_add(719_468);
    let (era, day) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    // From day 306 of a year that starts in March it is January.
    era * 400 + year + i64::from(day_of_year >= 306)
}

fn since_epoch(seconds: i64) -> Option<SystemTime> {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) }
}

/// Seconds.
const DAY: i64 = 86_400;

const MONTH_LENGTHS: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_do_not_exist_are_none() {
        for bad in [
            &b"00000101000000"[..],
            b"20230229000000",
            b"20231301000000",
            b"20230101240000",
            b"2023010100000",
            b"100000101000000",
            b"20230101000000x",
            b"20230101000000.5x",
            b"",
            b".",
        ] {
            assert_eq!(parse_time(bad), None, "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn times_before_1970_and_fractions_are_exact() {
        let at = |seconds| Some(since_epoch(seconds).unwrap());
        assert_eq!(parse_time(b"19650331000000"), at(-150_076_800));
        assert_eq!(parse_time(b"20210304050607"), at(1_614_834_367));
        assert_eq!(parse_time(b"99991231235959"), at(253_402_300_799));
        assert_eq!(parse_time(b"00010101000000"), at(-62_135_596_800));
        assert_eq!(parse_time(b"20161231235960"), at(1_483_228_800));
        assert_eq!(parse_time(b"191210304050607"), at(1_614_834_367));
        let with_fraction = parse_time(b" 20210304050607.1239999999 ").unwrap();
        assert_eq!(with_fraction.duration_since(at(1_614_834_367).unwrap()).unwrap().as_nanos(), 123_999_999);
    }

    #[test]
    fn the_year_is_the_one_that_keeps_a_date_out_of_the_future() {
        let clock = Clock::new(parse_time(b"20260301100000").unwrap(), Zone::Fixed(0));
        let year = |month, day| clock.recent(month, day, 0, Precision::Minute).map(|m| m.at);
        assert_eq!(year(3, 2), parse_time(b"20260302000000"));
        assert_eq!(year(3, 3), parse_time(b"20250303000000"));
        assert_eq!(year(2, 29), parse_time(b"20240229000000"));
        assert_eq!(year(2, 30), None);
    }

    #[test]
    fn where_it_is_next_year_already_a_date_is_in_that_year() {
        // A server in Bangkok whose zone is not known.
        let clock = Clock::new(parse_time(b"20261231180000").unwrap(), Zone::Fixed(0));
        let at =
            |month, day, hour: i64| clock.recent(month, day, hour * 3600, Precision::Minute).map(|m| m.at);
        assert_eq!(at(1, 1, 1), parse_time(b"20270101010000"));
        assert_eq!(at(1, 2, 1), parse_time(b"20260102010000"));
        assert_eq!(at(12, 31, 23), parse_time(b"20261231230000"));
    }
}
