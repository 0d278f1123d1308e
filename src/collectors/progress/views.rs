//! What each `pg_stat_progress_*` view says of a command: one description a view, from which the statement, the metrics
//! and the ratios follow.
//!
//! Must not: describe a column of a version that lacks it.

use std::ops::RangeInclusive;

use crate::metric::Metric;

pub(super) const TABLE: &[&str] = &["datname", "schemaname", "relname"];

/// A column that says how much there is or how much of it is done.
pub(super) struct ProgressColumn {
    /// Its name in the view.
    pub(super) name: &'static str,
    /// Majors that have it.
    pub(super) majors: RangeInclusive<i32>,
    /// What is read of it, of seconds where the view has milliseconds.
    pub(super) factor: f64,
    /// The metric that it goes out as.
    pub(super) metric: Option<&'static Metric>,
    /// The column with the whole of which this is done, and what both count.
    pub(super) part_of: Option<(&'static str, &'static str)>,
}

/// One view.
pub(super) struct ProgressView {
    /// Its name.
    pub(super) view: &'static str,
    /// Majors on which it is read.
    pub(super) majors: RangeInclusive<i32>,
    /// Expression of what the command is called, over the view `p`.
    pub(super) command: &'static str,
    /// Of what phase it is in.
    pub(super) phase: &'static str,
    /// What it says from 19 on of how VACUUM works and who began it.
    pub(super) mode: &'static str,
    pub(super) started_by: &'static str,
    /// Its figures, [`super::ProgressRow`]'s columns `f0` to `f7` at most.
    pub(super) columns: &'static [ProgressColumn],
}

macro_rules! metrics {
    ($($ident:ident $name:literal $help:literal $from:literal;)*) => {
        $(static $ident: Metric = Metric::gauge(
            concat!("pg_stat_progress_", $name), TABLE,
            concat!($help, ", summed over the backends that work on the table and its partitions, pg_stat_progress_", $from, "."),
        );)*
        /// All of them.
        pub(super) const FIGURES: &[&Metric] = &[$(&$ident),*];
    };
}
metrics! {
    VACUUM_INDEXES "vacuum_indexes" "Indexes that the vacuum has to go through" "vacuum.indexes_total (17 and later)";
    VACUUM_INDEXES_DONE "vacuum_indexes_processed" "Indexes that the vacuum has gone through" "vacuum.indexes_processed (17 and later)";
    VACUUM_DEAD "vacuum_dead_tuple_bytes" "Bytes of dead rows' addresses that the vacuum holds" "vacuum.dead_tuple_bytes (17 and later)";
    VACUUM_MOST_DEAD "vacuum_max_dead_tuple_bytes" "Bytes of dead rows' addresses after which the vacuum goes through the indexes" "vacuum.max_dead_tuple_bytes (17 and later)";
    VACUUM_DELAY "vacuum_delay_seconds" "Time that the vacuum has slept because of its cost limit" "vacuum.delay_time (18 and later, with track_cost_delay_timing)";
    ANALYZE_BLOCKS "analyze_sample_blks" "Blocks that ANALYZE is to read" "analyze.sample_blks_total";
    ANALYZE_SCANNED "analyze_sample_blks_scanned" "Blocks that ANALYZE has read" "analyze.sample_blks_scanned";
    ANALYZE_EXT "analyze_ext_stats" "Extended statistics that ANALYZE is to compute" "analyze.ext_stats_total";
    ANALYZE_EXT_DONE "analyze_ext_stats_computed" "Extended statistics that ANALYZE has computed" "analyze.ext_stats_computed";
    ANALYZE_CHILDREN "analyze_child_tables" "Child tables that ANALYZE is to scan" "analyze.child_tables_total";
    ANALYZE_CHILDREN_DONE "analyze_child_tables_done" "Child tables that ANALYZE has scanned" "analyze.child_tables_done";
    ANALYZE_DELAY "analyze_delay_seconds" "Time that ANALYZE has slept because of its cost limit" "analyze.delay_time (18 and later, with track_cost_delay_timing)";
    INDEX_LOCKERS "create_index_lockers" "Transactions that the command has to wait for in this phase" "create_index.lockers_total";
    INDEX_LOCKERS_DONE "create_index_lockers_done" "Transactions that the command has waited for in this phase" "create_index.lockers_done";
    INDEX_BLOCKS "create_index_blocks" "Blocks that the command has to process in this phase" "create_index.blocks_total";
    INDEX_BLOCKS_DONE "create_index_blocks_done" "Blocks that the command has processed in this phase" "create_index.blocks_done";
    INDEX_TUPLES "create_index_tuples" "Entries that the command has to process in this phase" "create_index.tuples_total";
    INDEX_TUPLES_DONE "create_index_tuples_done" "Entries that the command has processed in this phase" "create_index.tuples_done";
    INDEX_PARTITIONS "create_index_partitions" "Partitions on which the command is to make the index" "create_index.partitions_total";
    INDEX_PARTITIONS_DONE "create_index_partitions_done" "Partitions on which the command has made the index" "create_index.partitions_done";
    CLUSTER_BLOCKS "cluster_heap_blks" "Blocks of the table that is being rewritten" "cluster.heap_blks_total, from 19 on pg_stat_progress_repack's";
    CLUSTER_SCANNED "cluster_heap_blks_scanned" "Blocks of the table that the rewrite has read" "cluster.heap_blks_scanned, from 19 on pg_stat_progress_repack's";
    CLUSTER_ROWS "cluster_heap_tuples_scanned" "Rows that the rewrite has read" "cluster.heap_tuples_scanned, from 19 on pg_stat_progress_repack's";
    CLUSTER_WRITTEN "cluster_heap_tuples_written" "Rows that the rewrite has written" "cluster.heap_tuples_written, from 19 on pg_stat_progress_repack.heap_tuples_inserted";
    CLUSTER_INDEXES "cluster_index_rebuilds" "Indexes that the rewrite has built anew" "cluster.index_rebuild_count, from 19 on pg_stat_progress_repack's";
    REPACK_UPDATED "repack_heap_tuples_updated" "Rows whose updates REPACK (CONCURRENTLY) has followed" "repack.heap_tuples_updated (19 and later)";
    REPACK_DELETED "repack_heap_tuples_deleted" "Rows whose deletes REPACK (CONCURRENTLY) has followed" "repack.heap_tuples_deleted (19 and later)";
    COPY_BYTES "copy_bytes" "Size of the file that COPY FROM reads, absent where it is not known" "copy.bytes_total (14 and later)";
    COPY_BYTES_DONE "copy_bytes_processed" "Bytes that COPY has processed" "copy.bytes_processed (14 and later)";
    COPY_ROWS "copy_tuples_processed" "Rows that COPY has processed" "copy.tuples_processed (14 and later)";
    COPY_EXCLUDED "copy_tuples_excluded" "Rows that COPY has left out because of its WHERE" "copy.tuples_excluded (14 and later)";
    COPY_SKIPPED "copy_tuples_skipped" "Rows that COPY has skipped because of an error in them" "copy.tuples_skipped (17 and later)";
}

