//! Scans, rows and validity per index of the root tables, rolled up over partitions, and how much
//! of a table's scanning goes through its indexes.
//!
//! Must not: lock a relation, or give an index of one partition series of its own unless it is
//! invalid.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::figures::figures;
use super::published::published;
use super::relations::{Roots, TableRow, USERS};
use crate::collector::{Collector, Scope};
use crate::derive::delta::{DeltaWindow, ratio};
use crate::derive::rollup::{Forest, Reading, Rollup};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{OrZero, Query, Row, Session, columns};

const LABELS: &[&str] = &["datname", "schemaname", "relname", "indexrelname"];

static SCANS: Metric = Metric::counter(
    "pg_stat_user_indexes_idx_scan_total",
    LABELS,
    "Scans of the index and of the indexes of partitions that are attached to it, \
     pg_stat_user_indexes.idx_scan, of a partitioned index the increments of all its partitions since pgrunway \
     began to watch.",
);
static TUP_READ: Metric = Metric::counter(
    "pg_stat_user_indexes_idx_tup_read_total",
    LABELS,
    "Entries returned by scans of the index and of those attached to it, \
     pg_stat_user_indexes.idx_tup_read, of a partitioned index the increments of all its partitions since pgrunway \
     began to watch.",
);
static TUP_FETCH: Metric = Metric::counter(
    "pg_stat_user_indexes_idx_tup_fetch_total",
    LABELS,
    "Live rows fetched by simple scans of the index and of those attached to it, \
     pg_stat_user_indexes.idx_tup_fetch, of a partitioned index the increments of all its partitions since pgrunway \
     began to watch.",
);
static BLKS_READ: Metric = Metric::counter(
    "pg_statio_user_indexes_idx_blks_read_total",
    LABELS,
    "Blocks of the index and of those attached to it read from outside shared buffers, \
     pg_statio_user_indexes.idx_blks_read, of a partitioned index the increments of all its partitions since pgrunway \
     began to watch.",
)
.elsewhere_there();
static BLKS_HIT: Metric = Metric::counter(
    "pg_statio_user_indexes_idx_blks_hit_total",
    LABELS,
    "Blocks of the index and of those attached to it found in shared buffers, \
     pg_statio_user_indexes.idx_blks_hit, of a partitioned index the increments of all its partitions since pgrunway \
     began to watch.",
)
.elsewhere_there();
static LAST_SCAN: Metric = Metric::gauge(
    "pg_stat_user_indexes_last_idx_scan_timestamp_seconds",
    LABELS,
    "Unix time of the last scan of the index or of one that is attached to it, \
     pg_stat_user_indexes.last_idx_scan (PostgreSQL 16 and later); absent if there was none.",
);
static PARTITION_SCANS: Metric = Metric::counter(
    "pg_index_partition_scans_total",
    &["datname", "schemaname", "relname", "indexrelname", "partition"],
    "Scans of the index of one partition, pg_stat_user_indexes.idx_scan, since pgrunway began to \
     watch, under the names of the root table and its index; only where \
     collectors.indexes.per_partition asks for the most scanned.",
);
static INVALID: Metric = Metric::gauge(
    "pg_index_invalid",
    LABELS,
    "1 if the index or one that is attached to it is not valid, ready and live in pg_index, and no \
     index is being built on its table (pg_stat_progress_create_index), else 0; an unattached index of a \
     partition has a series of its own, and only with 1.",
);
static RATIO: Metric = Metric::gauge(
    "pg_index_scan_ratio",
    &["datname", "schemaname", "relname"],
    "Share of the scans of the table over the ratio window that used an index, from the \
     increments of pg_stat_user_tables.idx_scan / (idx_scan + seq_scan) of all its partitions; \
     absent where nothing was scanned.",
);

published! {
    /// `pg_index_scan_ratio`.
    pub struct ScanRatio of RATIO { datname, schemaname, relname => ratio: f64 }
}

static ALL_RATIO: Metric = Metric::gauge(
    "pg_database_index_scan_ratio",
    &["datname"],
    "Share of the scans of all tables that are not exempt over the ratio window that used an index, \
     from the increments of pg_stat_user_tables.idx_scan / (idx_scan + seq_scan); absent where nothing \
     was scanned.",
);
published! {
    /// `pg_database_index_scan_ratio`.
    pub struct DatabaseScanRatio of ALL_RATIO { datname => ratio: f64 }
}

