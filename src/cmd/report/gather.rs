//! Reads everything that a report tells: the exporter's own collectors over an interval, and what only a
//! report needs from the catalogs.
//!
//! Must not: hold more than two connections to the server at a time, or lose the report to one part that
//! fails: that is noted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;

use super::pools;
use super::queries::{self, Benched};
use super::watch::{WatchedServer, watch};
use crate::cmd::advice::{self, noted};
use crate::cmd::{databases, plan};
use crate::collectors::database_recommendations::{self, Rows, catalogue};
use crate::collectors::figures::figures;
use crate::collectors::index_health::catalogue::WhoseNames;
use crate::collectors::{partitions, statements};
use crate::config::Config;
use crate::derive::index::{IndexFacts, Verdicts};
use crate::derive::statement::published;
use crate::error::CollectError;
use crate::findings;
use crate::pg::{Clock, OWN_MARK, Query, Row, Server, Session, Trusted, columns, settle};
use crate::snapshot::Snapshot;

/// Tables of a database for which scripts about indexes are written.
const COMPLETED: usize = 60;
/// Statements that are told apart.
const STATEMENTS: usize = 50;
/// Tables of a database about which `plan` is asked.
const FORESEEN: usize = 20;

columns! {
    /// The text of a statement, and whether it is ours.
    struct StatementText {
        queryid: i64,
        text: Option<String>,
        own: Option<bool>,
    }
}

columns! {
    /// One row of `pg_settings`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ShownSetting {
        /// `name`.
        pub name: String,
        /// As SHOW gives it.
        pub value: String,
        /// `source`: where the value comes from.
        pub source: String,
        /// `pending_restart`.
        pub pending: bool = "pending_restart",
    }
}

/// What one statement did while it was watched.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StatementRow {
    /// Its database.
    pub datname: String,
    /// Its role.
    pub usename: String,
    /// `queryid`.
    pub queryid: String,
    /// Normalised text, cut short.
    pub text: String,
    /// Increments.
    pub did: findings::StatementFacts,
}

/// One database.
#[derive(Debug, Clone)]
pub struct ReportedDatabase {
    /// `pg_database.datname`.
    pub name: String,
    /// Its indexes, tables and foreign keys, and what is to say about them.
    pub indexes: IndexFacts,
    /// Judged by `derive::index`.
    pub verdicts: Verdicts,
    /// From when to when each partitioned table is covered, by `schema.table`, in Unix seconds.
    pub covered: BTreeMap<String, Vec<(f64, f64)>>,
    /// For the rules, but for what was watched.
    pub facts: findings::DatabaseFacts,
}

/// What a report is written from.
#[derive(Debug, Clone)]
pub struct Gathered {
    /// Unix seconds at which the watching began and ended.
    pub from: f64,
    /// Likewise.
    pub to: f64,
    /// The server, without secrets.
    pub target: String,
    /// Its facts.
    pub server: Server,
    /// The collectors' last snapshot.
    pub snapshot: Arc<Snapshot>,
    /// Cache hit ratio by database, over time in Unix seconds.
    pub cache: BTreeMap<String, Vec<(f64, f64)>>,
    /// Settings that matter here.
    pub settings: Vec<ShownSetting>,
    /// For the rules.
    pub facts: findings::ServerFacts,
    /// Those that took most time, most first.
    pub statements: Option<Vec<StatementRow>>,
    /// By name.
    pub databases: Vec<ReportedDatabase>,
    /// Those of the file's list that are poolers.
    pub poolers: Vec<pools::WatchedPooler>,
    /// What was benchmarked, in the configured database.
    pub benched: Option<Benched>,
    /// Objectives: seconds, and ratios.
    pub objectives: crate::config::Objectives,
    /// What could not be read, and why.
    pub notes: Vec<String>,
}

