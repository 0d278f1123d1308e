//! Dead rows, VACUUM and ANALYZE per root table, how far each is beyond the point at which autovacuum
//! should have come, and the vacuums that run.
//!
//! Must not: lock a relation, or let a table that was never written cost a series per counter.

pub mod standing;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::figures::figures;
use super::relations::{Roots, TableRow, USERS, tree};
use crate::collector::{Collector, Scope};
use crate::derive::rollup::{Reading, Rollup};
use crate::derive::vacuum::{Counts, Due, Thresholds};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{OrZero, Query, Row, Session, columns};

const LABELS: &[&str] = &["datname", "schemaname", "relname"];

static VACUUM_DUE: Metric = Metric::gauge(
    "pg_table_vacuum_due_ratio",
    LABELS,
    "How close the table, or its most overdue partition, is to its next autovacuum, which is due at 1; \
     estimated from pg_stat_user_tables.n_dead_tup and n_ins_since_vacuum against the \
     server's thresholds or those in pg_class.reloptions.",
);
static ANALYZE_DUE: Metric = Metric::gauge(
    "pg_table_analyze_due_ratio",
    LABELS,
    "How close the table, or its most overdue partition, is to its next autoanalyze, which is due at 1; \
     estimated from pg_stat_user_tables.n_mod_since_analyze.",
);
static FREEZE_DUE: Metric = Metric::gauge(
    "pg_table_freeze_due_ratio",
    LABELS,
    "Age of the oldest transaction ID of the table, or of the partition where it is oldest, over the \
     effective autovacuum_freeze_max_age, age(pg_class.relfrozenxid): above 1 it is vacuumed against \
     wraparound.",
);

macro_rules! gauges {
    ($($ident:ident $column:literal $help:literal;)*) => {
        $(static $ident: Metric = Metric::gauge(
            concat!("pg_stat_user_tables_", $column), LABELS, concat!($help, ", pg_stat_user_tables.", $column, "."),
        );)*
    };
}
gauges! {
    LIVE "n_live_tup" "Estimated live rows of the table and its partitions";
    DEAD "n_dead_tup" "Estimated dead rows of the table and its partitions";
    MODIFIED "n_mod_since_analyze" "Estimated rows changed since each partition of the table was last analysed";
    LAST_VACUUM "last_vacuum" "Unix time at which the table or one of its partitions was last vacuumed by hand, absent if never";
    LAST_AUTOVACUUM "last_autovacuum" "Unix time at which autovacuum last vacuumed the table or one of its partitions, absent if never";
    LAST_ANALYZE "last_analyze" "Unix time at which the table or one of its partitions was last analysed by hand, absent if never";
    LAST_AUTOANALYZE "last_autoanalyze" "Unix time at which autovacuum last analysed the table or one of its partitions, absent if never";
}

/// Counters by nature, under postgres_exporter's names.
macro_rules! cumulative {
    ($($ident:ident $column:literal $what:literal;)*) => {
        $(static $ident: Metric = Metric::untyped(
            concat!("pg_stat_user_tables_", $column),
            LABELS,
            concat!(
                $what, ", pg_stat_user_tables.", $column, "; of a partitioned table the increments of all its \
                 partitions since pgrunway began to watch."
            ),
        ).counter_there();)*
    };
}
cumulative! {
    INSERTED "n_tup_ins" "Rows inserted";
    UPDATED "n_tup_upd" "Rows updated";
    DELETED "n_tup_del" "Rows deleted";
    HOT "n_tup_hot_upd" "Rows updated without a new index entry";
    VACUUMS "vacuum_count" "Times the table was vacuumed by hand";
    AUTOVACUUMS "autovacuum_count" "Times autovacuum vacuumed the table";
    ANALYZES "analyze_count" "Times the table was analysed by hand";
    AUTOANALYZES "autoanalyze_count" "Times autovacuum analysed the table";
}

const RELATION: &[&str] = &["datname", "relname"];
static RUNNING: Metric = Metric::gauge(
    "pg_vacuums_running",
    &["datname"],
    "Vacuums that run in the database, rows of pg_stat_progress_vacuum.",
);
static PHASE: Metric = Metric::gauge(
    "pg_stat_progress_vacuum_phase",
    &["datname", "relname", "phase"],
    "Constant 1 for a vacuum that runs, with pg_stat_progress_vacuum.phase.",
);
macro_rules! progress {
    ($($ident:ident $name:literal $column:literal $help:literal;)*) => {
        $(static $ident: Metric = Metric::gauge(
            concat!("pg_stat_progress_vacuum_", $name), RELATION,
            concat!($help, ", pg_stat_progress_vacuum.", $column, "."),
        );)*
    };
}
progress! {
    BLOCKS "heap_blks" "heap_blks_total" "Blocks of the table that is being vacuumed";
    SCANNED "heap_blks_scanned" "heap_blks_scanned" "Blocks that the vacuum has scanned";
    VACUUMED "heap_blks_vacuumed" "heap_blks_vacuumed" "Blocks that the vacuum has cleaned";
    ROUNDS "index_vacuums" "index_vacuum_count" "Passes over the indexes that the vacuum has finished; more than one where maintenance_work_mem is too small";
}

