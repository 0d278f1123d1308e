//! How far the commands are that run for long: VACUUM, ANALYZE, CREATE INDEX, CLUSTER, REPACK and COPY, per root table.
//!
//! Must not: lock a relation, know one view from another (`views` describes them), or say that a command is half done
//! where only a phase of it is.

mod views;

use std::collections::BTreeMap;
use std::time::Duration;

use super::figures::{figures, listed};
use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{IfColumn, Query, Row, Session, columns};

use views::{FIGURES, ProgressView, VIEWS};

static RUNNING: Metric = Metric::gauge(
    "pg_progress_backends",
    &["datname", "schemaname", "relname", "command", "phase"],
    "Backends that run the command on the table or its partitions, rows of the pg_stat_progress_* views by their phase; \
     relname is empty for what has no table, or a temporary one.",
);
static DONE: Metric = Metric::gauge(
    "pg_progress_done_ratio",
    &["datname", "schemaname", "relname", "command", "unit"],
    "Part that the command has done of what it is to do in its phase, counted in blocks, bytes, tuples and the like, from \
     the pairs of columns of the pg_stat_progress_* views of which one is the whole; absent where that is not known.",
);
static INFO: Metric = Metric::gauge(
    "pg_progress_info",
    &["datname", "schemaname", "relname", "command", "mode", "started_by"],
    "Constant 1 for a VACUUM or ANALYZE that runs, with pg_stat_progress_vacuum.mode and started_by (19 and later).",
);

static METRICS: [&Metric; 3 + FIGURES.len()] = listed(&[&[&RUNNING, &DONE, &INFO], FIGURES]);

pub struct Progress;

figures! {
    /// The figures of a view, in the order of its description.
    pub struct RunningFigures: Option<f64> as IfColumn<Option<f64>> {
        /// The first.
        f0,
        /// The second.
        f1,
        /// The third.
        f2,
        /// The fourth.
        f3,
        /// The fifth.
        f4,
        /// The sixth.
        f5,
        /// The seventh.
        f6,
        /// The eighth.
        f7,
    }
}

columns! {
    /// A backend that runs a command.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ProgressRow {
        /// Schema of the root table, or empty.
        pub schemaname: String,
        /// The root table, or empty.
        pub relname: String,
        /// The command.
        pub command: String,
        /// Its phase.
        pub phase: Option<String>,
        /// How VACUUM works.
        pub mode: Option<String>,
        /// Who began it.
        pub started_by: Option<String>,
        /// How far it is.
        pub figures: RunningFigures,
    }
}

/// What one poll read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// This database.
    pub datname: String,
    /// Major version of the server.
    pub major: i32,
    /// The rows of each view that it has.
    pub running: Vec<Vec<ProgressRow>>,
}

impl Collector for Progress {
    type Rows = Rows;
    type State = ();
    const NAME: &'static str = "progress";
    const HELP: &'static str =
        "How far VACUUM, ANALYZE, CREATE INDEX, CLUSTER, REPACK and COPY are, per root table.";
    const SCOPE: Scope = Scope::Database;
    const INTERVAL: Duration = Duration::from_secs(15);
    const METRICS: &'static [&'static Metric] = &METRICS;

    async fn fetch(&self, session: &Session, (): &()) -> Result<Rows, CollectError> {
        let major = session.server().version_num / 10_000;
        let statements: Vec<String> = views(major).map(|view| view.sql(major)).collect();
        let queries: Vec<Query<'_>> = statements.iter().map(Query::new).collect();
        let answers = session.read_all(&queries).await?;
        let running = answers.iter().map(|rows| Row::all(rows)).collect::<Result<_, _>>()?;
        Ok(Rows { datname: session.server().datname.clone(), major, running })
    }

    fn derive(&self, (): &mut (), rows: Rows, sink: &mut Sink) {
        for (view, running) in views(rows.major).zip(&rows.running) {
            emit(view, rows.major, &rows.datname, running, sink);
        }
    }
}

fn views(major: i32) -> impl Iterator<Item = &'static ProgressView> {
    VIEWS.iter().filter(move |view| view.majors.contains(&major))
}

/// What the backends of one command on one table have in sum.
#[derive(Default)]
struct ProgressSums {
    figures: [Option<f64>; RunningFigures::N],
    /// By the column that is a part: done and whole of those backends that know both.
    parts: [(f64, f64); RunningFigures::N],
}