/// Watches the server for `over`, then reads the catalogs.
///
/// # Errors
/// The server cannot be reached, or the file of queries is wrong.
pub async fn gather(
    config: &Config,
    over: Duration,
    file: Option<&Path>,
) -> anyhow::Result<Gathered> {
    let clock = Clock::start();
    let mut notes = Vec::new();
    let session = at_home(config, clock).await?;
    let before = counters(&session, &mut notes).await;
    let listed = noted(&mut notes, "the list of databases", databases::list(&session).await);
    let listed = listed.unwrap_or_default().into_iter().map(|d| d.datname);
    let listed: BTreeSet<String> = listed.filter(|d| config.databases().admits(d)).collect();
    session.close().await;

    let from = clock.epoch() + clock.seconds();
    let (watched, (poolers, away)) =
        tokio::join!(watch(config, over, clock, &listed), pools::watch(config, over, clock));
    let WatchedServer { snapshot, cache, peak, notes: unreached } = watched;
    notes.extend(away);
    if !snapshot.up {
        bail!("{} stopped answering during the report", snapshot.target);
    }
    notes.extend(unreached);
    let to = clock.epoch() + clock.seconds();

    let session = at_home(config, clock).await?;
    let after = counters(&session, &mut notes).await;
    let statements = match (before, after) {
        (Some(before), Some(after)) => Some(busiest(&session, &before, &after, &mut notes).await),
        _ => None,
    };
    let settings = noted(&mut notes, "settings", settings(&session).await);
    let facts = advice::server(&session, Some(peak), &mut notes).await;
    let server = session.server().clone();
    session.close().await;

    let mut databases = Vec::new();
    for (name, trouble) in to_read(&snapshot, listed) {
        if let Some(trouble) = trouble {
            notes.push(format!("database {name}: {trouble}"));
            continue;
        }
        match database(config, &name, clock, &mut notes).await {
            Ok(database) => databases.push(database),
            Err(e) => notes.push(format!("catalogs of database {name}: {e:#}")),
        }
    }
    // After the watching, which is not to see it.
    let benched = match file {
        Some(file) => Some(queries::measure(config, file).await?),
        None => None,
    };
    for outcome in &snapshot.outcomes {
        if let Some(error) = &outcome.error {
            let place = outcome.datname.as_deref().map(|d| format!(" in {d}")).unwrap_or_default();
            notes.push(format!("collector {}{place}: {error}", outcome.collector));
        }
    }
    Ok(Gathered {
        from,
        to,
        target: snapshot.target.to_string(),
        server,
        snapshot,
        cache,
        settings: settings.unwrap_or_default(),
        facts,
        statements,
        databases,
        poolers,
        benched,
        objectives: config.settings().objectives.clone(),
        notes,
    })
}

/// Databases, and why one cannot be read: those that the collectors came to, and those that they did not
/// come to in time. Their catalogs are read all the same.
fn to_read(snapshot: &Snapshot, listed: BTreeSet<String>) -> BTreeMap<String, Option<Arc<str>>> {
    let mut all: BTreeMap<String, Option<Arc<str>>> = BTreeMap::new();
    // Where there are more than are walked, the walk has chosen.
    if snapshot.left_out == 0 {
        all.extend(listed.into_iter().map(|datname| (datname, None)));
    }
    let visited = snapshot.databases.iter();
    all.extend(visited.map(|d| (d.datname.to_string(), d.trouble.clone())));
    all
}

async fn connect(config: &Config, datname: Option<&str>, clock: Clock) -> anyhow::Result<Session> {
    let settings = config.settings().clone();
    Ok(Session::connect(config.connect(), datname, settings, clock).await?)
}

/// A session where the statements of the whole server are read.
async fn at_home(config: &Config, clock: Clock) -> anyhow::Result<Session> {
    let session = connect(config, None, clock).await?;
    Ok(settle(session, config.connect(), &statements::NEED, config.databases(), None).await?)
}

