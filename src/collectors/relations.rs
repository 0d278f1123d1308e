//! What the collectors of one database share: which relations count as the user's, and how
//! partitions find their root table.
//!
//! Must not: hold SQL or rows of one collector only.

use std::collections::HashSet;

use crate::derive::rollup::Forest;
use crate::pg::{IfFound, columns};

/// Condition on `pg_class c` joined to `pg_namespace n`: neither a system schema (TOAST and other
/// sessions' temporary schemas among them) nor temporary.
pub(crate) const USERS: &str = "pg_catalog.left(n.nspname::text, 3) <> 'pg_' \
     AND n.nspname <> 'information_schema' AND c.relpersistence <> 't'";

/// The columns of a [`TableRow`], of `pg_class c` joined to `pg_namespace n` and to `pg_inherits h`: with the tree of
/// partitions, or each as a root of its own, as postgres_exporter has it.
pub(super) fn tree(leaves: bool) -> &'static str {
    if leaves {
        "c.oid::int8, NULL::int8 AS parent, n.nspname::text AS schemaname, c.relname::text AS relname"
    } else {
        "c.oid::int8, h.inhparent::int8 AS parent, \
         CASE WHEN NOT c.relispartition THEN n.nspname::text END AS schemaname, \
         CASE WHEN NOT c.relispartition THEN c.relname::text END AS relname"
    }
}

columns! {
    /// A table, materialised view, partition or partitioned table: columns `oid`, `parent`, `schemaname`
    /// and `relname`, of which the last two are NULL for a partition.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct TableRow {
        /// OID.
        pub id: i64 = "oid",
        /// The partitioned table it is a partition of.
        pub parent: Option<i64>,
        /// Schema and name; only of those that are nobody's partition.
        pub name: Option<(String, String)> as IfFound<RelationName>,
    }
}

columns! {
    /// Schema and name of a relation.
    pub struct RelationName {
        schemaname: String,
        relname: String,
    }
}

impl From<IfFound<RelationName>> for Option<(String, String)> {
    fn from(name: IfFound<RelationName>) -> Self {
        name.0.map(|n| (n.schemaname, n.relname))
    }
}

/// The root tables of a database, in the order of their names.
#[derive(Debug)]
pub(super) struct Roots<'a> {
    forest: Forest,
    named: Vec<(&'a str, &'a str, i64)>,
    ids: HashSet<i64>,
}

impl<'a> Roots<'a> {
    pub(super) fn new(tables: impl Iterator<Item = &'a TableRow> + Clone) -> Self {
        let forest = Forest::new(tables.clone().filter_map(|t| Some((t.id, t.parent?))));
        let mut named: Vec<_> = tables
            .filter_map(|t| t.name.as_ref().map(|(schema, name)| (&**schema, &**name, t.id)))
            .collect();
        named.sort_unstable();
        let ids = named.iter().map(|(_, _, id)| *id).collect();
        Self { forest, named, ids }
    }

    /// The root table of a table. `None` for a table that another statement of the same poll did
    /// not see: it was created or dropped in between.
    pub(super) fn of(&self, table: i64) -> Option<i64> {
        Some(self.forest.root(table)).filter(|root| self.ids.contains(root))
    }

    /// (schema, name, oid) of every root.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str, i64)> {
        self.named.iter().copied()
    }
}

#[cfg(test)]
pub(super) mod fixtures {
    use super::TableRow;

    pub(crate) fn root(id: i64, schema: &str, name: &str) -> TableRow {
        TableRow { id, parent: None, name: Some((schema.to_owned(), name.to_owned())) }
    }

    pub(crate) fn partition(id: i64, parent: i64) -> TableRow {
        TableRow { id, parent: Some(parent), name: None }
    }
}
