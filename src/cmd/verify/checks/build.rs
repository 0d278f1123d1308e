//! The SQL that builds, completes and drops indexes, without a lock that stops reads or writes where
//! PostgreSQL knows a way. An index of a partitioned table cannot be built CONCURRENTLY: it is created
//! on the parent alone, then on each partition CONCURRENTLY, and these are attached.
//!
//! Must not: judge; or name an index of a partition as another one is named already.

use std::collections::HashMap;

use super::super::check::{Context, Finding};
use super::create::{Create, NAME_MAX, shortened};
use crate::config::IndexRule;
use crate::derive::index::Table;
use crate::error::CollectError;
use crate::pg::Query;
use crate::remedy::index::{self, There};
use crate::remedy::quote::ident;
use crate::remedy::{Relation, Step};

/// Names of relations by oid.
pub(super) struct Names(HashMap<i64, Name>);

/// One of them.
pub(super) struct Name {
    /// Schema and name.
    pub(super) relation: Relation,
}

const NAMES: &str = "\
SELECT c.oid::int8 AS oid, n.nspname::text AS schema, c.relname::text AS name
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = ANY ($1::pg_catalog.oid[])";

impl Names {
    pub(super) async fn read(cx: &Context<'_>, oids: &Vec<i64>) -> Result<Self, CollectError> {
        let mut names = HashMap::new();
        if !oids.is_empty() {
            for row in cx.session.read(Query::new(NAMES).int8_array(oids)).await? {
                let (schema, name): (String, String) = (row.get("schema")?, row.get("name")?);
                let relation = Relation { schema, name };
                names.insert(row.get("oid")?, Name { relation });
            }
        }
        Ok(Self(names))
    }

    pub(super) fn get(&self, oid: i64) -> Option<&Name> {
        self.0.get(&oid)
    }
}

/// A table of a partition tree.
struct Node {
    oid: i64,
    parent: i64,
    kind: String,
    relation: Relation,
}

/// An index of it.
struct Part {
    oid: i64,
    table: i64,
    parent: Option<i64>,
    usable: bool,
    exclusion: bool,
    primary: bool,
    relation: Relation,
    constraint: bool,
    definition: String,
}

struct Tree {
    nodes: Vec<Node>,
    parts: Vec<Part>,
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

impl Tree {
    async fn read(cx: &Context<'_>, table: i64) -> Result<Self, CollectError> {
        let mut nodes = Vec::new();
        for row in cx.session.read(Query::new(NODES).int8(&table)).await? {
            nodes.push(Node {
                oid: row.get("oid")?,
                parent: row.get("parent")?,
                kind: row.get("kind")?,
                relation: Relation { schema: row.get("schema")?, name: row.get("name")? },
            });
        }
        let oids: Vec<i64> = nodes.iter().map(|n| n.oid).collect();
        let mut parts = Vec::new();
        for row in cx.session.read(Query::new(PARTS).int8_array(&oids)).await? {
            parts.push(Part {
                oid: row.get("oid")?,
                table: row.get("tab")?,
                parent: row.get("parent")?,
                usable: row.get("usable")?,
                exclusion: row.get("exclusion")?,
                primary: row.get("prim")?,
                relation: Relation { schema: row.get("schema")?, name: row.get("name")? },
                constraint: row.get("constraint")?,
                definition: row.get::<Option<String>>("definition")?.unwrap_or_default(),
            });
        }
        Ok(Self { nodes, parts })
    }

    fn node(&self, oid: i64) -> Option<&Node> {
        self.nodes.iter().find(|n| n.oid == oid)
    }

