//! From verdicts on indexes to the facts of the rules.
//!
//! Must not: read anything, or judge in another way than `derive::index` does.

use std::collections::HashMap;

use crate::collectors::index_health::{Rows, bloat_by_root};
use crate::derive::index::{self, How, IndexFacts, Invalid, Judged, Met, Usage, Verdicts, meets};
use crate::derive::rollup::Forest;
use crate::findings::{
    Bloated, DatabaseFacts, FaultyIndex, IndexFault, KeyWithoutIndex, LARGE_INDEX, Lack, Partial,
    Scanned, WantedIndex,
};
use crate::remedy::Relation;

/// Partitions without an index that are named.
const NAMED: usize = 3;

/// What the rules about indexes look at, and nothing else.
pub fn of_indexes(rows: &Rows, verdicts: &Verdicts) -> DatabaseFacts {
    let known = known(&rows.facts, verdicts);
    let tables: HashMap<i64, Relation> = rows
        .facts
        .tables
        .iter()
        .filter_map(|t| {
            let (schema, name) = t.name.as_ref()?;
            Some((t.id, Relation::new(schema.as_str(), name.as_str())))
        })
        .collect();
    let keys = verdicts.unindexed.iter().filter(|key| !key.small).filter_map(|unindexed| {
        let key = rows.facts.foreign_keys.get(unindexed.foreign_key)?;
        let column = |number: &i16| rows.columns.get(&(key.table, *number)).cloned();
        Some(KeyWithoutIndex {
            table: tables.get(&key.table)?.clone(),
            table_oid: key.table,
            name: key.name.clone(),
            columns: key.columns.iter().filter_map(column).collect(),
            rows: unindexed.rows,
            references: named(&tables, key.references),
        })
    });
    let scanned = verdicts.seq_scanned.iter().filter_map(|found| {
        Some(Scanned {
            table: tables.get(&found.table)?.clone(),
            scans: found.scans,
            rows_per_scan: found.rows_per_scan,
            bytes: found.bytes,
        })
    });
    DatabaseFacts {
        wanted: Some(wanted(rows)),
        partial: Some(partial(&known, &tables)),
        keys: Some(keys.collect()),
        scanned: Some(scanned.collect()),
        indexes: Some(faults(&rows.facts, &known)),
        bloated: bloated(rows, &known),
        ..DatabaseFacts::default()
    }
}

/// `public.orders`.
fn named(tables: &HashMap<i64, Relation>, id: i64) -> String {
    tables.get(&id).map_or_else(|| format!("table {id}"), Relation::display)
}

fn wanted(rows: &Rows) -> Vec<WantedIndex> {
    let each = rows.wanted.iter().map(|wanted| {
        let lack = match wanted.table {
            None => Some(Lack::Table),
            Some(table) => {
                let indexes = rows.facts.indexes.iter();
                let own = indexes.filter(|i| i.table == table && i.parent.is_none());
                let column = |number: i16| rows.columns.get(&(table, number)).map(String::as_str);
                match meets(&wanted.expected, own, column) {
                    Met::Yes(_) => None,
                    Met::Invalid(id) => Some(Lack::Valid(id)),
                    Met::No => Some(Lack::Index),
                }
            }
        };
        WantedIndex {
            table: Relation::new(wanted.name.0.as_str(), wanted.name.1.as_str()),
            table_oid: wanted.table,
            what: wanted.label.clone(),
            unique: wanted.expected.unique,
            make: wanted.make.clone(),
            lack,
        }
    });
    each.collect()
}

/// Indexes of partitioned tables.
fn partial(known: &[Known<'_>], tables: &HashMap<i64, Relation>) -> Vec<Partial> {
    let each = known.iter().filter_map(|k| {
        let coverage = k.judged.coverage.as_ref()?;
        let first = coverage.missing.iter().take(NAMED).map(|leaf| named(tables, *leaf));
        Some(Partial {
            table: Relation::new(k.schema, k.table),
            table_oid: k.judged.table,
            name: k.name.to_owned(),
            oid: k.judged.id,
            leaves: coverage.leaves,
            missing: coverage.missing.len(),
            first: first.collect(),
        })
    });
    each.collect()
}

/// What is known of an index beside its verdict.
pub struct Known<'a> {
    /// The verdict.
    pub judged: &'a Judged,
    /// The index.
    pub index: &'a index::Index,
    /// Schema of its table and of itself.
    pub schema: &'a str,
    /// Its table.
    pub table: &'a str,
    /// `pg_class.relname` of the index, unquoted.
    pub name: &'a str,
}

