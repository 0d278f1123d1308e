//! `pg_stat_autovacuum_scores`: what autovacuum would turn to first, and why.
//!
//! Must not: make a series for every table of a database, or for each partition.

use std::collections::BTreeMap;
use std::time::Duration;

use super::figures::figures;
use super::relations::USERS;
use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{Query, Row, Session, columns};

static SCORE: Metric = Metric::gauge(
    "pg_autovacuum_score",
    &["datname", "schemaname", "relname"],
    "How urgently autovacuum would turn to the table, or to the partition of it that needs it most, \
     pg_stat_autovacuum_scores.score (19 and later); of the 100 tables with the highest score.",
);
static BY_REASON: Metric = Metric::gauge(
    "pg_autovacuum_score_by_reason",
    &["datname", "schemaname", "relname", "reason"],
    "What the score of the table is made of, pg_stat_autovacuum_scores.xid_score, mxid_score, vacuum_score, \
     vacuum_insert_score and analyze_score (19 and later).",
);
static DUE: Metric = Metric::gauge(
    "pg_autovacuum_tables_due",
    &["datname", "work"],
    "Tables of the database, its catalogs, partitions and TOAST among them, that autovacuum would work on now, \
     pg_stat_autovacuum_scores.do_vacuum, do_analyze and for_wraparound (19 and later).",
);

/// Tables that are read, and root tables that have series.
const MOST_READ: i64 = 1_000;
const MOST: usize = 100;

/// The counts go with each row, so that the scores are worked out once.
fn sql() -> String {
    format!(
        "SELECT CASE WHEN q.own THEN n.nspname::text END AS schemaname, \
                CASE WHEN q.own THEN r.relname::text END AS relname, q.score, \
                q.xid, q.mxid, q.vacuum, q.inserts, q.analyze, q.due_vacuum, q.due_analyze, q.due_wraparound \
           FROM (SELECT s.relid, c.relispartition, {USERS} AS own, s.score, s.xid_score AS xid, \
                        s.mxid_score AS mxid, s.vacuum_score AS vacuum, s.vacuum_insert_score AS inserts, \
                        s.analyze_score AS analyze, \
                        pg_catalog.count(*) FILTER (WHERE s.do_vacuum) OVER ()::float8 AS due_vacuum, \
                        pg_catalog.count(*) FILTER (WHERE s.do_analyze) OVER ()::float8 AS due_analyze, \
                        pg_catalog.count(*) FILTER (WHERE s.for_wraparound) OVER ()::float8 AS due_wraparound \
                   FROM pg_catalog.pg_stat_autovacuum_scores s \
                   JOIN pg_catalog.pg_class c ON c.oid = s.relid \
                   JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                  ORDER BY own DESC, s.score DESC, s.relid LIMIT $1) q \
           JOIN pg_catalog.pg_class r ON r.oid = CASE WHEN q.relispartition \
                THEN pg_catalog.pg_partition_root(q.relid::pg_catalog.regclass)::pg_catalog.oid ELSE q.relid END \
           JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace"
    )
}

pub struct Scores;

figures! {
    /// What a score is made of.
    pub struct ScoreReasons: Option<f64> {
        /// Age of transaction IDs.
        xid,
        /// Age of multixacts.
        mxid,
        /// Dead rows.
        vacuum,
        /// New rows.
        inserts,
        /// Changed rows.
        analyze,
    }
}

/// Labels in the order of [`ScoreReasons`].
const REASONS: [&str; ScoreReasons::N] = ["xid", "multixact", "dead_rows", "inserts", "analyze"];

figures! {
    /// Tables that are due.
    pub struct DueTables: Option<f64> {
        /// For VACUUM.
        due_vacuum,
        /// For ANALYZE.
        due_analyze,
        /// For VACUUM against wraparound.
        due_wraparound,
    }
}

/// Labels in the order of [`DueTables`].
const WORK: [&str; DueTables::N] = ["vacuum", "analyze", "wraparound"];

