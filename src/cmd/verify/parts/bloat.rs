//! How full B-trees are, by estimate or by measurement.
//!
//! Must not: read an index unless `--exact` asks for it.

use std::collections::HashSet;

use super::btree::{Btree, btrees};
use super::{Context, Looked, counted, hint};
use crate::collectors::database_recommendations::{known, of_indexes};
use crate::collectors::index_health::{self, catalogue::WhoseNames};
use crate::derive::index::judge;
use crate::derive::rollup::Forest;
use crate::error::CollectError;
use crate::findings::{Bloated, DatabaseFacts};
use crate::pg::{Need, Query, Row, Trusted, columns};

pub(super) async fn look(cx: &Context<'_>) -> Result<Looked, CollectError> {
    let rows = index_health::read(cx.session, WhoseNames::All).await?;
    let verdicts = judge(&rows.facts, &rows.limits);
    if cx.exact {
        // One that is unused is to go anyway, with its parts.
        let parents = rows.facts.indexes.iter().filter_map(|i| Some((i.id, i.parent?)));
        let forest = Forest::new(parents);
        let known = known(&rows.facts, &verdicts);
        let unused = known.iter().filter(|k| k.is_unused()).map(|k| k.judged.id);
        let unused: HashSet<i64> = unused.collect();
        let skip = |oid: i64| unused.contains(&forest.root(oid));
        return measured(cx, rows.facts.block_size, skip).await;
    }
    let estimated = counted(rows.bloat.len(), "B-tree index", "estimated");
    let database =
        DatabaseFacts { bloated: of_indexes(&rows, &verdicts).bloated, ..DatabaseFacts::default() };
    let blind = database.bloated.is_none().then(|| {
        "the bloat of a B-tree of 100 MB or more cannot be estimated, because the role may not read the \
         statistics of its columns: \
         GRANT SELECT on its table, or measure with --exact"
            .to_owned()
    });
    Ok(Looked { unchecked: blind, ..Looked::of(database, estimated) })
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

/// Those of 128 pages or more, as the estimate has them.
const BTREES: &str = btrees!("", "(c.relpages::int8 & 4294967295) >= 128");

columns! {
    /// Bytes of an index, and pages of it that hold nothing.
    struct Fullness {
        size: f64,
        air: f64,
    }
}

async fn measured(
    cx: &Context<'_>,
    block_size: f64,
    skip: impl Fn(i64) -> bool,
) -> Result<Looked, CollectError> {
    let all: Vec<Btree> = Row::all(&cx.session.read(BTREES).await?)?;
    if all.is_empty() {
        return Ok(Looked::skipped("no B-tree here has 128 pages or more"));
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
    let total = all.len();
    let mut bloated = Vec::new();
    let mut failures = Vec::new();
    for row in all {
        let (table, index) = row.relations();
        let plan = |trusted: &Trusted| Ok(vec![Query::new(measure(trusted)?).int8(&row.oid)]);
        match cx.session.read_trusted(&PGSTATTUPLE, plan).await {
            Ok((_, answers)) => {
                let first = answers.first().map(|rows| Row::first::<Fullness>(rows)).transpose()?;
                let Some(Fullness { size, air }) = first.flatten() else { continue };
                if skip(row.oid) {
                    continue;
                }
                bloated.push(Bloated {
                    name: index.name.clone(),
                    table: table.clone(),
                    part: Some((table, index)),
                    oid: row.oid,
                    bytes: size,
                    share: air * block_size / size.max(1.0),
                    measured: true,
                });
            }
            // What keeps one from being measured keeps all.
            Err(e @ CollectError::Missing { .. }) => return Err(e),
            Err(e) if e.is_fatal() => return Err(e),
            Err(e) => failures.push(format!("{}: {e}", index.display())),
        }
    }
    let summary = counted(total - failures.len(), "B-tree index", "measured");
    let unchecked = (!failures.is_empty()).then(|| hint(&failures));
    let database = DatabaseFacts { bloated: Some(bloated), ..DatabaseFacts::default() };
    Ok(Looked { unchecked, ..Looked::of(database, summary) })
}
