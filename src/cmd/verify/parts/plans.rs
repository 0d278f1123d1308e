//! Whether the configured queries read few partitions, by their plans.
//!
//! Must not: execute a query: EXPLAIN without ANALYZE, in a read-only transaction.

use std::collections::BTreeSet;

use super::{Context, Looked, counted, hint};
use crate::error::CollectError;
use crate::findings::{DatabaseFacts, Origin, PartitionsRead, Planned};
use crate::pg::{Query, Row, columns};

/// Of the tables that a plan reads (JSON: schema and name), those that are partitions; with their
/// root, its key, and the leaves that it has.
const PARTITIONS: &str = "\
WITH RECURSIVE up(id, top) AS (
SELECT c.oid, c.oid
  FROM pg_catalog.json_array_elements($1::json) e
  JOIN pg_catalog.pg_namespace n ON n.nspname::text = e ->> 0
  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname::text = e ->> 1
 WHERE c.relispartition AND c.relkind IN ('r', 'f')
UNION ALL
SELECT up.id, i.inhparent FROM up JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.top)
SELECT n.nspname::text || '.' || r.relname::text AS root, pg_catalog.count(*) AS used,
       (WITH RECURSIVE down(id) AS (
        SELECT r.oid UNION ALL
        SELECT i.inhrelid FROM down JOIN pg_catalog.pg_inherits i ON i.inhparent = down.id)
        SELECT pg_catalog.count(*) FROM down
          JOIN pg_catalog.pg_class l ON l.oid = down.id AND l.relkind <> 'p') AS leaves,
       pg_catalog.left(pg_catalog.pg_get_partkeydef(r.oid), 16385) AS key
  FROM up
  JOIN pg_catalog.pg_class r ON r.oid = up.top AND NOT r.relispartition
  JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
 GROUP BY r.oid, 1
 ORDER BY 1";

columns! {
    struct UsedPartitions {
        root: String,
        used: i64,
        leaves: i64,
        key: String,
    }
}

const SWITCH: &str = "\
SELECT s.setting::text AS setting, s.source::text AS source
  FROM pg_catalog.pg_settings s WHERE s.name = 'enable_partition_pruning'";

/// Most bytes of a plan: of a table with a thousand partitions it has half a megabyte.
const LONGEST_PLAN: usize = 1 << 20;

/// Schema and name of every table in a plan that `EXPLAIN (FORMAT YAML, VERBOSE)` prints. It writes a
/// string as JSON does, so that each property is a line.
fn tables(plan: &str) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    let mut name: Option<String> = None;
    for line in plan.lines() {
        let line = line.trim_start().trim_start_matches("- ");
        let string = |text: &str| serde_json::from_str::<String>(text.trim()).ok();
        if let Some(text) = line.strip_prefix("Relation Name:") {
            name = string(text);
        } else if let Some(text) = line.strip_prefix("Schema:")
            && let (Some(schema), Some(name)) = (string(text), name.take())
        {
            found.insert((schema, name));
        }
    }
    found
}

