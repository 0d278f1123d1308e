//! `pg_stat_database`: what each database did since its statistics were reset, and how much of what
//! it read was in shared buffers over a window.
//!
//! Must not: enter a database, or give a ratio where nothing was read.

use std::collections::HashMap;
use std::time::Duration;

use super::figures::{figures, listed};
use super::published::published;
use crate::collector::{Collector, Scope};
use crate::derive::delta::{DeltaWindow, ratio};
use crate::derive::rollup::{Reading, Rollup};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{IfColumn, Lossy, Row, Session, columns};

const LABELS: &[&str] = &["datid", "datname"];

static RATIO: Metric = Metric::gauge(
    "pg_cache_hit_ratio",
    &["datname"],
    "Share of the blocks read over the ratio window that were in shared buffers: increments of \
     pg_stat_database.blks_hit / (blks_hit + blks_read); absent where nothing was read.",
);
static CACHE_OBJECTIVE: Metric = Metric::gauge(
    "pg_cache_hit_ratio_objective",
    &[],
    "Lowest acceptable pg_cache_hit_ratio and pg_table_cache_hit_ratio, from the configuration.",
);
static INDEX_OBJECTIVE: Metric = Metric::gauge(
    "pg_index_scan_ratio_objective",
    &[],
    "Lowest acceptable pg_index_scan_ratio, from the configuration.",
);
static STATS_RESET: Metric = Metric::gauge(
    "pg_stat_database_stats_reset",
    LABELS,
    "Unix time of the last reset of the database's statistics, pg_stat_database.stats_reset; \
     absent if they never were (in postgres_exporter's profile 0).",
)
.counter_there();
static TEMP_OBJECTIVE: Metric = Metric::gauge(
    "pg_temp_bytes_objective_bytes_per_second",
    &[],
    "Highest acceptable rate of pg_stat_database_temp_bytes, from the configuration.",
);
static CHECKSUM_LAST: Metric = Metric::gauge(
    "pg_stat_database_checksum_last_failure_timestamp_seconds",
    LABELS,
    "Unix time at which a page of the database last failed its checksum, \
     pg_stat_database.checksum_last_failure; absent if none ever did.",
);

