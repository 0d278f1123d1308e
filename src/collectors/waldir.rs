//! What lies in `pg_wal`: segments, their bytes, and the files that wait to be archived.
//!
//! Must not: walk a folder of many thousand files as often as a small one.

use std::time::Duration;

use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::Session;

static SEGMENTS: Metric = Metric::gauge(
    "pg_wal_segments",
    &[],
    "WAL segments in the server's pg_wal folder, by pg_ls_waldir().",
);
static SIZE: Metric = Metric::gauge(
    "pg_wal_size_bytes",
    &[],
    "Bytes of the WAL segments in the server's pg_wal folder, by pg_ls_waldir().",
);
static READY: Metric = Metric::gauge(
    "pg_wal_archive_ready_files",
    &[],
    "WAL files that wait to be archived, those that end in .ready by pg_ls_archive_statusdir().",
);

/// A poll rests a hundred times as long as it took.
const REST: f64 = 100.0;
const LONGEST: Duration = Duration::from_secs(900);

const SQL: &str = "\
SELECT w.files::float8, w.bytes::float8,
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_ls_archive_statusdir() s
         WHERE s.name LIKE '%.ready')::float8
  FROM (SELECT pg_catalog.count(*) AS files, COALESCE(pg_catalog.sum(d.size), 0) AS bytes
          FROM pg_catalog.pg_ls_waldir() d WHERE d.name ~ '^[0-9A-F]{24}$') w";

pub struct Waldir;

/// What one poll read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Seconds the poll took.
    pub took: f64,
    /// Segments, bytes, files that wait.
    pub figures: [f64; 3],
}

impl Collector for Waldir {
    type Rows = Rows;
    /// Seconds the last poll took.
    type State = f64;
    const NAME: &'static str = "waldir";
    const HELP: &'static str =
        "Segments and bytes in pg_wal, and those that wait for the archiver.";
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(60);
    const METRICS: &'static [&'static Metric] = &[&SEGMENTS, &SIZE, &READY];

    async fn fetch(&self, session: &Session, _: &f64) -> Result<Rows, CollectError> {
        let start = session.seconds();
        let rows = session.read(SQL).await?;
        let row = rows.first().ok_or_else(|| CollectError::Missing {
            what: "an aggregate gave no row".to_owned(),
            remedy: "check that this is a PostgreSQL server".to_owned(),
        })?;
        let figures = [row.at(0)?, row.at(1)?, row.at(2)?];
        Ok(Rows { took: session.seconds() - start, figures })
    }

    fn derive(&self, took: &mut f64, rows: Rows, sink: &mut Sink) {
        *took = rows.took;
        for (metric, figure) in [&SEGMENTS, &SIZE, &READY].into_iter().zip(rows.figures) {
            sink.number(metric, &[], figure);
        }
    }

    fn interval(&self, took: &f64) -> Duration {
        Duration::from_secs_f64((took * REST).clamp(0.0, LONGEST.as_secs_f64())).max(Self::INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll};
    use super::*;

    #[test]
    fn golden_and_the_interval_follows_the_cost() {
        let mut took = 0.0;
        assert_eq!(Waldir.interval(&took), Duration::from_secs(60));
        let rows = Rows { took: 2.0, figures: [64.0, 1_073_741_824.0, 3.0] };
        let families = poll(&Waldir, &mut took, rows);
        assert_eq!(Waldir.interval(&took), Duration::from_secs(200));
        check("waldir", &families);
    }
}
