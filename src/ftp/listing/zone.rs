//! The zone of a server's clock: how far its local time, in which LIST speaks, is ahead of UTC.
//!
//! An offset, or a place with summer time, from this machine's zone database: a file of July and one of January are then
//! both right. Used by `time`, and by `cli`, where a user names it (`tz=`).

use std::str::FromStr;

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

/// Local time minus UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Zone {
    /// So many seconds, all year.
    Fixed(i64),
    /// As people there have it.
    Place(TimeZone),
}

impl Zone {
    /// Seconds to subtract from a local time (in seconds since 1970 as if it were UTC). Of an hour that comes twice when
    /// summer time ends the first is meant.
    pub(super) fn ahead_at_local(&self, local: i64) -> i64 {
        match self {
            // A zone beyond a day is nonsense; clamped, so that sums cannot overflow.
            Self::Fixed(seconds) => (*seconds).clamp(-DAY, DAY),
            Self::Place(zone) => Timestamp::from_second(local)
                .ok()
                .and_then(|shown| {
                    zone.to_ambiguous_timestamp(Offset::UTC.to_datetime(shown)).compatible().ok()
                })
                .map_or(0, |utc| local.saturating_sub(utc.as_second()).clamp(-DAY, DAY)),
        }
    }

    /// Seconds to add to a time in UTC (seconds since 1970).
    pub(super) fn ahead_at(&self, utc: i64) -> i64 {
        match self {
            Self::Fixed(seconds) => (*seconds).clamp(-DAY, DAY),
            Self::Place(zone) => {
                Timestamp::from_second(utc).map_or(0, |utc| zone.to_offset(utc).seconds().into())
            }
        }
    }
}

impl FromStr for Zone {
    type Err = String;

    /// `+02:00`, `-7`, `UTC`, `Europe/Berlin`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || {
            format!(
                "{text} is neither an offset from UTC (+02:00) nor a place with a known zone (Europe/Berlin)"
            )
        };
        let (sign, digits) = match text.split_at_checked(1) {
            Some(("+", digits)) => (1, digits),
            Some(("-", digits)) => (-1, digits),
            _ if text.eq_ignore_ascii_case("utc") => return Ok(Self::Fixed(0)),
            _ => return TimeZone::get(text).map(Self::Place).map_err(|_| wanted()),
        };
        let (hours, minutes) = digits.split_once(':').unwrap_or((digits, "0"));
        match (hours.parse::<u8>(), minutes.parse::<u8>()) {
            (Ok(hours @ 0..=14), Ok(minutes @ 0..60)) => {
                Ok(Self::Fixed(sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60)))
            }
            _ => Err(wanted()),
        }
    }
}

const DAY: i64 = 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_and_places_are_understood() {
        for (text, seconds) in [("+02:00", 7200), ("-7", -25200), ("utc", 0), ("-03:30", -12600)] {
            assert_eq!(text.parse(), Ok(Zone::Fixed(seconds)), "{text}");
        }
        for wrong in ["", "+", "+15", "+1:60", "Mars/Olympus", "../../etc/passwd"] {
            assert!(wrong.parse::<Zone>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_place_has_summer_time() {
        // Where there is no zone database there is nothing to test.
        let Ok(berlin) = "Europe/Berlin".parse::<Zone>() else { return };
        let (january, july) = (1_736_942_400, 1_752_580_800);
        assert_eq!((berlin.ahead_at(january), berlin.ahead_at(july)), (3600, 7200));
        assert_eq!((berlin.ahead_at_local(january), berlin.ahead_at_local(july)), (3600, 7200));
        assert_eq!(berlin.ahead_at_local(i64::MAX), 0, "a date that no clock shows");
    }
}