figures! {
    /// What `pg_stat_statements` counts of a statement; times in seconds.
    struct Did: Option<f64> {
        calls,
        /// Where planning is tracked.
        plans,
        planning,
        execution,
        rows,
        /// Of shared buffers, found or read.
        blocks,
        /// Where the extension counts it.
        jit,
        /// Executions with a generic plan, where the extension counts them.
        generic,
        /// Executions with a plan for their parameters, where the extension counts them.
        custom,
    }
}

columns! {
    struct CounterRow {
        datname: String,
        rolname: String,
        queryid: i64,
        did: Did,
    }
}

/// By database, role and `queryid`.
type DidByStatement = HashMap<(String, String, i64), Did>;

/// `None`, with a note, where the extension is not there or may not be used.
async fn counters(session: &Session, notes: &mut Vec<String>) -> Option<DidByStatement> {
    let plan = |trusted: &Trusted| {
        let (view, top) = statements::view(trusted)?;
        let jit = if trusted.version >= (1, 10) {
            "(s.jit_generation_time + s.jit_inlining_time + s.jit_optimization_time \
             + s.jit_emission_time) / 1000"
        } else {
            "NULL"
        };
        let plans = if trusted.version >= (1, 13) {
            "s.generic_plan_calls::float8 AS generic, s.custom_plan_calls::float8 AS custom"
        } else {
            "NULL::float8 AS generic, NULL::float8 AS custom"
        };
        let sql = format!(
            "SELECT d.datname::text, r.rolname::text, s.queryid, s.calls::float8, \
                    CASE WHEN pg_catalog.current_setting('pg_stat_statements.track_planning')::bool \
                         THEN s.plans END::float8 AS plans, \
                    s.total_plan_time / 1000 AS planning, s.total_exec_time / 1000 AS execution, \
                    s.rows::float8, (s.shared_blks_hit + s.shared_blks_read)::float8 AS blocks, \
                    ({jit})::float8 AS jit, {plans} \
               FROM {view}(false) s \
               JOIN pg_catalog.pg_database d ON d.oid = s.dbid \
               JOIN pg_catalog.pg_roles r ON r.oid = s.userid \
              WHERE ({top}) AND s.queryid IS NOT NULL"
        );
        Ok(vec![Query::new(sql)])
    };
    let read = session.read_trusted(&statements::NEED, plan).await;
    let mut fresh = Vec::new();
    let answers = noted(&mut fresh, "statements", read);
    notes.extend(fresh.into_iter().filter(|note| !notes.contains(note)).collect::<Vec<_>>());
    let rows = answers?.1.pop()?;
    let rows: Vec<CounterRow> = noted(notes, "statements", Row::all(&rows))?;
    Some(rows.into_iter().map(|r| ((r.datname, r.rolname, r.queryid), r.did)).collect())
}

