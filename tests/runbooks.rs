//! What a runbook tells people to type at night works: its SQL runs as the exporter's own kind of
//! role, and Prometheus parses its PromQL.
//!
//! Must not: run a statement that changes or ends anything.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;
mod promql;

use std::collections::BTreeSet;

use promql::{assert_exported, assert_parse, repo};

fn runbooks() -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = std::fs::read_dir(repo("docs/runbooks"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .map(|p| {
            let name = p.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(p).unwrap())
        })
        .collect();
    all.sort();
    assert!(!all.is_empty());
    all
}

/// The ```sql blocks of a page, one statement each.
fn sql_blocks(text: &str) -> Vec<String> {
    let (mut blocks, mut inside) = (Vec::new(), None::<String>);
    for line in text.lines().map(str::trim_start) {
        match &mut inside {
            None if line == "```sql" => inside = Some(String::new()),
            None => {}
            Some(_) if line == "```" => blocks.extend(inside.take()),
            Some(sql) => {
                sql.push_str(line);
                sql.push('\n');
            }
        }
    }
    blocks
}

/// Lines of PromQL: indented by four under "Confirm", outside fenced blocks.
fn promql_lines(text: &str) -> Vec<&str> {
    let confirm = text.split("\n## ").find(|s| s.starts_with("Confirm")).unwrap_or_default();
    let outside = confirm.split("```").step_by(2);
    outside.flat_map(str::lines).filter_map(|l| l.strip_prefix("    ")).collect()
}

#[tokio::test]
async fn the_queries_run_as_a_role_that_only_monitors() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin
        .batch_execute(
            "CREATE TABLE trades (at timestamptz) PARTITION BY RANGE (at); \
             CREATE TABLE trades_1 PARTITION OF trades FOR VALUES FROM ('2026-01-01') TO \
             ('2026-02-01'); CREATE ROLE pgrunway",
        )
        .await
        .unwrap();
    let mon = common::client(&cluster, "mon", "postgres").await;
    let mut ran = 0;
    for (name, text) in runbooks() {
        for sql in sql_blocks(&text) {
            let sql = sql.replace("SCHEMA.TABLE", "public.trades");
            if !sql.starts_with("SELECT") || sql.contains("pg_terminate_backend") {
                continue;
            }
            mon.simple_query(&sql).await.unwrap_or_else(|e| panic!("{name}: {e}\n{sql}"));
            ran += 1;
        }
    }
    assert!(ran >= 8, "{ran} queries found");
}

#[tokio::test]
async fn the_partitions_it_tells_to_create_can_be_created() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin
        .batch_execute(
            "CREATE TABLE trades (at timestamptz) PARTITION BY RANGE (at); \
             CREATE TABLE orders (at timestamptz) PARTITION BY RANGE (at)",
        )
        .await
        .unwrap();
    let mut ran = 0;
    for (name, text) in runbooks() {
        for sql in sql_blocks(&text).iter().filter(|s| s.starts_with("CREATE TABLE")) {
            admin.batch_execute(sql).await.unwrap_or_else(|e| panic!("{name}: {e}\n{sql}"));
            ran += 1;
        }
    }
    assert_eq!(ran, 2);
}

#[test]
fn the_promql_parses_and_every_page_has_some() {
    let mut all = BTreeSet::new();
    for (name, text) in runbooks() {
        let lines = promql_lines(&text);
        assert!(!lines.is_empty(), "{name}: nothing to confirm with");
        for line in lines {
            assert_exported(&name, line, &["up"]);
            all.insert(line.to_owned());
        }
    }
    assert_parse(&all);
}
