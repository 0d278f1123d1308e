//! What the partitions collector may emit.
//!
//! Must not: hold anything but descriptors.

use crate::metric::Metric;

const TABLE: &[&str] = &["datname", "schemaname", "relname"];
const LEAF: &[&str] = &["datname", "schemaname", "relname", "partition"];
const REQUIRED_TABLE: &[&str] = &["datname", "schemaname", "relname", "reason"];
const SUPPORT: &[&str] = &["datname", "schemaname", "relname", "strategy", "key_type", "reason"];

pub(super) static RUNWAY: Metric = Metric::gauge(
    "pg_partition_runway_seconds",
    TABLE,
    "Seconds from the server's now() until the first insert of a current row fails or falls into a \
     DEFAULT partition, from pg_class.relpartbound over the tree of leaves; negative: seconds since \
     it began to fail; 0: never covered; +Inf: no end; timestamp, date and yyyymmdd keys are \
     taken as local time in the configured zone, else in the database's TimeZone.",
);
pub(super) static COVERED_UNTIL: Metric = Metric::gauge(
    "pg_partition_covered_until_timestamp_seconds",
    TABLE,
    "Unix time at which the coverage that holds now ends, or ended if it is over, from \
     pg_class.relpartbound; +Inf: no end; 0: never covered, so that covered_until - time() pages.",
);
pub(super) static COVERED: Metric = Metric::gauge(
    "pg_partition_covered",
    TABLE,
    "Whether a row of the server's now() reaches a partition that is no DEFAULT of a time level, \
     from pg_class.relpartbound; 0: expired or never covered.",
);
pub(super) static GAP: Metric = Metric::gauge(
    "pg_partition_gap",
    TABLE,
    "Whether rows will be refused, or are, although later partitions exist, from \
     pg_class.relpartbound.",
);
pub(super) static NEXT: Metric = Metric::gauge(
    "pg_partition_next_coverage_timestamp_seconds",
    TABLE,
    "Unix time at which coverage begins again after the gap, from pg_class.relpartbound; absent \
     without a gap.",
);
pub(super) static REQUIRED: Metric = Metric::gauge(
    "pg_partition_runway_required_seconds",
    TABLE,
    "Runway that the table must have, from the exporter's configuration.",
);
pub(super) static SUPPORTED: Metric = Metric::gauge(
    "pg_partition_supported",
    SUPPORT,
    "Whether the table's runway is known, from pg_partitioned_table.partstrat and partclass; \
     reason says why not, and with 1 that naive times were taken as UTC (zone_unknown).",
);
pub(super) static COUNT: Metric = Metric::untyped(
    "pg_partition_count",
    TABLE,
    "Direct partitions, the DEFAULT included and pending detaches excluded, from pg_inherits.",
);
pub(super) static FUTURE: Metric = Metric::untyped(
    "pg_partition_future_count",
    TABLE,
    "Distinct time ranges of leaf partitions that begin after now, from pg_class.relpartbound; those behind a \
     gap count too.",
);
pub(super) static HAS_DEFAULT: Metric = Metric::gauge(
    "pg_partition_has_default",
    TABLE,
    "Whether a level partitioned by time, or the root of an unsupported table, has a DEFAULT, from \
     pg_class.relpartbound.",
);
pub(super) static DEFAULT_ROWS: Metric = Metric::gauge(
    "pg_partition_default_rows",
    TABLE,
    "Estimated rows in those DEFAULT partitions, from pg_class.reltuples, or from \
     pg_stat_get_live_tuples where that is not positive.",
);
pub(super) static BOUNDED_UNTIL: Metric = Metric::gauge(
    "pg_partition_bounded_until_timestamp_seconds",
    TABLE,
    "Unix time at which the partitions that have an end stop, where an open-ended one (TO MAXVALUE) after them \
     accepts all later rows, from pg_class.relpartbound; 0: they never accepted the present time; \
     absent without an open-ended one.",
);
pub(super) static OPEN_ENDED_ROWS: Metric = Metric::gauge(
    "pg_partition_open_ended_rows",
    TABLE,
    "Estimated rows in the open-ended partitions (TO MAXVALUE) after others that have an end, from \
     pg_class.reltuples, or from pg_stat_get_live_tuples where that is not positive.",
);
pub(super) static OLDEST: Metric = Metric::gauge(
    "pg_partition_oldest_timestamp_seconds",
    TABLE,
    "Unix time at which the oldest leaf partition begins, from pg_class.relpartbound; -Inf: \
     MINVALUE.",
);
pub(super) static INTERVAL: Metric = Metric::gauge(
    "pg_partition_interval_seconds",
    TABLE,
    "Median width of the last five leaf partitions that have an end, from pg_class.relpartbound.",
);
pub(super) static SIZE: Metric = Metric::gauge(
    "pg_partition_size_bytes",
    TABLE,
    "Estimated size of all leaf partitions without indexes and TOAST, as of their last VACUUM or \
     ANALYZE, from pg_class.relpages.",
);

pub(super) static KEYS_REMAINING: Metric = Metric::gauge(
    "pg_partition_keys_remaining",
    TABLE,
    "Keys that remain: from the next value of the sequence behind an integer key that is no time to the end of \
     the partitions that accept it, from pg_sequence_last_value() and pg_class.relpartbound; \
     negative: past the end; absent where the role may not read the sequence.",
);
pub(super) static REQUIRED_MISSING: Metric = Metric::gauge(
    "pg_partition_required_missing",
    REQUIRED_TABLE,
    "Whether a table that the configuration says must exist has no runway, from pg_partitioned_table; \
     reason: missing (no partitioned table of that name), or why it is unsupported.",
);
pub(super) static RETENTION: Metric = Metric::gauge(
    "pg_partition_retention_exceeded_seconds",
    TABLE,
    "Seconds by which the end of the oldest leaf partition with data is older than the configured \
     max_age, else 0, from pg_class.relpartbound; whether there is data is estimated from \
     pg_class.relpages and pg_stat_get_live_tuples.",
);
pub(super) static LEAF_SIZE: Metric = Metric::gauge(
    "pg_partition_leaf_size_bytes",
    LEAF,
    "Estimated size of one of the largest leaf partitions without indexes and TOAST, as of its last \
     VACUUM or ANALYZE, from pg_class.relpages.",
);
pub(super) static LEAF_ROWS: Metric = Metric::gauge(
    "pg_partition_leaf_rows",
    LEAF,
    "Estimated rows of one of the largest leaf partitions, from pg_class.reltuples, or from \
     pg_stat_get_live_tuples where that is not positive.",
);
