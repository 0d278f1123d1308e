//! `pg_stat_activity`: client connections by state, what they wait for, how old the oldest
//! transaction, statement and idle transaction are, and how near the limits are.
//!
//! Must not: label by user, application, client or wait event (the product has no bound).

use std::collections::BTreeMap;
use std::time::Duration;

use super::published::published;
use crate::collector::{Collector, Scope};
use crate::derive::delta::ratio;
use crate::error::CollectError;
use crate::metric::{Kind, Metric, Sink};
use crate::pg::{IfFound, Lossy, Query, Row, Session, columns};

static COUNT: Metric = Metric::untyped(
    "pg_stat_activity_count",
    &["datname", "state"],
    "Client backends by pg_stat_activity.state, without this exporter's own; 0 for each state and database \
     without one; without postgres_exporter's labels for user, application, backend type and wait event, whose \
     combinations have no limit.",
)
.elsewhere_there();
static MAX_TX: Metric = Metric::gauge(
    "pg_stat_activity_max_tx_duration",
    &["datname", "state"],
    "Age in seconds of the oldest open transaction of the client backends in this state, from \
     pg_stat_activity.xact_start, without this exporter's own; 0 where none is open.",
)
.elsewhere_there();
static OLDEST_TX: Metric = Metric::gauge(
    "pg_oldest_transaction_seconds",
    &["datname"],
    "Age of the oldest open transaction of a client backend in any state, from \
     pg_stat_activity.xact_start, without this exporter's own; absent where there is none.",
);
static LONGEST_QUERY: Metric = Metric::gauge(
    "pg_longest_running_query_seconds",
    &["datname"],
    "Time since the longest-running statement of an active client backend began, from \
     pg_stat_activity.query_start, without this exporter's own and those that a pg_stat_progress_* \
     view shows (VACUUM, ANALYZE, CREATE INDEX, CLUSTER, COPY); absent where none runs.",
);
static OLDEST_IDLE: Metric = Metric::gauge(
    "pg_oldest_idle_in_transaction_seconds",
    &["datname"],
    "Time since the client backend that is idle in a transaction (aborted or not) for longest \
     became so, from pg_stat_activity.state_change; absent where there is none.",
);
static WAITING: Metric = Metric::gauge(
    "pg_stat_activity_waiting_backends",
    &["datname", "wait_event_type"],
    "Active client backends that wait, by pg_stat_activity.wait_event_type, without this \
     exporter's own; absent where there is none.",
);
static USED: Metric = Metric::gauge(
    "pg_connections_used",
    &[],
    "Client backends of all roles and databases, this exporter's own among them, counted in \
     pg_stat_activity.",
);
static USED_RATIO: Metric = Metric::gauge(
    "pg_connections_used_ratio",
    &[],
    "pg_connections_used over the connections open to ordinary roles: max_connections - \
     superuser_reserved_connections - reserved_connections; above 1 where reserved ones are used.",
);
static LONGEST_OBJECTIVE: Metric = Metric::gauge(
    "pg_longest_running_query_objective_seconds",
    &[],
    "Longest acceptable pg_longest_running_query_seconds, from the configuration.",
);
static TX_OBJECTIVE: Metric = Metric::gauge(
    "pg_oldest_transaction_objective_seconds",
    &[],
    "Highest acceptable pg_oldest_transaction_seconds and pg_oldest_prepared_transaction_seconds, from \
     the configuration.",
);
static IDLE_OBJECTIVE: Metric = Metric::gauge(
    "pg_oldest_idle_in_transaction_objective_seconds",
    &[],
    "Highest acceptable pg_oldest_idle_in_transaction_seconds, from the configuration.",
);
static MAX: Metric = Metric::gauge(
    "pg_settings_max_connections",
    &[],
    "Most concurrent connections, the setting max_connections.",
)
.with_server_there(Kind::Gauge);
static SUPERUSER_RESERVED: Metric = Metric::gauge(
    "pg_settings_superuser_reserved_connections",
    &[],
    "Connections kept for superusers, the setting superuser_reserved_connections.",
)
.with_server_there(Kind::Gauge);
static RESERVED: Metric = Metric::gauge(
    "pg_settings_reserved_connections",
    &[],
    "Connections kept for roles with pg_use_reserved_connections, the setting \
     reserved_connections (PostgreSQL 16 and later).",
)
.with_server_there(Kind::Gauge);
static NUMBACKENDS: Metric = Metric::gauge(
    "pg_stat_database_numbackends",
    &["datid", "datname"],
    "Backends connected to the database, of all types, pg_stat_database.numbackends.",
);
static DATABASE_LIMIT: Metric = Metric::gauge(
    "pg_database_connection_limit",
    &["datname"],
    "Most concurrent connections to the database, pg_database.datconnlimit; -1 where unlimited.",
);

