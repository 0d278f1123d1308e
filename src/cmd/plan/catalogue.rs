//! What the plan needs to know of one table and its partitions.
//!
//! Must not: read a user's rows, or lock beyond what deparsing a partition key does.

use std::collections::{HashMap, HashSet};

use anyhow::Context;
use jiff::tz::TimeZone;

use crate::collectors::partitions::Zone;
use crate::derive::partition::plan::{Label, Name, NamedTree, Retirement};
use crate::derive::partition::{
    Bound, Child, KeyUnit, Level, PartitionKey, Strategy, fixed_zone, settle,
};
use crate::error::CollectError;
use crate::pg::{OrZero, Query, Row, Session, columns};
use crate::remedy::{Relation as Table, quote};

const PARTITIONED: &str = "\
SELECT c.oid::int8 AS oid, n.nspname::text AS schema, c.relname::text AS name, \
       (WITH RECURSIVE up(id) AS (SELECT c.oid UNION ALL SELECT i.inhparent FROM up \
          JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.id) \
        SELECT rn.nspname::text || '.' || r.relname::text FROM up \
          JOIN pg_catalog.pg_class r ON r.oid = up.id AND NOT r.relispartition \
          JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace \
         WHERE c.relispartition LIMIT 1) AS root \
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
 WHERE c.relkind = 'p' AND c.relpersistence <> 't' ORDER BY 2, 3";

const RELATION: &str = "\
SELECT n.nspname::text || '.' || c.relname::text AS name \
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
 WHERE c.relname::text = $1 AND (n.nspname::text = $2 OR $2 = '') \
   AND c.relkind IN ('r', 'f', 'v', 'm') \
 ORDER BY n.nspname = 'pg_catalog', 1 LIMIT 1";

/// Names that a new table cannot have: of relations, and of types, since each table brings one.
const EXISTING: &str = "\
SELECT n.nspname::text AS schema, c.relname::text AS name \
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
 WHERE c.relname::text IN (SELECT pg_catalog.json_array_elements_text($1::json)) \
UNION \
SELECT n.nspname::text, t.typname::text \
  FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
 WHERE t.typname::text IN (SELECT pg_catalog.json_array_elements_text($1::json))";

const FACTS: &str = "\
SELECT (pg_catalog.date_part('epoch', pg_catalog.now()) * 1000000)::int8 AS now, \
       EXISTS (SELECT FROM pg_catalog.pg_constraint f \
                WHERE f.contype = 'f' AND f.confrelid IN ( \
                  WITH RECURSIVE tree(id) AS (SELECT $1::int8::pg_catalog.oid UNION ALL SELECT i.inhrelid \
                    FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.id) SELECT id FROM tree)) AS referenced";

