//! What only the rules ask the catalogues for, and what is read to print remedies: names, and the partition trees
//! of tables on which something was found.
//!
//! Must not: open a user's relation but to deparse the indexes of a table on which something was found.

use std::collections::{BTreeSet, HashMap};

use crate::error::CollectError;
use crate::findings::{Age, Ages, Bloated, DatabaseFacts, IndexFault, Leaf, NotValid};
use crate::pg::{Query, Row, Session, columns};
use crate::remedy::Relation;
use crate::remedy::tree::{IndexPart, Node, Tree};

/// Those of partitions and heirs come with their parent's. From 18 on a constraint can be NOT ENFORCED, which is
/// never validated and is meant so.
fn constraints(version: i32) -> String {
    let enforced = if version >= 180_000 { "k.conenforced" } else { "true" };
    format!(
        "SELECT COALESCE(n.nspname, m.nspname)::text AS schema, COALESCE(c.relname, y.typname)::text AS relation, \
                k.conname::text AS name, k.contype::text AS kind, c.oid IS NULL AS domain \
           FROM pg_catalog.pg_constraint k \
           LEFT JOIN pg_catalog.pg_class c ON c.oid = k.conrelid \
           LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
           LEFT JOIN pg_catalog.pg_type y ON y.oid = k.contypid \
           LEFT JOIN pg_catalog.pg_namespace m ON m.oid = y.typnamespace \
          WHERE NOT k.convalidated AND {enforced} AND k.conparentid = 0 \
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i \
                              JOIN pg_catalog.pg_constraint p \
                                ON p.conrelid = i.inhparent AND p.conname = k.conname \
                             WHERE i.inhrelid = k.conrelid AND NOT p.convalidated) \
          ORDER BY 1, 2, 3"
    )
}

columns! {
    struct Constraint {
        schema: String,
        relation: String,
        name: String,
        kind: String,
        domain: bool,
    }
}

/// Constraints that were never validated.
///
/// # Errors
/// As [`Session::read`].
pub async fn not_valid(session: &Session) -> Result<Vec<NotValid>, CollectError> {
    let rows = session.read(constraints(session.server().version_num).as_str()).await?;
    let all = Row::all::<Constraint>(&rows)?;
    let each = all.into_iter().map(|row| NotValid {
        of: Relation::new(row.schema, row.relation),
        domain: row.domain,
        kind: match row.kind.as_str() {
            "c" => "CHECK",
            "f" => "FOREIGN KEY",
            "n" => "NOT NULL",
            _ => "constraint",
        },
        name: row.name,
    });
    Ok(each.collect())
}

/// Tables with their TOAST tables, which VACUUM does along with them. Only those are named that are older than
/// where autovacuum freezes them, or that nobody freezes for long.
const AGES: &str = "\
WITH tables AS (
SELECT n.nspname::text AS schema, c.relname::text AS name,
       COALESCE(GREATEST(pg_catalog.age(c.relfrozenxid), pg_catalog.age(t.relfrozenxid)), 0)::float8 AS xids,
       COALESCE(GREATEST(pg_catalog.mxid_age(c.relminmxid), pg_catalog.mxid_age(t.relminmxid)), 0)::float8 AS mxids,
       LEAST(pg_catalog.current_setting('autovacuum_freeze_max_age')::float8,
             (SELECT pg_catalog.min(o.option_value::float8)
                FROM pg_catalog.pg_options_to_table(c.reloptions) o
               WHERE o.option_name = 'autovacuum_freeze_max_age')) AS xid_limit,
       LEAST(pg_catalog.current_setting('autovacuum_multixact_freeze_max_age')::float8,
             (SELECT pg_catalog.min(o.option_value::float8)
                FROM pg_catalog.pg_options_to_table(c.reloptions) o
               WHERE o.option_name = 'autovacuum_multixact_freeze_max_age')) AS mxid_limit
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
 WHERE c.relkind IN ('r', 'm') AND c.relfrozenxid <> '0'::pg_catalog.xid AND c.relpersistence <> 't'),
total AS (
SELECT pg_catalog.count(*)::float8 AS tables, COALESCE(pg_catalog.max(GREATEST(t.xids, t.mxids)), 0) AS oldest
  FROM tables t)
