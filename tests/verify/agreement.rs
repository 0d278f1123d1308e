//! `verify`, `report` and the exporter say the same of the same server: ids, severities, subjects, remedies.
//!
//! Must not: know a fault; the rules that all three ask are compared, whatever they find.

use std::collections::BTreeSet;

use pgrunway::cmd::verify::all;
use pgrunway::findings::{self, Check, Part, Rule, When};
use serde_json::Value;

use super::common::{self, process::run};
use super::gate::{self, Gate};
use super::{EXPECTED, demo};

/// Whether all three know what a rule looks at. The other parts only `verify` reads, on request or by the file; and
/// the exporter watches for an hour what the others take from the server's statistics.
fn is_shared(rule: &Rule) -> bool {
    !matches!(
        rule.part,
        Part::Corruption | Part::Orphans | Part::Plans | Part::Databases | Part::Load
    )
}

/// Findings of one rule, as `verify` prints them for programs.
fn verified<'a>(report: &'a Value, id: &str, database: Option<&str>) -> Vec<&'a Value> {
    let checks = report["checks"].as_array().unwrap().iter();
    checks
        .filter(|check| check["id"] == id && check["database"].as_str() == database)
        .flat_map(|check| check["findings"].as_array().unwrap())
        .collect()
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

/// The section of a report about one rule, without the escapes of its Markdown.
fn reported(markdown: &str, rule: &Rule, database: Option<&str>) -> Option<String> {
    let place = database.map(|name| format!(" ({name})")).unwrap_or_default();
    let heading = format!("### {}{place}\n", rule.title).replace('_', "\\_");
    let start = markdown.find(&heading)? + heading.len();
    let section = &markdown[start..];
    let section = &section[..section.find("\n#").unwrap_or(section.len())];
    assert!(section.contains(&format!("`{}`, ", rule.id)), "{section}");
    Some(section.replace('\\', ""))
}

/// The statements of a script, without what stands at its head.
fn statements(script: &str) -> &str {
    script.split_once("$do$;\n").map_or(script, |(_, body)| body).trim()
}

/// Compares the three, and gives the ids that were found.
async fn compare(gate: &Gate<'_>, database: &str) -> BTreeSet<&'static str> {
    let requested: Vec<&str> =
        all().filter(|r| is_shared(r) && r.when == When::OnRequest).map(|r| r.id).collect();
    let (_, verify) = gate.json(&["--database", database, "--with", &requested.join(",")]).await;
    let file = format!("--config.file={}", gate.path("pgrunway.yml"));
    let uri = gate.uri();
    let env = [("DATA_SOURCE_NAME", uri.as_str())];
    let (code, exposition, err) = run(&["metrics", &file], &env).await;
    assert_eq!(code, 0, "{err}");
    let (code, markdown, err) = run(&["report", &file, "--over=1s"], &env).await;
    assert_eq!(code, 0, "{err}");
    let mut compared = 0;
    let mut found = BTreeSet::new();
    for rule in findings::all().filter(|rule| all().any(|r| r.id == rule.id)) {
        let id = rule.id;
        let place = matches!(rule.check, Check::Database(_)).then_some(database);
        let told = verified(&verify, id, place);
        let exported = exported(&exposition, id, place);
        if !is_shared(rule) {
            assert!(rule.part == Part::Load || exported.is_none(), "{id}");
            continue;
        }
        compared += 1;
        let section = reported(&markdown, rule, place);
        assert_eq!(section.is_some(), !told.is_empty(), "{id}: {told:?}\n{markdown}");
        // Where there is too little to judge, all three are silent.
        assert_eq!(exported.unwrap_or(false), !told.is_empty(), "{id}: {told:?}");
        let Some(section) = section else { continue };
        found.insert(id);
        let severity = told.iter().map(|f| f["severity"].as_str().unwrap());
        let severity = severity.filter_map(findings::Severity::from_word).max().unwrap();
        let head = format!("`{id}`, {}. ", severity.word());
        assert!(section.contains(&head), "{head}: {section}");
        for finding in told.iter().take(20) {
            let text = |key: &str| finding[key].as_str().unwrap_or_default();
            assert!(section.contains(text("object")), "{id} {}: {section}", text("object"));
            assert!(section.contains(text("command")), "{id} {}: {section}", text("command"));
            // Times go on between two looks.
            let timed = |figure: &Value| figure["unit"].as_str().unwrap().contains("seconds");
            if !finding["figures"].as_array().unwrap().iter().any(timed) {
                assert!(section.contains(text("found")), "{id} {}: {section}", text("found"));
            }
            if finding["command"].is_null() {
                for script in finding["mend"].as_array().unwrap() {
                    let statements = statements(script.as_str().unwrap()).replace('\\', "");
                    assert!(section.contains(&statements), "{id}: {statements}\n\n{section}");
                }
            }
        }
    }
    assert!(compared >= 35, "{compared} rules are asked by all three");
    found
}

#[tokio::test]
async fn verify_report_and_exporter_agree_on_the_planted_faults() {
    let settings =
        [("autovacuum", "off"), ("track_io_timing", "off"), ("shared_preload_libraries", "")];
    let cluster = common::server_with(&settings, &[]).await;
    let gate = Gate::new(&cluster, &format!("host: {{memory: 16GB}}\n{EXPECTED}"));
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
        "index.missing",
        "index.partition_coverage",
        "index.foreign_key",
        "constraint.not_valid",
        "statistics.age",
        "statistics.load",
        "vacuum.age",
        "vacuum.wraparound",
        "settings.autovacuum",
        "settings.idle_in_transaction",
        "settings.log_min_duration_statement",
        "settings.pg_stat_statements",
        "settings.shared_buffers",
        "settings.track_io_timing",
    ] {
        assert!(found.contains(id), "{id}: {found:?}");
    }
    // The command is shown for people, the SQL that it prints for programs.
    let (_, report) = gate.json(&["--database", "faulty", "--only", "partition.runway"]).await;
    let command = "pgrunway plan public.short --days 14 --database=faulty".to_owned();
    let short = verified(&report, "partition.runway", Some("faulty"));
    let short = short.iter().find(|f| f["object"] == "public.short").unwrap();
    assert_eq!(short["command"], command.as_str(), "{short:#}");
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
    assert!(!found.contains("partition.runway"), "{found:?}");
}
