//! Scans of each root table and the rows that they fetched, as `pg_stat_user_tables` counts them, rolled up over
//! partitions.
//!
//! Must not: lock a relation.

use std::time::Duration;

use super::relations::{Roots, TableRow, USERS, tree};
use crate::collector::{Collector, Scope};
use crate::derive::rollup::{Reading, Rollup};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{OrZero, Row, Session, columns};

const LABELS: &[&str] = &["datname", "schemaname", "relname"];

macro_rules! cumulative {
    ($($ident:ident $column:literal $what:literal;)*) => {
        $(static $ident: Metric = Metric::untyped(
            concat!("pg_stat_user_tables_", $column),
            LABELS,
            concat!(
                $what, ", pg_stat_user_tables.", $column, "; of a partitioned table the increments of all its \
                 partitions since pgrunway began to watch."
            ),
        ).counter_there();)*
        static METRICS: &[&Metric] = &[$(&$ident),*];
    };
}
cumulative! {
    SEQ_SCAN "seq_scan" "Sequential scans of the table";
    SEQ_TUP_READ "seq_tup_read" "Live rows that sequential scans fetched";
    IDX_SCAN "idx_scan" "Scans of the table's indexes";
    IDX_TUP_FETCH "idx_tup_fetch" "Live rows that scans of the table's indexes fetched";
}
const N: usize = 4;

/// The functions under the view; of the indexes only those that were ever read.
fn sql(leaves: bool) -> String {
    let tree = tree(leaves);
    format!(
        "SELECT {tree}, NULL::int8 AS owner, 0 AS hash, \
                pg_catalog.pg_stat_get_numscans(c.oid)::float8 AS scans, \
                pg_catalog.pg_stat_get_tuples_returned(c.oid)::float8 AS returned, \
                pg_catalog.pg_stat_get_tuples_fetched(c.oid)::float8 AS fetched \
           FROM pg_catalog.pg_class c \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
           LEFT JOIN pg_catalog.pg_inherits h ON h.inhrelid = c.oid AND c.relispartition \
          WHERE c.relkind IN ('r', 'm', 'p') AND {USERS} \
          UNION ALL \
         SELECT x.* FROM ( \
           SELECT c.oid::int8, NULL::int8, NULL::text, NULL::text, \
                  i.indrelid::int8, pg_catalog.hashname(c.relname), \
                  pg_catalog.pg_stat_get_numscans(c.oid)::float8 AS scans, 0::float8, \
                  pg_catalog.pg_stat_get_tuples_fetched(c.oid)::float8 \
             FROM pg_catalog.pg_index i \
             JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid AND c.relkind = 'i' \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
            WHERE {USERS} OFFSET 0) x \
          WHERE x.scans > 0"
    )
}

pub struct Scans;

columns! {
    /// A table or an index with its counters.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ScannedRelation {
        /// The relation; an index has neither parent nor name here.
        pub table: TableRow,
        /// For an index: its table.
        pub owner: Option<i64>,
        /// For an index: the hash of its name.
        pub hash: i32,
        /// Scans.
        pub scans: f64 as OrZero,
        /// Rows that sequential scans returned.
        pub returned: f64 as OrZero,
        /// Rows fetched.
        pub fetched: f64 as OrZero,
    }
}

/// What one poll read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Unix seconds of the server's start.
    pub started: f64,
    /// This database.
    pub datname: String,
    /// Tables, and the indexes that were read.
    pub relations: Vec<ScannedRelation>,
}

impl Collector for Scans {
    type Rows = Rows;
    type State = Rollup<N>;
    const NAME: &'static str = "scans";
    const HELP: &'static str =
        "Scans per root table, sequential and by index, partitions included.";
    const SCOPE: Scope = Scope::Database;
    const INTERVAL: Duration = Duration::from_secs(15);
    const METRICS: &'static [&'static Metric] = METRICS;

    async fn fetch(&self, session: &Session, _: &Rollup<N>) -> Result<Rows, CollectError> {
        let sql = sql(session.server_label().is_some());
        let rows = session.read(sql.as_str()).await?;
        Ok(Rows {
            started: session.server().started,
            datname: session.server().datname.clone(),
            relations: Row::all(&rows)?,
        })
    }

    fn derive(&self, totals: &mut Rollup<N>, rows: Rows, sink: &mut Sink) {
        let tables = rows.relations.iter().filter(|r| r.owner.is_none()).map(|r| &r.table);
        let roots = Roots::new(tables);
        let readings = rows.relations.iter().filter_map(|relation| {
            let id = relation.table.id;
            let alias = relation.owner.map(|owner| (owner, relation.hash));
            let root = roots.of(alias.map_or(id, |(owner, _)| owner))?;
            let ScannedRelation { scans, returned, fetched, .. } = *relation;
            let counters = match alias {
                // Bitmap scans fetch rows for the table, not for an index.
                None => [scans, returned, 0.0, fetched],
                Some(_) => [0.0, 0.0, scans, fetched],
            };
            Some(Reading { id, root, alias, counters })
        });
        let readings: Vec<_> = readings.collect();
        totals.update(rows.started, &readings);
        for (schema, name, id) in roots.iter() {
            let Some(total) = totals.published(id) else { continue };
            for (metric, value) in METRICS.iter().zip(total) {
                sink.number(metric, &[&rows.datname, schema, name], value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll, value};
    use super::super::relations::fixtures::{partition, root};
    use super::*;

    #[test]
    fn golden_rolls_partitions_up_and_adds_what_indexes_fetched() {
        let table = |table, [scans, returned, fetched]: [f64; 3]| ScannedRelation {
            table,
            owner: None,
            hash: 0,
            scans,
            returned,
            fetched,
        };
        let index = |id, of, counters| ScannedRelation {
            owner: Some(of),
            hash: 7,
            ..table(TableRow { id, parent: None, name: None }, counters)
        };
        let rows = |n: f64| Rows {
            started: 1.0,
            datname: "app".to_owned(),
            relations: vec![
                table(root(1, "public", "event"), [0.0; 3]),
                table(partition(2, 1), [3.0 * n, 30.0 * n, 0.0]),
                index(12, 2, [5.0 * n, 0.0, 4.0 * n]),
                table(root(9, "we\"ird", "plain"), [n, 100.0 * n, 2.0]),
                index(19, 9, [8.0 * n, 0.0, 6.0]),
            ],
        };
        let mut totals = Rollup::default();
        let first = poll(&Scans, &mut totals, rows(10.0));
        let plain = ["app", "we\"ird", "plain"];
        assert_eq!(value(&first, "pg_stat_user_tables_idx_tup_fetch", &plain), Some(8.0));
        let event = ["app", "public", "event"];
        assert_eq!(value(&first, "pg_stat_user_tables_seq_scan", &event), Some(0.0));
        check("scans", &poll(&Scans, &mut totals, rows(12.0)));
    }
}