/// In SQL: the processes whose statement is maintenance that a pg_stat_progress_* view shows.
pub(super) fn maintenance_pids(version_num: i32) -> String {
    let copy = if version_num >= 140_000 {
        "UNION ALL SELECT p.pid FROM pg_catalog.pg_stat_progress_copy p"
    } else {
        // 13 has no progress of COPY; pg_dump is told by its text.
        "UNION ALL SELECT p.pid FROM pg_catalog.pg_stat_get_activity(NULL) p \
          WHERE p.state = 'active' AND p.query ~* '^[[:space:]]*copy[[:space:](]'"
    };
    format!(
        "SELECT p.pid FROM pg_catalog.pg_stat_progress_vacuum p
             UNION ALL SELECT p.pid FROM pg_catalog.pg_stat_progress_analyze p
             UNION ALL SELECT p.pid FROM pg_catalog.pg_stat_progress_create_index p
             UNION ALL SELECT p.pid FROM pg_catalog.pg_stat_progress_cluster p
             {copy}"
    )
}

/// One row per (database, state, wait event type of active backends, ours or not). A row that the
/// role may not see has neither type nor state. The statistics of one transaction are a snapshot,
/// so ages are taken at the time of the scan, not of BEGIN. Maintenance is meant to take long, and
/// has views of its own; base backups are sent by other backends.
fn activity(version_num: i32) -> String {
    let maintenance = maintenance_pids(version_num);
    format!(
        "\
SELECT pg_catalog.textsend(a.datname::text) AS datname, COALESCE(a.state, 'unknown') AS state,
       CASE WHEN a.state = 'active' THEN a.wait_event_type END AS wait_event_type,
       (a.pid = pg_catalog.pg_backend_pid()
        OR (a.usename = current_user
            AND a.application_name = pg_catalog.current_setting('application_name'))) IS TRUE AS ours,
       pg_catalog.count(*)::int8 AS count,
       pg_catalog.date_part('epoch',
         pg_catalog.max(pg_catalog.clock_timestamp() - a.xact_start))::float8 AS xact,
       pg_catalog.date_part('epoch',
         pg_catalog.max(pg_catalog.clock_timestamp() - a.query_start)
           FILTER (WHERE a.pid NOT IN ({maintenance})))::float8 AS query,
       pg_catalog.date_part('epoch',
         pg_catalog.max(pg_catalog.clock_timestamp() - a.state_change))::float8 AS change
  FROM pg_catalog.pg_stat_activity a
 WHERE a.backend_type = 'client backend' OR (a.backend_type IS NULL AND a.datid IS NOT NULL)
 GROUP BY 1, 2, 3, 4"
    )
}

/// `reserved_connections` is NULL before 16.
const LIMITS: &str = "\
SELECT pg_catalog.current_setting('max_connections')::int4 AS max,
       pg_catalog.current_setting('superuser_reserved_connections')::int4 AS superuser_reserved,
       pg_catalog.current_setting('reserved_connections', true)::int4 AS reserved";

const DATABASES: &str = "\
SELECT d.oid::int8 AS datid, pg_catalog.textsend(d.datname::text) AS datname,
       pg_catalog.pg_stat_get_db_numbackends(d.oid)::int4 AS numbackends,
       d.datconnlimit
  FROM pg_catalog.pg_database d ORDER BY d.datname";

/// What `pg_stat_activity.state` may be.
const STATES: [&str; 6] = [
    "active",
    "idle",
    "idle in transaction",
    "idle in transaction (aborted)",
    "fastpath function call",
    "disabled",
];

published! {
    /// `pg_stat_activity_count`.
    pub struct Sessions of COUNT { datname, state => count: f64 }
}

impl Sessions<'_> {
    /// Whether they execute a statement.
    pub fn are_active(&self) -> bool {
        self.state == "active"
    }
}

published! {
    /// `pg_connections_used`.
    pub struct Used of USED { => connections: f64 }
}

