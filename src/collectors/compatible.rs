//! What only postgres_exporter's profile has: sessions by user, application and wait, standbys by state, and the
//! server's version in its words.
//!
//! Must not: run in the default profile; the product of these labels has no bound but `series_limit`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{Lossy, Query, Session};

const SESSION: &[&str] = &[
    "datname",
    "state",
    "usename",
    "application_name",
    "backend_type",
    "wait_event_type",
    "wait_event",
    "server",
];
const SENDER: &[&str] = &["application_name", "client_addr", "state", "slot_name", "server"];

static COUNT: Metric = Metric::gauge(
    "pg_stat_activity_count",
    SESSION,
    "Sessions by the columns of pg_stat_activity in the labels; 0 for each database and state without one.",
)
.only_there();
static MAX_TX: Metric = Metric::gauge(
    "pg_stat_activity_max_tx_duration",
    SESSION,
    "Age in seconds of the oldest open transaction of these sessions, from pg_stat_activity.xact_start; 0 where none is \
     open.",
)
.only_there();
static STATIC: Metric = Metric::untyped(
    "pg_static",
    &["short_version", "version", "server"],
    "Constant 1 with the server's version, from server_version and version().",
)
.only_there();
static CURRENT: Metric = Metric::gauge(
    "pg_stat_replication_pg_current_wal_lsn_bytes",
    SENDER,
    "Position of this server's WAL in bytes, pg_current_wal_lsn(), for each of its pg_stat_replication rows; \
     slot_name is the process ID, as in postgres_exporter.",
)
.only_there();
static DIFF: Metric = Metric::gauge(
    "pg_stat_replication_pg_wal_lsn_diff",
    SENDER,
    "Bytes of WAL that the standby has not replayed, pg_current_wal_lsn() less pg_stat_replication.replay_lsn.",
)
.only_there();
static REPLY: Metric = Metric::untyped(
    "pg_stat_replication_reply_time",
    SENDER,
    "Unix time of the standby's last reply, pg_stat_replication.reply_time.",
)
.only_there();

const ACTIVITY: &str = "\
SELECT pg_catalog.textsend(d.datname::text) AS datname, s.state AS state,
       pg_catalog.textsend(a.usename::text) AS usename, a.application_name AS application_name,
       a.backend_type AS backend_type, a.wait_event_type AS wait_event_type, a.wait_event AS wait_event,
       COALESCE(a.count, 0)::float8 AS count, COALESCE(a.age, 0)::float8 AS age
  FROM (VALUES ('active'), ('idle'), ('idle in transaction'), ('idle in transaction (aborted)'),
               ('fastpath function call'), ('disabled')) s(state)
 CROSS JOIN pg_catalog.pg_database d
  LEFT JOIN (
    SELECT a.datid, a.state, a.usename, a.application_name, a.backend_type, a.wait_event_type, a.wait_event,
           pg_catalog.count(*) AS count,
           pg_catalog.date_part('epoch', pg_catalog.max(pg_catalog.now() - a.xact_start)) AS age
      FROM pg_catalog.pg_stat_activity a GROUP BY 1, 2, 3, 4, 5, 6, 7) a
    ON a.datid = d.oid AND a.state = s.state
 ORDER BY d.datname, s.state";

const STANDBYS: &str = "\
SELECT r.application_name AS application_name, pg_catalog.host(r.client_addr) AS client_addr,
       r.state AS state, r.pid::text AS pid,
       CASE WHEN NOT pg_catalog.pg_is_in_recovery()
            THEN pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), '0/0') END::float8 AS position,
       CASE WHEN NOT pg_catalog.pg_is_in_recovery()
            THEN pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), r.replay_lsn) END::float8 AS behind,
       pg_catalog.date_part('epoch', r.reply_time)::float8 AS reply
  FROM pg_catalog.pg_stat_replication r ORDER BY r.pid";

const VERSION: &str = "SELECT pg_catalog.version() AS version";

pub struct Compatible;

/// A group of sessions, or a database and state without any.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionGroup {
    /// In the order of the labels, without the server.
    pub labels: [String; 7],
    /// Sessions.
    pub count: f64,
    /// Seconds.
    pub age: f64,
}

/// A standby.
#[derive(Debug, Clone, PartialEq)]
pub struct StandbyRow {
    /// In the order of the labels, without the server.
    pub labels: [String; 4],
    /// Bytes: position, and by how much it is behind; Unix seconds of its last word.
    pub figures: [Option<f64>; 3],
}

/// What one poll read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rows {
    /// The label `server`.
    pub server: String,
    /// `server_version_num`.
    pub version_num: i32,
    /// `version()`.
    pub version: String,
    /// Sessions.
    pub groups: Vec<SessionGroup>,
    /// Standbys.
    pub standbys: Vec<StandbyRow>,
}

