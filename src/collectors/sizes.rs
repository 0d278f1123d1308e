//! Bytes on disk per root table and per index of a root table, partitions included: exact, except
//! for relations that somebody holds or awaits ACCESS EXCLUSIVE on, whose last size must do.
//!
//! Must not: wait for a lock longer than `lock_timeout`, or lose all sizes to one locked relation.

use std::collections::HashMap;
use std::time::Duration;

use super::published::published;
use super::relations::{Roots, TableRow, USERS};
use crate::collector::{Collector, Scope};
use crate::derive::rollup::Forest;
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{Row, Session, columns};

const LABELS: &[&str] = &["datname", "schemaname", "relname"];

static TABLE: Metric = Metric::gauge(
    "pg_stat_user_tables_table_size_bytes",
    LABELS,
    "Bytes on disk of the table and all its partitions with TOAST, without indexes, by \
     pg_table_size(); where ACCESS EXCLUSIVE is held or awaited, the size measured last, else an estimate from \
     pg_class.relpages, absent without either.",
);
static INDEX: Metric = Metric::gauge(
    "pg_stat_user_tables_index_size_bytes",
    LABELS,
    "Bytes on disk of all indexes of the table and its partitions, as pg_indexes_size() counts \
     them; where ACCESS EXCLUSIVE is held or awaited, the size measured last, else an estimate from \
     pg_class.relpages, absent without either.",
);
published! {
    /// `pg_stat_user_tables_table_size_bytes`.
    pub struct TableSize of TABLE { datname, schemaname, relname => bytes: f64 }
}
published! {
    /// `pg_stat_user_tables_index_size_bytes`.
    pub struct IndexesSize of INDEX { datname, schemaname, relname => bytes: f64 }
}

static ONE_INDEX: Metric = Metric::gauge(
    "pg_index_size_bytes",
    &["datname", "schemaname", "relname", "indexrelname"],
    "Bytes on disk of the index and of those attached to it, by pg_table_size(); where ACCESS EXCLUSIVE is held \
     or awaited, the size measured last, else an estimate from pg_class.relpages, absent without either.",
);
published! {
    /// `pg_index_size_bytes`.
    pub struct IndexSize of ONE_INDEX { datname, schemaname, relname, indexrelname => bytes: f64 }
}

static ESTIMATED: Metric = Metric::gauge(
    "pg_size_estimated_relations",
    &["datname"],
    "Tables, indexes and partitions that the last poll did not measure, because they were locked or \
     there were too many to measure in time: they count with an earlier size or an estimate from \
     pg_class.relpages.",
);

/// A poll rests a hundred times as long as it took: at most 1 % of a backend.
const REST: f64 = 100.0;
const LONGEST: Duration = Duration::from_secs(900);
/// SQLSTATE of `lock_timeout`.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// How a relation's size is had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// From the files, which opens the relation: it takes ACCESS SHARE for a moment.
    Files,
    /// From the catalog alone; as old as the last VACUUM or ANALYZE.
    Catalog,
}

