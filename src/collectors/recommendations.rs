//! Which recommendations about the server as a whole hold, by the rules of `findings`.
//!
//! Must not: judge on less evidence than a rule asks for; such a rule has no sample.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::figures::figures;
use super::published::published;
use crate::collector::{Collector, Scope};
use crate::collectors::statements;
use crate::derive::delta::DeltaWindow;
use crate::error::CollectError;
use crate::findings::{
    self, CheckpointCounts, Counted, Judgement, Origin, Reported, Setting, Temporary,
};
use crate::metric::{Metric, Sink};
use crate::pg::{IfFound, Query, Row, Session, columns};

static ACTIVE: Metric = Metric::gauge(
    "pg_recommendation_active",
    &["id"],
    "Whether the recommendation holds, by its rule over the measurements of the last hour \
     (docs/recommendations.md); absent with too little evidence.",
);

/// Seconds of evidence that are kept.
const SPAN: f64 = 3_600.0;

/// Those that the rules look at; a version that lacks one has no row for it. `reset_val` is what a session of this
/// role gets in this database; our transactions set some for themselves.
const SETTINGS: &str = "\
SELECT s.name::text AS name, s.reset_val::text AS value, s.unit::text AS unit, s.vartype::text AS vartype,
       s.source::text AS source, s.context = 'postmaster' AS restart
  FROM pg_catalog.pg_settings s WHERE s.name IN (
 'autovacuum', 'autovacuum_max_workers', 'autovacuum_vacuum_cost_limit',
 'checkpoint_completion_target', 'checkpoint_timeout', 'compute_query_id', 'effective_cache_size', 'fsync',
 'full_page_writes', 'idle_in_transaction_session_timeout', 'log_min_duration_sample',
 'log_min_duration_statement', 'maintenance_work_mem', 'max_connections', 'max_parallel_workers',
 'max_wal_size', 'max_worker_processes', 'pg_stat_statements.max', 'pg_stat_statements.track',
 'shared_buffers', 'shared_preload_libraries', 'track_activities', 'track_activity_query_size',
 'track_counts', 'track_io_timing', 'vacuum_cost_limit', 'work_mem') ORDER BY 1";

const ROLE: &str = "SELECT pg_catalog.pg_has_role(current_user, 'pg_monitor', 'USAGE') AS monitors";

columns! {
    struct SettingRow {
        name: String,
        value: Option<String>,
        unit: Option<String>,
        vartype: String,
        source: String,
        restart: bool,
    }
}

const TEMPORARY: &str = "\
SELECT pg_catalog.sum(pg_catalog.pg_stat_get_db_temp_files(d.oid))::float8 AS files,
       pg_catalog.sum(pg_catalog.pg_stat_get_db_temp_bytes(d.oid))::float8 AS bytes
  FROM pg_catalog.pg_database d";

const BACKENDS: &str = "\
SELECT pg_catalog.count(*) FILTER (WHERE a.backend_type = 'client backend')::float8 AS clients,
       pg_catalog.count(*) FILTER (WHERE a.backend_type = 'client backend'
                                     AND a.state IN ('active', 'fastpath function call'))::float8
         AS active,
       pg_catalog.count(*) FILTER (WHERE a.backend_type = 'autovacuum worker')::float8 AS autovacuum
  FROM pg_catalog.pg_stat_activity a WHERE a.pid <> pg_catalog.pg_backend_pid()";

/// The view's columns moved in 17. WAL has no insert position during recovery.
fn checkpoints(version_num: i32) -> &'static str {
    if version_num >= 170_000 {
        "SELECT c.num_timed::float8 AS timed, c.num_requested::float8 AS requested,
                CASE WHEN NOT pg_catalog.pg_is_in_recovery()
                     THEN pg_catalog.pg_current_wal_insert_lsn() - '0/0'::pg_catalog.pg_lsn END::float8
                  AS wal
           FROM pg_catalog.pg_stat_checkpointer c"
    } else {
        "SELECT c.checkpoints_timed::float8 AS timed, c.checkpoints_req::float8 AS requested,
                CASE WHEN NOT pg_catalog.pg_is_in_recovery()
                     THEN pg_catalog.pg_current_wal_insert_lsn() - '0/0'::pg_catalog.pg_lsn END::float8
                  AS wal
           FROM pg_catalog.pg_stat_bgwriter c"
    }
}

