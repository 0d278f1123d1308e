//! B-trees whose entries are out of order, by the server's own `amcheck`.
//!
//! Must not: take more than ACCESS SHARE: `bt_index_check`, never `bt_index_parent_check`.

use super::btree::{Btree, btrees};
use super::{Context, Looked, counted, hint};
use crate::error::CollectError;
use crate::findings::{Corrupt, DatabaseFacts};
use crate::pg::{Need, Query, Row, Trusted, columns};

/// Leaves no index of a standby's unlogged tables, which are empty there.
const BTREES: &str = btrees!(
    ", i.indisexclusion AS exclusion, i.indrelid::int8 AS table_oid,
       i.indexprs IS NOT NULL OR i.indpred IS NOT NULL AS computed",
    "i.indisready AND (c.relpersistence = 'p' OR NOT pg_catalog.pg_is_in_recovery())"
);

columns! {
    struct CheckedBtree {
        tree: Btree,
        exclusion: bool,
        table_oid: i64,
        computed: bool,
    }
}

const BT_INDEX_CHECK: &str = "bt_index_check(regclass, boolean)";

static AMCHECK: Need = Need {
    extension: "amcheck",
    oldest: (1, 1),
    functions: &[BT_INDEX_CHECK],
    tables: &[],
    install: "CREATE EXTENSION amcheck; and, for a role that is not a superuser, GRANT EXECUTE ON \
              FUNCTION bt_index_check(regclass, boolean) to it",
    anywhere: false,
};

/// ERRCODE_INDEX_CORRUPTED.
const INDEX_CORRUPTED: &str = "XX002";

pub(super) async fn look(cx: &Context<'_>) -> Result<Looked, CollectError> {
    let indexes: Vec<CheckedBtree> = Row::all(&cx.session.read(BTREES).await?)?;
    if indexes.is_empty() {
        return Ok(Looked::skipped("there is no B-tree here"));
    }
    let total = indexes.len();
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for row in indexes {
        let (table, index) = row.tree.relations();
        let object = index.display();
        // It works out expressions and predicates of the index, of old as the role that calls it.
        if row.computed {
            let tables = [row.table_oid];
            match cx.session.read_tables(&tables, &object, Vec::new()).await {
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
            Ok(vec![Query::new(sql).int8(&row.tree.oid)])
        };
        match cx.session.read_trusted(&AMCHECK, plan).await {
            Ok(_) => {}
            // What keeps one from being checked keeps all.
            Err(e @ CollectError::Missing { .. }) => return Err(e),
            Err(e) if e.is_fatal() => return Err(e),
            Err(CollectError::Query { sqlstate, message }) if sqlstate == INDEX_CORRUPTED => {
                found.push(Corrupt {
                    table,
                    index,
                    oid: row.tree.oid,
                    exclusion: row.exclusion,
                    message,
                });
            }
            Err(e) => failures.push(format!("{object}: {e}")),
        }
    }
    let summary = counted(total - failures.len(), "B-tree index", "read");
    let unchecked = (!failures.is_empty()).then(|| hint(&failures));
    let database = DatabaseFacts { corrupt: Some(found), ..DatabaseFacts::default() };
    Ok(Looked { unchecked, ..Looked::of(database, summary) })
}
