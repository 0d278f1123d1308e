//! Estimates of how much of the largest tables, and of what TOAST keeps for them, holds nothing. Those of B-trees are in
//! `index_health`.
//!
//! Must not: lock a relation, read a table, or take an estimate for a measurement.

use std::collections::BTreeMap;
use std::time::Duration;

use super::relations::USERS;
use crate::collector::{Collector, Scope};
use crate::derive::heap::{HeapColumn, heap_pages, toast_pages};
use crate::error::CollectError;
use crate::metric::{Metric, Sink};
use crate::pg::{Query, Row, Session, columns};

const TABLE: &[&str] = &["datname", "schemaname", "relname"];

static BLOAT: Metric = Metric::gauge(
    "pg_table_bloat_estimated_bytes",
    TABLE,
    "Bytes of the table and its partitions beyond those that its rows would take if they were written anew, estimated from \
     pg_class.relpages and reltuples, pg_stats and the fill factor, of the largest tables (collectors.indexhealth.bloat_largest) whose \
     columns' widths the role may know.",
);
static TOAST: Metric = Metric::gauge(
    "pg_table_toast_bloat_estimated_bytes",
    TABLE,
    "Bytes of the table's TOAST beyond those that its chunks would take at most, estimated from pg_class.relpages and \
     reltuples as the last vacuum left them, of the largest TOAST tables (collectors.indexhealth.bloat_largest): the least that is empty.",
);

/// Pages below which a table is too small to matter, and to estimate.
const SMALLEST: i64 = 128;

/// A row for each column that is stored of the largest tables. The statistics are read for each column apart, which finds
/// them by index.
fn heaps() -> String {
    format!(
        "SELECT x.oid::int8, x.pages, x.rows, x.fill, x.schemaname, x.relname, a.attlen::int4, \
                CASE a.attalign WHEN 'd' THEN 8 WHEN 'i' THEN 4 WHEN 's' THEN 2 ELSE 1 END::float8 AS align, \
                (SELECT ARRAY[s.null_frac, s.avg_width]::float8[] FROM pg_catalog.pg_stats s \
                  WHERE s.schemaname = x.own_schema AND s.tablename = x.own_name AND NOT s.inherited \
                    AND s.attname = a.attname) AS statistics \
           FROM (SELECT t.oid, t.pages, t.rows, t.fill, t.own_schema, t.own_name, \
                        n.nspname::text AS schemaname, r.relname::text AS relname \
                   FROM (SELECT c.oid, c.relispartition, n.nspname AS own_schema, c.relname AS own_name, \
                                (c.relpages::int8 & 4294967295)::float8 AS pages, c.reltuples::float8 AS rows, \
                                (SELECT pg_catalog.split_part(o, '=', 2)::float8 / 100 \
                                   FROM pg_catalog.unnest(c.reloptions) o WHERE o LIKE 'fillfactor=%') AS fill \
                           FROM pg_catalog.pg_class c \
                           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                           JOIN pg_catalog.pg_am m ON m.oid = c.relam AND m.amname = 'heap' \
                          WHERE c.relkind IN ('r', 'm') AND c.reltuples >= 0 \
                            AND (c.relpages::int8 & 4294967295) >= {SMALLEST} AND {USERS} \
                          ORDER BY (c.relpages::int8 & 4294967295) DESC, c.oid LIMIT $1) t \
                   JOIN pg_catalog.pg_class r ON r.oid = CASE WHEN t.relispartition \
                        THEN pg_catalog.pg_partition_root(t.oid::pg_catalog.regclass)::pg_catalog.oid ELSE t.oid END \
                   JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace) x \
           JOIN pg_catalog.pg_attribute a ON a.attrelid = x.oid AND a.attnum > 0 AND NOT a.attisdropped \
          ORDER BY x.oid, a.attnum"
    )
}

/// A row for each of the largest TOAST tables.
fn toasts() -> String {
    format!(
        "SELECT x.pages, x.rows, n.nspname::text AS schemaname, r.relname::text AS relname \
           FROM (SELECT c.oid, c.relispartition, (t.relpages::int8 & 4294967295)::float8 AS pages, \
                        t.reltuples::float8 AS rows \
                   FROM pg_catalog.pg_class t \
                   JOIN pg_catalog.pg_class c ON c.reltoastrelid = t.oid \
                   JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                  WHERE t.relkind = 't' AND t.reltuples >= 0 \
                    AND (t.relpages::int8 & 4294967295) >= {SMALLEST} AND {USERS} \
                  ORDER BY (t.relpages::int8 & 4294967295) DESC, t.oid LIMIT $1) x \
           JOIN pg_catalog.pg_class r ON r.oid = CASE WHEN x.relispartition \
                THEN pg_catalog.pg_partition_root(x.oid::pg_catalog.regclass)::pg_catalog.oid ELSE x.oid END \
           JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace"
    )
}

pub struct TableBloat;

columns! {
    /// A column of a table.
    #[derive(Debug, Clone, PartialEq)]
    pub struct StoredColumn {
        /// `pg_class.oid` of the table.
        pub oid: i64,
        /// Pages of the table.
        pub pages: f64,
        /// Rows of the table.
        pub rows: f64,
        /// Fill factor of the table.
        pub fill: Option<f64>,
        /// Schema of the root table.
        pub schemaname: String,
        /// Root table.
        pub relname: String,
        /// Bytes, or less than 0 where they vary.
        pub attlen: i32,
        /// Bytes to a multiple of which it begins.
        pub align: f64,
        /// `null_frac` and `avg_width`, where the role may know them.
        pub statistics: Option<Vec<f64>>,
    }
}

