//! Trees against a reference that follows single rows, as PostgreSQL routes them.

use jiff::ToSpan;
use proptest::prelude::{
    Just, Strategy as Generator, any, prop, prop_assert_eq, prop_oneof, proptest,
};

use super::*;

const DAY: i128 = 86_400 * moment::SECOND;
/// 2026-01-01 00:00 UTC, day 0 of the tests.
const EPOCH: i128 = 1_767_225_600 * moment::SECOND;
/// Noon of day 10.
const NOW: i128 = EPOCH + 10 * DAY + DAY / 2;

fn day(number: i64) -> Datum {
    let date = jiff::civil::date(2026, 1, 1).saturating_add(number.days());
    Datum::Value(format!("{date} 00:00:00+00").into())
}

fn leaf(bound: Bound) -> Child {
    Child { id: 0, bound: Some(bound), level: None, pages: 1, rows: None }
}

fn days(from: i64, to: i64) -> Bound {
    Bound::Range { from: [day(from)].into(), to: [day(to)].into() }
}

fn value(k: u8) -> Datum {
    Datum::Value(k.to_string().into())
}

fn by_time(children: Vec<Child>) -> Level {
    let keys = [PartitionKey::Time(TimeKey::Timestamptz)].into();
    Level { strategy: Strategy::Range, keys, column: None, zone: None, children }
}

fn by_value(children: Vec<Child>) -> Level {
    Level {
        strategy: Strategy::List,
        keys: [PartitionKey::Other].into(),
        column: None,
        zone: None,
        children,
    }
}

/// Whether a row of noon of day `t` with the value `k` reaches a leaf, no DEFAULT of a time level on
/// its way.
fn takes(levels: &[Level], level: usize, t: i64, k: u8) -> bool {
    let level_of = &levels[level];
    let timed = level_of.time_key().is_some();
    let fits = |child: &&Child| match child.bound.as_ref().unwrap() {
        Bound::Range { from, to } => {
            let number = |d: &Datum| (-50..50).find(|n| day(*n) == *d).unwrap();
            number(&from[0]) <= t && t < number(&to[0])
        }
        Bound::List(values) => values.contains(&value(k)),
        _ => false,
    };
    let default = |child: &&Child| !timed && child.bound == Some(Bound::Default);
    let child = level_of.children.iter().find(fits).or(level_of.children.iter().find(default));
    child.is_some_and(|c| c.level.is_none_or(|below| takes(levels, below, t, k)))
}

/// Values 0 to 3 may be listed; 4 stands for all that are not.
fn taken(levels: &[Level], t: i64) -> Vec<u8> {
    (0..5).filter(|k| takes(levels, 0, t, *k)).collect()
}

/// Width in days, whether it is there, and the values it lists, DEFAULT or not (`None`: a leaf).
type Slice = (i64, bool, Option<(Vec<u8>, bool)>);

fn slices() -> impl Generator<Value = Vec<Slice>> {
    let values = prop::collection::btree_set(0..4_u8, 0..4);
    let below = prop_oneof![
        2 => Just(None),
        3 => (values, any::<bool>()).prop_map(|(v, d)| Some((v.into_iter().collect(), d))),
    ];
    prop::collection::vec((1..5_i64, prop::bool::weighted(0.85), below), 0..9)
}

fn time_over_list(start: i64, slices: &[Slice]) -> Vec<Level> {
    let mut levels = vec![by_time(vec![leaf(Bound::Default)])];
    let mut from = start;
    for (width, there, below) in slices {
        let mut child = leaf(days(from, from + width));
        from += width;
        if let Some((values, default)) = below {
            let mut children: Vec<Child> =
                values.iter().map(|v| leaf(Bound::List([value(*v)].into()))).collect();
            children.extend(default.then(|| leaf(Bound::Default)));
            child.level = Some(levels.len());
            levels.push(by_value(children));
        }
        if *there {
            levels[0].children.push(child);
        }
    }
    levels
}

