//! Instants wide enough for everything PostgreSQL can store, and half-open spans of them.
//!
//! Must not: overflow. 294276 AD and 4713 BC fit, and so does the last `date`, in the year 5874897.

use jiff::Timestamp;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

/// Microseconds in a second.
pub const SECOND: i128 = 1_000_000;
const DAY: i128 = 86_400 * SECOND;
/// 400 years, a whole number of weeks.
const CYCLE: i128 = 146_097 * DAY;
/// Well inside the years -9999 to 9999 that the zone tables reach.
const LATEST: i128 = 250_000_000_000 * SECOND;
const EARLIEST: i128 = -300_000_000_000 * SECOND;

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// Before every instant: `MINVALUE`, `-infinity`.
    Past,
    /// Microseconds since 1970-01-01 00:00 UTC.
    At(i128),
    /// After every instant: `MAXVALUE`, `infinity`.
    Future,
}

impl Moment {
    /// Unix seconds; the ends are infinite.
    pub fn seconds(self) -> f64 {
        match self {
            Self::Past => f64::NEG_INFINITY,
            Self::At(micros) => seconds(micros),
            Self::Future => f64::INFINITY,
        }
    }
}

/// Seconds of a number of microseconds.
pub fn seconds(micros: i128) -> f64 {
    // Beyond 2^53 microseconds (the year 2255) the last digit rounds; no figure of ours needs it.
    micros as f64 / 1e6
}

/// From inclusive, to exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// First instant inside.
    pub from: Moment,
    /// First instant after it.
    pub to: Moment,
}

impl Span {
    /// All of time.
    pub const ALL: Self = Self { from: Moment::Past, to: Moment::Future };

    /// What lies in both, if anything.
    pub fn clip(self, other: Self) -> Option<Self> {
        let span = Self { from: self.from.max(other.from), to: self.to.min(other.to) };
        (span.from < span.to).then_some(span)
    }

    /// Whether an instant lies inside.
    pub fn holds(self, moment: Moment) -> bool {
        self.from <= moment && moment < self.to
    }
}

/// The union of spans: sorted, disjoint, none touching the next.
pub fn union(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    let mut merged: Vec<Span> = Vec::new();
    for span in spans.into_iter().filter(|s| s.from < s.to) {
        match merged.last_mut() {
            Some(last) if span.from <= last.to => last.to = last.to.max(span.to),
            _ => merged.push(span),
        }
    }
    merged
}

/// The intersection of two unions.
pub fn intersection(a: &[Span], b: &[Span]) -> Vec<Span> {
    let (mut i, mut j) = (0, 0);
    let mut both = Vec::new();
    while let (Some(&x), Some(&y)) = (a.get(i), b.get(j)) {
        both.extend(x.clip(y));
        if x.to <= y.to {
            i += 1;
        } else {
            j += 1;
        }
    }
    both
}

/// `2026-11-22 10:00:00.5+00 BC`: microseconds since 1970 as if in UTC, and the offset if it has one.
pub(super) fn civil(text: &str) -> Option<(i128, Option<i128>)> {
    let (text, bc) = match text.strip_suffix(" BC") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let (date, time) = match text.split_once(' ') {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut parts = date.splitn(3, '-').map(number);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year > 10_000_000 {
        return None;
    }
    // There is no year 0: 1 BC comes before 1 AD.
    let year = if bc { 1 - year } else { year };
    let mut micros = days(year, month, day) * DAY;
    let mut offset = None;
    if let Some(time) = time {
        let clock = match time.find(['+', '-']) {
            Some(at) => {
                let (clock, zone) = time.split_at_checked(at)?;
                let sign = if zone.starts_with('-') { -1 } else { 1 };
                offset = Some(sign * hms(zone.get(1..)?)?);
                clock
            }
            None => time,
        };
        micros += hms(clock)?;
    }
    Some((micros, offset))
}

/// `10`, `10:30`, `10:30:05` or `10:30:05.123456` in microseconds.
fn hms(text: &str) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut micros = 0;
    let mut unit = 3600 * SECOND;
    for part in whole.split(':') {
        if unit == 0 {
            return None;
        }
        micros += number(part)? * unit;
        unit = if unit == SECOND { 0 } else { unit / 60 };
    }
    let digits = u32::try_from(fraction.len()).ok().filter(|d| *d <= 6)?;
    Some(micros + number(fraction)? * 10_i128.pow(6 - digits))
}

