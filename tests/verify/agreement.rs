//! `verify`, `report` and the exporter say the same of the same server: ids, severities, subjects, remedies.
//!
//! Must not: know a fault; the rules that all three ask are compared, whatever they find.

use std::collections::BTreeMap;

use pgrunway::cmd::verify::all;
use pgrunway::findings::{self, Check};
use serde_json::Value;

use super::common::{self, process::run};
use super::gate::{self, Gate};
use super::{EXPECTED, demo};

/// Rules of which `verify` still judges by itself, over other thresholds.
const BY_ITSELF: [&str; 2] = ["statistics.age", "vacuum.age"];

/// What `verify` found of one check: severity, and objects with their commands.
type Found = BTreeMap<String, (String, Vec<(String, Option<String>)>)>;

fn verified(report: &Value, database: Option<&str>) -> Found {
    let mut all = Found::new();
    for check in report["checks"].as_array().unwrap() {
        if check["database"].as_str() != database {
            continue;
        }
        for finding in check["findings"].as_array().unwrap() {
            let text = |key: &str| finding[key].as_str().map(str::to_owned);
            let id = check["id"].as_str().unwrap().to_owned();
            let entry = all.entry(id).or_default();
            entry.0 = text("severity").unwrap();
            entry.1.push((text("object").unwrap(), text("command")));
        }
    }
    all
}

/// What the exporter says of a rule.
fn exported(exposition: &str, id: &str, database: Option<&str>) -> Option<bool> {
    let series = match database {
        Some(name) => {
            format!("pg_database_recommendation_active{{datname=\"{name}\",id=\"{id}\"}} ")
        }
        None => format!("pg_recommendation_active{{id=\"{id}\"}} "),
    };
    let value = exposition.lines().find_map(|line| line.strip_prefix(&series))?;
    Some(value.trim() == "1")
}

/// The section of a report about one rule.
fn reported<'a>(
    markdown: &'a str,
    id: &str,
    title: &str,
    database: Option<&str>,
) -> Option<&'a str> {
    let place = database.map(|name| format!(" ({name})")).unwrap_or_default();
    let heading = format!("### {title}{place}\n").replace('_', "\\_");
    let start = markdown.find(&heading)? + heading.len();
    let section = &markdown[start..];
    let section = &section[..section.find("\n#").unwrap_or(section.len())];
    assert!(section.contains(&format!("`{id}`, ")), "{section}");
    Some(section)
}

/// Compares the three, and gives the ids that were found.
async fn compare(gate: &Gate<'_>, database: &str) -> Vec<&'static str> {
    let (_, verify) = gate.json(&["--database", database]).await;
    let file = format!("--config.file={}", gate.path("pgrunway.yml"));
    let uri = gate.uri();
    let env = [("DATA_SOURCE_NAME", uri.as_str())];
    let (code, exposition, err) = run(&["metrics", &file], &env).await;
    assert_eq!(code, 0, "{err}");
    let (code, markdown, err) = run(&["report", &file, "--over=1s"], &env).await;
    assert_eq!(code, 0, "{err}");
    let mut compared = 0;
    let mut found = Vec::new();
    for rule in findings::all() {
        if BY_ITSELF.contains(&rule.id) || !all().any(|check| check.id == rule.id) {
            continue;
        }
        compared += 1;
        let place = matches!(rule.check, Check::Database(_)).then_some(database);
        let told = verified(&verify, place);
        let told = told.get(rule.id);
        assert_eq!(exported(&exposition, rule.id, place), Some(told.is_some()), "{}", rule.id);
        let section = reported(&markdown, rule.id, rule.title, place);
        assert_eq!(section.is_some(), told.is_some(), "{}: {told:?}\n{markdown}", rule.id);
        let (Some((severity, objects)), Some(section)) = (told, section) else { continue };
        found.push(rule.id);
        let head = format!("`{}`, {severity}. ", rule.id);
        assert!(section.contains(&head), "{head}: {section}");
        for (object, command) in objects {
            assert!(section.contains(object), "{} {object}: {section}", rule.id);
            for command in command.iter() {
                assert!(section.contains(command), "{} {command}: {section}", rule.id);
            }
        }
    }
    assert!(compared >= 12, "{compared} rules are asked by all three");
    found
}

#[tokio::test]
async fn verify_report_and_exporter_agree_on_the_planted_faults() {
    let settings =
        [("autovacuum", "off"), ("track_io_timing", "off"), ("shared_preload_libraries", "")];
    let cluster = common::server_with(&settings, &[]).await;
    let gate = Gate::new(&cluster, EXPECTED);
    gate.sql("postgres", "DROP EXTENSION pg_stat_statements; CREATE DATABASE faulty").await;
    gate.sql("faulty", include_str!("faults.sql")).await;
    gate.sql(
        "faulty",
        "CREATE TABLE endless (ts timestamptz NOT NULL) PARTITION BY RANGE (ts);
         CALL spans('endless', date_trunc('day', now()) - interval '5 days',
                    date_trunc('day', now()) + interval '2 days', '1 day', '\"endless_\"YYYYMMDD');
         CREATE TABLE endless_rest (LIKE endless);
         DO $$ BEGIN EXECUTE format(
           'ALTER TABLE endless ATTACH PARTITION endless_rest FOR VALUES FROM (%L) TO (MAXVALUE)',
           date_trunc('day', now()) + interval '2 days'); END $$;
         ALTER TABLE endless_rest REPLICA IDENTITY FULL;",
    )
    .await;
    let (ok, _) =
        gate.psql("faulty", "CREATE UNIQUE INDEX CONCURRENTLY broken_a ON broken (a)").await;
    assert!(!ok, "it fails half-way");
    // unused_after must have passed since the server began to count.
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    let found = compare(&gate, "faulty").await;
    for id in [
        "partition.runway",
        "partition.gap",
        "partition.default_rows",
        "partition.open_ended",
        "partition.retention",
        "partition.siblings",
        "index.invalid",
        "index.unused",
        "index.duplicate",
        "index.redundant",
        "index.bloat",
        "settings.autovacuum",
        "settings.track_io_timing",
    ] {
        assert!(found.contains(&id), "{id}: {found:?}");
    }
    // The command is shown for people, the SQL that it prints for programs.
    let (_, report) = gate.json(&["--database", "faulty", "--only", "partition.runway"]).await;
    let short = verified(&report, Some("faulty"))["partition.runway"].1.clone();
    let command = "pgrunway plan public.short --days 14 --database=faulty".to_owned();
    assert!(short.contains(&("public.short".to_owned(), Some(command.clone()))), "{short:?}");
    assert!(gate::mends(&report).iter().any(|(_, object, _)| object.contains("public.short")));
    let (_, text, _) = gate.verify(&["--database", "faulty", "--only", "partition.runway"]).await;
    assert!(text.contains(&format!("Fix:  {command}\n")), "{text}");
    assert!(!text.contains("CREATE TABLE"), "{text}");
}

#[tokio::test]
async fn verify_report_and_exporter_agree_on_the_demo() {
    let cluster = demo().await;
    let gate = Gate::of_role(&cluster, "", "pgrunway");
    let found = compare(&gate, "trading").await;
    assert!(!found.contains(&"partition.runway"), "{found:?}");
}