fn runway(levels: &[Level]) -> Runway {
    assess(levels, 0, NOW, &TimeZone::UTC).runway.unwrap()
}

proptest! {
    #[test]
    fn time_over_list_ends_where_a_row_of_today_is_refused(
        start in -9..12_i64, slices in slices(),
    ) {
        let levels = time_over_list(start, &slices);
        let found = runway(&levels);
        let today = taken(&levels, 10);
        prop_assert_eq!(found.covered, !today.is_empty());
        let midnight = |t: i64| Some(Moment::At(EPOCH + i128::from(t) * DAY));
        let expected = if today.is_empty() {
            (-10..10).rfind(|t| !taken(&levels, *t).is_empty()).and_then(|t| midnight(t + 1))
        } else {
            let refused = |t: &i64| {
                let then = taken(&levels, *t);
                today.iter().any(|k| !then.contains(k))
            };
            (10..49).find(refused).and_then(midnight)
        };
        prop_assert_eq!(found.until, expected);
    }

    #[test]
    fn list_over_time_ends_with_the_first_branch(
        branches in prop::collection::vec((-9..12_i64, slices()), 1..5),
    ) {
        let mut levels = vec![by_value(Vec::new())];
        for (k, (start, slices)) in (0_u8..).zip(&branches) {
            let children = time_over_list(*start, slices).swap_remove(0).children;
            let children = children.into_iter().map(|c| Child { level: None, ..c }).collect();
            let level = Some(levels.len());
            levels[0].children.push(Child { level, ..leaf(Bound::List([value(k)].into())) });
            levels.push(by_time(children));
        }
        let all = |t: i64| (0_u8..).zip(&branches).all(|(k, _)| takes(&levels, 0, t, k));
        let found = runway(&levels);
        prop_assert_eq!(found.covered, all(10));
        let last = if all(10) {
            (10..49).find(|t| !all(*t))
        } else {
            (-10..10).rfind(|t| all(*t)).map(|t| t + 1)
        };
        let expected = last.map(|t| Moment::At(EPOCH + i128::from(t) * DAY));
        prop_assert_eq!(found.until, expected);
    }
}

#[test]
fn ten_thousand_slices_of_which_one_is_missing() {
    let children = (0..10_000_i64)
        .filter(|i| *i != 9_000)
        .map(|i| {
            let at = |i: i64| {
                let stamp = jiff::civil::date(2026, 1, 1).at(0, 0, 0, 0) + (i * 60).minutes();
                let text = stamp.strftime("%Y-%m-%d %H:%M:%S+00").to_string();
                [Datum::Value(text.into())].into()
            };
            leaf(Bound::Range { from: at(i), to: at(i + 1) })
        })
        .collect();
    let levels = [by_time(children)];
    let found = runway(&levels);
    assert_eq!(found.until, Some(Moment::At(EPOCH + 9_000 * 3_600 * moment::SECOND)));
    assert_eq!(found.next, Some(Moment::At(EPOCH + 9_001 * 3_600 * moment::SECOND)));
    assert_eq!(found.interval, Some(3_600 * moment::SECOND));
    assert_eq!(found.future, 10_000 - 1 - (10 * 24 + 13));
}

#[test]
fn a_tree_without_end_is_refused_and_not_followed() {
    let child = leaf(Bound::List([value(1)].into()));
    let deep: Vec<Level> =
        (0..1_000).map(|i| by_value(vec![Child { level: Some(i + 1), ..child.clone() }])).collect();
    assert_eq!(assess(&deep, 0, NOW, &TimeZone::UTC).runway, Err(Reason::TooDeep));
}

#[test]
fn a_bound_that_is_not_understood_leaves_no_runway() {
    let unread = Child { bound: None, ..leaf(Bound::Default) };
    let levels = [by_time(vec![leaf(days(0, 20)), unread])];
    assert_eq!(assess(&levels, 0, NOW, &TimeZone::UTC).runway, Err(Reason::BoundUnreadable));
    let odd = leaf(Bound::Range { from: [value(7)].into(), to: [Datum::MaxValue].into() });
    let levels = [by_time(vec![odd])];
    assert_eq!(assess(&levels, 0, NOW, &TimeZone::UTC).runway, Err(Reason::BoundUnreadable));
}

