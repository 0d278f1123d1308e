//! `pg_stat_database_conflicts`: queries that replay cancelled on a standby, by what they were in the way of.
//!
//! Must not: enter a database.

use std::time::Duration;

use super::figures::figures;
use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Kind, Metric, Sink};
use crate::pg::{Lossy, Row, Session, columns};

macro_rules! conflicts {
    ($($ident:ident $field:ident $column:literal $what:literal;)*) => {
        $(static $ident: Metric = Metric::untyped(
            concat!("pg_stat_database_conflicts_", $column),
            &["datid", "datname"],
            concat!("Queries of the database cancelled by replay ", $what, ", pg_stat_database_conflicts.", $column, "."),
        ).with_server_there(Kind::Counter);)*
        const COLUMNS: &[&str] = &[$($column),*];

        figures! {
            /// Queries that were cancelled, by cause.
            pub struct ConflictCounters: Option<f64> {
                $(#[doc = concat!("Those cancelled ", $what, ".")] $field = $column => $ident),*
            }
        }
    };
}

conflicts! {
    TABLESPACE tablespace "confl_tablespace" "because a tablespace was dropped";
    LOCK lock "confl_lock" "because they held a lock for too long";
    SNAPSHOT snapshot "confl_snapshot" "because they needed rows that the primary had removed";
    BUFFERPIN bufferpin "confl_bufferpin" "because they pinned a buffer";
    DEADLOCK deadlock "confl_deadlock" "because of a deadlock";
}

pub struct Conflicts;

columns! {
    /// One database.
    #[derive(Debug, Clone, PartialEq)]
    pub struct DatabaseConflicts {
        /// OID.
        pub datid: i64,
        /// Name.
        pub datname: String as Lossy,
        /// What it counts.
        pub counters: ConflictCounters,
    }
}

impl Collector for Conflicts {
    type Rows = Vec<DatabaseConflicts>;
    type State = ();
    const NAME: &'static str = "conflicts";
    const HELP: &'static str = "Queries that replay cancelled on a standby, by cause.";
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(15);
    const METRICS: &'static [&'static Metric] = &ConflictCounters::METRICS;

    async fn fetch(&self, session: &Session, (): &()) -> Result<Self::Rows, CollectError> {
        let columns: Vec<String> = COLUMNS.iter().map(|c| format!("c.{c}::float8")).collect();
        let sql = format!(
            "SELECT c.datid::int8 AS datid, pg_catalog.textsend(c.datname::text) AS datname, {} \
               FROM pg_catalog.pg_stat_database_conflicts c ORDER BY c.datname",
            columns.join(", ")
        );
        let rows = session.read(sql.as_str()).await?;
        Row::all(&rows)
    }

    fn derive(&self, (): &mut (), rows: Self::Rows, sink: &mut Sink) {
        for database in &rows {
            let datid = database.datid.to_string();
            let counters = <[_; ConflictCounters::N]>::from(database.counters);
            for (metric, value) in ConflictCounters::METRICS.iter().zip(counters) {
                sink.number(metric, &[&datid, &database.datname], value);
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
        let counters = ConflictCounters::from([Some(0.0), Some(1.0), Some(2.0), Some(3.0), None]);
        let rows = vec![DatabaseConflicts { datid: 5, datname: "sh\"op".to_owned(), counters }];
        check("conflicts", &poll(&Conflicts, &mut (), rows));
    }
}
