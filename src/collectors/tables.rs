//! Blocks that each root table and its indexes read and found in shared buffers, as
//! `pg_statio_user_tables` counts them, rolled up over partitions.
//!
//! Must not: lock a relation, or give a ratio where nothing was read.

use std::collections::HashMap;
use std::time::Duration;

use super::figures::figures;
use super::published::published;
use super::relations::{Roots, TableRow, USERS, tree};
use crate::collector::{Collector, Scope};
use crate::derive::delta::{DeltaWindow, ratio};
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

published! {
    /// `pg_table_cache_hit_ratio`.
    pub struct TableHitRatio of RATIO { datname, schemaname, relname => ratio: f64 }
}

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
                "; of a partitioned table the increments of all its partitions since pgrunway began to watch."
            ),
        )
        .counter_there();
    };
}
cumulative!(HEAP_READ "heap_blocks_read" "heap_blks_read" "Blocks of the table read from outside shared buffers");
cumulative!(HEAP_HIT "heap_blocks_hit" "heap_blks_hit" "Blocks of the table found in shared buffers");
cumulative!(IDX_READ "idx_blocks_read" "idx_blks_read" "Blocks of the table's indexes read from outside shared buffers");
cumulative!(IDX_HIT "idx_blocks_hit" "idx_blks_hit" "Blocks of the table's indexes found in shared buffers");
cumulative!(TOAST_READ "toast_blocks_read" "toast_blks_read" "Blocks of the table's TOAST table read from outside shared buffers");
cumulative!(TOAST_HIT "toast_blocks_hit" "toast_blks_hit" "Blocks of the table's TOAST table found in shared buffers");
cumulative!(TIDX_READ "tidx_blocks_read" "tidx_blks_read" "Blocks of the index of the table's TOAST table read from outside shared buffers");
cumulative!(TIDX_HIT "tidx_blocks_hit" "tidx_blks_hit" "Blocks of the index of the table's TOAST table found in shared buffers");

/// The functions under the view, which costs twice as much. All tables, since they carry the tree;
/// of the indexes only those that were ever used.
fn sql(leaves: bool) -> String {
    let tree = tree(leaves);
    // Nothing is read of a partitioned table itself, and postgres_exporter leaves it out.
    let kinds = if leaves { "'r', 'm'" } else { "'r', 'm', 'p'" };
    format!(
        "SELECT {tree}, \
                'heap' AS part, NULL::int8 AS owner, 0 AS hash, \
                pg_catalog.pg_stat_get_blocks_fetched(c.oid)::float8 AS fetched, \
                pg_catalog.pg_stat_get_blocks_hit(c.oid)::float8 AS hit \
           FROM pg_catalog.pg_class c \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
           LEFT JOIN pg_catalog.pg_inherits h ON h.inhrelid = c.oid AND c.relispartition \
          WHERE c.relkind IN ({kinds}) AND {USERS} \
          UNION ALL \
         SELECT x.* FROM ( \
           SELECT c.oid::int8, NULL::int8, NULL::text, NULL::text, 'index', \
                  i.indrelid::int8, pg_catalog.hashname(c.relname), \
                  pg_catalog.pg_stat_get_blocks_fetched(c.oid)::float8 AS fetched, \
                  pg_catalog.pg_stat_get_blocks_hit(c.oid)::float8 \
             FROM pg_catalog.pg_index i \
             JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid AND c.relkind = 'i' \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
            WHERE {USERS} \
            UNION ALL \
           SELECT t.oid::int8, NULL::int8, NULL::text, NULL::text, 'toast', c.oid::int8, -1, \
                  pg_catalog.pg_stat_get_blocks_fetched(t.oid)::float8, \
                  pg_catalog.pg_stat_get_blocks_hit(t.oid)::float8 \
             FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid \
            WHERE c.relkind IN ('r', 'm') AND {USERS} \
            UNION ALL \
           SELECT i.indexrelid::int8, NULL::int8, NULL::text, NULL::text, 'toast index', c.oid::int8, -2, \
                  pg_catalog.pg_stat_get_blocks_fetched(i.indexrelid)::float8, \
                  pg_catalog.pg_stat_get_blocks_hit(i.indexrelid)::float8 \
             FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             JOIN pg_catalog.pg_index i ON i.indrelid = c.reltoastrelid \
            WHERE c.relkind IN ('r', 'm') AND {USERS} OFFSET 0) x \
          WHERE x.fetched > 0"
    )
}

pub struct Tables;

columns! {
    /// A table or what belongs to it with its buffer counters.
    #[derive(Debug, Clone, PartialEq)]
    pub struct BufferedRelation {
        /// The relation; what is not a table has neither parent nor name here.
        pub table: TableRow,
        /// `heap` for a table, else `index`, `toast` or `toast index`.
        pub part: String,
        /// For what is not a table: its table.
        pub owner: Option<i64>,
        /// For an index: the hash of its name; for TOAST a number below 0.
        pub hash: i32,
        /// Blocks asked for.
        pub fetched: f64 as OrZero,
        /// Those found in shared buffers.
        pub hit: f64 as OrZero,
    }
}