#[test]
fn rows_of_a_partitioned_default_are_those_of_its_leaves() {
    let rows = |n: f64| Child { rows: Some(n), ..leaf(Bound::Default) };
    let default = Child { level: Some(1), rows: Some(99.0), ..leaf(Bound::Default) };
    let below = by_value(vec![
        Child { bound: Some(Bound::List([value(1)].into())), ..rows(3.0) },
        rows(4.0),
    ]);
    let levels = [by_time(vec![leaf(days(0, 20)), default]), below];
    let found = assess(&levels, 0, NOW, &TimeZone::UTC);
    assert_eq!((found.has_default, found.default_rows), (true, Some(7.0)));
    assert_eq!((found.count, found.pages), (2, 3));
}

#[test]
fn coverage_has_every_gap_and_slices_every_leaf() {
    let at = |number: i128| Moment::At(EPOCH + number * DAY);
    let span = |from, to| Span { from: at(from), to: at(to) };
    let of = |ranges: &[(i64, i64)]| {
        by_time(ranges.iter().map(|(from, to)| leaf(days(*from, *to))).collect())
    };
    let levels = [of(&[(0, 1), (1, 3), (5, 6), (9, 11), (12, 13)])];
    let found = coverage(&levels, 0, NOW, &TimeZone::UTC);
    assert_eq!(found, [span(0, 3), span(5, 6), span(9, 11), span(12, 13)]);
    // Of two values, each with days of its own, both must be covered; each leaf is a slice.
    let child = |k: u8, level| Child { level: Some(level), ..leaf(Bound::List([value(k)].into())) };
    let ranges = |first: i64, ranges: &[(i64, i64)]| {
        let mut level = of(ranges);
        (first..).zip(&mut level.children).for_each(|(id, child)| child.id = id);
        level
    };
    let below = [ranges(1, &[(0, 12)]), ranges(2, &[(5, 10), (10, 11)])];
    let [a, b] = below;
    let levels = [by_value(vec![child(0, 1), child(1, 2)]), a, b];
    assert_eq!(coverage(&levels, 0, NOW, &TimeZone::UTC), [span(5, 11)]);
    let mut leaves = super::slices(&levels, 0, &TimeZone::UTC);
    leaves.sort_unstable();
    assert_eq!(leaves, [(span(0, 12), 1), (span(5, 10), 2), (span(10, 11), 3)]);
    // One partition for two days of a list.
    let dates = Level {
        strategy: Strategy::List,
        keys: [PartitionKey::Time(TimeKey::Date)].into(),
        ..by_value(vec![Child {
            id: 7,
            ..leaf(Bound::List([2, 5].map(|d| Datum::Value(format!("2026-01-0{d}").into())).into()))
        }])
    };
    let leaves = super::slices(&[dates], 0, &TimeZone::UTC);
    assert_eq!(leaves, [(span(1, 2), 7), (span(4, 5), 7)]);
    let hash = [by_value(vec![leaf(Bound::List([value(0)].into()))])];
    assert_eq!(coverage(&hash, 0, NOW, &TimeZone::UTC), []);
    assert_eq!(super::slices(&hash, 0, &TimeZone::UTC), []);
}

fn endless(from: i64) -> Bound {
    Bound::Range { from: [day(from)].into(), to: [Datum::MaxValue].into() }
}

fn rows(bound: Bound, rows: f64) -> Child {
    Child { rows: Some(rows), ..leaf(bound) }
}

/// Until which day what has an end reaches, and the rows in what has none.
fn open(levels: &[Level]) -> Option<(Option<i64>, Option<f64>)> {
    let outlook = assess(levels, 0, NOW, &TimeZone::UTC);
    let open_end = outlook.open_end?;
    let until = open_end.bounded.until.map(|until| match until {
        Moment::At(at) => i64::try_from((at - EPOCH) / DAY).unwrap(),
        other => panic!("{other:?}"),
    });
    Some((until, open_end.rows))
}

