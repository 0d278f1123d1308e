//! Blocks that each root table and its indexes read and found in shared buffers, as
//! `pg_statio_user_tables` counts them, rolled up over partitions.
//!
//! Must not: lock a relation, or give a ratio where nothing was read.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::figures::figures;
use super::relations::{Roots, Table, USERS};
use crate::collector::{Collector, Scope};
use crate::derive::delta::{Window, ratio};
use crate::derive::rollup::{Reading, Rollup};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{OrZero, Row, Session, columns};

const LABELS: &[&str] = &["datname", "schemaname", "relname"];

static RATIO: Metric = Metric::gauge(
    "pg_table_cache_hit_ratio",
    LABELS,
    "Share of the blocks of the table and its indexes read over the ratio window that were in \
     shared buffers, from the increments of pg_statio_user_tables.heap_blks_* and idx_blks_* of \
     all its partitions; absent where nothing was read.",
);

/// Counters by nature, under postgres_exporter's names.
macro_rules! cumulative {
    ($ident:ident $name:literal $column:literal $what:literal) => {
        static $ident: Metric = Metric::untyped(
            concat!("pg_statio_user_tables_", $name),
            LABELS,
            concat!(
                $what,
                ", pg_statio_user_tables.",
                $column,
                " of all its partitions, since pgrunway began to watch; never falling, absent until the \
                 table is read."
            ),
        );
    };
}
cumulative!(HEAP_READ "heap_blocks_read" "heap_blks_read" "Blocks of the table read from outside shared buffers");
cumulative!(HEAP_HIT "heap_blocks_hit" "heap_blks_hit" "Blocks of the table found in shared buffers");
cumulative!(IDX_READ "idx_blocks_read" "idx_blks_read" "Blocks of the table's indexes read from outside shared buffers");
cumulative!(IDX_HIT "idx_blocks_hit" "idx_blks_hit" "Blocks of the table's indexes found in shared buffers");

/// The functions under the view, which costs twice as much. All tables, since they carry the tree;
/// of the indexes only those that were ever used.
fn sql() -> String {
    format!(
        "SELECT c.oid::int8, h.inhparent::int8 AS parent, \
                CASE WHEN NOT c.relispartition THEN n.nspname::text END AS schemaname, \
                CASE WHEN NOT c.relispartition THEN c.relname::text END AS relname, \
                NULL::int8 AS indrelid, 0 AS hash, \
                pg_catalog.pg_stat_get_blocks_fetched(c.oid)::float8 AS fetched, \
                pg_catalog.pg_stat_get_blocks_hit(c.oid)::float8 AS hit \
           FROM pg_catalog.pg_class c \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
           LEFT JOIN pg_catalog.pg_inherits h ON h.inhrelid = c.oid AND c.relispartition \
          WHERE c.relkind IN ('r', 'm', 'p') AND {USERS} \
          UNION ALL \
         SELECT x.* FROM ( \
           SELECT c.oid::int8, NULL::int8, NULL::text, NULL::text, \
                  i.indrelid::int8, pg_catalog.hashname(c.relname), \
                  pg_catalog.pg_stat_get_blocks_fetched(c.oid)::float8 AS fetched, \
                  pg_catalog.pg_stat_get_blocks_hit(c.oid)::float8 \
             FROM pg_catalog.pg_index i \
             JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid AND c.relkind = 'i' \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
            WHERE {USERS} OFFSET 0) x \
          WHERE x.fetched > 0"
    )
}

pub struct Tables;

columns! {
    /// A table or an index with its buffer counters.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Relation {
        /// The relation; an index has neither parent nor name here.
        pub table: Table,
        /// For an index: its table.
        pub index_of: Option<i64> = "indrelid",
        /// For an index: the hash of its name.
        pub hash: i32,
        /// Blocks asked for.
        pub fetched: f64 as OrZero,
        /// Those found in shared buffers.
        pub hit: f64 as OrZero,
    }
}