static EXEMPT: Metric = Metric::gauge(
    "pg_index_scan_ratio_exempt",
    &["datname", "schemaname", "relname"],
    "1 if the table with its partitions has so few rows (pg_class.reltuples, or \
     pg_stat_user_tables.n_live_tup where that is unknown) that the objective of the index scan ratio does not \
     apply to it, else 0; absent where pg_index_scan_ratio is.",
);

fn tables() -> String {
    format!(
        "SELECT c.oid::int8, h.inhparent::int8 AS parent, \
                CASE WHEN NOT c.relispartition THEN n.nspname::text END AS schemaname, \
                CASE WHEN NOT c.relispartition THEN c.relname::text END AS relname, \
                pg_catalog.pg_stat_get_numscans(c.oid)::float8 AS seq_scans, \
                CASE WHEN c.relkind = 'p' THEN 0 WHEN c.reltuples > 0 THEN c.reltuples \
                     ELSE pg_catalog.pg_stat_get_live_tuples(c.oid) END::float8 AS rows \
           FROM pg_catalog.pg_class c \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
           LEFT JOIN pg_catalog.pg_inherits h ON h.inhrelid = c.oid AND c.relispartition \
          WHERE c.relkind IN ('r', 'm', 'p') AND {USERS}"
    )
}

/// Index partitions that were never read carry nothing and stay on the server; partitioned ones (`I`)
/// carry the tree. `$1` is above 0 where the names of partitions are wanted.
fn indexes(version: i32) -> String {
    let last_scan = if version >= 160_000 {
        "pg_catalog.date_part('epoch', pg_catalog.pg_stat_get_lastscan(c.oid))::float8"
    } else {
        "NULL::float8"
    };
    format!(
        "SELECT x.*, GREATEST(x.blks_fetched - x.blks_hit, 0)::float8 AS blks_read FROM ( \
           SELECT c.oid::int8, i.indrelid::int8, h.inhparent::int8 AS parent, \
                  CASE WHEN NOT c.relispartition THEN c.relname::text END AS name, \
                  pg_catalog.hashname(c.relname) AS hash, \
                  pg_catalog.pg_stat_get_numscans(c.oid)::float8 AS scans, \
                  pg_catalog.pg_stat_get_tuples_returned(c.oid)::float8 AS tup_read, \
                  pg_catalog.pg_stat_get_tuples_fetched(c.oid)::float8 AS tup_fetch, \
                  pg_catalog.pg_stat_get_blocks_fetched(c.oid) AS blks_fetched, \
                  pg_catalog.pg_stat_get_blocks_hit(c.oid)::float8 AS blks_hit, \
                  {last_scan} AS last_scan, \
                  CASE WHEN $1 > 0 AND c.relispartition AND c.relkind = 'i' THEN \
                    (SELECT pg_catalog.format('%I.%I', n.nspname, t.relname) \
                       FROM pg_catalog.pg_class t WHERE t.oid = i.indrelid) END AS partition, \
                  c.relkind = 'I' AS partitioned \
             FROM pg_catalog.pg_index i \
             JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             LEFT JOIN pg_catalog.pg_inherits h ON h.inhrelid = c.oid AND c.relispartition \
            WHERE {USERS} OFFSET 0) x \
          WHERE x.scans > 0 OR x.blks_fetched > 0 OR x.name IS NOT NULL OR x.partitioned"
    )
}

fn invalid() -> String {
    format!(
        "SELECT c.oid::int8, h.inhparent::int8 AS parent, n.nspname::text AS schemaname, \
                t.relname::text AS relname, c.relname::text AS indexrelname \
           FROM pg_catalog.pg_index i \
           JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
           JOIN pg_catalog.pg_class t ON t.oid = i.indrelid \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
           LEFT JOIN pg_catalog.pg_inherits h ON h.inhrelid = c.oid AND c.relispartition \
          WHERE NOT (i.indisvalid AND i.indisready AND i.indislive) AND {USERS} \
            AND i.indrelid NOT IN ( \
              SELECT p.relid FROM pg_catalog.pg_stat_progress_create_index p \
               WHERE p.relid IS NOT NULL AND p.datname = pg_catalog.current_database()) \
          ORDER BY schemaname, relname, indexrelname"
    )
}