published! {
    /// `pg_connections_used_ratio`.
    pub struct UsedRatio of USED_RATIO { => ratio: f64 }
}
published! {
    /// `pg_settings_max_connections`.
    pub struct MaxConnections of MAX { => connections: f64 }
}
published! {
    /// `pg_oldest_transaction_seconds`.
    pub struct OldestTransaction of OLDEST_TX { datname => seconds: f64 }
}
published! {
    /// `pg_oldest_transaction_objective_seconds`.
    pub struct OldestTransactionObjective of TX_OBJECTIVE { => seconds: f64 }
}
published! {
    /// `pg_oldest_idle_in_transaction_seconds`.
    pub struct OldestIdle of OLDEST_IDLE { datname => seconds: f64 }
}
published! {
    /// `pg_oldest_idle_in_transaction_objective_seconds`.
    pub struct OldestIdleObjective of IDLE_OBJECTIVE { => seconds: f64 }
}
published! {
    /// `pg_longest_running_query_seconds`.
    pub struct LongestQuery of LONGEST_QUERY { datname => seconds: f64 }
}
published! {
    /// `pg_longest_running_query_objective_seconds`.
    pub struct LongestQueryObjective of LONGEST_OBJECTIVE { => seconds: f64 }
}
published! {
    /// `pg_stat_activity_waiting_backends`.
    pub struct WaitingBackends of WAITING { datname, wait_event_type => count: f64 }
}

pub struct Connections;

columns! {
    /// Client backends of one database in one state.
    #[derive(Debug, Clone, PartialEq)]
    pub struct BackendGroup {
        /// `None` while a backend starts.
        pub datname: Option<String> as IfFound<Lossy>,
        /// `pg_stat_activity.state`, or `unknown` where the role may not see it.
        pub state: String,
        /// Of active backends only; `None` where they do not wait.
        pub wait_event_type: Option<String>,
        /// This exporter's own connections.
        pub ours: bool,
        /// Backends.
        pub count: i64,
        /// Seconds since the oldest `xact_start`.
        pub xact: Option<f64>,
        /// Seconds since the oldest `query_start`, maintenance left out.
        pub query: Option<f64>,
        /// Seconds since the oldest `state_change`.
        pub change: Option<f64>,
    }
}

columns! {
    /// One database.
    #[derive(Debug, Clone, PartialEq)]
    pub struct DatabaseConnections {
        /// OID.
        pub datid: i64,
        /// Database.
        pub datname: String as Lossy,
        /// Backends of all types.
        pub numbackends: Option<i32>,
        /// -1: unlimited.
        pub limit: i32 = "datconnlimit",
    }
}

columns! {
    /// Settings that bound the number of connections.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ConnectionLimits {
        /// `max_connections`.
        pub max: i32,
        /// `superuser_reserved_connections`.
        pub superuser_reserved: i32,
        /// `reserved_connections`, from PostgreSQL 16 on.
        pub reserved: Option<i32>,
    }
}

/// What one poll read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Client backends; `None` where it is unknown what they are.
    pub groups: Option<Vec<BackendGroup>>,
    /// How many there may be.
    pub limits: ConnectionLimits,
    /// All databases.
    pub databases: Vec<DatabaseConnections>,
    /// Whether the role sees other roles' sessions. If not, the oldest of those it sees is not the
    /// oldest, and that none waits says nothing.
    pub sees_all: bool,
    /// Objective for the longest-running statement in seconds.
    pub longest_query: f64,
    /// Objective for the oldest transaction in seconds.
    pub oldest_transaction: f64,
    /// Objective for the oldest idle transaction in seconds.
    pub idle_in_transaction: f64,
}

