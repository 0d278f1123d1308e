//! Bytes on disk per database, which any session can measure from outside.
//!
//! Must not: lose all sizes to one database that may not be measured, vanishes or takes too long.

use std::time::Duration;

use super::published::published;
use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{Lossy, Query, Row, Session, columns};

static SIZE: Metric = Metric::gauge(
    "pg_database_size_bytes",
    &["datname"],
    "Bytes on disk of the database, by pg_database_size(); absent where the role has neither \
     CONNECT nor pg_read_all_stats, or measuring took longer than statement_timeout.",
);

published! {
    /// `pg_database_size_bytes`.
    pub struct DatabaseSize of SIZE { datname => bytes: f64 }
}

/// A poll rests a hundred times as long as it took: it walks every file of every database.
const REST: f64 = 100.0;
const LONGEST: Duration = Duration::from_secs(900);

/// `pg_database_size` raises an error without either privilege. A limit of -2 marks what an interrupted
/// DROP DATABASE left behind.
macro_rules! size_where {
    ($condition:literal) => {
        concat!(
            "SELECT pg_catalog.textsend(d.datname::text) AS datname, \
                    CASE WHEN pg_catalog.has_database_privilege(d.oid, 'CONNECT') \
                           OR pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') \
                         THEN pg_catalog.pg_database_size(d.oid) END::int8 AS bytes \
               FROM pg_catalog.pg_database d WHERE d.datconnlimit <> -2 AND ",
            $condition,
            " ORDER BY d.datname"
        )
    };
}
const ALL: &str = size_where!("true");
const ONE: &str = size_where!("d.oid::int8 = $1");
const LIST: &str = "\
SELECT d.oid::int8 FROM pg_catalog.pg_database d WHERE d.datconnlimit <> -2 ORDER BY d.datname";

pub struct Databases;

columns! {
    /// One database.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Size {
        /// Database.
        pub datname: String as Lossy,
        /// On disk; `None` where it may not be measured.
        pub bytes: Option<i64>,
    }
}

columns! {
    /// A database that is to be measured.
    struct MeasuredDatabase {
        oid: i64,
    }
}

/// What one poll read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Seconds the poll took.
    pub took: f64,
    /// All databases.
    pub databases: Vec<Size>,
}

impl Collector for Databases {
    type Rows = Rows;
    /// Seconds the last poll took.
    type State = f64;
    const NAME: &'static str = "databases";
    const HELP: &'static str = "Bytes on disk per database.";
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(60);
    const METRICS: &'static [&'static Metric] = &[&SIZE];

    async fn fetch(&self, session: &Session, _: &f64) -> Result<Rows, CollectError> {
        let start = session.seconds();
        let rows = match session.read(ALL).await {
            Err(e) if !e.is_fatal() => one_by_one(session).await?,
            all => all?,
        };
        Ok(Rows { databases: Row::all(&rows)?, took: session.seconds() - start })
    }

    fn derive(&self, took: &mut f64, rows: Rows, sink: &mut Sink) {
        *took = rows.took;
        for Size { datname, bytes } in &rows.databases {
            // Bytes on disk are far below 2^53.
            sink.number(&SIZE, &[datname], bytes.map(|b| b as f64));
        }
    }

    fn interval(&self, took: &f64) -> Duration {
        Duration::from_secs_f64((took * REST).clamp(0.0, LONGEST.as_secs_f64())).max(Self::INTERVAL)
    }
}

/// Each database in a transaction of its own, those that fail left out, until the other collectors
/// of this session have waited long enough.
///
/// # Errors
/// The last one where no database could be measured, and any that ends the session.
async fn one_by_one(session: &Session) -> Result<Vec<Row>, CollectError> {
    let (mut rows, mut failure) = (Vec::new(), None);
    let enough = session.seconds() + session.settings().timeouts.statement.as_secs_f64() * 2.0;
    for MeasuredDatabase { oid } in Row::all(&session.read(LIST).await?)? {
        if session.seconds() > enough {
            break;
        }
        match session.read(Query::new(ONE).int8(&oid)).await {
            Ok(row) => rows.extend(row),
            Err(e) if e.is_fatal() => return Err(e),
            Err(e) => failure = Some(e),
        }
    }
    match failure {
        Some(e) if rows.is_empty() => Err(e),
        _ => Ok(rows),
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll};
    use super::*;

    #[test]
    fn golden_and_the_interval_follows_the_cost() {
        let mut took = 0.0;
        let size = |datname: &str, bytes| Size { datname: datname.to_owned(), bytes };
        let databases =
            vec![size("app", Some(7_000_000)), size("closed", None), size("sh\"op\\\n", Some(9))];
        let families = poll(&Databases, &mut took, Rows { took: 3.0, databases });
        assert_eq!(Databases.interval(&took), Duration::from_secs(300));
        check("databases", &families);
    }
}
