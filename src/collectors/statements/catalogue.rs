//! Everything that the statements collector may emit.
//!
//! Must not: hold logic.

use super::bars::Metrics;
use crate::metric::Metric;

const STATEMENT: &[&str] = &["datname", "usename", "queryid"];
/// postgres_exporter's labels.
const ENTRY: &[&str] = &["user", "datname", "queryid"];

pub(super) static OBJECTIVE: Metric = Metric::gauge(
    "pg_latency_objective_seconds",
    &[],
    "Highest acceptable 95th percentile of pg_query_latency_seconds, from the configuration.",
);

pub(super) static SLO: Metric = Metric::gauge(
    "pg_query_latency_slo_ratio",
    &[],
    "Share of the calls in pg_query_duration_seconds that must end within 50 ms, from the configuration.",
);
pub(super) static QUERY_DURATION: Metric = Metric::histogram(
    "pg_query_duration_seconds",
    &["datname"],
    "Executor time of all top-level statements of a database that ended, pgrunway's own left out, from \
     increments of pg_stat_statements.calls, total_exec_time and stddev_exec_time: count and sum are \
     exact, the buckets partly estimated.",
);
// Gauges, but promtool takes a `quantile` label for a fault in anything that has a type.
pub(super) static QUERY_LATENCY: Metric = Metric::untyped(
    "pg_query_latency_seconds",
    &["datname", "window", "quantile"],
    "Estimated quantile of the executor time of a database's top-level statements that ended within \
     the window, from pg_stat_statements; absent without calls.",
);
macro_rules! bars {
    ($set:ident $prefix:literal $whose:literal; $latency:ident [$($label:literal),*]
     $low:ident $high:ident $ill_defined:ident $slow:ident $slow_low:ident $slow_high:ident) => {
        pub(super) static $low: Metric = Metric::untyped(
            concat!($prefix, "_latency_low_seconds"),
            &[$($label,)* "window", "quantile", "level"],
            concat!("Lower end of the error bar of ", $prefix, "_latency_seconds, from the moments in \
                     pg_stat_statements: level=\"certain\" holds for any distribution and is absent where calls \
                     were lost, level=\"likely\" holds in about nine of ten cases."),
        );
        pub(super) static $high: Metric = Metric::untyped(
            concat!($prefix, "_latency_high_seconds"),
            &[$($label,)* "window", "quantile", "level"],
            concat!("Upper end of the error bar of ", $prefix, "_latency_seconds, from the moments in \
                     pg_stat_statements, as ", $prefix, "_latency_low_seconds is its lower one."),
        );
        pub(super) static $ill_defined: Metric = Metric::untyped(
            concat!($prefix, "_latency_ill_defined"),
            &[$($label,)* "window", "quantile"],
            concat!("1 where the likely error bar of ", $prefix, "_latency_seconds spans more than a factor of four, \
                     because the quantile falls between two modes or into a tail that pg_stat_statements says too \
                     little about, else 0."),
        );
        pub(super) static $slow: Metric = Metric::gauge(
            concat!($prefix, "_slow_ratio"),
            &[$($label,)* "window"],
            concat!("Estimated share of ", $whose, " calls that ended within the window and took longer than \
                     pg_latency_objective_seconds, from pg_stat_statements; absent without calls."),
        );
        pub(super) static $slow_low: Metric = Metric::gauge(
            concat!($prefix, "_slow_ratio_low"),
            &[$($label,)* "window"],
            concat!("What ", $prefix, "_slow_ratio is at least, for certain, from the moments in pg_stat_statements; \
                     absent where calls were lost."),
        );
        pub(super) static $slow_high: Metric = Metric::gauge(
            concat!($prefix, "_slow_ratio_high"),
            &[$($label,)* "window"],
            concat!("What ", $prefix, "_slow_ratio is at most, for certain, from the moments in pg_stat_statements; \
                     absent where calls were lost."),
        );
        pub(super) static $set: Metrics = Metrics {
            latency: &$latency,
            low: &$low,
            high: &$high,
            ill_defined: &$ill_defined,
            slow: &$slow,
            slow_low: &$slow_low,
            slow_high: &$slow_high,
        };
    };
}

bars! {
    QUERY "pg_query" "a database's";
    QUERY_LATENCY ["datname"]
    QUERY_LOW QUERY_HIGH QUERY_ILL_DEFINED QUERY_SLOW QUERY_SLOW_LOW QUERY_SLOW_HIGH
}

bars! {
    STATEMENT_BARS "pg_statement" "a statement's";
    LATENCY ["datname", "usename", "queryid"]
    LOW HIGH ILL_DEFINED SLOW SLOW_LOW SLOW_HIGH
}