/// A lock that is only awaited blocks those who come later, so it counts as held. To measure a
/// table opens its TOAST table and the index of that, which `REINDEX TABLE` locks, but not its other
/// indexes. `relpages` is an unsigned number in a signed column, and 0 where nobody counted yet.
fn sql(method: Method, leaves: bool) -> String {
    let (parent, named) = match leaves {
        true => ("NULL::int8", "true"),
        false => ("h.inhparent::int8", "NOT c.relispartition"),
    };
    let estimated = match method {
        Method::Files => {
            "c.oid IN (SELECT held.relation FROM held) \
             OR c.reltoastrelid IN (SELECT held.relation FROM held) \
             OR c.reltoastrelid IN (SELECT x.indrelid FROM pg_catalog.pg_index x \
                                      JOIN held ON held.relation = x.indexrelid)"
        }
        Method::Catalog => "true",
    };
    format!(
        "WITH held AS MATERIALIZED ( \
           SELECT l.relation FROM pg_catalog.pg_locks l \
             JOIN pg_catalog.pg_database d ON d.oid = l.database \
            WHERE d.datname = pg_catalog.current_database() AND l.locktype = 'relation' \
              AND l.relation IS NOT NULL AND l.mode = 'AccessExclusiveLock') \
         SELECT r.oid::int8, r.parent, r.schemaname, r.relname, r.indrelid, \
                r.stored AND r.estimated AS estimated, \
                CASE WHEN NOT r.stored THEN 0 \
                     WHEN r.estimated THEN r.pages * r.block \
                     ELSE pg_catalog.pg_table_size(r.oid) END::int8 AS bytes \
           FROM ( \
             SELECT c.oid, {parent} AS parent, \
                    CASE WHEN {named} THEN n.nspname::text END AS schemaname, \
                    CASE WHEN {named} THEN c.relname::text END AS relname, \
                    i.indrelid::int8 AS indrelid, c.relkind NOT IN ('p', 'I') AS stored, \
                    ({estimated}) AS estimated, \
                    NULLIF(c.relpages::int8 & 4294967295, 0) \
                      + COALESCE(t.relpages::int8 & 4294967295, 0) AS pages, \
                    pg_catalog.current_setting('block_size')::int8 AS block \
               FROM pg_catalog.pg_class c \
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid \
               LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid \
               LEFT JOIN pg_catalog.pg_inherits h ON h.inhrelid = c.oid AND c.relispartition \
              WHERE c.relkind IN ('r', 'm', 'p', 'i', 'I') AND {USERS}) r"
    )
}

pub struct Sizes;

columns! {
    /// One relation with its size.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct SizedRelation {
        /// Table or index; `parent` and `name` are those of its own kind.
        pub table: TableRow,
        /// For an index: its table.
        pub index_of: Option<i64> = "indrelid",
        /// Whether it was not measured, so that `bytes` is an estimate.
        pub estimated: bool,
        /// `None` where it was dropped meanwhile, or there is nothing to estimate from.
        pub bytes: Option<i64>,
    }
}

/// What one poll read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Seconds the poll took.
    pub took: f64,
    /// Whether the files could not all be measured within `statement_timeout`.
    pub too_many: bool,
    /// This database.
    pub datname: String,
    /// All of the user's relations.
    pub relations: Vec<SizedRelation>,
}

/// What the last poll cost, and what was measured.
#[derive(Debug, Default)]
pub struct State {
    took: f64,
    too_many: bool,
    /// Bytes by oid, as they were last measured, of the relations that are still there.
    measured: HashMap<i64, i64>,
}

impl State {
    /// The best that is known of each relation's size; `None` where nothing is.
    fn sizes(&mut self, rows: &Rows) -> Vec<Option<i64>> {
        let mut measured = HashMap::with_capacity(rows.relations.len());
        let sizes = rows.relations.iter().map(|r| {
            let before = self.measured.get(&r.table.id).copied();
            let last = if r.estimated { before } else { r.bytes };
            measured.extend(last.map(|bytes| (r.table.id, bytes)));
            // A lock is short, so what was measured before it is the better guess; where there is
            // too much to measure, it may be long ago.
            match (r.estimated, rows.too_many) {
                (true, true) => r.bytes.or(last),
                _ => last.or(r.bytes),
            }
        });
        let sizes = sizes.collect();
        self.measured = measured;
        sizes
    }
}

/// Bytes per root. A sum with an unknown size in it is unknown: too little looks like a table that
/// was emptied.
#[derive(Default)]
struct BytesByRoot(HashMap<i64, Option<f64>>);

impl BytesByRoot {
    fn add(&mut self, root: i64, bytes: Option<i64>) {
        let sum = self.0.entry(root).or_insert(Some(0.0));
        // Bytes on disk are far below 2^53.
        *sum = sum.zip(bytes).map(|(sum, bytes)| sum + bytes as f64);
    }
}

