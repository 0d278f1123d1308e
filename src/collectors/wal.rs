//! WAL written, by position and by `pg_stat_wal`, and what the archiver did with it.
//!
//! Must not: take a position that fell (a promotion, another server) for a reset.

use std::time::Duration;

use super::totals::Totals;
use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{Query, Row, Session};

static BYTES: Metric = Metric::counter(
    "pg_wal_bytes_total",
    &[],
    "Bytes by which the WAL grew since pgrunway began to watch, from pg_current_wal_lsn(), on a standby \
     from pg_last_wal_receive_lsn() or pg_last_wal_replay_lsn().",
);
static ARCHIVED: Metric = Metric::untyped(
    "pg_stat_archiver_archived_count",
    &[],
    "WAL files archived, pg_stat_archiver.archived_count, since pgrunway began to watch; never falling.",
);
static FAILED: Metric = Metric::untyped(
    "pg_stat_archiver_failed_count",
    &[],
    "Failed attempts to archive a WAL file, pg_stat_archiver.failed_count, since pgrunway began to \
     watch; never falling.",
);
static ARCHIVE_AGE: Metric = Metric::gauge(
    "pg_stat_archiver_last_archive_age",
    &[],
    "Seconds since the last WAL file was archived, pg_stat_archiver.last_archived_time; absent if none \
     ever was.",
);
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
    "WAL records generated, pg_stat_wal.wal_records, since pgrunway began to watch (PostgreSQL 14 and \
     later).",
);
static IMAGES: Metric = Metric::counter(
    "pg_stat_wal_full_page_images_total",
    &[],
    "Images of whole pages in the WAL, pg_stat_wal.wal_fpi, since pgrunway began to watch (PostgreSQL \
     14 and later).",
);
static STAT_BYTES: Metric = Metric::counter(
    "pg_stat_wal_bytes_total",
    &[],
    "Bytes of WAL generated, pg_stat_wal.wal_bytes, since pgrunway began to watch (PostgreSQL 14 and \
     later).",
);
static BUFFERS_FULL: Metric = Metric::counter(
    "pg_stat_wal_buffers_full_total",
    &[],
    "Times WAL was written because wal_buffers was full, pg_stat_wal.wal_buffers_full, since pgrunway \
     began to watch (PostgreSQL 14 and later).",
);

const ARCHIVER: &str = "\
SELECT CASE WHEN pg_catalog.pg_is_in_recovery()
            THEN pg_catalog.pg_wal_lsn_diff(COALESCE(pg_catalog.pg_last_wal_receive_lsn(),
                                                     pg_catalog.pg_last_wal_replay_lsn()), '0/0')
            ELSE pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), '0/0') END::float8,
       pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())::float8,
       a.archived_count::float8, a.failed_count::float8,
       pg_catalog.date_part('epoch', a.last_archived_time)::float8,
       pg_catalog.date_part('epoch', a.last_failed_time)::float8
  FROM pg_catalog.pg_stat_archiver a";

const STAT_WAL: &str = "\
SELECT w.wal_records::float8, w.wal_fpi::float8, w.wal_bytes::float8, w.wal_buffers_full::float8
  FROM pg_catalog.pg_stat_wal w";

pub struct Wal;

/// What one poll read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Unix seconds of the server's start.
    pub started: f64,
    /// The server's clock, Unix seconds.
    pub now: f64,
    /// Position in bytes.
    pub position: Option<f64>,
    /// Files archived, and failed attempts.
    pub archiver: [f64; 2],
    /// Unix seconds.
    pub last_archived: Option<f64>,
    /// Unix seconds.
    pub last_failed: Option<f64>,
    /// Records, page images, bytes, full buffers; from PostgreSQL 14 on.
    pub stat_wal: Option<[f64; 4]>,
}

/// Totals, and the last position with the start of the server that it is of.
#[derive(Debug, Default)]
pub struct State {
    archiver: Totals<2>,
    stat_wal: Totals<4>,
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
        &BUFFERS_FULL,
    ];

    async fn fetch(&self, session: &Session, _: &State) -> Result<Rows, CollectError> {
        let mut queries = vec![Query::new(ARCHIVER)];
        if session.server().version_num >= 140_000 {
            queries.push(Query::new(STAT_WAL));
        }
        let answers = session.read_all(&queries).await?;
        let mut first = answers.iter().map(|rows| rows.first());
        let row = first.next().flatten().ok_or_else(|| CollectError::Missing {
            what: "pg_stat_archiver has no row".to_owned(),
            remedy: "check that this is a PostgreSQL server".to_owned(),
        })?;
        let four =
            |row: &Row| Ok::<_, CollectError>([row.at(0)?, row.at(1)?, row.at(2)?, row.at(3)?]);
        Ok(Rows {
            started: session.server().started,
            position: row.at(0)?,
            now: row.at(1)?,
            archiver: [row.at(2)?, row.at(3)?],
            last_archived: row.at(4)?,
            last_failed: row.at(5)?,
            stat_wal: first.next().flatten().map(four).transpose()?,
        })
    }

    fn derive(&self, state: &mut State, rows: Rows, sink: &mut Sink) {
        if let Some(position) = rows.position {
            if let Some((started, last)) = state.last
                && started == rows.started
            {
                state.bytes += (position - last).max(0.0);
            }
            state.last = Some((rows.started, position));
            sink.number(&BYTES, &[], state.bytes);
        }
        let [archived, failed] = state.archiver.add(rows.started, rows.archiver);
        sink.number(&ARCHIVED, &[], archived);
        sink.number(&FAILED, &[], failed);
        sink.number(&ARCHIVE_AGE, &[], rows.last_archived.map(|at| (rows.now - at).max(0.0)));
        sink.number(&LAST_ARCHIVED, &[], rows.last_archived);
        sink.number(&LAST_FAILED, &[], rows.last_failed);
        if let Some(counters) = rows.stat_wal {
            let totals = state.stat_wal.add(rows.started, counters);
            for (metric, total) in
                [&RECORDS, &IMAGES, &STAT_BYTES, &BUFFERS_FULL].iter().zip(totals)
            {
                sink.number(metric, &[], total);
            }
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
            now: 1_700_000_100.0,
            position: Some(position),
            archiver: [archived, 2.0],
            last_archived: Some(1_700_000_000.5),
            last_failed: None,
            stat_wal: Some([10.0 * archived, 1.0, position, 0.0]),
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
        let never = Rows { last_archived: None, position: None, stat_wal: None, ..rows(0.0, 0.0) };
        let families = poll(&Wal, &mut State::default(), never);
        assert_eq!(value(&families, "pg_stat_archiver_last_archive_age", &[]), None);
        assert_eq!(value(&families, "pg_wal_bytes_total", &[]), None);
        assert_eq!(value(&families, "pg_stat_archiver_archived_count", &[]), Some(0.0));
    }
}
