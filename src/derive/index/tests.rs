//! Properties of the covers that hold whatever indexes a table has, and the windows of the verdicts.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

fn definition(keys: &[(i16, i16)]) -> Definition {
    let key = |(column, option): &(i16, i16)| IndexKey {
        term: Term::Column(*column),
        opclass: 1,
        collation: 0,
        option: *option,
    };
    Definition {
        method: "btree".to_owned(),
        keys: keys.iter().map(key).collect(),
        include: Vec::new(),
        predicate: None,
        options: String::new(),
        unique: false,
        nulls_not_distinct: false,
        immediate: true,
    }
}

fn index(id: i64, definition: Definition) -> Index {
    Index {
        id,
        table: 1,
        parent: None,
        name: Some(format!("i{id}")),
        partitioned: false,
        valid: true,
        ready: true,
        live: true,
        building: false,
        primary: false,
        exclusion: false,
        replica_identity: false,
        clustered: false,
        constraint: None,
        referenced: false,
        scans: 0.0,
        last_scan: None,
        pages: 1.0,
        created: None,
        reset: None,
        definition: Some(definition),
    }
}

fn facts(indexes: Vec<Index>) -> IndexFacts {
    let table = IndexedTable {
        id: 1,
        parent: None,
        name: Some(("public".to_owned(), "t".to_owned())),
        kind: TableKind::Plain,
        rows: 1e6,
        pages: 1e4,
        seq_scans: 0.0,
        seq_rows: 0.0,
        reset: None,
    };
    let tables = vec![table];
    IndexFacts {
        now: 1000.0,
        since: 0.0,
        block_size: 8192.0,
        tables,
        indexes,
        foreign_keys: vec![],
    }
}

const LIMITS: Strictness =
    Strictness { unused_after: 100.0, minimum_rows: 0.0, seq_scan_bytes: 0.0 };

fn covers(facts: &IndexFacts) -> HashMap<i64, Cover> {
    let judged = judge(facts, &LIMITS).indexes;
    judged.into_iter().filter_map(|j| Some((j.id, j.cover?))).collect()
}

prop_compose! {
    fn any_index()(
        keys in prop::collection::vec((1i16..4, 0i16..4), 1..4),
        include in prop::collection::vec(4i16..6, 0..2),
        flags in prop::collection::vec(prop::bool::weighted(0.2), 8),
        hash in prop::bool::weighted(0.1),
    ) -> Index {
        let mut definition = definition(&keys);
        definition.include = include;
        definition.unique = flags[0] || flags[1];
        definition.immediate = !flags[2];
        if hash {
            definition.method = "hash".to_owned();
        }
        if flags[3] {
            definition.predicate = Some(Predicate::new("{X}"));
        }
        let mut index = index(0, definition);
        index.primary = flags[1];
        index.clustered = flags[4];
        index.valid = !flags[5];
        index.referenced = flags[6];
        index.scans = if flags[7] { 5.0 } else { 0.0 };
        index.constraint = flags[1].then(|| "c".to_owned());
        index
    }
}

#[test]
fn of_two_twins_the_one_that_is_scanned_stays() {
    for (one, other) in [(5.0, 0.0), (0.0, 5.0)] {
        let mut indexes = vec![index(1, definition(&[(1, 0)])), index(2, definition(&[(1, 0)]))];
        (indexes[0].scans, indexes[1].scans) = (one, other);
        let judged = judge(&facts(indexes), &LIMITS).indexes;
        let goes = |j: &Judged| j.cover.is_some() || matches!(j.usage, Usage::Unused { .. });
        let going: Vec<i64> = judged.iter().filter(|j| goes(j)).map(|j| j.id).collect();
        assert_eq!(going, [if one > 0.0 { 2 } else { 1 }]);
    }
}

