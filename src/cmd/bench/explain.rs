//! Runs each query under EXPLAIN (ANALYZE), apart from the runs that are timed, and reads what it says.
//!
//! Must not: be called while latencies are measured.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context, anyhow};
use serde_json::Value;

use super::document::{Buffers, Explain, MedianAndMost, Mode, PrunedPartitions};
use super::params::literal;
use super::worker::Ready;
use crate::derive::sample::{Random, median};
use crate::error::StatementError;
use crate::pg::{Bench, BenchStatement, Query, Row, columns};

/// No clock is read at each node: only the whole is timed, by the server. VERBOSE names schemas.
const EXPLAIN: &str = "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, VERBOSE, FORMAT JSON)";
const NAME: &str = "pgrunway_bench";
/// The server plans this many executions for their own values before it considers a generic plan.
const CUSTOM_PLANS: usize = 5;

/// For relations and indexes by schema and name: their root, and its leaves if it is partitioned.
/// Locks the roots' partitions as every query on them does.
const ROOTS: &str = "\
WITH named AS (
    SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name,
           pg_catalog.pg_partition_root(c.oid)::oid AS root
      FROM pg_catalog.json_to_recordset($1::json) AS u(s text, n text)
      JOIN pg_catalog.pg_namespace n ON n.nspname = u.s
      JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = u.n),
leaves AS (
    SELECT r.root, (SELECT pg_catalog.count(*) FROM pg_catalog.pg_partition_tree(r.root) t
                     WHERE t.isleaf) AS leaves
      FROM (SELECT DISTINCT root FROM named WHERE root IS NOT NULL) r)
SELECT a.schema, a.name, r.relname::text AS root, l.leaves::int8 AS leaves
  FROM named a JOIN leaves l ON l.root = a.root JOIN pg_catalog.pg_class r ON r.oid = a.root";

/// Runs a query `runs` times in a mode. `seed` gives the parameters.
///
/// # Errors
/// The server refuses, or answers with something else than a plan.
pub async fn explain(
    session: &Bench,
    query: &Ready,
    mode: Mode,
    runs: usize,
    seed: u64,
) -> Result<Explain, NoPlan> {
    let read_only = if query.read_write { "off" } else { "on" };
    session.set("default_transaction_read_only", read_only).await?;
    session.set("statement_timeout", &query.timeout.as_millis().to_string()).await?;
    let mut random = Random::new(&[seed, u64::MAX]);
    let (mut plans, mut generic) = (Vec::new(), None);
    match mode {
        Mode::Unprepared => {
            let types = session.prepare(&query.sql).await?;
            for _ in 0..runs {
                let values = query.pools.draw(&mut random);
                plans.push(
                    rolled_back(session, query, one(session, EXPLAIN, &query.sql, &types, &values))
                        .await?,
                );
            }
        }
        Mode::Prepared => {
            let prefix = format!("PREPARE {NAME} AS ");
            let made = session.text(&format!("{prefix}{}", query.sql)).await;
            made.map_err(|e| shifted(e, &prefix))?;
            let result = prepared(session, query, runs, &mut random, &mut plans).await;
            let counted = session.text(
                "SELECT pg_catalog.to_jsonb(p) OPERATOR(pg_catalog.->>) 'generic_plans' \
                 FROM pg_catalog.pg_prepared_statements p WHERE p.name = 'pgrunway_bench'",
            );
            generic = result.and(counted.await.map_err(NoPlan::from)).map(|rows| {
                let count = rows.first()?.first()?.as_deref()?.parse::<u64>().ok()?;
                Some(count >= runs as u64)
            })?;
            session.text(&format!("DEALLOCATE {NAME}")).await?;
        }
    }
    let mut names = BTreeSet::new();
    for plan in &plans {
        collect(plan, None, &mut names);
    }
    let roots = roots(session, &names).await?;
    summary(&plans, &roots, generic).map_err(NoPlan::Unread)
}

