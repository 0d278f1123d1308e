//! `pg_stat_recovery`: where the startup process of a standby is.
//!
//! Must not: say how old a standby's data is, which the collector of replication does.

use std::time::Duration;

use super::figures::figures;
use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{Row, Session, columns};

static PROMOTE: Metric = Metric::gauge(
    "pg_stat_recovery_promote_triggered",
    &[],
    "Whether a promotion was asked for, pg_stat_recovery.promote_triggered.",
);
static PAUSE: Metric = Metric::gauge(
    "pg_stat_recovery_pause_state",
    &["state"],
    "Constant 1 with pg_stat_recovery.pause_state: not paused, pause requested or paused.",
);
static TIMELINE: Metric = Metric::gauge(
    "pg_stat_recovery_last_replayed_timeline",
    &[],
    "Timeline of the last record that was replayed, pg_stat_recovery.last_replayed_tli.",
);
static NEXT_TIMELINE: Metric = Metric::gauge(
    "pg_stat_recovery_replay_end_timeline",
    &[],
    "Timeline of the record that is being replayed, pg_stat_recovery.replay_end_tli.",
);
static REPLAYED: Metric = Metric::gauge(
    "pg_stat_recovery_last_replayed_end_lsn_bytes",
    &[],
    "End of the last record that was replayed, as bytes of WAL, pg_stat_recovery.last_replayed_end_lsn.",
);
static REPLAYING: Metric = Metric::gauge(
    "pg_stat_recovery_replay_end_lsn_bytes",
    &[],
    "End of the record that is being replayed, as bytes of WAL, pg_stat_recovery.replay_end_lsn; it stays beyond \
     last_replayed_end_lsn where the startup process is held up, by a conflict for example.",
);
static TRANSACTION: Metric = Metric::gauge(
    "pg_stat_recovery_last_xact_timestamp_seconds",
    &[],
    "Unix time of the last transaction that was replayed, pg_stat_recovery.recovery_last_xact_time.",
);
static CHUNK: Metric = Metric::gauge(
    "pg_stat_recovery_current_chunk_start_timestamp_seconds",
    &[],
    "Unix time at which the WAL that is being replayed was received, pg_stat_recovery.current_chunk_start_time.",
);

const SQL: &str = "\
SELECT s.pause_state, s.promote_triggered::int4::float8 AS promote, s.last_replayed_tli::float8,
       s.replay_end_tli::float8,
       pg_catalog.pg_wal_lsn_diff(s.last_replayed_end_lsn, '0/0')::float8 AS replayed,
       pg_catalog.pg_wal_lsn_diff(s.replay_end_lsn, '0/0')::float8 AS replaying,
       pg_catalog.date_part('epoch', s.recovery_last_xact_time)::float8 AS last_xact,
       pg_catalog.date_part('epoch', s.current_chunk_start_time)::float8 AS chunk_start
  FROM pg_catalog.pg_stat_recovery s";

pub struct Recovery;

figures! {
    /// Where it is.
    pub struct RecoveryFigures: Option<f64> {
        /// Whether it is to end.
        promote => PROMOTE,
        /// Timeline.
        last_replayed_tli => TIMELINE,
        /// Timeline.
        replay_end_tli => NEXT_TIMELINE,
        /// Bytes.
        replayed => REPLAYED,
        /// Bytes.
        replaying => REPLAYING,
        /// Unix seconds.
        last_xact => TRANSACTION,
        /// Unix seconds.
        chunk_start => CHUNK,
    }
}

columns! {
    /// The view's row, which a primary does not have.
    #[derive(Debug, Clone, PartialEq)]
    pub struct RecoveryRow {
        /// `not paused`, `pause requested` or `paused`.
        pub pause_state: Option<String>,
        /// Where it is.
        pub figures: RecoveryFigures,
    }
}

impl Collector for Recovery {
    type Rows = Option<RecoveryRow>;
    type State = ();
    const NAME: &'static str = "recovery";
    const HELP: &'static str = "Where a standby's startup process is, from pg_stat_recovery (19+).";
    const SINCE: i32 = 19;
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(15);
    const METRICS: &'static [&'static Metric] =
        &[&PAUSE, &PROMOTE, &TIMELINE, &NEXT_TIMELINE, &REPLAYED, &REPLAYING, &TRANSACTION, &CHUNK];

    async fn fetch(&self, session: &Session, (): &()) -> Result<Self::Rows, CollectError> {
        if session.server().version_num < 190_000 || !session.server().in_recovery {
            return Ok(None);
        }
        Row::first(&session.read(SQL).await?)
    }

    fn derive(&self, (): &mut (), rows: Self::Rows, sink: &mut Sink) {
        let Some(row) = rows else { return };
        if let Some(state) = &row.pause_state {
            sink.number(&PAUSE, &[state], 1.0);
        }
        row.figures.emit(&[], sink);
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll};
    use super::*;

    #[test]
    fn golden() {
        let figures = [0.0, 1.0, 2.0, 4096.0, 8192.0, 1_700_000_000.5].map(Some);
        let mut all = [None; RecoveryFigures::N];
        all[..6].copy_from_slice(&figures);
        let row = RecoveryRow { pause_state: Some("not paused".to_owned()), figures: all.into() };
        assert!(poll(&Recovery, &mut (), None).is_empty());
        check("recovery", &poll(&Recovery, &mut (), Some(row)));
    }
}