pub struct Indexes;

columns! {
    /// A table with what tells how it is read.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ScannedTable {
        /// Where it belongs.
        pub table: TableRow,
        /// `seq_scan`.
        pub seq_scans: f64 as OrZero,
        /// Estimated.
        pub rows: f64 as OrZero,
    }
}

columns! {
    /// One index.
    #[derive(Debug, Clone, PartialEq)]
    pub struct CountedIndex {
        /// OID.
        pub id: i64 = "oid",
        /// Its table.
        pub table: i64 = "indrelid",
        /// The partitioned index it is attached to.
        pub parent: Option<i64>,
        /// Only of those that are attached to no other.
        pub name: Option<String>,
        /// Hash of its name.
        pub hash: i32,
        /// What was counted of it.
        pub counts: IndexCounts,
        /// `last_idx_scan`, Unix seconds.
        pub last_scan: Option<f64>,
        /// Its table, quoted, where it is a partition and partitions are named.
        pub partition: Option<String>,
    }
}

figures! {
    /// What is counted of an index.
    pub struct IndexCounts: f64 as OrZero {
        /// `idx_scan`.
        scans => SCANS,
        /// `idx_tup_read`.
        tup_read => TUP_READ,
        /// `idx_tup_fetch`.
        tup_fetch => TUP_FETCH,
        /// `idx_blks_read`.
        blks_read => BLKS_READ,
        /// `idx_blks_hit`.
        blks_hit => BLKS_HIT,
    }
}

columns! {
    /// One index that is not valid.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct InvalidIndex {
        /// OID.
        pub id: i64 = "oid",
        /// The partitioned index it is attached to.
        pub parent: Option<i64>,
        /// Schema.
        pub schemaname: String,
        /// Table.
        pub relname: String,
        /// Index.
        pub indexrelname: String,
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
    /// Rows below which a table is exempt.
    pub minimum_rows: f64,
    /// Partitions of each index with series of their own.
    pub per_partition: usize,
    /// This database.
    pub datname: String,
    /// All tables.
    pub tables: Vec<ScannedTable>,
    /// All indexes but those of partitions that were never read.
    pub indexes: Vec<CountedIndex>,
    /// All that are not valid.
    pub invalid: Vec<InvalidIndex>,
}

figures! {
    /// Scans of a table.
    struct TableScans: f64 {
        /// By an index.
        index,
        /// Of all of it.
        sequential,
    }
}

/// What was counted.
#[derive(Debug, Default)]
pub struct State {
    /// [`IndexCounts`] of each root index.
    indexes: Rollup<{ IndexCounts::N }>,
    /// [`TableScans`] of each root table, and their window.
    scans: Rollup<{ TableScans::N }>,
    windows: HashMap<i64, DeltaWindow<{ TableScans::N }>>,
    /// Scans of the index of one partition.
    partitions: Rollup<1>,
}

