//! B-trees that are mostly air, by estimate or by measurement.
//!
//! Must not: read an index unless `--exact` asks for it.

use super::super::check::{Check, Context, Finding, Found, Scope, Severity, When};
use super::build::Names;
use super::indexes::book;
use super::{constraints, counted, sorted};
use crate::collectors::index_health::catalogue;
use crate::derive::units::bytes;
use crate::error::CollectError;
use crate::pg::{Need, Query, Trusted};
use crate::remedy::index::{self, There};

pub(super) static BLOAT: Check = Check {
    id: "index.bloat",
    severity: Severity::Warning,
    scope: Scope::Database,
    when: When::Always,
    finds: "A B-tree of which more than half and 10 MB is air: estimated from statistics, or with \
            `--exact` measured by pgstattuple, which reads it. Not one that is unused.",
    why: "It takes memory and disk, and scans read more pages than they need.",
    locks: "none to estimate; with `--exact` ACCESS SHARE on each B-tree while it is read",
    run: Some(|cx| Box::pin(bloat(cx))),
};

pub(super) static CHECKS: &[&Check] = &[&BLOAT];

/// Share of an index that may be air, and how much of it at least.
const BLOATED: f64 = 0.5;
const WASTED: f64 = 10e6;

async fn bloat(cx: &Context<'_>) -> Result<Found, CollectError> {
    let block_size = book(cx).await?.facts.block_size;
    if cx.exact {
        return measured(cx, block_size).await;
    }
    let most = cx.session.settings().indexes.bloat_largest;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let all = catalogue::bloat(cx.session, most, block_size).await?;
    let airy: Vec<(i64, f64, f64)> = all
        .iter()
        .map(|b| (b.index, b.pages * block_size, (b.pages - b.needed) * block_size))
        .filter(|(_, size, air)| *air > WASTED && air / size > BLOATED)
        .collect();
    let findings = bloated(cx, &airy, "estimated").await?;
    let summary = counted(all.len(), "B-tree index", "estimated");
    Ok(Found::new(summary, findings))
}

async fn bloated(
    cx: &Context<'_>,
    airy: &[(i64, f64, f64)],
    how: &str,
) -> Result<Vec<Finding>, CollectError> {
    let book = book(cx).await?;
    let table = |id| book.index(id).map(|index| index.table);
    let ids: Vec<i64> =
        airy.iter().flat_map(|(id, ..)| [Some(*id), table(*id)]).flatten().collect();
    let names = Names::read(cx, &ids).await?;
    let mut findings = Vec::new();
    for (id, size, air) in airy {
        if book.is_unused(*id) {
            continue;
        }
        let Some(name) = names.get(*id) else { continue };
        let Some(table) = table(*id).and_then(|table| names.get(table)) else { continue };
        let there = There { oid: *id, index: &name.relation, table: &table.relation };
        let found = format!("{} of {} is air, {how}", bytes(*air), bytes(*size));
        findings.push(BLOAT.finding(book.index_name(*id), found).remedy(index::rebuilding(
            cx.datname(),
            &there,
            false,
        )));
    }
    Ok(sorted(findings))
}

const PGSTATINDEX: &str = "pgstatindex(regclass)";

static PGSTATTUPLE: Need = Need {
    extension: "pgstattuple",
    oldest: (1, 4),
    functions: &[PGSTATINDEX],
    tables: &[],
    install: "CREATE EXTENSION pgstattuple, or leave out --exact",
    anywhere: false,
};

/// B-trees of 128 pages or more, as the estimate has them.
const BTREES: &str = "\
SELECT c.oid::int8 AS oid, n.nspname::text || '.' || c.relname::text AS object
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  JOIN pg_catalog.pg_am a ON a.oid = c.relam
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE a.amname = 'btree' AND c.relkind = 'i' AND i.indisvalid AND c.relpersistence <> 't'
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
   AND (c.relpages::int8 & 4294967295) >= 128
 ORDER BY 2";

async fn measured(cx: &Context<'_>, block_size: f64) -> Result<Found, CollectError> {
    let all = cx.session.read(BTREES).await?;
    if all.is_empty() {
        return Ok(Found::skipped("no B-tree here has 128 pages or more"));
    }
    // A page that is full to the fill factor, 90 % as a rule, has no air.
    let measure = |trusted: &Trusted| -> Result<String, CollectError> {
        Ok(format!(
            "SELECT s.index_size::float8 AS size, \
                    (s.deleted_pages + s.empty_pages)::float8 + s.leaf_pages::float8 \
                      * GREATEST(0, 1 - COALESCE(NULLIF(s.avg_leaf_density, 'NaN'), 0) / 90) AS air \
               FROM {}($1::pg_catalog.oid::pg_catalog.regclass) s",
            trusted.function(PGSTATINDEX)?
        ))
    };
    let mut airy = Vec::new();
    let mut failures = Vec::new();
    for row in &all {
        let (oid, object): (i64, &str) = (row.get("oid")?, row.get("object")?);
        let plan = |trusted: &Trusted| Ok(vec![Query::new(measure(trusted)?).int8(&oid)]);
        match cx.session.read_trusted(&PGSTATTUPLE, plan).await {
            Ok((_, answers)) => {
                let Some(row) = answers.iter().flatten().next() else { continue };
                let (size, air): (f64, f64) = (row.get("size")?, row.get("air")?);
                let air = air * block_size;
                if air > WASTED && air / size > BLOATED {
                    airy.push((oid, size, air));
                }
            }
            // What keeps one from being measured keeps all.
            Err(e @ CollectError::Missing { .. }) => return Err(e),
            Err(e) if e.is_fatal() => return Err(e),
            Err(e) => failures.push(format!("{object}: {e}")),
        }
    }
    let findings = bloated(cx, &airy, "measured").await?;
    let unchecked = (!failures.is_empty()).then(|| constraints::hint(&failures));
    let summary = counted(all.len() - failures.len(), "B-tree index", "measured");
    Ok(Found { unchecked, ..Found::new(summary, findings) })
}