static METRICS: &[&Metric] = &[
    &VACUUM_DUE,
    &FREEZE_DUE,
    &ANALYZE_DUE,
    &DEAD,
    &LIVE,
    &MODIFIED,
    &LAST_VACUUM,
    &LAST_AUTOVACUUM,
    &LAST_ANALYZE,
    &LAST_AUTOANALYZE,
    &INSERTED,
    &UPDATED,
    &DELETED,
    &HOT,
    &VACUUMS,
    &AUTOVACUUMS,
    &ANALYZES,
    &AUTOANALYZES,
    &RUNNING,
    &PHASE,
    &BLOCKS,
    &SCANNED,
    &VACUUMED,
    &ROUNDS,
];

const THRESHOLDS: &str = "\
SELECT pg_catalog.current_setting('autovacuum_vacuum_threshold')::float8 AS threshold,
       pg_catalog.current_setting('autovacuum_vacuum_scale_factor')::float8 AS scale_factor,
       pg_catalog.current_setting('autovacuum_vacuum_max_threshold', true)::float8 AS max_threshold,
       pg_catalog.current_setting('autovacuum_vacuum_insert_threshold')::float8 AS insert_threshold,
       pg_catalog.current_setting('autovacuum_vacuum_insert_scale_factor')::float8
         AS insert_scale_factor,
       pg_catalog.current_setting('autovacuum_analyze_threshold')::float8 AS analyze_threshold,
       pg_catalog.current_setting('autovacuum_analyze_scale_factor')::float8
         AS analyze_scale_factor,
       pg_catalog.current_setting('autovacuum_freeze_max_age')::float8 AS freeze_max_age,
       pg_catalog.date_part('epoch', pg_catalog.now())::float8 AS now";

const RUNNING_NOW: &str = "\
SELECT c.relname::text, p.phase, p.heap_blks_total::float8, p.heap_blks_scanned::float8,
       p.heap_blks_vacuumed::float8, p.index_vacuum_count::float8
  FROM pg_catalog.pg_stat_progress_vacuum p LEFT JOIN pg_catalog.pg_class c ON c.oid = p.relid
 WHERE p.datname = pg_catalog.current_database() ORDER BY p.pid";

/// The functions under the view, which costs twice as much.
fn tables(version_num: i32, leaves: bool) -> String {
    let tree = tree(leaves);
    let frozen = if version_num >= 180_000 {
        "CASE WHEN c.relpages > 0 THEN c.relallfrozen::float8 / c.relpages ELSE 0 END"
    } else {
        "0::float8"
    };
    let epoch = |function: &str| {
        format!(
            "pg_catalog.date_part('epoch', pg_catalog.pg_stat_get_last_{function}_time(c.oid))::float8 \
               AS last_{function}"
        )
    };
    let last = ["vacuum", "autovacuum", "analyze", "autoanalyze"].map(epoch).join(", ");
    let counters = [
        "tuples_inserted",
        "tuples_updated",
        "tuples_deleted",
        "tuples_hot_updated",
        "vacuum_count",
        "autovacuum_count",
        "analyze_count",
        "autoanalyze_count",
    ]
    .map(|function| format!("pg_catalog.pg_stat_get_{function}(c.oid)::float8 AS {function}"))
    .join(", ");
    format!(
        "SELECT {tree}, \
                c.relkind <> 'p' AS stored, \
                (SELECT pg_catalog.string_agg(o, ' ') FROM pg_catalog.unnest(c.reloptions) o \
                  WHERE pg_catalog.octet_length(o) <= {LONGEST_OPTION}) AS options, \
                c.reltuples::float8, pg_catalog.pg_stat_get_live_tuples(c.oid)::float8 AS live, \
                pg_catalog.pg_stat_get_dead_tuples(c.oid)::float8 AS dead, \
                pg_catalog.pg_stat_get_ins_since_vacuum(c.oid)::float8 AS inserted, \
                pg_catalog.pg_stat_get_mod_since_analyze(c.oid)::float8 AS modified, \
                CASE WHEN c.relkind <> 'p' THEN pg_catalog.age(c.relfrozenxid)::float8 END AS age, \
                {frozen} AS frozen, \
                {last}, {counters} \
           FROM pg_catalog.pg_class c \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
           LEFT JOIN pg_catalog.pg_inherits h ON h.inhrelid = c.oid AND c.relispartition \
          WHERE c.relkind IN ('r', 'm', 'p') AND {USERS}"
    )
}

