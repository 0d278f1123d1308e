//! `pg_stat_database_conflicts`: queries that replay cancelled on a standby, by what they were in the way of.
//!
//! Must not: enter a database.

use std::time::Duration;

use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Kind, Metric, Sink};
use crate::pg::{Lossy, Session};

macro_rules! conflicts {
    ($($ident:ident $column:literal $what:literal;)*) => {
        $(static $ident: Metric = Metric::untyped(
            concat!("pg_stat_database_conflicts_", $column),
            &["datid", "datname"],
            concat!("Queries of the database cancelled by replay ", $what, ", pg_stat_database_conflicts.", $column, "."),
        ).with_server_there(Kind::Counter);)*
        static METRICS: &[&Metric] = &[$(&$ident),*];
        const COLUMNS: &[&str] = &[$($column),*];
    };
}

conflicts! {
    TABLESPACE "confl_tablespace" "because a tablespace was dropped";
    LOCK "confl_lock" "because they held a lock for too long";
    SNAPSHOT "confl_snapshot" "because they needed rows that the primary had removed";
    BUFFERPIN "confl_bufferpin" "because they pinned a buffer";
    DEADLOCK "confl_deadlock" "because of a deadlock";
}
const N: usize = COLUMNS.len();

pub struct Conflicts;

/// One database.
#[derive(Debug, Clone, PartialEq)]
pub struct DatabaseConflicts {
    /// Oid and name.
    pub labels: [String; 2],
    /// In the order of the metrics.
    pub counters: [Option<f64>; N],
}

impl Collector for Conflicts {
    type Rows = Vec<DatabaseConflicts>;
    type State = ();
    const NAME: &'static str = "conflicts";
    const HELP: &'static str = "Queries that replay cancelled on a standby, by cause.";
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(15);
    const METRICS: &'static [&'static Metric] = METRICS;

    async fn fetch(&self, session: &Session, (): &()) -> Result<Self::Rows, CollectError> {
        let columns: Vec<String> = COLUMNS.iter().map(|c| format!("c.{c}::float8")).collect();
        let sql = format!(
            "SELECT c.datid::int8 AS datid, pg_catalog.textsend(c.datname::text) AS datname, {} \
               FROM pg_catalog.pg_stat_database_conflicts c ORDER BY c.datname",
            columns.join(", ")
        );
        let rows = session.read(sql.as_str()).await?;
        let database = rows.iter().map(|row| {
            let mut counters = [None; N];
            for (counter, column) in counters.iter_mut().zip(COLUMNS) {
                *counter = row.get(column)?;
            }
            let datid: i64 = row.get("datid")?;
            Ok(DatabaseConflicts {
                labels: [datid.to_string(), row.get::<Lossy>("datname")?.0],
                counters,
            })
        });
        database.collect()
    }

    fn derive(&self, (): &mut (), rows: Self::Rows, sink: &mut Sink) {
        for database in &rows {
            let labels = database.labels.each_ref().map(String::as_str);
            for (metric, value) in METRICS.iter().zip(database.counters) {
                sink.number(metric, &labels, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll};
    use super::*;

    #[test]
    fn golden() {
        let counters = [Some(0.0), Some(1.0), Some(2.0), Some(3.0), None];
        let rows =
            vec![DatabaseConflicts { labels: ["5".to_owned(), "sh\"op".to_owned()], counters }];
        check("conflicts", &poll(&Conflicts, &mut (), rows));
    }
}
