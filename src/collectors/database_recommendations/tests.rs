//! The metric from fixed rows, and the facts that the rules get.

use super::*;
use crate::collectors::golden::{check, poll, value};
use crate::collectors::relations;
use crate::derive::vacuum::{Counts, Thresholds};
use crate::findings::{Growing, Leaf, Overdue, TableFacts};

const DAY: i64 = 86_400;

/// `trades` by days: 40 behind, today, and five ahead; a plain table beside it.
fn rows() -> Rows {
    let today = 20_000;
    let days = today - 40..=today + 5;
    let oid = |day: i64| 100 + day - (today - 40);
    let date = |day: i64| {
        let at = jiff::Timestamp::from_second(day * DAY).unwrap();
        Some(jiff::civil::DateTime::from(at.to_zoned(jiff::tz::TimeZone::UTC)).date().to_string())
    };
    let bound =
        |day: i64| Some(format!("FOR VALUES FROM ('{}') TO ('{}')", date(day)?, date(day + 1)?));
    let partitions = partitions::Rows {
        datname: "app".to_owned(),
        now: (today * DAY + DAY / 2) * 1_000_000,
        block_size: 8_192,
        zone: partitions::Zone::find(["UTC"]),
        required: 7.0 * 86_400.0,
        tables: vec![partitions::PartitionedTable {
            oid: 1,
            name: Some(("public".to_owned(), "trades".to_owned())),
            strategy: "r".to_owned(),
            keys: vec!["date".to_owned()],
            column: Some("day".to_owned()),
            zone: None,
            rule: partitions::TableRule::default(),
        }],
        partitions: days
            .clone()
            .map(|day| partitions::Partition {
                oid: oid(day),
                parent: 1,
                bound: bound(day),
                pages: 1,
                rows: None,
                name: None,
            })
            .collect(),
        next_keys: HashMap::new(),
        must_exist: Vec::new(),
        per_partition: 0,
    };
    let size = |id: i64, parent, index_of, bytes| sizes::SizedRelation {
        table: relations::TableRow { id, parent, name: None },
        index_of,
        estimated: false,
        bytes: Some(bytes),
    };
    // 12 MiB a day with its index until today; nothing is ahead.
    let mib = 1_048_576;
    let filled = |day: i64| if day <= today { mib } else { 0 };
    let sizes = sizes::Rows {
        took: 0.1,
        too_many: false,
        datname: "app".to_owned(),
        relations: days
            .flat_map(|day| {
                [
                    size(oid(day), Some(1), None, 8 * filled(day)),
                    size(oid(day) + 1_000, None, Some(oid(day)), 4 * filled(day)),
                ]
            })
            .chain([size(9, None, None, 1_000 * mib)])
            .collect(),
    };
    let relation = |id, parent, name: Option<&str>, stored, dead| vacuum::VacuumedRelation {
        table: relations::TableRow {
            id,
            parent,
            name: name.map(|name| ("public".to_owned(), name.to_owned())),
        },
        stored,
        options: None,
        live: 100_000.0,
        counts: Counts { rows: 100_000.0 * f64::from(u8::from(stored)), dead, ..Counts::default() },
        last: vacuum::LastDone::default(),
        counters: vacuum::TableCounters::default(),
    };
    let vacuum = vacuum::Rows {
        started: 1.0,
        now: 1e9,
        datname: "app".to_owned(),
        thresholds: Thresholds {
            vacuum: (50.0, 0.2),
            vacuum_max: None,
            insert: (1_000.0, 0.2),
            analyze: (50.0, 0.1),
            freeze_max_age: 2e8,
        },
        tells_of_partitioned: true,
        relations: vec![
            relation(1, None, Some("trades"), false, 0.0),
            relation(100, Some(1), None, true, 40_101.0),
            relation(101, Some(1), None, true, 40_000.0),
            relation(9, None, Some("users"), true, 0.0),
        ],
        progress: Vec::new(),
    };
    Rows {
        took: 1.0,
        least: Duration::ZERO,
        datname: "app".to_owned(),
        version_num: 150_000,
        role: "mon".to_owned(),
        partitions: Ok(partitions),
        odd: Ok(Some(Vec::new())),
        vacuum: Ok(vacuum),
        sizes: Ok(sizes),
        indexes: Err(CollectError::Missing {
            what: "no right".to_owned(),
            remedy: "GRANT".to_owned(),
        }),
        not_valid: Ok(Vec::new()),
        extensions: Ok(crate::collectors::extensions::Rows {
            datname: "app".to_owned(),
            extensions: Vec::new(),
        }),
        jobs: Err(CollectError::Missing { what: "off".to_owned(), remedy: String::new() }),
        ages: Ok(Ages { tables: 3.0, oldest: 1e6, old: Vec::new() }),
        names: catalogue::NamesByOid::default(),
    }
}