published! {
    /// `pg_recommendation_active`.
    pub struct RuleActive of ACTIVE { id => active: f64 }
}

pub struct Recommendations;

figures! {
    /// What the server counted since it began to; on a standby nothing, because `wal` is NULL there.
    pub struct Checkpointed: f64 {
        /// Bytes of WAL.
        wal,
        /// Checkpoints that were due.
        timed,
        /// Those that were asked for.
        requested,
    }
}

figures! {
    /// Temporary files since the server began to count.
    pub struct Spilled: f64 {
        /// How many.
        files,
        /// Their bytes.
        bytes,
    }
}

figures! {
    /// Backends now.
    pub struct Backends: f64 {
        /// Of clients.
        clients,
        /// Of clients, in a statement.
        active,
        /// Workers of autovacuum.
        autovacuum,
    }
}

/// Settings, and what the role may.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Setup {
    /// Settings by name, in bytes and seconds.
    pub settings: BTreeMap<String, Setting>,
    /// Where each comes from.
    pub origins: BTreeMap<String, Origin>,
    /// The role of the session.
    pub role: String,
    /// Whether it has `pg_monitor`.
    pub monitors: bool,
    /// Whether `pg_stat_statements` is installed in the session's database.
    pub has_statements: bool,
}

columns! {
    struct Membership {
        monitors: bool,
    }
}

impl Setup {
    fn parse(session: &Session, settings: &[Row], role: &[Row]) -> Result<Self, CollectError> {
        let server = session.server();
        let mut setup = Self {
            role: server.role.clone(),
            monitors: Row::first::<Membership>(role)?.is_some_and(|role| role.monitors),
            has_statements: server.extensions.contains_key(statements::NEED.extension),
            ..Self::default()
        };
        for row in Row::all::<SettingRow>(settings)? {
            if let Some(value) = setting(&row) {
                setup.origins.insert(row.name.clone(), origin(&row));
                setup.settings.insert(row.name, value);
            }
        }
        Ok(setup)
    }
}

/// The settings that the rules look at, and what the role may.
///
/// # Errors
/// As [`Session::read_all`].
pub async fn setup(session: &Session) -> Result<Setup, CollectError> {
    let answers = session.read_all(&[SETTINGS.into(), ROLE.into()]).await?;
    let mut answers = answers.iter().map(Vec::as_slice);
    let mut next = || answers.next().unwrap_or_default();
    Setup::parse(session, next(), next())
}

/// Who is connected now.
///
/// # Errors
/// As [`Session::read`].
pub async fn backends(session: &Session) -> Result<Backends, CollectError> {
    Row::one(&session.read(BACKENDS).await?)
}

/// Of `pg_settings.source`. What our own transactions set hides where it came from.
fn origin(row: &SettingRow) -> Origin {
    match row.source.as_str() {
        "database" => Origin::Database,
        "user" => Origin::Role,
        "database user" => Origin::RoleIn,
        "global" => Origin::Roles,
        "command line" => Origin::CommandLine,
        _ => Origin::System { restart: row.restart },
    }
}

/// One reading.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// Seconds, [`Session::seconds`].
    pub at: f64,
    /// Unix seconds of the server's start.
    pub started: f64,
    /// The database of the session.
    pub datname: String,
    /// Settings, and what the role may.
    pub setup: Setup,
    /// From the configuration: bytes, processors, seconds.
    pub memory: Option<f64>,
    /// Processors, from the configuration.
    pub cpus: Option<f64>,
    /// Objective in seconds, from the configuration.
    pub latency_objective: f64,
    /// Checkpoints and WAL.
    pub checkpoints: Option<Checkpointed>,
    /// Temporary files.
    pub temporary: Option<Spilled>,
    /// Evictions from `pg_stat_statements` since the server began to count.
    pub evictions: Option<f64>,
    /// Who was connected.
    pub backends: Backends,
}

/// Evidence of the last hour.
#[derive(Debug, Clone)]
pub struct State {
    /// When watching began.
    since: Option<f64>,
    /// Start of the server that counted last.
    started: Option<f64>,
    checkpoints: DeltaWindow<{ Checkpointed::N }>,
    temporary: DeltaWindow<{ Spilled::N }>,
    evictions: DeltaWindow<1>,
    backends: VecDeque<(f64, Backends)>,
    reported: Arc<[Reported]>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            since: None,
            started: None,
            checkpoints: DeltaWindow::new(SPAN),
            temporary: DeltaWindow::new(SPAN),
            evictions: DeltaWindow::new(SPAN),
            backends: VecDeque::new(),
            reported: Arc::default(),
        }
    }
}

