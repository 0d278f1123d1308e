//! Checkpoints and the background writer. PostgreSQL 17 moved the checkpoints' columns to a view of
//! their own; here each figure has both names on every version.
//!
//! Must not: mix views that are reset apart from each other, or make up a column that is gone.

use std::time::Duration;

use super::figures::figures;
use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{IfColumn, Query, Row, Session, columns};

macro_rules! counters {
    ($($ident:ident $name:literal $help:literal;)*) => {
        $(static $ident: Metric = Metric::counter(
            $name, &[], concat!($help, "."),
        );)*
        static METRICS: &[&Metric] = &[$(&$ident,)* &RESET, &CHECKPOINTER_RESET];
    };
}

counters! {
    TIMED "pg_stat_checkpointer_num_timed_total"
        "Checkpoints due to checkpoint_timeout, pg_stat_checkpointer.num_timed, before PostgreSQL 17 pg_stat_bgwriter.checkpoints_timed";
    REQUESTED "pg_stat_checkpointer_num_requested_total"
        "Requested checkpoints, by max_wal_size or a command, pg_stat_checkpointer.num_requested, before \
         PostgreSQL 17 pg_stat_bgwriter.checkpoints_req";
    WRITE_TIME "pg_stat_checkpointer_write_time_total"
        "Milliseconds spent writing files in checkpoints and restartpoints, pg_stat_checkpointer.write_time, before PostgreSQL 17 pg_stat_bgwriter.checkpoint_write_time";
    SYNC_TIME "pg_stat_checkpointer_sync_time_total"
        "Milliseconds spent synchronising files in checkpoints and restartpoints, pg_stat_checkpointer.sync_time, before PostgreSQL 17 pg_stat_bgwriter.checkpoint_sync_time";
    WRITTEN "pg_stat_checkpointer_buffers_written_total"
        "Buffers written in checkpoints and restartpoints, pg_stat_checkpointer.buffers_written, before PostgreSQL 17 pg_stat_bgwriter.buffers_checkpoint";
    OLD_TIMED "pg_stat_bgwriter_checkpoints_timed_total"
        "The same as pg_stat_checkpointer_num_timed_total under its older name, pg_stat_bgwriter.checkpoints_timed";
    OLD_REQUESTED "pg_stat_bgwriter_checkpoints_req_total"
        "The same as pg_stat_checkpointer_num_requested_total under its older name, pg_stat_bgwriter.checkpoints_req";
    OLD_WRITE_TIME "pg_stat_bgwriter_checkpoint_write_time_total"
        "The same as pg_stat_checkpointer_write_time_total under its older name, pg_stat_bgwriter.checkpoint_write_time";
    OLD_SYNC_TIME "pg_stat_bgwriter_checkpoint_sync_time_total"
        "The same as pg_stat_checkpointer_sync_time_total under its older name, pg_stat_bgwriter.checkpoint_sync_time";
    OLD_WRITTEN "pg_stat_bgwriter_buffers_checkpoint_total"
        "The same as pg_stat_checkpointer_buffers_written_total under its older name, pg_stat_bgwriter.buffers_checkpoint";
    RESTART_TIMED "pg_stat_checkpointer_restartpoints_timed_total"
        "Restartpoints of a standby due to checkpoint_timeout, pg_stat_checkpointer.restartpoints_timed (PostgreSQL 17 and later)";
    RESTART_REQUESTED "pg_stat_checkpointer_restartpoints_req_total"
        "Requested restartpoints of a standby, pg_stat_checkpointer.restartpoints_req (PostgreSQL 17 and later)";
    RESTART_DONE "pg_stat_checkpointer_restartpoints_done_total"
        "Restartpoints of a standby that were performed, pg_stat_checkpointer.restartpoints_done (PostgreSQL 17 and later)";
    DONE "pg_stat_checkpointer_num_done_total"
        "Checkpoints that were performed, those skipped on an idle server left out, pg_stat_checkpointer.num_done (PostgreSQL 18 and later)";
    CLEAN "pg_stat_bgwriter_buffers_clean_total"
        "Buffers written by the background writer, pg_stat_bgwriter.buffers_clean";
    MAXWRITTEN "pg_stat_bgwriter_maxwritten_clean_total"
        "Times the background writer stopped because it had written bgwriter_lru_maxpages, pg_stat_bgwriter.maxwritten_clean";
    ALLOC "pg_stat_bgwriter_buffers_alloc_total"
        "Buffers allocated, pg_stat_bgwriter.buffers_alloc";
    BACKEND "pg_stat_bgwriter_buffers_backend_total"
        "Buffers written by backends themselves, pg_stat_bgwriter.buffers_backend (before PostgreSQL 17; then pg_stat_io_writes_total has them)";
    BACKEND_FSYNC "pg_stat_bgwriter_buffers_backend_fsync_total"
        "Times a backend had to synchronise a file itself, pg_stat_bgwriter.buffers_backend_fsync (before PostgreSQL 17)";
}