const ALWAYS: RangeInclusive<i32> = 13..=i32::MAX;
const NONE: &str = "NULL::text";

const fn column(name: &'static str, metric: &'static Metric) -> ProgressColumn {
    ProgressColumn { name, majors: ALWAYS, factor: 1.0, metric: Some(metric), part_of: None }
}

impl ProgressColumn {
    const fn part_of(self, whole: &'static str, unit: &'static str) -> Self {
        Self { part_of: Some((whole, unit)), ..self }
    }

    const fn from(self, major: i32) -> Self {
        Self { majors: major..=i32::MAX, ..self }
    }

    const fn milliseconds(self) -> Self {
        Self { factor: 1e-3, ..self }
    }
}

/// In the order in which they are read.
pub(super) static VIEWS: &[ProgressView] = &[
    ProgressView {
        view: "pg_stat_progress_vacuum",
        majors: ALWAYS,
        command: "'VACUUM'::text",
        phase: "p.phase",
        mode: "p.mode",
        started_by: "p.started_by",
        columns: &[
            // The collector of vacuums exports both by the partition.
            ProgressColumn {
                name: "heap_blks_total",
                majors: ALWAYS,
                factor: 1.0,
                metric: None,
                part_of: None,
            },
            ProgressColumn {
                name: "heap_blks_scanned",
                majors: ALWAYS,
                factor: 1.0,
                metric: None,
                part_of: Some(("heap_blks_total", "blocks")),
            },
            column("indexes_total", &VACUUM_INDEXES).from(17),
            column("indexes_processed", &VACUUM_INDEXES_DONE)
                .part_of("indexes_total", "indexes")
                .from(17),
            column("max_dead_tuple_bytes", &VACUUM_MOST_DEAD).from(17),
            column("dead_tuple_bytes", &VACUUM_DEAD).from(17),
            column("delay_time", &VACUUM_DELAY).milliseconds().from(18),
        ],
    },
    ProgressView {
        view: "pg_stat_progress_analyze",
        majors: ALWAYS,
        command: "'ANALYZE'::text",
        phase: "p.phase",
        mode: NONE,
        started_by: "p.started_by",
        columns: &[
            column("sample_blks_total", &ANALYZE_BLOCKS),
            column("sample_blks_scanned", &ANALYZE_SCANNED).part_of("sample_blks_total", "blocks"),
            column("ext_stats_total", &ANALYZE_EXT),
            column("ext_stats_computed", &ANALYZE_EXT_DONE)
                .part_of("ext_stats_total", "statistics"),
            column("child_tables_total", &ANALYZE_CHILDREN),
            column("child_tables_done", &ANALYZE_CHILDREN_DONE)
                .part_of("child_tables_total", "tables"),
            column("delay_time", &ANALYZE_DELAY).milliseconds().from(18),
        ],
    },
    ProgressView {
        view: "pg_stat_progress_create_index",
        majors: ALWAYS,
        command: "p.command",
        phase: "p.phase",
        mode: NONE,
        started_by: NONE,
        columns: &[
            column("lockers_total", &INDEX_LOCKERS),
            column("lockers_done", &INDEX_LOCKERS_DONE).part_of("lockers_total", "lockers"),
            column("blocks_total", &INDEX_BLOCKS),
            column("blocks_done", &INDEX_BLOCKS_DONE).part_of("blocks_total", "blocks"),
            column("tuples_total", &INDEX_TUPLES),
            column("tuples_done", &INDEX_TUPLES_DONE).part_of("tuples_total", "tuples"),
            column("partitions_total", &INDEX_PARTITIONS),
            column("partitions_done", &INDEX_PARTITIONS_DONE)
                .part_of("partitions_total", "partitions"),
        ],
    },
    ProgressView {
        view: "pg_stat_progress_cluster",
        majors: 13..=18,
        command: "p.command",
        phase: "p.phase",
        mode: NONE,
        started_by: NONE,
        columns: &[
            column("heap_blks_total", &CLUSTER_BLOCKS),
            column("heap_blks_scanned", &CLUSTER_SCANNED).part_of("heap_blks_total", "blocks"),
            column("heap_tuples_scanned", &CLUSTER_ROWS),
            column("heap_tuples_written", &CLUSTER_WRITTEN),
            column("index_rebuild_count", &CLUSTER_INDEXES),
        ],
    },
    ProgressView {
        view: "pg_stat_progress_repack",
        majors: 19..=i32::MAX,
        command: "p.command",
        phase: "p.phase",
        mode: NONE,
        started_by: NONE,
        columns: &[
            column("heap_blks_total", &CLUSTER_BLOCKS),
            column("heap_blks_scanned", &CLUSTER_SCANNED).part_of("heap_blks_total", "blocks"),
            column("heap_tuples_scanned", &CLUSTER_ROWS),
            column("heap_tuples_inserted", &CLUSTER_WRITTEN),
            column("heap_tuples_updated", &REPACK_UPDATED),
            column("heap_tuples_deleted", &REPACK_DELETED),
            column("index_rebuild_count", &CLUSTER_INDEXES),
        ],
    },
    ProgressView {
        view: "pg_stat_progress_copy",
        majors: 14..=i32::MAX,
        command: "p.command",
        phase: NONE,
        mode: NONE,
        started_by: NONE,
        columns: &[
            column("bytes_total", &COPY_BYTES),
            column("bytes_processed", &COPY_BYTES_DONE).part_of("bytes_total", "bytes"),
            column("tuples_processed", &COPY_ROWS),
            column("tuples_excluded", &COPY_EXCLUDED),
            column("tuples_skipped", &COPY_SKIPPED).from(17),
        ],
    },
];

