//! B-trees whose entries are out of order, by the server's own `amcheck`.
//!
//! Must not: take more than ACCESS SHARE: `bt_index_check`, never `bt_index_parent_check`.

use super::super::check::{Check, Context, Found, Scope, Severity, When};
use super::{constraints, counted, sorted};
use crate::error::CollectError;
use crate::pg::{Need, Query, Trusted};
use crate::remedy::Relation;
use crate::remedy::index::{self, There};

static CORRUPT: Check = Check {
    id: "index.corrupt",
    severity: Severity::Critical,
    scope: Scope::Database,
    when: When::OnRequest,
    finds: "A B-tree whose entries are out of order, by amcheck's bt_index_check(); with `--exact` also \
            one that lacks rows of its table.",
    why: "Queries by it miss rows, and its uniqueness holds no more; a new version of the collation \
          library does that.",
    locks: "ACCESS SHARE on each index and its table, while it is read",
    run: Some(|cx| Box::pin(corrupt(cx))),
};

pub(super) static CHECKS: &[&Check] = &[&CORRUPT];

/// Leaves no index of a standby's unlogged tables, which are empty there.
const BTREES: &str = "\
SELECT c.oid::int8 AS oid, n.nspname::text || '.' || c.relname::text AS object,
       n.nspname::text AS schema, c.relname::text AS name,
       tn.nspname::text AS table_schema, t.relname::text AS table_name, i.indisexclusion AS exclusion,
       i.indrelid::int8 AS table, i.indexprs IS NOT NULL OR i.indpred IS NOT NULL AS computed
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
  JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
  JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  JOIN pg_catalog.pg_am a ON a.oid = c.relam
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE a.amname = 'btree' AND c.relkind = 'i' AND i.indisready AND i.indisvalid
   AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
   AND (c.relpersistence = 'p' OR NOT pg_catalog.pg_is_in_recovery())
 ORDER BY 2";

const BT_INDEX_CHECK: &str = "bt_index_check(regclass, boolean)";

static AMCHECK: Need = Need {
    extension: "amcheck",
    oldest: (1, 1),
    functions: &[BT_INDEX_CHECK],
    tables: &[],
    install: "CREATE EXTENSION amcheck; and, for a role that is no superuser, GRANT EXECUTE ON \
              FUNCTION bt_index_check(regclass, boolean) to it",
    anywhere: false,
};

/// ERRCODE_INDEX_CORRUPTED.
const INDEX_CORRUPTED: &str = "XX002";

async fn corrupt(cx: &Context<'_>) -> Result<Found, CollectError> {
    let indexes = cx.session.read(BTREES).await?;
    if indexes.is_empty() {
        return Ok(Found::skipped("there is no B-tree here"));
    }
    let mut findings = Vec::new();
    let mut failures = Vec::new();
    for row in &indexes {
        let (oid, object): (i64, &str) = (row.get("oid")?, row.get("object")?);
        // It works out expressions and predicates of the index, of old as the role that calls it.
        if row.get("computed")? {
            let table = [row.get("table")?];
            match cx.session.read_tables(&table, object, Vec::new()).await {
                Ok(_) => {}
                Err(e) if e.is_fatal() => return Err(e),
                Err(e) => {
                    failures.push(e.to_string());
                    continue;
                }
            }
        }
        let plan = |trusted: &Trusted| {
            let function = trusted.function(BT_INDEX_CHECK)?;
            let sql =
                format!("SELECT {function}($1::pg_catalog.oid::pg_catalog.regclass, {})", cx.exact);
            Ok(vec![Query::new(sql).int8(&oid)])
        };
        match cx.session.read_trusted(&AMCHECK, plan).await {
            Ok(_) => {}
            // What keeps one from being checked keeps all.
            Err(e @ CollectError::Missing { .. }) => return Err(e),
            Err(e) if e.is_fatal() => return Err(e),
            Err(CollectError::Query { sqlstate, message }) if sqlstate == INDEX_CORRUPTED => {
                let index = Relation::new(row.get::<&str>("schema")?, row.get::<&str>("name")?);
                let table =
                    Relation::new(row.get::<&str>("table_schema")?, row.get::<&str>("table_name")?);
                let there = There { oid, index: &index, table: &table };
                findings.push(
                    CORRUPT
                        .finding(object, message)
                        .remedy(index::rebuilding(cx.datname(), &there, row.get("exclusion")?))
                        .caution(
                            "Find out why first: disk, memory, or another version of the collation \
                             library. A unique index may have let duplicates in; REINDEX fails then, \
                             and names one.",
                        ),
                );
            }
            Err(e) => failures.push(format!("{object}: {e}")),
        }
    }
    let summary = counted(indexes.len() - failures.len(), "B-tree index", "read");
    let unchecked = (!failures.is_empty()).then(|| constraints::hint(&failures));
    Ok(Found { unchecked, ..Found::new(summary, sorted(findings)) })
}