static RESET: Metric = Metric::counter(
    "pg_stat_bgwriter_stats_reset_total",
    &[],
    "Unix time of the last reset of the background writer's statistics, pg_stat_bgwriter.stats_reset; \
     a time under postgres_exporter's name.",
);
static CHECKPOINTER_RESET: Metric = Metric::counter(
    "pg_stat_checkpointer_stats_reset_total",
    &[],
    "Unix time of the last reset of the checkpointer's statistics, pg_stat_checkpointer.stats_reset \
     (PostgreSQL 17 and later); a time under postgres_exporter's name.",
);

/// The older names of the first counters of the checkpointer.
const OLD: [&Metric; 5] =
    [&OLD_TIMED, &OLD_REQUESTED, &OLD_WRITE_TIME, &OLD_SYNC_TIME, &OLD_WRITTEN];

const BEFORE_17: &str = "\
SELECT b.checkpoints_timed::float8 AS num_timed, b.checkpoints_req::float8 AS num_requested,
       b.checkpoint_write_time::float8 AS write_time, b.checkpoint_sync_time::float8 AS sync_time,
       b.buffers_checkpoint::float8 AS buffers_written,
       b.buffers_clean::float8, b.maxwritten_clean::float8, b.buffers_alloc::float8,
       b.buffers_backend::float8, b.buffers_backend_fsync::float8,
       pg_catalog.date_part('epoch', b.stats_reset)::float8 AS reset
  FROM pg_catalog.pg_stat_bgwriter b";

/// From 17 on, where `num_done` comes with 18.
fn since_17(version_num: i32) -> String {
    let done = if version_num >= 180_000 { "c.num_done::float8, " } else { "" };
    format!(
        "SELECT c.num_timed::float8, c.num_requested::float8, c.write_time::float8, \
                c.sync_time::float8, c.buffers_written::float8, b.buffers_clean::float8, \
                b.maxwritten_clean::float8, b.buffers_alloc::float8, \
                c.restartpoints_timed::float8, c.restartpoints_req::float8, \
                c.restartpoints_done::float8, {done}\
                pg_catalog.date_part('epoch', b.stats_reset)::float8 AS reset, \
                pg_catalog.date_part('epoch', c.stats_reset)::float8 AS checkpointer_reset \
           FROM pg_catalog.pg_stat_checkpointer c CROSS JOIN pg_catalog.pg_stat_bgwriter b"
    )
}

pub struct Checkpoints;

figures! {
    /// The checkpointer's counters, under the names of PostgreSQL 17.
    pub struct Checkpointer: Option<f64> as IfColumn<Option<f64>> {
        /// Checkpoints due to `checkpoint_timeout`.
        num_timed => TIMED,
        /// Those that were asked for.
        num_requested => REQUESTED,
        /// Milliseconds.
        write_time => WRITE_TIME,
        /// Milliseconds.
        sync_time => SYNC_TIME,
        /// Buffers.
        buffers_written => WRITTEN,
        /// Restartpoints due to `checkpoint_timeout`; from 17 on.
        restartpoints_timed => RESTART_TIMED,
        /// Restartpoints that were asked for; from 17 on.
        restartpoints_req => RESTART_REQUESTED,
        /// Restartpoints that were performed; from 17 on.
        restartpoints_done => RESTART_DONE,
        /// Checkpoints that were performed; from 18 on.
        num_done => DONE,
    }
}

