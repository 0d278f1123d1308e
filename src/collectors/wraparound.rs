//! How old the oldest transaction IDs of each database are, how near that is to the point where the
//! server stops assigning new ones, and who keeps VACUUM from moving it.
//!
//! Must not: enter a database.

use std::time::Duration;

use super::published::published;
use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{Lossy, Query, Row, Session, columns};

static XID: Metric = Metric::gauge(
    "pg_database_xid_age",
    &["datname"],
    "Transactions since the oldest unfrozen one of the database, age(pg_database.datfrozenxid).",
);
static MULTIXACT: Metric = Metric::gauge(
    "pg_database_multixact_age",
    &["datname"],
    "Multixacts since the oldest one of the database, mxid_age(pg_database.datminmxid).",
);
static RATIO: Metric = Metric::gauge(
    "pg_database_wraparound_ratio",
    &["datname"],
    "Share of the IDs used up after which the server refuses to assign new ones: the greater of \
     age(pg_database.datfrozenxid) and mxid_age(datminmxid), over 2^31 less 3 million.",
);
static XMIN: Metric = Metric::gauge(
    "pg_oldest_xmin_age",
    &["holder"],
    "Transactions since the oldest one whose dead rows VACUUM must keep, by who holds it: backend \
     (pg_stat_activity.backend_xmin), standby (pg_stat_replication.backend_xmin), slot \
     (pg_replication_slots.xmin, catalog_xmin) or prepared (pg_prepared_xacts.transaction); absent \
     where nobody does.",
);

macro_rules! older {
    ($ident:ident $name:literal $newer:literal) => {
        static $ident: Metric = Metric::gauge(
            concat!("pg_database_wraparound_age_", $name, "_seconds"),
            &["datname"],
            concat!("The same as ", $newer, " under postgres_exporter's name, which takes transactions for seconds, from pg_database."),
        );
    };
}
older!(OLD_XID "datfrozenxid" "pg_database_xid_age");
older!(OLD_MULTIXACT "datminmxid" "pg_database_multixact_age");

/// From PostgreSQL 14 on the server stops 3 million IDs before 2^31, before that 1 million.
const STOP: f64 = 2_147_483_648.0 - 3_000_000.0;

const DATABASES: &str = "\
SELECT pg_catalog.textsend(d.datname::text) AS datname,
       pg_catalog.age(d.datfrozenxid)::float8 AS xid,
       pg_catalog.mxid_age(d.datminmxid)::float8 AS multixact
  FROM pg_catalog.pg_database d WHERE d.datconnlimit <> -2 ORDER BY d.datname";

/// Our own transaction holds one too. A walsender's is its standby's.
const HOLDERS: &str = "\
SELECT 'backend' AS holder, pg_catalog.max(pg_catalog.age(a.backend_xmin))::float8 AS age
  FROM pg_catalog.pg_stat_activity a
 WHERE a.pid <> pg_catalog.pg_backend_pid() AND a.backend_type <> 'walsender'
 UNION ALL
SELECT 'standby', pg_catalog.max(pg_catalog.age(r.backend_xmin))::float8
  FROM pg_catalog.pg_stat_replication r
 UNION ALL
SELECT 'slot', pg_catalog.max(GREATEST(pg_catalog.age(s.xmin), pg_catalog.age(s.catalog_xmin)))::float8
  FROM pg_catalog.pg_replication_slots s
 UNION ALL
SELECT 'prepared', pg_catalog.max(pg_catalog.age(p.transaction))::float8
  FROM pg_catalog.pg_prepared_xacts p";

published! {
    /// `pg_database_wraparound_ratio`.
    pub struct WraparoundRatio of RATIO { datname => ratio: f64 }
}

pub struct Wraparound;

columns! {
    /// Ages in one database.
    #[derive(Debug, Clone, PartialEq)]
    pub struct DatabaseAges {
        /// Database.
        pub datname: String as Lossy,
        /// Of its oldest transaction ID.
        pub xid: f64,
        /// Of its oldest multixact.
        pub multixact: f64,
    }
}

columns! {
    /// Who holds rows back.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Holder {
        /// `backend`, `standby`, `slot` or `prepared`.
        pub holder: String,
        /// Age of the oldest transaction whose rows are held, `None` where none is.
        pub age: Option<f64>,
    }
}

/// What one poll read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// All databases.
    pub databases: Vec<DatabaseAges>,
    /// All kinds of holders.
    pub holders: Vec<Holder>,
}

impl Collector for Wraparound {
    type Rows = Rows;
    type State = ();
    const NAME: &'static str = "wraparound";
    const HELP: &'static str = "Age of transaction IDs per database, and who holds VACUUM back.";
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(60);
    const METRICS: &'static [&'static Metric] =
        &[&RATIO, &XID, &MULTIXACT, &XMIN, &OLD_XID, &OLD_MULTIXACT];

    async fn fetch(&self, session: &Session, (): &()) -> Result<Rows, CollectError> {
        let answers = session.read_all(&[Query::new(DATABASES), Query::new(HOLDERS)]).await?;
        let mut answers = answers.iter().map(Vec::as_slice);
        let mut next = || answers.next().unwrap_or_default();
        Ok(Rows { databases: Row::all(next())?, holders: Row::all(next())? })
    }

    fn derive(&self, (): &mut (), rows: Rows, sink: &mut Sink) {
        for DatabaseAges { datname, xid, multixact } in &rows.databases {
            sink.number(&XID, &[datname], *xid);
            sink.number(&MULTIXACT, &[datname], *multixact);
            sink.number(&OLD_XID, &[datname], *xid);
            sink.number(&OLD_MULTIXACT, &[datname], *multixact);
            sink.number(&RATIO, &[datname], xid.max(*multixact) / STOP);
        }
        for Holder { holder, age } in &rows.holders {
            sink.number(&XMIN, &[holder], age.map(|age| age.max(0.0)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll};
    use super::*;

    #[test]
    fn golden() {
        let ages = |datname: &str, xid, multixact| DatabaseAges {
            datname: datname.to_owned(),
            xid,
            multixact,
        };
        let databases =
            vec![ages("app", 536_120_912.0, 5.0), ages("sh\"op", 10.0, 1_072_241_824.0)];
        let holder = |holder: &str, age| Holder { holder: holder.to_owned(), age };
        let holders = vec![holder("backend", Some(12.0)), holder("slot", None)];
        check("wraparound", &poll(&Wraparound, &mut (), Rows { databases, holders }));
    }
}
