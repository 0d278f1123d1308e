//! `pg_stat_lock`: how often and how long locks were waited for since the statistics began.
//!
//! Must not: look at who waits now, which the locks collector does.

use std::time::Duration;

use super::figures::figures;
use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{IfColumn, Row, Session, columns};

static WAITS: Metric = Metric::counter(
    "pg_stat_lock_waits_total",
    &["locktype"],
    "Waits for a lock that lasted longer than deadlock_timeout and ended with the lock, pg_stat_lock.waits.",
);
static WAIT_TIME: Metric = Metric::counter(
    "pg_stat_lock_wait_seconds_total",
    &["locktype"],
    "Time of those waits, pg_stat_lock.wait_time.",
);
static FASTPATH: Metric = Metric::counter(
    "pg_stat_lock_fastpath_exceeded_total",
    &["locktype"],
    "Locks that went to the shared table because the fast path was full, pg_stat_lock.fastpath_exceeded.",
);

const SQL: &str = "\
SELECT s.locktype AS locktype, s.waits::float8, (s.wait_time / 1000)::float8 AS wait_time, s.fastpath_exceeded::float8
  FROM pg_catalog.pg_stat_lock s ORDER BY s.locktype";

pub struct LockWaits;

figures! {
    /// What the view counts; a column that the version lacks has no value.
    pub struct LockWaitsCounters: Option<f64> as IfColumn<Option<f64>> {
        /// Waits for a lock that lasted longer than deadlock_timeout and ended with the lock.
        waits => WAITS,
        /// Time of those waits.
        wait_time => WAIT_TIME,
        /// Locks that went to the shared table because the fast path had no place.
        fastpath_exceeded => FASTPATH,
    }
}

columns! {
    /// One row of the view.
    #[derive(Debug, Clone, PartialEq)]
    pub struct LockWaitsRow {
        /// Which one.
        pub locktype: String,
        /// What is counted of it.
        pub counters: LockWaitsCounters,
    }
}

impl Collector for LockWaits {
    type Rows = Vec<LockWaitsRow>;
    type State = ();
    const NAME: &'static str = "lockwaits";
    const HELP: &'static str = "Waits for locks by their type, from pg_stat_lock (19+).";
    const SINCE: i32 = 19;
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(30);
    const METRICS: &'static [&'static Metric] = &LockWaitsCounters::METRICS;

    async fn fetch(&self, session: &Session, (): &()) -> Result<Self::Rows, CollectError> {
        if session.server().version_num < 190000 {
            return Ok(Vec::new());
        }
        Row::all(&session.read(SQL).await?)
    }

    fn derive(&self, (): &mut (), rows: Self::Rows, sink: &mut Sink) {
        for row in &rows {
            row.counters.emit(&[&row.locktype], sink);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll};
    use super::*;

    #[test]
    fn golden() {
        let counters = LockWaitsCounters::from([Some(0.0), Some(1.0), None]);
        let row = LockWaitsRow { locktype: "a\"b".to_owned(), counters };
        check("lockwaits", &poll(&LockWaits, &mut (), vec![row]));
    }
}