/// Why a query has no plan to show.
#[derive(Debug, thiserror::Error)]
pub enum NoPlan {
    /// The server said no.
    #[error(transparent)]
    Server(#[from] StatementError),
    /// Its answer was not understood.
    #[error("EXPLAIN could not be read: {0:#}")]
    Unread(anyhow::Error),
}

async fn prepared(
    session: &Bench,
    query: &Ready,
    runs: usize,
    random: &mut Random,
    plans: &mut Vec<Value>,
) -> Result<(), NoPlan> {
    for run in 0..CUSTOM_PLANS + runs {
        let values = query.pools.draw(random);
        let values: Vec<String> = values.iter().map(|v| literal(v.as_deref())).collect();
        let arguments =
            if values.is_empty() { String::new() } else { format!("({})", values.join(", ")) };
        if run < CUSTOM_PLANS {
            let execute = format!("EXECUTE {NAME}{arguments}");
            let rows = async { Ok(session.text(&execute).await?) };
            rolled_back(session, query, rows).await?;
        } else {
            let execute = format!("{EXPLAIN} EXECUTE {NAME}{arguments}");
            let rows = async { Ok(session.text(&execute).await?) };
            let rows = rolled_back(session, query, rows).await?;
            let text = rows.first().and_then(|r| r.first()).and_then(Option::as_deref);
            plans.push(parsed(text.unwrap_or_default())?);
        }
    }
    Ok(())
}

async fn one(
    session: &Bench,
    explain: &str,
    sql: &str,
    types: &BenchStatement,
    values: &[Option<String>],
) -> Result<Value, NoPlan> {
    let prefix = format!("{explain} ");
    let text = session.json(&format!("{prefix}{sql}"), types, values).await;
    parsed(&text.map_err(|e| shifted(e, &prefix))?)
}

fn parsed(text: &str) -> Result<Value, NoPlan> {
    serde_json::from_str(text).map_err(|e| NoPlan::Unread(e.into()))
}

/// Takes what stands before the user's own text off the position of an error in it.
fn shifted(e: StatementError, prefix: &str) -> StatementError {
    match e {
        StatementError::Refused { sqlstate, message, detail, hint, position } => {
            let length = u32::try_from(prefix.chars().count()).unwrap_or_default();
            let position = position.and_then(|at| at.checked_sub(length)).filter(|at| *at > 0);
            StatementError::Refused { sqlstate, message, detail, hint, position }
        }
        other => other,
    }
}

/// EXPLAIN (ANALYZE) executes; what it writes is taken back.
async fn rolled_back<T>(
    session: &Bench,
    query: &Ready,
    work: impl Future<Output = Result<T, NoPlan>>,
) -> Result<T, NoPlan> {
    if !query.read_write {
        return work.await;
    }
    session.text("BEGIN").await?;
    let result = work.await;
    session.text("ROLLBACK").await?;
    result
}

type RelationNames = BTreeSet<(String, String)>;

fn text<'v>(node: &'v Value, key: &str) -> Option<&'v str> {
    node.get(key).and_then(Value::as_str)
}

fn number(node: &Value, key: &str) -> f64 {
    node.get(key).and_then(Value::as_f64).unwrap_or_default()
}

fn children(node: &Value) -> impl Iterator<Item = &Value> {
    node.get("Plans").and_then(Value::as_array).into_iter().flatten()
}

fn top(plan: &Value) -> Option<&Value> {
    plan.get(0)?.get("Plan")
}

/// Schemas and names of all relations and indexes; a Bitmap Index Scan has the schema of what is above.
fn collect(plan: &Value, schema: Option<&str>, names: &mut RelationNames) {
    let node = if plan.is_array() { top(plan).unwrap_or(plan) } else { plan };
    let schema = text(node, "Schema").or(schema);
    if let Some(schema) = schema {
        for key in ["Relation Name", "Index Name"] {
            names.extend(text(node, key).map(|name| (schema.to_owned(), name.to_owned())));
        }
    }
    for child in children(node) {
        collect(child, schema, names);
    }
}

columns! {
    struct RootOf {
        schema: String,
        name: String,
        root: String,
        leaves: i64,
    }
}

/// By schema and name: name of the root and number of its leaves.
type RootLeaves = HashMap<(String, String), (String, usize)>;

