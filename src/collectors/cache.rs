//! `pg_stat_database`: what each database did since its statistics were reset, and how much of what
//! it read was in shared buffers over a window.
//!
//! Must not: enter a database, or give a ratio where nothing was read.

use std::collections::HashMap;
use std::time::Duration;

use crate::collector::{Collector, Scope};
use crate::derive::delta::{Window, ratio};
use crate::derive::rollup::{Reading, Rollup};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{Lossy, Session};

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
     absent if they never were.",
);
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

/// Counters that some versions or servers lack: metric, unit factor, column, first version.
macro_rules! optional {
    ($($ident:ident $name:literal $column:literal $factor:literal $since:literal $what:literal;)*) => {
        $(static $ident: Metric = Metric::counter(
            concat!("pg_stat_database_", $name, "_total"),
            LABELS,
            concat!($what, ", pg_stat_database.", $column, ", since pgrunway began to watch."),
        );)*
        /// In the order of [`Database::optional`].
        static OPTIONAL: [&Metric; M] = [$(&$ident),*];
        const OPTIONAL_COLUMNS: [(&str, f64, i32); M] = [$(($column, $factor, $since)),*];
    };
}
const M: usize = 10;

optional! {
    ACTIVE_TIME "active_time_seconds" "active_time" 0.001 140000 "Seconds spent executing statements in the database (PostgreSQL 14 and later)";
    SESSION_TIME "session_time_seconds" "session_time" 0.001 140000 "Seconds of all sessions in the database (PostgreSQL 14 and later)";
    IDLE_TIME "idle_in_transaction_time_seconds" "idle_in_transaction_time" 0.001 140000 "Seconds that sessions idled in a transaction (PostgreSQL 14 and later)";
    SESSIONS "sessions" "sessions" 1.0 140000 "Sessions begun in the database (PostgreSQL 14 and later)";
    ABANDONED "sessions_abandoned" "sessions_abandoned" 1.0 140000 "Sessions that ended because the client was gone (PostgreSQL 14 and later)";
    FATAL "sessions_fatal" "sessions_fatal" 1.0 140000 "Sessions that ended by a fatal error (PostgreSQL 14 and later)";
    KILLED "sessions_killed" "sessions_killed" 1.0 140000 "Sessions that an operator ended (PostgreSQL 14 and later)";
    CHECKSUM_FAILURES "checksum_failures" "checksum_failures" 1.0 130000 "Pages that failed their checksum; absent where checksums are off";
    TO_LAUNCH "parallel_workers_to_launch" "parallel_workers_to_launch" 1.0 180000 "Parallel workers that queries planned to launch (PostgreSQL 18 and later)";
    LAUNCHED "parallel_workers_launched" "parallel_workers_launched" 1.0 180000 "Parallel workers that queries launched (PostgreSQL 18 and later)";
}

/// Counters by nature, under postgres_exporter's names.
macro_rules! cumulative {
    ($($ident:ident $column:literal $what:literal;)*) => {
        $(static $ident: Metric = Metric::untyped(
            concat!("pg_stat_database_", $column),
            LABELS,
            concat!(
                $what,
                ", pg_stat_database.",
                $column,
                ", since pgrunway began to watch; never falling."
            ),
        );)*
        /// In the order of [`Database::counters`], which follows the columns of [`sql`].
        static CUMULATIVE: &[&Metric] = &[$(&$ident),*];
        const COLUMNS: &[&str] = &[$($column),*];
    };
}

cumulative! {
    BLKS_HIT "blks_hit" "Blocks found in shared buffers";
    BLKS_READ "blks_read" "Blocks read from outside shared buffers";
    XACT_COMMIT "xact_commit" "Transactions committed";
    XACT_ROLLBACK "xact_rollback" "Transactions rolled back";
    TUP_RETURNED "tup_returned" "Live rows fetched by sequential scans and index entries returned by index scans";
    TUP_FETCHED "tup_fetched" "Live rows fetched by index scans";
    TUP_INSERTED "tup_inserted" "Rows inserted";
    TUP_UPDATED "tup_updated" "Rows updated";
    TUP_DELETED "tup_deleted" "Rows deleted";
    CONFLICTS "conflicts" "Queries cancelled by recovery on a standby";
    TEMP_FILES "temp_files" "Temporary files created by queries";
    TEMP_BYTES "temp_bytes" "Bytes written to temporary files by queries";
    DEADLOCKS "deadlocks" "Deadlocks detected";
    BLK_READ_TIME "blk_read_time" "Milliseconds spent reading blocks (0 unless track_io_timing is on)";
    BLK_WRITE_TIME "blk_write_time" "Milliseconds spent writing blocks (0 unless track_io_timing is on)";
}