figures! {
    /// Blocks of a table and of its indexes.
    struct Blocks: f64 {
        /// Asked for of the table.
        heap,
        /// Those found in shared buffers.
        heap_hit,
        /// Asked for of indexes.
        idx,
        /// Those found in shared buffers.
        idx_hit,
    }
}

/// What one poll read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Monotonic seconds.
    pub at: f64,
    /// Unix seconds of the server's start.
    pub started: f64,
    /// Seconds.
    pub window: f64,
    /// This database.
    pub datname: String,
    /// Tables, and the indexes that were used.
    pub relations: Vec<Relation>,
}

/// What was counted of each root table.
#[derive(Debug, Default)]
pub struct State {
    /// [`Blocks`].
    totals: Rollup<{ Blocks::N }>,
    /// Blocks asked for, and those found in shared buffers.
    windows: HashMap<i64, Window<2>>,
    /// Root tables that were ever read: only those have counters.
    used: HashSet<i64>,
}

impl Collector for Tables {
    type Rows = Rows;
    type State = State;
    const NAME: &'static str = "tables";
    const HELP: &'static str =
        "Blocks read and cache hit ratio per root table, its partitions and indexes included.";
    const SCOPE: Scope = Scope::Database;
    const INTERVAL: Duration = Duration::from_secs(15);
    const METRICS: &'static [&'static Metric] =
        &[&RATIO, &HEAP_READ, &HEAP_HIT, &IDX_READ, &IDX_HIT];

    async fn fetch(&self, session: &Session, _: &State) -> Result<Rows, CollectError> {
        let sql = sql();
        let rows = session.read(sql.as_str()).await?;
        Ok(Rows {
            at: session.seconds(),
            started: session.server().started,
            window: session.settings().ratio_window.as_secs_f64(),
            datname: session.server().datname.clone(),
            relations: Row::all(&rows)?,
        })
    }

    fn derive(&self, state: &mut State, rows: Rows, sink: &mut Sink) {
        let tables = rows.relations.iter().filter(|r| r.index_of.is_none()).map(|r| &r.table);
        let roots = Roots::new(tables);
        let readings: Vec<_> = rows
            .relations
            .iter()
            .filter_map(|relation| {
                let Relation { fetched, hit, .. } = *relation;
                let id = relation.table.id;
                let root = roots.of(relation.index_of.unwrap_or(id))?;
                let alias = relation.index_of.map(|table| (table, relation.hash));
                let blocks = match alias {
                    None => Blocks { heap: fetched, heap_hit: hit, ..Blocks::default() },
                    Some(_) => Blocks { idx: fetched, idx_hit: hit, ..Blocks::default() },
                };
                Some(Reading { id, root, alias, counters: blocks.into() })
            })
            .collect();
        state.totals.update(rows.started, &readings);
        state.windows.retain(|id, _| state.totals.total(*id).is_some());
        let totals = || {
            roots.iter().filter_map(|(schema, name, id)| {
                let total = Blocks::from(state.totals.total(id)?);
                Some(([rows.datname.as_str(), schema, name], id, total))
            })
        };
        // Ratios before counters: where the series limit cuts, alerts are the last to go.
        for (labels, id, total) in totals() {
            let window = state.windows.entry(id).or_insert_with(|| Window::new(rows.window));
            window.push(rows.at, [total.heap + total.idx, total.heap_hit + total.idx_hit]);
            let [fetched, hit] = window.sums();
            sink.number(&RATIO, &labels, ratio(hit, fetched));
        }
        let read = |r: &&Reading<{ Blocks::N }>| r.counters.iter().any(|c| *c > 0.0);
        let mut used: HashSet<i64> = readings.iter().filter(read).map(|r| r.root).collect();
        used.extend(state.used.iter().filter(|id| state.totals.total(**id).is_some()));
        for (labels, id, mut total) in totals() {
            if !used.contains(&id) {
                continue;
            }
            if !state.used.contains(&id) {
                // The zero that the first increase needs; what was counted follows in a poll.
                total = Blocks::default();
            }
            sink.number(&HEAP_READ, &labels, (total.heap - total.heap_hit).max(0.0));
            sink.number(&HEAP_HIT, &labels, total.heap_hit);
            sink.number(&IDX_READ, &labels, (total.idx - total.idx_hit).max(0.0));
            sink.number(&IDX_HIT, &labels, total.idx_hit);
        }
        state.used = used;
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll, value};
    use super::super::relations::fixtures::{partition, root};
    use super::*;

    fn heap(table: Table, fetched: f64, hit: f64) -> Relation {
        Relation { table, index_of: None, hash: 0, fetched, hit }
    }

    fn index(id: i64, of: i64, hash: i32, fetched: f64, hit: f64) -> Relation {
        let table = Table { id, parent: None, name: None };
        Relation { table, index_of: Some(of), hash, fetched, hit }
    }

    fn rows(at: f64, relations: Vec<Relation>) -> Rows {
        Rows { at, started: 1.0, window: 60.0, datname: "app".to_owned(), relations }
    }

    #[test]
    fn golden_over_a_partition_dropped_an_index_rebuilt_and_a_reset() {
        let orders = || heap(root(1, "public", "orders"), 0.0, 0.0);
        let odd = |fetched, hit| heap(root(5, "we\"ird", "a\\b\nc"), fetched, hit);
        let labels = ["app", "public", "orders"];
        let mut state = State::default();
        let first = poll(
            &Tables,
            &mut state,
            rows(
                0.0,
                vec![
                    odd(50.0, 10.0),
                    orders(),
                    heap(partition(2, 1), 100.0, 60.0),
                    heap(partition(3, 1), 1000.0, 900.0),
                    index(12, 2, 7, 30.0, 20.0),
                    heap(partition(4, 3), 5.0, 5.0),
                ],
            ),
        );
        assert_eq!(value(&first, "pg_statio_user_tables_heap_blocks_hit", &labels), Some(0.0));
        assert_eq!(value(&first, "pg_table_cache_hit_ratio", &labels), None);
        // Partition 3 and its child are dropped; index 12 comes back as 22 with its counters.
        let second = poll(
            &Tables,
            &mut state,
            rows(
                15.0,
                vec![
                    odd(50.0, 10.0),
                    orders(),
                    heap(partition(2, 1), 150.0, 100.0),
                    index(22, 2, 7, 60.0, 45.0),
                ],
            ),
        );
        assert_eq!(value(&second, "pg_statio_user_tables_heap_blocks_hit", &labels), Some(40.0));
        assert_eq!(value(&second, "pg_statio_user_tables_idx_blocks_hit", &labels), Some(25.0));
        assert_eq!(value(&second, "pg_table_cache_hit_ratio", &labels), Some(65.0 / 80.0));
        assert_eq!(
            value(&second, "pg_table_cache_hit_ratio", &["app", "we\"ird", "a\\b\nc"]),
            None
        );
        // Statistics reset: the partition counted 20 and 15 since, the index nothing.
        let third = poll(
            &Tables,
            &mut state,
            rows(30.0, vec![odd(0.0, 0.0), orders(), heap(partition(2, 1), 20.0, 15.0)]),
        );
        assert_eq!(value(&third, "pg_table_cache_hit_ratio", &labels), Some(80.0 / 100.0));
        check("tables", &third);
    }

    #[test]
    fn a_table_that_was_never_read_has_no_series_and_then_a_zero_before_its_first_counts() {
        let mut state = State::default();
        let metric = "pg_statio_user_tables_heap_blocks_hit";
        let seen: Vec<_> = [0.0, 0.0, 8.0, 9.0, 0.0]
            .into_iter()
            .zip([0.0, 15.0, 30.0, 45.0, 60.0])
            .map(|(hit, at)| {
                let relations = vec![heap(root(1, "public", "new"), hit, hit)];
                let families = poll(&Tables, &mut state, rows(at, relations));
                value(&families, metric, &["app", "public", "new"])
            })
            .collect();
        // The last reading is after a reset.
        assert_eq!(seen, [None, None, Some(0.0), Some(9.0), Some(9.0)]);
    }
}