impl Collector for Connections {
    type Rows = Rows;
    type State = ();
    const NAME: &'static str = "connections";
    const HELP: &'static str =
        "Connections by state, waits, oldest transaction and statement, limits.";
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(5);
    const METRICS: &'static [&'static Metric] = &[
        &COUNT,
        &MAX_TX,
        &OLDEST_TX,
        &LONGEST_QUERY,
        &LONGEST_OBJECTIVE,
        &TX_OBJECTIVE,
        &IDLE_OBJECTIVE,
        &OLDEST_IDLE,
        &WAITING,
        &USED,
        &USED_RATIO,
        &MAX,
        &SUPERUSER_RESERVED,
        &RESERVED,
        &NUMBACKENDS,
        &DATABASE_LIMIT,
    ];

    async fn fetch(&self, session: &Session, (): &()) -> Result<Rows, CollectError> {
        let activity = activity(session.server().version_num);
        let queries = [Query::new(LIMITS), Query::new(&activity), Query::new(DATABASES)];
        let answers = session.read_all(&queries).await?;
        let mut answers = answers.iter().map(Vec::as_slice);
        let mut next = || answers.next().unwrap_or_default();
        let objectives = &session.settings().objectives;
        Ok(Rows {
            limits: Row::one(next())?,
            groups: Row::whole(next())?,
            databases: Row::all(next())?,
            sees_all: session.server().reads_all_stats,
            longest_query: objectives.longest_query,
            oldest_transaction: objectives.oldest_transaction,
            idle_in_transaction: objectives.idle_in_transaction,
        })
    }

    fn derive(&self, (): &mut (), rows: Rows, sink: &mut Sink) {
        limits(&rows, sink);
        sink.number(&LONGEST_OBJECTIVE, &[], rows.longest_query);
        sink.number(&TX_OBJECTIVE, &[], rows.oldest_transaction);
        sink.number(&IDLE_OBJECTIVE, &[], rows.idle_in_transaction);
        let Some(groups) = &rows.groups else { return };
        let mut states: BTreeMap<(&str, &str), (i64, Oldest)> = BTreeMap::new();
        if rows.sees_all {
            let names = rows.databases.iter().map(|d| d.datname.as_str());
            let each = names.flat_map(|datname| STATES.map(|state| (datname, state)));
            states.extend(each.map(|place| (place, (0, Oldest(Some(0.0))))));
        }
        let mut waits: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        let mut oldest: BTreeMap<&str, [Oldest; 3]> = BTreeMap::new();
        for group in groups.iter().filter(|g| !g.ours) {
            let Some(datname) = group.datname.as_deref() else { continue };
            let (count, xact) = states.entry((datname, group.state.as_str())).or_default();
            *count += group.count;
            xact.see(group.xact);
            let [tx, query, idle] = oldest.entry(datname).or_default();
            tx.see(group.xact);
            if group.state == "active" {
                query.see(group.query);
                if let Some(kind) = &group.wait_event_type {
                    *waits.entry((datname, kind)).or_default() += group.count;
                }
            } else if group.state.starts_with("idle in transaction") {
                idle.see(group.change);
            }
        }
        for ((datname, state), (count, xact)) in states {
            sink.number(&COUNT, &[datname, state], number(count));
            sink.number(&MAX_TX, &[datname, state], xact.0.filter(|_| rows.sees_all));
        }
        if !rows.sees_all {
            return;
        }
        for ((datname, kind), count) in waits {
            sink.number(&WAITING, &[datname, kind], number(count));
        }
        for (datname, [tx, query, idle]) in oldest {
            sink.number(&OLDEST_TX, &[datname], tx.0);
            sink.number(&LONGEST_QUERY, &[datname], query.0);
            sink.number(&OLDEST_IDLE, &[datname], idle.0);
        }
    }
}

fn limits(rows: &Rows, sink: &mut Sink) {
    let used = rows.groups.as_ref().map(|groups| number(groups.iter().map(|g| g.count).sum()));
    let ConnectionLimits { max, superuser_reserved, reserved } = rows.limits;
    let open =
        f64::from(max) - f64::from(superuser_reserved) - f64::from(reserved.unwrap_or_default());
    sink.number(&USED, &[], used);
    sink.number(&USED_RATIO, &[], used.and_then(|used| ratio(used, open)));
    sink.number(&MAX, &[], f64::from(max));
    sink.number(&SUPERUSER_RESERVED, &[], f64::from(superuser_reserved));
    sink.number(&RESERVED, &[], reserved.map(f64::from));
    for database in &rows.databases {
        let (datid, datname) = (database.datid.to_string(), database.datname.as_str());
        sink.number(&NUMBACKENDS, &[&datid, datname], database.numbackends.map(f64::from));
        sink.number(&DATABASE_LIMIT, &[datname], f64::from(database.limit));
    }
}

/// The greatest age seen, never negative: the server's clock may be set back.
#[derive(Debug, Clone, Copy, Default)]
struct Oldest(Option<f64>);

