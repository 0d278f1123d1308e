//! `pg_stat_slru`: the small caches behind transaction status, subtransactions, multixacts and notifications. A long
//! transaction with many savepoints shows here first.
//!
//! Must not: take one cache for another: their names differ by version.

use std::time::Duration;

use super::figures::figures;
use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{IfColumn, Row, Session, columns};

static HIT: Metric = Metric::counter(
    "pg_stat_slru_blks_hit_total",
    &["slru"],
    "Pages found in the cache, pg_stat_slru.blks_hit.",
);
static READ: Metric = Metric::counter(
    "pg_stat_slru_blks_read_total",
    &["slru"],
    "Pages read from disk because the cache did not have them, pg_stat_slru.blks_read.",
);
static WRITTEN: Metric = Metric::counter(
    "pg_stat_slru_blks_written_total",
    &["slru"],
    "Pages written, pg_stat_slru.blks_written.",
);
static ZEROED: Metric = Metric::counter(
    "pg_stat_slru_blks_zeroed_total",
    &["slru"],
    "Pages zeroed, pg_stat_slru.blks_zeroed.",
);
static EXISTS: Metric = Metric::counter(
    "pg_stat_slru_blks_exists_total",
    &["slru"],
    "Pages looked for on disk, pg_stat_slru.blks_exists.",
);
static FLUSHES: Metric = Metric::counter(
    "pg_stat_slru_flushes_total",
    &["slru"],
    "Flushes of what was changed, pg_stat_slru.flushes.",
);
static TRUNCATES: Metric = Metric::counter(
    "pg_stat_slru_truncates_total",
    &["slru"],
    "Truncations, pg_stat_slru.truncates.",
);

const SQL: &str = "\
SELECT s.name AS slru, s.blks_hit::float8, s.blks_read::float8, s.blks_written::float8, s.blks_zeroed::float8, s.blks_exists::float8, s.flushes::float8, s.truncates::float8
  FROM pg_catalog.pg_stat_slru s ORDER BY s.name";

pub struct Slru;

figures! {
    /// What the view counts; a column that the version lacks has no value.
    pub struct SlruCounters: Option<f64> as IfColumn<Option<f64>> {
        /// Pages found in the cache.
        blks_hit => HIT,
        /// Pages read from disk because the cache did not have them.
        blks_read => READ,
        /// Pages written.
        blks_written => WRITTEN,
        /// Pages begun.
        blks_zeroed => ZEROED,
        /// Pages looked for on disk.
        blks_exists => EXISTS,
        /// Flushes of what was changed.
        flushes => FLUSHES,
        /// Truncations.
        truncates => TRUNCATES,
    }
}

columns! {
    /// One row of the view.
    #[derive(Debug, Clone, PartialEq)]
    pub struct SlruRow {
        /// Which one.
        pub slru: String,
        /// What is counted of it.
        pub counters: SlruCounters,
    }
}

impl Collector for Slru {
    type Rows = Vec<SlruRow>;
    type State = ();
    const NAME: &'static str = "slru";
    const HELP: &'static str = "Caches of transaction status, subtransactions, multixacts and the like, from pg_stat_slru.";
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(30);
    const METRICS: &'static [&'static Metric] = &SlruCounters::METRICS;

    async fn fetch(&self, session: &Session, (): &()) -> Result<Self::Rows, CollectError> {
        Row::all(&session.read(SQL).await?)
    }

    fn derive(&self, (): &mut (), rows: Self::Rows, sink: &mut Sink) {
        for row in &rows {
            row.counters.emit(&[&row.slru], sink);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll};
    use super::*;

    #[test]
    fn golden() {
        let counters = SlruCounters::from([
            Some(0.0),
            Some(1.0),
            Some(2.0),
            Some(3.0),
            Some(4.0),
            Some(5.0),
            None,
        ]);
        let row = SlruRow { slru: "a\"b".to_owned(), counters };
        check("slru", &poll(&Slru, &mut (), vec![row]));
    }
}