fn emit(view: &ProgressView, major: i32, datname: &str, running: &[ProgressRow], sink: &mut Sink) {
    let columns: Vec<_> = view.columns(major).collect();
    let mut phases: BTreeMap<[&str; 4], f64> = BTreeMap::new();
    let mut infos: BTreeMap<[&str; 5], ()> = BTreeMap::new();
    let mut sums: BTreeMap<[&str; 3], ProgressSums> = BTreeMap::new();
    for row in running {
        let of = [row.schemaname.as_str(), &row.relname, &row.command];
        let phase = row.phase.as_deref().unwrap_or_default();
        *phases.entry([of[0], of[1], of[2], phase]).or_default() += 1.0;
        if row.mode.is_some() || row.started_by.is_some() {
            let [mode, by] =
                [&row.mode, &row.started_by].map(|text| text.as_deref().unwrap_or_default());
            infos.insert([of[0], of[1], of[2], mode, by], ());
        }
        let sum = sums.entry(of).or_default();
        let figures: [Option<f64>; RunningFigures::N] = row.figures.into();
        for (place, column) in columns.iter().enumerate().take(RunningFigures::N) {
            let Some(figure) = figures[place] else { continue };
            *sum.figures[place].get_or_insert(0.0) += figure * column.factor;
            let whole = column.part_of.and_then(|(whole, _)| {
                figures[columns.iter().position(|column| column.name == whole)?]
            });
            if let Some(whole) = whole.filter(|whole| *whole > 0.0) {
                sum.parts[place].0 += figure.min(whole);
                sum.parts[place].1 += whole;
            }
        }
    }
    for ([schema, name, command, phase], backends) in phases {
        sink.number(&RUNNING, &[datname, schema, name, command, phase], backends);
    }
    for ([schema, name, command, mode, by], ()) in infos {
        sink.number(&INFO, &[datname, schema, name, command, mode, by], 1.0);
    }
    let mut tables: BTreeMap<[&str; 2], [Option<f64>; RunningFigures::N]> = BTreeMap::new();
    for ([schema, name, command], sum) in &sums {
        let parts = columns.iter().zip(sum.parts).filter(|(_, (_, whole))| *whole > 0.0);
        for (column, (done, whole)) in parts {
            let Some((_, unit)) = column.part_of else { continue };
            sink.number(&DONE, &[datname, schema, name, command, unit], done / whole);
        }
        // CREATE INDEX and REINDEX of one table, for example.
        let all = tables.entry([schema, name]).or_default();
        for (all, figure) in all.iter_mut().zip(sum.figures) {
            *all = match (*all, figure) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            };
        }
    }
    for ([schema, name], figures) in tables {
        for (column, figure) in columns.iter().zip(figures) {
            let Some(metric) = column.metric else { continue };
            sink.number(metric, &[datname, schema, name], figure);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll, value};
    use super::*;

    fn row(relname: &str, command: &str, figures: &[Option<f64>]) -> ProgressRow {
        let mut all = [None; RunningFigures::N];
        all[..figures.len()].copy_from_slice(figures);
        ProgressRow {
            schemaname: "public".to_owned(),
            relname: relname.to_owned(),
            command: command.to_owned(),
            phase: Some("scanning".to_owned()),
            mode: None,
            started_by: None,
            figures: all.into(),
        }
    }

    #[test]
    fn each_view_fits_its_columns_and_each_part_has_its_whole() {
        for major in 13..=19 {
            for view in views(major) {
                let columns: Vec<_> = view.columns(major).collect();
                assert!(columns.len() <= RunningFigures::N, "{}", view.view);
                for column in &columns {
                    let Some((whole, _)) = column.part_of else { continue };
                    assert!(columns.iter().any(|column| column.name == whole), "{whole}");
                }
            }
        }
        let of = |major| views(major).map(|view| view.view).collect::<Vec<_>>();
        assert!(of(18).contains(&"pg_stat_progress_cluster"));
        assert!(!of(19).contains(&"pg_stat_progress_cluster"), "it is counted once");
        assert!(!of(13).contains(&"pg_stat_progress_copy"));
    }

    #[test]
    fn golden_partitions_add_up_and_what_is_not_known_has_no_ratio() {
        let some = |figures: &[f64]| figures.iter().copied().map(Some).collect::<Vec<_>>();
        let vacuum = |scanned| {
            let row = row("orders", "VACUUM", &some(&[100.0, scanned, 4.0, 1.0, 1e6, 1e3, 1500.0]));
            let (mode, started_by) = (Some("aggressive".to_owned()), Some("autovacuum".to_owned()));
            ProgressRow { mode, started_by, ..row }
        };
        let copy =
            |total| row("a\"b", "COPY FROM", &[total, Some(50.0), Some(7.0), Some(0.0), Some(1.0)]);
        let rows = Rows {
            datname: "app".to_owned(),
            major: 19,
            running: vec![
                vec![vacuum(10.0), vacuum(50.0)],
                vec![row("orders", "ANALYZE", &some(&[30.0, 15.0, 0.0, 0.0, 2.0, 1.0, 0.0]))],
                vec![
                    row(
                        "orders",
                        "CREATE INDEX",
                        &some(&[0.0, 0.0, 10.0, 5.0, 0.0, 0.0, 0.0, 0.0]),
                    ),
                    row("orders", "REINDEX", &some(&[2.0, 1.0, 0.0, 0.0, 100.0, 1.0, 0.0, 0.0])),
                ],
                vec![row("old", "REPACK", &some(&[10.0, 10.0, 99.0, 98.0, 3.0, 2.0, 1.0]))],
                // A size of 0 is one that is not known.
                vec![copy(Some(0.0)), copy(Some(200.0))],
            ],
        };
        let families = poll(&Progress, &mut (), rows);
        let ratio = |of: [&str; 3]| {
            let labels = ["app", "public", of[0], of[1], of[2]];
            value(&families, "pg_progress_done_ratio", &labels)
        };
        assert_eq!(ratio(["orders", "VACUUM", "blocks"]), Some(0.3));
        assert_eq!(ratio(["orders", "ANALYZE", "statistics"]), None);
        assert_eq!(ratio(["a\"b", "COPY FROM", "bytes"]), Some(0.25));
        check("progress", &families);
    }
}