impl Oldest {
    fn see(&mut self, age: Option<f64>) {
        if let Some(age) = age {
            self.0 = Some(self.0.unwrap_or(0.0).max(age));
        }
    }
}

/// Counts of backends are far below 2^53.
fn number(count: i64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll, value};
    use super::*;

    fn group(
        datname: &str,
        state: &str,
        wait: Option<&str>,
        count: i64,
        ages: [f64; 3],
    ) -> BackendGroup {
        let [xact, query, change] = ages.map(|a| (a != 0.0).then_some(a));
        BackendGroup {
            datname: Some(datname.to_owned()),
            state: state.to_owned(),
            wait_event_type: wait.map(str::to_owned),
            ours: false,
            count,
            xact,
            query,
            change,
        }
    }

    fn rows(groups: Vec<BackendGroup>) -> Rows {
        let database = |datid, datname: &str, limit| DatabaseConnections {
            datid,
            datname: datname.to_owned(),
            numbackends: Some(4),
            limit,
        };
        Rows {
            groups: Some(groups),
            limits: ConnectionLimits { max: 100, superuser_reserved: 3, reserved: Some(5) },
            longest_query: 300.0,
            oldest_transaction: 3600.0,
            idle_in_transaction: 600.0,
            sees_all: true,
            databases: vec![database(1, "app", -1), database(2, "shop\n\"x\"", 7)],
        }
    }

    #[test]
    fn golden() {
        let ours =
            BackendGroup { ours: true, ..group("app", "active", None, 2, [99.0, 99.0, 99.0]) };
        let starting = BackendGroup { datname: None, ..group("", "unknown", None, 1, [0.0; 3]) };
        let families = poll(
            &Connections,
            &mut (),
            rows(vec![
                group("app", "active", None, 3, [1.5, 1.0, 1.0]),
                group("app", "active", Some("Lock"), 2, [60.0, 50.0, 50.0]),
                group("app", "active", Some("IO"), 1, [0.5, 0.5, 0.5]),
                group("app", "idle", None, 10, [0.0, 4000.0, 3900.0]),
                group("app", "idle in transaction", None, 1, [300.0, 290.0, 280.0]),
                group("app", "idle in transaction (aborted)", None, 1, [200.0, 199.0, 290.0]),
                group("shop\n\"x\"", "idle", None, 3, [0.0, 5.0, 5.0]),
                ours,
                starting,
            ]),
        );
        check("connections", &families);
    }

    #[test]
    fn nothing_open_gives_no_age_and_a_clock_set_back_gives_zero() {
        let families = poll(
            &Connections,
            &mut (),
            rows(vec![group("app", "active", None, 1, [-5.0, -5.0, -5.0])]),
        );
        assert_eq!(value(&families, "pg_longest_running_query_seconds", &["app"]), Some(0.0));
        assert_eq!(value(&families, "pg_oldest_idle_in_transaction_seconds", &["app"]), None);
    }

    #[test]
    fn a_role_that_sees_its_own_sessions_only_gives_no_age_of_the_oldest() {
        let mut some = rows(vec![
            group("app", "unknown", None, 3, [0.0; 3]),
            group("app", "active", Some("Lock"), 1, [5.0, 5.0, 5.0]),
            group("app", "idle in transaction", None, 1, [5.0, 5.0, 5.0]),
        ]);
        some.sees_all = false;
        let families = poll(&Connections, &mut (), some);
        assert_eq!(value(&families, "pg_stat_activity_count", &["app", "unknown"]), Some(3.0));
        let blind = [
            "pg_oldest_transaction_seconds",
            "pg_longest_running_query_seconds",
            "pg_oldest_idle_in_transaction_seconds",
        ];
        for name in blind {
            assert_eq!(value(&families, name, &["app"]), None, "{name}");
        }
        assert_eq!(value(&families, "pg_stat_activity_max_tx_duration", &["app", "active"]), None);
        assert_eq!(value(&families, "pg_stat_activity_waiting_backends", &["app", "Lock"]), None);
    }

    #[test]
    fn a_server_with_every_slot_reserved_has_no_ratio() {
        let mut all = rows(vec![]);
        (all.limits.max, all.limits.reserved) = (8, Some(5));
        let families = poll(&Connections, &mut (), all);
        assert_eq!(value(&families, "pg_connections_used_ratio", &[]), None);
        assert_eq!(value(&families, "pg_connections_used", &[]), Some(0.0));
    }
}