/// Bytes of a storage parameter: a number may be written with any number of digits.
const LONGEST_OPTION: usize = 128;

pub struct Vacuum;

columns! {
    /// One table, materialised view, partition or partitioned table.
    #[derive(Debug, Clone, PartialEq)]
    pub struct VacuumedRelation {
        /// Where it belongs.
        pub table: TableRow,
        /// Whether it holds rows itself.
        pub stored: bool,
        /// `pg_class.reloptions`, separated by blanks.
        pub options: Option<String>,
        /// Live rows.
        pub live: f64 as OrZero,
        /// What autovacuum looks at.
        pub counts: Counts,
        /// When what came last.
        pub last: LastDone,
        /// What was counted.
        pub counters: TableCounters,
    }
}

columns! {
    impl Counts {
        rows: f64 as OrZero = "reltuples",
        dead: f64 as OrZero,
        inserted: f64 as OrZero,
        modified: f64 as OrZero,
        age: f64 as OrZero,
        frozen: f64 as OrZero,
    }
}

figures! {
    /// When each was last done, in Unix seconds.
    pub struct LastDone: Option<f64> {
        /// VACUUM by hand.
        vacuum = "last_vacuum" => LAST_VACUUM,
        /// VACUUM by autovacuum.
        autovacuum = "last_autovacuum" => LAST_AUTOVACUUM,
        /// ANALYZE by hand.
        analyze = "last_analyze" => LAST_ANALYZE,
        /// ANALYZE by autovacuum.
        autoanalyze = "last_autoanalyze" => LAST_AUTOANALYZE,
    }
}

figures! {
    /// What is counted of a table.
    pub struct TableCounters: f64 as OrZero {
        /// `n_tup_ins`.
        tuples_inserted => INSERTED,
        /// `n_tup_upd`.
        tuples_updated => UPDATED,
        /// `n_tup_del`.
        tuples_deleted => DELETED,
        /// `n_tup_hot_upd`.
        tuples_hot_updated => HOT,
        /// `vacuum_count`.
        vacuum_count => VACUUMS,
        /// `autovacuum_count`.
        autovacuum_count => AUTOVACUUMS,
        /// `analyze_count`.
        analyze_count => ANALYZES,
        /// `autoanalyze_count`.
        autoanalyze_count => AUTOANALYZES,
    }
}

columns! {
    /// A vacuum that runs.
    #[derive(Debug, Clone, PartialEq)]
    pub struct VacuumProgress {
        /// Table, `None` if it was dropped meanwhile.
        pub relname: Option<String>,
        /// Phase.
        pub phase: String,
        /// How far it is.
        pub figures: ProgressFigures,
    }
}

figures! {
    /// How far a vacuum is.
    pub struct ProgressFigures: Option<f64> {
        /// Blocks in all.
        heap_blks_total => BLOCKS,
        /// Blocks scanned.
        heap_blks_scanned => SCANNED,
        /// Blocks cleaned.
        heap_blks_vacuumed => VACUUMED,
        /// Passes over the indexes.
        index_vacuum_count => ROUNDS,
    }
}

columns! {
    /// The server's settings.
    struct Configured {
        threshold: f64,
        scale_factor: f64,
        max_threshold: Option<f64>,
        insert_threshold: f64,
        insert_scale_factor: f64,
        analyze_threshold: f64,
        analyze_scale_factor: f64,
        freeze_max_age: f64,
        now: f64,
    }
}

impl From<Configured> for Thresholds {
    fn from(server: Configured) -> Self {
        Self {
            vacuum: (server.threshold, server.scale_factor),
            vacuum_max: server.max_threshold,
            insert: (server.insert_threshold, server.insert_scale_factor),
            analyze: (server.analyze_threshold, server.analyze_scale_factor),
            freeze_max_age: server.freeze_max_age,
        }
    }
}

/// What one poll read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Unix seconds of the server's start.
    pub started: f64,
    /// This database.
    pub datname: String,
    /// Unix seconds, by the server.
    pub now: f64,
    /// The server's.
    pub thresholds: Thresholds,
    /// Whether it tells when a partitioned table was analysed itself (14 and later).
    pub tells_of_partitioned: bool,
    /// All of the user's tables.
    pub relations: Vec<VacuumedRelation>,
    /// Vacuums in this database.
    pub progress: Vec<VacuumProgress>,
}

