//! Verdicts on indexes, foreign keys and table scans, and what they rest on.
//!
//! Must not: know how the catalogs are read; `catalogue` does.

pub mod catalogue;
mod metrics;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::published::published;
use crate::collector::{Collector, Scope};
use crate::derive::index::{
    Expected, ExpectedKey, How, Index, IndexFacts, Judged, Met, NullsOrder, Strictness, Term,
    Usage, Verdicts, judge, meets,
};
use crate::derive::rollup::Forest;
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::Session;
use crate::remedy::create::Make;

use catalogue::{Bloat, WhoseNames};
use metrics::*;

published! {
    /// `pg_index_findings`.
    pub struct IndexVerdicts of metrics::FINDINGS { datname, verdict => count: f64 }
}
published! {
    /// `pg_index_unused_window_seconds`.
    pub struct UnusedWindow of metrics::WINDOW { datname => seconds: f64 }
}
published! {
    /// `pg_index_unused`.
    pub struct UnusedIndex of metrics::UNUSED { datname, schemaname, relname, indexrelname => one: f64 }
}
published! {
    /// `pg_index_duplicate`.
    pub struct DuplicateIndex of metrics::DUPLICATE { datname, schemaname, relname, indexrelname, covered_by => one: f64 }
}
published! {
    /// `pg_index_redundant`.
    pub struct RedundantIndex of metrics::REDUNDANT { datname, schemaname, relname, indexrelname, covered_by => one: f64 }
}
published! {
    /// `pg_index_partition_coverage_ratio`.
    pub struct IndexCoverage of metrics::COVERAGE { datname, schemaname, relname, indexrelname => ratio: f64 }
}
published! {
    /// `pg_index_bloat_estimated_bytes`.
    pub struct IndexBloat of metrics::BLOAT { datname, schemaname, relname, indexrelname => bytes: f64 }
}
published! {
    /// `pg_foreign_key_unindexed`.
    pub struct UnindexedKey of metrics::UNINDEXED { datname, schemaname, relname, conname => one: f64 }
}
published! {
    /// `pg_table_seq_scans_dominate`.
    pub struct SeqScansDominate of metrics::SEQ_SCANS { datname, schemaname, relname => one: f64 }
}
published! {
    /// `pg_index_expected_missing`.
    pub struct ExpectedMissing of metrics::EXPECTED_MISSING { datname, schemaname, relname, expected, reason => yes: f64 }
}

pub struct IndexHealth;

/// An index that the configuration expects of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedRow {
    /// The table; `None` where it is not there.
    pub table: Option<i64>,
    /// Its schema and name.
    pub name: (String, String),
    /// What is expected, in words.
    pub label: String,
    /// What is expected.
    pub expected: Expected,
    /// How it can be made.
    pub make: Make,
}

/// What one poll read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// This database.
    pub datname: String,
    /// What to judge.
    pub facts: IndexFacts,
    /// How strictly.
    pub limits: Strictness,
    /// Column names by table and `attnum`, of the tables that need them.
    pub columns: HashMap<(i64, i16), String>,
    /// Estimates of the largest B-trees.
    pub bloat: Vec<Bloat>,
    /// What must be there.
    pub wanted: Vec<WantedRow>,
}

/// Since when each index is known to have had no scans: since it was first seen, or last with scans; `None`
/// for those that were there without at the first poll.
#[derive(Debug, Default)]
pub struct State {
    seen: Option<HashMap<i64, Option<f64>>>,
}

impl State {
    /// Adds to the facts what polling alone can know: an index that was not there before is young, and
    /// one that had scans was used, though they are gone with the partition that counted them.
    pub(super) fn date(&mut self, facts: &mut IndexFacts) {
        let before = self.seen.take();
        let mut seen = HashMap::with_capacity(facts.indexes.len());
        let parents = facts.indexes.iter().filter_map(|index| Some((index.id, index.parent?)));
        let forest = Forest::new(parents);
        let scanned = facts.indexes.iter().filter(|index| index.scans > 0.0);
        let used: HashSet<i64> = scanned.map(|index| forest.root(index.id)).collect();
        for index in facts.indexes.iter_mut().filter(|index| index.parent.is_none()) {
            let first = match &before {
                _ if used.contains(&index.id) => Some(facts.now),
                None => None,
                Some(before) => before.get(&index.id).copied().unwrap_or(Some(facts.now)),
            };
            seen.insert(index.id, first);
            index.created = match (index.created, first) {
                (Some(a), Some(b)) => Some(a.max(b)),
                (a, b) => a.or(b),
            };
        }
        self.seen = Some(seen);
    }
}

