use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::derive::partition::tree::{PartitionKey, Strategy as By};
use crate::derive::partition::unit::TimeKey;

const UTC: &TimeZone = &TimeZone::UTC;

const DAY: i128 = 86_400_000_000;
/// 2026-11-22 12:00 UTC.
const NOW: i128 = 1_795_348_800_000_000;

struct Fixture {
    levels: Vec<Level>,
    names: Vec<Name>,
    labels: Vec<Vec<Label>>,
}

fn name(table: &str) -> Name {
    Name { schema: "public".to_owned(), table: table.to_owned() }
}

impl Fixture {
    fn new(key: TimeKey, strategy: By, partitions: &[(&str, &str)]) -> Self {
        let children = partitions
            .iter()
            .map(|(_, bound)| Child {
                id: 0,
                bound: Bound::parse(bound),
                level: None,
                pages: 0,
                rows: None,
            })
            .collect();
        let level = Level {
            strategy,
            keys: [PartitionKey::Time(key)].into(),
            column: None,
            zone: None,
            children,
        };
        let label = |(table, _): &(&str, &str)| Label { name: name(table), model: true };
        Self {
            levels: vec![level],
            names: vec![name("t")],
            labels: vec![partitions.iter().map(label).collect()],
        }
    }

    fn tree(&self) -> NamedTree<'_> {
        NamedTree {
            levels: &self.levels,
            names: &self.names,
            labels: &self.labels,
            root: 0,
            writer: UTC,
            zones: &[],
        }
    }

    fn extend(&self, days: i128) -> Result<Vec<Shortfall>, Obstacle> {
        let taken = self.labels.iter().flatten().map(|l| l.name.clone()).collect();
        extend(self.tree(), NOW, NOW + days * DAY, None, taken)
    }

    /// As if the plan had been executed.
    fn adopt(&mut self, extensions: &[Shortfall]) {
        for creation in extensions.iter().flat_map(|e| &e.creations) {
            let child = Child {
                id: 0,
                bound: Some(creation.bound.clone()),
                level: None,
                pages: 0,
                rows: None,
            };
            self.levels[0].children.push(child);
            self.labels[0].push(Label { name: creation.name.clone(), model: true });
        }
    }
}

fn created(extensions: &[Shortfall]) -> Vec<String> {
    let all = extensions.iter().flat_map(|e| &e.creations);
    all.map(|c| format!("{} {}", c.name.table, c.bound)).collect()
}

#[test]
fn gaps_ahead_are_filled_and_those_behind_told() {
    let fixture = Fixture::new(
        TimeKey::Date,
        By::Range,
        &[
            ("t_18", "FOR VALUES FROM ('2026-11-18') TO ('2026-11-19')"),
            ("t_20", "FOR VALUES FROM ('2026-11-20') TO ('2026-11-21')"),
            ("t_21", "FOR VALUES FROM ('2026-11-21') TO ('2026-11-22')"),
            ("t_24", "FOR VALUES FROM ('2026-11-24') TO ('2026-11-25')"),
            ("t_rest", "DEFAULT"),
        ],
    );
    let plan = fixture.extend(3).unwrap();
    assert_eq!(
        created(&plan),
        [
            "t_22 FOR VALUES FROM ('2026-11-22') TO ('2026-11-23')",
            "t_23 FOR VALUES FROM ('2026-11-23') TO ('2026-11-24')",
            "t_25 FOR VALUES FROM ('2026-11-25') TO ('2026-11-26')",
        ]
    );
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(plan[0].past, [pair("2026-11-19", "2026-11-20")]);
    assert_eq!(
        plan[0].ranges,
        [pair("2026-11-22", "2026-11-24"), pair("2026-11-25", "2026-11-26")]
    );
    assert_eq!((plan[0].default, plan[0].pattern.as_deref()), (Some(4), Some("t_DD")));
}

