//! What the rules about a server look at, read at once: for `report` and `verify`, which do not watch it
//! for an hour as the exporter does.
//!
//! Must not: lose the other facts to one that cannot be read.

use crate::collectors::{recommendations, statements};
use crate::error::CollectError;
use crate::findings::{self, Checkpoints, Connections, Counted, Temporary};
use crate::pg::Session;

/// The value, or a note of why there is none.
pub fn noted<T>(notes: &mut Vec<String>, what: &str, result: Result<T, CollectError>) -> Option<T> {
    result.map_err(|e| notes.push(format!("{what}: {e}"))).ok()
}

/// Settings and what the role may, with what the configuration says of the machine.
pub async fn setup(session: &Session, notes: &mut Vec<String>) -> findings::Server {
    let host = &session.settings().host;
    let mut facts = findings::Server {
        datname: session.server().datname.clone(),
        memory: host.memory,
        // There are at most some thousands.
        cpus: host.cpus.map(|cpus| cpus as f64),
        latency_objective: Some(session.settings().objectives.latency),
        ..findings::Server::default()
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
    connections: Option<Connections>,
    notes: &mut Vec<String>,
) -> findings::Server {
    let version = session.server().version_num;
    let mut facts = findings::Server { connections, ..setup(session, notes).await };
    let checkpoints = if version >= 170_000 {
        "SELECT c.num_timed::float8, c.num_requested::float8, {age}(c.stats_reset) \
           FROM pg_catalog.pg_stat_checkpointer c"
    } else {
        "SELECT c.checkpoints_timed::float8, c.checkpoints_req::float8, {age}(c.stats_reset) \
           FROM pg_catalog.pg_stat_bgwriter c"
    };
    if let Some([timed, requested, span]) = counters(session, checkpoints, notes).await {
        facts.checkpoints = Some(Checkpoints { timed, requested, span });
    }
    if version >= 140_000 {
        let wal = "SELECT w.wal_bytes::float8, {age}(w.stats_reset) FROM pg_catalog.pg_stat_wal w";
        if let Some([amount, span]) = counters(session, wal, notes).await {
            facts.wal = Some(Counted { amount, span });
        }
    }
    // The youngest reset of those that count: what came before it elsewhere makes the rate too high by
    // no more than that database's share.
    let temporary = "\
        SELECT pg_catalog.sum(s.temp_files)::float8, pg_catalog.sum(s.temp_bytes)::float8, \
               {age}(COALESCE(pg_catalog.min(s.stats_reset), pg_catalog.pg_postmaster_start_time())) \
          FROM pg_catalog.pg_stat_database s";
    if let Some([files, amount, span]) = counters(session, temporary, notes).await {
        facts.temporary = Some(Temporary { files, bytes: Counted { amount, span } });
    }
    if session.server().extensions.contains_key(statements::NEED.extension) {
        let read = noted(notes, "evictions", statements::evictions(session).await).flatten();
        if let Some([Some(amount), Some(span)]) = read {
            facts.evictions = Some(Counted { amount, span });
        }
    }
    facts
}

/// One row of numbers; `{age}(x)` stands for the seconds since `x`.
async fn counters<const N: usize>(
    session: &Session,
    sql: &str,
    notes: &mut Vec<String>,
) -> Option<[f64; N]> {
    let age = "pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - ";
    let sql = expand(sql, age);
    let rows = noted(notes, "statistics of the server", session.read(sql.as_str()).await)?;
    let row = rows.first()?;
    let mut numbers = [0.0; N];
    for (i, number) in numbers.iter_mut().enumerate() {
        *number = row.at::<Option<f64>>(i).ok()??;
    }
    Some(numbers)
}

fn expand(sql: &str, age: &str) -> String {
    sql.replace("{age}(", age)
}
