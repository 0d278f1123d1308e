//! Transactions that run, under postgres_exporter's names.
//!
//! Must not: count this exporter's own.

use std::time::Duration;

use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{Query, Row, Session, columns};

static COUNT: Metric = Metric::gauge(
    "pg_long_running_transactions",
    &[],
    "Transactions of sessions that are not idle, autovacuum's left out, that have been open for \
     collectors.longtransactions.threshold (a minute) or longer, from pg_stat_activity.xact_start.",
);
static OLDEST: Metric = Metric::gauge(
    "pg_long_running_transactions_oldest_timestamp_seconds",
    &[],
    "Age in seconds of the oldest of these transactions, under postgres_exporter's name, from \
     pg_stat_activity.xact_start; 0 if there is none.",
);

const TRANSACTIONS: &str = "\
SELECT pg_catalog.count(*)::float8 AS count,
       COALESCE(pg_catalog.date_part('epoch',
         pg_catalog.max(pg_catalog.clock_timestamp() - a.xact_start)), 0)::float8 AS oldest
  FROM pg_catalog.pg_stat_activity a
 WHERE a.state IS DISTINCT FROM 'idle' AND a.query NOT LIKE 'autovacuum:%'
   AND a.pid <> pg_catalog.pg_backend_pid()
   AND a.xact_start <= pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $1::float8 / 1000)";

pub struct LongTransactions;

columns! {
    /// What one poll read.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Rows {
        /// Transactions.
        pub count: f64,
        /// Seconds.
        pub oldest: f64,
    }
}

impl Collector for LongTransactions {
    type Rows = Rows;
    type State = ();
    const NAME: &'static str = "longtransactions";
    const HELP: &'static str = "Transactions open for at least a threshold, a minute by default.";
    const DEFAULT_ON: bool = false;
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(15);
    const METRICS: &'static [&'static Metric] = &[&COUNT, &OLDEST];

    async fn fetch(&self, session: &Session, (): &()) -> Result<Rows, CollectError> {
        let threshold = session.settings().long_transaction.as_millis();
        let threshold = i64::try_from(threshold).unwrap_or(i64::MAX);
        Row::one(&session.read(Query::new(TRANSACTIONS).int8(&threshold)).await?)
    }

    fn derive(&self, (): &mut (), rows: Rows, sink: &mut Sink) {
        sink.number(&COUNT, &[], rows.count);
        sink.number(&OLDEST, &[], rows.oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll};
    use super::*;

    #[test]
    fn golden() {
        let rows = Rows { count: 2.0, oldest: 75.5 };
        check("longtransactions", &poll(&LongTransactions, &mut (), rows));
    }
}
