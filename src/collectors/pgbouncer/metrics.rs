//! What the collector may emit. Names, types and labels are those of pgbouncer_exporter 0.12 where
//! it has the metric.
//!
//! Must not: hold logic.

use crate::metric::Metric;

/// A column and the metric that it is.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) metric: &'static Metric,
    /// What one of it is in the metric's unit.
    pub(super) unit: f64,
}

const fn column(name: &'static str, metric: &'static Metric) -> Column {
    Column { name, metric, unit: 1.0 }
}

const fn micros(name: &'static str, metric: &'static Metric) -> Column {
    Column { name, metric, unit: MICROSECOND }
}

pub(super) const MICROSECOND: f64 = 1e-6;
pub(super) const POOL_LABELS: &[&str] = &["database", "user"];
pub(super) const DATABASE_LABELS: &[&str] =
    &["name", "host", "port", "database", "force_user", "pool_mode"];
/// Server connections of a pool that no waiting client can have at once.
pub(super) const IN_USE: &[&str] =
    &["sv_active", "sv_active_cancel", "sv_being_canceled", "sv_tested", "sv_login"];

pub(super) static CL_ACTIVE: Metric = Metric::gauge(
    "pgbouncer_pools_client_active_connections",
    POOL_LABELS,
    "Client connections that are linked to a server connection or idle with nothing to do, \
     SHOW POOLS cl_active.",
);

pub(super) static CL_ACTIVE_CANCEL: Metric = Metric::gauge(
    "pgbouncer_pools_client_active_cancel_connections",
    POOL_LABELS,
    "Client connections whose request to cancel was forwarded and not answered yet, SHOW \
     POOLS cl_active_cancel_req.",
);

pub(super) static CL_WAITING: Metric = Metric::gauge(
    "pgbouncer_pools_client_waiting_connections",
    POOL_LABELS,
    "Client connections that wait for a server connection, SHOW POOLS cl_waiting.",
);

pub(super) static CL_WAITING_CANCEL: Metric = Metric::gauge(
    "pgbouncer_pools_client_waiting_cancel_connections",
    POOL_LABELS,
    "Client connections whose request to cancel was not forwarded yet, SHOW POOLS \
     cl_waiting_cancel_req.",
);

pub(super) static SV_ACTIVE: Metric = Metric::gauge(
    "pgbouncer_pools_server_active_connections",
    POOL_LABELS,
    "Server connections linked to a client, SHOW POOLS sv_active.",
);

pub(super) static SV_ACTIVE_CANCEL: Metric = Metric::gauge(
    "pgbouncer_pools_server_active_cancel_connections",
    POOL_LABELS,
    "Server connections that forward a request to cancel, SHOW POOLS sv_active_cancel.",
);

pub(super) static SV_BEING_CANCELED: Metric = Metric::gauge(
    "pgbouncer_pools_server_being_canceled_connections",
    POOL_LABELS,
    "Server connections that wait until requests to cancel on them have ended, SHOW POOLS \
     sv_being_canceled.",
);

pub(super) static SV_IDLE: Metric = Metric::gauge(
    "pgbouncer_pools_server_idle_connections",
    POOL_LABELS,
    "Server connections that a client can use immediately, SHOW POOLS sv_idle.",
);

pub(super) static SV_USED: Metric = Metric::gauge(
    "pgbouncer_pools_server_used_connections",
    POOL_LABELS,
    "Server connections idle for longer than server_check_delay, to be checked before use, \
     SHOW POOLS sv_used.",
);

pub(super) static SV_TESTED: Metric = Metric::gauge(
    "pgbouncer_pools_server_testing_connections",
    POOL_LABELS,
    "Server connections that run server_reset_query or server_check_query, SHOW POOLS \
     sv_tested.",
);

pub(super) static SV_LOGIN: Metric = Metric::gauge(
    "pgbouncer_pools_server_login_connections",
    POOL_LABELS,
    "Server connections that are logging in, SHOW POOLS sv_login.",
);

