//! Which partitions hold no row that is younger than an age, whatever the key, its type and its zone.
//!
//! Must not: round towards retiring: where the end of a partition is in doubt, its latest counts.

use jiff::tz::TimeZone;

use super::rhythm::local;
use super::{NamedTree, Retirement};
use crate::derive::partition::bound::{Bound, Datum};
use crate::derive::partition::moment::Moment;
use crate::derive::partition::tree::Level;
use crate::derive::partition::unit::TimeKey;

const DAY: i128 = 86_400_000_000;

/// What the leading key of a level says of the time of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyForm {
    /// The time itself, or the day that it is in.
    Exact,
    /// The beginning of the minute, hour, day, ISO week, month, quarter or year that it is in.
    Truncated(Grain),
    /// An expression that we do not understand: a row may be younger than its key.
    Unknown,
}

/// What `date_trunc` cuts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grain {
    /// Microseconds: up to a day, at multiples of itself.
    Micros(i128),
    /// Monday to Sunday.
    Week,
    /// Calendar months, counted from January.
    Months(i8),
}

impl Grain {
    /// From the first argument of `date_trunc`.
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "microsecond" | "microseconds" => Self::Micros(1),
            "millisecond" | "milliseconds" => Self::Micros(1_000),
            "second" => Self::Micros(1_000_000),
            "minute" => Self::Micros(60_000_000),
            "hour" => Self::Micros(3_600_000_000),
            "day" => Self::Micros(DAY),
            "week" => Self::Week,
            "month" => Self::Months(1),
            "quarter" => Self::Months(3),
            "year" => Self::Months(12),
            _ => return None,
        })
    }

    /// How long after a bound (local microseconds) a row below it may be: 0 where the bound is on the
    /// grain.
    fn beyond(self, bound: i128) -> i128 {
        match self {
            Self::Micros(grain) => {
                if bound.rem_euclid(grain) == 0 {
                    0
                } else {
                    grain
                }
            }
            // 1970-01-01 was a Thursday.
            Self::Week if (bound + 3 * DAY).rem_euclid(7 * DAY) == 0 => 0,
            Self::Week => 7 * DAY,
            Self::Months(n) => {
                let on = local(bound, &TimeZone::UTC).is_some_and(|at| {
                    at.day() == 1
                        && (at.month() - 1) % n == 0
                        && at.time() == jiff::civil::Time::midnight()
                });
                if on { 0 } else { i128::from(n) * 31 * DAY }
            }
        }
    }
}

/// The partitions of which every row is older than `age` at `now` (microseconds, since 1970), each at
/// the highest level that allows it, by time. Local times may be those of any of `zones`; an age of
/// whole days is also that many days of each of their calendars. `forms` has one for each level; what
/// is below a level by time and goes by another column is left alone, since its rows may be younger by
/// the first.
pub fn retire(
    tree: NamedTree<'_>,
    now: i128,
    age: i128,
    zones: &[TimeZone],
    forms: &[KeyForm],
) -> Vec<Retirement> {
    let mut walk =
        RetireWalk { tree, before: before(now, age, zones), zones, forms, found: Vec::new() };
    walk.level(tree.root, None);
    let mut found = walk.found;
    found.sort_by_key(|(to, level, child)| (*to, *level, *child));
    found.into_iter().map(|(_, level, child)| Retirement { level, child }).collect()
}

/// The instant before which a row is old enough.
fn before(now: i128, age: i128, zones: &[TimeZone]) -> i128 {
    let mut earliest = now - age;
    if age % DAY == 0
        && let Ok(days) = i32::try_from(age / DAY)
    {
        for zone in zones {
            let then = local(now, zone)
                .and_then(|at| at.checked_sub(jiff::Span::new().try_days(days).ok()?).ok())
                .and_then(|at| zone.to_ambiguous_timestamp(at).earlier().ok());
            if let Some(then) = then {
                earliest = earliest.min(then.as_microsecond().into());
            }
        }
    }
    earliest
}

struct RetireWalk<'a> {
    tree: NamedTree<'a>,
    before: i128,
    zones: &'a [TimeZone],
    forms: &'a [KeyForm],
    found: Vec<(i128, usize, usize)>,
}