impl Collector for Compatible {
    type Rows = Rows;
    type State = ();
    const NAME: &'static str = "compatible";
    const HELP: &'static str =
        "Sessions, standbys and version with postgres_exporter's labels, in its profile only.";
    const COMPATIBLE_ONLY: bool = true;
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(5);
    const METRICS: &'static [&'static Metric] =
        &[&STATIC, &COUNT, &MAX_TX, &CURRENT, &DIFF, &REPLY];

    async fn fetch(&self, session: &Session, (): &()) -> Result<Rows, CollectError> {
        let queries = [Query::new(ACTIVITY), Query::new(STANDBYS), Query::new(VERSION)];
        let answers = session.read_all(&queries).await?;
        let mut answers = answers.iter().map(Vec::as_slice);
        let mut next = || answers.next().unwrap_or_default();
        let groups = next().iter().map(|row| {
            let text = |column: &str| -> Result<String, CollectError> {
                Ok(row.get::<Option<String>>(column)?.unwrap_or_default())
            };
            let usename = row.get::<Option<Lossy>>("usename")?.map(|name| name.0);
            Ok(SessionGroup {
                labels: [
                    row.get::<Lossy>("datname")?.0,
                    text("state")?,
                    usename.unwrap_or_default(),
                    text("application_name")?,
                    text("backend_type")?,
                    text("wait_event_type")?,
                    text("wait_event")?,
                ],
                count: row.get("count")?,
                age: row.get("age")?,
            })
        });
        let groups = groups.collect::<Result<_, CollectError>>()?;
        let standbys = next().iter().map(|row| {
            let text = |column: &str| -> Result<String, CollectError> {
                Ok(row.get::<Option<String>>(column)?.unwrap_or_default())
            };
            Ok(StandbyRow {
                labels: [
                    text("application_name")?,
                    text("client_addr")?,
                    text("state")?,
                    text("pid")?,
                ],
                figures: [row.get("position")?, row.get("behind")?, row.get("reply")?],
            })
        });
        let standbys = standbys.collect::<Result<_, CollectError>>()?;
        Ok(Rows {
            server: session.server_label().unwrap_or_default().to_string(),
            version_num: session.server().version_num,
            version: next().first().map(|row| row.get("version")).transpose()?.unwrap_or_default(),
            groups,
            standbys,
        })
    }

    fn derive(&self, (): &mut (), rows: Rows, sink: &mut Sink) {
        let server = rows.server.as_str();
        let short = format!("{}.{}.0", rows.version_num / 10_000, rows.version_num % 10_000);
        sink.number(&STATIC, &[&short, &rows.version, server], 1.0);
        for standby in &rows.standbys {
            let [application, address, state, pid] = standby.labels.each_ref().map(String::as_str);
            let labels = [application, address, state, pid, server];
            for (metric, value) in [&CURRENT, &DIFF, &REPLY].into_iter().zip(standby.figures) {
                sink.number(metric, &labels, value);
            }
        }
        // Names that are not UTF-8 may look the same once they are shown.
        let mut groups: BTreeMap<[&str; 7], (f64, f64)> = BTreeMap::new();
        for group in &rows.groups {
            let sum = groups.entry(group.labels.each_ref().map(String::as_str)).or_default();
            *sum = (sum.0 + group.count, sum.1.max(group.age));
        }
        for ([datname, state, user, application, backend, kind, event], (count, age)) in groups {
            let labels = [datname, state, user, application, backend, kind, event, server];
            sink.number(&COUNT, &labels, count);
            sink.number(&MAX_TX, &labels, age);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let group = |labels: [&str; 7], count, age| SessionGroup {
            labels: labels.map(str::to_owned),
            count,
            age,
        };
        let rows = Rows {
            server: "db:5432".to_owned(),
            version_num: 150_018,
            version: "PostgreSQL 15.18 on x86_64".to_owned(),
            groups: vec![
                group(
                    ["app", "active", "al\"ice", "psql", "client backend", "Lock", "relation"],
                    2.0,
                    7.5,
                ),
                group(["app", "disabled", "", "", "", "", ""], 0.0, 0.0),
            ],
            standbys: vec![StandbyRow {
                labels: ["walreceiver", "10.0.0.2", "streaming", "4711"].map(str::to_owned),
                figures: [Some(5e7), Some(0.0), Some(1_700_000_000.5)],
            }],
        };
        let derive = |server: Option<&str>| {
            let sink = Sink::new(Compatible::METRICS, 100);
            let mut sink = sink.like_postgres_exporter(server.map(Into::into));
            Compatible.derive(&mut (), rows.clone(), &mut sink);
            sink.finish().0
        };
        super::super::golden::check("compatible", &derive(Some("db:5432")));
        assert_eq!(derive(None), vec![], "in its profile only");
    }
}
