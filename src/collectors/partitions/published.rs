//! What was published about partitioned tables, for those who show it.
//!
//! Must not: judge a runway.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::metrics::*;
use crate::collectors::published::{all, published};
use crate::metric::Family;

/// Declares a struct for a metric whose labels are those of a table.
macro_rules! of_tables {
    ($($name:ident $metric:ident $field:ident $doc:literal;)*) => {
        $(published! { #[doc = $doc] pub struct $name of $metric { datname, schemaname, relname => value: f64 } })*

        /// Of a partitioned table, each where it was published; instants in Unix seconds.
        #[derive(Debug, Clone, Copy, Default, PartialEq)]
        pub struct PublishedTable {
            $(#[doc = $doc] pub $field: Option<f64>,)*
        }

        fn numbers<'a>(families: &'a [Arc<Family>], tables: &mut BTreeMap<TableLabels<'a>, PublishedTable>) {
            $(for s in all::<$name<'a>>(families) {
                tables.entry([s.datname, s.schemaname, s.relname]).or_default().$field = Some(s.value);
            })*
        }
    };
}

of_tables! {
    RunwayLeft RUNWAY runway "`pg_partition_runway_seconds`.";
    CoveredUntil COVERED_UNTIL covered_until "`pg_partition_covered_until_timestamp_seconds`.";
    IsCovered COVERED covered "`pg_partition_covered`.";
    NextCoverage NEXT next "`pg_partition_next_coverage_timestamp_seconds`.";
    RequiredRunway REQUIRED required "`pg_partition_runway_required_seconds`.";
    HasDefault HAS_DEFAULT has_default "`pg_partition_has_default`.";
    DefaultRows DEFAULT_ROWS default_rows "`pg_partition_default_rows`.";
    BoundedUntil BOUNDED_UNTIL bounded_until "`pg_partition_bounded_until_timestamp_seconds`.";
    OpenEndedRows OPEN_ENDED_ROWS open_ended_rows "`pg_partition_open_ended_rows`.";
    OldestPartition OLDEST oldest "`pg_partition_oldest_timestamp_seconds`.";
    PartitionWidth INTERVAL width "`pg_partition_interval_seconds`.";
    PartitionCount COUNT count "`pg_partition_count`.";
    PartitionsSize SIZE size "`pg_partition_size_bytes`.";
    KeysRemaining KEYS_REMAINING keys_remaining "`pg_partition_keys_remaining`.";
    RetentionExceeded RETENTION retention_exceeded "`pg_partition_retention_exceeded_seconds`.";
}

published! {
    /// `pg_partition_supported`.
    pub struct RunwaySupported of SUPPORTED {
        datname, schemaname, relname, strategy, key_type, reason => value: f64
    }
}

/// Of a table: its database, its schema and its name.
pub type TableLabels<'a> = [&'a str; 3];

/// By table.
pub fn tables(families: &[Arc<Family>]) -> BTreeMap<TableLabels<'_>, PublishedTable> {
    let mut tables = BTreeMap::new();
    numbers(families, &mut tables);
    tables
}
