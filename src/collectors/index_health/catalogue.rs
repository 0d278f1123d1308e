//! What is read of the catalogs and the statistics to judge indexes, for the collector and for whoever
//! asks once.
//!
//! Must not: call what opens a user's relation. `pg_get_indexdef` and `pg_get_expr` deparse with the
//! table open; expressions are compared by the text of their node trees instead.

use std::collections::HashMap;

use crate::collectors::relations::{RelationName, USERS};
use crate::derive::index::{
    BtreeColumn, Definition, ForeignKey, Index, IndexFacts, IndexKey, IndexedTable, Predicate,
    TableKind, Term, btree_pages, split,
};
use crate::error::CollectError;
use crate::pg::{IfFound, OrZero, Query, Row, Session, Uncut, columns, cut};

/// Whose names are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhoseNames {
    /// Tables that something is judged on: roots, and partitions with an index or key of their own.
    Judged,
    /// All tables, to name partitions.
    All,
}

const NOW: &str = "\
SELECT pg_catalog.date_part('epoch', pg_catalog.now())::float8 AS now,
       pg_catalog.date_part('epoch', pg_catalog.pg_stat_get_db_stat_reset_time(d.oid))::float8 AS reset,
       pg_catalog.current_setting('block_size')::float8 AS block_size
  FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()";

/// When this server was promoted last: its time line's history was written then, and what was scanned
/// before was counted by another server.
const PROMOTED: &str = "\
SELECT pg_catalog.date_part('epoch', pg_catalog.max(w.modification))::float8 AS at
  FROM pg_catalog.pg_ls_waldir() w WHERE w.name ~ '^[0-9A-F]{8}[.]history$'";

/// SQLSTATE of a standby that is told to keep commit times, but gets none from its primary.
const NO_COMMIT_TIMES: &str = "55000";

/// Operator classes may differ by name alone, as `varchar_ops` does from `text_ops`.
const OPCLASSES: &str = "\
SELECT o.oid::int8, pg_catalog.min(o.oid::int8) OVER
         (PARTITION BY o.opcmethod, o.opcfamily, o.opcintype, o.opckeytype) AS same
  FROM pg_catalog.pg_opclass o";

/// Partitions with an index that is attached to no other, or a foreign key that is not the parent's.
macro_rules! own {
    () => {
        "(SELECT oi.indrelid FROM pg_catalog.pg_index oi \
           JOIN pg_catalog.pg_class oc ON oc.oid = oi.indexrelid \
           JOIN pg_catalog.pg_class ot ON ot.oid = oi.indrelid \
          WHERE ot.relispartition AND NOT oc.relispartition \
          UNION ALL SELECT f.conrelid FROM pg_catalog.pg_constraint f \
           WHERE f.contype = 'f' AND f.conparentid = 0)"
    };
}

/// `reltuples` is 0 or -1 where nobody counted yet, `relpages` an unsigned number in a signed column.
/// `$1` is 1 where all names are wanted.
fn tables(version: i32) -> String {
    let reset = reset(version);
    format!(
        "SELECT c.oid::int8, h.inhparent::int8 AS parent, \
                CASE WHEN c.named THEN n.nspname::text END AS schemaname, \
                CASE WHEN c.named THEN c.relname::text END AS relname, \
                c.relkind::text, \
                CASE WHEN c.relkind IN ('p', 'f') THEN 0 WHEN c.reltuples > 0 THEN c.reltuples \
                     ELSE pg_catalog.pg_stat_get_live_tuples(c.oid) END::float8 AS rows, \
                (c.relpages::int8 & 4294967295)::float8 AS pages, \
                CASE c.relkind WHEN 'p' THEN 0 \
                     ELSE pg_catalog.pg_stat_get_numscans(c.oid) END::float8 AS seq_scans, \
                CASE c.relkind WHEN 'p' THEN 0 \
                     ELSE pg_catalog.pg_stat_get_tuples_returned(c.oid) END::float8 AS seq_rows, \
                {reset} AS reset \
           FROM (SELECT t.oid, t.relname, t.relnamespace, t.relkind, t.relispartition, \
                        t.relpersistence, t.reltuples, t.relpages, \
                        $1 = 1 OR NOT t.relispartition OR t.oid IN {} AS named \
                   FROM pg_catalog.pg_class t WHERE t.relkind IN ('r', 'm', 'p', 'f')) c \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
           LEFT JOIN pg_catalog.pg_inherits h ON h.inhrelid = c.oid AND c.relispartition \
          WHERE {USERS}",
        own!()
    )
}

