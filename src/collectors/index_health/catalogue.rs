//! What is read of the catalogs and the statistics to judge indexes, for the collector and for whoever
//! asks once.
//!
//! Must not: call what opens a user's relation. `pg_get_indexdef` and `pg_get_expr` deparse with the
//! table open; expressions are compared by the text of their node trees instead.

use std::collections::HashMap;

use crate::collectors::relations::USERS;
use crate::derive::index::{
    BtreeColumn, Definition, Facts, ForeignKey, Index, Key, Predicate, Table, TableKind, Term,
    btree_pages, split,
};
use crate::error::CollectError;
use crate::pg::{Query, Row, Session, cut};

/// Whose names are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
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
         (PARTITION BY o.opcmethod, o.opcfamily, o.opcintype, o.opckeytype)
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
fn tables() -> String {
    format!(
        "SELECT c.oid::int8, h.inhparent::int8, \
                CASE WHEN c.named THEN n.nspname::text END, \
                CASE WHEN c.named THEN c.relname::text END, \
                c.relkind::text, \
                CASE WHEN c.relkind IN ('p', 'f') THEN 0 WHEN c.reltuples > 0 THEN c.reltuples \
                     ELSE pg_catalog.pg_stat_get_live_tuples(c.oid) END::float8, \
                (c.relpages::int8 & 4294967295)::float8, \
                CASE c.relkind WHEN 'p' THEN 0 \
                     ELSE pg_catalog.pg_stat_get_numscans(c.oid) END::float8, \
                CASE c.relkind WHEN 'p' THEN 0 \
                     ELSE pg_catalog.pg_stat_get_tuples_returned(c.oid) END::float8 \
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
    let nulls = if version >= 150_000 { "i.indnullsnotdistinct" } else { "false" };
    format!(
        "SELECT c.oid::int8, i.indrelid::int8, h.inhparent::int8, \
                CASE WHEN i.own THEN c.relname::text END, c.relkind = 'I', \
                i.indisvalid, i.indisready, i.indislive, \
                i.indrelid IN (SELECT p.relid FROM pg_catalog.pg_stat_progress_create_index p \
                  WHERE p.relid IS NOT NULL AND p.datname = pg_catalog.current_database()), \
                i.indisprimary, i.indisexclusion, i.indisreplident, i.indisclustered, \
                k.conname::text, \
                c.oid IN (SELECT r.conindid FROM pg_catalog.pg_constraint r WHERE r.contype = 'f'), \
                CASE c.relkind WHEN 'I' THEN 0 \
                     ELSE pg_catalog.pg_stat_get_numscans(c.oid) END::float8, \
                {last_scan}, (c.relpages::int8 & 4294967295)::float8, \
                {created}, \
                CASE WHEN i.own THEN m.amname::text END, i.indnkeyatts::int4, \
                CASE WHEN i.own THEN i.indkey::text END, CASE WHEN i.own THEN i.indclass::text END, \
                CASE WHEN i.own THEN i.indcollation::text END, \
                CASE WHEN i.own THEN i.indoption::text END, \
                CASE WHEN i.own THEN {expressions} END, CASE WHEN i.own THEN {predicate} END, \
                CASE WHEN i.own AND m.amname NOT IN ('btree', 'hash') THEN pg_catalog.left(pg_catalog.concat( \
                  (SELECT pg_catalog.string_agg(o, ',' ORDER BY o) \
                     FROM pg_catalog.unnest(c.reloptions) o WHERE pg_catalog.split_part(o, '=', 1) \
                     NOT IN ('fillfactor', 'fastupdate', 'gin_pending_list_limit', 'buffering', \
                             'autosummarize')), ';', \
                  (SELECT pg_catalog.string_agg(pg_catalog.concat(a.attnum, a.attoptions), ',' \
                                                ORDER BY a.attnum) \
                     FROM pg_catalog.pg_attribute a \
                    WHERE a.attrelid = c.oid AND a.attoptions IS NOT NULL)), 16385) END, \
                i.indisunique, {nulls}, i.indimmediate \
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
pub async fn facts(session: &Session, names: Names) -> Result<Facts, CollectError> {
    let version = session.server().version_num;
    let (tables, keys) = (tables(), foreign_keys(version));
    let all = i64::from(names == Names::All);
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
        Ok(rows) => rows.first().map_or(Ok(None), |row| row.get("at"))?,
    };
    let [now, opclasses, tables, indexes, keys] = answers.as_slice() else {
        return Err(no_answer());
    };
    let now = now.first().ok_or_else(no_answer)?;
    let opclasses = opclasses.iter().map(|row| Ok((row.at(0)?, row.at(1)?)));
    let opclasses: HashMap<i64, i64> = opclasses.collect::<Result<_, CollectError>>()?;
    let reset: Option<f64> = now.get("reset")?;
    Ok(Facts {
        now: now.get("now")?,
        since: reset
            .unwrap_or_default()
            .max(session.server().started)
            .max(promoted.unwrap_or_default()),
        block_size: now.get("block_size")?,
        tables: tables.iter().map(table).collect::<Result<_, _>>()?,
        indexes: indexes.iter().map(|row| index(row, &opclasses)).collect::<Result<_, _>>()?,
        foreign_keys: keys.iter().map(foreign_key).collect::<Result<_, _>>()?,
    })
}

fn no_answer() -> CollectError {
    CollectError::Missing {
        what: "the server did not say what time it is".to_owned(),
        remedy: "check that this is a PostgreSQL server".to_owned(),
    }
}

fn table(row: &Row) -> Result<Table, CollectError> {
    let (schema, name): (Option<String>, Option<String>) = (row.at(2)?, row.at(3)?);
    let kind = match row.at::<&str>(4)? {
        "p" => TableKind::Partitioned,
        "f" => TableKind::Foreign,
        _ => TableKind::Plain,
    };
    let counted = |i| Ok::<_, CollectError>(row.at::<Option<f64>>(i)?.unwrap_or(0.0));
    Ok(Table {
        id: row.at(0)?,
        parent: row.at(1)?,
        name: schema.zip(name),
        kind,
        rows: counted(5)?,
        pages: counted(6)?,
        sequential: [counted(7)?, counted(8)?],
    })
}

fn index(row: &Row, opclasses: &HashMap<i64, i64>) -> Result<Index, CollectError> {
    Ok(Index {
        id: row.at(0)?,
        table: row.at(1)?,
        parent: row.at(2)?,
        name: row.at(3)?,
        partitioned: row.at(4)?,
        valid: [row.at(5)?, row.at(6)?, row.at(7)?],
        building: row.at(8)?,
        primary: row.at(9)?,
        exclusion: row.at(10)?,
        replica_identity: row.at(11)?,
        clustered: row.at(12)?,
        constraint: row.at(13)?,
        referenced: row.at(14)?,
        scans: row.at::<Option<f64>>(15)?.unwrap_or(0.0),
        last_scan: row.at(16)?,
        pages: row.at(17)?,
        created: row.at(18)?,
        definition: definition(row, opclasses)?,
    })
}

/// `None` where it was not read, is too long, or of a form that this code does not know: nothing is compared
/// with it then.
fn definition(
    row: &Row,
    opclasses: &HashMap<i64, i64>,
) -> Result<Option<Definition>, CollectError> {
    let Some(method) = row.at::<Option<String>>(19)? else { return Ok(None) };
    if (21..=27).any(|column| row.is_cut(column)) {
        return Ok(None);
    }
    let keys = usize::try_from(row.at::<i32>(20)?).unwrap_or(0);
    let vector = |i| Ok::<_, CollectError>(numbers(row.at::<Option<&str>>(i)?.unwrap_or_default()));
    let [columns, classes, collations, options] =
        [vector(21)?, vector(22)?, vector(23)?, vector(24)?];
    let expressions = row.at::<Option<&str>>(25)?.map(|tree| split(tree).unwrap_or_default());
    let mut expressions = expressions.unwrap_or_default().into_iter();
    let mut found = Vec::with_capacity(keys);
    for (place, column) in columns.iter().take(keys).enumerate() {
        let term = match (i16::try_from(*column), expressions.len()) {
            (Ok(0), 0) | (Err(_), _) => return Ok(None),
            (Ok(0), _) => expressions.next().map(Term::Expression),
            (Ok(column), _) => Some(Term::Column(column)),
        };
        let (Some(term), Some(class), Some(collation), Some(option)) =
            (term, classes.get(place), collations.get(place), options.get(place))
        else {
            return Ok(None);
        };
        let opclass = opclasses.get(class).copied().unwrap_or(*class);
        let option = i16::try_from(*option).unwrap_or_default();
        found.push(Key { term, opclass, collation: *collation, option });
    }
    let include = columns.iter().skip(keys).filter_map(|column| i16::try_from(*column).ok());
    Ok(Some(Definition {
        method,
        keys: found,
        include: include.collect(),
        predicate: row.at::<Option<&str>>(26)?.map(Predicate::new),
        options: row.at::<Option<String>>(27)?.unwrap_or_default(),
        unique: row.at(28)?,
        nulls_not_distinct: row.at(29)?,
        immediate: row.at(30)?,
    }))
}

/// Of an `oidvector` or `int2vector` as text.
fn numbers(text: &str) -> Vec<i64> {
    text.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect()
}

fn foreign_key(row: &Row) -> Result<ForeignKey, CollectError> {
    Ok(ForeignKey {
        id: row.at(0)?,
        table: row.at(1)?,
        name: row.at(2)?,
        columns: row.at(3)?,
        references: row.at(4)?,
    })
}

const COLUMNS: &str = "\
SELECT a.attrelid::int8, a.attnum, a.attname::text FROM pg_catalog.pg_attribute a
 WHERE a.attrelid = ANY ($1::pg_catalog.oid[]) AND a.attnum > 0 AND NOT a.attisdropped";

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
    rows.iter().map(|row| Ok(((row.at(0)?, row.at(1)?), row.at(2)?))).collect()
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
        "SELECT x.oid::int8, (x.relpages::int8 & 4294967295)::float8, x.reltuples::float8, \
                (SELECT pg_catalog.split_part(o, '=', 2)::float8 / 100 \
                   FROM pg_catalog.unnest(x.reloptions) o WHERE o LIKE 'fillfactor=%'), \
                a.attlen::int4, \
                (SELECT ARRAY[s.null_frac, s.avg_width]::float8[] FROM pg_catalog.pg_stats s \
                  WHERE s.schemaname = x.nspname AND NOT s.inherited \
                    AND s.tablename = CASE x.indkey[a.attnum - 1] WHEN 0 THEN x.relname ELSE x.tab END \
                    AND s.attname = CASE x.indkey[a.attnum - 1] WHEN 0 THEN a.attname ELSE \
                          (SELECT b.attname FROM pg_catalog.pg_attribute b \
                            WHERE b.attrelid = x.indrelid AND b.attnum = x.indkey[a.attnum - 1]) END) \
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
    let mut indexes: Vec<(i64, [f64; 3], Option<Vec<BtreeColumn>>)> = Vec::new();
    for row in &rows {
        let (index, length) = (row.at(0)?, row.at::<i32>(4)?);
        let fill = row.at::<Option<f64>>(3)?.unwrap_or(FILL);
        if indexes.last().is_none_or(|(last, ..)| *last != index) {
            indexes.push((index, [row.at(1)?, row.at(2)?, fill], Some(Vec::new())));
        }
        let Some((.., columns)) = indexes.last_mut() else { continue };
        let known = row.at::<Option<Vec<f64>>>(5)?;
        let (null_fraction, average) = match known.as_deref() {
            Some([nulls, width]) => (*nulls, Some(*width)),
            _ => (0.0, None),
        };
        let width = if length > 0 { Some(f64::from(length)) } else { average };
        match (width, columns.as_mut()) {
            (Some(width), Some(columns)) => columns.push(BtreeColumn { width, null_fraction }),
            _ => *columns = None,
        }
    }
    let estimates = indexes.into_iter().filter_map(|(index, [pages, rows, fill], columns)| {
        let needed = btree_pages(rows, &columns?, block_size, fill)?;
        Some(Bloat { index, pages, needed })
    });
    Ok(estimates.collect())
}