/// Totals per root table.
#[derive(Debug, Default)]
pub struct State {
    totals: Rollup<{ TableCounters::N }>,
}

/// A root table with all below it.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    live: f64,
    dead: f64,
    modified: f64,
    last: LastDone,
    due: Due,
}

impl Collector for Vacuum {
    type Rows = Rows;
    type State = State;
    const NAME: &'static str = "vacuum";
    const HELP: &'static str =
        "Dead rows, vacuums and what is due per root table, partitions included.";
    const SCOPE: Scope = Scope::Database;
    const INTERVAL: Duration = Duration::from_secs(15);
    const METRICS: &'static [&'static Metric] = METRICS;

    async fn fetch(&self, session: &Session, _: &State) -> Result<Rows, CollectError> {
        let tables = tables(session.server().version_num, session.server_label().is_some());
        let queries = [THRESHOLDS.into(), Query::new(&tables), RUNNING_NOW.into()];
        let answers = session.read_all(&queries).await?;
        let mut answers = answers.iter().map(Vec::as_slice);
        let mut next = || answers.next().unwrap_or_default();
        let thresholds: Configured = Row::one(next())?;
        Ok(Rows {
            started: session.server().started,
            datname: session.server().datname.clone(),
            now: thresholds.now,
            thresholds: thresholds.into(),
            tells_of_partitioned: session.server().version_num >= 140_000,
            relations: Row::all(next())?,
            progress: Row::all(next())?,
        })
    }

    fn derive(&self, state: &mut State, rows: Rows, sink: &mut Sink) {
        let roots = Roots::new(rows.relations.iter().map(|r| &r.table));
        let mut sums: HashMap<i64, Sum> = HashMap::new();
        let mut readings = Vec::with_capacity(rows.relations.len());
        for relation in &rows.relations {
            let Some(root) = roots.of(relation.table.id) else { continue };
            sums.entry(root).or_default().add(relation, rows.thresholds);
            let (id, counters) = (relation.table.id, relation.counters.into());
            readings.push(Reading { id, root, alias: None, counters });
        }
        state.totals.update(rows.started, &readings);
        let labelled = || {
            roots.iter().filter_map(|(schema, name, id)| {
                Some(([rows.datname.as_str(), schema, name], id, sums.get(&id)?))
            })
        };
        // What alerts rest on before the rest: the series limit cuts from the end.
        for (labels, _, sum) in labelled() {
            sink.number(&VACUUM_DUE, &labels, sum.due.vacuum);
            sink.number(&DEAD, &labels, sum.dead);
            sink.number(&LIVE, &labels, sum.live);
        }
        running(&rows, sink);
        for (labels, _, sum) in labelled() {
            sink.number(&FREEZE_DUE, &labels, sum.due.freeze);
            sink.number(&ANALYZE_DUE, &labels, sum.due.analyze);
            sink.number(&MODIFIED, &labels, sum.modified);
            let never = sink.is_compatible().then_some(0.0);
            for (metric, at) in
                LastDone::METRICS.into_iter().zip(<[_; LastDone::N]>::from(sum.last))
            {
                sink.number(metric, &labels, at.or(never));
            }
        }
        for (labels, id, _) in labelled() {
            let Some(total) = state.totals.published(id) else { continue };
            for (metric, total) in TableCounters::METRICS.into_iter().zip(total) {
                sink.number(metric, &labels, total);
            }
        }
    }
}

impl VacuumedRelation {
    /// The server's thresholds, or its own.
    fn thresholds(&self, server: Thresholds) -> Thresholds {
        server.of_table(self.options.as_deref().unwrap_or_default())
    }

    /// Whether autovacuum is switched off for it. The server takes any unambiguous beginning of these words.
    fn off(&self) -> bool {
        let options = self.options.as_deref().unwrap_or_default();
        let mut all = options.split_ascii_whitespace();
        let value = all.find_map(|option| option.strip_prefix("autovacuum_enabled="));
        let value = value.unwrap_or_default().to_ascii_lowercase();
        let begins = |word: &str, least| value.len() >= least && word.starts_with(&value);
        value == "0" || begins("off", 2) || begins("false", 1) || begins("no", 1)
    }
}

/// `None` is before anything.
fn later(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    if other > one { other } else { one }
}