/// When the counters of one relation were reset, which is read of the function under the views.
fn reset(version: i32) -> &'static str {
    match version {
        190_000.. => {
            "pg_catalog.date_part('epoch', pg_catalog.pg_stat_get_stat_reset_time(c.oid))::float8"
        }
        _ => "NULL::float8",
    }
}

/// A definition comes only with the indexes of tables that something is judged on. Storage parameters
/// that change nothing about what an index finds are left out.
fn indexes(version: i32, times: bool) -> String {
    let created = if times {
        "CASE WHEN pg_catalog.current_setting('track_commit_timestamp') = 'on' \
              THEN pg_catalog.date_part('epoch', pg_catalog.pg_xact_commit_timestamp(i.tx)) \
         END::float8"
    } else {
        "NULL::float8"
    };
    let last_scan = if version >= 160_000 {
        "pg_catalog.date_part('epoch', pg_catalog.pg_stat_get_lastscan(c.oid))::float8"
    } else {
        "NULL::float8"
    };
    let reset = reset(version);
    let nulls = if version >= 150_000 { "i.indnullsnotdistinct" } else { "false" };
    format!(
        "SELECT c.oid::int8, i.indrelid::int8, h.inhparent::int8 AS parent, \
                CASE WHEN i.own THEN c.relname::text END AS name, c.relkind = 'I' AS partitioned, \
                i.indisvalid, i.indisready, i.indislive, \
                i.indrelid IN (SELECT p.relid FROM pg_catalog.pg_stat_progress_create_index p \
                  WHERE p.relid IS NOT NULL AND p.datname = pg_catalog.current_database()) \
                  AS building, \
                i.indisprimary, i.indisexclusion, i.indisreplident, i.indisclustered, \
                k.conname::text, \
                c.oid IN (SELECT r.conindid FROM pg_catalog.pg_constraint r WHERE r.contype = 'f') \
                  AS referenced, \
                CASE c.relkind WHEN 'I' THEN 0 \
                     ELSE pg_catalog.pg_stat_get_numscans(c.oid) END::float8 AS scans, \
                {last_scan} AS last_scan, (c.relpages::int8 & 4294967295)::float8 AS pages, \
                {created} AS created, {reset} AS reset, \
                CASE WHEN i.own THEN m.amname::text END AS method, i.indnkeyatts::int4, \
                CASE WHEN i.own THEN i.indkey::text END AS indkey, \
                CASE WHEN i.own THEN i.indclass::text END AS indclass, \
                CASE WHEN i.own THEN i.indcollation::text END AS indcollation, \
                CASE WHEN i.own THEN i.indoption::text END AS indoption, \
                CASE WHEN i.own THEN {expressions} END AS indexprs, \
                CASE WHEN i.own THEN {predicate} END AS indpred, \
                CASE WHEN i.own AND m.amname NOT IN ('btree', 'hash') THEN pg_catalog.left(pg_catalog.concat( \
                  (SELECT pg_catalog.string_agg(o, ',' ORDER BY o) \
                     FROM pg_catalog.unnest(c.reloptions) o WHERE pg_catalog.split_part(o, '=', 1) \
                     NOT IN ('fillfactor', 'fastupdate', 'gin_pending_list_limit', 'buffering', \
                             'autosummarize')), ';', \
                  (SELECT pg_catalog.string_agg(pg_catalog.concat(a.attnum, a.attoptions), ',' \
                                                ORDER BY a.attnum) \
                     FROM pg_catalog.pg_attribute a \
                    WHERE a.attrelid = c.oid AND a.attoptions IS NOT NULL)), 16385) END AS options, \
                i.indisunique, {nulls} AS nulls_not_distinct, i.indimmediate \
           FROM (SELECT i.*, i.xmin AS tx, NOT t.relispartition OR i.indrelid IN {own} AS own \
                   FROM pg_catalog.pg_index i \
                   JOIN pg_catalog.pg_class t ON t.oid = i.indrelid OFFSET 0) i \
           JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
           JOIN pg_catalog.pg_am m ON m.oid = c.relam \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
           LEFT JOIN pg_catalog.pg_inherits h ON h.inhrelid = c.oid AND c.relispartition \
           LEFT JOIN pg_catalog.pg_constraint k \
                  ON k.conindid = c.oid AND k.contype IN ('p', 'u', 'x') \
          WHERE {USERS}",
        own = own!(),
        expressions = cut!("i.indexprs::text"),
        predicate = cut!("i.indpred::text"),
    )
}

