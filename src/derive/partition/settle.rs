//! What integer and UUID keys hold: whether all their bounds agree on one way to tell a time.
//!
//! Must not: guess. Serial IDs a billion to a partition look like seconds since 1970.

use std::collections::VecDeque;

use jiff::tz::TimeZone;

use super::bound::{Bound, Datum};
use super::moment::Moment;
use super::tree::{Level, PartitionKey, Strategy, assess};
use super::unit::{DAY, HOUR, KeyUnit, TimeKey, uuid_millis};

/// Width of a partition.
const WIDTH: std::ops::RangeInclusive<i128> = HOUR..=400 * DAY;

/// What a group of bounds may turn out to hold.
#[derive(Clone, Copy)]
enum Guess {
    Number(KeyUnit),
    Uuid,
}

impl Guess {
    fn micros(self, text: &str) -> Option<i128> {
        match self {
            Self::Number(unit) => unit.plausible(i128::from(text.parse::<i64>().ok()?)),
            Self::Uuid => KeyUnit::Millis.plausible(uuid_millis(text)?),
        }
    }

    /// Whether a bound speaks for it (`Some(true)`), says nothing, or against it (`None`).
    fn fits(self, bound: &Bound) -> Option<bool> {
        match bound {
            Bound::Default => Some(false),
            Bound::Hash { .. } => None,
            Bound::List(values) => {
                // A list of seconds takes a second each: only days are slices of time.
                let Self::Number(KeyUnit::Day) = self else { return None };
                let mut days = values.iter().filter(|v| **v != Datum::Null);
                let all =
                    days.all(|v| matches!(v, Datum::Value(text) if self.micros(text).is_some()));
                all.then_some(true)
            }
            Bound::Range { from, to } => {
                let end = |datum: Option<&Datum>| match datum? {
                    Datum::Value(text) => self.micros(text).map(Some),
                    Datum::MinValue | Datum::MaxValue => Some(None),
                    Datum::Null => None,
                };
                match (end(from.first())?, end(to.first())?) {
                    (Some(from), Some(to)) => WIDTH.contains(&(to - from)).then_some(true),
                    _ => Some(false),
                }
            }
        }
    }

    /// Whether all bounds agree, and at least one partition has two ends.
    fn agreed(self, levels: &[Level], members: &[usize]) -> bool {
        let mut certain = false;
        for child in members.iter().filter_map(|m| levels.get(*m)).flat_map(|l| &l.children) {
            match child.bound.as_ref().and_then(|bound| self.fits(bound)) {
                Some(speaks) => certain |= speaks,
                None => return false,
            }
        }
        certain
    }

    fn key(self) -> TimeKey {
        match self {
            Self::Number(unit) => TimeKey::Number(unit),
            Self::Uuid => TimeKey::Uuid,
        }
    }
}

/// Levels of one tree that are partitioned by the same integer or UUID column.
struct LevelGroup {
    key: PartitionKey,
    column: Option<Box<str>>,
    ranged: bool,
    members: Vec<usize>,
}

/// The groups, the topmost first.
fn groups(levels: &[Level], root: usize) -> Vec<LevelGroup> {
    let mut groups: Vec<LevelGroup> = Vec::new();
    let mut todo = VecDeque::from([root]);
    while let Some(index) = todo.pop_front() {
        let Some(level) = levels.get(index) else { continue };
        todo.extend(level.children.iter().filter_map(|c| c.level));
        let Some(key) = level.keys.first().copied().filter(|k| k.may_hold_time()) else { continue };
        if level.strategy == Strategy::Hash {
            continue;
        }
        let ranged = level.strategy == Strategy::Range;
        match groups.iter_mut().find(|g| g.key == key && g.column == level.column) {
            Some(group) => {
                group.members.push(index);
                group.ranged |= ranged;
            }
            None => {
                let column = level.column.clone();
                groups.push(LevelGroup { key, column, ranged, members: vec![index] });
            }
        }
    }
    groups
}

fn set(levels: &mut [Level], members: &[usize], key: PartitionKey) {
    for index in members {
        if let Some(first) = levels.get_mut(*index).and_then(|level| level.keys.first_mut()) {
            *first = key;
        }
    }
}

