//! Checkpoints and the background writer. PostgreSQL 17 moved the checkpoints' columns to a view of
//! their own; here each figure has both names on every version.
//!
//! Must not: mix views that are reset apart from each other, or make up a column that is gone.

use std::time::Duration;

use super::totals::Totals;
use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{Query, Row, Session};

macro_rules! counters {
    ($($ident:ident $name:literal $help:literal;)*) => {
        $(static $ident: Metric = Metric::counter(
            $name, &[], concat!($help, ", since pgrunway began to watch."),
        );)*
        static METRICS: &[&Metric] = &[$(&$ident,)* &RESET, &CHECKPOINTER_RESET];
    };
}

counters! {
    TIMED "pg_stat_checkpointer_num_timed_total"
        "Checkpoints due to checkpoint_timeout, pg_stat_checkpointer.num_timed, before PostgreSQL 17 pg_stat_bgwriter.checkpoints_timed";
    REQUESTED "pg_stat_checkpointer_num_requested_total"
        "Checkpoints that were asked for, by max_wal_size or a command, pg_stat_checkpointer.num_requested, before PostgreSQL 17 pg_stat_bgwriter.checkpoints_req";
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
        "Restartpoints of a standby that were asked for, pg_stat_checkpointer.restartpoints_req (PostgreSQL 17 and later)";
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

const BOTH: [[&Metric; 2]; 5] = [
    [&TIMED, &OLD_TIMED],
    [&REQUESTED, &OLD_REQUESTED],
    [&WRITE_TIME, &OLD_WRITE_TIME],
    [&SYNC_TIME, &OLD_SYNC_TIME],
    [&WRITTEN, &OLD_WRITTEN],
];
const LATER: [&Metric; 4] = [&RESTART_TIMED, &RESTART_REQUESTED, &RESTART_DONE, &DONE];
const WRITER: [&Metric; 3] = [&CLEAN, &MAXWRITTEN, &ALLOC];
const EARLIER: [&Metric; 2] = [&BACKEND, &BACKEND_FSYNC];

const BEFORE_17: &str = "\
SELECT b.checkpoints_timed::float8, b.checkpoints_req::float8, b.checkpoint_write_time::float8,
       b.checkpoint_sync_time::float8, b.buffers_checkpoint::float8,
       b.buffers_clean::float8, b.maxwritten_clean::float8, b.buffers_alloc::float8,
       b.buffers_backend::float8, b.buffers_backend_fsync::float8,
       pg_catalog.date_part('epoch', b.stats_reset)::float8
  FROM pg_catalog.pg_stat_bgwriter b";

/// From 17 on, where `num_done` is NULL.
fn since_17(version_num: i32) -> String {
    let done = if version_num >= 180_000 { "c.num_done::float8" } else { "NULL::float8" };
    format!(
        "SELECT c.num_timed::float8, c.num_requested::float8, c.write_time::float8, \
                c.sync_time::float8, c.buffers_written::float8, b.buffers_clean::float8, \
                b.maxwritten_clean::float8, b.buffers_alloc::float8, \
                c.restartpoints_timed::float8, c.restartpoints_req::float8, \
                c.restartpoints_done::float8, {done}, \
                pg_catalog.date_part('epoch', b.stats_reset)::float8, \
                pg_catalog.date_part('epoch', c.stats_reset)::float8 \
           FROM pg_catalog.pg_stat_checkpointer c CROSS JOIN pg_catalog.pg_stat_bgwriter b"
    )
}

pub struct Checkpoints;

/// What one poll read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rows {
    /// Unix seconds of the server's start.
    pub started: f64,
    /// Timed, requested, write time, sync time, buffers.
    pub checkpoints: [f64; 5],
    /// Buffers cleaned, rounds cut short, buffers allocated.
    pub writer: [f64; 3],
    /// Buffers and fsyncs of backends; before PostgreSQL 17.
    pub earlier: Option<[f64; 2]>,
    /// Restartpoints timed, requested, done; from PostgreSQL 17 on. Checkpoints done; from 18 on.
    pub later: Option<([f64; 3], Option<f64>)>,
    /// Unix seconds, of the background writer and the checkpointer.
    pub resets: [Option<f64>; 2],
}

/// Totals. Before 17 all columns are of one row, and reset together.
#[derive(Debug, Default)]
pub struct State {
    checkpoints: Totals<9>,
    writer: Totals<5>,
}

