//! `pg_stat_io` (PostgreSQL 16 and later), with its dozen kinds of backend summed up into five.
//!
//! Must not: give a series to what never happened, or fail on a version without the view.

use std::collections::BTreeMap;
use std::time::Duration;

use super::figures::figures;
use crate::collector::{Collector, Scope};
use crate::derive::rollup::{Reading, Rollup};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{Row, Session, columns};

const LABELS: &[&str] = &["backend", "object", "context"];

macro_rules! counters {
    ($($ident:ident $name:ident $column:literal $what:literal;)*) => {
        $(static $ident: Metric = Metric::counter(
            concat!("pg_stat_io_", stringify!($name), "_total"),
            LABELS,
            concat!(
                $what, ", pg_stat_io.", $column, "; backend: client, \
                 autovacuum, checkpointer, bgwriter or other (PostgreSQL 16 and later)."
            ),
        );)*

        figures! {
            /// What is counted; `None` is an operation that cannot occur.
            pub struct IoCounters: Option<f64> {
                $(#[doc = concat!("`pg_stat_io.", $column, "`.")] $name => $ident),*
            }
        }
    };
}

counters! {
    READS reads "reads" "Read operations";
    READ_BYTES read_bytes "read_bytes" "Bytes read";
    READ_SECONDS read_seconds "read_time" "Seconds spent reading (0 unless track_io_timing is on)";
    WRITES writes "writes" "Write operations";
    WRITE_BYTES write_bytes "write_bytes" "Bytes written";
    WRITE_SECONDS write_seconds "write_time" "Seconds spent writing (0 unless track_io_timing is on)";
    EXTENDS extends "extends" "Extensions of a relation";
    EXTEND_BYTES extend_bytes "extend_bytes" "Bytes by which relations were extended";
    HITS hits "hits" "Blocks found in shared buffers";
    EVICTIONS evictions "evictions" "Blocks evicted from a buffer for another use";
    REUSES reuses "reuses" "Buffers of a ring used again";
    FSYNCS fsyncs "fsyncs" "Calls of fsync";
    FSYNC_SECONDS fsync_seconds "fsync_time" "Seconds spent in fsync (0 unless track_io_timing is on)";
}

/// Before 18 all operations are of `op_bytes`. Times are in milliseconds.
fn sql(version_num: i32) -> String {
    let bytes = |operations: &str, column: &str| {
        if version_num >= 180_000 {
            format!("i.{column}")
        } else {
            format!("i.{operations} * i.op_bytes")
        }
    };
    let columns = [
        ("reads", "i.reads".to_owned()),
        ("read_bytes", bytes("reads", "read_bytes")),
        ("read_seconds", "i.read_time / 1000".to_owned()),
        ("writes", "i.writes".to_owned()),
        ("write_bytes", bytes("writes", "write_bytes")),
        ("write_seconds", "i.write_time / 1000".to_owned()),
        ("extends", "i.extends".to_owned()),
        ("extend_bytes", bytes("extends", "extend_bytes")),
        ("hits", "i.hits".to_owned()),
        ("evictions", "i.evictions".to_owned()),
        ("reuses", "i.reuses".to_owned()),
        ("fsyncs", "i.fsyncs".to_owned()),
        ("fsync_seconds", "i.fsync_time / 1000".to_owned()),
    ]
    .map(|(name, column)| format!("pg_catalog.sum({column})::float8 AS {name}"));
    format!(
        "SELECT CASE WHEN i.backend_type = 'client backend' THEN 'client' \
                     WHEN i.backend_type LIKE 'autovacuum%' THEN 'autovacuum' \
                     WHEN i.backend_type = 'checkpointer' THEN 'checkpointer' \
                     WHEN i.backend_type = 'background writer' THEN 'bgwriter' \
                     ELSE 'other' END AS backend, i.object, i.context, {} \
           FROM pg_catalog.pg_stat_io i GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        columns.join(", ")
    )
}

pub struct Io;

columns! {
    /// What is counted of one kind of backend on one kind of object in one context.
    #[derive(Debug, Clone, PartialEq)]
    pub struct IoRow {
        /// Of whom.
        pub labels: IoLabels,
        /// What.
        pub counters: IoCounters,
    }
}

columns! {
    /// Labels of a line.
    #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
    pub struct IoLabels {
        /// `client`, `autovacuum`, `checkpointer`, `bgwriter` or `other`.
        pub backend: String,
        /// `pg_stat_io.object`.
        pub object: String,
        /// `pg_stat_io.context`.
        pub context: String,
    }
}

/// What one poll read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Unix seconds of the server's start.
    pub started: f64,
    /// Empty before PostgreSQL 16.
    pub lines: Vec<IoRow>,
}