/// From 18 on a foreign key need not be enforced, and then looks nothing up.
fn foreign_keys(version: i32) -> String {
    let enforced = if version >= 180_000 { " AND k.conenforced" } else { "" };
    format!(
        "SELECT k.oid::int8, k.conrelid::int8, k.conname::text, k.conkey, k.confrelid::int8 \
           FROM pg_catalog.pg_constraint k \
          WHERE k.contype = 'f' AND k.conparentid = 0{enforced} ORDER BY k.oid"
    )
}

/// Reads what [`crate::derive::index::judge`] needs.
///
/// # Errors
/// As [`Session::read_all`].
pub async fn facts(session: &Session, names: WhoseNames) -> Result<IndexFacts, CollectError> {
    let version = session.server().version_num;
    let (tables, keys) = (tables(version), foreign_keys(version));
    let all = i64::from(names == WhoseNames::All);
    let read = async |times: bool| {
        let indexes = indexes(version, times);
        let queries = [
            Query::new(NOW),
            Query::new(OPCLASSES),
            Query::new(&tables).int8(&all),
            Query::new(&indexes),
            Query::new(&keys),
        ];
        session.read_all(&queries).await
    };
    let answers = match read(true).await {
        Err(CollectError::Query { sqlstate, .. }) if sqlstate == NO_COMMIT_TIMES => {
            read(false).await?
        }
        answers => answers?,
    };
    // A role without pg_monitor goes without.
    let promoted: Option<f64> = match session.read(PROMOTED).await {
        Err(e) if e.is_fatal() => return Err(e),
        Err(_) => None,
        Ok(rows) => Row::first(&rows)?.and_then(|Promoted { at }| at),
    };
    let mut answers = answers.iter().map(Vec::as_slice);
    let mut next = || answers.next().unwrap_or_default();
    let StatisticsBase { now, reset, block_size } = Row::one(next())?;
    let opclasses = Row::all(next())?.into_iter().map(|o: Opclass| (o.oid, o.same));
    let opclasses: HashMap<i64, i64> = opclasses.collect();
    let tables = Row::all(next())?;
    let mut indexes: Vec<Index> = Row::all(next())?;
    for definition in indexes.iter_mut().filter_map(|index| index.definition.as_mut()) {
        for key in &mut definition.keys {
            key.opclass = opclasses.get(&key.opclass).copied().unwrap_or(key.opclass);
        }
    }
    Ok(IndexFacts {
        now,
        since: reset
            .unwrap_or_default()
            .max(session.server().started)
            .max(promoted.unwrap_or_default()),
        block_size,
        tables,
        indexes,
        foreign_keys: Row::all(next())?,
    })
}

columns! {
    struct StatisticsBase {
        now: f64,
        reset: Option<f64>,
        block_size: f64,
    }
}

columns! {
    struct Promoted {
        at: Option<f64>,
    }
}

columns! {
    /// An operator class, and the first of those that are the same.
    struct Opclass {
        oid: i64,
        same: i64,
    }
}

columns! {
    impl IndexedTable {
        id: i64 = "oid",
        parent: Option<i64>,
        name: Option<(String, String)> as IfFound<RelationName>,
        kind: TableKind as Relkind,
        rows: f64 as OrZero,
        pages: f64 as OrZero,
        seq_scans: f64 as OrZero,
        seq_rows: f64 as OrZero,
        reset: Option<f64>,
    }
}

columns! {
    /// `pg_class.relkind`.
    pub struct Relkind {
        relkind: String,
    }
}

impl From<Relkind> for TableKind {
    fn from(row: Relkind) -> Self {
        match row.relkind.as_str() {
            "p" => Self::Partitioned,
            "f" => Self::Foreign,
            _ => Self::Plain,
        }
    }
}

columns! {
    impl Index {
        id: i64 = "oid",
        table: i64 = "indrelid",
        parent: Option<i64>,
        name: Option<String>,
        partitioned: bool,
        valid: bool = "indisvalid",
        ready: bool = "indisready",
        live: bool = "indislive",
        building: bool,
        primary: bool = "indisprimary",
        exclusion: bool = "indisexclusion",
        replica_identity: bool = "indisreplident",
        clustered: bool = "indisclustered",
        constraint: Option<String> = "conname",
        referenced: bool,
        scans: f64 as OrZero,
        last_scan: Option<f64>,
        pages: f64,
        created: Option<f64>,
        reset: Option<f64>,
        definition: Option<Definition> as IfFound<Defined>,
    }
}