proptest! {
    #[test]
    fn what_is_named_can_all_be_dropped_at_once(
        mut indexes in prop::collection::vec(any_index(), 0..12),
    ) {
        for (id, index) in (1..).zip(&mut indexes) {
            (index.id, index.name) = (id, Some(format!("i{id}")));
        }
        let facts = facts(indexes);
        let covers = covers(&facts);
        let judged = judge(&facts, &LIMITS).indexes;
        let unused: HashSet<i64> = judged
            .iter()
            .filter(|j| matches!(j.usage, Usage::Unused { .. }))
            .map(|j| j.id)
            .collect();
        for (id, cover) in covers.iter().filter(|(id, _)| !unused.contains(id)) {
            prop_assert!(!unused.contains(&cover.by), "{id} is used, {cover:?} is to go");
        }
        let by_id: HashMap<i64, &Index> = facts.indexes.iter().map(|i| (i.id, i)).collect();
        for (id, cover) in &covers {
            let (gone, stays) = (by_id[id], by_id[&cover.by]);
            prop_assert!(!covers.contains_key(&cover.by), "{id} by {cover:?}");
            prop_assert!(!gone.primary && !gone.referenced && gone.usable() && stays.usable());
            let (a, b) = (gone.definition.as_ref().unwrap(), stays.definition.as_ref().unwrap());
            prop_assert_eq!((&a.method, &a.predicate), (&b.method, &b.predicate));
            prop_assert!(!a.unique || (b.unique && cover.how == How::Duplicate));
            let columns = |d: &Definition, n: usize| {
                d.keys.iter().take(n).map(|k| k.term.clone()).collect::<Vec<_>>()
            };
            prop_assert_eq!(columns(a, a.keys.len()), columns(b, a.keys.len()));
        }
    }

    #[test]
    fn the_order_of_the_catalog_makes_no_difference(
        mut indexes in prop::collection::vec(any_index(), 0..10),
        swaps in prop::collection::vec((0usize..10, 0usize..10), 10),
    ) {
        for (id, index) in (1..).zip(&mut indexes) {
            (index.id, index.name) = (id, Some(format!("i{id}")));
        }
        let before = covers(&facts(indexes.clone()));
        for (a, b) in swaps {
            if a.max(b) < indexes.len() {
                indexes.swap(a, b);
            }
        }
        prop_assert_eq!(before, covers(&facts(indexes)));
    }

    #[test]
    fn of_equal_plain_indexes_all_but_one_are_named(n in 1i64..8, option in 0i16..4) {
        let all = (1..=n).map(|id| index(id, definition(&[(1, option), (2, 0)]))).collect();
        let covers = covers(&facts(all));
        prop_assert_eq!(covers.len() as i64, n - 1);
        let first = Cover { by: 1, how: How::Duplicate };
        prop_assert!(covers.values().all(|c| *c == first));
    }
}

#[test]
fn an_index_is_unused_only_after_a_window_that_begins_when_it_came() {
    let usage = |since: f64, created: Option<f64>, scans: f64| {
        let young = Index { created, scans, ..index(1, definition(&[(1, 0)])) };
        judge(&IndexFacts { since, ..facts(vec![young]) }, &LIMITS).indexes[0].usage
    };
    assert_eq!(usage(0.0, None, 0.0), Usage::Unused { since: 0.0 });
    assert_eq!(usage(900.0, None, 0.0), Usage::Unused { since: 900.0 });
    assert_eq!(usage(901.0, None, 0.0), Usage::TooEarly { since: 901.0 });
    assert_eq!(usage(0.0, Some(950.0), 0.0), Usage::TooEarly { since: 950.0 });
    assert_eq!(usage(800.0, Some(10.0), 0.0), Usage::Unused { since: 800.0 });
    assert_eq!(usage(999.0, None, 1.0), Usage::Used);
}

#[test]
fn an_index_whose_counters_were_reset_is_not_unused_for_as_long_as_before() {
    let usage = |reset: Option<f64>| {
        let index = Index { reset, ..index(1, definition(&[(1, 0)])) };
        judge(&facts(vec![index]), &LIMITS).indexes[0].usage
    };
    assert_eq!(usage(None), Usage::Unused { since: 0.0 });
    assert_eq!(usage(Some(900.0)), Usage::Unused { since: 900.0 });
    assert_eq!(usage(Some(901.0)), Usage::TooEarly { since: 901.0 });
    // That of one partition may have been all there was.
    let mut facts = facts(vec![]);
    facts.tables[0].kind = TableKind::Partitioned;
    let leaf = IndexedTable { id: 2, parent: Some(1), name: None, ..facts.tables[0].clone() };
    facts.tables.push(IndexedTable { kind: TableKind::Plain, ..leaf });
    let root = Index { partitioned: true, ..index(10, definition(&[(1, 0)])) };
    let part =
        Index { table: 2, parent: Some(10), reset: Some(950.0), ..index(11, definition(&[])) };
    facts.indexes = vec![root, part];
    assert_eq!(judge(&facts, &LIMITS).indexes[0].usage, Usage::TooEarly { since: 950.0 });
}

