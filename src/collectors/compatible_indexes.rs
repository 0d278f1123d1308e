//! `pg_statio_user_indexes` as postgres_exporter shows it: each index, those of partitions too, of the one database
//! that it is connected to, whose name is no label.
//!
//! Must not: run in the default profile, or publish a second database under the same labels.

use std::time::Duration;

use super::relations::USERS;
use crate::collector::{Collector, Scope};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{OrZero, Row, Session, columns};

const LABELS: &[&str] = &["schemaname", "relname", "indexrelname"];

static READ: Metric = Metric::counter(
    "pg_statio_user_indexes_idx_blks_read_total",
    LABELS,
    "Blocks of the index read from outside shared buffers, pg_statio_user_indexes.idx_blks_read; of the database that \
     the connection string names.",
)
.only_there();
static HIT: Metric = Metric::counter(
    "pg_statio_user_indexes_idx_blks_hit_total",
    LABELS,
    "Blocks of the index found in shared buffers, pg_statio_user_indexes.idx_blks_hit; of the database that the \
     connection string names.",
)
.only_there();

/// The functions under the view.
fn sql() -> String {
    format!(
        "SELECT n.nspname::text AS schemaname, t.relname::text AS relname, c.relname::text AS indexrelname, \
                pg_catalog.pg_stat_get_blocks_fetched(c.oid)::float8 AS fetched, \
                pg_catalog.pg_stat_get_blocks_hit(c.oid)::float8 AS hit \
           FROM pg_catalog.pg_index i \
           JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid AND c.relkind = 'i' \
           JOIN pg_catalog.pg_class t ON t.oid = i.indrelid AND t.relkind IN ('r', 'm') \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
          WHERE {USERS} ORDER BY 1, 2, 3"
    )
}

pub struct CompatibleIndexes;

columns! {
    /// One index.
    #[derive(Debug, Clone, PartialEq)]
    pub struct CompatibleIndex {
        /// Schema.
        pub schemaname: String,
        /// Table.
        pub relname: String,
        /// Name.
        pub indexrelname: String,
        /// Blocks asked for.
        pub fetched: f64 as OrZero,
        /// Those found in shared buffers.
        pub hit: f64 as OrZero,
    }
}

impl Collector for CompatibleIndexes {
    /// Nothing in other databases.
    type Rows = Vec<CompatibleIndex>;
    type State = ();
    const NAME: &'static str = "compatibleindexes";
    const HELP: &'static str =
        "Blocks read per index with postgres_exporter's labels, in its profile only.";
    const COMPATIBLE_ONLY: bool = true;
    const SCOPE: Scope = Scope::Database;
    const INTERVAL: Duration = Duration::from_secs(15);
    const METRICS: &'static [&'static Metric] = &[&READ, &HIT];

    async fn fetch(&self, session: &Session, (): &()) -> Result<Self::Rows, CollectError> {
        if !session.is_home() {
            return Ok(Vec::new());
        }
        let sql = sql();
        Row::all(&session.read(sql.as_str()).await?)
    }

    fn derive(&self, (): &mut (), rows: Self::Rows, sink: &mut Sink) {
        for index in &rows {
            let labels = [&*index.schemaname, &*index.relname, &*index.indexrelname];
            sink.number(&READ, &labels, (index.fetched - index.hit).max(0.0));
            sink.number(&HIT, &labels, index.hit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let index = |name: &str, fetched, hit| CompatibleIndex {
            schemaname: "public".to_owned(),
            relname: "event".to_owned(),
            indexrelname: name.to_owned(),
            fetched,
            hit,
        };
        let sink = Sink::new(CompatibleIndexes::METRICS, 100);
        let mut sink = sink.like_postgres_exporter(Some("db:5432".into()));
        let rows = vec![index("event_pkey", 10.0, 7.0), index("we\"ird", 0.0, 0.0)];
        CompatibleIndexes.derive(&mut (), rows, &mut sink);
        super::super::golden::check("compatibleindexes", &sink.finish().0);
    }
}
