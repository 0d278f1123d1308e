//! What the subscriptions of a database have copied, what went wrong while they applied changes, and how late their
//! workers are.
//!
//! Must not: say whether a subscription is enabled and runs, which the collector of replication does.

use std::collections::BTreeMap;
use std::time::Duration;

use super::figures::{figures, listed};
use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{IfColumn, Query, Row, Session, columns};

const SUBSCRIPTION: &[&str] = &["datname", "subname"];

static TABLES: Metric = Metric::gauge(
    "pg_subscription_tables",
    &["datname", "subname", "state"],
    "Tables of the subscription by what their first copy has come to: init, datasync, finishedcopy, syncdone or ready, \
     pg_subscription_rel.srsubstate; sequences, which 19 subscribes to as well, are among them.",
);
static DELAY: Metric = Metric::gauge(
    "pg_stat_subscription_message_delay_seconds",
    SUBSCRIPTION,
    "Time from when the publisher sent the last message until it arrived, by the clocks of both, \
     pg_stat_subscription.last_msg_receipt_time less last_msg_send_time.",
);
static REPORTED: Metric = Metric::gauge(
    "pg_stat_subscription_latest_end_timestamp_seconds",
    SUBSCRIPTION,
    "Unix time of the last position that was reported to the publisher, pg_stat_subscription.latest_end_time.",
);
static UNREPORTED: Metric = Metric::gauge(
    "pg_stat_subscription_unreported_bytes",
    SUBSCRIPTION,
    "Bytes of WAL that the apply worker has received and not yet reported to the publisher, \
     pg_stat_subscription.received_lsn less latest_end_lsn.",
);
static WORKERS: Metric = Metric::gauge(
    "pg_stat_subscription_workers",
    &["datname", "subname", "worker_type"],
    "Workers of the subscription by pg_stat_subscription.worker_type, before 17 apply, parallel apply or table \
     synchronization as relid and leader_pid say.",
);
static CONFLICTS: Metric = Metric::counter(
    "pg_stat_subscription_conflicts_total",
    &["datname", "subname", "conflict"],
    "Changes that met a conflict while they were applied, pg_stat_subscription_stats.confl_insert_exists and the like \
     (PostgreSQL 18 and later).",
);
static RETENTION: Metric = Metric::gauge(
    "pg_subscription_retention_active",
    SUBSCRIPTION,
    "Whether dead rows are kept to detect conflicts with, pg_subscription.subretentionactive, of subscriptions that ask for \
     it (PostgreSQL 19 and later).",
);

macro_rules! errors {
    ($($ident:ident $name:literal $what:literal $column:literal;)*) => {
        $(static $ident: Metric = Metric::counter(
            concat!("pg_stat_subscription_", $name, "_errors_total"), SUBSCRIPTION,
            concat!("Errors while ", $what, ", pg_stat_subscription_stats.", $column, "."),
        );)*
    };
}
errors! {
    APPLY_ERRORS "apply" "changes were applied" "apply_error_count (PostgreSQL 15 and later)";
    TABLE_ERRORS "table_sync" "tables were copied" "sync_error_count (PostgreSQL 15 and later), from 19 on sync_table_error_count";
    SEQUENCE_ERRORS "sequence_sync" "sequences were copied" "sync_seq_error_count (PostgreSQL 19 and later)";
}

/// A row for each subscription of this database and state of a table. Before 14 the number of a subscription may not be
/// read but by way of its statistics.
const STATES: &str = "\
SELECT s.subname::text AS subname, r.state::text AS state, r.tables::float8 AS tables
  FROM (SELECT r.srsubid AS subid, r.srsubstate AS state, pg_catalog.count(*) AS tables
          FROM pg_catalog.pg_subscription_rel r GROUP BY 1, 2) r
  JOIN (SELECT DISTINCT s.subid, s.subname FROM pg_catalog.pg_stat_subscription s) s ON s.subid = r.subid
 ORDER BY 1, 2";

/// A row for each worker.
fn workers(version_num: i32) -> String {
    let kind = match version_num {
        170_000.. => "w.worker_type",
        160_000.. => {
            "CASE WHEN w.relid IS NOT NULL THEN 'table synchronization' \
                  WHEN w.leader_pid IS NOT NULL THEN 'parallel apply' ELSE 'apply' END"
        }
        _ => "CASE WHEN w.relid IS NOT NULL THEN 'table synchronization' ELSE 'apply' END",
    };
    let same = match version_num {
        140_000.. => "w.subid = s.oid",
        _ => "w.subname = s.subname",
    };
    format!(
        "SELECT s.subname::text AS subname, {kind} AS kind, \
                pg_catalog.date_part('epoch', w.last_msg_receipt_time - w.last_msg_send_time)::float8 AS delay, \
                pg_catalog.date_part('epoch', w.latest_end_time)::float8 AS reported, \
                pg_catalog.pg_wal_lsn_diff(w.received_lsn, w.latest_end_lsn)::float8 AS unreported \
           FROM pg_catalog.pg_subscription s \
           JOIN pg_catalog.pg_database d ON d.oid = s.subdbid AND d.datname = pg_catalog.current_database() \
           JOIN pg_catalog.pg_stat_subscription w ON {same} AND w.pid IS NOT NULL \
          ORDER BY 1, 2"
    )
}

