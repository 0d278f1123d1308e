//! `pg_locks`: how many locks are held in which mode, who waits for one, for how long and for how
//! many others, and transactions that are prepared and neither committed nor rolled back.
//!
//! Must not: ask who blocks whom more often than a few times a poll (that stops the lock manager).

use std::time::Duration;

use super::published::published;
use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{Lossy, Query, Row, Session, columns};

const DATNAME: &[&str] = &["datname"];

static COUNT: Metric = Metric::untyped(
    "pg_locks_count",
    &["datname", "mode"],
    "Locks held or awaited on relations and other objects of the database, by pg_locks.mode, without \
     this collector's own; 0 for each mode and database that has none.",
)
.gauge_there();
static WAITING: Metric = Metric::gauge(
    "pg_lock_waiting_backends",
    DATNAME,
    "Backends that wait for a lock, from pg_locks.granted.",
);
static BLOCKING: Metric = Metric::gauge(
    "pg_lock_blocking_backends",
    DATNAME,
    "Backends and prepared transactions that others wait for and that wait for no lock themselves, by \
     pg_blocking_pids() of the 20 that have waited longest.",
);
static LONGEST: Metric = Metric::gauge(
    "pg_longest_lock_wait_seconds",
    DATNAME,
    "For how long the backend that has waited longest for a lock does so, from pg_locks.waitstart, \
     before PostgreSQL 14 from pg_stat_activity.query_start; absent where none waits.",
);
static OBJECTIVE: Metric = Metric::gauge(
    "pg_longest_lock_wait_objective_seconds",
    &[],
    "Longest acceptable pg_longest_lock_wait_seconds, from the configuration.",
);
static PREPARED: Metric = Metric::gauge(
    "pg_prepared_transactions",
    DATNAME,
    "Prepared transactions of the database, from pg_prepared_xacts.",
);
static OLDEST_PREPARED: Metric = Metric::gauge(
    "pg_oldest_prepared_transaction_seconds",
    DATNAME,
    "Time since the oldest prepared transaction of the database was prepared, \
     pg_prepared_xacts.prepared; absent where there is none.",
);

/// Locks on shared objects and on transactions are of no database and are not counted by mode.
fn sql(version_num: i32) -> String {
    let since = if version_num >= 140_000 { "l.waitstart" } else { "a.query_start" };
    format!(
        "WITH l AS MATERIALIZED (SELECT * FROM pg_catalog.pg_locks), \
              w AS MATERIALIZED ( \
                SELECT a.pid, a.datid, pg_catalog.min({since}) AS since \
                  FROM l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
                 WHERE NOT l.granted AND a.datid IS NOT NULL GROUP BY 1, 2), \
              b AS ( \
                SELECT DISTINCT few.datid, u.pid \
                  FROM (SELECT w.pid, w.datid FROM w ORDER BY w.since LIMIT 20) few \
                 CROSS JOIN LATERAL pg_catalog.unnest(pg_catalog.pg_blocking_pids(few.pid)) u(pid)) \
         SELECT pg_catalog.textsend(d.datname::text) AS datname, NULL::text AS mode, \
                (SELECT pg_catalog.count(*) FROM w WHERE w.datid = d.oid)::int8 AS count, \
                (SELECT pg_catalog.date_part('epoch', \
                          pg_catalog.clock_timestamp() - pg_catalog.min(w.since)) \
                   FROM w WHERE w.datid = d.oid)::float8 AS longest, \
                (SELECT pg_catalog.count(*) FROM b \
                  WHERE b.datid = d.oid AND b.pid NOT IN (SELECT w.pid FROM w))::int8 AS blocking \
           FROM pg_catalog.pg_database d WHERE d.datallowconn \
          UNION ALL \
         SELECT pg_catalog.textsend(d.datname::text), m.mode, \
                pg_catalog.count(l.mode)::int8, NULL::float8, NULL::int8 \
           FROM pg_catalog.pg_database d \
          CROSS JOIN (VALUES ('accesssharelock'), ('rowsharelock'), ('rowexclusivelock'), \
                             ('shareupdateexclusivelock'), ('sharelock'), ('sharerowexclusivelock'), \
                             ('exclusivelock'), ('accessexclusivelock'), ('sireadlock')) m(mode) \
           LEFT JOIN l ON l.database = d.oid AND pg_catalog.lower(l.mode) = m.mode \
                      AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid() \
          GROUP BY d.oid, d.datname, m.mode"
    )
}

const PREPARED_XACTS: &str = "\
SELECT pg_catalog.textsend(d.datname::text) AS datname, pg_catalog.count(p.gid)::int8 AS count,
       pg_catalog.date_part('epoch',
         pg_catalog.clock_timestamp() - pg_catalog.min(p.prepared))::float8 AS oldest
  FROM pg_catalog.pg_database d LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.database = d.datname
 WHERE d.datallowconn GROUP BY d.oid, d.datname ORDER BY d.datname";