/// Finds out which integer and UUID keys of a tree hold a time, and makes time keys of them. The
/// configured unit goes to the topmost integer key by RANGE (`Day`: else by LIST); all others are
/// taken only if their bounds are unanimous: one unit, 2000 to 2200, on whole hours of UTC, 1 h to
/// 400 d wide.
pub fn settle(levels: &mut [Level], root: usize, configured: Option<KeyUnit>) {
    let groups = groups(levels, root);
    let integer = |g: &&LevelGroup| g.key == PartitionKey::Integer;
    let told = groups.iter().filter(integer).position(|g| g.ranged);
    let told = told.or((configured == Some(KeyUnit::Day)).then_some(0));
    let mut integers = 0;
    for group in &groups {
        let mut guesses: Vec<Guess> = match group.key {
            PartitionKey::Integer => KeyUnit::ALL.map(Guess::Number).to_vec(),
            _ => vec![Guess::Uuid],
        };
        if group.key == PartitionKey::Integer {
            if let Some(unit) = configured.filter(|_| told == Some(integers)) {
                set(levels, &group.members, PartitionKey::Time(TimeKey::Number(unit)));
                guesses.clear();
            }
            integers += 1;
        }
        if let Some(guess) = guesses.into_iter().find(|g| g.agreed(levels, &group.members)) {
            set(levels, &group.members, PartitionKey::Time(guess.key()));
        }
    }
}

