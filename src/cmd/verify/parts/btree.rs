//! The B-trees of a database, as measurements and amcheck go through them.
//!
//! Must not: read one.

use crate::pg::columns;
use crate::remedy::Relation;

/// Valid ones of users' tables: more columns, and a condition. Indexes of temporary tables are their session's.
macro_rules! btrees {
    ($columns:literal, $condition:literal) => {
        concat!(
            "SELECT c.oid::int8 AS oid, n.nspname::text AS schema, c.relname::text AS name,
       tn.nspname::text AS table_schema, t.relname::text AS table_name",
            $columns,
            "
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
  JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
  JOIN pg_catalog.pg_am a ON a.oid = c.relam
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE a.amname = 'btree' AND c.relkind = 'i' AND i.indisvalid AND c.relpersistence <> 't'
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND ",
            $condition,
            " ORDER BY 2, 3"
        )
    };
}
pub(super) use btrees;

columns! {
    pub(super) struct Btree {
        pub(super) oid: i64,
        schema: String,
        name: String,
        table_schema: String,
        table_name: String,
    }
}

impl Btree {
    /// Its table, and its own name.
    pub(super) fn relations(&self) -> (Relation, Relation) {
        (
            Relation::new(self.table_schema.as_str(), self.table_name.as_str()),
            Relation::new(self.schema.as_str(), self.name.as_str()),
        )
    }
}