/// The expectations of one database.
pub fn wanted(session: &Session, facts: &IndexFacts) -> Vec<WantedRow> {
    let settings = &session.settings().indexes;
    let datname = &session.server().datname;
    if settings.expected.is_empty() {
        return Vec::new();
    }
    let mut all = Vec::new();
    let mut named = Vec::new();
    for table in facts.tables.iter().filter(|table| table.parent.is_none()) {
        let Some((schema, name)) = &table.name else { continue };
        named.push((schema.as_str(), name.as_str()));
        let rules = settings.expected(datname, schema, name);
        let here = Some(table.id);
        all.extend(rules.map(|rule| (here, schema.as_str(), name.as_str(), rule)));
    }
    let absent = settings.exact(datname).filter(|(s, t, _)| !named.contains(&(*s, *t)));
    all.extend(absent.map(|(schema, name, rule)| (None, schema, name, rule)));
    all.sort_by_key(|(_, schema, name, rule)| (*schema, *name, rule.describe()));
    all.dedup_by_key(|(_, schema, name, rule)| (*schema, *name, rule.describe(), rule.unique));
    all.into_iter()
        .map(|(table, schema, name, rule)| {
            let columns = rule.columns.iter().map(|column| ExpectedKey {
                column: column.name.clone(),
                descending: column.descending,
                nulls: column
                    .nulls_first
                    .map(|first| if first { NullsOrder::First } else { NullsOrder::Last }),
            });
            let columns = columns.collect();
            let keys: Vec<_> = rule
                .columns
                .iter()
                .map(|column| (column.name.as_str(), column.descending, column.nulls_first))
                .collect();
            let (create, named) = (rule.create.as_deref(), rule.name.as_deref());
            let make = Make::new(create, name, named, rule.unique, &keys);
            WantedRow {
                make,
                table,
                name: (schema.to_owned(), name.to_owned()),
                label: rule.describe(),
                expected: Expected { name: rule.name.clone(), columns, unique: rule.unique },
            }
        })
        .collect()
}

impl Collector for IndexHealth {
    type Rows = Rows;
    type State = State;

    const NAME: &'static str = "indexhealth";
    const HELP: &'static str = "Verdicts on indexes: invalid on partitions, unused, duplicate, redundant, \
         bloated, missing.";
    const SCOPE: Scope = Scope::Database;
    const INTERVAL: Duration = Duration::from_secs(300);
    const METRICS: &'static [&'static Metric] = &[
        &EXPECTED_MISSING,
        &FINDINGS,
        &COVERAGE,
        &UNUSED,
        &WINDOW,
        &DUPLICATE,
        &REDUNDANT,
        &UNINDEXED,
        &SEQ_SCANS,
        &ROWS_PER_SCAN,
        &BLOAT,
        &INFO,
    ];

    async fn fetch(&self, session: &Session, _: &State) -> Result<Rows, CollectError> {
        read(session, WhoseNames::Judged).await
    }

    fn derive(&self, state: &mut State, mut rows: Rows, sink: &mut Sink) {
        state.date(&mut rows.facts);
        let verdicts = judge(&rows.facts, &rows.limits);
        let view = HealthView::new(&rows, &verdicts);
        // What alerts look at comes first: should the series limit be hit, the rest is lost before it.
        view.expected(sink);
        view.findings(sink);
        view.verdicts(sink);
        view.bloat(sink);
        view.info(sink);
    }
}

/// Reads what is judged, with the names of as many tables.
///
/// # Errors
/// As [`Session::read_all`].
pub async fn read(session: &Session, names: WhoseNames) -> Result<Rows, CollectError> {
    let facts = catalogue::facts(session, names).await?;
    let settings = session.settings();
    let wanted = wanted(session, &facts);
    let mut tables = named_tables(&facts, &wanted, settings.series_limit);
    if names == WhoseNames::All {
        tables.extend(facts.foreign_keys.iter().map(|key| key.table));
        tables.sort_unstable();
        tables.dedup();
    }
    let columns = catalogue::columns(session, &tables).await?;
    let most = i64::try_from(settings.indexes.bloat_largest).unwrap_or(i64::MAX);
    let bloat = catalogue::bloat(session, most, facts.block_size).await?;
    Ok(Rows {
        datname: session.server().datname.clone(),
        facts,
        limits: Strictness {
            unused_after: settings.indexes.unused_after,
            minimum_rows: settings.indexes.minimum_rows as f64,
            seq_scan_bytes: settings.indexes.seq_scan_bytes as f64,
        },
        columns,
        bloat,
        wanted,
    })
}