impl Collector for Indexes {
    type Rows = Rows;
    type State = State;
    const NAME: &'static str = "indexes";
    const HELP: &'static str =
        "Scans, rows and validity per index of the root tables, and the index scan ratio.";
    const SCOPE: Scope = Scope::Database;
    const INTERVAL: Duration = Duration::from_secs(15);
    const METRICS: &'static [&'static Metric] = &[
        &INVALID,
        &RATIO,
        &EXEMPT,
        &ALL_RATIO,
        &SCANS,
        &TUP_READ,
        &TUP_FETCH,
        &BLKS_READ,
        &BLKS_HIT,
        &LAST_SCAN,
        &PARTITION_SCANS,
    ];

    async fn fetch(&self, session: &Session, _: &State) -> Result<Rows, CollectError> {
        let (tables, indexes) = (tables(), indexes(session.server().version_num));
        let invalid = invalid();
        let settings = session.settings();
        let per_partition = i64::try_from(settings.indexes.per_partition).unwrap_or(i64::MAX);
        let queries =
            [Query::new(&tables), Query::new(&indexes).int8(&per_partition), Query::new(&invalid)];
        let answers = session.read_all(&queries).await?;
        let mut answers = answers.iter().map(Vec::as_slice);
        let mut next = || answers.next().unwrap_or_default();
        Ok(Rows {
            at: session.seconds(),
            started: session.server().started,
            window: settings.ratio_window.as_secs_f64(),
            minimum_rows: settings.indexes.minimum_rows as f64,
            per_partition: settings.indexes.per_partition,
            datname: session.server().datname.clone(),
            tables: Row::all(next())?,
            indexes: Row::all(next())?,
            invalid: Row::all(next())?,
        })
    }

    fn derive(&self, state: &mut State, rows: Rows, sink: &mut Sink) {
        let roots = Roots::new(rows.tables.iter().map(|t| &t.table));
        let forest = Forest::new(
            (rows.indexes.iter().map(|i| (i.id, i.parent)))
                .chain(rows.invalid.iter().map(|i| (i.id, i.parent)))
                .filter_map(|(id, parent)| Some((id, parent?))),
        );
        scan_ratios(state, &rows, &roots, sink);

        // Indexes of the root tables, in the order of their names.
        let names: HashMap<i64, (&str, &str)> =
            roots.iter().map(|(schema, name, id)| (id, (schema, name))).collect();
        let mut shown: Vec<_> = rows
            .indexes
            .iter()
            .filter_map(|index| {
                let (schema, table) = *names.get(&index.table)?;
                Some(([rows.datname.as_str(), schema, table, index.name.as_deref()?], index.id))
            })
            .collect();
        shown.sort_unstable();
        validity(&rows, &forest, &shown, sink);

        let readings: Vec<_> = rows
            .indexes
            .iter()
            .map(|index| Reading {
                id: index.id,
                root: forest.root(index.id),
                alias: Some((index.table, index.hash)),
                counters: index.counts.into(),
            })
            .collect();
        state.indexes.update(rows.started, &readings);
        let mut last_scans: HashMap<i64, f64> = HashMap::new();
        for (index, reading) in rows.indexes.iter().zip(&readings) {
            let Some(at) = index.last_scan else { continue };
            let last = last_scans.entry(reading.root).or_insert(at);
            *last = last.max(at);
        }
        // One index after the other: where the series limit cuts, what is there is whole.
        for (labels, id) in &shown {
            let Some(total) = state.indexes.published(*id) else { continue };
            for (metric, value) in IndexCounts::METRICS.into_iter().zip(total) {
                sink.number(metric, labels, value);
            }
            sink.number(&LAST_SCAN, labels, last_scans.get(id).copied());
        }
        if rows.per_partition > 0 {
            partitions(state, &rows, &forest, &shown, sink);
        }
    }
}

/// The most scanned of each index's partitions.
fn partitions(
    state: &mut State,
    rows: &Rows,
    forest: &Forest,
    shown: &[([&str; 4], i64)],
    sink: &mut Sink,
) {
    let named =
        || rows.indexes.iter().filter_map(|index| Some((index, index.partition.as_deref()?)));
    let readings: Vec<_> = named()
        .map(|(index, _)| Reading {
            id: index.id,
            root: index.id,
            alias: Some((index.table, index.hash)),
            counters: [index.counts.scans],
        })
        .collect();
    state.partitions.update(rows.started, &readings);
    let mut leaves: HashMap<i64, Vec<(&CountedIndex, &str)>> = HashMap::new();
    for (index, name) in named() {
        leaves.entry(forest.root(index.id)).or_default().push((index, name));
    }
    for ([datname, schema, table, index], id) in shown {
        let Some(leaves) = leaves.get_mut(id) else { continue };
        leaves.sort_by(|(a, x), (b, y)| b.counts.scans.total_cmp(&a.counts.scans).then(x.cmp(y)));
        for (leaf, name) in leaves.iter().take(rows.per_partition) {
            let scans = state.partitions.published(leaf.id).map(|[scans]| scans);
            sink.number(&PARTITION_SCANS, &[datname, schema, table, index, name], scans);
        }
    }
}