published! {
    /// `pg_lock_waiting_backends`.
    pub struct LockWaiters of WAITING { datname => count: f64 }
}
published! {
    /// `pg_longest_lock_wait_seconds`.
    pub struct LongestLockWait of LONGEST { datname => seconds: f64 }
}
published! {
    /// `pg_longest_lock_wait_objective_seconds`.
    pub struct LongestLockWaitObjective of OBJECTIVE { => seconds: f64 }
}

pub struct Locks;

columns! {
    /// Locks of one database, by mode, or who waits there.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Locked {
        /// Database.
        pub datname: String as Lossy,
        /// Mode in lower case, such as `accesssharelock`; `None` for those who wait.
        pub mode: Option<String>,
        /// Locks, or backends that wait.
        pub count: i64,
        /// For how long the first of them has waited, in seconds.
        pub longest: Option<f64>,
        /// Backends at the heads of the queues.
        pub blocking: Option<i64>,
    }
}

columns! {
    /// Prepared transactions of one database.
    #[derive(Debug, Clone, PartialEq)]
    pub struct PreparedTransactions {
        /// Database.
        pub datname: String as Lossy,
        /// Transactions.
        pub count: i64,
        /// Seconds.
        pub oldest: Option<f64>,
    }
}

/// What one poll read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Objective in seconds.
    pub objective: f64,
    /// By database and mode, and who waits in each database that allows connections.
    pub locked: Vec<Locked>,
    /// Of every database that allows connections.
    pub prepared: Vec<PreparedTransactions>,
}

impl Collector for Locks {
    type Rows = Rows;
    type State = ();
    const NAME: &'static str = "locks";
    const HELP: &'static str = "Locks by mode, who waits for them, prepared transactions.";
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(15);
    const METRICS: &'static [&'static Metric] =
        &[&OBJECTIVE, &WAITING, &LONGEST, &BLOCKING, &PREPARED, &OLDEST_PREPARED, &COUNT];

    async fn fetch(&self, session: &Session, (): &()) -> Result<Rows, CollectError> {
        let sql = sql(session.server().version_num);
        let answers = session.read_all(&[Query::new(&sql), Query::new(PREPARED_XACTS)]).await?;
        let mut answers = answers.iter().map(Vec::as_slice);
        let mut next = || answers.next().unwrap_or_default();
        Ok(Rows {
            objective: session.settings().objectives.lock_wait,
            locked: Row::all(next())?,
            prepared: Row::all(next())?,
        })
    }

    fn derive(&self, (): &mut (), rows: Rows, sink: &mut Sink) {
        sink.number(&OBJECTIVE, &[], rows.objective);
        // A wait can end, and the server's clock be set back, between two looks.
        let age = |seconds: Option<f64>| seconds.map(|s| s.max(0.0));
        for waits in rows.locked.iter().filter(|l| l.mode.is_none()) {
            let datname = [waits.datname.as_str()];
            sink.number(&WAITING, &datname, number(waits.count));
            sink.number(&LONGEST, &datname, age(waits.longest));
            sink.number(&BLOCKING, &datname, waits.blocking.map(number));
        }
        for prepared in &rows.prepared {
            let datname = [prepared.datname.as_str()];
            sink.number(&PREPARED, &datname, number(prepared.count));
            sink.number(&OLDEST_PREPARED, &datname, age(prepared.oldest));
        }
        for held in &rows.locked {
            let Some(mode) = &held.mode else { continue };
            sink.number(&COUNT, &[&held.datname, mode], number(held.count));
        }
    }
}

/// Counts of locks are far below 2^53.
fn number(count: i64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll};
    use super::*;

    #[test]
    fn golden() {
        let held = |mode: &str, count| Locked {
            datname: "app".to_owned(),
            mode: Some(mode.to_owned()),
            count,
            longest: None,
            blocking: None,
        };
        let waits = |datname: &str, count: i64, longest| Locked {
            datname: datname.to_owned(),
            mode: None,
            count,
            longest,
            blocking: Some(count.min(1)),
        };
        let prepared = |datname: &str, count, oldest| PreparedTransactions {
            datname: datname.to_owned(),
            count,
            oldest,
        };
        let rows = Rows {
            objective: 60.0,
            locked: vec![
                waits("app", 3, Some(61.5)),
                waits("sh\"op", 0, None),
                held("accesssharelock", 12),
                held("accessexclusivelock", 1),
            ],
            prepared: vec![prepared("app", 1, Some(-0.1)), prepared("sh\"op", 0, None)],
        };
        check("locks", &poll(&Locks, &mut (), rows));
    }
}