/// By index of a root table: bytes of its parts that were estimated, and those of them that hold nothing.
pub fn bloat_by_root(rows: &Rows) -> HashMap<i64, (f64, f64)> {
    let parents = rows.facts.indexes.iter().filter_map(|i| Some((i.id, i.parent?)));
    let forest = Forest::new(parents);
    let mut bytes: HashMap<i64, (f64, f64)> = HashMap::new();
    for bloat in &rows.bloat {
        let (all, beyond) = bytes.entry(forest.root(bloat.index)).or_default();
        *all += bloat.pages * rows.facts.block_size;
        *beyond += (bloat.pages - bloat.needed).max(0.0) * rows.facts.block_size;
    }
    bytes
}

/// The tables whose columns are named: those of expectations, and of as many indexes, in the order of
/// their names, as there can be series.
fn named_tables(facts: &IndexFacts, wanted: &[WantedRow], most: usize) -> Vec<i64> {
    let mut indexes: HashMap<i64, usize> = HashMap::new();
    for index in facts.indexes.iter().filter(|index| index.parent.is_none()) {
        *indexes.entry(index.table).or_default() += 1;
    }
    let named = facts.tables.iter().filter_map(|table| Some((table.name.as_ref()?, table.id)));
    let mut named: Vec<_> = named.filter(|(_, id)| indexes.contains_key(id)).collect();
    named.sort_unstable();
    let mut total = 0;
    let mut tables: Vec<i64> = named
        .into_iter()
        .take_while(|(_, id)| {
            total += indexes.get(id).copied().unwrap_or(0);
            total <= most
        })
        .map(|(_, id)| id)
        .collect();
    tables.extend(wanted.iter().filter_map(|wanted| wanted.table));
    tables.sort_unstable();
    tables.dedup();
    tables
}