fn scan_ratios(state: &mut State, rows: &Rows, roots: &Roots<'_>, sink: &mut Sink) {
    let by_index = rows.indexes.iter().filter_map(|index| {
        let scans = TableScans { index: index.counts.scans, sequential: 0.0 };
        Some(Reading {
            id: index.id,
            root: roots.of(index.table)?,
            alias: Some((index.table, index.hash)),
            counters: scans.into(),
        })
    });
    let sequential = rows.tables.iter().filter_map(|ScannedTable { table, seq_scans, .. }| {
        let root = roots.of(table.id)?;
        let scans = TableScans { index: 0.0, sequential: *seq_scans };
        Some(Reading { id: table.id, root, alias: None, counters: scans.into() })
    });
    let readings: Vec<_> = by_index.chain(sequential).collect();
    state.scans.update(rows.started, &readings);
    state.windows.retain(|id, _| state.scans.total(*id).is_some());
    let mut sizes: HashMap<i64, f64> = HashMap::new();
    for table in &rows.tables {
        if let Some(root) = roots.of(table.table.id) {
            *sizes.entry(root).or_default() += table.rows;
        }
    }
    let mut all = TableScans::default();
    for (schema, name, id) in roots.iter() {
        let Some(total) = state.scans.total(id) else { continue };
        let window = state.windows.entry(id).or_insert_with(|| DeltaWindow::new(rows.window));
        window.push(rows.at, total);
        let scans = TableScans::from(window.sums());
        let Some(share) = scans.by_index() else { continue };
        let labels = [rows.datname.as_str(), schema, name];
        let exempt = sizes.get(&id).is_none_or(|size| *size < rows.minimum_rows);
        sink.number(&RATIO, &labels, share);
        sink.number(&EXEMPT, &labels, f64::from(u8::from(exempt)));
        if !exempt {
            all.index += scans.index;
            all.sequential += scans.sequential;
        }
    }
    sink.number(&ALL_RATIO, &[&rows.datname], all.by_index());
}

impl TableScans {
    /// The share that used an index.
    fn by_index(self) -> Option<f64> {
        ratio(self.index, self.index + self.sequential)
    }
}