/// Of `SHOW POOLS`.
pub(super) static POOLS: &[Column] = &[
    column("cl_active", &CL_ACTIVE),
    column("cl_active_cancel_req", &CL_ACTIVE_CANCEL),
    column("cl_waiting", &CL_WAITING),
    column("cl_waiting_cancel_req", &CL_WAITING_CANCEL),
    column("sv_active", &SV_ACTIVE),
    column("sv_active_cancel", &SV_ACTIVE_CANCEL),
    column("sv_being_canceled", &SV_BEING_CANCELED),
    column("sv_idle", &SV_IDLE),
    column("sv_used", &SV_USED),
    column("sv_tested", &SV_TESTED),
    column("sv_login", &SV_LOGIN),
];

pub(super) static DB_POOL_SIZE: Metric = Metric::gauge(
    "pgbouncer_databases_pool_size",
    DATABASE_LABELS,
    "Server connections that each pool of the database may have, reserve not counted, SHOW \
     DATABASES pool_size.",
);

pub(super) static DB_RESERVE: Metric = Metric::gauge(
    "pgbouncer_databases_reserve_pool",
    DATABASE_LABELS,
    "Server connections beyond pool_size that a pool of the database may have when clients \
     wait long, SHOW DATABASES reserve_pool_size since 1.24, before, SHOW DATABASES \
     reserve_pool.",
);

pub(super) static DB_MIN_POOL: Metric = Metric::gauge(
    "pgbouncer_databases_min_pool_size",
    DATABASE_LABELS,
    "Server connections that are kept open for each pool of the database, SHOW DATABASES \
     min_pool_size.",
);

pub(super) static DB_MAX: Metric = Metric::gauge(
    "pgbouncer_databases_max_connections",
    DATABASE_LABELS,
    "Server connections that all pools of the database may have together, 0 for no limit, \
     SHOW DATABASES max_connections.",
);

pub(super) static DB_CURRENT: Metric = Metric::gauge(
    "pgbouncer_databases_current_connections",
    DATABASE_LABELS,
    "Server connections of all pools of the database, SHOW DATABASES current_connections.",
);

pub(super) static DB_MAX_CLIENTS: Metric = Metric::gauge(
    "pgbouncer_databases_max_client_connections",
    DATABASE_LABELS,
    "Client connections that the database may have, 0 for no limit (PgBouncer 1.24 and \
     later), SHOW DATABASES max_client_connections.",
);

pub(super) static DB_CLIENTS: Metric = Metric::gauge(
    "pgbouncer_databases_current_client_connections",
    DATABASE_LABELS,
    "Client connections of the database (PgBouncer 1.24 and later), SHOW DATABASES \
     current_client_connections.",
);

pub(super) static DB_PAUSED: Metric = Metric::gauge(
    "pgbouncer_databases_paused",
    DATABASE_LABELS,
    "Whether the database is paused: its clients wait, SHOW DATABASES paused.",
);

pub(super) static DB_DISABLED: Metric = Metric::gauge(
    "pgbouncer_databases_disabled",
    DATABASE_LABELS,
    "Whether the database is disabled: it takes no new clients, SHOW DATABASES disabled.",
);

/// Of `SHOW DATABASES`; a version has one of the two names of the reserve.
pub(super) static DATABASES: &[Column] = &[
    column("pool_size", &DB_POOL_SIZE),
    column("reserve_pool", &DB_RESERVE),
    column("reserve_pool_size", &DB_RESERVE),
    column("min_pool_size", &DB_MIN_POOL),
    column("max_connections", &DB_MAX),
    column("current_connections", &DB_CURRENT),
    column("max_client_connections", &DB_MAX_CLIENTS),
    column("current_client_connections", &DB_CLIENTS),
    column("paused", &DB_PAUSED),
    column("disabled", &DB_DISABLED),
];

pub(super) static XACTS: Metric = Metric::counter(
    "pgbouncer_stats_totals_sql_transactions_pooled_total",
    &["database"],
    "Transactions pooled, SHOW STATS_TOTALS xact_count.",
);