columns! {
    /// A definition as it stands in the catalogs. A text that is too long to be read is `None`.
    pub struct Defined {
        method: String,
        indnkeyatts: i32,
        indkey: Option<String> as Uncut<String>,
        indclass: Option<String> as Uncut<String>,
        indcollation: Option<String> as Uncut<String>,
        indoption: Option<String> as Uncut<String>,
        indexprs: Option<Option<String>> as Uncut<Option<String>>,
        indpred: Option<Option<String>> as Uncut<Option<String>>,
        options: Option<Option<String>> as Uncut<Option<String>>,
        indisunique: bool,
        nulls_not_distinct: bool,
        indimmediate: bool,
    }
}

impl From<IfFound<Defined>> for Option<Definition> {
    fn from(row: IfFound<Defined>) -> Self {
        row.0.and_then(definition)
    }
}

/// `None` where it is too long, or of a form that this code does not know: nothing is compared with it then.
fn definition(row: Defined) -> Option<Definition> {
    let keys = usize::try_from(row.indnkeyatts).unwrap_or(0);
    let columns = numbers(&row.indkey?);
    let (classes, collations, options) =
        (numbers(&row.indclass?), numbers(&row.indcollation?), numbers(&row.indoption?));
    let expressions = row.indexprs?.map(|tree| split(&tree).unwrap_or_default());
    let mut expressions = expressions.unwrap_or_default().into_iter();
    let mut found = Vec::with_capacity(keys);
    for (place, column) in columns.iter().take(keys).enumerate() {
        let term = match i16::try_from(*column).ok()? {
            0 => Term::Expression(expressions.next()?),
            column => Term::Column(column),
        };
        let (opclass, collation) = (*classes.get(place)?, *collations.get(place)?);
        let option = i16::try_from(*options.get(place)?).unwrap_or_default();
        found.push(IndexKey { term, opclass, collation, option });
    }
    let include = columns.iter().skip(keys).filter_map(|column| i16::try_from(*column).ok());
    Some(Definition {
        method: row.method,
        keys: found,
        include: include.collect(),
        predicate: row.indpred?.map(|tree| Predicate::new(&tree)),
        options: row.options?.unwrap_or_default(),
        unique: row.indisunique,
        nulls_not_distinct: row.nulls_not_distinct,
        immediate: row.indimmediate,
    })
}

columns! {
    impl ForeignKey {
        id: i64 = "oid",
        table: i64 = "conrelid",
        name: String = "conname",
        columns: Vec<i16> = "conkey",
        references: i64 = "confrelid",
    }
}

/// Of an `oidvector` or `int2vector` as text.
fn numbers(text: &str) -> Vec<i64> {
    text.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect()
}

const COLUMNS: &str = "\
SELECT a.attrelid::int8, a.attnum, a.attname::text
  FROM pg_catalog.pg_attribute a
 WHERE a.attrelid = ANY ($1::pg_catalog.oid[]) AND a.attnum > 0 AND NOT a.attisdropped";

columns! {
    struct ColumnRow {
        attrelid: i64,
        attnum: i16,
        attname: String,
    }
}

/// The column names of tables, by the table's oid and `attnum`.
///
/// # Errors
/// As [`Session::read`].
pub async fn columns(
    session: &Session,
    tables: &Vec<i64>,
) -> Result<HashMap<(i64, i16), String>, CollectError> {
    if tables.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = session.read(Query::new(COLUMNS).int8_array(tables)).await?;
    let columns = Row::all(&rows)?.into_iter();
    Ok(columns.map(|c: ColumnRow| ((c.attrelid, c.attnum), c.attname)).collect())
}

/// The estimate of one B-tree's bloat.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bloat {
    /// `pg_class.oid`.
    pub index: i64,
    /// Pages by the catalog.
    pub pages: f64,
    /// Pages that it would have if built anew, estimated.
    pub needed: f64,
}

/// Pages below which an index is too small to matter, and to estimate.
const SMALLEST: i64 = 128;
const FILL: f64 = 0.9;