pub(super) static QUERY_EXACT: Metric = Metric::counter(
    "pg_query_exact_calls_total",
    &["datname"],
    "Calls in pg_query_duration_seconds whose executor time was observed, not estimated: an interval \
     of one or two calls, or a new extreme in pg_stat_statements.min_exec_time or max_exec_time.",
);
pub(super) static QUERY_EXACT_RATIO: Metric = Metric::gauge(
    "pg_query_latency_exact_ratio",
    &["datname"],
    "Share of the calls of the last 5 minutes in pg_query_duration_seconds whose executor time was \
     observed in pg_stat_statements, not estimated; absent without calls.",
);

pub(super) static PLANNING_DURATION: Metric = Metric::histogram(
    "pg_query_planning_duration_seconds",
    &["datname"],
    "Planning time of all plans of a database's top-level statements, pgrunway's own left out, from \
     increments of pg_stat_statements.plans, total_plan_time and stddev_plan_time: count and sum are \
     exact, the buckets partly estimated; only where pg_stat_statements.track_planning is on.",
);
pub(super) static PLANNING_LATENCY: Metric = Metric::untyped(
    "pg_query_planning_latency_seconds",
    &["datname", "window", "quantile"],
    "Estimated quantile of the planning time of a database's top-level statements within the window, \
     from pg_stat_statements; absent without plans, and unless pg_stat_statements.track_planning is \
     on.",
);

pub(super) static DURATION: Metric = Metric::histogram(
    "pg_statement_duration_seconds",
    STATEMENT,
    "Executor time of the calls of a statement since it was first exposed, at any nesting level, from \
     increments of pg_stat_statements: count and sum are exact, the buckets partly estimated; \
     queryid=\"other\" is every statement that was not exposed at the time.",
);
pub(super) static LATENCY: Metric = Metric::untyped(
    "pg_statement_latency_seconds",
    &["datname", "usename", "queryid", "window", "quantile"],
    "Estimated quantile of the executor time of a statement's calls that ended within the window, from \
     pg_stat_statements; absent without calls.",
);
pub(super) static INFO: Metric = Metric::gauge(
    "pg_statement_info",
    &["datname", "usename", "queryid", "query"],
    "Constant 1 with the text of an exposed statement, truncated, from pg_stat_statements.query, with \
     ? for constants that the server left there and without comments, of utility statements that are \
     not of transactions, maintenance or relations the first word only; only where the configuration asks for it.",
);

pub(super) static QUERY_ID: Metric = Metric::gauge(
    "pg_stat_statements_query_id",
    &["queryid", "query"],
    "Constant 1 with the text of an exposed statement as in pg_statement_info, under postgres_exporter's name and without \
     its database and role; only where the configuration asks for it, from pg_stat_statements.query.",
)
.counter_there();

macro_rules! counters {
    ($($ident:ident $name:literal $help:literal;)*) => {
        $(pub(super) static $ident: Metric = Metric::counter(
            concat!("pg_stat_statements_", $name, "_total"),
            ENTRY,
            concat!($help, "; queryid=\"other\" adds up the increments of all statements that were not \
                    exposed at the time, since pgrunway began to watch."),
        );)*
    };
}

counters! {
    CALLS "calls" "Calls of a statement, pg_stat_statements.calls";
    SECONDS "seconds" "Executor time of a statement in seconds, pg_stat_statements.total_exec_time";
    ROWS "rows" "Rows retrieved or affected by a statement, pg_stat_statements.rows";
    BLOCK_READ_SECONDS "block_read_seconds" "Seconds a statement spent reading blocks (0 unless track_io_timing is on), pg_stat_statements.blk_read_time or shared_blk_read_time";
    BLOCK_WRITE_SECONDS "block_write_seconds" "Seconds a statement spent writing blocks (0 unless track_io_timing is on), pg_stat_statements.blk_write_time or shared_blk_write_time";
    BLOCKS_HIT "shared_blocks_hit" "Blocks a statement found in shared buffers, pg_stat_statements.shared_blks_hit";
    BLOCKS_READ "shared_blocks_read" "Blocks a statement read from outside shared buffers, pg_stat_statements.shared_blks_read";
    TEMP_BLOCKS_WRITTEN "temp_blocks_written" "Temporary blocks a statement wrote, pg_stat_statements.temp_blks_written";
    PLANS "plans" "Times a statement was planned (only where pg_stat_statements.track_planning is on), pg_stat_statements.plans";
    PLAN_SECONDS "plan_seconds" "Planning time of a statement in seconds (only where pg_stat_statements.track_planning is on), pg_stat_statements.total_plan_time";
}