#[test]
fn a_partition_without_its_part_is_named_unless_a_build_is_running() {
    let leaf =
        |id| IndexedTable { id, parent: Some(1), name: None, ..facts(vec![]).tables[0].clone() };
    let mut facts = facts(vec![]);
    facts.tables[0].kind = TableKind::Partitioned;
    facts.tables.extend([leaf(2), leaf(3), IndexedTable { kind: TableKind::Foreign, ..leaf(4) }]);
    let root = Index { partitioned: true, ..index(10, definition(&[(1, 0)])) };
    let part = |id, table, valid| Index {
        table,
        parent: Some(10),
        valid,
        scans: 2.0,
        last_scan: Some(id as f64),
        definition: None,
        ..index(id, definition(&[]))
    };
    facts.indexes = vec![root, part(11, 2, true), part(12, 3, false)];
    let judged = judge(&facts, &LIMITS).indexes.remove(0);
    let coverage = Coverage { leaves: 2, missing: vec![3] };
    assert_eq!(
        (judged.invalid, judged.coverage.as_ref()),
        (Some(Invalid::Unattached), Some(&coverage))
    );
    assert_eq!((coverage.ratio(), judged.scans, judged.last_scan), (Some(0.5), 4.0, Some(12.0)));
    facts.indexes[0].building = true;
    assert_eq!(judge(&facts, &LIMITS).indexes[0].invalid, None);
    facts.indexes[0].building = false;
    facts.indexes[2].valid = true;
    let judged = judge(&facts, &LIMITS).indexes.remove(0);
    assert_eq!((judged.invalid, judged.coverage.unwrap().ratio()), (None, Some(1.0)));
}

#[test]
fn sequential_scans_dominate_only_where_they_are_many_and_long_on_a_large_table() {
    let dominate = |scans: f64, read: f64, by_index: f64, pages: f64, days: f64| {
        let mut facts = facts(vec![Index { scans: by_index, ..index(1, definition(&[(1, 0)])) }]);
        facts.now = days * 86_400.0;
        let table = &mut facts.tables[0];
        (table.seq_scans, table.seq_rows, table.pages) = (scans, read, pages);
        let limits = Strictness { minimum_rows: 10_000.0, seq_scan_bytes: 8e6, ..LIMITS };
        judge(&facts, &limits).seq_scanned.first().map(|t| t.rows_per_scan)
    };
    assert_eq!(dominate(100.0, 2e6, 99.0, 1e3, 1.0), Some(20_000.0));
    assert_eq!(dominate(100.0, 2e6, 100.0, 1e3, 1.0), None, "as many by index");
    assert_eq!(dominate(100.0, 9e5, 0.0, 1e3, 1.0), None, "they stop early");
    assert_eq!(dominate(100.0, 2e6, 0.0, 9e2, 1.0), None, "small");
    assert_eq!(dominate(100.0, 2e6, 0.0, 1e3, 5.0), None, "seldom");
    assert_eq!(dominate(0.0, 0.0, 0.0, 1e3, 1.0), None);
    // Scans of an index that were reset do not compare with those of its table.
    let after = |table_reset: Option<f64>, index_reset: Option<f64>| {
        let mut facts =
            facts(vec![Index { reset: index_reset, ..index(1, definition(&[(1, 0)])) }]);
        facts.now = 86_400.0;
        let table = &mut facts.tables[0];
        (table.seq_scans, table.seq_rows, table.pages, table.reset) =
            (100.0, 2e6, 1e3, table_reset);
        let limits = Strictness { minimum_rows: 10_000.0, seq_scan_bytes: 8e6, ..LIMITS };
        judge(&facts, &limits).seq_scanned.len()
    };
    assert_eq!((after(None, None), after(None, Some(50.0))), (1, 0));
    assert_eq!((after(Some(50.0), Some(50.0)), after(Some(60.0), Some(50.0))), (1, 1));
}