pub(super) static QUERIES: Metric = Metric::counter(
    "pgbouncer_stats_totals_queries_pooled_total",
    &["database"],
    "Statements pooled, SHOW STATS_TOTALS query_count.",
);

pub(super) static ASSIGNMENTS: Metric = Metric::counter(
    "pgbouncer_stats_totals_server_assignments_total",
    &["database"],
    "Times that a server connection was given to a client (PgBouncer 1.23 and later), SHOW \
     STATS_TOTALS server_assignment_count.",
);

pub(super) static RECEIVED: Metric = Metric::counter(
    "pgbouncer_stats_totals_received_bytes_total",
    &["database"],
    "Bytes received from clients, SHOW STATS_TOTALS bytes_received.",
);

pub(super) static SENT: Metric = Metric::counter(
    "pgbouncer_stats_totals_sent_bytes_total",
    &["database"],
    "Bytes sent to clients, SHOW STATS_TOTALS bytes_sent.",
);

pub(super) static XACT_TIME: Metric = Metric::counter(
    "pgbouncer_stats_totals_server_in_transaction_seconds_total",
    &["database"],
    "Time that server connections spent in transactions, idle or not, SHOW STATS_TOTALS \
     xact_time.",
);

pub(super) static QUERY_TIME: Metric = Metric::counter(
    "pgbouncer_stats_totals_queries_duration_seconds_total",
    &["database"],
    "Time that server connections spent on statements, SHOW STATS_TOTALS query_time.",
);

pub(super) static WAIT_TIME: Metric = Metric::counter(
    "pgbouncer_stats_totals_client_wait_seconds_total",
    &["database"],
    "Time that clients waited for a server connection, counted when they got one, SHOW \
     STATS_TOTALS wait_time.",
);

pub(super) static CLIENT_PARSES: Metric = Metric::counter(
    "pgbouncer_stats_totals_client_parses_total",
    &["database"],
    "Prepared statements made by clients (PgBouncer 1.24 and later), SHOW STATS_TOTALS \
     client_parse_count.",
);

pub(super) static SERVER_PARSES: Metric = Metric::counter(
    "pgbouncer_stats_totals_server_parses_total",
    &["database"],
    "Prepared statements made on servers (PgBouncer 1.24 and later), SHOW STATS_TOTALS \
     server_parse_count.",
);

pub(super) static BINDS: Metric = Metric::counter(
    "pgbouncer_stats_totals_binds_total",
    &["database"],
    "Prepared statements bound (PgBouncer 1.24 and later), SHOW STATS_TOTALS bind_count.",
);

pub(super) static LOGINS: Metric = Metric::counter(
    "pgbouncer_stats_totals_client_logins_total",
    &["database"],
    "Logins of clients (PgBouncer 1.26 and later), SHOW STATS_TOTALS client_login_count.",
);

/// Of `SHOW STATS_TOTALS`, since PgBouncer started.
pub(super) static TOTALS: &[Column] = &[
    column("xact_count", &XACTS),
    column("query_count", &QUERIES),
    column("server_assignment_count", &ASSIGNMENTS),
    column("bytes_received", &RECEIVED),
    column("bytes_sent", &SENT),
    micros("xact_time", &XACT_TIME),
    micros("query_time", &QUERY_TIME),
    micros("wait_time", &WAIT_TIME),
    column("client_parse_count", &CLIENT_PARSES),
    column("server_parse_count", &SERVER_PARSES),
    column("bind_count", &BINDS),
    column("client_login_count", &LOGINS),
];

pub(super) static L_DATABASES: Metric =
    Metric::gauge("pgbouncer_databases", &[], "Databases, SHOW LISTS databases.");

pub(super) static L_USERS: Metric =
    Metric::gauge("pgbouncer_users", &[], "Users, SHOW LISTS users.");

pub(super) static L_POOLS: Metric =
    Metric::gauge("pgbouncer_pools", &[], "Pools, SHOW LISTS pools.");