async fn roots(session: &Bench, names: &RelationNames) -> Result<RootLeaves, NoPlan> {
    let list: Vec<Value> =
        names.iter().map(|(s, n)| serde_json::json!({ "s": s, "n": n })).collect();
    let list = Value::Array(list).to_string();
    let mut found = RootLeaves::new();
    for row in Row::each::<RootOf>(&session.rows(Query::new(ROOTS).text(&list)).await?) {
        let row = row.map_err(|e| NoPlan::Unread(e.into()))?;
        let leaves = usize::try_from(row.leaves).unwrap_or_default();
        found.insert((row.schema, row.name), (row.root, leaves));
    }
    Ok(found)
}

struct PlanReader<'r> {
    roots: &'r RootLeaves,
}

/// One node as it is told: its kind, and what it reads under the names of roots.
impl PlanReader<'_> {
    fn root(&self, schema: Option<&str>, name: &str) -> String {
        let key = (schema.unwrap_or_default().to_owned(), name.to_owned());
        self.roots.get(&key).map_or_else(|| name.to_owned(), |(root, _)| root.clone())
    }

    fn label(&self, node: &Value, schema: Option<&str>) -> String {
        let mut label = text(node, "Node Type").unwrap_or("?").to_owned();
        if let Some(strategy) = text(node, "Strategy").filter(|s| *s != "Plain") {
            label = format!("{strategy} {label}");
        }
        if let Some(join) = text(node, "Join Type").filter(|j| *j != "Inner") {
            label = format!("{label} {join}");
        }
        if let Some(partial) = text(node, "Partial Mode").filter(|m| *m != "Simple") {
            label = format!("{partial} {label}");
        }
        if node.get("Parallel Aware").and_then(Value::as_bool) == Some(true) {
            label = format!("Parallel {label}");
        }
        if text(node, "Scan Direction") == Some("Backward") {
            label.push_str(" Backward");
        }
        if let Some(index) = text(node, "Index Name") {
            label.push_str(&format!(" using {}", self.root(schema, index)));
        }
        if let Some(relation) = text(node, "Relation Name") {
            label.push_str(&format!(" on {}", self.root(schema, relation)));
        }
        label
    }

    /// The tree in one line. Partitions that are read alike count once, and an Append of which one
    /// kind is left is that, so that the plan stays the same while partitions come and go.
    fn shape(&self, node: &Value, schema: Option<&str>) -> String {
        let schema = text(node, "Schema").or(schema);
        let appends = matches!(text(node, "Node Type"), Some("Append" | "Merge Append"));
        let mut below: Vec<String> = Vec::new();
        for child in children(node) {
            let shape = self.shape(child, schema);
            if !(appends && below.contains(&shape)) {
                below.push(shape);
            }
        }
        if appends && below.len() == 1 {
            return below.remove(0);
        }
        let label = self.label(node, schema);
        match below.as_slice() {
            [] => label,
            [one] => format!("{label} > {one}"),
            several => format!("{label} ({})", several.join("; ")),
        }
    }

    /// Scans, indexes, and by root table the leaves that were scanned and those in the plan.
    fn scans(
        &self,
        node: &Value,
        schema: Option<&str>,
        scans: &mut BTreeSet<String>,
        indexes: &mut BTreeSet<String>,
        tables: &mut BTreeMap<String, Leaves>,
    ) {
        let schema = text(node, "Schema").or(schema);
        if text(node, "Node Type").is_some_and(|kind| kind.contains("Scan")) {
            scans.insert(self.label(node, schema));
        }
        indexes.extend(text(node, "Index Name").map(|index| self.root(schema, index)));
        if let Some(relation) = text(node, "Relation Name") {
            let key = (schema.unwrap_or_default().to_owned(), relation.to_owned());
            if let Some((root, total)) = self.roots.get(&key) {
                let leaves = tables.entry(root.clone()).or_default();
                leaves.total = *total;
                leaves.planned.insert(relation.to_owned());
                if number(node, "Actual Loops") > 0.0 {
                    leaves.scanned.insert(relation.to_owned());
                }
            }
        }
        for child in children(node) {
            self.scans(child, schema, scans, indexes, tables);
        }
    }
}

#[derive(Default)]
struct Leaves {
    total: usize,
    planned: BTreeSet<String>,
    scanned: BTreeSet<String>,
}