/// The indexes that have a verdict, by schema and table, the primary key first.
pub fn known<'a>(facts: &'a IndexFacts, verdicts: &'a Verdicts) -> Vec<Known<'a>> {
    let indexes: HashMap<i64, &index::Index> = facts.indexes.iter().map(|i| (i.id, i)).collect();
    let tables: HashMap<i64, &(String, String)> =
        facts.tables.iter().filter_map(|t| Some((t.id, t.name.as_ref()?))).collect();
    let each = |judged: &'a Judged| {
        let index = *indexes.get(&judged.id)?;
        let (schema, table) = tables.get(&judged.table)?;
        Some(Known { judged, index, schema, table, name: index.name.as_deref()? })
    };
    let mut known: Vec<Known> = verdicts.indexes.iter().filter_map(each).collect();
    known.sort_by_key(|k| (k.schema, k.table, !k.index.primary, k.name));
    known
}

/// Indexes with faults.
fn faults(facts: &IndexFacts, known: &[Known<'_>]) -> Vec<FaultyIndex> {
    let names: HashMap<i64, &str> = known.iter().map(|k| (k.judged.id, k.name)).collect();
    let mut faults = Vec::new();
    for k in known {
        let cover = k.judged.cover;
        let covering = cover.and_then(|c| Some((c.by, (*names.get(&c.by)?).to_owned())));
        let mut add = |fault| {
            faults.push(FaultyIndex {
                table: Relation::new(k.schema, k.table),
                table_oid: k.judged.table,
                name: k.name.to_owned(),
                oid: k.judged.id,
                constraint: k.index.constraint.is_some(),
                cover: covering.clone(),
                bytes: k.judged.pages * facts.block_size,
                scans: k.judged.scans,
                partitioned: k.index.partitioned,
                fault,
            });
        };
        if k.judged.invalid == Some(Invalid::Broken) {
            add(IndexFault::Invalid([k.index.valid, k.index.ready, k.index.live]));
        }
        if let Usage::Unused { since } = k.judged.usage {
            add(IndexFault::Unused { since, seconds: facts.now - since });
        }
        match cover.map(|cover| cover.how) {
            Some(How::Duplicate) => add(IndexFault::Duplicate),
            Some(How::Twin) => add(IndexFault::Redundant { twin: true }),
            Some(How::Prefix) => add(IndexFault::Redundant { twin: false }),
            None => {}
        }
    }
    faults
}

/// B-trees that could be estimated. `None` where one that is large enough to matter could not.
fn bloated(rows: &Rows, known: &[Known<'_>]) -> Option<Vec<Bloated>> {
    let estimated = bloat_by_root(rows);
    let blind = |k: &Known<'_>| {
        let tree = k.index.definition.as_ref().is_some_and(|d| d.method == "btree");
        let large = k.judged.pages * rows.facts.block_size >= LARGE_INDEX;
        tree && large && !k.is_unused() && !estimated.contains_key(&k.judged.id)
    };
    if known.iter().any(blind) {
        return None;
    }
    let by_root: HashMap<i64, &Known<'_>> = known.iter().map(|k| (k.judged.id, k)).collect();
    let parents = rows.facts.indexes.iter().filter_map(|i| Some((i.id, i.parent?)));
    let forest = Forest::new(parents);
    let each = rows.bloat.iter().filter_map(|bloat| {
        let k = by_root.get(&forest.root(bloat.index)).filter(|k| !k.is_unused())?;
        Some(Bloated {
            table: Relation::new(k.schema, k.table),
            name: k.name.to_owned(),
            part: None,
            oid: bloat.index,
            bytes: bloat.pages * rows.facts.block_size,
            share: (bloat.pages - bloat.needed).max(0.0) / bloat.pages.max(1.0),
            measured: false,
        })
    });
    Some(each.collect())
}

impl Known<'_> {
    /// Whether it is to go anyway.
    pub fn is_unused(&self) -> bool {
        matches!(self.judged.usage, Usage::Unused { .. })
    }
}