    /// Brings the partitions below `table` to have what `index` is on it.
    fn complete(
        &self,
        out: &mut Vec<Step>,
        table: i64,
        index: (Option<i64>, &Relation),
        create: &Create,
        constraint: Option<&'static str>,
    ) {
        for child in self.nodes.iter().filter(|n| n.parent == table) {
            // A foreign table has no indexes.
            if child.kind == "f" {
                continue;
            }
            let attached = index.0.and_then(|id| {
                self.parts.iter().find(|p| p.table == child.oid && p.parent == Some(id))
            });
            let same = || {
                self.parts.iter().find(|p| {
                    let found = Create::parse(&p.definition);
                    p.table == child.oid
                        && p.parent.is_none()
                        && (p.usable || child.kind == "p")
                        && p.constraint == constraint.is_some()
                        && found.is_some_and(|f| f.rest == create.rest && f.unique == create.unique)
                })
            };
            match attached.or_else(same) {
                Some(part) => {
                    if part.usable && attached.is_some() {
                        continue;
                    }
                    if child.kind == "p" {
                        let below = (Some(part.oid), &part.relation);
                        self.complete(out, child.oid, below, create, constraint);
                    } else if !part.usable {
                        out.extend(index::rebuild(&part.there(child), part.exclusion));
                    }
                    // Again for one that is attached: the parent is told that it is valid now.
                    out.push(index::attach(index.1, &part.relation));
                }
                None => {
                    let name = format!("{}_{}", child.relation.name, create.name);
                    let name = self.free(&shortened(&name));
                    let full = Relation::new(child.relation.schema.as_str(), name);
                    let wanted = create.wanted(&child.relation, &full);
                    match (child.kind.as_str(), constraint) {
                        ("p", Some(kind)) => {
                            let key = key_of(&create.rest);
                            out.extend(index::constrain(&wanted, kind, Some(key)));
                            self.complete(out, child.oid, (None, &full), create, constraint);
                        }
                        ("p", None) => {
                            out.extend(index::on_only(&wanted));
                            self.complete(out, child.oid, (None, &full), create, constraint);
                        }
                        (_, constraint) => {
                            out.extend(index::build(&wanted));
                            if let Some(kind) = constraint {
                                out.extend(index::constrain(&wanted, kind, None));
                            }
                        }
                    }
                    out.push(index::attach(index.1, &full));
                }
            }
        }
    }

    fn has_foreign(&self) -> bool {
        self.nodes.iter().any(|n| n.kind == "f")
    }

    /// A foreign partition has no part to attach, and without it the parent's index never becomes valid.
    /// CREATE INDEX without ONLY leaves foreign tables out, and takes the parts that are there.
    fn beside_foreign(&self, root: &Node, index: &Relation, create: &Create) -> Vec<Step> {
        let mut steps = Vec::new();
        for leaf in self.nodes.iter().filter(|n| !matches!(n.kind.as_str(), "p" | "f")) {
            let there = self.parts.iter().any(|p| {
                p.table == leaf.oid
                    && p.parent.is_none()
                    && p.usable
                    && Create::parse(&p.definition)
                        .is_some_and(|f| f.rest == create.rest && f.unique == create.unique)
            });
            if !there {
                let name = shortened(&format!("{}_{}", leaf.relation.name, create.name));
                let part = Relation::new(leaf.relation.schema.as_str(), self.free(&name));
                steps.extend(index::build(&create.wanted(&leaf.relation, &part)));
            }
        }
        steps.extend(index::over_parts(&create.wanted(&root.relation, index)));
        steps
    }