impl ProgressView {
    /// The columns that a major has.
    pub(super) fn columns(&self, major: i32) -> impl Iterator<Item = &'static ProgressColumn> {
        self.columns.iter().filter(move |column| column.majors.contains(&major))
    }

    /// A row for each backend. A partition, and what TOAST keeps, is its root table's; temporary tables have no name here,
    /// since theirs change all the time. No relation is locked for it.
    pub(super) fn sql(&self, major: i32) -> String {
        let figures: String = self
            .columns(major)
            .enumerate()
            .map(|(place, column)| format!(", p.{}::float8 AS f{place}", column.name))
            .collect();
        let [mode, started_by] = [self.mode, self.started_by].map(|of| match major {
            19.. => of,
            _ => NONE,
        });
        let (view, command, phase) = (self.view, self.command, self.phase);
        format!(
            "SELECT COALESCE(r.schemaname, '') AS schemaname, COALESCE(r.relname, '') AS relname, \
                    {command} AS command, {phase} AS phase, {mode} AS mode, {started_by} AS started_by{figures} \
               FROM pg_catalog.{view} p \
               LEFT JOIN LATERAL ( \
                 SELECT n.nspname::text AS schemaname, r.relname::text AS relname \
                   FROM pg_catalog.pg_class t \
                  CROSS JOIN LATERAL (SELECT COALESCE((SELECT o.oid FROM pg_catalog.pg_class o \
                                                        WHERE t.relkind = 't' AND o.reltoastrelid = t.oid), \
                                                      t.oid) AS oid) k \
                   JOIN pg_catalog.pg_class r \
                     ON r.oid = COALESCE(pg_catalog.pg_partition_root(k.oid::pg_catalog.regclass)::pg_catalog.oid, k.oid) \
                   JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace \
                  WHERE t.oid = p.relid AND t.relpersistence <> 't') r ON true \
              WHERE p.datname = pg_catalog.current_database()"
        )
    }
}
