//! The two ways in which FTP writes times: `YYYYMMDDHHMMSS` (RFC 3659, section 2.3) and the columns of `ls -l`. All in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `20260102030405`.
pub fn stamp(time: SystemTime) -> String {
    let (y, mo, d, h, mi, s) = civil(seconds(time));
    format!("{y:04}{mo:02}{d:02}{h:02}{mi:02}{s:02}")
}

/// The reverse of [`stamp`]; a fraction is accepted and dropped.
pub fn parse(text: &str) -> Option<SystemTime> {
    let digits = text.split('.').next()?;
    if digits.len() != 14 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number = |from: usize, to: usize| digits.get(from..to)?.parse::<i64>().ok();
    let (y, mo, d) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (h, mi, s) = (number(8, 10)?, number(10, 12)?, number(12, 14)?);
    if !(1..=12).contains(&mo) || !(1..=31).contains(&d) || h > 23 || mi > 59 || s > 60 {
        return None;
    }
    let total = days(y, mo, d) * 86400 + h * 3600 + mi * 60 + s;
    let distance = Duration::from_secs(total.unsigned_abs());
    if total < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) }
}

/// `Jan  2 03:04` for the last half year, `Jan  2  2020` for the rest.
pub fn column(time: SystemTime, now: SystemTime) -> String {
    let (y, mo, d, h, mi, _) = civil(seconds(time));
    let month = MONTHS[usize::try_from(mo - 1).unwrap_or(0)];
    let age = seconds(now) - seconds(time);
    if (0..180 * 86400).contains(&age) {
        format!("{month} {d:2} {h:02}:{mi:02}")
    } else {
        format!("{month} {d:2}  {y:4}")
    }
}

fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_secs() as i64,
        Err(before) => -(before.duration().as_secs_f64().ceil() as i64),
    }
}

/// Howard Hinnant's `civil_from_days`.
fn civil(seconds: i64) -> (i64, i64, i64, i64, i64, i64) {
    let (day, rest) = (seconds.div_euclid(86400), seconds.rem_euclid(86400));
    let z = day + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (d, mo) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    (yoe + era * 400 + i64::from(mo <= 2), mo, d, rest / 3600, rest / 60 % 60, rest % 60)
}

/// Howard Hinnant's `days_from_civil`.
fn days(y: i64, mo: i64, d: i64) -> i64 {
    let y = if mo <= 2 { y - 1 } else { y };
    let (era, yoe) = (y.div_euclid(400), y.rem_euclid(400));
    let doy = (153 * (if mo > 2 { mo - 3 } else { mo + 9 }) + 2) / 5 + d - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
