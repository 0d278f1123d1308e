//! The metrics of the blocking collector.
//!
//! Must not: hold logic.

use crate::metric::Metric;

const DATNAME: &[&str] = &["datname"];

pub static ROOTS: Metric = Metric::gauge(
    "pg_root_blockers",
    &["datname", "state"],
    "Sessions and prepared transactions that block others and wait for no lock themselves, by database and by \
     pg_stat_activity.state (of a backend without a client its backend_type, prepared for a prepared transaction), from \
     pg_blocking_pids(); absent where there is none.",
);
pub static HELD_UP: Metric = Metric::gauge(
    "pg_root_blocker_held_up_sessions",
    DATNAME,
    "Most sessions that one session or prepared transaction of the database blocks, directly or through others, \
     from \
     pg_blocking_pids() and pg_locks.",
);
pub static OVERDUE: Metric = Metric::gauge(
    "pg_root_blocker_overdue_sessions",
    DATNAME,
    "Most sessions that one session or prepared transaction of the database has blocked, directly or through \
     others, for longer than pg_longest_lock_wait_objective_seconds, from pg_locks.waitstart, before PostgreSQL \
     14 from \
     pg_stat_activity.query_start.",
);
pub static LONGEST: Metric = Metric::gauge(
    "pg_root_blocker_longest_wait_seconds",
    DATNAME,
    "Longest time that a session has waited behind a session or prepared transaction of the database, from \
     pg_locks.waitstart, before PostgreSQL 14 from pg_stat_activity.query_start; absent where none waits.",
);
pub static WORST: Metric = Metric::gauge(
    "pg_root_blocker_sessions",
    &["datname", "usename", "application_name", "state", "queryid", "pid"],
    "Sessions that this one blocks, directly or through others, from pg_blocking_pids(); only of the five that \
     block most, and only once one of those sessions has waited longer than \
     pg_longest_lock_wait_objective_seconds; a prepared transaction has the \
     state prepared and no pid.",
);
pub static IN_CIRCLE: Metric = Metric::gauge(
    "pg_deadlocked_sessions",
    &[],
    "Sessions that wait for each other in a circle, or behind one, from pg_blocking_pids(): deadlocks that the \
     server has not ended yet (deadlock_timeout).",
);
pub static UNRESOLVED: Metric = Metric::gauge(
    "pg_blocking_unresolved_sessions",
    &[],
    "Sessions that wait for a lock and whose blocker is not known: a poll asks pg_blocking_pids() of 20 \
     sessions at most, those that have waited longest for one lock each.",
);
pub static OBJECTIVE: Metric = Metric::gauge(
    "pg_blocked_sessions_objective",
    &[],
    "Sessions blocked by one for longer than pg_longest_lock_wait_objective_seconds at which an alert pages, \
     from the configuration.",
);
pub static LOOK: Metric = Metric::gauge(
    "pgrunway_blocking_look_seconds",
    &[],
    "How long the last look for blockers took on the server, by its clock_timestamp(); the interval grows until that is \
     at most half a per cent of it.",
);

pub static METRICS: &[&Metric] =
    &[&OBJECTIVE, &ROOTS, &HELD_UP, &OVERDUE, &LONGEST, &WORST, &IN_CIRCLE, &UNRESOLVED, &LOOK];