/// Increments, those that took most time first, with their texts; our own left out.
async fn busiest(
    session: &Session,
    before: &DidByStatement,
    after: &DidByStatement,
    notes: &mut Vec<String>,
) -> Vec<StatementRow> {
    let mut rows: Vec<StatementRow> = Vec::new();
    for ((datname, usename, queryid), now) in after {
        let key = (datname.clone(), usename.clone(), *queryid);
        let then = before.get(&key).copied().unwrap_or_default();
        let by = |of: fn(&Did) -> Option<f64>| {
            let now = of(now)?;
            // One that was evicted and came back begins again.
            Some(of(&then).filter(|then| *then <= now).map_or(now, |then| now - then))
        };
        let did = findings::StatementFacts {
            name: queryid.to_string(),
            calls: by(|d| d.calls).unwrap_or_default(),
            plans: by(|d| d.plans),
            planning: by(|d| d.planning).unwrap_or_default(),
            execution: by(|d| d.execution).unwrap_or_default(),
            rows: by(|d| d.rows).unwrap_or_default(),
            blocks: by(|d| d.blocks).unwrap_or_default(),
            aggregates: None,
            jit: by(|d| d.jit),
            generic: by(|d| d.generic),
            custom: by(|d| d.custom),
        };
        if did.calls > 0.0 {
            rows.push(StatementRow {
                datname: datname.clone(),
                usename: usename.clone(),
                queryid: queryid.to_string(),
                text: String::new(),
                did,
            });
        }
    }
    let time = |s: &StatementRow| s.did.execution + s.did.planning;
    rows.sort_by(|a, b| time(b).total_cmp(&time(a)).then_with(|| a.queryid.cmp(&b.queryid)));
    // Ours are among them; their texts tell.
    rows.truncate(STATEMENTS * 2);
    let ids: Vec<i64> = rows.iter().filter_map(|row| row.queryid.parse().ok()).collect();
    let plan = |trusted: &Trusted| {
        let (view, _) = statements::view(trusted)?;
        let sql = format!(
            "SELECT s.queryid, pg_catalog.min(pg_catalog.left(s.query, 2000)) AS text, \
                    pg_catalog.bool_or(pg_catalog.strpos(s.query, '{OWN_MARK}') > 0) AS own \
               FROM {view}(true) s WHERE s.queryid = ANY ($1) GROUP BY 1"
        );
        Ok(vec![Query::new(sql).int8_array(&ids)])
    };
    let read = session.read_trusted(&statements::NEED, plan).await;
    let texts =
        noted(notes, "texts of statements", read).and_then(|(_, mut answers)| answers.pop());
    let texts: HashMap<i64, (String, bool)> = texts
        .iter()
        .flat_map(|rows| Row::each::<StatementText>(rows).flatten())
        .filter_map(|row| Some((row.queryid, (row.text?, row.own?))))
        .collect();
    let of = |row: &StatementRow| texts.get(&row.queryid.parse::<i64>().ok()?);
    rows.retain(|row| of(row).is_none_or(|(_, own)| !own));
    for row in &mut rows {
        if let Some((text, _)) = of(row) {
            row.did.aggregates = Some(aggregates(text));
            row.text = published(text);
        }
    }
    rows.truncate(STATEMENTS);
    rows
}

/// Whether a text reads only and aggregates, by its words.
fn aggregates(text: &str) -> bool {
    let text = text.to_lowercase();
    let reads = text.trim_start().starts_with("select") || text.trim_start().starts_with("with");
    let writes = ["insert into", "update ", "delete from"].iter().any(|word| text.contains(word));
    let functions = ["count(", "sum(", "avg(", "min(", "max(", "group by"];
    reads && !writes && functions.iter().any(|f| text.contains(f))
}

const SETTINGS: &str = "\
SELECT s.name, pg_catalog.current_setting(s.name) AS value, s.source, s.pending_restart
  FROM pg_catalog.pg_settings s WHERE s.name IN (
 'autovacuum', 'autovacuum_max_workers', 'autovacuum_vacuum_cost_limit',
 'autovacuum_vacuum_scale_factor', 'checkpoint_completion_target', 'checkpoint_timeout',
 'default_statistics_target', 'effective_cache_size', 'effective_io_concurrency', 'fsync',
 'full_page_writes', 'idle_in_transaction_session_timeout', 'jit', 'lock_timeout',
 'log_min_duration_statement', 'maintenance_work_mem', 'max_connections',
 'max_parallel_workers', 'max_parallel_workers_per_gather', 'max_wal_size', 'max_worker_processes',
 'min_wal_size', 'pg_stat_statements.max', 'pg_stat_statements.track_planning', 'random_page_cost',
 'shared_buffers', 'shared_preload_libraries', 'statement_timeout', 'synchronous_commit',
 'track_io_timing', 'wal_buffers', 'work_mem') ORDER BY s.name";

async fn settings(session: &Session) -> Result<Vec<ShownSetting>, CollectError> {
    let rows = session.read(SETTINGS).await?;
    let mut settings: Vec<ShownSetting> = Row::all(&rows)?;
    // What our own transactions set for themselves says nothing of the server.
    settings.retain(|row| row.source != "session");
    Ok(settings)
}