columns! {
    /// A TOAST table.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ToastTable {
        /// Its pages.
        pub pages: f64,
        /// Its chunks.
        pub rows: f64,
        /// Schema of the root table.
        pub schemaname: String,
        /// Root table.
        pub relname: String,
    }
}

columns! {
    struct BlockSize {
        bytes: f64,
    }
}

const BLOCK: &str = "SELECT pg_catalog.current_setting('block_size')::float8 AS bytes";

/// What one poll read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// This database.
    pub datname: String,
    /// Bytes of a page.
    pub block_size: f64,
    /// Columns, by table.
    pub columns: Vec<StoredColumn>,
    /// TOAST.
    pub toasts: Vec<ToastTable>,
}

impl Collector for TableBloat {
    type Rows = Rows;
    type State = ();
    const NAME: &'static str = "bloat";
    const HELP: &'static str =
        "How much of the largest tables and their TOAST holds nothing, estimated.";
    const SCOPE: Scope = Scope::Database;
    const INTERVAL: Duration = Duration::from_secs(900);
    const METRICS: &'static [&'static Metric] = &[&BLOAT, &TOAST];

    async fn fetch(&self, session: &Session, (): &()) -> Result<Rows, CollectError> {
        let datname = session.server().datname.clone();
        let most = session.settings().indexes.bloat_largest;
        if most == 0 {
            return Ok(Rows { datname, block_size: 0.0, columns: Vec::new(), toasts: Vec::new() });
        }
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let (heaps, toasts) = (heaps(), toasts());
        let queries =
            [Query::new(BLOCK), Query::new(&heaps).int8(&most), Query::new(&toasts).int8(&most)];
        let answers = session.read_all(&queries).await?;
        let mut answers = answers.iter().map(Vec::as_slice);
        let mut next = || answers.next().unwrap_or_default();
        Ok(Rows {
            datname,
            block_size: Row::one::<BlockSize>(next())?.bytes,
            columns: Row::all(next())?,
            toasts: Row::all(next())?,
        })
    }

    fn derive(&self, (): &mut (), rows: Rows, sink: &mut Sink) {
        let mut roots: BTreeMap<[&str; 2], f64> = BTreeMap::new();
        for table in rows.columns.chunk_by(|a, b| a.oid == b.oid) {
            let Some(first) = table.first() else { continue };
            let stored: Option<Vec<HeapColumn>> = table.iter().map(StoredColumn::stored).collect();
            let fill = first.fill.unwrap_or(1.0);
            let needed =
                stored.and_then(|columns| heap_pages(first.rows, &columns, rows.block_size, fill));
            if let Some(needed) = needed {
                let root = roots.entry([&first.schemaname, &first.relname]).or_default();
                *root += (first.pages - needed).max(0.0) * rows.block_size;
            }
        }
        for ([schema, name], bytes) in roots {
            sink.number(&BLOAT, &[&rows.datname, schema, name], bytes);
        }
        let mut roots: BTreeMap<[&str; 2], f64> = BTreeMap::new();
        for toast in &rows.toasts {
            let Some(needed) = toast_pages(toast.rows) else { continue };
            let root = roots.entry([&toast.schemaname, &toast.relname]).or_default();
            *root += (toast.pages - needed).max(0.0) * rows.block_size;
        }
        for ([schema, name], bytes) in roots {
            sink.number(&TOAST, &[&rows.datname, schema, name], bytes);
        }
    }
}

impl StoredColumn {
    /// `None` where its width is not known.
    fn stored(&self) -> Option<HeapColumn> {
        let (null_fraction, average) = match self.statistics.as_deref() {
            Some([nulls, width]) => (*nulls, Some(*width)),
            _ => (0.0, None),
        };
        let varies = self.attlen < 0;
        let width = if varies { average? } else { f64::from(self.attlen) };
        Some(HeapColumn { width, null_fraction, align: self.align, varies })
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{check, poll, value};
    use super::*;

    fn column(oid: i64, relname: &str, attlen: i32, statistics: Option<Vec<f64>>) -> StoredColumn {
        StoredColumn {
            oid,
            pages: 1_000.0,
            rows: 100_000.0,
            fill: None,
            schemaname: "public".to_owned(),
            relname: relname.to_owned(),
            attlen,
            align: 4.0,
            statistics,
        }
    }

    #[test]
    fn golden_partitions_add_up_and_what_is_not_known_has_no_estimate() {
        let columns = vec![
            column(1, "orders", 4, None),
            column(2, "orders", 4, None),
            column(3, "hidden", 4, None),
            column(3, "hidden", -1, None),
            column(4, "no\"tes", 4, None),
            column(4, "no\"tes", -1, Some(vec![0.5, 20.0])),
        ];
        let toast = |pages, rows| ToastTable {
            pages,
            rows,
            schemaname: "public".to_owned(),
            relname: "orders".to_owned(),
        };
        let rows = Rows {
            datname: "app".to_owned(),
            block_size: 8192.0,
            columns,
            toasts: vec![toast(500.0, 1_000.0), toast(100.0, 4_000.0)],
        };
        let families = poll(&TableBloat, &mut (), rows);
        let of = |metric, name| value(&families, metric, &["app", "public", name]);
        // 226 rows of 36 bytes fit on a page of 8,168.
        let orders = 2.0 * (1_000.0 - 443.0) * 8192.0;
        assert_eq!(of("pg_table_bloat_estimated_bytes", "orders"), Some(orders));
        assert_eq!(of("pg_table_bloat_estimated_bytes", "hidden"), None);
        assert_eq!(of("pg_table_toast_bloat_estimated_bytes", "orders"), Some(250.0 * 8192.0));
        check("bloat", &families);
    }
}