macro_rules! relations {
    ($pending:literal) => {
        concat!(
            "\
WITH RECURSIVE tree(id, parent, pending) AS ( \
SELECT $1::int8::pg_catalog.oid, 0::pg_catalog.oid, false \
UNION ALL \
SELECT i.inhrelid, i.inhparent, ",
            $pending,
            " FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.id) \
SELECT c.oid::int8 AS oid, t.parent::int8 AS parent, t.pending, \
       n.nspname::text AS schema, c.relname::text AS name, \
       c.relkind::text AS kind, c.relpersistence = 'u' AS unlogged, \
       pg_catalog.left(pg_catalog.pg_get_expr(c.relpartbound, 0), 16385) AS bound, \
       (SELECT pg_catalog.quote_ident(s.spcname) FROM pg_catalog.pg_tablespace s \
         WHERE s.oid = c.reltablespace) AS tablespace, \
       COALESCE(c.reloptions, '{}') AS options, \
       COALESCE((SELECT x.reloptions FROM pg_catalog.pg_class x \
                  WHERE x.oid = c.reltoastrelid), '{}') AS toast, \
       (SELECT pg_catalog.quote_ident(a.amname) FROM pg_catalog.pg_am a \
         WHERE a.oid = c.relam AND a.amname <> 'heap') AS method, \
       pg_catalog.pg_get_userbyid(c.relowner)::text AS owner, c.relforcerowsecurity AS forced, \
       CASE WHEN c.reltuples > 0 THEN c.reltuples::float8 \
            ELSE pg_catalog.pg_stat_get_live_tuples(c.oid)::float8 END AS rows, \
       p.partstrat::text AS strategy, \
       (SELECT a.attname::text FROM pg_catalog.pg_attribute a \
         WHERE a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]) AS key_column, \
       ARRAY(SELECT CASE WHEN k.opc::int8 < 16384 THEN y.typname::text ELSE 'user_defined' END \
               FROM pg_catalog.unnest(p.partclass::pg_catalog.oid[]) WITH ORDINALITY k(opc, nr) \
               JOIN pg_catalog.pg_opclass o ON o.oid = k.opc \
               JOIN pg_catalog.pg_type y ON y.oid = o.opcintype \
              ORDER BY k.nr) AS keys, \
       CASE WHEN p.partattrs[0] = 0 THEN pg_catalog.left(p.partexprs::text, 16385) END AS exprs, \
       CASE WHEN p.partrelid IS NOT NULL THEN pg_catalog.left(pg_catalog.pg_get_partkeydef(c.oid), 16385) END AS key, \
       CASE WHEN p.partattrs[0] <> 0 THEN \
            (SELECT pg_catalog.quote_ident(a.attname) FROM pg_catalog.pg_attribute a \
              WHERE a.attrelid = c.oid AND a.attnum = p.partattrs[0]) \
            WHEN p.partnatts = 1 THEN pg_catalog.left('(' || pg_catalog.pg_get_expr(p.partexprs, c.oid) || ')', 16385) \
       END AS leading \
  FROM tree t \
  JOIN pg_catalog.pg_class c ON c.oid = t.id \
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
  LEFT JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = c.oid \
 WHERE c.relkind IN ('r', 'p', 'f')"
        )
    };
}

const SIZES: &str = "\
SELECT u.id AS oid, \
       (SELECT pg_catalog.pg_size_pretty(pg_catalog.sum(pg_catalog.pg_total_relation_size(t.relid))) \
          FROM pg_catalog.pg_partition_tree(u.id::pg_catalog.oid::pg_catalog.regclass) t) AS size \
  FROM pg_catalog.unnest($1::int8[]) u(id)";

columns! {
    /// A partitioned table of the database.
    #[derive(Debug, Clone)]
    pub(super) struct KnownTable {
        pub(super) oid: i64,
        pub(super) schema: String,
        pub(super) table: String = "name",
        /// The table that it is a partition of, at the top.
        pub(super) root: Option<String>,
    }
}

columns! {
    struct NameRow {
        name: String,
    }
}

columns! {
    struct ExistingRow {
        schema: String,
        name: String,
    }
}

columns! {
    struct SizeOfRow {
        oid: i64,
        size: Option<String>,
    }
}

columns! {
    struct FactsRow {
        now: i64,
        referenced: bool,
    }
}

columns! {
    /// One row of the tree.
    struct RelationRow {
        oid: i64,
        parent: i64,
        pending: bool,
        schema: String,
        name: String,
        kind: String,
        unlogged: bool,
        bound: Option<String>,
        tablespace: Option<String>,
        options: Vec<String>,
        toast: Vec<String>,
        method: Option<String>,
        owner: String,
        forced: bool,
        rows: f64 as OrZero,
        strategy: Option<String>,
        key_column: Option<String>,
        keys: Vec<String>,
        exprs: Option<String>,
        key: Option<String>,
        leading: Option<String>,
    }
}

impl KnownTable {
    pub(super) fn display(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }
}

/// One table of the tree.
#[derive(Debug, Clone)]
pub(super) struct TreeTable {
    pub(super) oid: i64,
    pub(super) name: Name,
    /// Quoted for SQL, with its schema.
    pub(super) sql: String,
    pub(super) kind: String,
    pub(super) unlogged: bool,
    /// Quoted; `None` where it follows the database.
    pub(super) tablespace: Option<String>,
    /// `name=value`.
    pub(super) options: Vec<String>,
    /// The access method, where it is not heap.
    pub(super) method: Option<String>,
    pub(super) owner: String,
    /// Whether row security holds for its owner, too.
    pub(super) forced: bool,
    pub(super) rows: f64,
    /// `RANGE (ts)`, of partitioned tables.
    pub(super) key: Option<String>,
    /// The leading column or expression of the key, where it can be told.
    pub(super) leading: Option<String>,
}