/// The largest B-trees with the columns that they store. The statistics are read for each column apart,
/// which finds them by index; as a whole, the view looks at the privileges of every column of the
/// database. Widths of types of a fixed size need no statistics.
fn largest() -> String {
    format!(
        "SELECT x.oid::int8, (x.relpages::int8 & 4294967295)::float8 AS pages, \
                x.reltuples::float8, \
                (SELECT pg_catalog.split_part(o, '=', 2)::float8 / 100 \
                   FROM pg_catalog.unnest(x.reloptions) o WHERE o LIKE 'fillfactor=%') AS fill, \
                a.attlen::int4, \
                (SELECT ARRAY[s.null_frac, s.avg_width]::float8[] FROM pg_catalog.pg_stats s \
                  WHERE s.schemaname = x.nspname AND NOT s.inherited \
                    AND s.tablename = CASE x.indkey[a.attnum - 1] WHEN 0 THEN x.relname ELSE x.tab END \
                    AND s.attname = CASE x.indkey[a.attnum - 1] WHEN 0 THEN a.attname ELSE \
                          (SELECT b.attname FROM pg_catalog.pg_attribute b \
                            WHERE b.attrelid = x.indrelid AND b.attnum = x.indkey[a.attnum - 1]) END) \
                  AS statistics \
           FROM (SELECT c.oid, c.relname, c.relpages, c.reltuples, c.reloptions, n.nspname, \
                        i.indrelid, i.indkey, t.relname AS tab \
                   FROM pg_catalog.pg_index i \
                   JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
                   JOIN pg_catalog.pg_class t ON t.oid = i.indrelid \
                   JOIN pg_catalog.pg_am m ON m.oid = c.relam AND m.amname = 'btree' \
                   JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                  WHERE c.relkind = 'i' AND i.indisvalid AND c.reltuples >= 0 \
                    AND (c.relpages::int8 & 4294967295) >= {SMALLEST} AND {USERS} \
                  ORDER BY (c.relpages::int8 & 4294967295) DESC, c.oid LIMIT $1) x \
           JOIN pg_catalog.pg_attribute a ON a.attrelid = x.oid AND a.attnum > 0 \
          ORDER BY x.oid"
    )
}

columns! {
    /// A column that a B-tree stores.
    struct Stored {
        oid: i64,
        pages: f64,
        reltuples: f64,
        fill: Option<f64>,
        attlen: i32,
        /// `null_frac` and `avg_width`.
        statistics: Option<Vec<f64>>,
    }
}

/// A B-tree with the columns that it stores, if all their widths are known.
struct StoredColumns {
    index: i64,
    pages: f64,
    rows: f64,
    fill: f64,
    columns: Option<Vec<BtreeColumn>>,
}

/// Estimates the bloat of the `most` largest B-trees (128 pages at least). Those are left out of which a column
/// of variable width has no statistics that this role may read: `pg_stats` shows only tables that the
/// role may SELECT from.
///
/// # Errors
/// As [`Session::read`].
pub async fn bloat(
    session: &Session,
    most: i64,
    block_size: f64,
) -> Result<Vec<Bloat>, CollectError> {
    if most == 0 {
        return Ok(Vec::new());
    }
    let sql = largest();
    let rows = session.read(Query::new(&sql).int8(&most)).await?;
    let mut trees: Vec<StoredColumns> = Vec::new();
    for stored in Row::each(&rows) {
        let Stored { oid, pages, reltuples, fill, attlen, statistics } = stored?;
        if trees.last().is_none_or(|last| last.index != oid) {
            let (fill, columns) = (fill.unwrap_or(FILL), Some(Vec::new()));
            trees.push(StoredColumns { index: oid, pages, rows: reltuples, fill, columns });
        }
        let Some(StoredColumns { columns, .. }) = trees.last_mut() else { continue };
        let (null_fraction, average) = match statistics.as_deref() {
            Some([nulls, width]) => (*nulls, Some(*width)),
            _ => (0.0, None),
        };
        let width = if attlen > 0 { Some(f64::from(attlen)) } else { average };
        match (width, columns.as_mut()) {
            (Some(width), Some(columns)) => columns.push(BtreeColumn { width, null_fraction }),
            _ => *columns = None,
        }
    }
    let estimates = trees.into_iter().filter_map(|tree| {
        let needed = btree_pages(tree.rows, &tree.columns?, block_size, tree.fill)?;
        Some(Bloat { index: tree.index, pages: tree.pages, needed })
    });
    Ok(estimates.collect())
}