columns! {
    /// One table or partition.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ScoreRow {
        /// Schema of its root table; `None` of what is not a user's.
        pub schemaname: Option<String>,
        /// Its root table.
        pub relname: Option<String>,
        /// Its score.
        pub score: Option<f64>,
        /// What it is made of.
        pub reasons: ScoreReasons,
        /// Of the whole database.
        pub due: DueTables,
    }
}

/// What one poll read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// This database.
    pub datname: String,
    /// The highest scores.
    pub tables: Vec<ScoreRow>,
}

impl Collector for Scores {
    type Rows = Rows;
    type State = ();
    const NAME: &'static str = "scores";
    const HELP: &'static str =
        "What autovacuum would turn to first, from pg_stat_autovacuum_scores (19+).";
    const SINCE: i32 = 19;
    const SCOPE: Scope = Scope::Database;
    const INTERVAL: Duration = Duration::from_secs(120);
    const METRICS: &'static [&'static Metric] = &[&DUE, &SCORE, &BY_REASON];

    async fn fetch(&self, session: &Session, (): &()) -> Result<Rows, CollectError> {
        let datname = session.server().datname.clone();
        // A standby vacuums nothing.
        if session.server().version_num < 190_000 || session.server().in_recovery {
            return Ok(Rows { datname, tables: Vec::new() });
        }
        let sql = sql();
        let tables = Row::all(&session.read(Query::new(&sql).int8(&MOST_READ)).await?)?;
        Ok(Rows { datname, tables })
    }

    fn derive(&self, (): &mut (), rows: Rows, sink: &mut Sink) {
        let datname = rows.datname.as_str();
        if let Some(row) = rows.tables.first() {
            for (work, tables) in WORK.into_iter().zip(<[_; DueTables::N]>::from(row.due)) {
                sink.number(&DUE, &[datname, work], tables);
            }
        }
        let mut roots: BTreeMap<[&str; 2], &ScoreRow> = BTreeMap::new();
        for row in &rows.tables {
            let (Some(schema), Some(name), Some(score)) =
                (&row.schemaname, &row.relname, row.score)
            else {
                continue;
            };
            let worst = roots.entry([schema, name]).or_insert(row);
            if worst.score.is_none_or(|worst| score > worst) {
                *worst = row;
            }
        }
        let mut roots: Vec<_> = roots.into_iter().collect();
        let score = |row: &ScoreRow| row.score.unwrap_or_default();
        roots.sort_by(|a, b| score(b.1).total_cmp(&score(a.1)).then(a.0.cmp(&b.0)));
        for ([schema, name], row) in roots.into_iter().take(MOST) {
            sink.number(&SCORE, &[datname, schema, name], row.score);
            let reasons = <[_; ScoreReasons::N]>::from(row.reasons);
            for (reason, part) in REASONS.into_iter().zip(reasons) {
                sink.number(&BY_REASON, &[datname, schema, name, reason], part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll, value};
    use super::*;

    fn row(name: Option<&str>, score: f64) -> ScoreRow {
        ScoreRow {
            schemaname: name.map(|_| "public".to_owned()),
            relname: name.map(str::to_owned),
            score: Some(score),
            reasons: [Some(0.25), Some(0.0), Some(score), Some(0.5), Some(0.0)].into(),
            due: [Some(3.0), Some(1.0), Some(0.0)].into(),
        }
    }

    #[test]
    fn golden_a_root_table_has_the_score_of_its_worst_partition() {
        let tables = vec![row(Some("orders"), 0.5), row(Some("orders"), 2.5), row(None, 9.0)];
        check("scores", &poll(&Scores, &mut (), Rows { datname: "app".to_owned(), tables }));
    }

    #[test]
    fn of_many_tables_the_highest_are_shown() {
        let tables = (0..500).map(|n| row(Some(&format!("t{n}")), f64::from(n))).collect();
        let families = poll(&Scores, &mut (), Rows { datname: "app".to_owned(), tables });
        let of = |name: &str| value(&families, "pg_autovacuum_score", &["app", "public", name]);
        assert_eq!((of("t499"), of("t400"), of("t399")), (Some(499.0), Some(400.0), None));
    }
}