/// The invalid ones first: where the series limit cuts, they are the last to go.
fn validity(rows: &Rows, forest: &Forest, shown: &[([&str; 4], i64)], sink: &mut Sink) {
    let invalid: HashSet<i64> = rows.invalid.iter().map(|i| forest.root(i.id)).collect();
    let ids: HashSet<i64> = shown.iter().map(|(_, id)| *id).collect();
    for index in &rows.invalid {
        if !ids.contains(&forest.root(index.id)) {
            let InvalidIndex { schemaname, relname, indexrelname, .. } = index;
            sink.number(&INVALID, &[&rows.datname, schemaname, relname, indexrelname], 1.0);
        }
    }
    for bad in [true, false] {
        for (labels, _) in shown.iter().filter(|(_, id)| invalid.contains(id) == bad) {
            sink.number(&INVALID, labels, f64::from(u8::from(bad)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll, value};
    use super::super::relations::fixtures::{partition, root};
    use super::*;

    /// Each scan reads ten blocks and finds twenty, and happens at its own number.
    fn index(id: i64, table: i64, name: &str, [scans, read, fetched]: [f64; 3]) -> CountedIndex {
        CountedIndex {
            id,
            table,
            parent: None,
            name: Some(name.to_owned()),
            hash: 1,
            counts: IndexCounts::from([scans, read, fetched, scans * 10.0, scans * 20.0]),
            last_scan: (scans > 0.0).then_some(1_700_000_000.0 + scans),
            partition: None,
        }
    }

    fn attached(id: i64, table: i64, parent: i64, counters: [f64; 3]) -> CountedIndex {
        let partition = Some(format!("public.orders_{table}"));
        CountedIndex {
            parent: Some(parent),
            name: None,
            partition,
            ..index(id, table, "", counters)
        }
    }

    /// Every table has 600 rows where 1,000 are wanted.
    fn rows(at: f64, tables: Vec<(TableRow, f64)>, indexes: Vec<CountedIndex>) -> Rows {
        let tables = tables
            .into_iter()
            .map(|(table, seq_scans)| ScannedTable { table, seq_scans, rows: 600.0 })
            .collect();
        Rows {
            at,
            started: 1.0,
            window: 60.0,
            minimum_rows: 1_000.0,
            per_partition: 1,
            datname: "app".to_owned(),
            tables,
            indexes,
            invalid: vec![],
        }
    }

    const AT: [&str; 4] = ["app", "public", "orders", "orders_at"];

    #[test]
    fn golden_over_dropped_partitions_a_local_index_and_a_reset() {
        let orders = || (root(1, "public", "orders"), 0.0);
        let odd = || (root(9, "we\"ird", "a\\b\nc"), 4.0);
        let parent = || index(100, 1, "orders_at", [0.0; 3]);
        let odd_index = || index(900, 9, "i\"x", [2.0, 2.0, 2.0]);
        let mut state = State::default();
        let first = poll(
            &Indexes,
            &mut state,
            rows(
                0.0,
                vec![odd(), orders(), (partition(2, 1), 10.0), (partition(3, 1), 50.0)],
                vec![
                    odd_index(),
                    parent(),
                    attached(102, 2, 100, [30.0, 300.0, 299.0]),
                    attached(103, 3, 100, [40.0, 400.0, 400.0]),
                    index(202, 2, "local", [1000.0, 0.0, 0.0]),
                ],
            ),
        );
        assert_eq!(value(&first, SCANS.name, &AT), Some(0.0));
        assert_eq!(value(&first, RATIO.name, &AT[..3]), None);
        // Partition 3 is gone; the local index was attached to the parent's.
        let second = poll(
            &Indexes,
            &mut state,
            rows(
                15.0,
                vec![odd(), orders(), (partition(2, 1), 12.0)],
                vec![
                    odd_index(),
                    parent(),
                    attached(102, 2, 100, [33.0, 330.0, 329.0]),
                    attached(202, 2, 100, [1003.0, 30.0, 30.0]),
                ],
            ),
        );
        assert_eq!(value(&second, SCANS.name, &AT), Some(6.0));
        assert_eq!(value(&second, TUP_FETCH.name, &AT), Some(60.0));
        assert_eq!(value(&second, RATIO.name, &AT[..3]), Some(6.0 / 8.0));
        assert_eq!(value(&second, EXEMPT.name, &AT[..3]), Some(0.0), "two relations of 600 rows");
        assert_eq!(value(&second, ALL_RATIO.name, &["app"]), Some(6.0 / 8.0));
        assert_eq!(value(&second, BLKS_READ.name, &AT), Some(60.0));
        assert_eq!(value(&second, BLKS_HIT.name, &AT), Some(120.0));
        assert_eq!(value(&second, LAST_SCAN.name, &AT), Some(1_700_001_003.0));
        let most = |partition| ["app", "public", "orders", "orders_at", partition];
        assert_eq!(value(&second, PARTITION_SCANS.name, &most("public.orders_2")), Some(1003.0));
        assert_eq!(value(&second, RATIO.name, &["app", "we\"ird", "a\\b\nc"]), None);
        // Reset: one sequential and one index scan since.
        let mut last = rows(
            30.0,
            vec![(root(9, "we\"ird", "a\\b\nc"), 0.0), orders(), (partition(2, 1), 1.0)],
            vec![
                index(900, 9, "i\"x", [0.0; 3]),
                parent(),
                attached(102, 2, 100, [1.0, 10.0, 10.0]),
            ],
        );
        let invalid = |id, parent, table: &str, index: &str| InvalidIndex {
            id,
            parent,
            schemaname: "public".to_owned(),
            relname: table.to_owned(),
            indexrelname: index.to_owned(),
        };
        last.invalid = vec![
            invalid(204, Some(100), "orders_3", "x"),
            invalid(205, None, "orders_2", "y_ccnew"),
        ];
        let third = poll(&Indexes, &mut state, last);
        assert_eq!(value(&third, SCANS.name, &AT), Some(7.0));
        assert_eq!(value(&third, RATIO.name, &AT[..3]), Some(7.0 / 10.0));
        check("indexes", &third);
    }
}