/// What is counted; `None` before 15.
fn counted(version_num: i32) -> Option<String> {
    let errors = match version_num {
        190_000.. => {
            ", c.sync_table_error_count::float8 AS table_sync, c.sync_seq_error_count::float8 AS sequence_sync"
        }
        150_000.. => ", c.sync_error_count::float8 AS table_sync",
        _ => return None,
    };
    let conflicts: String = CONFLICT_KINDS
        .iter()
        .filter(|(_, since)| version_num >= *since)
        .map(|(kind, _)| format!(", c.confl_{kind}::float8 AS {kind}"))
        .collect();
    let retention = match version_num {
        190_000.. => {
            ", CASE WHEN s.subretaindeadtuples THEN s.subretentionactive::int4 END::float8 AS retention"
        }
        _ => "",
    };
    Some(format!(
        "SELECT s.subname::text AS subname, c.apply_error_count::float8 AS apply{errors}{conflicts}{retention} \
           FROM pg_catalog.pg_subscription s \
           JOIN pg_catalog.pg_database d ON d.oid = s.subdbid AND d.datname = pg_catalog.current_database() \
           JOIN pg_catalog.pg_stat_subscription_stats c ON c.subid = s.oid ORDER BY 1"
    ))
}

pub struct Subscriptions;

figures! {
    /// What is counted of one subscription, and what it keeps; a column that the version lacks has no value.
    pub struct SubscriptionCounters: Option<f64> as IfColumn<Option<f64>> {
        /// Errors.
        apply => APPLY_ERRORS,
        /// Errors.
        table_sync => TABLE_ERRORS,
        /// Errors.
        sequence_sync => SEQUENCE_ERRORS,
        /// Whether dead rows are kept.
        retention => RETENTION,
    }
}

figures! {
    /// Conflicts of one subscription.
    pub struct Conflicted: Option<f64> as IfColumn<Option<f64>> {
        /// A row that is there.
        insert_exists,
        /// A row that another origin changed.
        update_origin_differs,
        /// A new key that is there.
        update_exists,
        /// A row that was deleted.
        update_deleted,
        /// A row that is not there.
        update_missing,
        /// A row that another origin changed.
        delete_origin_differs,
        /// A row that is not there.
        delete_missing,
        /// More than one unique key that is there.
        multiple_unique_conflicts,
    }
}

/// In the order of [`Conflicted`]: the columns of the view, and since when it has them.
const CONFLICT_KINDS: [(&str, i32); Conflicted::N] = [
    ("insert_exists", 180_000),
    ("update_origin_differs", 180_000),
    ("update_exists", 180_000),
    ("update_deleted", 190_000),
    ("update_missing", 180_000),
    ("delete_origin_differs", 180_000),
    ("delete_missing", 180_000),
    ("multiple_unique_conflicts", 180_000),
];

columns! {
    /// Tables of one subscription in one state.
    #[derive(Debug, Clone, PartialEq)]
    pub struct TableState {
        /// Subscription.
        pub subname: String,
        /// One letter.
        pub state: String,
        /// How many.
        pub tables: f64,
    }
}

columns! {
    /// A worker.
    #[derive(Debug, Clone, PartialEq)]
    pub struct SubscriptionWorker {
        /// Subscription.
        pub subname: String,
        /// What it does.
        pub kind: Option<String>,
        /// How late it is.
        pub lag: WorkerLag,
    }
}

figures! {
    /// How late a worker is.
    pub struct WorkerLag: Option<f64> {
        /// Seconds.
        delay => DELAY,
        /// Unix seconds.
        reported => REPORTED,
        /// Bytes.
        unreported => UNREPORTED,
    }
}

columns! {
    /// What is counted of one subscription.
    #[derive(Debug, Clone, PartialEq)]
    pub struct SubscriptionCounts {
        /// Subscription.
        pub subname: String,
        /// Errors.
        pub counters: SubscriptionCounters,
        /// Conflicts.
        pub conflicts: Conflicted,
    }
}

/// What one poll read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rows {
    /// This database.
    pub datname: String,
    /// Tables by state.
    pub tables: Vec<TableState>,
    /// Workers that run.
    pub workers: Vec<SubscriptionWorker>,
    /// Errors and conflicts; none before 15.
    pub counts: Vec<SubscriptionCounts>,
}

/// `pg_subscription_rel.srsubstate`, and what it is called.
const STATE_NAMES: [(&str, &str); 5] =
    [("i", "init"), ("d", "datasync"), ("f", "finishedcopy"), ("s", "syncdone"), ("r", "ready")];

