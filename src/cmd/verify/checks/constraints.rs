//! Constraints that nobody has checked yet, and foreign keys whose rows have lost their parents.
//!
//! Must not: read a user's rows unless asked for.

use super::super::check::{Check, Context, Found, Scope, Severity, When};
use super::{counted, sorted, thousands};
use crate::error::CollectError;
use crate::pg::Query;
use crate::remedy::orphans::Orphans;
use crate::remedy::{Relation, table};

static NOT_VALID: Check = Check {
    id: "constraint.not_valid",
    severity: Severity::Warning,
    scope: Scope::Database,
    when: When::Always,
    finds: "A constraint that was added as NOT VALID and never validated.",
    why: "Rows that were there before it may break it, and the planner does not rely on it.",
    locks: "none",
    run: Some(|cx| Box::pin(not_valid(cx))),
};

static ORPHANS: Check = Check {
    id: "constraint.foreign_key",
    severity: Severity::Critical,
    scope: Scope::Database,
    when: When::OnRequest,
    finds: "Rows whose foreign key points to no row, although the key is valid.",
    why: "They come from disabled triggers or replication, and break joins, dumps and the next upgrade.",
    locks: "ACCESS SHARE on both tables of each foreign key, while their rows are read",
    run: Some(|cx| Box::pin(orphans(cx))),
};

pub(super) static CHECKS: &[&Check] = &[&NOT_VALID, &ORPHANS];

/// Those of partitions and heirs come with their parent's. From 18 on a constraint can be NOT
/// ENFORCED, which is never validated and is meant so.
fn constraints(version: i32) -> String {
    let enforced = if version >= 180_000 { "k.conenforced" } else { "true" };
    format!(
        "SELECT COALESCE(n.nspname::text || '.' || c.relname::text, \
                         m.nspname::text || '.' || y.typname::text) AS object, \
                k.conname::text AS name, k.contype::text AS kind, c.oid IS NULL AS domain, \
                COALESCE(n.nspname, m.nspname)::text AS schema, \
                COALESCE(c.relname, y.typname)::text AS relation, \
                COALESCE(c.reltuples, 0)::float8 AS rows \
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
          ORDER BY 1, 2"
    )
}

async fn not_valid(cx: &Context<'_>) -> Result<Found, CollectError> {
    let rows = cx.session.read(constraints(cx.session.server().version_num).as_str()).await?;
    let mut findings = Vec::new();
    for row in &rows {
        let (object, name): (&str, &str) = (row.get("object")?, row.get("name")?);
        let of = Relation::new(row.get::<&str>("schema")?, row.get::<&str>("relation")?);
        let kind = match row.get::<&str>("kind")? {
            "c" => "CHECK",
            "f" => "FOREIGN KEY",
            "n" => "NOT NULL",
            _ => "constraint",
        };
        findings.push(
            NOT_VALID
                .finding(object, format!("{kind} {name} is NOT VALID"))
                .remedy(table::validate(cx.datname(), &of, name, row.get("domain")?))
                .caution(
                    "It reads the whole table beside reads and writes, and fails while a row \
                     breaks the constraint.",
                ),
        );
    }
    let summary = if findings.is_empty() {
        "every constraint is validated".to_owned()
    } else {
        counted(findings.len(), "constraint", "NOT VALID")
    };
    Ok(Found::new(summary, sorted(findings)))
}

/// Each foreign key with the conditions of its own check, by its own operators, as `VALIDATE
/// CONSTRAINT` has them. Those of partitions come with their parent's.
const FOREIGN_KEYS: &str = "\
SELECT n.nspname::text || '.' || c.relname::text AS object, k.conname::text AS name,
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
 ORDER BY 1, 2";

async fn orphans(cx: &Context<'_>) -> Result<Found, CollectError> {
    let rows = cx.session.read(FOREIGN_KEYS).await?;
    let mut findings = Vec::new();
    let mut failures = Vec::new();
    for row in &rows {
        let (object, name): (&str, &str) = (row.get("object")?, row.get("name")?);
        let child = Relation::new(row.get::<&str>("child_schema")?, row.get::<&str>("child")?);
        let parent = Relation::new(row.get::<&str>("parent_schema")?, row.get::<&str>("parent")?);
        let follow: Vec<String> = row.get("follow")?;
        // Of a period (18), the last column overlaps; that is not looked at here.
        let lost = Orphans {
            database: cx.datname(),
            child: &child,
            child_tree: row.get("child_many")?,
            parent: &parent,
            parent_tree: row.get("parent_many")?,
            key: name,
            present: row.get("present")?,
            matches: row.get("matches")?,
            rows: 0,
            follow: &follow,
        };
        let count = lost.count();
        let tables = [row.get("child_id")?, row.get("parent_id")?];
        let what = format!("{object}, {name}");
        let read = cx.session.read_tables(&tables, &what, vec![Query::new(count.as_str())]).await;
        let n: i64 = match read {
            Ok(answers) => answers.iter().flatten().next().map_or(Ok(0), |row| row.get("n"))?,
            Err(e @ CollectError::Missing { .. }) => {
                failures.push(e.to_string());
                continue;
            }
            Err(e) if e.is_fatal() => return Err(e),
            Err(e) => {
                failures.push(format!("{object}, {name}: {e}"));
                continue;
            }
        };
        if n == 0 {
            continue;
        }
        let lost = Orphans { rows: n, ..lost };
        let found = format!(
            "{} rows of {name} point to no row of {}",
            thousands(n as f64),
            parent.display()
        );
        findings.push(ORPHANS.finding(object, found).remedy(lost.script()).caution(format!(
            "THIS DELETES DATA. Better to bring the missing rows back, or to set the key to NULL. To look at \
             them: {};",
            lost.look()
        )));
    }
    let checked = rows.len() - failures.len();
    let summary = counted(checked, "foreign key", "read, row by row");
    let unchecked = (!failures.is_empty()).then(|| hint(&failures));
    Ok(Found { unchecked, ..Found::new(summary, sorted(findings)) })
}

/// What failed, with what to do where it was a privilege.
pub(super) fn hint(failures: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown: Vec<&str> = failures.iter().take(SHOWN).map(String::as_str).collect();
    let mut text = shown.join("; ");
    if failures.len() > SHOWN {
        text.push_str(&format!("; and {} more", failures.len() - SHOWN));
    }
    if failures.iter().any(|f| f.contains("permission denied")) {
        text.push_str(
            "; GRANT what is missing, or run verify as a role that may read (pg_read_all_data)",
        );
    }
    text
}