pub(super) static L_FREE_CLIENTS: Metric = Metric::gauge(
    "pgbouncer_free_clients",
    &[],
    "Client slots that are free for reuse, SHOW LISTS free_clients.",
);

pub(super) static L_USED_CLIENTS: Metric =
    Metric::gauge("pgbouncer_used_clients", &[], "Client connections, SHOW LISTS used_clients.");

pub(super) static L_LOGIN_CLIENTS: Metric = Metric::gauge(
    "pgbouncer_login_clients",
    &[],
    "Client connections that are logging in, SHOW LISTS login_clients.",
);

pub(super) static L_FREE_SERVERS: Metric = Metric::gauge(
    "pgbouncer_free_servers",
    &[],
    "Server slots that are free for reuse, SHOW LISTS free_servers.",
);

pub(super) static L_USED_SERVERS: Metric =
    Metric::gauge("pgbouncer_used_servers", &[], "Server connections, SHOW LISTS used_servers.");

pub(super) static L_DNS_NAMES: Metric = Metric::gauge(
    "pgbouncer_cached_dns_names",
    &[],
    "Host names in the cache of DNS answers, SHOW LISTS dns_names.",
);

pub(super) static L_DNS_ZONES: Metric = Metric::gauge(
    "pgbouncer_cached_dns_zones",
    &[],
    "Zones in the cache of DNS answers, SHOW LISTS dns_zones.",
);

pub(super) static L_DNS_QUERIES: Metric = Metric::gauge(
    "pgbouncer_in_flight_dns_queries",
    &[],
    "DNS queries under way, SHOW LISTS dns_queries.",
);

/// Of `SHOW LISTS`.
pub(super) static LISTS: &[(&str, &Metric)] = &[
    ("databases", &L_DATABASES),
    ("users", &L_USERS),
    ("pools", &L_POOLS),
    ("free_clients", &L_FREE_CLIENTS),
    ("used_clients", &L_USED_CLIENTS),
    ("login_clients", &L_LOGIN_CLIENTS),
    ("free_servers", &L_FREE_SERVERS),
    ("used_servers", &L_USED_SERVERS),
    ("dns_names", &L_DNS_NAMES),
    ("dns_zones", &L_DNS_ZONES),
    ("dns_queries", &L_DNS_QUERIES),
];

pub(super) static C_CLIENTS: Metric = Metric::gauge(
    "pgbouncer_config_max_client_connections",
    &[],
    "Client connections that PgBouncer accepts, SHOW CONFIG max_client_conn.",
);

pub(super) static C_USER: Metric = Metric::gauge(
    "pgbouncer_config_max_user_connections",
    &[],
    "Server connections that a user may have, 0 for no limit, SHOW CONFIG \
     max_user_connections.",
);

pub(super) static C_DB: Metric = Metric::gauge(
    "pgbouncer_config_max_db_connections",
    &[],
    "Server connections that a database may have, 0 for no limit, SHOW CONFIG \
     max_db_connections.",
);

pub(super) static C_POOL: Metric = Metric::gauge(
    "pgbouncer_config_default_pool_size",
    &[],
    "Server connections that a pool may have unless its database or user has a size of its \
     own, SHOW CONFIG default_pool_size.",
);

pub(super) static C_WAIT: Metric = Metric::gauge(
    "pgbouncer_config_query_wait_timeout_seconds",
    &[],
    "Time after which a waiting client is disconnected, 0 for never, SHOW CONFIG \
     query_wait_timeout.",
);

/// Of `SHOW CONFIG`.
pub(super) static CONFIG: &[(&str, &Metric)] = &[
    ("max_client_conn", &C_CLIENTS),
    ("max_user_connections", &C_USER),
    ("max_db_connections", &C_DB),
    ("default_pool_size", &C_POOL),
    ("query_wait_timeout", &C_WAIT),
];

pub(super) static MAXWAIT: Metric = Metric::gauge(
    "pgbouncer_pools_client_maxwait_seconds",
    POOL_LABELS,
    "How long the client that has waited longest has waited, SHOW POOLS maxwait and \
     maxwait_us.",
);