impl Collector for Sizes {
    type Rows = Rows;
    type State = State;
    const NAME: &'static str = "sizes";
    const HELP: &'static str = "Bytes on disk per root table and index, partitions included.";
    const SCOPE: Scope = Scope::Database;
    const INTERVAL: Duration = Duration::from_secs(60);
    const METRICS: &'static [&'static Metric] = &[&TABLE, &INDEX, &ONE_INDEX, &ESTIMATED];

    async fn fetch(&self, session: &Session, _: &State) -> Result<Rows, CollectError> {
        let start = session.seconds();
        let (rows, too_many) = read(session).await?;
        Ok(Rows {
            took: session.seconds() - start,
            too_many,
            datname: session.server().datname.clone(),
            relations: Row::all(&rows)?,
        })
    }

    fn derive(&self, state: &mut State, rows: Rows, sink: &mut Sink) {
        (state.took, state.too_many) = (rows.took, rows.too_many);
        let sizes = state.sizes(&rows);
        let relations = &rows.relations;
        let datname = rows.datname.as_str();
        let roots = Roots::new(relations.iter().filter(|r| r.index_of.is_none()).map(|r| &r.table));
        let indexes = Forest::new(
            relations
                .iter()
                .filter(|r| r.index_of.is_some())
                .filter_map(|r| Some((r.table.id, r.table.parent?))),
        );
        let (mut tables, mut on_tables) = (BytesByRoot::default(), BytesByRoot::default());
        let mut by_index = BytesByRoot::default();
        for (relation, bytes) in relations.iter().zip(sizes) {
            if bytes.is_none() && !relation.estimated {
                continue;
            }
            let table = relation.index_of.unwrap_or(relation.table.id);
            let Some(root) = roots.of(table) else { continue };
            if relation.index_of.is_some() {
                on_tables.add(root, bytes);
                by_index.add(indexes.root(relation.table.id), bytes);
            } else {
                tables.add(root, bytes);
            }
        }
        let mut names = HashMap::new();
        for (schema, name, id) in roots.iter() {
            let labels = [datname, schema, name];
            // A table without indexes has 0 bytes of them; a dropped one has no size at all.
            let Some(size) = tables.0.get(&id) else { continue };
            sink.number(&TABLE, &labels, *size);
            sink.number(&INDEX, &labels, on_tables.0.get(&id).copied().unwrap_or(Some(0.0)));
            names.insert(id, (schema, name));
        }
        let mut shown: Vec<_> = relations
            .iter()
            .filter_map(|r| {
                let (schema, table) = *names.get(&r.index_of?)?;
                let (_, index) = r.table.name.as_ref()?;
                Some(([datname, schema, table, index.as_str()], r.table.id))
            })
            .collect();
        shown.sort_unstable();
        for (labels, id) in shown {
            sink.number(&ONE_INDEX, &labels, by_index.0.get(&id).copied().flatten());
        }
        let estimated = relations.iter().filter(|r| r.estimated).count();
        sink.number(&ESTIMATED, &[datname], estimated as f64);
    }

    fn interval(&self, state: &State) -> Duration {
        if state.too_many {
            return LONGEST;
        }
        Duration::from_secs_f64((state.took * REST).clamp(0.0, LONGEST.as_secs_f64()))
            .max(Self::INTERVAL)
    }
}