fn spread(values: &mut [f64]) -> Option<MedianAndMost> {
    Some(MedianAndMost { median: median(values)?, max: *values.last()? })
}

/// Planning times of a query as the first statement of each of these new sessions.
///
/// # Errors
/// As [`explain`].
pub async fn first_planning(
    known: &Bench,
    new: &[Bench],
    query: &Ready,
    seed: u64,
) -> Result<Option<MedianAndMost>, NoPlan> {
    let types = known.prepare(&query.sql).await?;
    let mut random = Random::new(&[seed, u64::MAX]);
    let explain = "EXPLAIN (SUMMARY, FORMAT JSON)";
    let mut times = Vec::new();
    for session in new {
        let plan =
            one(session, explain, &query.sql, &types, &query.pools.draw(&mut random)).await?;
        times.extend(plan.get(0).map(|whole| number(whole, "Planning Time") / 1e3));
    }
    Ok(spread(&mut times))
}

fn summary(plans: &[Value], roots: &RootLeaves, generic: Option<bool>) -> anyhow::Result<Explain> {
    let reader = PlanReader { roots };
    let nodes = plans.iter().map(|p| Some((p.get(0)?, top(p)?))).collect::<Option<Vec<_>>>();
    let nodes = nodes.context("it has no plan")?;
    let middle = |of: &dyn Fn(&Value, &Value) -> f64| {
        let mut values: Vec<f64> = nodes.iter().map(|(whole, node)| of(whole, node)).collect();
        median(&mut values).unwrap_or_default()
    };
    let times = |key: &str| {
        let mut values: Vec<f64> = nodes.iter().map(|(w, _)| number(w, key) / 1e3).collect();
        spread(&mut values).ok_or_else(|| anyhow!("no run"))
    };
    let jit = |whole: &Value, path: &[&str]| {
        let mut at = whole.get("JIT");
        for key in path {
            at = at.and_then(|v| v.get(*key));
        }
        at.and_then(Value::as_f64).unwrap_or_default()
    };
    let blocks = |key: &'static str| middle(&move |_, node| number(node, key));
    let planning = |key: &'static str| {
        middle(&move |whole, _| whole.get("Planning").map_or(0.0, |p| number(p, key)))
    };
    let (mut scans, mut indexes) = (BTreeSet::new(), BTreeSet::new());
    let mut shapes = Vec::new();
    let mut last = BTreeMap::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    for (_, node) in &nodes {
        let mut tables: BTreeMap<String, Leaves> = BTreeMap::new();
        reader.scans(node, None, &mut scans, &mut indexes, &mut tables);
        known.extend(tables.iter().map(|(root, leaves)| (root.clone(), leaves.total)));
        last = tables;
        shapes.push(reader.shape(node, None));
    }
    let partitions = known
        .into_iter()
        .map(|(table, total)| {
            let leaves = last.remove(&table).unwrap_or_default();
            let (planned, scanned) = (leaves.planned.len(), leaves.scanned.len());
            PrunedPartitions {
                table,
                total,
                scanned,
                unreached: planned - scanned,
                pruned: total.saturating_sub(planned),
            }
        })
        .collect();
    Ok(Explain {
        runs: plans.len(),
        planning_seconds: times("Planning Time")?,
        first_planning_seconds: None,
        execution_seconds: times("Execution Time")?,
        rows: middle(&|_, node| number(node, "Actual Rows") * number(node, "Actual Loops")),
        buffers: Buffers { hit: blocks("Shared Hit Blocks"), read: blocks("Shared Read Blocks") },
        planning_buffers: Buffers {
            hit: planning("Shared Hit Blocks"),
            read: planning("Shared Read Blocks"),
        },
        temp_blocks_read: blocks("Temp Read Blocks"),
        temp_blocks_written: blocks("Temp Written Blocks"),
        jit_functions: middle(&|whole, _| jit(whole, &["Functions"])),
        jit_seconds: middle(&|whole, _| jit(whole, &["Timing", "Total"]) / 1e3),
        scans: scans.into_iter().collect(),
        indexes: indexes.into_iter().collect(),
        partitions,
        plan: shapes.last().cloned().unwrap_or_default(),
        plans: shapes.iter().collect::<BTreeSet<_>>().len(),
        generic,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn leaf(name: &str, index: &str, loops: u64) -> Value {
        json!({ "Node Type": "Index Scan", "Schema": "public", "Relation Name": name,
                "Index Name": index, "Scan Direction": "Forward", "Actual Loops": loops,
                "Actual Rows": 2 })
    }

    fn plan(leaves: &[Value], planning: f64) -> Value {
        let below = match leaves {
            [one] => one.clone(),
            all => json!({ "Node Type": "Append", "Plans": all, "Subplans Removed": 1 }),
        };
        json!([{ "Plan": { "Node Type": "Limit", "Actual Rows": 3, "Actual Loops": 1,
                           "Shared Hit Blocks": 7, "Shared Read Blocks": 1,
                           "Temp Written Blocks": 4, "Plans": [below] },
                 "Planning Time": planning, "Execution Time": 0.5,
                 "Planning": { "Shared Hit Blocks": 9 },
                 "JIT": { "Functions": 2, "Timing": { "Total": 40.0 } } }])
    }

    fn roots() -> RootLeaves {
        let mut roots = RootLeaves::new();
        for n in 1..=30 {
            for (name, root) in [("t", "t"), ("i", "idx")] {
                let key = ("public".to_owned(), format!("{name}{n}"));
                roots.insert(key, (root.to_owned(), 30));
            }
        }
        roots
    }

    #[test]
    fn figures_are_read_and_partitions_counted() {
        let one = plan(&[leaf("t1", "i1", 1)], 1.0);
        let three = plan(&[leaf("t1", "i1", 1), leaf("t2", "i2", 1), leaf("t3", "i3", 0)], 3.0);
        let read = summary(&[one.clone(), three], &roots(), None).unwrap();
        assert_eq!(read.planning_seconds, MedianAndMost { median: 0.002, max: 0.003 });
        assert_eq!(read.execution_seconds, MedianAndMost { median: 0.0005, max: 0.0005 });
        assert_eq!((read.rows, read.runs, read.plans), (3.0, 2, 1));
        assert_eq!(
            (read.buffers.hit, read.buffers.read, read.planning_buffers.hit),
            (7.0, 1.0, 9.0)
        );
        assert_eq!(
            (read.jit_functions, read.jit_seconds, read.temp_blocks_written),
            (2.0, 0.04, 4.0)
        );
        let table = |scanned, unreached, pruned| PrunedPartitions {
            table: "t".into(),
            total: 30,
            scanned,
            unreached,
            pruned,
        };
        assert_eq!(read.partitions, [table(2, 1, 27)]);
        assert_eq!(summary(&[one], &roots(), None).unwrap().partitions, [table(1, 0, 29)]);
        // The same plan, whether one partition is left or several.
        assert_eq!(read.plan, "Limit > Index Scan using idx on t");
        assert_eq!(read.scans, ["Index Scan using idx on t"]);
        assert_eq!(read.indexes, ["idx"]);
    }

    #[test]
    fn plans_differ_by_kind_index_and_direction() {
        let roots = roots();
        let shape = |node: Value| PlanReader { roots: &roots }.shape(&node, None);
        let seq = json!({ "Node Type": "Seq Scan", "Schema": "public", "Relation Name": "t3" });
        let mut backward = leaf("t1", "i1", 1);
        backward["Scan Direction"] = json!("Backward");
        assert_eq!(shape(backward), "Index Scan Backward using idx on t");
        assert_eq!(
            shape(json!({ "Node Type": "Merge Append", "Plans": [leaf("t1", "i1", 1), seq] })),
            "Merge Append (Index Scan using idx on t; Seq Scan on t)"
        );
        let bitmap = json!({ "Node Type": "Bitmap Heap Scan", "Schema": "public",
            "Relation Name": "t1", "Plans": [{ "Node Type": "Bitmap Index Scan", "Index Name": "i1" }] });
        assert_eq!(
            shape(json!({ "Node Type": "Aggregate", "Strategy": "Hashed", "Plans": [bitmap] })),
            "Hashed Aggregate > Bitmap Heap Scan on t > Bitmap Index Scan using idx"
        );
        assert!(summary(&[json!([])], &roots, None).is_err());
    }
}