/// The verdicts with the names that go with them.
struct HealthView<'a> {
    rows: &'a Rows,
    verdicts: &'a Verdicts,
    tables: HashMap<i64, [&'a str; 2]>,
    indexes: HashMap<i64, &'a Index>,
    /// In the order of their names.
    judged: Vec<([&'a str; 4], &'a Judged)>,
}

impl<'a> HealthView<'a> {
    fn new(rows: &'a Rows, verdicts: &'a Verdicts) -> Self {
        let tables: HashMap<i64, [&str; 2]> = rows
            .facts
            .tables
            .iter()
            .filter_map(|table| {
                let (schema, name) = table.name.as_ref()?;
                Some((table.id, [schema.as_str(), name.as_str()]))
            })
            .collect();
        let indexes: HashMap<i64, &Index> =
            rows.facts.indexes.iter().map(|index| (index.id, index)).collect();
        let mut judged: Vec<_> = verdicts
            .indexes
            .iter()
            .filter_map(|judged| {
                let [schema, table] = *tables.get(&judged.table)?;
                let name = indexes.get(&judged.id)?.name.as_deref()?;
                Some(([rows.datname.as_str(), schema, table, name], judged))
            })
            .collect();
        judged.sort_unstable_by_key(|(labels, _)| *labels);
        Self { rows, verdicts, tables, indexes, judged }
    }

    fn table(&self, id: i64) -> Option<[&'a str; 3]> {
        let [schema, table] = *self.tables.get(&id)?;
        Some([self.rows.datname.as_str(), schema, table])
    }

    fn expected(&self, sink: &mut Sink) {
        let column = |table: i64| {
            move |number: i16| self.rows.columns.get(&(table, number)).map(String::as_str)
        };
        for wanted in &self.rows.wanted {
            let reason = wanted.table.map_or("no_table", |table| {
                let indexes = self.rows.facts.indexes.iter().filter(|i| i.table == table);
                match meets(&wanted.expected, indexes, column(table)) {
                    Met::Yes(_) => "",
                    Met::Invalid(_) => "invalid",
                    Met::No => "missing",
                }
            });
            let (schema, table) = &wanted.name;
            let labels = [self.rows.datname.as_str(), schema, table, &wanted.label, reason];
            sink.number(&EXPECTED_MISSING, &labels, flag(!reason.is_empty()));
        }
    }

    fn findings(&self, sink: &mut Sink) {
        let datname = self.rows.datname.as_str();
        let count = |of: fn(&Judged) -> bool| {
            self.verdicts.indexes.iter().filter(|judged| of(judged)).count()
        };
        let unindexed = self.verdicts.unindexed.iter().filter(|key| !key.small).count();
        for (verdict, number) in [
            ("invalid", count(|j| j.invalid.is_some())),
            ("unused", count(|j| matches!(j.usage, Usage::Unused { .. }))),
            ("duplicate", count(|j| j.cover.is_some_and(|c| c.how == How::Duplicate))),
            ("redundant", count(|j| j.cover.is_some_and(|c| c.how != How::Duplicate))),
            ("foreign_key_unindexed", unindexed),
            ("seq_scans", self.verdicts.seq_scanned.len()),
        ] {
            sink.number(&FINDINGS, &[datname, verdict], number as f64);
        }
        let facts = &self.rows.facts;
        sink.number(&WINDOW, &[datname], (facts.now - facts.since).max(0.0));
    }

    fn verdicts(&self, sink: &mut Sink) {
        for (labels, judged) in &self.judged {
            let ratio = judged.coverage.as_ref().and_then(crate::derive::index::Coverage::ratio);
            sink.number(&COVERAGE, labels, ratio);
        }
        for key in self.verdicts.unindexed.iter().filter(|key| !key.small) {
            let Some(key) = self.rows.facts.foreign_keys.get(key.foreign_key) else { continue };
            let Some([datname, schema, table]) = self.table(key.table) else { continue };
            sink.number(&UNINDEXED, &[datname, schema, table, &key.name], 1.0);
        }
        for table in &self.verdicts.seq_scanned {
            let Some(labels) = self.table(table.table) else { continue };
            sink.number(&SEQ_SCANS, &labels, 1.0);
            sink.number(&ROWS_PER_SCAN, &labels, table.rows_per_scan);
        }
        for (labels, judged) in &self.judged {
            if matches!(judged.usage, Usage::Unused { .. }) {
                sink.number(&UNUSED, labels, 1.0);
            }
            let Some(cover) = judged.cover else { continue };
            let by = self.indexes.get(&cover.by).and_then(|index| index.name.as_deref());
            let [datname, schema, table, name] = *labels;
            let labels = [datname, schema, table, name, by.unwrap_or_default()];
            let metric = if cover.how == How::Duplicate { &DUPLICATE } else { &REDUNDANT };
            sink.number(metric, &labels, 1.0);
        }
    }

    /// The sum over the measured indexes that are attached to each.
    fn bloat(&self, sink: &mut Sink) {
        let bloat = bloat_by_root(self.rows);
        for (labels, judged) in &self.judged {
            sink.number(&BLOAT, labels, bloat.get(&judged.id).map(|(_, beyond)| *beyond));
        }
    }

    fn info(&self, sink: &mut Sink) {
        for (labels, judged) in &self.judged {
            let Some(index) = self.indexes.get(&judged.id) else { continue };
            let Some(definition) = &index.definition else { continue };
            let columns: Vec<String> = definition
                .keys
                .iter()
                .map(|key| {
                    let name = match key.term {
                        Term::Column(number) => self
                            .rows
                            .columns
                            .get(&(judged.table, number))
                            .map_or("?", String::as_str),
                        Term::Expression(_) => "(expression)",
                    };
                    // Nulls come first in a descending order unless it says otherwise.
                    let order = match key.option & 3 {
                        0 => "",
                        1 => " DESC NULLS LAST",
                        2 => " NULLS FIRST",
                        _ => " DESC",
                    };
                    format!("{name}{order}")
                })
                .collect();
            let columns = columns.join(", ");
            let word = |value: bool| if value { "true" } else { "false" };
            let [datname, schema, table, name] = *labels;
            let labels = [
                datname,
                schema,
                table,
                name,
                &definition.method,
                &columns,
                word(definition.unique),
                word(index.primary),
                word(index.valid),
                word(index.ready),
                word(definition.predicate.is_some()),
            ];
            sink.number(&INFO, &labels, 1.0);
        }
    }
}

fn flag(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}