/// A lock taken after the list of locks was read costs one `lock_timeout` and a second try; under
/// a stream of them, and where there is too much to measure in time, the catalog must do.
async fn read(session: &Session) -> Result<(Vec<Row>, bool), CollectError> {
    let files = sql(Method::Files, session.server_label().is_some());
    let mut too_many = false;
    for _ in 0..2 {
        match session.read(files.as_str()).await {
            Ok(rows) => return Ok((rows, false)),
            Err(CollectError::ServerTimeout { sqlstate, .. }) if sqlstate == LOCK_NOT_AVAILABLE => {
            }
            Err(CollectError::ServerTimeout { .. }) => {
                too_many = true;
                break;
            }
            Err(e) => return Err(e),
        }
    }
    Ok((
        session.read(sql(Method::Catalog, session.server_label().is_some()).as_str()).await?,
        too_many,
    ))
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll, value};
    use super::super::relations::fixtures::{partition, root};
    use super::*;

    fn relation(table: TableRow, bytes: i64) -> SizedRelation {
        SizedRelation { table, index_of: None, estimated: false, bytes: Some(bytes) }
    }

    fn index(table: TableRow, of: i64, bytes: i64) -> SizedRelation {
        SizedRelation { table, index_of: Some(of), estimated: false, bytes: Some(bytes) }
    }

    fn rows(took: f64, relations: Vec<SizedRelation>) -> Rows {
        Rows { took, too_many: false, datname: "app".to_owned(), relations }
    }

    #[test]
    fn golden_rolls_leaves_up_and_counts_estimates() {
        let mut state = State::default();
        let gone = SizedRelation { bytes: None, ..relation(root(8, "public", "gone"), 0) };
        let locked = SizedRelation { estimated: true, ..relation(partition(3, 1), 16_384) };
        let mut all = vec![
            relation(root(1, "public", "orders"), 0),
            relation(partition(2, 1), 8192),
            locked,
            relation(partition(4, 3), 24_576),
            index(root(100, "public", "orders_at"), 1, 0),
            index(partition(102, 100), 2, 8192),
            index(partition(103, 100), 3, 8192),
            index(root(202, "public", "local"), 2, 40_960),
            relation(root(9, "we\"ird", "a\\b\nc"), 8192),
            gone,
        ];
        let first = poll(&Sizes, &mut state, rows(0.01, all.clone()));
        assert_eq!(value(&first, TABLE.name, &["app", "public", "orders"]), Some(49_152.0));
        all.retain(|r| r.table.id != 4);
        let second = poll(&Sizes, &mut state, rows(0.01, all));
        check("sizes", &second);
    }

    #[test]
    fn what_cannot_be_measured_keeps_its_size_or_has_none_but_never_zero() {
        let mut state = State::default();
        let not = |table, bytes| SizedRelation { bytes, estimated: true, ..relation(table, 0) };
        let sizes = |state: &mut State, all: Rows| {
            let families = poll(&Sizes, state, all);
            ["a", "b", "c"].map(|t| value(&families, TABLE.name, &["app", "public", t]))
        };
        let [a, b, c] = ["a", "b", "c"].map(|name| move |id| root(id, "public", name));
        let (child, other) = (|| partition(21, 2), || partition(22, 2));
        let first = vec![relation(a(1), 800), relation(b(2), 0), relation(child(), 400)];
        assert_eq!(sizes(&mut state, rows(0.1, first)), [Some(800.0), Some(400.0), None]);
        // Locked: the estimate is older than the last size; a new partition and `c` have neither.
        let locked = || {
            let b = [relation(b(2), 0), relation(child(), 500), not(other(), None)];
            [vec![not(a(1), Some(80))], b.to_vec(), vec![not(c(3), None)]].concat()
        };
        assert_eq!(sizes(&mut state, rows(0.1, locked())), [Some(800.0), None, None]);
        // Too many: the last size may be much older than the estimate.
        let many = Rows { too_many: true, ..rows(0.1, locked()) };
        assert_eq!(sizes(&mut state, many), [Some(80.0), None, None]);
        let last = vec![not(a(1), None), not(b(2), Some(0)), not(child(), None)];
        assert_eq!(sizes(&mut state, rows(0.1, last)), [Some(800.0), Some(500.0), None]);
    }

    #[test]
    fn the_interval_follows_the_cost() {
        let interval = |took, too_many| {
            Sizes.interval(&State { took, too_many, ..State::default() }).as_secs()
        };
        assert_eq!(interval(0.1, false), 60);
        assert_eq!(interval(2.0, false), 200);
        assert_eq!(interval(1e9, false), 900);
        assert_eq!(interval(0.1, true), 900);
    }
}
