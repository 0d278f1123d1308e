//! How a partition key tells a time: its type, and of an integer the unit.
//!
//! Must not: decide whether a key holds a time.

use jiff::tz::TimeZone;

use super::moment::{self, Moment, SECOND, civil};

pub(super) const HOUR: i128 = 3_600 * SECOND;
pub(super) const DAY: i128 = 24 * HOUR;
/// 2000-01-01 and 2200-01-01, 00:00 UTC.
const PLAUSIBLE: std::ops::RangeInclusive<i128> = 946_684_800 * SECOND..=7_258_118_400 * SECOND;

/// How an integer tells a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUnit {
    /// Seconds since 1970.
    Seconds,
    /// Milliseconds since 1970.
    Millis,
    /// Microseconds since 1970.
    Micros,
    /// Nanoseconds since 1970.
    Nanos,
    /// A local day: 20261122.
    Day,
}

impl KeyUnit {
    pub(super) const ALL: [Self; 5] =
        [Self::Seconds, Self::Millis, Self::Micros, Self::Nanos, Self::Day];

    /// From the word in the configuration: `s`, `ms`, `us`, `ns` or `yyyymmdd`.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "s" => Some(Self::Seconds),
            "ms" => Some(Self::Millis),
            "us" => Some(Self::Micros),
            "ns" => Some(Self::Nanos),
            "yyyymmdd" => Some(Self::Day),
            _ => None,
        }
    }

    /// The first instant at which a writer uses this number or a larger one.
    pub(super) fn instant(self, number: i128, zone: &TimeZone) -> Moment {
        match self {
            Self::Seconds => Moment::At(number * SECOND),
            Self::Millis => Moment::At(number * 1_000),
            Self::Micros => Moment::At(number),
            Self::Nanos => Moment::At(-(-number).div_euclid(1_000)),
            Self::Day => match day(number) {
                Ok((days, _)) => Moment::At(moment::instant(days * DAY, zone)),
                Err(end) => end,
            },
        }
    }

    /// Microseconds since 1970 if the number looks like a bound that people choose.
    pub(super) fn plausible(self, number: i128) -> Option<i128> {
        let micros = match self {
            Self::Seconds => number * SECOND,
            Self::Millis => number * 1_000,
            Self::Micros => number,
            Self::Nanos if number % 1_000 == 0 => number / 1_000,
            Self::Nanos => return None,
            Self::Day => match day(number) {
                Ok((days, true)) => days * DAY,
                _ => return None,
            },
        };
        (PLAUSIBLE.contains(&micros) && micros % HOUR == 0).then_some(micros)
    }
}

/// The first day whose yyyymmdd is not below the number, in days since 1970, and whether the number
/// is that day's own. `Err` before the year 1 and after the year 10,000,000.
fn day(number: i128) -> Result<(i128, bool), Moment> {
    let (year, month, day) = (number.div_euclid(10_000), number / 100 % 100, number % 100);
    if year < 1 {
        return Err(Moment::Past);
    }
    if year > 10_000_000 {
        return Err(Moment::Future);
    }
    if month > 12 {
        return Ok((moment::days(year + 1, 1, 1), false));
    }
    if month < 1 {
        return Ok((moment::days(year, 1, 1), false));
    }
    let next = match month {
        12 => moment::days(year + 1, 1, 1),
        _ => moment::days(year, month + 1, 1),
    };
    let found = moment::days(year, month, day.max(1));
    Ok((found.min(next), day >= 1 && found < next))
}

/// Milliseconds since 1970 in the first 48 bits of a UUID.
pub(super) fn uuid_millis(text: &str) -> Option<i128> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let valid = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if valid { i128::from_str_radix(digits.get(..12)?, 16).ok() } else { None }
}

/// The types in which a partition key can hold a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeKey {
    /// An instant.
    Timestamptz,
    /// Local time of whoever writes the row.
    Timestamp,
    /// Local day of whoever writes the row.
    Date,
    /// An integer.
    Number(KeyUnit),
    /// A UUID of version 7: milliseconds since 1970 in front.
    Uuid,
}

impl TimeKey {
    /// Whether its values are local time, so that the instant depends on the zone.
    pub fn is_local(self) -> bool {
        matches!(self, Self::Timestamp | Self::Date | Self::Number(KeyUnit::Day))
    }

    /// The instant at which a key value begins, from its ISO text (rendered in UTC); naive values
    /// are local time in `zone`. `None` if the text is no such value.
    ///
    /// A local time that a clock change skips is the instant of the change, and one that happens
    /// twice is the first: rows beyond an upper bound are refused from then on.
    pub fn begin(self, text: &str, zone: &TimeZone) -> Option<Moment> {
        self.resolve(text, zone, 0)
    }

    /// The instant at which a key value has passed: a microsecond later, a day after a date, at the
    /// next number after an integer.
    pub fn end(self, text: &str, zone: &TimeZone) -> Option<Moment> {
        self.resolve(text, zone, if self == Self::Date { DAY } else { 1 })
    }

    fn resolve(self, text: &str, zone: &TimeZone, later: i128) -> Option<Moment> {
        Some(match (self, text) {
            (Self::Number(unit), _) => {
                unit.instant(i128::from(text.parse::<i64>().ok()?) + later, zone)
            }
            (Self::Uuid, _) => Moment::At((uuid_millis(text)? + later) * 1_000),
            (_, "infinity") => Moment::Future,
            (_, "-infinity") => Moment::Past,
            _ => {
                let (local, offset) = civil(text)?;
                let local = local + later;
                Moment::At(match (self, offset) {
                    (Self::Timestamptz, Some(offset)) => local - offset,
                    (Self::Timestamp | Self::Date, None) => moment::instant(local, zone),
                    _ => return None,
                })
            }
        })
    }
}
