//! `pg_stat_progress_basebackup`: how far the base backups are that are being taken.
//!
//! Must not: take a backup whose size was not estimated for one that is done.

use std::collections::BTreeMap;
use std::time::Duration;

use super::figures::figures;
use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{Row, Session, columns};

static RUNNING: Metric = Metric::gauge(
    "pg_stat_progress_basebackup_backends",
    &["phase"],
    "Base backups that are being taken, rows of pg_stat_progress_basebackup by phase.",
);
static DONE: Metric = Metric::gauge(
    "pg_stat_progress_basebackup_done_ratio",
    &[],
    "Part of the base backups that is sent, pg_stat_progress_basebackup.backup_streamed over backup_total, which the \
     server estimated; absent where it did not.",
);
static SENT: Metric = Metric::gauge(
    "pg_stat_progress_basebackup_streamed_bytes",
    &[],
    "Bytes of the base backups that are sent, pg_stat_progress_basebackup.backup_streamed; absent where none is taken.",
);
static TOTAL: Metric = Metric::gauge(
    "pg_stat_progress_basebackup_bytes",
    &[],
    "Bytes of the base backups in all, estimated, pg_stat_progress_basebackup.backup_total.",
);
static TABLESPACES: Metric = Metric::gauge(
    "pg_stat_progress_basebackup_tablespaces",
    &[],
    "Tablespaces that the base backups send, pg_stat_progress_basebackup.tablespaces_total.",
);
static TABLESPACES_SENT: Metric = Metric::gauge(
    "pg_stat_progress_basebackup_tablespaces_streamed",
    &[],
    "Tablespaces that the base backups have sent, pg_stat_progress_basebackup.tablespaces_streamed.",
);

const SQL: &str = "\
SELECT b.phase, b.backup_streamed::float8, b.backup_total::float8, b.tablespaces_total::float8,
       b.tablespaces_streamed::float8
  FROM pg_catalog.pg_stat_progress_basebackup b ORDER BY b.pid";

pub struct BaseBackups;

figures! {
    /// How far one is.
    pub struct BackupFigures: Option<f64> {
        /// Bytes sent.
        backup_streamed => SENT,
        /// Bytes in all.
        backup_total => TOTAL,
        /// Tablespaces.
        tablespaces_total => TABLESPACES,
        /// Tablespaces sent.
        tablespaces_streamed => TABLESPACES_SENT,
    }
}

columns! {
    /// One base backup.
    #[derive(Debug, Clone, PartialEq)]
    pub struct BackupRow {
        /// What it does.
        pub phase: Option<String>,
        /// How far it is.
        pub figures: BackupFigures,
    }
}

impl Collector for BaseBackups {
    type Rows = Vec<BackupRow>;
    type State = ();
    const NAME: &'static str = "basebackups";
    const HELP: &'static str = "How far base backups are, from pg_stat_progress_basebackup.";
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(30);
    const METRICS: &'static [&'static Metric] =
        &[&RUNNING, &DONE, &SENT, &TOTAL, &TABLESPACES, &TABLESPACES_SENT];

    async fn fetch(&self, session: &Session, (): &()) -> Result<Self::Rows, CollectError> {
        Row::all(&session.read(SQL).await?)
    }

    fn derive(&self, (): &mut (), rows: Self::Rows, sink: &mut Sink) {
        let mut phases: BTreeMap<&str, f64> = BTreeMap::new();
        let mut sums = [None; BackupFigures::N];
        let mut known = Some((0.0, 0.0));
        for row in &rows {
            if let Some(phase) = &row.phase {
                *phases.entry(phase).or_default() += 1.0;
            }
            for (sum, figure) in sums.iter_mut().zip(<[_; BackupFigures::N]>::from(row.figures)) {
                if let Some(figure) = figure {
                    *sum.get_or_insert(0.0) += figure;
                }
            }
            let BackupFigures { backup_streamed, backup_total, .. } = row.figures;
            known = match (known, backup_streamed, backup_total) {
                (Some((done, all)), Some(sent), Some(total)) if total > 0.0 => {
                    Some((done + sent.min(total), all + total))
                }
                _ => None,
            };
        }
        for (phase, backups) in phases {
            sink.number(&RUNNING, &[phase], backups);
        }
        let done = known.filter(|(_, all)| *all > 0.0).map(|(done, all)| done / all);
        sink.number(&DONE, &[], done);
        BackupFigures::from(sums).emit(&[], sink);
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll, value};
    use super::*;

    fn row(sent: f64, total: Option<f64>) -> BackupRow {
        let figures = [Some(sent), total, Some(1.0), Some(0.0)].into();
        BackupRow { phase: Some("streaming database files".to_owned()), figures }
    }

    #[test]
    fn golden_and_one_of_unknown_size_leaves_the_ratio_out() {
        let done = |rows| {
            let families = poll(&BaseBackups, &mut (), rows);
            value(&families, "pg_stat_progress_basebackup_done_ratio", &[])
        };
        assert_eq!(done(vec![]), None);
        assert_eq!(done(vec![row(10.0, Some(100.0)), row(10.0, None)]), None);
        assert_eq!(done(vec![row(110.0, Some(100.0))]), Some(1.0), "it was estimated");
        let rows = vec![row(10.0, Some(100.0)), row(40.0, Some(100.0))];
        check("basebackups", &poll(&BaseBackups, &mut (), rows));
    }
}