impl Sum {
    fn add(&mut self, relation: &VacuumedRelation, thresholds: Thresholds) {
        let last = &relation.last;
        self.last = LastDone {
            vacuum: later(self.last.vacuum, last.vacuum),
            autovacuum: later(self.last.autovacuum, last.autovacuum),
            analyze: later(self.last.analyze, last.analyze),
            autoanalyze: later(self.last.autoanalyze, last.autoanalyze),
        };
        if !relation.stored {
            return;
        }
        self.live += relation.live;
        self.dead += relation.counts.dead;
        self.modified += relation.counts.modified;
        self.due = self.due.max(relation.thresholds(thresholds).due(&relation.counts));
    }
}

/// Of two tables of one name in two schemas the first counts.
fn running(rows: &Rows, sink: &mut Sink) {
    let datname = rows.datname.as_str();
    // A few workers at most.
    sink.number(&RUNNING, &[datname], rows.progress.len() as f64);
    let mut by_name: BTreeMap<&str, &VacuumProgress> = BTreeMap::new();
    for progress in &rows.progress {
        if let Some(relname) = &progress.relname {
            by_name.entry(relname).or_insert(progress);
        }
    }
    for (relname, progress) in by_name {
        sink.number(&PHASE, &[datname, relname, &progress.phase], 1.0);
        progress.figures.emit(&[datname, relname], sink);
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll, value};
    use super::super::relations::fixtures::{partition, root};
    use super::*;

    fn relation(table: TableRow, dead: f64, n: f64) -> VacuumedRelation {
        VacuumedRelation {
            table,
            stored: true,
            options: None,
            live: 1000.0,
            counts: Counts { rows: 1000.0, dead, modified: 30.0, age: 5e7, ..Counts::default() },
            last: LastDone {
                autovacuum: Some(1_700_000_000.0 + n),
                autoanalyze: Some(1_700_000_000.0),
                ..LastDone::default()
            },
            counters: TableCounters {
                tuples_inserted: n,
                autovacuum_count: n / 10.0,
                ..TableCounters::default()
            },
        }
    }

    fn rows(relations: Vec<VacuumedRelation>) -> Rows {
        Rows {
            started: 1.0,
            datname: "app".to_owned(),
            now: 1_700_000_000.0,
            thresholds: Thresholds {
                vacuum: (50.0, 0.2),
                vacuum_max: None,
                insert: (1000.0, 0.2),
                analyze: (50.0, 0.1),
                freeze_max_age: 2e8,
            },
            tells_of_partitioned: true,
            relations,
            progress: vec![],
        }
    }

    #[test]
    fn golden_over_partitions_one_with_options_and_a_vacuum_that_runs() {
        let orders = |n: f64| {
            let parent = VacuumedRelation {
                stored: false,
                last: LastDone { analyze: Some(1_700_000_500.0), ..LastDone::default() },
                counters: TableCounters::default(),
                ..relation(root(1, "public", "orders"), 9e9, 0.0)
            };
            let strict = VacuumedRelation {
                options: Some("autovacuum_vacuum_scale_factor=0".to_owned()),
                ..relation(partition(3, 1), 100.0, n + 20.0)
            };
            vec![parent, relation(partition(2, 1), 125.0, n), strict]
        };
        let idle = |mut all: Vec<VacuumedRelation>| {
            let quiet = VacuumedRelation {
                last: LastDone::default(),
                counters: TableCounters::default(),
                ..relation(root(9, "we\"ird", "a\\b\nc"), 0.0, 0.0)
            };
            all.push(quiet);
            all
        };
        let mut state = State::default();
        let first = poll(&Vacuum, &mut state, rows(idle(orders(100.0))));
        let labels = ["app", "public", "orders"];
        assert_eq!(value(&first, "pg_stat_user_tables_n_tup_ins", &labels), Some(0.0));
        assert_eq!(value(&first, "pg_table_vacuum_due_ratio", &labels), Some(2.0));
        assert_eq!(value(&first, "pg_stat_user_tables_n_dead_tup", &labels), Some(225.0));
        let mut last = rows(idle(orders(110.0)));
        let running = |relname: Option<&str>| VacuumProgress {
            relname: relname.map(str::to_owned),
            phase: "scanning heap".to_owned(),
            figures: [Some(100.0), Some(40.0), Some(0.0), Some(0.0)].into(),
        };
        last.progress = vec![running(Some("orders_2")), running(Some("orders_2")), running(None)];
        let families = poll(&Vacuum, &mut state, last);
        assert_eq!(value(&families, "pg_stat_user_tables_n_tup_ins", &labels), Some(20.0));
        check("vacuum", &families);
    }
}