/// Digits only, and few enough for nothing to overflow.
fn number(text: &str) -> Option<i128> {
    let fits = (1..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if fits { text.parse().ok() } else { None }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar, as PostgreSQL counts them.
pub(super) fn days(year: i128, month: i128, day: i128) -> i128 {
    // Years that begin in March put the leap day last.
    let y = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (y.div_euclid(400), y.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The instant of a local time.
pub(super) fn instant(local: i128, zone: &TimeZone) -> i128 {
    // The calendar and its weekdays repeat every 400 years, and so do the rules of a zone where no
    // history is known: far-off years are looked up in a year that the tables reach.
    let cycles = if local > LATEST {
        (local - LATEST) / CYCLE + 1
    } else if local < EARLIEST {
        (local - EARLIEST) / CYCLE - 1
    } else {
        0
    };
    instant_near(local - cycles * CYCLE, zone) + cycles * CYCLE
}

fn instant_near(local: i128, zone: &TimeZone) -> i128 {
    let shift = |offset: Offset| local - i128::from(offset.seconds()) * SECOND;
    let Some(stamp) = timestamp(local) else { return local };
    match zone.to_ambiguous_timestamp(Offset::UTC.to_datetime(stamp)).offset() {
        AmbiguousOffset::Unambiguous { offset } => shift(offset),
        AmbiguousOffset::Fold { before, .. } => shift(before),
        // Read with the new offset, a skipped time lies before the change.
        AmbiguousOffset::Gap { before, after } => timestamp(shift(after))
            .and_then(|start| zone.following(start).next())
            .map_or(shift(before), |change| i128::from(change.timestamp().as_microsecond())),
    }
}

fn timestamp(micros: i128) -> Option<Timestamp> {
    i64::try_from(micros).ok().and_then(|us| Timestamp::from_microsecond(us).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::derive::partition::unit::TimeKey;

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    fn utc(text: &str) -> Moment {
        TimeKey::Timestamptz.begin(text, &TimeZone::UTC).unwrap()
    }

    #[test]
    fn reads_every_form_that_iso_output_takes() {
        let at = |s: i128| Moment::At(s * SECOND);
        assert_eq!(utc("1970-01-01 00:00:00+00"), at(0));
        assert_eq!(utc("2026-11-22 10:30:05.25+00"), Moment::At(1_795_343_405_250_000));
        assert_eq!(utc("1970-01-01 00:00:00-01:30"), at(5_400));
        // 4714-11-24 BC is Julian day 0; the Unix epoch is Julian day 2440588 (at midnight).
        assert_eq!(utc("4714-11-24 00:00:00+00 BC"), at(-2_440_588 * 86_400));
        assert_eq!(utc("0001-12-31 00:00:00+00 BC"), at(-719_163 * 86_400));
        assert_eq!(utc("294276-12-31 23:59:59.999999+00"), Moment::At(9_224_318_015_999_999_999));
        // The last date is Julian day 2147483493; Tokyo is 9 hours ahead, then as now.
        let last = TimeKey::Date.begin("5874897-12-31", &zone("Asia/Tokyo"));
        assert_eq!(last, Some(at((2_147_483_493 - 2_440_588) * 86_400 - 9 * 3600)));
        assert!(utc("infinity") == Moment::Future && utc("-infinity") == Moment::Past);
        for bad in ["", "2026", "2026-13-01", "2026-11-22 1:2:3:4+00", "é-1-1", "2026-01-01 +"] {
            assert_eq!(TimeKey::Timestamptz.begin(bad, &TimeZone::UTC), None, "{bad}");
        }
    }

    #[test]
    fn naive_times_follow_the_clock_changes_of_the_zone() {
        let berlin = zone("Europe/Berlin");
        let at = |text: &str| TimeKey::Timestamp.begin(text, &berlin).unwrap();
        assert_eq!(at("2026-07-01 00:00:00"), utc("2026-06-30 22:00:00+00"));
        // Skipped: 02:00 to 03:00 on 29 March. Twice: 02:00 to 03:00 on 25 October.
        assert_eq!(at("2026-03-29 02:30:00"), utc("2026-03-29 01:00:00+00"));
        assert_eq!(at("2026-10-25 02:30:00"), utc("2026-10-25 00:30:00+00"));
        // Midnight itself is skipped in Beirut and comes twice in Havana.
        let day = |text: &str, name: &str| TimeKey::Date.begin(text, &zone(name)).unwrap();
        assert_eq!(day("2026-03-29", "Asia/Beirut"), utc("2026-03-28 22:00:00+00"));
        assert_eq!(day("2026-11-01", "America/Havana"), utc("2026-11-01 04:00:00+00"));
        let end = TimeKey::Date.end("2026-10-25", &berlin).unwrap();
        assert_eq!(end, utc("2026-10-25 23:00:00+00"));
    }

    fn spans() -> impl Strategy<Value = Vec<Span>> {
        let point = || {
            prop_oneof![
                1 => Just(Moment::Past),
                1 => Just(Moment::Future),
                8 => (0..40_i128).prop_map(Moment::At),
            ]
        };
        prop::collection::vec((point(), point()).prop_map(|(from, to)| Span { from, to }), 0..12)
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), shaped in "[0-9]{0,12}-[0-9]{1,2}-[0-9]{1,2} ?[0-9:.+-]{0,16}( BC)?") {
            let tokyo = zone("Asia/Tokyo");
            for key in [TimeKey::Timestamptz, TimeKey::Timestamp, TimeKey::Date, TimeKey::Uuid] {
                let _ = (key.begin(&text, &tokyo), key.end(&shaped, &tokyo));
            }
        }

        #[test]
        fn merging_changes_no_point(a in spans(), b in spans()) {
            let (x, y) = (union(a.clone()), union(b.clone()));
            let both = intersection(&x, &y);
            for p in -1..41 {
                let p = Moment::At(p);
                let inside = |spans: &[Span]| spans.iter().any(|s| s.holds(p));
                prop_assert_eq!(inside(&x), inside(&a));
                prop_assert_eq!(inside(&both), inside(&a) && inside(&b));
            }
            prop_assert!(x.windows(2).all(|w| w[0].to < w[1].from));
        }

        #[test]
        fn days_count_like_jiff(year in -9998_i16..9999, month in 1_i8..13, day in 1_i8..29) {
            let date = jiff::civil::date(year, month, day);
            let epoch = jiff::civil::date(1970, 1, 1);
            let expected = i128::from((date - epoch).get_days());
            prop_assert_eq!(days(year.into(), month.into(), day.into()), expected);
        }
    }
}
