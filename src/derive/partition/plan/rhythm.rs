//! The rhythm in which partitions follow each other: found from their spans, then continued.
//!
//! An axis value is microseconds since 1970: an instant for timestamptz, and for local times the
//! same as if they were UTC, so that a step never meets a clock change there.
//!
//! Must not: look at a name, or guess from spans that contradict each other.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};

const SECOND: i128 = 1_000_000;
const HOUR: i128 = 3_600 * SECOND;
const DAY: i128 = 24 * HOUR;
/// Longest step by months that is looked for: ten years.
const MONTHS: i32 = 120;
/// How many of the newest partitions may be out of step, such as one that spans all that is left.
const OUTLIERS: usize = 3;

/// The distance from one bound to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stride {
    /// Calendar months; a day that a month lacks is its last.
    Months(i32),
    /// Calendar days, of 23 to 25 hours.
    Days(i32),
    /// Microseconds.
    Fixed(i128),
}

impl Stride {
    fn approximate(self) -> i128 {
        match self {
            // 365.2425 / 12 days.
            Self::Months(n) => i128::from(n) * 2_629_746 * SECOND,
            Self::Days(n) => i128::from(n) * DAY,
            Self::Fixed(width) => width,
        }
    }

    /// In words: `daily`, `every 2 months`.
    pub fn describe(self) -> String {
        match self {
            Self::Months(1) => "monthly".to_owned(),
            Self::Months(3) => "quarterly".to_owned(),
            Self::Months(n) if n % 12 == 0 && n > 12 => format!("every {} years", n / 12),
            Self::Months(12) => "yearly".to_owned(),
            Self::Months(n) => format!("every {n} months"),
            Self::Days(1) => "daily".to_owned(),
            Self::Days(7) => "weekly".to_owned(),
            Self::Days(n) => format!("every {n} days"),
            Self::Fixed(HOUR) => "hourly".to_owned(),
            Self::Fixed(width) if width % HOUR == 0 => format!("every {} hours", width / HOUR),
            Self::Fixed(width) if width % (60 * SECOND) == 0 => {
                format!("every {} minutes", width / (60 * SECOND))
            }
            Self::Fixed(width) => format!("every {} seconds", width as f64 / 1e6),
        }
    }

    /// Whether every step begins at the same time of day.
    pub fn whole_days(self) -> bool {
        !matches!(self, Self::Fixed(_))
    }
}

/// A grid of bounds.
#[derive(Debug, Clone)]
pub struct Rhythm {
    /// From one bound to the next.
    pub step: Stride,
    /// The zone in which the steps are regular; UTC for local times.
    pub zone: TimeZone,
    /// Which of the spans follow it without an exception, oldest first.
    pub members: std::ops::Range<usize>,
    origin: i128,
    civil: DateTime,
    /// Day of the month, for steps by months.
    day: i8,
}

/// The local time of an axis value. `None` beyond the years that zones reach.
pub fn local(micros: i128, zone: &TimeZone) -> Option<DateTime> {
    let stamp = Timestamp::from_microsecond(i64::try_from(micros).ok()?).ok()?;
    Some(zone.to_datetime(stamp))
}

/// The axis value of a local time.
pub fn instant(local: DateTime, zone: &TimeZone) -> Option<i128> {
    let stamp = zone.to_ambiguous_timestamp(local).compatible().ok()?;
    Some(stamp.as_microsecond().into())
}

/// `+00`, `-03:30`: as PostgreSQL prints it.
pub fn offset(micros: i128, zone: &TimeZone) -> Option<Offset> {
    let stamp = Timestamp::from_microsecond(i64::try_from(micros).ok()?).ok()?;
    Some(zone.to_offset(stamp))
}

impl Rhythm {
    /// The rhythm of spans (from, to) in the order of their beginning: that of the newest, as far
    /// back as they keep it, in the zone in which it lasts longest. `None` where no two of several
    /// agree.
    pub fn detect(spans: &[(i128, i128)], zones: &[TimeZone]) -> Option<Self> {
        for end in (1..=spans.len()).rev().take(OUTLIERS) {
            let mut best: Option<(Rank, Self)> = None;
            for (order, zone) in zones.iter().enumerate() {
                for rhythm in Self::candidates(spans, end, zone) {
                    let rank = rhythm.rank(order);
                    if best.as_ref().is_none_or(|(b, _)| rank > *b) {
                        best = Some((rank, rhythm));
                    }
                }
            }
            if let Some((_, rhythm)) = best
                && (rhythm.members.len() > 1 || (spans.len() == 1 && rhythm.is_plain()))
            {
                return Some(rhythm);
            }
        }
        None
    }