/// The view's cumulative columns that go out under their own name.
const N: usize = COLUMNS.len();

static METRICS: &[&Metric] = &[
    &RATIO,
    &CACHE_OBJECTIVE,
    &INDEX_OBJECTIVE,
    &STATS_RESET,
    &TEMP_OBJECTIVE,
    &CHECKSUM_LAST,
    &ACTIVE_TIME,
    &SESSION_TIME,
    &IDLE_TIME,
    &SESSIONS,
    &ABANDONED,
    &FATAL,
    &KILLED,
    &CHECKSUM_FAILURES,
    &TO_LAUNCH,
    &LAUNCHED,
    &BLKS_HIT,
    &BLKS_READ,
    &XACT_COMMIT,
    &XACT_ROLLBACK,
    &TUP_RETURNED,
    &TUP_FETCHED,
    &TUP_INSERTED,
    &TUP_UPDATED,
    &TUP_DELETED,
    &CONFLICTS,
    &TEMP_FILES,
    &TEMP_BYTES,
    &DEADLOCKS,
    &BLK_READ_TIME,
    &BLK_WRITE_TIME,
];

pub struct Cache;

/// One row of `pg_stat_database`.
#[derive(Debug, Clone)]
pub struct Database {
    /// Oid.
    pub datid: i64,
    /// Name.
    pub datname: String,
    /// Unix seconds.
    pub stats_reset: Option<f64>,
    /// Unix seconds.
    pub checksum_last_failure: Option<f64>,
    /// What not every version and server has, in the units of the metrics.
    pub optional: [Option<f64>; M],
    /// The columns that are counters, in their own units.
    pub counters: [f64; N],
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
    /// Objectives: cache hit ratio, index scan ratio, bytes a second to temporary files.
    pub objectives: [f64; 3],
    /// All databases.
    pub databases: Vec<Database>,
}

/// Totals since the first poll, and the window of (hit, read) per database.
#[derive(Debug, Default)]
pub struct State {
    /// The optional counters follow the others.
    totals: Rollup<{ N + M }>,
    windows: HashMap<i64, Window<2>>,
}

