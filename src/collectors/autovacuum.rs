//! Which tables autovacuum works on, under postgres_exporter's name.
//!
//! Must not: run unless asked for; how far a VACUUM is stands in `pg_stat_progress_vacuum`.

use std::time::Duration;

use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{Row, Session, columns};

static STARTED: Metric = Metric::gauge(
    "pg_stat_activity_autovacuum_timestamp_seconds",
    &["relname"],
    "Unix time at which autovacuum's worker on the table began, from pg_stat_activity.xact_start; the earliest \
     where several databases have a table of this name.",
);

/// The name is what its query says after the schema, as at postgres_exporter.
const WORKERS: &str = "\
SELECT pg_catalog.split_part(a.query, '.', 2) AS relname,
       pg_catalog.date_part('epoch', pg_catalog.min(a.xact_start))::float8 AS started
  FROM pg_catalog.pg_stat_activity a
 WHERE a.query LIKE 'autovacuum:%' AND a.xact_start IS NOT NULL
 GROUP BY 1 ORDER BY 1";

pub struct Autovacuum;

columns! {
    /// A table that is worked on.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Worker {
        /// Its name.
        pub relname: String,
        /// Unix seconds.
        pub started: f64,
    }
}

impl Collector for Autovacuum {
    type Rows = Vec<Worker>;
    type State = ();
    const NAME: &'static str = "autovacuum";
    const HELP: &'static str = "Tables that autovacuum works on, and since when.";
    const DEFAULT_ON: bool = false;
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(15);
    const METRICS: &'static [&'static Metric] = &[&STARTED];

    async fn fetch(&self, session: &Session, (): &()) -> Result<Self::Rows, CollectError> {
        Row::all(&session.read(WORKERS).await?)
    }

    fn derive(&self, (): &mut (), rows: Self::Rows, sink: &mut Sink) {
        for worker in &rows {
            sink.number(&STARTED, &[&worker.relname], worker.started);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll};
    use super::*;

    #[test]
    fn golden() {
        let worker = |relname: &str, started| Worker { relname: relname.to_owned(), started };
        let rows = vec![
            worker("pg_toast_16386", 1.5e9),
            worker("tra\"des (to prevent wraparound)", 1.6e9),
        ];
        check("autovacuum", &poll(&Autovacuum, &mut (), rows));
    }
}
