//! What the rules about a server look at, read at once: for `report` and `verify`, which do not watch it
//! for an hour as the exporter does.
//!
//! Must not: lose the other facts to one that cannot be read.

use crate::collectors::recommendations;
use crate::collectors::statements::{self, Evictions};
use crate::error::CollectError;
use crate::findings::{self, CheckpointCounts, ConnectionPeak, Counted, Temporary};
use crate::pg::{FromRow, Row, Session, columns};

/// The value, or a note of why there is none.
pub fn noted<T>(notes: &mut Vec<String>, what: &str, result: Result<T, CollectError>) -> Option<T> {
    result.map_err(|e| notes.push(format!("{what}: {e}"))).ok()
}

/// Settings and what the role may, with what the configuration says of the machine.
pub async fn setup(session: &Session, notes: &mut Vec<String>) -> findings::ServerFacts {
    let host = &session.settings().host;
    let mut facts = findings::ServerFacts {
        datname: session.server().datname.clone(),
        memory: host.memory,
        // There are at most some thousands.
        cpus: host.cpus.map(|cpus| cpus as f64),
        latency_objective: Some(session.settings().objectives.latency),
        ..findings::ServerFacts::default()
    };
    if let Some(setup) = noted(notes, "settings", recommendations::setup(session).await) {
        facts.role = setup.role;
        facts.settings = setup.settings;
        facts.origins = setup.origins;
        facts.monitors = Some(setup.monitors);
        facts.has_statements = Some(setup.has_statements);
    }
    facts
}

/// The same with what the server's statistics say since they were reset; WAL since its own were (14 and later).
pub async fn server(
    session: &Session,
    connections: Option<ConnectionPeak>,
    notes: &mut Vec<String>,
) -> findings::ServerFacts {
    let version = session.server().version_num;
    let mut facts = findings::ServerFacts { connections, ..setup(session, notes).await };
    // Who watched has seen more than one look does.
    if let Some(now) = noted(notes, "backends", recommendations::backends(session).await) {
        facts
            .connections
            .get_or_insert(ConnectionPeak { peak: now.clients, peak_active: now.active });
        facts.autovacuum_workers = Some(now.autovacuum);
    }
    let checkpoints = if version >= 170_000 {
        "SELECT c.num_timed::float8 AS timed, c.num_requested::float8 AS requested, \
                {age}(c.stats_reset) AS span \
           FROM pg_catalog.pg_stat_checkpointer c"
    } else {
        "SELECT c.checkpoints_timed::float8 AS timed, c.checkpoints_req::float8 AS requested, \
                {age}(c.stats_reset) AS span \
           FROM pg_catalog.pg_stat_bgwriter c"
    };
    if let Some(CheckpointsSince {
        timed: Some(timed),
        requested: Some(requested),
        span: Some(span),
    }) = counted(session, checkpoints, notes).await
    {
        facts.checkpoints = Some(CheckpointCounts { timed, requested, span });
    }
    if version >= 140_000 {
        let wal = "SELECT w.wal_bytes::float8 AS amount, {age}(w.stats_reset) AS span \
                     FROM pg_catalog.pg_stat_wal w";
        if let Some(Written { amount: Some(amount), span: Some(span) }) =
            counted(session, wal, notes).await
        {
            facts.wal = Some(Counted { amount, span });
        }
    }
    // The youngest reset of those that count: what came before it elsewhere makes the rate too high by
    // no more than that database's share.
    let temporary = "\
        SELECT pg_catalog.sum(s.temp_files)::float8 AS files, \
               pg_catalog.sum(s.temp_bytes)::float8 AS amount, \
               {age}(COALESCE(pg_catalog.min(s.stats_reset), pg_catalog.pg_postmaster_start_time())) \
                 AS span \
          FROM pg_catalog.pg_stat_database s";
    if let Some(SpilledSince { files: Some(files), amount: Some(amount), span: Some(span) }) =
        counted(session, temporary, notes).await
    {
        facts.temporary = Some(Temporary { files, bytes: Counted { amount, span } });
    }
    if session.server().extensions.contains_key(statements::NEED.extension) {
        let read = noted(notes, "evictions", statements::evictions(session).await).flatten();
        if let Some(Evictions { count: Some(amount), seconds: Some(span) }) = read {
            facts.evictions = Some(Counted { amount, span });
        }
    }
    facts
}

columns! {
    /// Checkpoints, and the seconds in which they came.
    struct CheckpointsSince {
        timed: Option<f64>,
        requested: Option<f64>,
        span: Option<f64>,
    }
}

columns! {
    /// Bytes of WAL, and the seconds in which they were written.
    struct Written {
        amount: Option<f64>,
        span: Option<f64>,
    }
}

columns! {
    /// Temporary files, their bytes, and the seconds in which they were written.
    struct SpilledSince {
        files: Option<f64>,
        amount: Option<f64>,
        span: Option<f64>,
    }
}

/// What one row says; `{age}(x)` stands for the seconds since `x`.
async fn counted<T: FromRow>(session: &Session, sql: &str, notes: &mut Vec<String>) -> Option<T> {
    let age = "pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - ";
    let sql = expand(sql, age);
    let rows = session.read(sql.as_str()).await;
    noted(notes, "statistics of the server", rows.and_then(|rows| Row::first(&rows))).flatten()
}

fn expand(sql: &str, age: &str) -> String {
    sql.replace("{age}(", age)
}