figures! {
    /// The background writer's counters.
    pub struct Writer: Option<f64> as IfColumn<Option<f64>> {
        /// Buffers that it wrote.
        buffers_clean => CLEAN,
        /// Rounds that it cut short.
        maxwritten_clean => MAXWRITTEN,
        /// Buffers allocated.
        buffers_alloc => ALLOC,
        /// Buffers that backends wrote; before 17.
        buffers_backend => BACKEND,
        /// Times that backends called fsync; before 17.
        buffers_backend_fsync => BACKEND_FSYNC,
    }
}

columns! {
    /// The views' one row.
    #[derive(Debug, Clone, PartialEq, Default)]
    pub struct CheckpointRow {
        /// Of checkpoints.
        pub checkpointer: Checkpointer,
        /// Of the background writer.
        pub writer: Writer,
        /// When the background writer's statistics were reset, in Unix seconds.
        pub reset: Option<f64>,
        /// When the checkpointer's were, in Unix seconds; from 17 on.
        pub checkpointer_reset: Option<f64> as IfColumn<Option<f64>>,
    }
}

impl Collector for Checkpoints {
    type Rows = CheckpointRow;
    type State = ();
    const NAME: &'static str = "checkpoints";
    const HELP: &'static str = "Checkpoints and the background writer.";
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(15);
    const METRICS: &'static [&'static Metric] = METRICS;

    async fn fetch(&self, session: &Session, (): &()) -> Result<CheckpointRow, CollectError> {
        let version_num = session.server().version_num;
        let new = version_num >= 170_000;
        let sql = if new { since_17(version_num) } else { BEFORE_17.to_owned() };
        let answer = session.read(Query::new(&sql)).await?;
        Row::one(&answer)
    }

    fn derive(&self, (): &mut (), counted: CheckpointRow, sink: &mut Sink) {
        let CheckpointRow { checkpointer, writer, reset, checkpointer_reset } = counted;
        let counters = <[_; Checkpointer::N]>::from(checkpointer);
        let names = Checkpointer::METRICS.into_iter().zip(counters);
        for (metric, count) in names.chain(OLD.into_iter().zip(counters)) {
            sink.number(metric, &[], count);
        }
        writer.emit(&[], sink);
        sink.number(&RESET, &[], reset);
        sink.number(&CHECKPOINTER_RESET, &[], checkpointer_reset);
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll, value};
    use super::*;

    #[test]
    fn golden_of_18_and_older_versions_have_what_they_have() {
        let later = |n: f64| CheckpointRow {
            checkpointer: Checkpointer {
                num_timed: Some(n),
                num_requested: Some(n + 1.0),
                write_time: Some(10.0 * n),
                sync_time: Some(0.5 * n),
                buffers_written: Some(100.0 * n),
                restartpoints_timed: Some(0.0),
                restartpoints_req: Some(n),
                restartpoints_done: Some(n),
                num_done: Some(n / 2.0),
            },
            writer: Writer {
                buffers_clean: Some(2.0 * n),
                maxwritten_clean: Some(0.0),
                buffers_alloc: Some(3.0 * n),
                ..Writer::default()
            },
            reset: Some(1_700_000_000.0),
            checkpointer_reset: Some(1_700_000_001.0),
        };
        check("checkpoints", &poll(&Checkpoints, &mut (), later(14.0)));

        let mut earlier = later(7.0);
        earlier.checkpointer.restartpoints_done = None;
        earlier.writer.buffers_backend = Some(7.0);
        let families = poll(&Checkpoints, &mut (), earlier);
        let get = |name| value(&families, name, &[]);
        assert_eq!(get("pg_stat_bgwriter_buffers_backend_total"), Some(7.0));
        assert_eq!(get("pg_stat_bgwriter_checkpoints_req_total"), Some(8.0));
        assert_eq!(get("pg_stat_checkpointer_num_requested_total"), Some(8.0));
        assert_eq!(get("pg_stat_checkpointer_restartpoints_done_total"), None);
    }
}