SELECT total.tables, total.oldest, t.schema, t.name, t.xids, t.mxids, t.xid_limit, t.mxid_limit
  FROM total LEFT JOIN tables t
    ON t.xids > t.xid_limit OR t.mxids > t.mxid_limit OR GREATEST(t.xids, t.mxids) > 1e9
 ORDER BY t.schema, t.name LIMIT 10000";

columns! {
    struct AgedRow {
        tables: f64,
        oldest: f64,
        schema: Option<String>,
        name: Option<String>,
        xids: Option<f64>,
        mxids: Option<f64>,
        xid_limit: Option<f64>,
        mxid_limit: Option<f64>,
    }
}

/// How old the oldest transactions of the database's tables are.
///
/// # Errors
/// As [`Session::read`].
pub async fn ages(session: &Session) -> Result<Ages, CollectError> {
    let rows = session.read(AGES).await?;
    let mut ages = Ages::default();
    for row in Row::all::<AgedRow>(&rows)? {
        (ages.tables, ages.oldest) = (row.tables, row.oldest);
        let (Some(schema), Some(name)) = (row.schema, row.name) else { continue };
        let pair = |age: Option<f64>, limit: Option<f64>| {
            (age.unwrap_or(0.0), limit.unwrap_or(f64::INFINITY))
        };
        ages.old.push(Age {
            name: Relation::new(schema, name),
            xids: pair(row.xids, row.xid_limit),
            mxids: pair(row.mxids, row.mxid_limit),
        });
    }
    Ok(ages)
}

const NODES: &str = "\
WITH RECURSIVE tree(id, parent) AS (
SELECT $1::int8::pg_catalog.oid, 0::pg_catalog.oid
UNION ALL
SELECT i.inhrelid, i.inhparent FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.id
  JOIN pg_catalog.pg_class p ON p.oid = i.inhparent AND p.relkind = 'p')
SELECT c.oid::int8 AS oid, t.parent::int8 AS parent, c.relkind::text AS kind, c.relname::text AS name,
       n.nspname::text AS schema
  FROM tree t
  JOIN pg_catalog.pg_class c ON c.oid = t.id
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 ORDER BY c.relname, c.oid";

/// `pg_get_indexdef` opens the table; only those are asked for on which something was found.
const PARTS: &str = "\
SELECT c.oid::int8 AS oid, i.indrelid::int8 AS tab, h.inhparent::int8 AS parent,
       i.indisvalid AND i.indisready AND i.indislive AS usable, i.indisexclusion AS exclusion,
       i.indisprimary AS prim, c.relname::text AS name, n.nspname::text AS schema,
       k.oid IS NOT NULL AS constraint,
       pg_catalog.left(pg_catalog.pg_get_indexdef(c.oid), 16385) AS definition
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_inherits h ON h.inhrelid = c.oid
  LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = c.oid AND k.contype IN ('p', 'u', 'x')
 WHERE i.indrelid = ANY ($1::pg_catalog.oid[])
 ORDER BY c.relname, c.oid";

columns! {
    struct NodeRow {
        oid: i64,
        parent: i64,
        kind: String,
        schema: String,
        name: String,
    }
}

columns! {
    struct PartRow {
        oid: i64,
        tab: i64,
        parent: Option<i64>,
        usable: bool,
        exclusion: bool,
        prim: bool,
        schema: String,
        name: String,
        constraint: bool,
        definition: Option<String>,
    }
}

async fn tree(session: &Session, table: i64) -> Result<Tree, CollectError> {
    let rows = session.read(Query::new(NODES).int8(&table)).await?;
    let node = |row: NodeRow| Node {
        oid: row.oid,
        parent: row.parent,
        kind: row.kind,
        relation: Relation::new(row.schema, row.name),
    };
    let nodes: Vec<Node> = Row::all(&rows)?.into_iter().map(node).collect();
    let oids: Vec<i64> = nodes.iter().map(|node| node.oid).collect();
    let rows = session.read(Query::new(PARTS).int8_array(&oids)).await?;
    let part = |row: PartRow| IndexPart {
        oid: row.oid,
        table: row.tab,
        parent: row.parent,
        usable: row.usable,
        exclusion: row.exclusion,
        primary: row.prim,
        relation: Relation::new(row.schema, row.name),
        constraint: row.constraint,
        definition: row.definition.unwrap_or_default(),
    };
    Ok(Tree { nodes, parts: Row::all(&rows)?.into_iter().map(part).collect() })
}

