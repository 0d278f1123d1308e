//! The metrics of the activity collector.
//!
//! Must not: hold logic.

use crate::metric::Metric;

pub static SESSIONS: Metric = Metric::counter(
    "pg_active_session_seconds_total",
    &["datname", "wait_event_type", "wait_event"],
    "Seconds that client backends and their parallel workers were active, by what they waited for, sampled from \
     pg_stat_activity.wait_event; CPU where they waited for nothing; its rate is the average number of active \
     sessions.",
);
pub static STATEMENTS: Metric = Metric::counter(
    "pg_statement_active_session_seconds_total",
    &["datname", "usename", "queryid", "wait_event_type"],
    "Seconds that backends were active with the statement, by what they waited for, sampled from \
     pg_stat_activity.query_id (PostgreSQL 14 and later, with compute_query_id); all statements beyond those that take \
     most of it, and what has no identifier, as other.",
);
pub static APPLICATIONS: Metric = Metric::counter(
    "pg_application_active_session_seconds_total",
    &["datname", "application_name", "wait_event_type"],
    "Seconds that backends of the application were active, by what they waited for, sampled from \
     pg_stat_activity.application_name; only with collectors.activity.by_application.",
);
pub static CLIENTS: Metric = Metric::counter(
    "pg_client_active_session_seconds_total",
    &["datname", "client_addr", "wait_event_type"],
    "Seconds that backends of the client were active, by what they waited for, sampled from \
     pg_stat_activity.client_addr (empty for Unix sockets); only with collectors.activity.by_client.",
);
pub static IDLE: Metric = Metric::counter(
    "pg_idle_in_transaction_session_seconds_total",
    &["datname"],
    "Seconds that client backends were idle in a transaction, aborted or not, sampled from pg_stat_activity.state.",
);
pub static WORKERS: Metric = Metric::counter(
    "pg_background_active_seconds_total",
    &["backend_type", "wait_event_type", "wait_event"],
    "Seconds that backends without a client (autovacuum, WAL senders, workers of extensions) were active, by what they \
     waited for, sampled from pg_stat_activity.backend_type; CPU where they waited for nothing.",
);
pub static RUNNING: Metric = Metric::gauge(
    "pg_running_statements",
    &["datname", "older_than"],
    "Statements of client backends that had been running for longer than so many seconds at the last sample, from \
     pg_stat_activity.query_start, without those that a pg_stat_progress_* view shows (VACUUM, ANALYZE, CREATE INDEX, \
     CLUSTER, COPY).",
);
pub static SLOW: Metric = Metric::gauge(
    "pg_running_statements_slow",
    &["datname"],
    "Those of pg_running_statements that had run for longer than pg_latency_objective_seconds: they are not in the \
     percentiles before they end.",
);
pub static OWN: Metric = Metric::counter(
    "pgrunway_activity_own_session_seconds_total",
    &[],
    "Seconds that this exporter's other session was active, sampled from pg_stat_activity; in no other figure of \
     active sessions.",
);
pub static SAMPLED: Metric = Metric::counter(
    "pgrunway_activity_sampled_seconds_total",
    &[],
    "Seconds that the samples of pg_stat_activity cover, each the time since the one before.",
);
pub static UNSAMPLED: Metric = Metric::counter(
    "pgrunway_activity_unsampled_seconds_total",
    &[],
    "Seconds that no sample of pg_stat_activity covers: a poll failed, came more than 10 s late, or found the \
     server restarted.",
);
pub static SAMPLES: Metric = Metric::counter(
    "pgrunway_activity_samples_total",
    &[],
    "Samples of pg_stat_activity that cover some time; the error of a share p of them is about \
     sqrt(p * (1 - p) / samples).",
);
pub static FOLDED: Metric = Metric::counter(
    "pgrunway_activity_folded_seconds_total",
    &["by"],
    "Session seconds counted as other because a limit of names was reached: of waits (2,000), of statements \
     (see collectors.statements.top), of applications and of clients (collectors.activity.most_names).",
);
pub static LOOK: Metric = Metric::gauge(
    "pgrunway_activity_look_seconds",
    &[],
    "How long the last sample took on the server, by its clock_timestamp(); the interval grows until that is at most \
     1 % of it.",
);

pub static CPUS: Metric = Metric::gauge(
    "pg_host_cpus",
    &[],
    "Processors of the machine that the server runs on, host.cpus of the configuration; absent without it.",
);

pub static RECOMMENDATION: Metric = Metric::gauge(
    "pg_wait_recommendation_active",
    &["id"],
    "Whether the recommendation about waits holds, by its rule over what was sampled in the last hour, see \
     docs/recommendations.md; absent where there is too little evidence to tell.",
);

pub static METRICS: &[&Metric] = &[
    &CPUS,
    &SESSIONS,
    &STATEMENTS,
    &APPLICATIONS,
    &CLIENTS,
    &IDLE,
    &WORKERS,
    &RUNNING,
    &SLOW,
    &OWN,
    &SAMPLED,
    &UNSAMPLED,
    &SAMPLES,
    &FOLDED,
    &LOOK,
    &RECOMMENDATION,
];