fn sql(version_num: i32) -> String {
    let optional =
        OPTIONAL_COLUMNS.iter().map(|(column, factor, since)| match version_num >= *since {
            true => format!("d.{column}::float8 * {factor}"),
            false => "NULL::float8".to_owned(),
        });
    let columns = COLUMNS.iter().map(|c| format!("d.{c}::float8"));
    let columns: Vec<String> = columns.chain(optional).collect();
    format!(
        "SELECT d.datid::int8, pg_catalog.textsend(d.datname::text), \
                pg_catalog.date_part('epoch', d.stats_reset)::float8, \
                pg_catalog.date_part('epoch', d.checksum_last_failure)::float8, {} \
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
    const METRICS: &'static [&'static Metric] = METRICS;

    async fn fetch(&self, session: &Session, _: &State) -> Result<Rows, CollectError> {
        let sql = sql(session.server().version_num);
        let rows = session.read(sql.as_str()).await?;
        let settings = session.settings();
        let databases = rows.iter().map(|row| {
            let mut counters = [0.0; N];
            for (i, counter) in counters.iter_mut().enumerate() {
                *counter = row.at::<Option<f64>>(4 + i)?.unwrap_or(0.0);
            }
            let mut optional = [None; M];
            for (i, counter) in optional.iter_mut().enumerate() {
                *counter = row.at(4 + N + i)?;
            }
            Ok(Database {
                datid: row.at(0)?,
                datname: row.at::<Lossy>(1)?.0,
                stats_reset: row.at(2)?,
                checksum_last_failure: row.at(3)?,
                optional,
                counters,
            })
        });
        Ok(Rows {
            at: session.seconds(),
            started: session.server().started,
            window: settings.ratio_window.as_secs_f64(),
            objectives: [
                settings.objectives.cache_hit_ratio,
                settings.objectives.index_scan_ratio,
                settings.objectives.temp_bytes_per_second,
            ],
            databases: databases.collect::<Result<_, CollectError>>()?,
        })
    }

    fn derive(&self, state: &mut State, rows: Rows, sink: &mut Sink) {
        sink.number(&CACHE_OBJECTIVE, &[], rows.objectives[0]);
        sink.number(&INDEX_OBJECTIVE, &[], rows.objectives[1]);
        sink.number(&TEMP_OBJECTIVE, &[], rows.objectives[2]);
        let readings: Vec<_> = rows
            .databases
            .iter()
            .map(|d| {
                let mut counters = [0.0; N + M];
                counters[..N].copy_from_slice(&d.counters);
                counters[N..].copy_from_slice(&d.optional.map(|c| c.unwrap_or(0.0)));
                Reading { id: d.datid, root: d.datid, alias: None, counters }
            })
            .collect();
        state.totals.update(rows.started, &readings);
        state.windows.retain(|id, _| state.totals.total(*id).is_some());
        for database in &rows.databases {
            let Some(total) = state.totals.total(database.datid) else { continue };
            let datid = database.datid.to_string();
            let labels = [datid.as_str(), database.datname.as_str()];
            sink.number(&STATS_RESET, &labels, database.stats_reset);
            for (metric, value) in CUMULATIVE.iter().zip(total) {
                sink.number(metric, &labels, value);
            }
            sink.number(&CHECKSUM_LAST, &labels, database.checksum_last_failure);
            for ((metric, known), value) in OPTIONAL.iter().zip(database.optional).zip(&total[N..])
            {
                sink.number(metric, &labels, known.map(|_| *value));
            }
            let window = state.windows.entry(database.datid);
            let window = window.or_insert_with(|| Window::new(rows.window));
            // The first two columns are blks_hit and blks_read.
            window.push(rows.at, [total[0], total[1]]);
            let [hit, read] = window.sums();
            sink.number(&RATIO, &labels[1..], ratio(hit, hit + read));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll, value};
    use super::*;

    /// Counter `i` of a database reads `base + i`, except for (hit, read).
    fn database(datid: i64, datname: &str, hit: f64, read: f64, base: f64) -> Database {
        let mut counters = [0.0; N];
        let mut next = base;
        for counter in &mut counters {
            *counter = next;
            next += 1.0;
        }
        (counters[0], counters[1]) = (hit, read);
        let mut optional = [Some(base / 100.0); M];
        (optional[M - 2], optional[M - 1]) = (None, None);
        Database {
            datid,
            datname: datname.to_owned(),
            stats_reset: Some(1_700_000_000.0),
            checksum_last_failure: None,
            optional,
            counters,
        }
    }

    fn rows(at: f64, databases: Vec<Database>) -> Rows {
        Rows { at, started: 1.0, window: 60.0, objectives: [0.95, 0.9, 1e7], databases }
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
        assert_eq!(value(&first, "pg_stat_database_blks_hit", &["5", "app"]), Some(0.0));
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
        (young.stats_reset, young.optional) = (None, [None; M]);
        young.checksum_last_failure = Some(1_700_000_010.0);
        let third = poll(
            &Cache,
            &mut state,
            rows(30.0, vec![app, database(6, "a\"b\\c\nd", 10.0, 1.0, 0.0), young]),
        );
        assert_eq!(value(&third, "pg_cache_hit_ratio", &["app"]), Some(150.0 / 200.0));
        assert_eq!(value(&third, "pg_stat_database_blks_hit", &["5", "app"]), Some(150.0));
        check("cache", &third);
    }

    #[test]
    fn the_catalogue_holds_every_column_once() {
        let mut names: Vec<_> = METRICS.iter().map(|m| m.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
        assert!(
            CUMULATIVE
                .iter()
                .chain(&OPTIONAL)
                .all(|c| METRICS.iter().any(|m| std::ptr::eq(*m, *c)))
        );
    }
}