/// Asks what `plan` will say of the tables for which it may be recommended.
async fn foresee(session: &Session, facts: &mut findings::DatabaseFacts) {
    let short = |t: &&mut findings::Partitioned| {
        let runway = t.runway.is_some_and(|(left, required)| left < required);
        let rows = t.default_rows.is_some_and(|rows| rows >= 0.5);
        runway || rows || t.gap.is_some() || t.open_end.is_some()
    };
    for table in facts.partitioned.iter_mut().flatten().filter(short).take(FORESEEN) {
        let required = table.runway.map_or(0.0, |(_, required)| required);
        // In whole days, and as far again as is required, as the finding says it.
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is from 1 to 3650"
        )]
        let days = (required * 2.0 / 86_400.0).ceil().clamp(1.0, 3_650.0) as u16;
        table.foreseen =
            match plan::foresee(session, &table.name.schema, &table.name.name, days).await {
                Ok(left) if left.is_empty() => None,
                Ok(left) => Some(findings::Foreseen::Leaves(left.join(" "))),
                Err(e) => Some(findings::Foreseen::Refuses(format!("{e:#}"))),
            };
    }
}

async fn database(
    config: &Config,
    name: &str,
    clock: Clock,
    notes: &mut Vec<String>,
) -> anyhow::Result<ReportedDatabase> {
    let session = connect(config, Some(name), clock).await?;
    let rows = match Rows::read(&session, WhoseNames::All).await {
        Ok(rows) => rows,
        Err(e) => {
            session.close().await;
            return Err(e.into());
        }
    };
    let verdicts = database_recommendations::verdicts(&rows);
    let mut facts = database_recommendations::facts(&rows, verdicts.as_ref());
    let completed = catalogue::complete(&session, &mut facts, COMPLETED).await;
    foresee(&session, &mut facts).await;
    session.close().await;
    let mut note = |what: &str, error: Option<&CollectError>| {
        notes.extend(error.map(|e| format!("{what} of database {name}: {e}")));
    };
    note("partitions", rows.partitions.as_ref().err());
    note("partitions that differ", rows.odd.as_ref().err());
    note("dead rows", rows.vacuum.as_ref().err());
    note("sizes", rows.sizes.as_ref().err());
    note("indexes", rows.indexes.as_ref().err());
    note("constraints", rows.not_valid.as_ref().err());
    note("extensions", rows.extensions.as_ref().err());
    note("ages of transactions", rows.ages.as_ref().err());
    note("maintenance jobs", rows.jobs.as_ref().err());
    note("names", completed.as_ref().err());
    let indexes = rows.indexes.map(|rows| rows.facts).unwrap_or_default();
    let verdicts = verdicts.unwrap_or_default();
    let covered = rows.partitions.map(|rows| {
        let mut covered = partitions::covered(&rows);
        let name = |table: &partitions::PartitionedTable| {
            let (schema, relname) = table.name.as_ref()?;
            Some((format!("{schema}.{relname}"), covered.remove(&table.oid)?))
        };
        rows.tables.iter().filter_map(name).collect()
    });
    let covered = covered.unwrap_or_default();
    Ok(ReportedDatabase { name: name.to_owned(), indexes, verdicts, covered, facts })
}

impl Gathered {
    /// For the rules about a database.
    pub fn facts(&self, database: &ReportedDatabase) -> findings::DatabaseFacts {
        let of = |row: &&StatementRow| row.datname == database.name;
        findings::DatabaseFacts {
            span: self.to - self.from,
            statements: self
                .statements
                .as_ref()
                .map(|all| all.iter().filter(of).map(|row| row.did.clone()).collect()),
            benches: self
                .benched
                .as_ref()
                .filter(|b| b.document.server.database == database.name)
                .map(Benched::facts),
            ..database.facts.clone()
        }
    }
}
