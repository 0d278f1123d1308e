//! What only postgres_exporter's profile has: sessions by user, application and wait, standbys by state, and the
//! server's version in its words.
//!
//! Must not: run in the default profile; the product of these labels has no bound but `series_limit`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{Lossy, Query, Row, Session, columns};

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

columns! {
    /// A group of sessions, or a database and state without any. What is NULL is an empty label.
    #[derive(Debug, Clone, PartialEq)]
    pub struct SessionGroup {
        /// Database.
        pub datname: String as Lossy,
        /// State.
        pub state: Option<String>,
        /// Role.
        pub usename: Option<Lossy>,
        /// Application.
        pub application_name: Option<String>,
        /// Type of the backend.
        pub backend_type: Option<String>,
        /// Type of what it waits for.
        pub wait_event_type: Option<String>,
        /// What it waits for.
        pub wait_event: Option<String>,
        /// Sessions.
        pub count: f64,
        /// Of its oldest transaction, in seconds.
        pub age: f64,
    }
}

impl SessionGroup {
    /// In the order of the labels, without the server.
    fn labels(&self) -> [&str; 7] {
        [
            &self.datname,
            or_empty(&self.state),
            self.usename.as_ref().map_or("", |name| &name.0),
            or_empty(&self.application_name),
            or_empty(&self.backend_type),
            or_empty(&self.wait_event_type),
            or_empty(&self.wait_event),
        ]
    }
}

columns! {
    /// A standby.
    #[derive(Debug, Clone, PartialEq)]
    pub struct StandbyRow {
        /// Its name.
        pub application_name: Option<String>,
        /// Its address.
        pub client_addr: Option<String>,
        /// State of the WAL sender.
        pub state: Option<String>,
        /// Process of the WAL sender.
        pub pid: Option<String>,
        /// Position of this server's WAL, in bytes.
        pub position: Option<f64>,
        /// Bytes that it has not replayed.
        pub behind: Option<f64>,
        /// Unix seconds of its last reply.
        pub reply: Option<f64>,
    }
}

columns! {
    struct VersionText {
        version: String,
    }
}

fn or_empty(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or_default()
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
        let groups = Row::all(next())?;
        let standbys = Row::all(next())?;
        let version = Row::first::<VersionText>(next())?;
        Ok(Rows {
            server: session.server_label().unwrap_or_default().to_string(),
            version_num: session.server().version_num,
            version: version.map(|v| v.version).unwrap_or_default(),
            groups,
            standbys,
        })
    }

    fn derive(&self, (): &mut (), rows: Rows, sink: &mut Sink) {
        let server = rows.server.as_str();
        let short = format!("{}.{}.0", rows.version_num / 10_000, rows.version_num % 10_000);
        sink.number(&STATIC, &[&short, &rows.version, server], 1.0);
        for standby in &rows.standbys {
            let labels = [
                or_empty(&standby.application_name),
                or_empty(&standby.client_addr),
                or_empty(&standby.state),
                or_empty(&standby.pid),
                server,
            ];
            sink.number(&CURRENT, &labels, standby.position);
            sink.number(&DIFF, &labels, standby.behind);
            sink.number(&REPLY, &labels, standby.reply);
        }
        // Names that are not UTF-8 may look the same once they are shown.
        let mut groups: BTreeMap<[&str; 7], (f64, f64)> = BTreeMap::new();
        for group in &rows.groups {
            let sum = groups.entry(group.labels()).or_default();
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
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let group = |labels: [&str; 7], count, age| {
            let [datname, state, user, application, backend, kind, event] = labels;
            SessionGroup {
                datname: datname.to_owned(),
                state: text(state),
                usename: text(user).map(Lossy),
                application_name: text(application),
                backend_type: text(backend),
                wait_event_type: text(kind),
                wait_event: text(event),
                count,
                age,
            }
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
                application_name: text("walreceiver"),
                client_addr: text("10.0.0.2"),
                state: text("streaming"),
                pid: text("4711"),
                position: Some(5e7),
                behind: Some(0.0),
                reply: Some(1_700_000_000.5),
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