impl Collector for Checkpoints {
    type Rows = Rows;
    type State = State;
    const NAME: &'static str = "checkpoints";
    const HELP: &'static str = "Checkpoints and the background writer.";
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(15);
    const METRICS: &'static [&'static Metric] = METRICS;

    async fn fetch(&self, session: &Session, _: &State) -> Result<Rows, CollectError> {
        let version_num = session.server().version_num;
        let new = version_num >= 170_000;
        let sql = if new { since_17(version_num) } else { BEFORE_17.to_owned() };
        let answer = session.read(Query::new(&sql)).await?;
        let row: &Row = answer.first().ok_or_else(|| CollectError::Missing {
            what: "pg_stat_bgwriter has no row".to_owned(),
            remedy: "check that this is a PostgreSQL server".to_owned(),
        })?;
        Ok(Rows {
            started: session.server().started,
            checkpoints: [row.at(0)?, row.at(1)?, row.at(2)?, row.at(3)?, row.at(4)?],
            writer: [row.at(5)?, row.at(6)?, row.at(7)?],
            earlier: if new { None } else { Some([row.at(8)?, row.at(9)?]) },
            later: if new {
                Some(([row.at(8)?, row.at(9)?, row.at(10)?], row.at(11)?))
            } else {
                None
            },
            resets: if new { [row.at(12)?, row.at(13)?] } else { [row.at(10)?, None] },
        })
    }

    fn derive(&self, state: &mut State, rows: Rows, sink: &mut Sink) {
        let mut counters = [0.0; 9];
        counters[..5].copy_from_slice(&rows.checkpoints);
        if let Some((restartpoints, done)) = rows.later {
            counters[5..8].copy_from_slice(&restartpoints);
            counters[8] = done.unwrap_or(0.0);
        }
        let totals = state.checkpoints.add(rows.started, counters);
        for (names, total) in BOTH.into_iter().zip(totals) {
            names.into_iter().for_each(|metric| sink.number(metric, &[], total));
        }
        if let Some((_, done)) = rows.later {
            let known = if done.is_some() { 4 } else { 3 };
            for (metric, total) in LATER.into_iter().zip(&totals[5..]).take(known) {
                sink.number(metric, &[], *total);
            }
        }
        let [clean, maxwritten, alloc] = rows.writer;
        let [backend, fsync] = rows.earlier.unwrap_or_default();
        let totals = state.writer.add(rows.started, [clean, maxwritten, alloc, backend, fsync]);
        for (metric, total) in WRITER.into_iter().zip(totals) {
            sink.number(metric, &[], total);
        }
        if rows.earlier.is_some() {
            for (metric, total) in EARLIER.into_iter().zip(&totals[3..]) {
                sink.number(metric, &[], *total);
            }
        }
        for (metric, at) in [&RESET, &CHECKPOINTER_RESET].into_iter().zip(rows.resets) {
            sink.number(metric, &[], at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll, value};
    use super::*;

    #[test]
    fn golden_of_18_and_older_versions_have_what_they_have() {
        let later = |n: f64| {
            let done = Some(n / 2.0);
            Rows {
                started: 1.0,
                checkpoints: [n, n + 1.0, 10.0 * n, 0.5 * n, 100.0 * n],
                writer: [2.0 * n, 0.0, 3.0 * n],
                earlier: None,
                later: Some(([0.0, n, n], done)),
                resets: [Some(1_700_000_000.0), Some(1_700_000_001.0)],
            }
        };
        let mut state = State::default();
        poll(&Checkpoints, &mut state, later(10.0));
        check("checkpoints", &poll(&Checkpoints, &mut state, later(14.0)));

        let earlier = |n: f64| Rows { earlier: Some([n, 0.0]), later: None, ..later(n) };
        let mut state = State::default();
        poll(&Checkpoints, &mut state, earlier(3.0));
        let families = poll(&Checkpoints, &mut state, earlier(7.0));
        let get = |name| value(&families, name, &[]);
        assert_eq!(get("pg_stat_bgwriter_buffers_backend_total"), Some(4.0));
        assert_eq!(get("pg_stat_bgwriter_checkpoints_req_total"), Some(4.0));
        assert_eq!(get("pg_stat_checkpointer_num_requested_total"), Some(4.0));
        assert_eq!(get("pg_stat_checkpointer_restartpoints_done_total"), None);
    }
}