#[test]
fn a_list_of_days_with_a_hole_counts_for_what_it_takes() {
    let fixture = Fixture::new(
        TimeKey::Date,
        By::List,
        &[
            ("t_20261121", "FOR VALUES IN ('2026-11-21')"),
            ("t_20261122", "FOR VALUES IN ('2026-11-22')"),
            ("odd", "FOR VALUES IN ('2026-11-23', '2026-11-25', NULL)"),
        ],
    );
    let plan = fixture.extend(4).unwrap();
    assert_eq!(
        created(&plan),
        ["t_20261124 FOR VALUES IN ('2026-11-24')", "t_20261126 FOR VALUES IN ('2026-11-26')"]
    );
}

#[test]
fn nothing_is_created_that_would_have_to_go() {
    let fixture = Fixture::new(
        TimeKey::Timestamp,
        By::Range,
        &[
            ("t_2025_01", "FOR VALUES FROM ('2025-01-01 00:00:00') TO ('2025-02-01 00:00:00')"),
            ("t_2025_02", "FOR VALUES FROM ('2025-02-01 00:00:00') TO ('2025-03-01 00:00:00')"),
        ],
    );
    let until = NOW + DAY;
    let plan = extend(fixture.tree(), NOW, until, Some(NOW - 30 * DAY), HashSet::new()).unwrap();
    // The one for now first.
    assert_eq!(
        created(&plan),
        [
            "t_2026_11 FOR VALUES FROM ('2026-11-01 00:00:00') TO ('2026-12-01 00:00:00')",
            "t_2026_10 FOR VALUES FROM ('2026-10-01 00:00:00') TO ('2026-11-01 00:00:00')",
        ]
    );
    assert_eq!(fixture.extend(1).unwrap()[0].creations.len(), 21);
}

#[test]
fn other_columns_must_not_play_a_part() {
    let bounds = |a: &str, b: &str| {
        let mut fixture = Fixture::new(
            TimeKey::Date,
            By::Range,
            &[
                ("t_21", &format!("FOR VALUES FROM ('2026-11-21', {a}) TO ('2026-11-22', {a})")),
                ("t_22", &format!("FOR VALUES FROM ('2026-11-22', {a}) TO ('2026-11-23', {b})")),
            ],
        );
        fixture.levels[0].keys = [PartitionKey::Time(TimeKey::Date), PartitionKey::Other].into();
        fixture.extend(1).map(|plan| created(&plan))
    };
    let want = "t_23 FOR VALUES FROM ('2026-11-23', MINVALUE) TO ('2026-11-24', MINVALUE)";
    assert_eq!(bounds("MINVALUE", "MINVALUE"), Ok(vec![want.to_owned()]));
    assert_eq!(bounds("MINVALUE", "5"), Err(Obstacle::OtherColumns { level: 0 }));
}

proptest! {
    /// Whatever is missing of a daily table: the plan covers it, uses no name twice, and once done
    /// leaves nothing to do.
    #[test]
    fn a_plan_once_done_is_done(
        present in prop::collection::btree_set(-20_i64..40, 4..30),
        days in 1_i128..60,
    ) {
        // Two that touch, so that there is a rhythm.
        let mut present = present;
        let newest = *present.last().unwrap();
        present.insert(newest + 1);
        let partitions: Vec<(String, String)> = present
            .iter()
            .map(|n| {
                let day = |n: i64| {
                    let at = NOW - NOW % DAY + i128::from(n) * DAY;
                    rhythm::local(at, &TimeZone::UTC).unwrap().date().to_string()
                };
                (
                    format!("t_{}", day(*n).replace('-', "_")),
                    format!("FOR VALUES FROM ('{}') TO ('{}')", day(*n), day(*n + 1)),
                )
            })
            .collect();
        let partitions: Vec<(&str, &str)> =
            partitions.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let mut fixture = Fixture::new(TimeKey::Date, By::Range, &partitions);
        let plan = fixture.extend(days).unwrap();
        prop_assert!(plan.iter().all(|e| e.pattern.as_deref() == Some("t_YYYY_MM_DD")));
        prop_assert!(plan.iter().flat_map(|e| &e.creations).all(|c| c.instead_of.is_none()));
        fixture.adopt(&plan);
        let names: HashSet<&Name> = fixture.labels[0].iter().map(|l| &l.name).collect();
        prop_assert_eq!(names.len(), fixture.labels[0].len());
        prop_assert_eq!(fixture.extend(days), Ok(Vec::new()));
    }
}