/// Totals, and the number of each line in them.
#[derive(Debug, Default)]
pub struct State {
    totals: Rollup<{ IoCounters::N }>,
    ids: BTreeMap<IoLabels, i64>,
}

impl Collector for Io {
    type Rows = Rows;
    type State = State;
    const NAME: &'static str = "io";
    const HELP: &'static str =
        "Reads, writes and their time by kind of backend, from pg_stat_io (16+).";
    const SINCE: i32 = 16;
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(15);
    const METRICS: &'static [&'static Metric] = &IoCounters::METRICS;

    async fn fetch(&self, session: &Session, _: &State) -> Result<Rows, CollectError> {
        let (started, version_num) = (session.server().started, session.server().version_num);
        if version_num < 160_000 {
            return Ok(Rows { started, lines: Vec::new() });
        }
        let sql = sql(version_num);
        let rows = session.read(sql.as_str()).await?;
        Ok(Rows { started, lines: Row::all(&rows)? })
    }

    fn derive(&self, state: &mut State, rows: Rows, sink: &mut Sink) {
        let mut readings = Vec::with_capacity(rows.lines.len());
        for line in &rows.lines {
            let next = i64::try_from(state.ids.len()).unwrap_or(i64::MAX);
            let id = *state.ids.entry(line.labels.clone()).or_insert(next);
            let counters = <[_; IoCounters::N]>::from(line.counters).map(|c| c.unwrap_or(0.0));
            readings.push(Reading { id, root: id, alias: None, counters });
        }
        state.totals.update(rows.started, &readings);
        for (line, reading) in rows.lines.iter().zip(&readings) {
            // What never happened since the last reset has no series.
            let Some(totals) = state.totals.published(reading.id) else { continue };
            let IoLabels { backend, object, context } = &line.labels;
            let counters = <[_; IoCounters::N]>::from(line.counters);
            for ((metric, raw), total) in IoCounters::METRICS.iter().zip(counters).zip(totals) {
                if raw.is_some_and(|raw| raw > 0.0) || total > 0.0 {
                    sink.number(metric, &[backend, object, context], total);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll, value};
    use super::*;

    fn rows(n: f64) -> Rows {
        let line = |backend: &str, context: &str, counters| IoRow {
            labels: IoLabels {
                backend: backend.to_owned(),
                object: "relation".to_owned(),
                context: context.to_owned(),
            },
            counters,
        };
        let client = IoCounters { reuses: None, ..IoCounters::from([Some(n); IoCounters::N]) };
        let checkpointer = IoCounters {
            writes: Some(n),
            write_bytes: Some(8192.0 * n),
            write_seconds: Some(0.0),
            ..IoCounters::default()
        };
        Rows {
            started: 1.0,
            lines: vec![
                line("checkpointer", "normal", checkpointer),
                line("client", "normal", client),
                line("client", "vacuum", [Some(0.0); IoCounters::N].into()),
            ],
        }
    }

    #[test]
    fn golden_over_a_reset() {
        let mut state = State::default();
        poll(&Io, &mut state, rows(10.0));
        let families = poll(&Io, &mut state, rows(4.0));
        let labels = ["client", "relation", "normal"];
        assert_eq!(value(&families, "pg_stat_io_reads_total", &labels), Some(4.0));
        check("io", &families);
        assert_eq!(poll(&Io, &mut State::default(), Rows { started: 1.0, lines: vec![] }), vec![]);
    }
}