pub(super) async fn look(cx: &Context<'_>) -> Result<Looked, CollectError> {
    let datname = cx.datname();
    let queries = &cx.session.settings().queries;
    let queries: Vec<_> = queries.iter().filter(|q| q.database == datname).collect();
    if queries.is_empty() {
        return Ok(Looked::skipped("no query of verify.queries is for this database"));
    }
    let off = switched_off(cx).await?;
    let mut plans = Vec::new();
    let mut failures = Vec::new();
    for query in &queries {
        if has_parameter(&query.sql) {
            let why = "write values in the place of parameters such as $1";
            failures.push(format!("{}: {why}", query.name));
            continue;
        }
        // On a line of its own, because the query may end with a comment.
        let sql = format!("EXPLAIN (FORMAT YAML, VERBOSE, COSTS OFF) {}\n", query.sql);
        let what = format!("query {}", query.name);
        let read = cx
            .session
            .read_planning(&query.sql, &what, vec![Query::new(&sql).longest(LONGEST_PLAN)])
            .await;
        let rows: Vec<Row> = match read {
            Ok(answers) => answers.into_iter().flatten().collect(),
            Err(e @ CollectError::Missing { .. }) => {
                failures.push(e.to_string());
                continue;
            }
            Err(e) if e.is_fatal() => return Err(e),
            Err(e) => {
                failures.push(format!("{}: {}", query.name, explain(&e)));
                continue;
            }
        };
        let plan =
            rows.iter().map(|row| row.get::<&str>("QUERY PLAN")).collect::<Result<Vec<_>, _>>()?;
        let json = serde_json::to_string(&tables(&plan.join("\n"))).unwrap_or_default();
        let rows = cx.session.read(Query::new(PARTITIONS).text(&json)).await?;
        let reading = |row: UsedPartitions| PartitionsRead {
            root: row.root,
            key: row.key,
            used: row.used,
            leaves: row.leaves,
        };
        plans.push(Planned {
            name: query.name.clone(),
            most: query.max_partitions,
            reads: Row::all(&rows)?.into_iter().map(reading).collect(),
            off,
        });
    }
    let summary = counted(plans.len(), "query", "planned");
    let unchecked = (!failures.is_empty()).then(|| hint(&failures));
    let database = DatabaseFacts { plans: Some(plans), ..DatabaseFacts::default() };
    Ok(Looked { unchecked, ..Looked::of(database, summary) })
}

columns! {
    struct Switch {
        setting: String,
        source: String,
    }
}

/// What switches pruning off, where it is off.
async fn switched_off(cx: &Context<'_>) -> Result<Option<Origin>, CollectError> {
    let rows = cx.session.read(SWITCH).await?;
    let Some(switch) = Row::first::<Switch>(&rows)? else { return Ok(None) };
    Ok((switch.setting == "off").then_some(match switch.source.as_str() {
        "database" => Origin::Database,
        "user" => Origin::Role,
        "database user" => Origin::RoleIn,
        "global" => Origin::Roles,
        _ => Origin::System { restart: false },
    }))
}

/// Whether `$1` or the like stands outside quotes. The server would take it for a broken protocol.
fn has_parameter(sql: &str) -> bool {
    let mut quote = None;
    let mut last = ' ';
    let mut chars = sql.chars().peekable();
    while let Some(c) = chars.next() {
        let digit = chars.peek().is_some_and(char::is_ascii_digit);
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '\'' || c == '"' => quote = Some(c),
            None if c == '$' && digit && !(last.is_alphanumeric() || last == '_') => return true,
            None => {}
        }
        last = c;
    }
    false
}

/// What to do about a query that cannot be planned.
fn explain(e: &CollectError) -> String {
    match e {
        CollectError::Query { sqlstate, .. } if sqlstate == "42P01" || sqlstate == "42883" => {
            format!("{e}; write the names with their schema")
        }
        e => e.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_told_from_strings_and_names() {
        for (sql, want) in [
            ("SELECT $1", true),
            ("SELECT 'it''s $1', $2::int", true),
            ("SELECT '$1', \"$1\", a$1, $$x$$, '$'", false),
        ] {
            assert_eq!(has_parameter(sql), want, "{sql}");
        }
    }

    #[test]
    fn tables_of_a_plan() {
        let plan = r#"- Plan: 
    Node Type: "Append"
    Parallel Aware: false
    Subplans Removed: 28
    Plans: 
      - Node Type: "Seq Scan"
        Parent Relationship: "Member"
        Relation Name: "trades_2026_11_22"
        Schema: "public"
        Alias: "trades_1"
        Output: 
          - "trades_1.\"a: b\""
        Filter: "(x = 'Relation Name: \"y\"\n        Schema: \"z\"')"
      - Node Type: "Bitmap Heap Scan"
        Relation Name: "odd\"na\nme"
        Schema: "S"
        Plans: 
          - Node Type: "Bitmap Index Scan"
            Index Name: "i""#;
        let found: Vec<_> = tables(plan).into_iter().collect();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(found, [pair("S", "odd\"na\nme"), pair("public", "trades_2026_11_22")]);
    }
}
