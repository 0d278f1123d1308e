//! One look at the sessions that are active or idle in a transaction, grouped in the server.
//!
//! Must not: fetch a statement's text, or a row for each session that is idle.

use super::LONGEST;
use crate::collectors::connections::maintenance_pids;
use crate::error::CollectError;
use crate::pg::{IfFound, Lossy, Query, Row, Session, columns};

/// Ages, in seconds, beyond which running statements are counted.
pub(super) const AGES: [(&str, f64); 6] =
    [("0", 0.0), ("0.1", 0.1), ("1", 1.0), ("10", 10.0), ("60", 60.0), ("600", 600.0)];

columns! {
    /// Sessions that are alike, or the server's clock.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ActiveSessions {
        /// Unix seconds; of the rows that carry the clock and nothing else.
        pub clock: Option<f64>,
        /// Database; `None` where the backend has none.
        pub datname: Option<String> as IfFound<Lossy>,
        /// Role.
        pub usename: Option<String> as IfFound<Lossy>,
        /// `query_id`, from 14 on.
        pub queryid: Option<i64>,
        /// Type of a backend that serves no client.
        pub worker: Option<String>,
        /// Whether it is this exporter's.
        pub ours: bool,
        /// Whether it is idle in a transaction.
        pub idle: bool,
        /// `None` where it waits for nothing.
        pub wait_event_type: Option<String>,
        /// What of that type.
        pub wait_event: Option<String>,
        /// Where it is asked for.
        pub application: Option<String>,
        /// Where it is asked for.
        pub client: Option<String>,
        /// How many.
        pub count: i64,
        /// How many of them run a statement for longer than each of `AGES`, and than the latency objective.
        pub older: Vec<i64>,
    }
}

/// What one look read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Monotonic seconds when the answer had come.
    pub at: f64,
    /// Unix seconds of the server's start: another value is another server process.
    pub started: f64,
    /// Whether the role sees other roles' sessions.
    pub sees_all: bool,
    /// Whether the server tells statements (from 14 on).
    pub tells_statements: bool,
    /// The sessions.
    pub groups: Vec<ActiveSessions>,
    /// Processors of the server's machine, where they are configured.
    pub cpus: Option<u64>,
    /// Most seconds that a sample stands for.
    pub longest: f64,
    /// Statements with series of their own.
    pub top: usize,
    /// Most names of applications, and of clients.
    pub most_names: usize,
    /// Whether they are counted at all.
    pub by: (bool, bool),
}

/// The view's texts are read into a tuple store of `work_mem` whether they are wanted or not: with thousands of
/// sessions, or long texts, each look would else write a file.
const WORK_MEM: &str = "\
SELECT pg_catalog.set_config('work_mem', (GREATEST(33554432,
  pg_catalog.pg_size_bytes(pg_catalog.current_setting('work_mem'))) / 1024)::text, true)";

/// The rows between two that carry nothing but the server's time, so that the cost of a look is known whatever the
/// network does. Parallel workers do their clients' work; all other backends without a client are apart.
fn sql(version_num: i32, objective: f64, (application, client): (bool, bool)) -> String {
    const CLOCK: &str = "\
SELECT pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) AS clock, NULL::bytea AS datname,
       NULL::bytea AS usename, NULL::int8 AS queryid, NULL::text AS worker, false AS ours, false AS idle,
       NULL::text AS wait_event_type, NULL::text AS wait_event, NULL::text AS application,
       NULL::text AS client, 0::int8 AS count, ARRAY[]::int8[] AS older";
    let queryid = if version_num >= 140_000 { "a.query_id" } else { "NULL::int8" };
    let application = if application { "a.application_name" } else { "NULL::text" };
    let client = if client { "COALESCE(pg_catalog.host(a.client_addr), '')" } else { "NULL::text" };
    let older: Vec<String> = AGES
        .iter()
        .map(|(_, age)| *age)
        .chain([objective])
        .map(|age| format!("pg_catalog.count(*) FILTER (WHERE s.runs >= {age}::float8)"))
        .collect();
    let (older, maintenance) = (older.join(", "), maintenance_pids(version_num));
    format!(
        "{CLOCK}
UNION ALL
SELECT NULL,
       (SELECT pg_catalog.textsend(d.datname::text) FROM pg_catalog.pg_database d WHERE d.oid = g.datid),
       CASE WHEN g.usesysid IS NOT NULL
            THEN pg_catalog.textsend(pg_catalog.pg_get_userbyid(g.usesysid)::text) END,
       g.queryid, g.worker, g.ours, g.idle, g.wait_event_type, g.wait_event, g.application, g.client,
       g.count, g.older
  FROM (
    SELECT s.datid, s.usesysid, s.queryid, s.worker, s.ours, s.idle, s.wait_event_type, s.wait_event,
           s.application, s.client, pg_catalog.count(*)::int8 AS count, ARRAY[{older}]::int8[] AS older
      FROM (
        SELECT a.datid, a.usesysid, {queryid} AS queryid,
               CASE WHEN a.backend_type NOT IN ('client backend', 'parallel worker')
                    THEN a.backend_type END AS worker,
               (a.application_name = pg_catalog.current_setting('application_name')
                AND pg_catalog.pg_get_userbyid(a.usesysid) = current_user) IS TRUE AS ours,
               a.state LIKE 'idle%' AS idle, a.wait_event_type, a.wait_event,
               {application} AS application, {client} AS client,
               CASE WHEN a.backend_type = 'client backend' AND a.state NOT LIKE 'idle%'
                     AND a.pid NOT IN ({maintenance})
                    THEN GREATEST(0, pg_catalog.date_part('epoch',
                           pg_catalog.clock_timestamp() - a.query_start)) END AS runs
          FROM pg_catalog.pg_stat_get_activity(NULL) a
         WHERE a.state IN ('active', 'fastpath function call', 'idle in transaction',
                           'idle in transaction (aborted)')
           AND a.pid <> pg_catalog.pg_backend_pid()
         OFFSET 0) s
     GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10) g
UNION ALL
{CLOCK}"
    )
}

pub(super) async fn read(session: &Session) -> Result<Rows, CollectError> {
    let (server, settings) = (session.server(), session.settings());
    let by = (settings.activity.by_application, settings.activity.by_client);
    let sql = sql(server.version_num, settings.objectives.latency, by);
    let mut answers = session.read_all(&[Query::new(WORK_MEM), Query::new(sql)]).await?;
    let groups = answers.pop().unwrap_or_default();
    Ok(Rows {
        at: session.seconds(),
        started: server.started,
        sees_all: server.reads_all_stats,
        tells_statements: server.version_num >= 140_000,
        groups: Row::all(&groups)?,
        cpus: settings.host.cpus,
        // A pause is drawn up to one and a half of the interval.
        longest: settings
            .collectors
            .get("activity")
            .and_then(|own| own.interval)
            .map_or(LONGEST, |own| LONGEST.max(2.0 * own.as_secs_f64())),
        top: settings.statements.top,
        most_names: settings.activity.most_names,
        by,
    })
}