/// Keys from `next` up to the end of the partitions that take it: negative past their end, 0 if none
/// ever did, infinite without an end. `None` unless the root is partitioned by RANGE of an integer
/// that holds no time.
pub fn keys_remaining(levels: &mut [Level], root: usize, next: i64) -> Option<f64> {
    let level = levels.get(root)?;
    if (level.strategy, level.keys.first()) != (Strategy::Range, Some(&PartitionKey::Integer)) {
        return None;
    }
    let group = groups(levels, root).into_iter().next()?;
    let next = i128::from(next);
    // A key is to its partitions what a microsecond is to those of time.
    set(levels, &group.members, PartitionKey::Time(TimeKey::Number(KeyUnit::Micros)));
    let outlook = assess(levels, root, next, &TimeZone::UTC);
    set(levels, &group.members, group.key);
    match outlook.runway.ok()?.until {
        None => Some(0.0),
        Some(Moment::At(until)) => Some((until - next) as f64),
        Some(end) => Some(end.seconds()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;
    use crate::derive::partition::tree::Child;

    fn range(from: &str, to: &str) -> Child {
        Child {
            id: 0,
            bound: Bound::parse(&format!("FOR VALUES FROM ({from}) TO ({to})")),
            level: None,
            pages: 0,
            rows: None,
        }
    }

    fn tree(key: PartitionKey, children: Vec<Child>) -> Vec<Level> {
        let column = Some("k".into());
        vec![Level { strategy: Strategy::Range, keys: [key].into(), column, zone: None, children }]
    }

    /// What a table with these partitions turns out to be keyed by.
    fn settled(
        key: PartitionKey,
        ranges: &[(&str, &str)],
        configured: Option<KeyUnit>,
    ) -> PartitionKey {
        let children = ranges.iter().map(|(from, to)| range(from, to)).collect();
        let mut levels = tree(key, children);
        settle(&mut levels, 0, configured);
        levels[0].keys[0]
    }

    fn number(unit: KeyUnit) -> PartitionKey {
        PartitionKey::Time(TimeKey::Number(unit))
    }

    #[test]
    fn unanimous_bounds_tell_the_unit() {
        // 2026-11-22 and 2026-11-23, 00:00 UTC.
        for (unit, zeros) in [
            (KeyUnit::Seconds, ""),
            (KeyUnit::Millis, "000"),
            (KeyUnit::Micros, "000000"),
            (KeyUnit::Nanos, "000000000"),
        ] {
            let (from, to) = (format!("'1795305600{zeros}'"), format!("'1795392000{zeros}'"));
            let ranges = [("MINVALUE", from.as_str()), (from.as_str(), to.as_str())];
            assert_eq!(settled(PartitionKey::Integer, &ranges, None), number(unit));
        }
        let days = [("20260101", "20260201"), ("20260201", "20260301")];
        assert_eq!(settled(PartitionKey::Integer, &days, None), number(KeyUnit::Day));
        let v7 =
            [("'019d9b4d-0000-7000-8000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'")];
        assert_eq!(settled(PartitionKey::Uuid, &v7, None), PartitionKey::Uuid);
        let at = |ms: i64| format!("'{:08x}-{:04x}-7000-8000-000000000000'", ms >> 16, ms & 0xffff);
        let (from, to) = (at(1_795_305_600_000), at(1_795_392_000_000));
        assert_eq!(
            settled(PartitionKey::Uuid, &[(&from, &to)], None),
            PartitionKey::Time(TimeKey::Uuid)
        );
    }

    #[test]
    fn what_is_not_unanimous_is_no_time() {
        for ranges in [
            // A billion IDs a partition.
            [("1000000000", "2000000000"), ("2000000000", "3000000000")].as_slice(),
            // One bound is no whole hour, too early, or another unit's.
            &[("1795305600", "1795392000"), ("1795392000", "1795392060")],
            &[("0", "1795305600"), ("1795305600", "1795392000")],
            &[("1795305600", "1795392000"), ("1795392000000", "1795478400000")],
            // Two years.
            &[("1795305600", "1858377600")],
            &[("20260101", "20260230")],
            // Only one end: too little to tell.
            &[("MINVALUE", "1795305600")],
            &[("1795305600", "MAXVALUE")],
            &[],
        ] {
            assert_eq!(
                settled(PartitionKey::Integer, ranges, None),
                PartitionKey::Integer,
                "{ranges:?}"
            );
        }
        let ids = [("1000000000", "2000000000")];
        assert_eq!(
            settled(PartitionKey::Integer, &ids, Some(KeyUnit::Seconds)),
            number(KeyUnit::Seconds)
        );
        assert_eq!(settled(PartitionKey::Uuid, &[], Some(KeyUnit::Seconds)), PartitionKey::Uuid);
    }

    #[test]
    fn the_configured_unit_is_for_the_topmost_range() {
        let list = |column: &str, below| Level {
            strategy: Strategy::List,
            keys: [PartitionKey::Integer].into(),
            column: Some(column.into()),
            zone: None,
            children: vec![Child {
                id: 0,
                bound: Bound::parse("FOR VALUES IN (1)"),
                level: below,
                pages: 0,
                rows: None,
            }],
        };
        let mut levels = vec![list("tenant", Some(1))];
        levels.extend(tree(PartitionKey::Integer, vec![range("5", "9")]));
        settle(&mut levels, 0, Some(KeyUnit::Day));
        assert_eq!(
            (levels[0].keys[0], levels[1].keys[0]),
            (PartitionKey::Integer, number(KeyUnit::Day))
        );
        let mut levels = vec![list("day", None)];
        settle(&mut levels, 0, Some(KeyUnit::Seconds));
        assert_eq!(levels[0].keys[0], PartitionKey::Integer, "a second is no slice");
        settle(&mut levels, 0, Some(KeyUnit::Day));
        assert_eq!(levels[0].keys[0], number(KeyUnit::Day));
    }

    #[test]
    fn days_that_do_not_exist_are_the_next_that_does() {
        let at = |n: i128| KeyUnit::Day.instant(n, &TimeZone::UTC);
        for (number, same) in [
            (20_260_230, 20_260_301),
            (20_261_131, 20_261_201),
            (20_261_200, 20_261_201),
            (20_261_299, 20_270_101),
            (20_261_300, 20_270_101),
            (20_260_000, 20_260_101),
            (99_999_999, 100_000_101),
        ] {
            assert_eq!(at(number), at(same), "{number}");
            assert_eq!(KeyUnit::Day.plausible(number), None);
        }
        assert_eq!(at(19_700_102), Moment::At(DAY));
        assert_eq!(
            (at(-5), at(0), at(i64::MAX.into())),
            (Moment::Past, Moment::Past, Moment::Future)
        );
    }

    #[test]
    fn nanoseconds_round_up_to_the_first_microsecond() {
        let at = |n: i128| KeyUnit::Nanos.instant(n, &TimeZone::UTC);
        assert_eq!(
            (at(1_000), at(1_001), at(-1_500)),
            (Moment::At(1), Moment::At(2), Moment::At(-1))
        );
    }

    #[test]
    fn remaining_keys_end_at_a_gap() {
        let mut levels = tree(
            PartitionKey::Integer,
            vec![range("0", "100"), range("100", "200"), range("300", "400")],
        );
        for (next, left) in
            [(0, 200.0), (150, 50.0), (199, 1.0), (200, 0.0), (250, -50.0), (399, 1.0), (-1, 0.0)]
        {
            assert_eq!(keys_remaining(&mut levels, 0, next), Some(left), "{next}");
        }
        assert_eq!(levels[0].keys[0], PartitionKey::Integer);
        let mut endless = tree(PartitionKey::Integer, vec![range("0", "MAXVALUE")]);
        assert_eq!(keys_remaining(&mut endless, 0, 7), Some(f64::INFINITY));
        let mut dates = tree(PartitionKey::Time(TimeKey::Date), Vec::new());
        assert_eq!(keys_remaining(&mut dates, 0, 7), None);
    }

    proptest! {
        #[test]
        fn never_panics(a in any::<i64>(), b in any::<i64>(), text in any::<String>()) {
            let (from, to) = (a.to_string(), format!("'{b}'"));
            let _ = (settled(PartitionKey::Integer, &[(&from, &to)], None), uuid_millis(&text));
            for unit in KeyUnit::ALL {
                let (x, y) = (unit.instant(a.into(), &TimeZone::UTC), unit.instant(b.into(), &TimeZone::UTC));
                prop_assert_eq!(a <= b && x > y, false);
            }
        }
    }
}
