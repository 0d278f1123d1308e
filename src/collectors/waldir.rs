//! What lies in `pg_wal`: segments, their bytes, and the files that wait to be archived.
//!
//! Must not: walk a folder of many thousand files as often as a small one.

use std::time::Duration;

use super::figures::figures;
use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{Row, Session};

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
SELECT w.segments::float8, w.bytes::float8,
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_ls_archive_statusdir() s
         WHERE s.name LIKE '%.ready')::float8 AS ready
  FROM (SELECT pg_catalog.count(*) AS segments, COALESCE(pg_catalog.sum(d.size), 0) AS bytes
          FROM pg_catalog.pg_ls_waldir() d WHERE d.name ~ '^[0-9A-F]{24}$') w";

pub struct Waldir;

figures! {
    /// What is in the folder.
    pub struct WalFolder: f64 {
        /// WAL files.
        segments => SEGMENTS,
        /// Theirs.
        bytes => SIZE,
        /// Files that wait for the archiver.
        ready => READY,
    }
}

/// What one poll read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Seconds the poll took.
    pub took: f64,
    /// What is there.
    pub held: WalFolder,
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
        Ok(Rows { held: Row::one(&rows)?, took: session.seconds() - start })
    }

    fn derive(&self, took: &mut f64, rows: Rows, sink: &mut Sink) {
        *took = rows.took;
        rows.held.emit(&[], sink);
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
        let held = WalFolder { segments: 64.0, bytes: 1_073_741_824.0, ready: 3.0 };
        let rows = Rows { took: 2.0, held };
        let families = poll(&Waldir, &mut took, rows);
        assert_eq!(Waldir.interval(&took), Duration::from_secs(200));
        check("waldir", &families);
    }
}