impl Collector for Recommendations {
    type Rows = Rows;
    type State = State;
    const NAME: &'static str = "recommendations";
    const HELP: &'static str = "Which recommendations about the server's settings hold.";
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(60);
    const METRICS: &'static [&'static Metric] = &[&ACTIVE];

    async fn fetch(&self, session: &Session, _: &State) -> Result<Rows, CollectError> {
        let queries: [Query; 5] = [
            SETTINGS.into(),
            ROLE.into(),
            checkpoints(session.server().version_num).into(),
            TEMPORARY.into(),
            BACKENDS.into(),
        ];
        let answers = session.read_all(&queries).await?;
        let mut answers = answers.iter().map(Vec::as_slice);
        let mut next = || answers.next().unwrap_or_default();
        let setup = Setup::parse(session, next(), next())?;
        let IfFound(checkpoints) = Row::one(next())?;
        let IfFound(temporary) = Row::one(next())?;
        let backends = Row::one(next())?;
        // Why there are none, the collector of statements says.
        let evictions = match statements::evictions(session).await {
            Err(e) if e.is_fatal() => return Err(e),
            evictions => evictions.ok().flatten().and_then(|evictions| evictions.count),
        };
        let host = &session.settings().host;
        Ok(Rows {
            at: session.seconds(),
            started: session.server().started,
            datname: session.server().datname.clone(),
            setup,
            memory: host.memory,
            // There are at most some thousands.
            cpus: host.cpus.map(|cpus| cpus as f64),
            latency_objective: session.settings().objectives.latency,
            checkpoints,
            temporary,
            evictions,
            backends,
        })
    }

    fn derive(&self, state: &mut State, rows: Rows, sink: &mut Sink) {
        let server = facts(state, rows);
        let judgement = Judgement::of(&server);
        for (id, active) in judgement.active {
            sink.number(&ACTIVE, &[id], active);
        }
        state.reported = judgement.reported.into();
    }

    fn findings(state: &State) -> Arc<[Reported]> {
        state.reported.clone()
    }
}

/// In bytes and seconds. -1, which switches off, stays -1.
fn setting(row: &SettingRow) -> Option<Setting> {
    let text = row.value.as_deref()?;
    Some(match row.vartype.as_str() {
        "bool" => Setting::Flag(text == "on"),
        "integer" | "real" => match text.parse::<f64>().ok()? {
            number if number < 0.0 => Setting::Number(number),
            number => Setting::Number(number * factor(row.unit.as_deref())),
        },
        _ => Setting::Text(text.to_owned()),
    })
}

/// Of `pg_settings.unit`.
fn factor(unit: Option<&str>) -> f64 {
    match unit {
        Some("kB") => 1_024.0,
        Some("8kB") => 8_192.0,
        Some("MB") => 1_048_576.0,
        Some("16MB") => 16_777_216.0,
        Some("ms") => 1e-3,
        Some("min") => 60.0,
        _ => 1.0,
    }
}