    /// A name that no index of the tree has.
    fn free(&self, name: &str) -> String {
        let taken = |name: &str| self.parts.iter().any(|p| p.relation.name == name);
        let mut free = name.to_owned();
        let mut n = 1;
        while taken(&free) {
            let mut end = name.len().min(NAME_MAX - 4);
            while !name.is_char_boundary(end) {
                end -= 1;
            }
            free = format!("{}_{n}", &name[..end]);
            n += 1;
        }
        free
    }
}

impl Part {
    fn there<'a>(&'a self, node: &'a Node) -> There<'a> {
        There { oid: self.oid, index: &self.relation, table: &node.relation }
    }
}

/// `(a, b)` of `USING btree (a, b)`.
fn key_of(rest: &str) -> &str {
    rest.find('(').map_or(rest, |at| &rest[at..])
}

/// What was found stays found where its SQL cannot be made, because a table is locked just now.
fn or_none(finding: Finding, made: Result<Finding, CollectError>) -> Finding {
    made.unwrap_or_else(|e| finding.caution(format!("No SQL: {e}.")))
}

/// Adds what makes an index valid: rebuilt, or completed on the partitions that lack it.
pub(super) async fn validate(cx: &Context<'_>, finding: Finding, id: i64) -> Finding {
    or_none(finding.clone(), try_validate(cx, finding, id).await)
}

async fn try_validate(
    cx: &Context<'_>,
    finding: Finding,
    id: i64,
) -> Result<Finding, CollectError> {
    const TABLE: &str = "\
SELECT i.indrelid::int8 AS tab FROM pg_catalog.pg_index i WHERE i.indexrelid::int8 = $1";
    let rows = cx.session.read(Query::new(TABLE).int8(&id)).await?;
    let Some(row) = rows.first() else { return Ok(finding.caution("It is gone by now.")) };
    let table: i64 = row.get("tab")?;
    let tree = Tree::read(cx, table).await?;
    let Some(part) = tree.parts.iter().find(|p| p.oid == id) else { return Ok(finding) };
    let Some(node) = tree.node(table) else { return Ok(finding) };
    let database = cx.datname();
    if node.kind != "p" {
        // What REINDEX CONCURRENTLY left behind has its work done by the original.
        let leftover = |suffix: &str| {
            part.relation.name.rsplit_once(suffix).is_some_and(|(base, number)| {
                number.bytes().all(|b| b.is_ascii_digit())
                    && tree.parts.iter().any(|p| p.relation.name == base)
            })
        };
        if (leftover("_ccnew") || leftover("_ccold")) && !part.constraint {
            return Ok(finding
                .remedy(index::dropping(database, &part.there(node), None, false))
                .caution("A REINDEX CONCURRENTLY that failed left it behind."));
        }
        let script = index::rebuilding(database, &part.there(node), part.exclusion);
        return Ok(finding.remedy(script).caution(
            "Where it is unique, REINDEX fails as long as there are duplicates, and names one.",
        ));
    }
    if tree.has_foreign() {
        return Ok(finding.caution(
            "No SQL: with a foreign partition, attaching cannot make it valid. Drop it and create it \
             again without ONLY, which leaves foreign tables out.",
        ));
    }
    let Some(create) = Create::parse(&part.definition) else { return Ok(finding) };
    let create = Create { exact: true, ..create };
    if part.exclusion {
        return Ok(finding.caution(
            "No SQL: an exclusion constraint has to be added to each partition by ALTER TABLE.",
        ));
    }
    let constraint = match (part.constraint, part.primary) {
        (false, _) => None,
        (true, true) => Some("PRIMARY KEY"),
        (true, false) => Some("UNIQUE"),
    };
    let mut steps = Vec::new();
    tree.complete(&mut steps, table, (Some(id), &part.relation), &create, constraint);
    if steps.is_empty() {
        // All parts are there and valid, and it was not told.
        let parts = tree.parts.iter().filter(|p| p.parent == Some(id));
        steps.extend(parts.map(|p| index::attach(&part.relation, &p.relation)));
    }
    steps.push(index::valid(&part.relation));
    Ok(finding.remedy(index::building(database, &part.relation, &node.relation, steps)))
}

/// Adds what creates an index that the file expects, as far as it says how.
pub(super) async fn create(
    cx: &Context<'_>,
    finding: Finding,
    table: &Table,
    rule: &IndexRule,
) -> Finding {
    let relname = table.name.as_ref().map_or("", |(_, name)| name.as_str());
    let table = table.id;
    if let Some(sql) = &rule.create {
        return match Create::parse(sql) {
            Some(create) => new_index(cx, finding, table, &create).await,
            None => {
                let sql = sql.trim_end();
                let end = if sql.ends_with(';') { "" } else { ";" };
                finding.mend(format!("{sql}{end}")).caution(
                    "Taken from the file as it is; a constraint locks the table while its index is built.",
                )
            }
        };
    }
    if rule.columns.is_empty() {
        return finding.caution(
            "No SQL: the file says nothing but its name. With `create` it would (`pgrunway verify --init` \
             writes it).",
        );
    }
    let columns: Vec<String> = rule
        .columns
        .iter()
        .map(|column| {
            let direction = if column.descending { " DESC" } else { "" };
            let nulls = match column.nulls_first {
                Some(true) => " NULLS FIRST",
                Some(false) => " NULLS LAST",
                None => "",
            };
            format!("{}{direction}{nulls}", ident(&column.name))
        })
        .collect();
    let plain: Vec<&str> = rule.columns.iter().map(|c| c.name.as_str()).collect();
    let name = rule.name.clone().unwrap_or_else(|| {
        let parts: Vec<&str> = std::iter::once(relname).chain(plain).chain(["idx"]).collect();
        parts.join("_")
    });
    let create = Create::on_keys(&name, rule.unique, &columns);
    new_index(cx, finding, table, &create).await
}

/// Adds what creates an index.
pub(super) async fn new_index(
    cx: &Context<'_>,
    finding: Finding,
    table: i64,
    create: &Create,
) -> Finding {
    or_none(finding.clone(), try_new_index(cx, finding, table, create).await)
}

async fn try_new_index(
    cx: &Context<'_>,
    finding: Finding,
    table: i64,
    create: &Create,
) -> Result<Finding, CollectError> {
    let tree = Tree::read(cx, table).await?;
    let Some(node) = tree.node(table) else { return Ok(finding) };
    let database = cx.datname();
    let index = Relation::new(node.relation.schema.as_str(), create.name.as_str());
    let wanted = create.wanted(&node.relation, &index);
    if node.kind != "p" {
        let steps = index::build(&wanted);
        return Ok(finding.remedy(index::building(database, &index, &node.relation, steps)));
    }
    if tree.has_foreign() {
        if create.unique {
            return Ok(finding
                .caution("No SQL: a table with foreign partitions cannot have a unique index."));
        }
        let steps = tree.beside_foreign(node, &index, create);
        return Ok(finding.remedy(index::building(database, &index, &node.relation, steps)));
    }
    let mut steps = index::on_only(&wanted);
    tree.complete(&mut steps, table, (None, &index), create, None);
    steps.push(index::valid(&index));
    Ok(finding.remedy(index::building(database, &index, &node.relation, steps)))
}

/// An index that another one makes needless, or that is not used.
pub(super) struct Needless {
    /// Its OID.
    pub(super) index: i64,
    /// Its table's.
    pub(super) table: i64,
    /// That of the one that does its work.
    pub(super) cover: Option<i64>,
    /// Whether a constraint rests on it.
    pub(super) constraint: bool,
    /// Whether it has parts.
    pub(super) partitioned: bool,
}

/// Adds what drops an index; what a constraint rests on stays.
pub(super) fn drop_index(
    cx: &Context<'_>,
    names: &Names,
    finding: Finding,
    which: &Needless,
) -> Finding {
    let (Some(index), Some(on)) = (names.get(which.index), names.get(which.table)) else {
        return finding;
    };
    if which.constraint {
        return finding.caution(
            "No SQL: it keeps a constraint, which statements may name (ON CONFLICT) and foreign keys need. \
             Where both constraints say the same, drop one of them by hand, at a quiet hour, with lock_timeout \
             set.",
        );
    }
    let cover = which
        .cover
        .and_then(|oid| Some(There { oid, index: &names.get(oid)?.relation, table: &on.relation }));
    let index = There { oid: which.index, index: &index.relation, table: &on.relation };
    finding.remedy(index::dropping(cx.datname(), &index, cover.as_ref(), which.partitioned))
}