    /// What one span alone may be taken for.
    fn is_plain(&self) -> bool {
        match self.step {
            Stride::Fixed(width) => width % HOUR == 0 && self.origin % HOUR == 0,
            _ => true,
        }
    }

    fn rank(&self, order: usize) -> Rank {
        // Of hours it is chance which zone's midnight the last one ends at.
        let days = !matches!(self.step, Stride::Fixed(width) if width % (24 * HOUR) != 0);
        let midnight = days && self.civil.time() == jiff::civil::Time::midnight();
        let step = match self.step {
            Stride::Months(_) => 2,
            Stride::Days(_) => 1,
            Stride::Fixed(_) => 0,
        };
        (self.members.len(), midnight, step, usize::MAX - order)
    }

    fn candidates(spans: &[(i128, i128)], end: usize, zone: &TimeZone) -> Vec<Self> {
        let mut found = Vec::new();
        let Some(&(from, to)) = end.checked_sub(1).and_then(|i| spans.get(i)) else {
            return found;
        };
        let (Some(a), Some(b)) = (local(from, zone), local(to, zone)) else { return found };
        let mut steps = vec![Stride::Fixed(to - from)];
        if a.time() == b.time() {
            let days = a.date().until(b.date()).map_or(0, |span| span.get_days());
            steps.push(Stride::Days(days));
            let months = months(b.date()) - months(a.date());
            if (1..=MONTHS).contains(&months) {
                steps.push(Stride::Months(months));
            }
        }
        for step in steps.into_iter().filter(|s| s.approximate() > 0) {
            let days = match step {
                Stride::Months(_) => vec![a.day(), b.day(), 29, 30, 31],
                _ => vec![a.day()],
            };
            for day in days {
                let mut rhythm =
                    Self { step, zone: zone.clone(), members: 0..0, origin: from, civil: a, day };
                let streak = spans
                    .get(..end)
                    .unwrap_or_default()
                    .iter()
                    .rev()
                    .take_while(|span| rhythm.holds(**span))
                    .count();
                rhythm.members = end - streak..end;
                if streak > 0 {
                    found.push(rhythm);
                }
            }
        }
        found
    }

    fn holds(&self, (from, to): (i128, i128)) -> bool {
        self.index(from).is_some_and(|n| self.at(n) == Some(from) && self.at(n + 1) == Some(to))
    }

    /// The n-th bound, counted from an arbitrary one.
    pub fn at(&self, n: i64) -> Option<i128> {
        match self.step {
            Stride::Fixed(width) => self.origin.checked_add(width.checked_mul(n.into())?),
            Stride::Days(days) => {
                let days = n.checked_mul(days.into())?;
                let date =
                    self.civil.date().checked_add(jiff::Span::new().try_days(days).ok()?).ok()?;
                instant(date.to_datetime(self.civil.time()), &self.zone)
            }
            Stride::Months(step) => {
                let month = n.checked_mul(step.into())? + i64::from(months(self.civil.date()));
                let year = i16::try_from(month.div_euclid(12)).ok()?;
                let month = i8::try_from(month.rem_euclid(12) + 1).ok()?;
                let first = Date::new(year, month, 1).ok()?;
                let date = Date::new(year, month, self.day.min(first.days_in_month())).ok()?;
                instant(date.to_datetime(self.civil.time()), &self.zone)
            }
        }
    }

    /// The last bound that is not after an axis value.
    pub fn index(&self, at: i128) -> Option<i64> {
        let mut n = i64::try_from((at - self.origin).div_euclid(self.step.approximate())).ok()?;
        while self.at(n)? > at {
            n -= 1;
        }
        while self.at(n + 1)? <= at {
            n += 1;
        }
        Some(n)
    }
}

/// Length, at midnight, calendar before fixed, order of the zones.
type Rank = (usize, bool, u8, usize);