const OTHER: &[&Metric] = &[&TABLES, &WORKERS, &CONFLICTS];
static METRICS: [&Metric; OTHER.len() + WorkerLag::N + SubscriptionCounters::N] =
    listed(&[&SubscriptionCounters::METRICS, &WorkerLag::METRICS, OTHER]);

impl Collector for Subscriptions {
    type Rows = Rows;
    type State = ();
    const NAME: &'static str = "subscriptions";
    const HELP: &'static str = "Tables of subscriptions by state, their errors, conflicts and lag.";
    const SCOPE: Scope = Scope::Database;
    const INTERVAL: Duration = Duration::from_secs(30);
    const METRICS: &'static [&'static Metric] = &METRICS;

    async fn fetch(&self, session: &Session, (): &()) -> Result<Rows, CollectError> {
        let server = session.server();
        let (workers, counted) = (workers(server.version_num), counted(server.version_num));
        let mut queries = vec![Query::new(STATES), Query::new(&workers)];
        queries.extend(counted.as_deref().map(Query::new));
        let answers = session.read_all(&queries).await?;
        let mut answers = answers.iter().map(Vec::as_slice);
        let mut next = || answers.next().unwrap_or_default();
        Ok(Rows {
            datname: server.datname.clone(),
            tables: Row::all(next())?,
            workers: Row::all(next())?,
            counts: Row::all(next())?,
        })
    }

    fn derive(&self, (): &mut (), rows: Rows, sink: &mut Sink) {
        let datname = rows.datname.as_str();
        for row in &rows.counts {
            row.counters.emit(&[datname, &row.subname], sink);
            let conflicts = <[_; Conflicted::N]>::from(row.conflicts);
            for ((kind, _), conflicts) in CONFLICT_KINDS.iter().zip(conflicts) {
                sink.number(&CONFLICTS, &[datname, &row.subname, kind], conflicts);
            }
        }
        let mut workers: BTreeMap<[&str; 2], f64> = BTreeMap::new();
        let mut applied: BTreeMap<&str, &SubscriptionWorker> = BTreeMap::new();
        for worker in &rows.workers {
            let Some(kind) = &worker.kind else { continue };
            *workers.entry([&worker.subname, kind]).or_default() += 1.0;
            // Its leader speaks to the publisher.
            if kind == "apply" {
                applied.entry(&worker.subname).or_insert(worker);
            }
        }
        for (subname, worker) in applied {
            worker.lag.emit(&[datname, subname], sink);
        }
        for ([subname, kind], workers) in workers {
            sink.number(&WORKERS, &[datname, subname, kind], workers);
        }
        let mut tables: BTreeMap<&str, [f64; STATE_NAMES.len()]> = BTreeMap::new();
        for row in &rows.tables {
            let all = tables.entry(&row.subname).or_default();
            if let Some(at) = STATE_NAMES.iter().position(|(letter, _)| *letter == row.state) {
                all[at] += row.tables;
            }
        }
        for (subname, all) in tables {
            for ((_, state), tables) in STATE_NAMES.into_iter().zip(all) {
                sink.number(&TABLES, &[datname, subname, state], tables);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll};
    use super::*;

    #[test]
    fn columns_are_those_of_the_version() {
        assert_eq!(counted(140_000), None);
        let of = |version| counted(version).unwrap_or_default();
        assert!(!of(170_000).contains("confl_") && of(180_000).contains("confl_update_missing"));
        assert!(!of(180_000).contains("confl_update_deleted"));
        assert!(of(190_000).contains("confl_update_deleted"));
    }

    #[test]
    fn golden_all_states_are_there_once_there_is_a_table() {
        let state = |subname: &str, state: &str, tables| TableState {
            subname: subname.to_owned(),
            state: state.to_owned(),
            tables,
        };
        let worker = |kind: &str, delay| SubscriptionWorker {
            subname: "orders".to_owned(),
            kind: Some(kind.to_owned()),
            lag: [Some(delay), Some(1_700_000_000.0), Some(64.0)].into(),
        };
        let rows = Rows {
            datname: "app".to_owned(),
            tables: vec![
                state("orders", "d", 1.0),
                state("orders", "r", 41.0),
                state("b\"", "i", 2.0),
            ],
            workers: vec![
                worker("apply", 0.25),
                worker("table synchronization", 9.0),
                worker("table synchronization", 9.0),
            ],
            counts: vec![SubscriptionCounts {
                subname: "orders".to_owned(),
                counters: [Some(3.0), Some(1.0), Some(0.0), None].into(),
                conflicts: [1.0, 0.0, 0.0, 2.0, 5.0, 0.0, 0.0, 0.0].map(Some).into(),
            }],
        };
        check("subscriptions", &poll(&Subscriptions, &mut (), rows));
    }
}