impl RetireWalk<'_> {
    /// `above` is the level by time that this one is below, if any.
    fn level(&mut self, index: usize, above: Option<usize>) {
        let Some(level) = self.tree.levels.get(index) else { return };
        let timed = level.time_key().is_some();
        let column = |index: usize| self.tree.levels.get(index).and_then(|l| l.column.as_ref());
        let same = |above| column(above).is_some() && column(above) == column(index);
        let judged = timed && above.is_none_or(same);
        for (child, partition) in level.children.iter().enumerate() {
            let to = if judged { self.end(index, level, partition.bound.as_ref()) } else { None };
            match to {
                Some(Moment::At(to)) if to <= self.before => self.found.push((to, index, child)),
                _ => {
                    if let Some(below) = partition.level {
                        self.level(below, above.or(timed.then_some(index)));
                    }
                }
            }
        }
    }

    /// The first instant from which on no row of a partition can be; `None` where that is not known.
    fn end(&self, index: usize, level: &Level, bound: Option<&Bound>) -> Option<Moment> {
        let key = level.time_key()?;
        let form = *self.forms.get(index)?;
        // Local times as if they were UTC.
        let naive = match bound? {
            Bound::Range { to, .. } => {
                let Datum::Value(text) = to.first()? else { return Some(Moment::Future) };
                // Rows at the bound itself belong to it, up to the next column's bound; and a UUID goes
                // on after its milliseconds.
                let sharp = to.get(1).is_none_or(|next| *next == Datum::MinValue);
                if sharp && key != TimeKey::Uuid {
                    key.begin(text, &TimeZone::UTC)?
                } else {
                    key.end(text, &TimeZone::UTC)?
                }
            }
            Bound::List(values) => {
                let mut last = Moment::Past;
                for value in values {
                    // Nobody knows how old a row is whose key is NULL.
                    let Datum::Value(text) = value else { return None };
                    last = last.max(key.end(text, &TimeZone::UTC)?);
                }
                last
            }
            Bound::Default | Bound::Hash { .. } => return None,
        };
        let Moment::At(naive) = naive else { return Some(naive) };
        let naive = match form {
            KeyForm::Exact => naive,
            KeyForm::Truncated(grain) => naive + grain.beyond(naive),
            KeyForm::Unknown => return None,
        };
        if !key.is_local() {
            return Some(Moment::At(naive));
        }
        let fixed = level.zone.as_ref().map(std::slice::from_ref);
        let mut latest = None;
        for zone in fixed.unwrap_or(self.zones) {
            let at = zone.to_ambiguous_timestamp(local(naive, &TimeZone::UTC)?).later().ok()?;
            latest = latest.max(Some(i128::from(at.as_microsecond())));
        }
        latest.map(Moment::At)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Label;
    use super::super::Name;
    use super::*;
    use crate::derive::partition::tree::{Child, PartitionKey, Strategy};
    use crate::derive::partition::unit::KeyUnit;

    /// 2026-11-22 12:00 UTC.
    const NOW: i128 = 1_795_348_800_000_000;
    const HOUR: i128 = 3_600_000_000;

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    fn level(key: TimeKey, strategy: Strategy, column: &str, bounds: &[&str]) -> Level {
        let child = |bound: &&str| Child {
            id: 0,
            bound: Bound::parse(bound),
            level: None,
            pages: 0,
            rows: None,
        };
        Level {
            strategy,
            keys: [PartitionKey::Time(key)].into(),
            column: Some(column.into()),
            zone: None,
            children: bounds.iter().map(child).collect(),
        }
    }

    fn gone(levels: &[Level], age: i128, zones: &[TimeZone], form: KeyForm) -> Vec<(usize, usize)> {
        let name = |n: usize| Name { schema: String::new(), table: n.to_string() };
        let names: Vec<Name> = (0..levels.len()).map(name).collect();
        let labels: Vec<Vec<Label>> = levels
            .iter()
            .map(|l| l.children.iter().map(|_| Label { name: name(0), model: true }).collect())
            .collect();
        let utc = TimeZone::UTC;
        let tree =
            NamedTree { levels, names: &names, labels: &labels, root: 0, writer: &utc, zones };
        let forms = vec![form; levels.len()];
        let found = retire(tree, NOW, age, zones, &forms);
        found.into_iter().map(|r| (r.level, r.child)).collect()
    }

    fn utc() -> Vec<TimeZone> {
        vec![TimeZone::UTC]
    }

    #[test]
    fn a_partition_goes_when_its_last_row_is_old_enough_and_not_before() {
        use KeyForm::{Exact, Truncated, Unknown};
        use Strategy::{List, Range};
        let day = Truncated(Grain::Micros(DAY));
        let month = Truncated(Grain::Months(1));
        for (key, by, form, bound, age, want) in [
            // To the microsecond, and in hours.
            (
                TimeKey::Timestamptz,
                Range,
                Exact,
                "FROM ('2026-11-20 12:00:00+00') TO ('2026-11-20 13:00:00+00')",
                47 * HOUR,
                true,
            ),
            (
                TimeKey::Timestamptz,
                Range,
                Exact,
                "FROM ('2026-11-20 12:00:00+00') TO ('2026-11-20 13:00:00+00')",
                47 * HOUR + 1,
                false,
            ),
            (
                TimeKey::Timestamptz,
                Range,
                Exact,
                "FROM (MINVALUE) TO ('2026-11-20 13:00:00+00')",
                47 * HOUR,
                true,
            ),
            (
                TimeKey::Timestamptz,
                Range,
                Exact,
                "FROM ('2026-11-20 12:00:00+00') TO (MAXVALUE)",
                47 * HOUR,
                false,
            ),
            (
                TimeKey::Timestamptz,
                Range,
                Exact,
                "FROM ('2026-11-20 12:00:00+00') TO ('infinity')",
                47 * HOUR,
                false,
            ),
            // Rows at the bound itself, where the key goes on.
            (
                TimeKey::Timestamptz,
                Range,
                Exact,
                "FROM ('2026-11-20 12:00:00+00', 5) TO ('2026-11-20 13:00:00+00', 5)",
                47 * HOUR,
                false,
            ),
            (
                TimeKey::Timestamptz,
                Range,
                Exact,
                "FROM ('2026-11-20 12:00:00+00', 5) TO ('2026-11-20 13:00:00+00', 5)",
                47 * HOUR - 1,
                true,
            ),
            (
                TimeKey::Timestamptz,
                Range,
                Exact,
                "FROM ('2026-11-20 12:00:00+00', MINVALUE) TO ('2026-11-20 13:00:00+00', MINVALUE)",
                47 * HOUR,
                true,
            ),
            (
                TimeKey::Timestamptz,
                Range,
                Exact,
                "FROM ('2026-11-20 12:00:00+00', MINVALUE) TO ('2026-11-20 13:00:00+00', MAXVALUE)",
                47 * HOUR,
                false,
            ),
            (
                TimeKey::Date,
                Range,
                Exact,
                "FROM ('2026-11-01', 1) TO ('2026-11-02', 1)",
                20 * DAY,
                false,
            ),
            (
                TimeKey::Date,
                Range,
                Exact,
                "FROM ('2026-11-01', 1) TO ('2026-11-02', 1)",
                19 * DAY,
                true,
            ),
            (
                TimeKey::Number(KeyUnit::Day),
                Range,
                Exact,
                "FROM (20261030, 1) TO (20261031, 1)",
                22 * DAY,
                false,
            ),
            (
                TimeKey::Number(KeyUnit::Day),
                Range,
                Exact,
                "FROM (20261030, 1) TO (20261031, 1)",
                21 * DAY,
                true,
            ),
            (
                TimeKey::Number(KeyUnit::Seconds),
                Range,
                Exact,
                "FROM (0) TO (1795176000)",
                2 * DAY,
                true,
            ),
            (
                TimeKey::Number(KeyUnit::Seconds),
                Range,
                Exact,
                "FROM (0) TO (1795176001)",
                2 * DAY,
                false,
            ),
            // 2026-11-20 12:00:00.000 is 0x1a1f...; its rows end with the millisecond.
            (
                TimeKey::Uuid,
                Range,
                Exact,
                "FROM (MINVALUE) TO ('01a00000-0000-7000-8000-000000000000')",
                DAY,
                true,
            ),
            // Lists: all of their days, and NULL has no age.
            (TimeKey::Date, List, Exact, "IN ('2026-11-02', '2026-11-01')", 19 * DAY, true),
            (TimeKey::Date, List, Exact, "IN ('2026-11-02', '2026-11-01')", 20 * DAY, false),
            (TimeKey::Date, List, Exact, "IN ('2026-11-01', NULL)", 5 * DAY, false),
            (TimeKey::Date, List, Exact, "IN ('2026-11-01', 'infinity')", 5 * DAY, false),
            // date_trunc: exact on its grain, else a grain longer; what is not understood stays.
            (
                TimeKey::Timestamp,
                Range,
                day,
                "FROM ('2026-11-01 00:00:00') TO ('2026-11-02 00:00:00')",
                20 * DAY,
                true,
            ),
            (
                TimeKey::Timestamp,
                Range,
                day,
                "FROM ('2026-11-01 00:00:00') TO ('2026-11-02 01:00:00')",
                20 * DAY,
                false,
            ),
            (
                TimeKey::Timestamp,
                Range,
                month,
                "FROM ('2026-09-01 00:00:00') TO ('2026-09-02 00:00:00')",
                60 * DAY,
                false,
            ),
            (
                TimeKey::Timestamp,
                Range,
                month,
                "FROM ('2026-09-01 00:00:00') TO ('2026-10-01 00:00:00')",
                52 * DAY,
                true,
            ),
            (
                TimeKey::Timestamp,
                Range,
                Unknown,
                "FROM ('2020-01-01 00:00:00') TO ('2020-02-01 00:00:00')",
                DAY,
                false,
            ),
        ] {
            let levels = [level(key, by, "ts", &[&format!("FOR VALUES {bound}")])];
            let found = gone(&levels, age, &utc(), form);
            assert_eq!(!found.is_empty(), want, "{key:?} {form:?} {bound} {age}");
        }
        let levels = [level(TimeKey::Date, Range, "ts", &["DEFAULT"])];
        assert_eq!(gone(&levels, DAY, &utc(), Exact), []);
    }

    #[test]
    fn local_days_end_where_they_end_last_and_days_are_those_of_the_calendar() {
        let of = |to: &str, key, zones: &[TimeZone], age| {
            let bound = format!("FOR VALUES FROM (MINVALUE) TO ('{to}')");
            let levels = [level(key, Strategy::Range, "d", &[&bound])];
            !gone(&levels, age, zones, KeyForm::Exact).is_empty()
        };
        let angeles = [TimeZone::UTC, zone("America/Los_Angeles")];
        // In Los Angeles the day before 21 November ends at 08:00 UTC.
        assert!(of("2026-11-21", TimeKey::Date, &angeles, 28 * HOUR));
        assert!(!of("2026-11-21", TimeKey::Date, &angeles, 28 * HOUR + 1));
        assert!(of("2026-11-21", TimeKey::Date, &utc(), 36 * HOUR));
        // 02:30 comes twice in Berlin on 25 October: the second is at 01:30 UTC.
        let berlin = [zone("Europe/Berlin")];
        let age = 28 * DAY + 10 * HOUR + HOUR / 2;
        assert!(of("2026-10-25 02:30:00", TimeKey::Timestamp, &berlin, age));
        assert!(!of("2026-10-25 02:30:00", TimeKey::Timestamp, &berlin, age + 1));
        // 30 days back the clock in Berlin was an hour ahead of today's: 13:00 there was 11:00 UTC.
        assert!(!of("2026-10-23 12:00:00+00", TimeKey::Timestamptz, &berlin, 30 * DAY));
        assert!(of("2026-10-23 11:00:00+00", TimeKey::Timestamptz, &berlin, 30 * DAY));
    }

    #[test]
    fn below_a_level_by_time_only_the_same_column_counts() {
        let months = ["FOR VALUES FROM ('2026-11-01 00:00:00+00') TO ('2026-12-01 00:00:00+00')"];
        let days = [
            "FOR VALUES FROM ('2026-11-01 00:00:00+00') TO ('2026-11-02 00:00:00+00')",
            "FOR VALUES FROM ('2026-11-02 00:00:00+00') TO ('2026-11-22 00:00:00+00')",
        ];
        for (column, want) in [("created", vec![(1, 0)]), ("changed", vec![])] {
            let mut root = level(TimeKey::Timestamptz, Strategy::Range, "created", &months);
            root.children[0].level = Some(1);
            let below = level(TimeKey::Timestamptz, Strategy::Range, column, &days);
            assert_eq!(gone(&[root, below], 5 * DAY, &utc(), KeyForm::Exact), want, "{column}");
        }
    }
}