#[test]
fn what_has_no_end_is_told_from_what_has_one() {
    let table = |children: Vec<Child>| vec![by_time(children)];
    let with = |from: i64, n: f64| table(vec![leaf(days(9, 12)), rows(endless(from), n)]);
    assert_eq!(open(&with(12, 7.0)), Some((Some(12), Some(7.0))));
    let outlook = assess(&with(12, 7.0), 0, NOW, &TimeZone::UTC);
    assert_eq!(outlook.runway.unwrap().until, Some(Moment::Future), "nothing is refused");
    assert!(outlook.open_end.unwrap().bounded.covered);
    // Between the two is a gap, or everything is over and new rows go into it.
    assert_eq!(open(&with(15, 0.0)), Some((Some(12), Some(0.0))));
    let over = table(vec![leaf(days(5, 8)), leaf(endless(8))]);
    assert_eq!(open(&over), Some((Some(8), None)));
    assert!(!assess(&over, 0, NOW, &TimeZone::UTC).open_end.unwrap().bounded.covered);
    // Alone it is what somebody wanted, and an end that is there is no matter of this.
    let all = Bound::Range { from: [Datum::MinValue].into(), to: [Datum::MaxValue].into() };
    assert_eq!(open(&table(vec![leaf(all)])), None);
    assert_eq!(open(&table(vec![leaf(endless(3))])), None);
    assert_eq!(open(&table(vec![leaf(days(9, 12))])), None);
    assert_eq!(open(&table(vec![leaf(days(9, 12)), leaf(Bound::Default)])), None);
    // A beginning that is open says nothing of the end.
    let old = Bound::Range { from: [Datum::MinValue].into(), to: [day(9)].into() };
    assert_eq!(open(&table(vec![leaf(old), leaf(days(9, 12))])), None);
}

#[test]
fn what_has_no_end_is_found_on_every_level() {
    let below = |bound: Bound, level: usize| Child { level: Some(level), ..leaf(bound) };
    // By region, then by time: that which ends first counts, the rows of all.
    let mut regions = by_value(Vec::new());
    regions.children =
        (1..4_u8).map(|k| below(Bound::List([value(1 + k)].into()), usize::from(k))).collect();
    let levels = vec![
        regions,
        by_time(vec![leaf(days(9, 14)), rows(endless(14), 2.0)]),
        by_time(vec![leaf(days(9, 12)), rows(endless(12), 3.0)]),
        by_time(vec![leaf(days(9, 20))]),
    ];
    assert_eq!(open(&levels), Some((Some(12), Some(5.0))));
    // A slice of time whose parts by value have no end, and one whose parts by time have.
    let values = by_value(vec![rows(Bound::List([value(1)].into()), 4.0)]);
    let levels = vec![by_time(vec![below(days(9, 12), 1), below(endless(12), 1)]), values.clone()];
    assert_eq!(open(&levels), Some((Some(12), Some(4.0))));
    let inner = by_time(vec![leaf(days(12, 15)), rows(endless(15), 6.0)]);
    let levels = vec![by_time(vec![leaf(days(9, 12)), below(endless(12), 1)]), inner];
    assert_eq!(open(&levels), Some((Some(15), Some(6.0))));
    let ends = by_time(vec![leaf(days(12, 15)), leaf(days(15, 16))]);
    let levels = vec![by_time(vec![leaf(days(9, 12)), below(endless(12), 1)]), ends];
    assert_eq!(open(&levels), None, "it ends with its parts");
    // MAXVALUE below a slice that ends is an end.
    let inner = by_time(vec![leaf(days(9, 10)), leaf(endless(10))]);
    let levels = vec![by_time(vec![below(days(9, 12), 1)]), inner];
    assert_eq!(open(&levels), None);
}
