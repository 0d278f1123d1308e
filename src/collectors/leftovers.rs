//! What stays behind in a database and nobody looks at: large objects, and temporary tables of sessions that are gone.
//!
//! Must not: say of a temporary table that it is left behind while its session may be there, or count without an end.

use std::time::Duration;

use super::figures::figures;
use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{Query, Row, Session};

static LARGE_OBJECTS: Metric = Metric::gauge(
    "pg_large_objects",
    &["datname"],
    "Large objects of the database, rows of pg_largeobject_metadata; beyond 100,000 estimated, pg_class.reltuples.",
);
static LARGE_OBJECT_BYTES: Metric = Metric::gauge(
    "pg_large_objects_bytes",
    &["datname"],
    "Size of the database's large objects, estimated, pg_class.relpages of pg_largeobject as the last vacuum left it.",
);
static TEMPORARY: Metric = Metric::gauge(
    "pg_temporary_tables_left_behind",
    &["datname"],
    "Temporary tables whose session is gone, pg_class in schemas pg_temp_N without the backend N of \
     pg_stat_get_backend_idset(); before 16, which does not tell N, absent while others are connected to the database. \
     Absent on a standby.",
);
static TEMPORARY_AGE: Metric = Metric::gauge(
    "pg_temporary_tables_left_behind_xid_age",
    &["datname"],
    "Age in transactions of the oldest temporary table whose session is gone, age(pg_class.relfrozenxid): nobody vacuums \
     it, and it holds back the database's wraparound; absent where there is none.",
);

/// Rows that are counted.
const LARGE: &str = "\
SELECT CASE WHEN n.counted > 100000 THEN GREATEST(n.counted::float8, m.reltuples::float8)
            ELSE n.counted::float8 END AS large_objects,
       (SELECT (c.relpages::int8 & 4294967295)::float8 FROM pg_catalog.pg_class c
         WHERE c.oid = 'pg_catalog.pg_largeobject'::pg_catalog.regclass)
         * pg_catalog.current_setting('block_size')::float8 AS large_object_bytes
  FROM (SELECT pg_catalog.count(*) AS counted
          FROM (SELECT FROM pg_catalog.pg_largeobject_metadata LIMIT 100001) bounded) n
 CROSS JOIN pg_catalog.pg_class m WHERE m.oid = 'pg_catalog.pg_largeobject_metadata'::pg_catalog.regclass";

/// A session of another database cannot have made it, so its number is no excuse.
fn temporary(version_num: i32) -> String {
    let known = match version_num {
        160_000.. => "true",
        _ => {
            "NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.datname = pg_catalog.current_database() \
               AND a.backend_type = 'client backend' AND a.usename <> current_user)"
        }
    };
    let alive = match version_num {
        160_000.. => {
            "SELECT b.id FROM pg_catalog.pg_stat_get_backend_idset() b(id) \
               JOIN pg_catalog.pg_database d ON d.oid = pg_catalog.pg_stat_get_backend_dbid(b.id) \
              WHERE d.datname = pg_catalog.current_database()"
        }
        _ => "SELECT NULL::int4 AS id WHERE false",
    };
    format!(
        "SELECT CASE WHEN {known} THEN pg_catalog.count(*)::float8 END AS temporary, \
                CASE WHEN {known} THEN pg_catalog.max(CASE WHEN c.relkind <> 'p' THEN pg_catalog.age(c.relfrozenxid) \
                     END)::float8 END AS temporary_age \
           FROM pg_catalog.pg_class c \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname::text ~ '^pg_temp_[0-9]{{1,9}}$' \
          WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 't' \
            AND NOT EXISTS (SELECT FROM ({alive}) b WHERE b.id = pg_catalog.substring(n.nspname::text, 9)::int4)"
    )
}

pub struct LeftBehind;

figures! {
    /// Large objects.
    pub struct LargeObjects: Option<f64> {
        /// How many.
        large_objects => LARGE_OBJECTS,
        /// Bytes.
        large_object_bytes => LARGE_OBJECT_BYTES,
    }
}

figures! {
    /// Temporary tables.
    pub struct TemporaryTables: Option<f64> {
        /// How many.
        temporary => TEMPORARY,
        /// Transactions.
        temporary_age => TEMPORARY_AGE,
    }
}

/// What one poll read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// This database.
    pub datname: String,
    /// Large objects.
    pub large: LargeObjects,
    /// Temporary tables; `None` on a standby, whose backends are not those that made them.
    pub temporary: Option<TemporaryTables>,
}

impl Collector for LeftBehind {
    type Rows = Rows;
    type State = ();
    const NAME: &'static str = "leftovers";
    const HELP: &'static str = "Large objects, and temporary tables of sessions that are gone.";
    const SCOPE: Scope = Scope::Database;
    const INTERVAL: Duration = Duration::from_secs(900);
    const METRICS: &'static [&'static Metric] =
        &[&LARGE_OBJECTS, &LARGE_OBJECT_BYTES, &TEMPORARY, &TEMPORARY_AGE];

    async fn fetch(&self, session: &Session, (): &()) -> Result<Rows, CollectError> {
        let server = session.server();
        let temporary = temporary(server.version_num);
        let mut queries = vec![Query::new(LARGE)];
        if !server.in_recovery {
            queries.push(Query::new(&temporary));
        }
        let answers = session.read_all(&queries).await?;
        let mut answers = answers.iter().map(Vec::as_slice);
        let mut next = || answers.next().unwrap_or_default();
        Ok(Rows {
            datname: server.datname.clone(),
            large: Row::one(next())?,
            temporary: Row::first(next())?,
        })
    }

    fn derive(&self, (): &mut (), rows: Rows, sink: &mut Sink) {
        rows.large.emit(&[&rows.datname], sink);
        if let Some(temporary) = rows.temporary {
            temporary.emit(&[&rows.datname], sink);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll};
    use super::*;

    #[test]
    fn golden() {
        let rows = Rows {
            datname: "a\"b".to_owned(),
            large: [Some(3.0), Some(8192.0)].into(),
            temporary: Some([Some(2.0), Some(5e7)].into()),
        };
        check("leftovers", &poll(&LeftBehind, &mut (), rows));
    }
}