pub(super) static ENTRIES: Metric =
    Metric::gauge("pg_stat_statements_entries", &[], "Rows in pg_stat_statements.");
pub(super) static MAX_ENTRIES: Metric = Metric::gauge(
    "pg_stat_statements_max_entries",
    &[],
    "Rows that pg_stat_statements can hold before it evicts some, the setting pg_stat_statements.max.",
);
pub(super) static HIDDEN: Metric = Metric::gauge(
    "pg_stat_statements_hidden_entries",
    &[],
    "Rows of pg_stat_statements left out because their queryid is hidden from the role, which lacks \
     pg_read_all_stats.",
);
pub(super) static DEALLOC: Metric = Metric::counter(
    "pg_stat_statements_dealloc_total",
    &[],
    "Evictions of the least used rows, pg_stat_statements_info.dealloc (PostgreSQL 14 and later); calls of evicted rows may be missing \
     everywhere.",
);
pub(super) static EVICTED: Metric = Metric::counter(
    "pg_stat_statements_evicted_entries_total",
    &[],
    "Rows of pg_stat_statements that were seen and then evicted since pgrunway started, by \
     pg_stat_statements_info.dealloc (PostgreSQL 14 and later); each may have lost the calls after its last \
     reading, and rows that came and went between two readings are not counted.",
);
pub(super) static RESETS: Metric = Metric::counter(
    "pg_stat_statements_resets_total",
    &[],
    "Resets of all of pg_stat_statements seen since pgrunway started, changes of \
     pg_stat_statements_info.stats_reset (PostgreSQL 14 and later).",
);
pub(super) static RESTARTED: Metric = Metric::counter(
    "pg_stat_statements_restarted_entries_total",
    &[],
    "Rows of pg_stat_statements whose counts began again since pgrunway started: reset, or evicted and added \
     again.",
);
pub(super) static UNRELIABLE: Metric = Metric::counter(
    "pg_stat_statements_unreliable_intervals_total",
    &["reason"],
    "Intervals between two readings of a row of pg_stat_statements whose calls are right but whose \
     estimated shape is not: inconsistent (the row seems to have been reset and to have passed its old count \
     since) or imprecise (stddev_exec_time lost the variance to rounding).",
);
pub(super) static SCAN_SECONDS: Metric = Metric::gauge(
    "pgrunway_statements_scan_seconds",
    &[],
    "Duration of one scan of pg_stat_statements by the server's clock, smoothed; the poll interval \
     follows from it.",
);

pub(super) static OWN_CALLS: Metric = Metric::counter(
    "pgrunway_own_statements_total",
    &[],
    "Calls of pgrunway's own statements (of its role, with its comment in the text), which the other metrics \
     leave out, from pg_stat_statements.calls.",
);
pub(super) static OWN_SECONDS: Metric = Metric::counter(
    "pgrunway_own_statements_seconds_total",
    &[],
    "Executor time of pgrunway's own statements, from pg_stat_statements.total_exec_time: what \
     watching costs the server.",
);

pub(super) static METRICS: &[&Metric] = &[
    &OBJECTIVE,
    &SLO,
    &QUERY_DURATION,
    &QUERY_LATENCY,
    &QUERY_LOW,
    &QUERY_HIGH,
    &QUERY_ILL_DEFINED,
    &QUERY_SLOW,
    &QUERY_SLOW_LOW,
    &QUERY_SLOW_HIGH,
    &QUERY_EXACT,
    &QUERY_EXACT_RATIO,
    &PLANNING_DURATION,
    &PLANNING_LATENCY,
    &DURATION,
    &LATENCY,
    &LOW,
    &HIGH,
    &ILL_DEFINED,
    &SLOW,
    &SLOW_LOW,
    &SLOW_HIGH,
    &INFO,
    &QUERY_ID,
    &CALLS,
    &SECONDS,
    &ROWS,
    &BLOCKS_HIT,
    &BLOCKS_READ,
    &TEMP_BLOCKS_WRITTEN,
    &BLOCK_READ_SECONDS,
    &BLOCK_WRITE_SECONDS,
    &PLANS,
    &PLAN_SECONDS,
    &ENTRIES,
    &MAX_ENTRIES,
    &HIDDEN,
    &DEALLOC,
    &EVICTED,
    &RESETS,
    &RESTARTED,
    &UNRELIABLE,
    &SCAN_SECONDS,
    &OWN_CALLS,
    &OWN_SECONDS,
];
