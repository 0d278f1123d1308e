//! WAL written, by position and by `pg_stat_wal`, and what the archiver did with it.
//!
//! Must not: take a position that fell (a promotion, another server) for a reset.

use std::time::Duration;

use super::figures::figures;
use super::published::published;
use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Kind, Metric, Sink};
use crate::pg::{IfColumn, Query, Row, Session, columns};

static BYTES: Metric = Metric::counter(
    "pg_wal_bytes_total",
    &[],
    "Bytes by which the WAL grew since pgrunway began to watch, from pg_current_wal_lsn(), on a standby \
     from pg_last_wal_receive_lsn() or pg_last_wal_replay_lsn().",
);
static ARCHIVED: Metric = Metric::untyped(
    "pg_stat_archiver_archived_count",
    &[],
    "WAL files archived, pg_stat_archiver.archived_count.",
)
.with_server_there(Kind::Counter);
static FAILED: Metric = Metric::untyped(
    "pg_stat_archiver_failed_count",
    &[],
    "Failed attempts to archive a WAL file, pg_stat_archiver.failed_count.",
)
.with_server_there(Kind::Counter);
static ARCHIVE_AGE: Metric = Metric::gauge(
    "pg_stat_archiver_last_archive_age",
    &[],
    "Seconds since the last WAL file was archived, pg_stat_archiver.last_archived_time; absent if none \
     ever was.",
)
.with_server_there(Kind::Gauge);
static LAST_ARCHIVED: Metric = Metric::gauge(
    "pg_stat_archiver_last_archived_timestamp_seconds",
    &[],
    "Unix time at which a WAL file was last archived, pg_stat_archiver.last_archived_time; absent if \
     none ever was.",
);
static LAST_FAILED: Metric = Metric::gauge(
    "pg_stat_archiver_last_failed_timestamp_seconds",
    &[],
    "Unix time at which archiving last failed, pg_stat_archiver.last_failed_time; absent if it never \
     did.",
);
static RECORDS: Metric = Metric::counter(
    "pg_stat_wal_records_total",
    &[],
    "WAL records generated, pg_stat_wal.wal_records (PostgreSQL 14 and later).",
);
static IMAGES: Metric = Metric::counter(
    "pg_stat_wal_full_page_images_total",
    &[],
    "Images of whole pages in the WAL, pg_stat_wal.wal_fpi (PostgreSQL 14 and later).",
);
static STAT_BYTES: Metric = Metric::counter(
    "pg_stat_wal_bytes_total",
    &[],
    "Bytes of WAL generated, pg_stat_wal.wal_bytes (PostgreSQL 14 and later).",
);
static IMAGE_BYTES: Metric = Metric::counter(
    "pg_stat_wal_full_page_image_bytes_total",
    &[],
    "Bytes of images of whole pages in the WAL, pg_stat_wal.wal_fpi_bytes (PostgreSQL 19 and later).",
);
static BUFFERS_FULL: Metric = Metric::counter(
    "pg_stat_wal_buffers_full_total",
    &[],
    "Times WAL was written because wal_buffers was full, pg_stat_wal.wal_buffers_full (PostgreSQL 14 and later).",
);

const ARCHIVER: &str = "\
SELECT CASE WHEN pg_catalog.pg_is_in_recovery()
            THEN pg_catalog.pg_wal_lsn_diff(COALESCE(pg_catalog.pg_last_wal_receive_lsn(),
                                                     pg_catalog.pg_last_wal_replay_lsn()), '0/0')
            ELSE pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), '0/0') END::float8
         AS position,
       pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())::float8 AS now,
       a.archived_count::float8, a.failed_count::float8,
       pg_catalog.date_part('epoch', a.last_archived_time)::float8 AS last_archived,
       pg_catalog.date_part('epoch', a.last_failed_time)::float8 AS last_failed
  FROM pg_catalog.pg_stat_archiver a";

fn stat_wal(version_num: i32) -> String {
    let images = if version_num >= 190_000 { ", w.wal_fpi_bytes::float8" } else { "" };
    format!(
        "SELECT w.wal_records::float8, w.wal_fpi::float8, w.wal_bytes::float8, \
                w.wal_buffers_full::float8{images} FROM pg_catalog.pg_stat_wal w"
    )
}

published! {
    /// `pg_wal_bytes_total`.
    pub struct WalBytes of BYTES { => bytes: f64 }
}

pub struct Wal;

figures! {
    /// What `pg_stat_archiver` counts.
    pub struct Archived: f64 {
        /// Files.
        archived_count => ARCHIVED,
        /// Attempts that failed.
        failed_count => FAILED,
    }
}

figures! {
    /// What `pg_stat_wal` counts.
    pub struct Generated: Option<f64> as IfColumn<Option<f64>> {
        /// Records.
        wal_records => RECORDS,
        /// Images of whole pages.
        wal_fpi => IMAGES,
        /// Bytes.
        wal_bytes => STAT_BYTES,
        /// Bytes of images of whole pages.
        wal_fpi_bytes => IMAGE_BYTES,
        /// Times that the buffers were full.
        wal_buffers_full => BUFFERS_FULL,
    }
}