pub(super) static POOL_SIZE: Metric = Metric::gauge(
    "pgbouncer_pool_size",
    POOL_LABELS,
    "Server connections that the pool may have, reserve not counted: the user's pool_size of \
     SHOW USERS, else the database's of SHOW DATABASES.",
);

pub(super) static SATURATION: Metric = Metric::gauge(
    "pgbouncer_pool_saturation_ratio",
    POOL_LABELS,
    "Server connections of the pool that no waiting client can have (sv_active, \
     sv_active_cancel, sv_being_canceled, sv_tested, sv_login of SHOW POOLS) over \
     pgbouncer_pool_size; above 1 where the reserve is used.",
);

pub(super) static WAIT_RATIO: Metric = Metric::gauge(
    "pgbouncer_pool_client_wait_ratio",
    POOL_LABELS,
    "Share of the clients of the pool that wait, SHOW POOLS cl_waiting over cl_active and \
     cl_waiting; absent without clients.",
);

pub(super) static DATABASE_USED_RATIO: Metric = Metric::gauge(
    "pgbouncer_database_connections_used_ratio",
    &["database"],
    "Server connections of the database over its max_connections, from SHOW DATABASES; absent \
     without a limit.",
);

pub(super) static CLIENTS_USED_RATIO: Metric = Metric::gauge(
    "pgbouncer_clients_used_ratio",
    &[],
    "Client connections over the most that PgBouncer accepts, SHOW LISTS used_clients over \
     SHOW CONFIG max_client_conn.",
);

pub(super) static WAIT_OBJECTIVE: Metric = Metric::gauge(
    "pgbouncer_client_maxwait_objective_seconds",
    &[],
    "Longest acceptable pgbouncer_pools_client_maxwait_seconds, from the configuration.",
);

pub(super) static RECOMMENDATION: Metric = Metric::gauge(
    "pgbouncer_recommendation_active",
    &["id"],
    "Whether the recommendation holds, by its rule over the measurements of the last hour \
     (docs/recommendations.md); absent with too little evidence.",
);

/// What the collector may emit.
pub(super) static CATALOGUE: &[&Metric] = &[
    &CL_ACTIVE,
    &CL_ACTIVE_CANCEL,
    &CL_WAITING,
    &CL_WAITING_CANCEL,
    &SV_ACTIVE,
    &SV_ACTIVE_CANCEL,
    &SV_BEING_CANCELED,
    &SV_IDLE,
    &SV_USED,
    &SV_TESTED,
    &SV_LOGIN,
    &DB_POOL_SIZE,
    &DB_RESERVE,
    &DB_MIN_POOL,
    &DB_MAX,
    &DB_CURRENT,
    &DB_MAX_CLIENTS,
    &DB_CLIENTS,
    &DB_PAUSED,
    &DB_DISABLED,
    &XACTS,
    &QUERIES,
    &ASSIGNMENTS,
    &RECEIVED,
    &SENT,
    &XACT_TIME,
    &QUERY_TIME,
    &WAIT_TIME,
    &CLIENT_PARSES,
    &SERVER_PARSES,
    &BINDS,
    &LOGINS,
    &L_DATABASES,
    &L_USERS,
    &L_POOLS,
    &L_FREE_CLIENTS,
    &L_USED_CLIENTS,
    &L_LOGIN_CLIENTS,
    &L_FREE_SERVERS,
    &L_USED_SERVERS,
    &L_DNS_NAMES,
    &L_DNS_ZONES,
    &L_DNS_QUERIES,
    &C_CLIENTS,
    &C_USER,
    &C_DB,
    &C_POOL,
    &C_WAIT,
    &MAXWAIT,
    &POOL_SIZE,
    &SATURATION,
    &WAIT_RATIO,
    &DATABASE_USED_RATIO,
    &CLIENTS_USED_RATIO,
    &WAIT_OBJECTIVE,
    &RECOMMENDATION,
];