/// Counters. Those of some versions only: metric, its name, column, what to multiply it by, the first version. Then those
/// of every version, under postgres_exporter's names: metric, column.
macro_rules! counters {
    (
        some { $($some:ident $name:literal $some_column:ident $factor:literal $since:literal $some_what:literal;)* }
        every { $($every:ident $column:ident $what:literal;)* }
    ) => {
        $(static $some: Metric = Metric::counter(
            concat!("pg_stat_database_", $name, "_total"),
            LABELS,
            concat!($some_what, ", pg_stat_database.", stringify!($some_column), "."),
        );)*
        $(static $every: Metric = Metric::untyped(
            concat!("pg_stat_database_", stringify!($column)),
            LABELS,
            concat!(
                $what,
                ", pg_stat_database.",
                stringify!($column),
                "."
            ),
        ).counter_there();)*

        figures! {
            /// The view's counters, in the units of the metrics.
            pub struct DatabaseCounters: Option<f64> as IfColumn<Option<f64>> {
                $(#[doc = $some_what] $some_column => $some,)*
                $(#[doc = $what] $column => $every,)*
            }
        }
        /// Column, what to multiply it by, first version.
        const COLUMNS: [(&str, f64, i32); DatabaseCounters::N] =
            [$((stringify!($some_column), $factor, $since),)* $((stringify!($column), 1.0, 0),)*];
    };
}

counters! {
    some {
        ACTIVE_TIME "active_time_seconds" active_time 0.001 140000 "Seconds spent executing statements in the database (PostgreSQL 14 and later)";
        SESSION_TIME "session_time_seconds" session_time 0.001 140000 "Seconds of all sessions in the database (PostgreSQL 14 and later)";
        IDLE_TIME "idle_in_transaction_time_seconds" idle_in_transaction_time 0.001 140000 "Seconds that sessions idled in a transaction (PostgreSQL 14 and later)";
        SESSIONS "sessions" sessions 1.0 140000 "Sessions begun in the database (PostgreSQL 14 and later)";
        ABANDONED "sessions_abandoned" sessions_abandoned 1.0 140000 "Sessions that ended because the client was gone (PostgreSQL 14 and later)";
        FATAL "sessions_fatal" sessions_fatal 1.0 140000 "Sessions that ended by a fatal error (PostgreSQL 14 and later)";
        KILLED "sessions_killed" sessions_killed 1.0 140000 "Sessions that an operator ended (PostgreSQL 14 and later)";
        CHECKSUM_FAILURES "checksum_failures" checksum_failures 1.0 130000 "Pages that failed their checksum; absent where checksums are off";
        TO_LAUNCH "parallel_workers_to_launch" parallel_workers_to_launch 1.0 180000 "Parallel workers that queries planned to launch (PostgreSQL 18 and later)";
        LAUNCHED "parallel_workers_launched" parallel_workers_launched 1.0 180000 "Parallel workers that queries launched (PostgreSQL 18 and later)";
    }
    every {
        BLKS_HIT blks_hit "Blocks found in shared buffers";
        BLKS_READ blks_read "Blocks read from outside shared buffers";
        XACT_COMMIT xact_commit "Transactions committed";
        XACT_ROLLBACK xact_rollback "Transactions rolled back";
        TUP_RETURNED tup_returned "Live rows fetched by sequential scans and index entries returned by index scans";
        TUP_FETCHED tup_fetched "Live rows fetched by index scans";
        TUP_INSERTED tup_inserted "Rows inserted";
        TUP_UPDATED tup_updated "Rows updated";
        TUP_DELETED tup_deleted "Rows deleted";
        CONFLICTS conflicts "Queries cancelled by recovery on a standby";
        TEMP_FILES temp_files "Temporary files created by queries";
        TEMP_BYTES temp_bytes "Bytes written to temporary files by queries";
        DEADLOCKS deadlocks "Deadlocks detected";
        BLK_READ_TIME blk_read_time "Milliseconds spent reading blocks (0 unless track_io_timing is on)";
        BLK_WRITE_TIME blk_write_time "Milliseconds spent writing blocks (0 unless track_io_timing is on)";
    }
}

static METRICS: [&Metric; 6 + DatabaseCounters::N] = listed(&[
    &[&RATIO, &CACHE_OBJECTIVE, &INDEX_OBJECTIVE, &STATS_RESET, &TEMP_OBJECTIVE, &CHECKSUM_LAST],
    &DatabaseCounters::METRICS,
]);

published! {
    /// `pg_cache_hit_ratio`.
    pub struct HitRatio of RATIO { datname => ratio: f64 }
}

published! {
    /// `pg_cache_hit_ratio_objective`.
    pub struct HitRatioObjective of CACHE_OBJECTIVE { => ratio: f64 }
}
published! {
    /// `pg_index_scan_ratio_objective`.
    pub struct ScanRatioObjective of INDEX_OBJECTIVE { => ratio: f64 }
}
published! {
    /// `pg_stat_database_temp_bytes`.
    pub struct TemporaryBytes of TEMP_BYTES { datname => bytes: f64 }
}
published! {
    /// `pg_stat_database_xact_commit`.
    pub struct Commits of XACT_COMMIT { datname => count: f64 }
}
published! {
    /// `pg_stat_database_deadlocks`.
    pub struct Deadlocks of DEADLOCKS { datname => count: f64 }
}

pub struct Cache;

columns! {
    /// One row of `pg_stat_database`.
    #[derive(Debug, Clone)]
    pub struct DatabaseRow {
        /// OID.
        pub datid: i64,
        /// Database.
        pub datname: String as Lossy,
        /// Unix seconds.
        pub stats_reset: Option<f64>,
        /// Unix seconds.
        pub checksum_last_failure: Option<f64>,
        /// What it counts.
        pub counters: DatabaseCounters,
    }
}

/// What the configuration asks for.
#[derive(Debug, Clone, Copy)]
pub struct RatioObjectives {
    /// Least share of blocks found in shared buffers.
    pub cache_hit_ratio: f64,
    /// Least share of scans that use an index.
    pub index_scan_ratio: f64,
    /// Most bytes a second to temporary files.
    pub temp_bytes_per_second: f64,
}

/// What one poll read.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Monotonic seconds.
    pub at: f64,
    /// Unix seconds of the server's start.
    pub started: f64,
    /// Seconds.
    pub window: f64,
    /// From the configuration.
    pub objectives: RatioObjectives,
    /// All databases.
    pub databases: Vec<DatabaseRow>,
}

/// Totals since the first poll, and the window of (hit, read) per database.
#[derive(Debug, Default)]
pub struct State {
    totals: Rollup<{ DatabaseCounters::N }>,
    windows: HashMap<i64, DeltaWindow<2>>,
}

fn sql(version_num: i32) -> String {
    let columns: Vec<String> = COLUMNS
        .iter()
        .filter(|(_, _, since)| version_num >= *since)
        .map(|(column, factor, _)| match factor {
            1.0 => format!("d.{column}::float8"),
            _ => format!("(d.{column} * {factor})::float8 AS {column}"),
        })
        .collect();
    format!(
        "SELECT d.datid::int8, pg_catalog.textsend(d.datname::text) AS datname, \
                pg_catalog.date_part('epoch', d.stats_reset)::float8 AS stats_reset, \
                pg_catalog.date_part('epoch', d.checksum_last_failure)::float8 \
                  AS checksum_last_failure, {} \
           FROM pg_catalog.pg_stat_database d WHERE d.datname IS NOT NULL ORDER BY d.datname",
        columns.join(", ")
    )
}

impl Collector for Cache {
    type Rows = Rows;
    type State = State;
    const NAME: &'static str = "cache";
    const HELP: &'static str = "Activity and cache hit ratio per database, from pg_stat_database.";
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(15);
    const METRICS: &'static [&'static Metric] = &METRICS;

    async fn fetch(&self, session: &Session, _: &State) -> Result<Rows, CollectError> {
        let sql = sql(session.server().version_num);
        let rows = session.read(sql.as_str()).await?;
        let settings = session.settings();
        Ok(Rows {
            at: session.seconds(),
            started: session.server().started,
            window: settings.ratio_window.as_secs_f64(),
            objectives: RatioObjectives {
                cache_hit_ratio: settings.objectives.cache_hit_ratio,
                index_scan_ratio: settings.objectives.index_scan_ratio,
                temp_bytes_per_second: settings.objectives.temp_bytes_per_second,
            },
            databases: Row::all(&rows)?,
        })
    }

    fn derive(&self, state: &mut State, rows: Rows, sink: &mut Sink) {
        sink.number(&CACHE_OBJECTIVE, &[], rows.objectives.cache_hit_ratio);
        sink.number(&INDEX_OBJECTIVE, &[], rows.objectives.index_scan_ratio);
        sink.number(&TEMP_OBJECTIVE, &[], rows.objectives.temp_bytes_per_second);
        let readings: Vec<_> = rows
            .databases
            .iter()
            .map(|d| {
                let counters =
                    <[_; DatabaseCounters::N]>::from(d.counters).map(|c| c.unwrap_or(0.0));
                Reading { id: d.datid, root: d.datid, alias: None, counters }
            })
            .collect();
        state.totals.update(rows.started, &readings);
        state.windows.retain(|id, _| state.totals.total(*id).is_some());
        for database in &rows.databases {
            let Some(total) = state.totals.total(database.datid) else { continue };
            let datid = database.datid.to_string();
            let labels = [datid.as_str(), database.datname.as_str()];
            let never = sink.is_compatible().then_some(0.0);
            sink.number(&STATS_RESET, &labels, database.stats_reset.or(never));
            sink.number(&CHECKSUM_LAST, &labels, database.checksum_last_failure);
            let counters = <[_; DatabaseCounters::N]>::from(database.counters);
            for (metric, value) in DatabaseCounters::METRICS.iter().zip(counters) {
                sink.number(metric, &labels, value);
            }
            let total = DatabaseCounters::from(total.map(Some));
            let window = state.windows.entry(database.datid);
            let window = window.or_insert_with(|| DeltaWindow::new(rows.window));
            let blocks = [total.blks_hit, total.blks_read].map(Option::unwrap_or_default);
            window.push(rows.at, blocks);
            let [hit, read] = window.sums();
            let DatabaseCounters { blks_hit: Some(_), blks_read: Some(_), .. } = database.counters
            else {
                continue;
            };
            sink.number(&RATIO, &labels[1..], ratio(hit, hit + read));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll, value};
    use super::*;

    /// Counter `i` of a database reads `base + i`, except for (hit, read).
    fn database(datid: i64, datname: &str, hit: f64, read: f64, base: f64) -> DatabaseRow {
        let some = COLUMNS.iter().filter(|(_, _, since)| *since > 0).count();
        let mut next = base;
        let mut counters = [Some(base / 100.0); DatabaseCounters::N];
        for counter in &mut counters[some..] {
            *counter = Some(next);
            next += 1.0;
        }
        let counters = DatabaseCounters {
            blks_hit: Some(hit),
            blks_read: Some(read),
            parallel_workers_to_launch: None,
            parallel_workers_launched: None,
            ..DatabaseCounters::from(counters)
        };
        DatabaseRow {
            datid,
            datname: datname.to_owned(),
            stats_reset: Some(1_700_000_000.0),
            checksum_last_failure: None,
            counters,
        }
    }

    fn rows(at: f64, databases: Vec<DatabaseRow>) -> Rows {
        let objectives = RatioObjectives {
            cache_hit_ratio: 0.95,
            index_scan_ratio: 0.9,
            temp_bytes_per_second: 1e7,
        };
        Rows { at, started: 1.0, window: 60.0, objectives, databases }
    }

    #[test]
    fn golden_after_three_polls_with_a_reset() {
        let mut state = State::default();
        let first = poll(
            &Cache,
            &mut state,
            rows(
                0.0,
                vec![
                    database(5, "app", 1000.0, 500.0, 100.0),
                    database(6, "a\"b\\c\nd", 10.0, 1.0, 0.0),
                ],
            ),
        );
        assert_eq!(value(&first, "pg_cache_hit_ratio", &["app"]), None, "no increments yet");
        assert_eq!(value(&first, "pg_stat_database_blks_hit", &["5", "app"]), Some(1000.0));
        let second = poll(
            &Cache,
            &mut state,
            rows(
                15.0,
                vec![
                    database(5, "app", 1090.0, 510.0, 100.0),
                    database(6, "a\"b\\c\nd", 10.0, 1.0, 0.0),
                ],
            ),
        );
        assert_eq!(value(&second, "pg_cache_hit_ratio", &["app"]), Some(0.9));
        assert_eq!(value(&second, "pg_cache_hit_ratio", &["a\"b\\c\nd"]), None, "no reads");
        // Reset: `app` counted 60 hits and 40 reads since, and its other counters start at 0 too.
        let mut app = database(5, "app", 60.0, 40.0, 0.0);
        app.stats_reset = Some(1_700_000_020.0);
        let mut young = database(7, "young", 0.0, 0.0, 0.0);
        young.stats_reset = None;
        for (i, (_, _, since)) in COLUMNS.iter().enumerate() {
            let mut counters: [_; DatabaseCounters::N] = young.counters.into();
            counters[i] = counters[i].filter(|_| *since == 0);
            young.counters = counters.into();
        }
        young.checksum_last_failure = Some(1_700_000_010.0);
        let third = poll(
            &Cache,
            &mut state,
            rows(30.0, vec![app, database(6, "a\"b\\c\nd", 10.0, 1.0, 0.0), young]),
        );
        assert_eq!(value(&third, "pg_cache_hit_ratio", &["app"]), Some(150.0 / 200.0));
        assert_eq!(value(&third, "pg_stat_database_blks_hit", &["5", "app"]), Some(60.0));
        check("cache", &third);
    }

    #[test]
    fn the_catalogue_holds_every_column_once() {
        let mut names: Vec<_> = METRICS.iter().map(|m| m.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
    }
}