#[test]
fn golden_with_one_part_that_could_not_be_read() {
    let families = poll(&DatabaseRecommendations, &mut State::default(), rows());
    let active = |id| value(&families, ACTIVE.name, &["app", id]);
    assert_eq!(active("partition.runway"), Some(1.0), "5.5 of 7 days");
    assert_eq!(active("vacuum.age"), Some(1.0));
    assert_eq!(active("storage.growth"), Some(1.0));
    assert_eq!(active("index.unused"), None);
    assert_eq!(active("statements.prepare"), None);
    check("databaserecommendations", &families);
}

#[test]
fn the_facts_are_those_of_the_collectors() {
    let rows = rows();
    let facts = facts(&rows, verdicts(&rows).as_ref());
    let growth = facts.growth.unwrap();
    let mib = 1_048_576.0;
    assert_eq!(growth.bytes, (41.0 * 12.0 + 1_000.0) * mib);
    assert_eq!(
        growth.tables,
        [Growing {
            name: Relation::new("public", "trades"),
            bytes: 41.0 * 12.0 * mib,
            per_day: 12.0 * mib,
            span: 30.0 * 86_400.0,
            oldest: (20_000.0 - 40.0) * 86_400.0,
            kept: None,
            estimated: false,
        }]
    );
    let [trades] = facts.partitioned.unwrap().try_into().unwrap();
    assert_eq!((trades.leaves, trades.covered, trades.has_default), (46.0, true, false));
    assert_eq!(trades.runway, Some((5.5 * 86_400.0, 7.0 * 86_400.0)));
    let [trades, users]: [TableFacts; 2] = facts.tables.unwrap().try_into().unwrap();
    // Of two partitions one is just not overdue.
    let leaf = Leaf { oid: 100, amount: 40_101.0, live: 100_000.0, ..Leaf::default() };
    let times = 40_101.0 / 20_050.0;
    assert_eq!(trades.vacuum, Overdue { tables: 1, times, worst: vec![leaf] });
    assert_eq!((trades.unanalyzed, trades.partitioned), (Some(f64::INFINITY), true));
    assert_eq!(trades.rows, 280_101.0);
    assert_eq!((users.unanalyzed, users.partitioned), (None, false));
    assert_eq!(users.vacuum_at, 20_050.0);
    assert_eq!((facts.indexes, facts.bloated), (None, None));
}

#[test]
fn what_could_not_be_read_is_not_judged() {
    let missing = || CollectError::Missing { what: "off".to_owned(), remedy: String::new() };
    let active = |rows: Rows, id: &str| {
        let families = poll(&DatabaseRecommendations, &mut State::default(), rows);
        value(&families, ACTIVE.name, &["app", id])
    };
    let without = || Rows { partitions: Err(missing()), ..rows() };
    assert_eq!(active(without(), "partition.runway"), None);
    assert_eq!(active(without(), "storage.growth"), None);
    assert_eq!(active(without(), "vacuum.age"), Some(1.0));
    let without = || Rows { vacuum: Err(missing()), ..rows() };
    assert_eq!(active(without(), "vacuum.age"), None);
    assert_eq!(active(without(), "vacuum.scale_factor"), None);
    assert_eq!(active(without(), "partition.runway"), Some(1.0));
    // One partition whose size nobody knows: too little looks like no growth.
    let mut locked = rows();
    let sizes = locked.sizes.as_mut().unwrap();
    (sizes.relations[0].estimated, sizes.relations[0].bytes) = (true, None);
    assert_eq!(active(locked, "storage.growth"), None);
}

#[test]
fn what_is_retired_does_not_grow_and_rest_is_as_long_as_the_work() {
    let mut state = State::default();
    let growing = |state: &mut State, rows| {
        let families = poll(&DatabaseRecommendations, state, rows);
        value(&families, ACTIVE.name, &["app", "storage.growth"])
    };
    assert_eq!(growing(&mut state, rows()), Some(1.0));
    let mut retired = rows();
    retired.partitions.as_mut().unwrap().partitions.remove(0);
    (retired.took, retired.least) = (20.0, Duration::from_secs(1_000));
    assert_eq!(growing(&mut state, retired), Some(0.0), "it keeps 39 days and holds as many");
    let interval = |state: &State| Collector::interval(&DatabaseRecommendations, state);
    assert_eq!(interval(&state), Duration::from_secs(2_000));
    state.took = 0.1;
    assert_eq!(interval(&state), Duration::from_secs(1_000));
    assert_eq!(interval(&State::default()), DatabaseRecommendations::INTERVAL);
}