/// Takes a reading, and gives what the last hour's have shown.
fn facts(state: &mut State, rows: Rows) -> findings::ServerFacts {
    let at = rows.at;
    if state.started.replace(rows.started) != Some(rows.started) {
        state.checkpoints.rebase();
        state.temporary.rebase();
        state.evictions.rebase();
    }
    let span = (at - *state.since.get_or_insert(at)).min(SPAN);
    if let Some(counters) = rows.checkpoints {
        state.checkpoints.push(at, counters.into());
    }
    if let Some(counters) = rows.temporary {
        state.temporary.push(at, counters.into());
    }
    if let Some(counter) = rows.evictions {
        state.evictions.push(at, [counter]);
    }
    state.backends.push_back((at, rows.backends));
    while state.backends.front().is_some_and(|(t, _)| *t <= at - SPAN) {
        state.backends.pop_front();
    }
    let counted = |amount| Counted { amount, span };
    let peak = |of: fn(&Backends) -> f64| {
        state.backends.iter().map(|(_, backends)| of(backends)).fold(0.0, f64::max)
    };
    let Checkpointed { timed, requested, wal } = state.checkpoints.sums().into();
    let Spilled { files, bytes } = state.temporary.sums().into();
    let [evictions] = state.evictions.sums();
    findings::ServerFacts {
        datname: rows.datname,
        role: rows.setup.role,
        settings: rows.setup.settings,
        origins: rows.setup.origins,
        monitors: Some(rows.setup.monitors),
        has_statements: Some(rows.setup.has_statements),
        statements_elsewhere: Vec::new(),
        absent: None,
        memory: rows.memory,
        cpus: rows.cpus,
        checkpoints: rows.checkpoints.map(|_| CheckpointCounts { timed, requested, span }),
        wal: rows.checkpoints.map(|_| counted(wal)),
        temporary: rows.temporary.map(|_| Temporary { files, bytes: counted(bytes) }),
        evictions: rows.evictions.map(|_| counted(evictions)),
        connections: Some(findings::ConnectionPeak {
            peak: peak(|b| b.clients),
            peak_active: peak(|b| b.active),
        }),
        autovacuum_workers: Some(peak(|b| b.autovacuum)),
        latency_objective: Some(rows.latency_objective),
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll, value};
    use super::*;

    fn requested(requested: f64, wal: f64) -> Checkpointed {
        Checkpointed { timed: 0.0, requested, wal }
    }

    fn reading(at: f64) -> Rows {
        let number = |value| Setting::Number(value);
        let settings = [
            ("shared_buffers", number(134_217_728.0)),
            ("max_connections", number(100.0)),
            ("max_wal_size", number(1_073_741_824.0)),
            ("checkpoint_timeout", number(300.0)),
            ("checkpoint_completion_target", number(0.9)),
            ("track_io_timing", Setting::Flag(true)),
            ("autovacuum_max_workers", number(3.0)),
            ("autovacuum_vacuum_cost_limit", number(-1.0)),
            ("vacuum_cost_limit", number(200.0)),
            ("pg_stat_statements.max", number(5_000.0)),
        ];
        Rows {
            at,
            setup: Setup {
                settings: settings.map(|(name, value)| (name.to_owned(), value)).into(),
                monitors: true,
                has_statements: true,
                ..Setup::default()
            },
            memory: Some(17_179_869_184.0),
            latency_objective: 0.05,
            checkpoints: Some(Checkpointed::default()),
            evictions: Some(7.0),
            backends: Backends { clients: 10.0, active: 2.0, autovacuum: 0.0 },
            ..Rows::default()
        }
    }

    #[test]
    fn golden() {
        let mut state = State::default();
        poll(&Recommendations, &mut state, reading(0.0));
        let forced = Rows {
            checkpoints: Some(requested(6.0, 6e9)),
            backends: Backends { clients: 85.0, active: 60.0, autovacuum: 3.0 },
            ..reading(600.0)
        };
        poll(&Recommendations, &mut state, forced.clone());
        // The peak is over, but was within the hour.
        let after = Rows {
            at: 660.0,
            backends: Backends { clients: 10.0, active: 2.0, autovacuum: 0.0 },
            ..forced
        };
        check("recommendations", &poll(&Recommendations, &mut state, after));
    }

    #[test]
    fn what_another_server_counted_before_a_failover_is_no_evidence() {
        let mut state = State::default();
        poll(&Recommendations, &mut state, reading(0.0));
        let other = Rows {
            started: 7.0,
            checkpoints: Some(requested(900.0, 6e12)),
            evictions: Some(9_000.0),
            ..reading(600.0)
        };
        let families = poll(&Recommendations, &mut state, other);
        assert_eq!(value(&families, ACTIVE.name, &["settings.max_wal_size"]), Some(0.0));
    }

    #[test]
    fn what_happened_before_the_hour_is_no_evidence() {
        let mut state = State::default();
        poll(
            &Recommendations,
            &mut state,
            Rows {
                backends: Backends { clients: 95.0, active: 1.0, autovacuum: 0.0 },
                ..reading(0.0)
            },
        );
        let forced = Rows { checkpoints: Some(requested(6.0, 6e9)), ..reading(600.0) };
        let then = poll(&Recommendations, &mut state, forced.clone());
        for id in ["connections.pool", "settings.max_wal_size"] {
            assert_eq!(value(&then, ACTIVE.name, &[id]), Some(1.0), "{id}");
        }
        let later = poll(&Recommendations, &mut state, Rows { at: 4_300.0, ..forced });
        for id in ["connections.pool", "settings.max_wal_size"] {
            assert_eq!(value(&later, ACTIVE.name, &[id]), Some(0.0), "{id}");
        }
    }
}