columns! {
    /// Where the WAL and its archiver are.
    #[derive(Debug, Clone, PartialEq)]
    pub struct WalPosition {
        /// The server's clock, Unix seconds.
        pub now: f64,
        /// Position in bytes.
        pub position: Option<f64>,
        /// What was archived.
        pub archived: Archived,
        /// Unix seconds.
        pub last_archived: Option<f64>,
        /// Unix seconds.
        pub last_failed: Option<f64>,
    }
}

/// What one poll read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Unix seconds of the server's start.
    pub started: f64,
    /// Where it is.
    pub standing: WalPosition,
    /// From PostgreSQL 14 on.
    pub generated: Option<Generated>,
}

/// Growth, and the last position with the start of the server that it is of.
#[derive(Debug, Default)]
pub struct State {
    bytes: f64,
    last: Option<(f64, f64)>,
}

impl Collector for Wal {
    type Rows = Rows;
    type State = State;
    const NAME: &'static str = "wal";
    const HELP: &'static str = "WAL written, and the archiver.";
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(15);
    const METRICS: &'static [&'static Metric] = &[
        &BYTES,
        &ARCHIVED,
        &FAILED,
        &ARCHIVE_AGE,
        &LAST_ARCHIVED,
        &LAST_FAILED,
        &RECORDS,
        &IMAGES,
        &STAT_BYTES,
        &IMAGE_BYTES,
        &BUFFERS_FULL,
    ];

    async fn fetch(&self, session: &Session, _: &State) -> Result<Rows, CollectError> {
        let stat_wal = stat_wal(session.server().version_num);
        let mut queries = vec![Query::new(ARCHIVER)];
        if session.server().version_num >= 140_000 {
            queries.push(Query::new(&stat_wal));
        }
        let answers = session.read_all(&queries).await?;
        let mut answers = answers.iter().map(Vec::as_slice);
        let mut next = || answers.next().unwrap_or_default();
        Ok(Rows {
            started: session.server().started,
            standing: Row::one(next())?,
            generated: Row::first(next())?,
        })
    }

    fn derive(&self, state: &mut State, rows: Rows, sink: &mut Sink) {
        let WalPosition { now, position, archived, last_archived, last_failed } = rows.standing;
        if let Some(position) = position {
            if let Some((started, last)) = state.last
                && started == rows.started
            {
                state.bytes += (position - last).max(0.0);
            }
            state.last = Some((rows.started, position));
            sink.number(&BYTES, &[], state.bytes);
        }
        archived.emit(&[], sink);
        sink.number(&ARCHIVE_AGE, &[], last_archived.map(|at| (now - at).max(0.0)));
        sink.number(&LAST_ARCHIVED, &[], last_archived);
        sink.number(&LAST_FAILED, &[], last_failed);
        if let Some(generated) = rows.generated {
            generated.emit(&[], sink);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll, value};
    use super::*;

    fn rows(position: f64, archived: f64) -> Rows {
        Rows {
            started: 1.0,
            standing: WalPosition {
                now: 1_700_000_100.0,
                position: Some(position),
                archived: Archived { archived_count: archived, failed_count: 2.0 },
                last_archived: Some(1_700_000_000.5),
                last_failed: None,
            },
            generated: Some(Generated {
                wal_records: Some(10.0 * archived),
                wal_fpi: Some(1.0),
                wal_bytes: Some(position),
                wal_fpi_bytes: Some(8192.0),
                wal_buffers_full: Some(0.0),
            }),
        }
    }

    #[test]
    fn golden_and_a_promotion_adds_nothing() {
        let mut state = State::default();
        let mut seen = Vec::new();
        for position in [9e9, 9e9 + 500.0, 9e9 + 300.0, 9e9 + 400.0] {
            let families = poll(&Wal, &mut state, rows(position, position - 9e9));
            seen.push(value(&families, "pg_wal_bytes_total", &[]));
        }
        assert_eq!(seen, [Some(0.0), Some(500.0), Some(500.0), Some(600.0)]);
        let restarted = Rows { started: 2.0, ..rows(9.1e9, 1.0) };
        let families = poll(&Wal, &mut state, restarted);
        assert_eq!(value(&families, "pg_wal_bytes_total", &[]), Some(600.0));
        check("wal", &families);
    }

    #[test]
    fn nothing_archived_yet_has_no_age() {
        let mut never = Rows { generated: None, ..rows(0.0, 0.0) };
        (never.standing.last_archived, never.standing.position) = (None, None);
        let families = poll(&Wal, &mut State::default(), never);
        assert_eq!(value(&families, "pg_stat_archiver_last_archive_age", &[]), None);
        assert_eq!(value(&families, "pg_wal_bytes_total", &[]), None);
        assert_eq!(value(&families, "pg_stat_archiver_archived_count", &[]), Some(0.0));
    }
}