figures! {
    /// Blocks of a table, of its indexes and of its TOAST.
    struct Blocks: f64 {
        /// Asked for of the table.
        heap,
        /// Those found in shared buffers.
        heap_hit,
        /// Asked for of indexes.
        idx,
        /// Those found in shared buffers.
        idx_hit,
        /// Asked for of TOAST.
        toast,
        /// Those found in shared buffers.
        toast_hit,
        /// Asked for of the index of TOAST.
        tidx,
        /// Those found in shared buffers.
        tidx_hit,
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
    pub relations: Vec<BufferedRelation>,
}

/// What was counted of each root table.
#[derive(Debug, Default)]
pub struct State {
    /// [`Blocks`].
    totals: Rollup<{ Blocks::N }>,
    /// Blocks asked for, and those found in shared buffers.
    windows: HashMap<i64, DeltaWindow<2>>,
}

impl Collector for Tables {
    type Rows = Rows;
    type State = State;
    const NAME: &'static str = "tables";
    const HELP: &'static str =
        "Blocks read and cache hit ratio per root table, its partitions and indexes included.";
    const SCOPE: Scope = Scope::Database;
    const INTERVAL: Duration = Duration::from_secs(15);
    const METRICS: &'static [&'static Metric] = &[
        &RATIO,
        &HEAP_READ,
        &HEAP_HIT,
        &IDX_READ,
        &IDX_HIT,
        &TOAST_READ,
        &TOAST_HIT,
        &TIDX_READ,
        &TIDX_HIT,
    ];

    async fn fetch(&self, session: &Session, _: &State) -> Result<Rows, CollectError> {
        let sql = sql(session.server_label().is_some());
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
        let tables = rows.relations.iter().filter(|r| r.owner.is_none()).map(|r| &r.table);
        let roots = Roots::new(tables);
        let readings: Vec<_> = rows
            .relations
            .iter()
            .filter_map(|relation| {
                let BufferedRelation { fetched, hit, .. } = *relation;
                let id = relation.table.id;
                let root = roots.of(relation.owner.unwrap_or(id))?;
                let alias = relation.owner.map(|table| (table, relation.hash));
                let none = Blocks::default();
                let blocks = match relation.part.as_str() {
                    "index" => Blocks { idx: fetched, idx_hit: hit, ..none },
                    "toast" => Blocks { toast: fetched, toast_hit: hit, ..none },
                    "toast index" => Blocks { tidx: fetched, tidx_hit: hit, ..none },
                    _ => Blocks { heap: fetched, heap_hit: hit, ..none },
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
            let window = state.windows.entry(id).or_insert_with(|| DeltaWindow::new(rows.window));
            window.push(rows.at, [total.heap + total.idx, total.heap_hit + total.idx_hit]);
            let [fetched, hit] = window.sums();
            sink.number(&RATIO, &labels, ratio(hit, fetched));
        }
        for (labels, id, _) in totals() {
            let Some(total) = state.totals.published(id).map(Blocks::from) else { continue };
            sink.number(&HEAP_READ, &labels, (total.heap - total.heap_hit).max(0.0));
            sink.number(&HEAP_HIT, &labels, total.heap_hit);
            sink.number(&IDX_READ, &labels, (total.idx - total.idx_hit).max(0.0));
            sink.number(&IDX_HIT, &labels, total.idx_hit);
            sink.number(&TOAST_READ, &labels, (total.toast - total.toast_hit).max(0.0));
            sink.number(&TOAST_HIT, &labels, total.toast_hit);
            sink.number(&TIDX_READ, &labels, (total.tidx - total.tidx_hit).max(0.0));
            sink.number(&TIDX_HIT, &labels, total.tidx_hit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll, value};
    use super::super::relations::fixtures::{partition, root};
    use super::*;

    fn heap(table: TableRow, fetched: f64, hit: f64) -> BufferedRelation {
        BufferedRelation { table, part: "heap".to_owned(), owner: None, hash: 0, fetched, hit }
    }

    fn index(id: i64, of: i64, hash: i32, fetched: f64, hit: f64) -> BufferedRelation {
        let table = TableRow { id, parent: None, name: None };
        BufferedRelation { table, part: "index".to_owned(), owner: Some(of), hash, fetched, hit }
    }

    fn rows(at: f64, relations: Vec<BufferedRelation>) -> Rows {
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
                    BufferedRelation { part: "toast".to_owned(), ..index(13, 2, -1, 9.0, 9.0) },
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
                    BufferedRelation { part: "toast".to_owned(), ..index(13, 2, -1, 19.0, 12.0) },
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
    fn a_table_shows_what_the_server_counts_from_the_first_poll_on_and_after_a_reset() {
        let mut state = State::default();
        let metric = "pg_statio_user_tables_heap_blocks_hit";
        let seen: Vec<_> = [0.0, 8.0, 9.0, 2.0]
            .into_iter()
            .zip([0.0, 15.0, 30.0, 45.0])
            .map(|(hit, at)| {
                let relations = vec![heap(root(1, "public", "new"), hit, hit)];
                let families = poll(&Tables, &mut state, rows(at, relations));
                value(&families, metric, &["app", "public", "new"])
            })
            .collect();
        assert_eq!(seen, [0.0, 8.0, 9.0, 2.0].map(Some));
    }
}
