//! Who waits for a lock, who is in the way of some of them, and what those are doing.
//!
//! Must not: look at the lock table while nobody waits, or ask who blocks whom of more than twenty.

use crate::error::CollectError;
use crate::pg::{IfFound, Lossy, Query, Row, Session, columns};

columns! {
    /// A line of the answer; `kind` says which of the others it has.
    #[derive(Debug, Clone, PartialEq)]
    pub struct BlockingRow {
        /// `clock`, `database`, `wait`, `asked`, `prepared` or `session`.
        pub kind: String,
        /// Process.
        pub pid: Option<i32>,
        /// Database of a session, of a prepared transaction, or one that allows connections.
        pub datname: Option<String> as IfFound<Lossy>,
        /// Role.
        pub usename: Option<String> as IfFound<Lossy>,
        /// What a `wait` is for: all who wait for the same have the same; the name of a `prepared` one.
        pub what: Option<String> as IfFound<Lossy>,
        /// Type of the awaited lock, and its mode.
        pub lock: Option<String>,
        /// Unix seconds of a `clock`; how long a `wait` has lasted, how long a `session` has been in its state, and
        /// how long ago a transaction was `prepared`.
        pub seconds: Option<f64>,
        /// Processes that an `asked` one waits for, 0 for a prepared transaction.
        pub pids: Option<Vec<i32>>,
        /// `application_name`.
        pub application: Option<String>,
        /// `pg_stat_activity.state`; of a backend that serves no client its type.
        pub state: Option<String>,
        /// `query_id`, from 14 on.
        pub queryid: Option<i64>,
        /// Start of the text, where it is wanted.
        pub query: Option<String>,
    }
}

/// What one look read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Whether the role sees other roles' sessions.
    pub sees_all: bool,
    /// How long a session may wait, in seconds.
    pub objective: f64,
    /// How many may be held up for longer than that.
    pub most: usize,
    /// The answer.
    pub lines: Vec<BlockingRow>,
}

/// Who waits is known without the lock table, which is read only when somebody does; of it, who waits for the same lock
/// waits for the same sessions, so that one of each lock is asked for. Prepared transactions have no process: which one
/// is in the way is told by what it holds, of the awaited lock and of its own transaction id.
fn sql(version_num: i32, text: Option<usize>) -> String {
    let (since, queryid) = if version_num >= 140_000 {
        ("COALESCE(l.waitstart, s.query_start)", "s.query_id")
    } else {
        ("s.query_start", "NULL::int8")
    };
    let text = text.map_or_else(
        || "NULL::text".to_owned(),
        |characters| format!("pg_catalog.left(s.query, {characters})"),
    );
    format!(
        "\
WITH s AS MATERIALIZED (SELECT * FROM pg_catalog.pg_stat_get_activity(NULL)),
     l AS MATERIALIZED (
       SELECT l.*, ROW(l.locktype, l.database, l.relation, l.page, l.tuple, l.virtualxid, l.transactionid,
                       l.classid, l.objid, l.objsubid)::text AS what
         FROM pg_catalog.pg_locks l
        WHERE (SELECT pg_catalog.count(*) > 0 FROM s
                WHERE s.wait_event_type = 'Lock' AND s.pid <> pg_catalog.pg_backend_pid())),
     w AS MATERIALIZED (
       SELECT l.pid, l.what, l.locktype || ' ' || l.mode AS lock, {since} AS since
         FROM l JOIN s ON s.pid = l.pid WHERE NOT l.granted),
     few AS MATERIALIZED (
       SELECT one.pid, pg_catalog.pg_blocking_pids(one.pid) AS pids
         FROM (SELECT f.pid FROM (SELECT DISTINCT ON (w.what) w.pid, w.since FROM w
                                   ORDER BY w.what, w.since) f
                ORDER BY f.since LIMIT 20) one)
SELECT 'clock'::text AS kind, NULL::int4 AS pid, NULL::bytea AS datname, NULL::bytea AS usename,
       NULL::bytea AS what, NULL::text AS lock,
       pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) AS seconds, NULL::int4[] AS pids,
       NULL::text AS application, NULL::text AS state, NULL::int8 AS queryid, NULL::text AS query
UNION ALL
SELECT 'database', NULL, pg_catalog.textsend(d.datname::text), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
  FROM pg_catalog.pg_database d WHERE d.datallowconn AND NOT d.datistemplate
UNION ALL
SELECT 'wait', w.pid, NULL, NULL, pg_catalog.textsend(w.what), w.lock,
       pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - w.since), NULL, NULL, NULL, NULL, NULL
  FROM w
UNION ALL
SELECT 'asked', few.pid, NULL, NULL, NULL, NULL, NULL, few.pids, NULL, NULL, NULL, NULL FROM few
UNION ALL
SELECT DISTINCT 'prepared', few.pid, pg_catalog.textsend(p.database::text), pg_catalog.textsend(p.owner::text),
       pg_catalog.textsend(p.gid), NULL,
       pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - p.prepared), NULL::int4[], NULL,
       'prepared', NULL::int8, NULL
  FROM few JOIN w ON w.pid = few.pid
  JOIN l ON l.granted AND l.pid IS NULL AND l.what = w.what
  JOIN l x ON x.granted AND x.pid IS NULL AND x.locktype = 'transactionid'
          AND x.virtualtransaction = l.virtualtransaction
  JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = x.transactionid
 WHERE 0 = ANY (few.pids)
UNION ALL
SELECT 'session', s.pid,
       (SELECT pg_catalog.textsend(d.datname::text) FROM pg_catalog.pg_database d WHERE d.oid = s.datid),
       CASE WHEN s.usesysid IS NOT NULL
            THEN pg_catalog.textsend(pg_catalog.pg_get_userbyid(s.usesysid)::text) END,
       NULL, NULL, pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - s.state_change), NULL,
       s.application_name, COALESCE(CASE WHEN s.backend_type = 'client backend' THEN s.state END, s.backend_type),
       {queryid}, {text}
  FROM s
 WHERE s.pid IN (SELECT w.pid FROM w UNION ALL SELECT pg_catalog.unnest(few.pids) FROM few)
UNION ALL
SELECT 'clock', NULL, NULL, NULL, NULL, NULL,
       pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()), NULL, NULL, NULL, NULL, NULL"
    )
}

pub(super) async fn read(session: &Session) -> Result<Rows, CollectError> {
    let (server, settings) = (session.server(), session.settings());
    let statements = &settings.statements;
    let text = statements.include_text.then_some(statements.text_length);
    let lines = session.read(Query::new(sql(server.version_num, text))).await?;
    Ok(Rows {
        sees_all: server.reads_all_stats,
        objective: settings.objectives.lock_wait,
        most: settings.objectives.blocked_sessions,
        lines: Row::all(&lines)?,
    })
}
