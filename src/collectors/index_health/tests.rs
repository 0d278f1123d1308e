//! Fixed rows in, exposition text out.

use super::super::golden::{check, poll, value};
use super::*;
use crate::derive::index::{Definition, ForeignKey, IndexKey, IndexedTable, TableKind};
use crate::remedy::create::Make;

fn table(id: i64, name: &str, rows: f64) -> IndexedTable {
    IndexedTable {
        id,
        parent: None,
        name: Some(("public".to_owned(), name.to_owned())),
        kind: TableKind::Plain,
        rows,
        pages: 1000.0,
        seq_scans: 0.0,
        seq_rows: 0.0,
        reset: None,
    }
}

fn index(id: i64, table: i64, name: &str, columns: &[(i16, i16)]) -> Index {
    let key = |(column, option): &(i16, i16)| IndexKey {
        term: Term::Column(*column),
        opclass: 1,
        collation: 0,
        option: *option,
    };
    Index {
        id,
        table,
        parent: None,
        name: Some(name.to_owned()),
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
        pages: 10.0,
        created: None,
        reset: None,
        definition: Some(Definition {
            method: "btree".to_owned(),
            keys: columns.iter().map(key).collect(),
            include: Vec::new(),
            predicate: None,
            options: String::new(),
            unique: false,
            nulls_not_distinct: false,
            immediate: true,
        }),
    }
}

fn attached(id: i64, table: i64, parent: i64) -> Index {
    Index { parent: Some(parent), name: None, definition: None, ..index(id, table, "", &[]) }
}

/// `orders`: a primary key, a prefix, a duplicate of it, and one that is scanned; a foreign key without an
/// index; read by sequential scans. `trades`: two partitions, an index on one of them.
fn rows(now: f64) -> Rows {
    let mut orders = table(1, "orders", 50_000.0);
    (orders.seq_scans, orders.seq_rows) = (100.0, 4_000_000.0);
    let partition = |id| IndexedTable { parent: Some(2), name: None, ..table(id, "", 9.0) };
    let trades = IndexedTable { kind: TableKind::Partitioned, ..table(2, "trades", 0.0) };
    let mut primary = index(10, 1, "orders_pkey", &[(1, 0)]);
    primary.primary = true;
    if let Some(definition) = &mut primary.definition {
        definition.unique = true;
    }
    let scanned = Index { scans: 3.0, ..index(13, 1, "we\"ird\\\n", &[(3, 3), (1, 0)]) };
    let parent = Index { partitioned: true, valid: false, ..index(20, 2, "at", &[(1, 2)]) };
    let facts = IndexFacts {
        now,
        since: 0.0,
        block_size: 8192.0,
        tables: vec![orders, trades, partition(21), partition(22)],
        indexes: vec![
            primary,
            index(11, 1, "orders_a", &[(2, 0)]),
            index(12, 1, "orders_a_b", &[(2, 0), (3, 0)]),
            scanned,
            index(14, 1, "orders_a_b_2", &[(2, 0), (3, 0)]),
            parent,
            attached(23, 21, 20),
        ],
        foreign_keys: vec![ForeignKey {
            id: 5,
            table: 1,
            name: "orders_user".to_owned(),
            columns: vec![4],
            references: 2,
        }],
    };
    let name = |column: i16, name: &str| ((1, column), name.to_owned());
    let expected = |name: &str| Expected { name: Some(name.to_owned()), ..Expected::default() };
    let wanted = |table, name: &str, index: &str| WantedRow {
        table,
        name: ("public".to_owned(), name.to_owned()),
        label: index.to_owned(),
        expected: expected(index),
        make: Make::Unknown,
    };
    Rows {
        datname: "app".to_owned(),
        facts,
        limits: Strictness { unused_after: 100.0, minimum_rows: 10_000.0, seq_scan_bytes: 1e6 },
        columns: [name(1, "id"), name(2, "a"), name(3, "b"), ((2, 1), "at".to_owned())].into(),
        bloat: vec![
            Bloat { index: 10, pages: 500.0, needed: 300.0 },
            Bloat { index: 23, pages: 200.0, needed: 210.0 },
        ],
        wanted: vec![
            wanted(Some(1), "orders", "orders_a"),
            wanted(Some(2), "trades", "at"),
            wanted(None, "gone", "x"),
        ],
    }
}

#[test]
fn golden_after_an_index_came_between_two_polls() {
    let mut state = State::default();
    let unused = |families: &[crate::metric::Family], index: &str| {
        value(families, "pg_index_unused", &["app", "public", "orders", index])
    };
    let first = poll(&IndexHealth, &mut state, rows(99.0));
    assert_eq!(unused(&first, "orders_a"), None, "too early");
    let mut later = rows(1000.0);
    later.facts.indexes.push(index(15, 1, "young", &[(5, 0)]));
    let second = poll(&IndexHealth, &mut state, later);
    assert_eq!(unused(&second, "orders_a"), Some(1.0));
    assert_eq!(unused(&second, "orders_pkey"), None);
    assert_eq!(unused(&second, "young"), None, "it was not there before");
    check("indexhealth", &second);
    let mut last = rows(1101.0);
    last.facts.indexes.push(index(15, 1, "young", &[(5, 0)]));
    let third = poll(&IndexHealth, &mut state, last);
    assert_eq!(unused(&third, "young"), Some(1.0));
}

#[test]
fn scans_that_are_gone_with_their_partition_are_not_forgotten_at_once() {
    let mut state = State::default();
    let labels = ["app", "public", "trades", "at"];
    let mut at = |now: f64, scans: Option<f64>| {
        let mut rows = rows(now);
        rows.facts.indexes[5].valid = true;
        rows.facts.tables.pop();
        match scans {
            Some(scans) => rows.facts.indexes[6].scans = scans,
            None => rows.facts.tables.truncate(2),
        }
        if scans.is_none() {
            rows.facts.indexes.truncate(6);
        }
        value(&poll(&IndexHealth, &mut state, rows), "pg_index_unused", &labels)
    };
    assert_eq!(at(1000.0, Some(3.0)), None);
    assert_eq!(at(1050.0, None), None, "dropped with its scans");
    assert_eq!(at(1099.0, None), None);
    assert_eq!(at(1100.0, None), Some(1.0));
}
