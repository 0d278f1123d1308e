//! Rows of foreign keys that have lost their parents.
//!
//! Must not: read a table that the role is not to trust.

use super::{Context, Looked, counted, hint};
use crate::error::CollectError;
use crate::findings::{DatabaseFacts, Lost};
use crate::pg::{Query, Row, columns};
use crate::remedy::Relation;

columns! {
    struct OrphanCount {
        n: i64,
    }
}

/// Each foreign key with the conditions of its own check, by its own operators, as `VALIDATE
/// CONSTRAINT` has them. Those of partitions come with their parent's.
const FOREIGN_KEYS: &str = "\
SELECT k.conname::text AS name,
       n.nspname::text AS child_schema, c.relname::text AS child,
       pn.nspname::text AS parent_schema, p.relname::text AS parent,
       ARRAY(WITH RECURSIVE follow(id, what) AS (
         SELECT k.conrelid, NULL::pg_catalog.name::text UNION
         SELECT r.oid, CASE f.confdeltype
                  WHEN 'c' THEN 'rows of ' || rn.nspname::text || '.' || r.relname::text || ' go by ' || f.conname::text || ' (ON DELETE CASCADE)'
                  ELSE f.conname::text || ' of ' || rn.nspname::text || '.' || r.relname::text || ' is set to '
                       || CASE f.confdeltype WHEN 'n' THEN 'NULL' ELSE 'its default' END END
           FROM follow
           JOIN pg_catalog.pg_constraint f ON f.contype = 'f' AND f.conparentid = 0 AND f.confdeltype IN ('c', 'n', 'd')
            AND (f.confrelid = follow.id
                 OR f.confrelid IN (SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = follow.id))
           JOIN pg_catalog.pg_class r ON r.oid = f.conrelid
           JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace)
         SELECT follow.what FROM follow WHERE follow.what IS NOT NULL
         UNION SELECT 'the trigger ' || t.tgname::text || ' fires' FROM pg_catalog.pg_trigger t
          WHERE t.tgrelid = k.conrelid AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgtype::int4 & 8 <> 0
         ORDER BY 1) AS follow,
       c.oid::int8 AS child_id, p.oid::int8 AS parent_id,
       c.relkind = 'p' AS child_many, p.relkind = 'p' AS parent_many,
       k.confmatchtype = 'f' AS match_full,
       (SELECT pg_catalog.string_agg(
                 'f.' || pg_catalog.quote_ident(fa.attname) || ' IS NOT NULL',
                 CASE WHEN k.confmatchtype = 'f' THEN ' OR ' ELSE ' AND ' END ORDER BY u.nr)
          FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY u(num, nr)
          JOIN pg_catalog.pg_attribute fa ON fa.attrelid = k.conrelid AND fa.attnum = u.num) AS present,
       (SELECT pg_catalog.string_agg(
                 'p.' || pg_catalog.quote_ident(pa.attname) || ' OPERATOR('
                 || pg_catalog.quote_ident(o_n.nspname) || '.' || o.oprname || ') f.'
                 || pg_catalog.quote_ident(fa.attname), ' AND ' ORDER BY u.nr)
          FROM ROWS FROM (pg_catalog.unnest(k.conkey), pg_catalog.unnest(k.confkey),
                          pg_catalog.unnest(k.conpfeqop)) WITH ORDINALITY u(fnum, pnum, op, nr)
          JOIN pg_catalog.pg_attribute fa ON fa.attrelid = k.conrelid AND fa.attnum = u.fnum
          JOIN pg_catalog.pg_attribute pa ON pa.attrelid = k.confrelid AND pa.attnum = u.pnum
          JOIN pg_catalog.pg_operator o ON o.oid = u.op
          JOIN pg_catalog.pg_namespace o_n ON o_n.oid = o.oprnamespace) AS matches
  FROM pg_catalog.pg_constraint k
  JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_class p ON p.oid = k.confrelid
  JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
 WHERE k.contype = 'f' AND k.conparentid = 0 AND k.convalidated
 ORDER BY 2, 3, 1";

columns! {
    struct ForeignKeyRow {
        name: String,
        child_schema: String,
        child: String,
        parent_schema: String,
        parent: String,
        follow: Vec<String>,
        child_id: i64,
        parent_id: i64,
        child_many: bool,
        parent_many: bool,
        present: String,
        matches: String,
    }
}

pub(super) async fn look(cx: &Context<'_>) -> Result<Looked, CollectError> {
    let keys: Vec<ForeignKeyRow> = Row::all(&cx.session.read(FOREIGN_KEYS).await?)?;
    let total = keys.len();
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for key in keys {
        // Of a period (18), the last column overlaps; that is not looked at here.
        let mut lost = Lost {
            child: Relation::new(key.child_schema, key.child),
            child_tree: key.child_many,
            parent: Relation::new(key.parent_schema, key.parent),
            parent_tree: key.parent_many,
            key: key.name,
            present: key.present,
            matches: key.matches,
            rows: 0,
            follow: key.follow,
        };
        let count = lost.remedy(cx.datname()).count();
        let tables = [key.child_id, key.parent_id];
        let what = format!("{}, {}", lost.child.display(), lost.key);
        let read = cx.session.read_tables(&tables, &what, vec![Query::new(count.as_str())]).await;
        match read {
            Ok(answers) => {
                let counted =
                    answers.first().map(|rows| Row::first::<OrphanCount>(rows)).transpose()?;
                lost.rows = counted.flatten().map_or(0, |orphans| orphans.n);
                found.push(lost);
            }
            Err(e @ CollectError::Missing { .. }) => failures.push(e.to_string()),
            Err(e) if e.is_fatal() => return Err(e),
            Err(e) => failures.push(format!("{what}: {e}")),
        }
    }
    let summary = counted(total - failures.len(), "foreign key", "read, row by row");
    let unchecked = (!failures.is_empty()).then(|| hint(&failures));
    let database = DatabaseFacts { lost: Some(found), ..DatabaseFacts::default() };
    Ok(Looked { unchecked, ..Looked::of(database, summary) })
}