/// With the table of an index.
const NAMES: &str = "\
SELECT c.oid::int8 AS oid, n.nspname::text AS schema, c.relname::text AS name,
       tn.nspname::text AS table_schema, t.relname::text AS table_name
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
  LEFT JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
  LEFT JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
 WHERE c.oid = ANY ($1::pg_catalog.oid[])";

columns! {
    /// A relation's name, and its table's where it is an index.
    #[derive(Debug, Clone)]
    pub struct NamedRelation {
        oid: i64,
        schema: String,
        name: String,
        table_schema: Option<String>,
        table_name: Option<String>,
    }
}

/// Adds what remedies need and the verdicts do not: names of partitions, and the partition trees of at most so many
/// tables on which something was found. A tree that cannot be read, because its table is locked, says why.
///
/// # Errors
/// The names cannot be read.
pub async fn complete(
    session: &Session,
    facts: &mut DatabaseFacts,
    most: usize,
) -> Result<(), CollectError> {
    let names = names(session, facts).await?;
    give_names(facts, &names);
    for (n, table) in with_faults(facts).into_iter().enumerate() {
        let read = if n >= most {
            Err(format!("more than {most} tables have faults; `pgrunway verify` prints all"))
        } else if session.is_broken() {
            Err("the session is lost".to_owned())
        } else {
            tree(session, table).await.map_err(|e| e.to_string())
        };
        facts.trees.insert(table, read);
    }
    Ok(())
}

/// Tables for which a script about an index may be written.
fn with_faults(facts: &DatabaseFacts) -> BTreeSet<i64> {
    let wanted = facts.wanted.iter().flatten().filter(|w| w.lack.is_some());
    let partial = facts.partial.iter().flatten().filter(|p| p.missing > 0);
    let invalid = facts.indexes.iter().flatten();
    let invalid = invalid.filter(|i| matches!(i.fault, IndexFault::Invalid(_)));
    wanted
        .filter_map(|w| w.table_oid)
        .chain(partial.map(|p| p.table_oid))
        .chain(invalid.map(|i| i.table_oid))
        .chain(facts.keys.iter().flatten().map(|key| key.table_oid))
        .collect()
}

/// Names by OID.
pub type NamesByOid = HashMap<i64, NamedRelation>;

/// What has a name to be read: partitions that are overdue, and indexes of partitions that are to be rebuilt.
fn nameless(facts: &mut DatabaseFacts) -> (Vec<&mut Leaf>, Vec<&mut Bloated>) {
    let tables = facts.tables.iter_mut().flatten().filter(|t| t.partitioned);
    let leaves = tables
        .flat_map(|t| [&mut t.vacuum, &mut t.analyze, &mut t.loaded])
        .flat_map(|overdue| &mut overdue.worst);
    let bloated = facts.bloated.iter_mut().flatten();
    (leaves.collect(), bloated.filter(|i| i.is_worthwhile() && i.part.is_none()).collect())
}

/// Names of the partitions on which something may be found.
///
/// # Errors
/// As [`Session::read`].
pub async fn names(
    session: &Session,
    facts: &mut DatabaseFacts,
) -> Result<NamesByOid, CollectError> {
    let (leaves, bloated) = nameless(facts);
    let oids = leaves.iter().map(|leaf| leaf.oid).chain(bloated.iter().map(|i| i.oid));
    let oids: BTreeSet<i64> = oids.collect();
    if oids.is_empty() {
        return Ok(NamesByOid::new());
    }
    let oids: Vec<i64> = oids.into_iter().collect();
    let rows = session.read(Query::new(NAMES).int8_array(&oids)).await?;
    let names: Vec<NamedRelation> = Row::all(&rows)?;
    Ok(names.into_iter().map(|named| (named.oid, named)).collect())
}

/// Adds names to the facts.
pub fn give_names(facts: &mut DatabaseFacts, names: &NamesByOid) {
    let (leaves, bloated) = nameless(facts);
    for leaf in leaves {
        let named = names.get(&leaf.oid);
        leaf.name = named.map(|n| Relation::new(n.schema.as_str(), n.name.as_str()));
    }
    for index in bloated {
        let Some(named) = names.get(&index.oid) else { continue };
        let (Some(schema), Some(table)) = (&named.table_schema, &named.table_name) else {
            continue;
        };
        let own = Relation::new(named.schema.as_str(), named.name.as_str());
        index.part = Some((Relation::new(schema.as_str(), table.as_str()), own));
    }
}
