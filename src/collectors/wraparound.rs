//! How old the oldest transaction IDs of each database are, how near that is to the point where the
//! server stops assigning new ones, and who keeps VACUUM from moving it.
//!
//! Must not: enter a database.

use std::time::Duration;

use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{Lossy, Query, Row, Session};

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

/// From PostgreSQL 14 on the server stops 3 million IDs before 2^31, before that 1 million.
const STOP: f64 = 2_147_483_648.0 - 3_000_000.0;

const DATABASES: &str = "\
SELECT pg_catalog.textsend(d.datname::text), pg_catalog.age(d.datfrozenxid)::float8,
       pg_catalog.mxid_age(d.datminmxid)::float8
  FROM pg_catalog.pg_database d WHERE d.datconnlimit <> -2 ORDER BY d.datname";

/// Our own transaction holds one too. A walsender's is its standby's.
const HOLDERS: &str = "\
SELECT 'backend', pg_catalog.max(pg_catalog.age(a.backend_xmin))::float8
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

pub struct Wraparound;

/// What one poll read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Name, age of its oldest transaction ID and of its oldest multixact.
    pub databases: Vec<(String, f64, f64)>,
    /// Who holds rows back, and the age.
    pub holders: Vec<(String, Option<f64>)>,
}

impl Collector for Wraparound {
    type Rows = Rows;
    type State = ();
    const NAME: &'static str = "wraparound";
    const HELP: &'static str = "Age of transaction IDs per database, and who holds VACUUM back.";
    const SCOPE: Scope = Scope::Server;
    const INTERVAL: Duration = Duration::from_secs(60);
    const METRICS: &'static [&'static Metric] = &[&RATIO, &XID, &MULTIXACT, &XMIN];

    async fn fetch(&self, session: &Session, (): &()) -> Result<Rows, CollectError> {
        let answers = session.read_all(&[Query::new(DATABASES), Query::new(HOLDERS)]).await?;
        let mut answers = answers.iter().map(Vec::as_slice);
        let mut next = || answers.next().unwrap_or_default();
        let database = |row: &Row| Ok((row.at::<Lossy>(0)?.0, row.at(1)?, row.at(2)?));
        let holder = |row: &Row| Ok((row.at(0)?, row.at(1)?));
        Ok(Rows {
            databases: next().iter().map(database).collect::<Result<_, CollectError>>()?,
            holders: next().iter().map(holder).collect::<Result<_, CollectError>>()?,
        })
    }

    fn derive(&self, (): &mut (), rows: Rows, sink: &mut Sink) {
        for (datname, xid, multixact) in &rows.databases {
            sink.number(&XID, &[datname], *xid);
            sink.number(&MULTIXACT, &[datname], *multixact);
            sink.number(&RATIO, &[datname], xid.max(*multixact) / STOP);
        }
        for (holder, age) in &rows.holders {
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
        let databases = vec![
            ("app".to_owned(), 536_120_912.0, 5.0),
            ("sh\"op".to_owned(), 10.0, 1_072_241_824.0),
        ];
        let holders = vec![("backend".to_owned(), Some(12.0)), ("slot".to_owned(), None)];
        check("wraparound", &poll(&Wraparound, &mut (), Rows { databases, holders }));
    }
}
