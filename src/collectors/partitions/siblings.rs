//! Partitions that differ from their siblings in owner, replica identity, row security or grants, from the
//! catalogues alone.
//!
//! Must not: call anything that opens a user's table.

use crate::error::CollectError;
use crate::findings::Odd;
use crate::pg::{Row, Session, columns};
use crate::remedy::Relation;

/// Of each root and property in which its leaves differ: those that have not what most have. The owner's own
/// grants are left out, which follow the owner.
const SIBLINGS: &str = "\
WITH RECURSIVE tree(root, id) AS (
SELECT c.oid, c.oid FROM pg_catalog.pg_class c
 WHERE c.relkind = 'p' AND NOT c.relispartition AND c.relpersistence <> 't'
UNION ALL
SELECT t.root, i.inhrelid FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.id),
leaf AS (
SELECT t.root, c.relnamespace, c.relname, x.what, x.value
  FROM tree t
  JOIN pg_catalog.pg_class c ON c.oid = t.id AND c.relkind = 'r'
 CROSS JOIN LATERAL (VALUES
       ('owner', pg_catalog.pg_get_userbyid(c.relowner)::text),
       ('replica identity', CASE c.relreplident::text WHEN 'd' THEN 'DEFAULT' WHEN 'n' THEN 'NOTHING'
                            WHEN 'f' THEN 'FULL' ELSE 'USING INDEX' END),
       ('row security', CASE WHEN c.relrowsecurity AND c.relforcerowsecurity THEN 'forced'
                        WHEN c.relrowsecurity THEN 'enabled' ELSE 'disabled' END),
       ('grants', COALESCE((
          SELECT pg_catalog.string_agg(
                   a.privilege_type || ' to ' || CASE a.grantee WHEN 0 THEN 'PUBLIC'
                     ELSE pg_catalog.pg_get_userbyid(a.grantee)::text END, ', '
                   ORDER BY a.grantee, a.privilege_type)
            FROM pg_catalog.aclexplode(c.relacl) a WHERE a.grantee <> c.relowner), 'none'))
       ) x(what, value)),
usual AS (
SELECT l.root, l.what, pg_catalog.mode() WITHIN GROUP (ORDER BY l.value) AS value,
       pg_catalog.count(*) AS leaves
  FROM leaf l GROUP BY l.root, l.what HAVING pg_catalog.min(l.value) <> pg_catalog.max(l.value))
SELECT rn.nspname::text AS schema, r.relname::text AS name, l.what, u.value AS usual,
       u.leaves::float8 AS leaves, pg_catalog.count(*)::float8 AS odd,
       (pg_catalog.array_agg(n.nspname::text ORDER BY n.nspname, l.relname))[1] AS first_schema,
       (pg_catalog.array_agg(l.relname::text ORDER BY n.nspname, l.relname))[1] AS first,
       (pg_catalog.array_agg(l.value ORDER BY n.nspname, l.relname))[1] AS value
  FROM usual u
  JOIN leaf l ON l.root = u.root AND l.what = u.what AND l.value <> u.value
  JOIN pg_catalog.pg_namespace n ON n.oid = l.relnamespace
  JOIN pg_catalog.pg_class r ON r.oid = u.root
  JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
 GROUP BY rn.nspname, r.relname, l.what, u.value, u.leaves
 ORDER BY 1, 2, 3";

columns! {
    struct OddRow {
        schema: String,
        name: String,
        what: String,
        usual: String,
        leaves: f64,
        odd: f64,
        first_schema: String,
        first: String,
        value: String,
    }
}

impl From<OddRow> for Odd {
    fn from(row: OddRow) -> Self {
        Self {
            table: Relation { schema: row.schema, name: row.name },
            what: row.what,
            usual: row.usual,
            leaves: row.leaves,
            odd: row.odd,
            first: Relation { schema: row.first_schema, name: row.first },
            value: row.value,
        }
    }
}

/// One row of each table and property.
///
/// # Errors
/// As [`Session::read`].
pub async fn siblings(session: &Session) -> Result<Vec<Odd>, CollectError> {
    let rows = session.read(SIBLINGS).await?;
    Ok(Row::all(&rows)?.into_iter().map(|row: OddRow| row.into()).collect())
}
