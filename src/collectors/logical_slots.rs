//! `pg_stat_replication_slots`: what decoding for a logical slot costs.
//!
//! Must not: enter a database.

use std::time::Duration;

use super::figures::figures;
use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{IfColumn, Query, Row, Session, columns};

static SPILL_TXNS: Metric = Metric::counter(
    "pg_stat_replication_slots_spill_txns_total",
    &["slot_name"],
    "Transactions that were spilled to disk while they were decoded, since logical_decoding_work_mem did not hold them, pg_stat_replication_slots.spill_txns.",
);
static SPILL_COUNT: Metric = Metric::counter(
    "pg_stat_replication_slots_spills_total",
    &["slot_name"],
    "Times that transactions were spilled to disk, pg_stat_replication_slots.spill_count.",
);
static SPILL_BYTES: Metric = Metric::counter(
    "pg_stat_replication_slots_spill_bytes_total",
    &["slot_name"],
    "Bytes of decoded transactions that were spilled to disk, pg_stat_replication_slots.spill_bytes.",
);
static STREAM_TXNS: Metric = Metric::counter(
    "pg_stat_replication_slots_stream_txns_total",
    &["slot_name"],
    "Transactions that were sent before they had ended, pg_stat_replication_slots.stream_txns.",
);
static STREAM_COUNT: Metric = Metric::counter(
    "pg_stat_replication_slots_streams_total",
    &["slot_name"],
    "Times that transactions were sent before they had ended, pg_stat_replication_slots.stream_count.",
);
static STREAM_BYTES: Metric = Metric::counter(
    "pg_stat_replication_slots_stream_bytes_total",
    &["slot_name"],
    "Bytes of decoded transactions that were sent before they had ended, pg_stat_replication_slots.stream_bytes.",
);
static TOTAL_TXNS: Metric = Metric::counter(
    "pg_stat_replication_slots_txns_total",
    &["slot_name"],
    "Transactions sent to the output plugin, pg_stat_replication_slots.total_txns.",
);
static TOTAL_BYTES: Metric = Metric::counter(
    "pg_stat_replication_slots_bytes_total",
    &["slot_name"],
    "Bytes of decoded transactions sent to the output plugin, pg_stat_replication_slots.total_bytes.",
);

static MEM_EXCEEDED: Metric = Metric::counter(
    "pg_stat_replication_slots_mem_exceeded_total",
    &["slot_name"],
    "Times that decoding needed more memory than logical_decoding_work_mem, pg_stat_replication_slots.mem_exceeded_count \
     (PostgreSQL 19 and later).",
);
static SYNC_SKIPS: Metric = Metric::counter(
    "pg_stat_replication_slots_slotsync_skips_total",
    &["slot_name"],
    "Times that the slot's synchronisation from the primary was skipped, pg_stat_replication_slots.slotsync_skip_count \
     (PostgreSQL 19 and later).",
);

const SQL: &str = "\
SELECT s.slot_name::text AS slot_name, s.spill_txns::float8, s.spill_count::float8, s.spill_bytes::float8, s.stream_txns::float8, s.stream_count::float8, s.stream_bytes::float8, s.total_txns::float8, s.total_bytes::float8{newer}
  FROM pg_catalog.pg_stat_replication_slots s ORDER BY s.slot_name";

pub struct LogicalSlots;

figures! {
    /// What the view counts; a column that the version lacks has no value.
    pub struct LogicalSlotsCounters: Option<f64> as IfColumn<Option<f64>> {
        /// Transactions that were spilled to disk while they were decoded, since logical_decoding_work_mem did not hold them.
        spill_txns => SPILL_TXNS,
        /// Times that transactions were spilled to disk.
        spill_count => SPILL_COUNT,
        /// Bytes of decoded transactions that were spilled to disk.
        spill_bytes => SPILL_BYTES,
        /// Transactions that were sent before they had ended.
        stream_txns => STREAM_TXNS,
        /// Times that transactions were sent before they had ended.
        stream_count => STREAM_COUNT,
        /// Bytes of decoded transactions that were sent before they had ended.
        stream_bytes => STREAM_BYTES,
        /// Transactions sent to the output plugin.
        total_txns => TOTAL_TXNS,
        /// Bytes of decoded transactions sent to the output plugin.
        total_bytes => TOTAL_BYTES,
        /// Times that the memory did not do.
        mem_exceeded_count => MEM_EXCEEDED,
        /// Times that its copy was not made.
        slotsync_skip_count => SYNC_SKIPS,
    }
}

columns! {
    /// One row of the view.
    #[derive(Debug, Clone, PartialEq)]
    pub struct LogicalSlotsRow {
        /// Which one.
        pub slot_name: String,
        /// What is counted of it.
        pub counters: LogicalSlotsCounters,
    }
}

impl Collector for LogicalSlots {
    type Rows = Vec<LogicalSlotsRow>;
    type State = ();
    const NAME: &'static str = "logicalslots";
    const HELP: &'static str = "What logical replication slots decode, spill to disk and stream, from pg_stat_replication_slots (14+).";
    const SINCE: i32 = 14;
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(30);
    const METRICS: &'static [&'static Metric] = &LogicalSlotsCounters::METRICS;

    async fn fetch(&self, session: &Session, (): &()) -> Result<Self::Rows, CollectError> {
        if session.server().version_num < 140000 {
            return Ok(Vec::new());
        }
        let newer = match session.server().version_num {
            190_000.. => ", s.mem_exceeded_count::float8, s.slotsync_skip_count::float8",
            _ => "",
        };
        let sql = SQL.replace("{newer}", newer);
        Row::all(&session.read(Query::new(&sql)).await?)
    }

    fn derive(&self, (): &mut (), rows: Self::Rows, sink: &mut Sink) {
        for row in &rows {
            row.counters.emit(&[&row.slot_name], sink);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll};
    use super::*;

    #[test]
    fn golden() {
        let counters = LogicalSlotsCounters::from([
            Some(0.0),
            Some(1.0),
            Some(2.0),
            Some(3.0),
            Some(4.0),
            Some(5.0),
            Some(6.0),
            None,
            Some(8.0),
            Some(9.0),
        ]);
        let row = LogicalSlotsRow { slot_name: "a\"b".to_owned(), counters };
        check("logicalslots", &poll(&LogicalSlots, &mut (), vec![row]));
    }
}