/// A table with all its partitions.
pub(super) struct Catalogue {
    /// Microseconds since 1970 by the server's clock.
    pub(super) now: i128,
    /// Whether a foreign key points to the table or to one of its levels.
    pub(super) referenced: bool,
    pub(super) root: usize,
    /// Of each level.
    pub(super) tables: Vec<TreeTable>,
    /// Of each level's children.
    pub(super) partitions: Vec<Vec<TreeTable>>,
    /// Half detached: parent and partition.
    pub(super) pending: Vec<(String, TreeTable)>,
    levels: Vec<Level>,
    table_names: Vec<Name>,
    labels: Vec<Vec<Label>>,
}

/// All partitioned tables of the session's database.
pub(super) async fn partitioned(session: &Session) -> Result<Vec<KnownTable>, CollectError> {
    Row::all(&session.read(PARTITIONED).await?)
}

/// A table or view that is called so, and is not partitioned.
pub(super) async fn relation(
    session: &Session,
    spellings: &[(Option<String>, String)],
) -> Result<Option<String>, CollectError> {
    for (schema, table) in spellings {
        let schema = schema.clone().unwrap_or_default();
        let rows = session.read(Query::new(RELATION).text(table).text(&schema)).await?;
        if let Some(NameRow { name }) = Row::first(&rows)? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Which of these names exist already.
pub(super) async fn existing(
    session: &Session,
    names: &HashSet<Name>,
) -> anyhow::Result<HashSet<Name>> {
    let tables: Vec<&str> = names.iter().map(|n| n.table.as_str()).collect();
    let json = serde_json::to_string(&tables)?;
    let mut found = HashSet::new();
    let rows = session.read(Query::new(EXISTING).text(&json)).await?;
    for row in Row::all::<ExistingRow>(&rows)? {
        let name = Name { schema: row.schema, table: row.name };
        if names.contains(&name) {
            found.insert(name);
        }
    }
    Ok(found)
}

impl TreeTable {
    /// For statements.
    pub(super) fn table(&self) -> Table {
        Table::new(&self.name.schema, &self.name.table)
    }

    fn of(row: &RelationRow) -> Self {
        let name = Name { schema: row.schema.clone(), table: row.name.clone() };
        let toast = row.toast.iter().map(|option| format!("toast.{option}"));
        Self {
            oid: row.oid,
            sql: quote::relation(&name.schema, &name.table),
            name,
            kind: row.kind.clone(),
            unlogged: row.unlogged,
            tablespace: row.tablespace.clone(),
            options: row.options.iter().cloned().chain(toast).collect(),
            method: row.method.clone(),
            owner: row.owner.clone(),
            forced: row.forced,
            rows: row.rows,
            key: row.key.clone(),
            leading: row.leading.clone(),
        }
    }
}

impl Catalogue {
    /// The tree below a table, whose integer key is configured to hold `unit`.
    pub(super) async fn read(
        session: &Session,
        oid: i64,
        unit: Option<KeyUnit>,
    ) -> anyhow::Result<Self> {
        let sql = if session.server().version_num >= 140_000 {
            relations!("i.inhdetachpending")
        } else {
            relations!("false")
        };
        let queries = [Query::new(FACTS).int8(&oid), Query::new(sql).int8(&oid)];
        let answers = session.read_all(&queries).await?;
        let [facts, rows] = answers.as_slice() else { anyhow::bail!("the server gave no answer") };
        let facts: FactsRow = Row::one(facts)?;
        let rows: Vec<RelationRow> = Row::all(rows)?;
        let mut new = Self {
            now: facts.now.into(),
            referenced: facts.referenced,
            root: 0,
            tables: Vec::new(),
            partitions: Vec::new(),
            pending: Vec::new(),
            levels: Vec::new(),
            table_names: Vec::new(),
            labels: Vec::new(),
        };
        let mut index: HashMap<i64, usize> = HashMap::new();
        for row in &rows {
            let relation = TreeTable::of(row);
            let Some(strategy) = row.strategy.as_deref() else { continue };
            let strategy =
                Strategy::from_code(strategy).context("an unknown kind of partitioning")?;
            let zone = row.exprs.as_deref().and_then(fixed_zone);
            let zone = match zone.map(|zone| Zone::find([zone.as_str()])) {
                Some(Zone::Known(zone)) => Some(zone),
                Some(Zone::Unknown) | None => None,
            };
            index.insert(relation.oid, new.levels.len());
            let keys = row.keys.iter().map(|key| PartitionKey::of(key)).collect();
            let column = row.key_column.as_deref().map(Into::into);
            new.levels.push(Level { strategy, keys, column, zone, children: Vec::new() });
            new.table_names.push(relation.name.clone());
            new.tables.push(relation);
        }
        new.root = *index.get(&oid).context("the table has just been dropped")?;
        new.partitions = vec![Vec::new(); new.levels.len()];
        new.labels = vec![Vec::new(); new.levels.len()];
        for row in &rows {
            let Some(&parent) = index.get(&row.parent) else { continue };
            let relation = TreeTable::of(row);
            if row.pending {
                if let Some(table) = new.tables.get(parent) {
                    new.pending.push((table.sql.clone(), relation));
                }
                continue;
            }
            let child = Child {
                id: relation.oid,
                bound: row.bound.as_deref().and_then(Bound::parse),
                level: index.get(&relation.oid).copied(),
                pages: 0,
                rows: None,
            };
            let label = Label { name: relation.name.clone(), model: relation.kind != "f" };
            if let (Some(level), Some(labels), Some(partitions)) = (
                new.levels.get_mut(parent),
                new.labels.get_mut(parent),
                new.partitions.get_mut(parent),
            ) {
                level.children.push(child);
                labels.push(label);
                partitions.push(relation);
            }
        }
        settle(&mut new.levels, new.root, unit);
        Ok(new)
    }

    pub(super) fn tree<'a>(&'a self, writer: &'a TimeZone, zones: &'a [TimeZone]) -> NamedTree<'a> {
        NamedTree {
            levels: &self.levels,
            names: &self.table_names,
            labels: &self.labels,
            root: self.root,
            writer,
            zones,
        }
    }

    /// Every name in the tree.
    pub(super) fn names(&self) -> HashSet<Name> {
        let pending = self.pending.iter().map(|(_, relation)| relation);
        let all = self.tables.iter().chain(self.partitions.iter().flatten()).chain(pending);
        all.map(|relation| relation.name.clone()).collect()
    }

    pub(super) fn level(&self, index: usize) -> Option<&Level> {
        self.levels.get(index)
    }

    pub(super) fn level_name(&self, index: usize) -> String {
        self.tables.get(index).map_or_else(String::new, |t| t.sql.clone())
    }

    pub(super) fn partition(&self, level: usize, child: usize) -> Option<&TreeTable> {
        self.partitions.get(level)?.get(child)
    }

    /// Sizes with indexes and TOAST by OID, where the locks that this takes can be had at once.
    pub(super) async fn sizes(
        &self,
        session: &Session,
        retirements: &[Retirement],
    ) -> HashMap<i64, String> {
        let oids: Vec<i64> = retirements
            .iter()
            .filter_map(|r| Some(self.partition(r.level, r.child)?.oid))
            .collect();
        let mut sizes = HashMap::new();
        if oids.is_empty() {
            return sizes;
        }
        // A size that is not known is no reason to have no plan.
        let rows = session.read(Query::new(SIZES).int8_array(&oids)).await.unwrap_or_default();
        let known = Row::each::<SizeOfRow>(&rows).filter_map(Result::ok);
        sizes.extend(known.filter_map(|row| Some((row.oid, row.size?))));
        sizes
    }
}
