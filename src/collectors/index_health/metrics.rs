//! What the collector may emit.
//!
//! Must not: hold logic.

use crate::metric::Metric;

const TABLE: &[&str] = &["datname", "schemaname", "relname"];
const INDEX: &[&str] = &["datname", "schemaname", "relname", "indexrelname"];
const COVERED: &[&str] = &["datname", "schemaname", "relname", "indexrelname", "covered_by"];

pub(super) static EXPECTED_MISSING: Metric = Metric::gauge(
    "pg_index_expected_missing",
    &["datname", "schemaname", "relname", "expected", "reason"],
    "1 if the table lacks an index that the configuration expects by name or by columns, for the \
     reason missing, invalid or no_table, else 0, from pg_index.indkey and indisvalid.",
);
pub(super) static FINDINGS: Metric = Metric::gauge(
    "pg_index_findings",
    &["datname", "verdict"],
    "Indexes, foreign keys (foreign_key_unindexed) and tables (seq_scans) with a verdict of \
     pgrunway's from pg_index, pg_constraint and the statistics, 0 where there are none.",
);
pub(super) static COVERAGE: Metric = Metric::gauge(
    "pg_index_partition_coverage_ratio",
    INDEX,
    "Share of the partitions (those that are tables) that have a valid index attached to this one of \
     their partitioned table, from pg_inherits and pg_index.indisvalid; absent without partitions.",
);
pub(super) static UNUSED: Metric = Metric::gauge(
    "pg_index_unused",
    INDEX,
    "1 if the index and those attached to it had no scans on this server in \
     pg_stat_user_indexes.idx_scan since the statistics began, which is long enough ago; no series \
     for others, nor for those that enforce or support a constraint or are a replica identity.",
);
pub(super) static WINDOW: Metric = Metric::gauge(
    "pg_index_unused_window_seconds",
    &["datname"],
    "For how long the index statistics have counted: since pg_stat_database.stats_reset or the \
     server's start, whichever is later.",
);
pub(super) static DUPLICATE: Metric = Metric::gauge(
    "pg_index_duplicate",
    COVERED,
    "1 if the index is the same as covered_by in method, keys, operator classes, collations, order, \
     predicate, INCLUDE columns and uniqueness, from pg_index; no series for others.",
);
pub(super) static REDUNDANT: Metric = Metric::gauge(
    "pg_index_redundant",
    COVERED,
    "1 if the index enforces nothing and its keys begin those of covered_by (B-tree) or are those of \
     covered_by, which enforces them, includes more columns or is in reverse order, from pg_index; no \
     series for others.",
);
pub(super) static UNINDEXED: Metric = Metric::gauge(
    "pg_foreign_key_unindexed",
    &["datname", "schemaname", "relname", "conname"],
    "1 if no index of the referencing table begins with the columns of the foreign key, \
     pg_constraint.conkey, so that a change of the referenced table reads all of it; no series for \
     others and for small tables.",
);
pub(super) static SEQ_SCANS: Metric = Metric::gauge(
    "pg_table_seq_scans_dominate",
    TABLE,
    "1 if a large table was read more often by sequential scans that read many rows than by index \
     scans, from pg_stat_user_tables.seq_scan, seq_tup_read and idx_scan since the statistics began; \
     no series for others.",
);
pub(super) static ROWS_PER_SCAN: Metric = Metric::gauge(
    "pg_table_rows_per_seq_scan",
    TABLE,
    "Rows that a sequential scan read on average, pg_stat_user_tables.seq_tup_read / seq_scan since \
     the statistics began, of the tables on which sequential scans dominate.",
);
pub(super) static BLOAT: Metric = Metric::gauge(
    "pg_index_bloat_estimated_bytes",
    INDEX,
    "Bytes of the B-tree beyond what it would take if built anew, estimated from pg_class.relpages, \
     reltuples and pg_stats, of the largest indexes; absent where pg_stats shows this role nothing of a \
     column of variable width.",
);
pub(super) static INFO: Metric = Metric::gauge(
    "pg_index_info",
    &[
        "datname",
        "schemaname",
        "relname",
        "indexrelname",
        "method",
        "columns",
        "unique",
        "primary",
        "valid",
        "ready",
        "partial",
    ],
    "1; the labels hold pg_index.indisunique, indisprimary, indisvalid, indisready, whether it has a \
     predicate, and its key columns.",
);