fn months(date: Date) -> i32 {
    i32::from(date.year()) * 12 + i32::from(date.month()) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, zone: &TimeZone) -> i128 {
        instant(text.parse().unwrap(), zone).unwrap()
    }

    fn spans(bounds: &[&str], zone: &TimeZone) -> Vec<(i128, i128)> {
        bounds.windows(2).map(|w| (at(w[0], zone), at(w[1], zone))).collect()
    }

    #[test]
    fn hours_that_end_at_a_zones_midnight_are_hours_in_utc_all_the_same() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let bounds = ["2026-11-22T22:00", "2026-11-22T23:00", "2026-11-23T00:00"];
        let spans = spans(&bounds, &TimeZone::UTC);
        let rhythm = Rhythm::detect(&spans, &[TimeZone::UTC, berlin]).unwrap();
        assert_eq!((rhythm.step, rhythm.zone), (Stride::Fixed(HOUR), TimeZone::UTC));
    }

    fn next(bounds: &[&str], zone: &TimeZone, zones: &[TimeZone]) -> (Stride, String) {
        let rhythm = Rhythm::detect(&spans(bounds, zone), zones).unwrap();
        let last = at(bounds.last().unwrap(), zone);
        let next = rhythm.at(rhythm.index(last).unwrap() + 1).unwrap();
        (rhythm.step, local(next, &rhythm.zone).unwrap().to_string())
    }

    #[test]
    fn continues_what_the_calendar_bends() {
        let utc = TimeZone::UTC;
        let only = [TimeZone::UTC];
        for (bounds, step, want) in [
            (&["2026-01-01", "2026-02-01", "2026-03-01"][..], Stride::Months(1), "2026-04-01"),
            // One February is a month, not four weeks.
            (&["2026-02-01", "2026-03-01"], Stride::Months(1), "2026-04-01"),
            (&["2026-02-01", "2026-03-01", "2026-03-29"], Stride::Days(28), "2026-04-26"),
            (&["2026-07-01", "2026-10-01", "2027-01-01"], Stride::Months(3), "2027-04-01"),
            (&["2024-01-01", "2025-01-01", "2026-01-01"], Stride::Months(12), "2027-01-01"),
            (&["2026-11-16", "2026-11-23"], Stride::Days(7), "2026-11-30"),
            // Month ends, as 22 days before some date count back.
            (&["2026-08-31", "2026-09-30", "2026-10-31"], Stride::Months(1), "2026-11-30"),
            (&["2026-01-31", "2026-02-28", "2026-03-31"], Stride::Months(1), "2026-04-30"),
            (&["2026-01-30", "2026-02-28", "2026-03-30"], Stride::Months(1), "2026-04-30"),
        ] {
            let bounds: Vec<String> = bounds.iter().map(|b| format!("{b}T00:00:00")).collect();
            let bounds: Vec<&str> = bounds.iter().map(String::as_str).collect();
            assert_eq!(
                next(&bounds, &utc, &only),
                (step, format!("{want}T00:00:00")),
                "{bounds:?}"
            );
        }
        let hours = ["2026-11-22T22:00:00", "2026-11-22T23:00:00", "2026-11-23T00:00:00"];
        let want = (Stride::Fixed(HOUR), "2026-11-23T01:00:00".to_owned());
        assert_eq!(next(&hours, &utc, &only), want);
    }

    #[test]
    fn finds_the_zone_in_which_the_days_are_whole() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let zones = [TimeZone::UTC, berlin.clone()];
        // Winter alone tells by midnight, a clock change by the length of a day.
        let winter = ["2026-11-20T00:00:00", "2026-11-21T00:00:00", "2026-11-22T00:00:00"];
        let want = (Stride::Days(1), "2026-11-23T00:00:00".to_owned());
        assert_eq!(next(&winter, &berlin, &zones), want);
        assert_eq!(next(&winter, &TimeZone::UTC, &zones), want);
        let change = ["2026-10-23T06:00:00", "2026-10-24T06:00:00", "2026-10-25T06:00:00"];
        let want = (Stride::Days(1), "2026-10-26T06:00:00".to_owned());
        assert_eq!(next(&change, &berlin, &zones), want);
    }

    #[test]
    fn an_odd_newest_one_is_left_out_and_disorder_is_no_rhythm() {
        let utc = TimeZone::UTC;
        let only = [TimeZone::UTC];
        let day = |d: &str| at(&format!("2026-{d}T00:00:00"), &utc);
        let mut list = vec![
            (day("11-01"), day("11-02")),
            (day("11-02"), day("11-03")),
            (day("11-03"), day("12-25")),
        ];
        let rhythm = Rhythm::detect(&list, &only).unwrap();
        assert_eq!((rhythm.step, rhythm.members), (Stride::Days(1), 0..2));
        list.remove(0);
        assert!(Rhythm::detect(&list, &only).is_none());
        assert!(Rhythm::detect(&[], &only).is_none());
        let odd = [(day("11-01"), day("11-01") + 17 * SECOND)];
        assert!(Rhythm::detect(&odd, &only).is_none());
    }
}
