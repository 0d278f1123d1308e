//! `verify`, `report`, the exporter's metrics and its console say the same of the same server: ids, severities,
//! subjects, sentences, remedies.
//!
//! Must not: know a fault; the rules that all of them ask are compared, whatever they find.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::Signal;
use pgrunway::cmd::verify::all;
use pgrunway::findings::{self, Check, Part, Rule, When};
use serde_json::Value;
use tokio::time::Instant;

use super::common::{
    self, http,
    process::{Process, run},
};
use super::gate::{self, Gate};
use super::{EXPECTED, demo};

/// Whether all of them know what a rule looks at. The other parts only `verify` reads, on request or by the file.
fn is_shared(rule: &Rule) -> bool {
    !matches!(rule.part, Part::Corruption | Part::Orphans | Part::Plans | Part::Databases)
}

/// Whether two looks may differ in the figures: times go on, and the exporter counts from when it began to watch.
fn is_moving(rule: &Rule, finding: &Value) -> bool {
    let timed = |figure: &Value| figure["unit"].as_str().unwrap().contains("seconds");
    rule.part == Part::Load || finding["figures"].as_array().unwrap().iter().any(timed)
}

/// The rules whose SQL takes the partition tree of the table, which the exporter does not lock: its page has the command
/// that prints it.
const BY_TREE: [&str; 4] =
    ["index.missing", "index.invalid", "index.partition_coverage", "index.foreign_key"];

/// The items of the console's first page about one rule, each as text.
fn shown(page: &str, id: &str, database: Option<&str>) -> Vec<String> {
    let place = "\u{b7} database <code>";
    let head = format!("<p class=\"by\"><code>{id}</code>");
    let rows = page.split("<li").filter(|row| row.contains(&head));
    let rows = rows.filter(|row| match database {
        Some(name) => row.contains(&format!("{place}{name}</code>")),
        None => !row.contains(place),
    });
    let plain = |row: &str| {
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&amp;", "&")]
            .iter()
            .fold(row.to_owned(), |text, (from, to)| text.replace(from, to))
    };
    rows.map(plain).collect()
}

/// `/metrics` and `/` of an exporter once they hold what `holds` asks for, or at the deadline.
async fn watched(exporter: &Process, holds: impl Fn(&str, &str) -> bool) -> (String, String) {
    let end = Instant::now() + Duration::from_secs(120);
    loop {
        let exposition = exporter.metrics().await;
        let page = http::get(exporter.address, "/").await.text();
        if holds(&exposition, &page) || Instant::now() > end {
            return (exposition, page);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
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

/// Compares them, and gives the ids that were found.
async fn compare(gate: &Gate<'_>, database: &str) -> BTreeSet<&'static str> {
    let requested: Vec<&str> =
        all().filter(|r| is_shared(r) && r.when == When::OnRequest).map(|r| r.id).collect();
    let (_, verify) = gate.json(&["--database", database, "--with", &requested.join(",")]).await;
    let file = format!("--config.file={}", gate.path("pgrunway.yml"));
    let uri = gate.uri();
    let (code, markdown, err) =
        run(&["report", &file, "--over=2s"], &[("DATA_SOURCE_NAME", &uri)]).await;
    assert_eq!(code, 0, "{err}");
    let shared: Vec<&Rule> =
        findings::all().filter(|r| all().any(|one| one.id == r.id) && is_shared(r)).collect();
    assert!(shared.len() >= 41, "{} rules are asked by all", shared.len());
    let place = |rule: &Rule| matches!(rule.check, Check::Database(_)).then_some(database);
    let mut exporter = Process::serve(&uri, &[&file]).await;
    let (exposition, page) = watched(&exporter, |exposition, page| {
        shared.iter().all(|rule| {
            let found = verified(&verify, rule.id, place(rule)).len();
            let exported = exported(exposition, rule.id, place(rule)).unwrap_or(false);
            exported == (found > 0) && shown(page, rule.id, place(rule)).len() == found.min(20)
        })
    })
    .await;
    exporter.stop(Signal::SIGTERM).await;
    for rule in findings::all().filter(|rule| !is_shared(rule)) {
        assert!(exported(&exposition, rule.id, place(rule)).is_none(), "{}", rule.id);
    }
    let mut found = BTreeSet::new();
    for rule in shared {
        let id = rule.id;
        let told = verified(&verify, id, place(rule));
        let section = reported(&markdown, rule, place(rule));
        assert_eq!(section.is_some(), !told.is_empty(), "{id}: {told:?}\n{markdown}");
        // Where there is too little to judge, all are silent.
        let exported = exported(&exposition, id, place(rule));
        assert_eq!(exported.unwrap_or(false), !told.is_empty(), "{id}: {told:?}");
        let rows = shown(&page, id, place(rule));
        assert_eq!(rows.len(), told.len().min(20), "{id}: {told:?}\n{page}");
        let Some(section) = section else { continue };
        found.insert(id);
        let severity = told.iter().map(|f| f["severity"].as_str().unwrap());
        let severity = severity.filter_map(findings::Severity::from_word).max().unwrap();
        let head = format!("`{id}`, {}. ", severity.word());
        assert!(section.contains(&head), "{head}: {section}");
        for finding in told.iter().take(20) {
            let text = |key: &str| finding[key].as_str().unwrap_or_default();
            let object = if text("subject") == "server" { "" } else { text("object") };
            let about = |row: &&String| {
                let here = row.contains(&format!("<code>{object}</code>")) || object.is_empty();
                here || object == database
            };
            let here: Vec<&String> = rows.iter().filter(about).collect();
            assert!(!here.is_empty(), "{id} {object}: {rows:#?}");
            assert!(here.iter().all(|row| row.contains(text("severity"))), "{id}: {here:#?}");
            assert!(
                section.contains(text("object")) || object.is_empty(),
                "{id} {object}: {section}"
            );
            let mut wanted = vec![text("command").to_owned()];
            if !is_moving(rule, finding) {
                wanted.push(text("found").to_owned());
            }
            if finding["command"].is_null() {
                let scripts = finding["fix"].as_array().unwrap().iter();
                wanted
                    .extend(scripts.map(|script| statements(script.as_str().unwrap()).to_owned()));
            }
            for (n, wanted) in wanted.iter().enumerate() {
                let unescaped = wanted.replace('\\', "");
                assert!(section.contains(&unescaped), "{id} {object}: {unescaped}\n\n{section}");
                let command = format!("pgrunway verify --only {id}");
                let elsewhere = n > 0 && BY_TREE.contains(&id) && here[0].contains(&command);
                let there = here.iter().any(|row| row.contains(wanted));
                assert!(there || elsewhere, "{id} {object}: {wanted}\n\n{here:#?}");
            }
        }
    }
    found
}

#[tokio::test]
async fn verify_report_metrics_and_page_agree_on_the_planted_faults() {
    let settings =
        [("autovacuum", "off"), ("track_io_timing", "off"), ("shared_preload_libraries", "")];
    let cluster = common::server_with(&settings, &[]).await;
    let often = "collectors:\n  databaserecommendations: {interval: 1s}";
    let expected = EXPECTED.replace("collectors:", often);
    let gate = Gate::new(&cluster, &format!("host: {{memory: 16GB}}\n{expected}"));
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
        "extension.outdated",
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
    assert!(gate::fixes(&report).iter().any(|(_, object, _)| object.contains("public.short")));
    let (_, text, _) = gate.verify(&["--database", "faulty", "--only", "partition.runway"]).await;
    assert!(text.contains(&format!("Fix:  {command}\n")), "{text}");
    assert!(!text.contains("CREATE TABLE"), "{text}");
}

#[tokio::test]
async fn verify_report_metrics_and_page_agree_on_the_demo() {
    let cluster = demo().await;
    let gate = Gate::of_role(&cluster, "", "pgrunway");
    let found = compare(&gate, "trading").await;
    assert!(!found.contains("partition.runway"), "{found:?}");
}

/// What the server does, as far as it shows in a test: connections near the limit, and statements that are evicted.
#[tokio::test]
async fn verify_report_metrics_and_page_agree_on_what_a_server_does() {
    let settings = [("max_connections", "50"), ("pg_stat_statements.max", "100")];
    let cluster = common::server_with(&settings, &[]).await;
    let gate = Gate::new(&cluster, "collectors:\n  recommendations: {interval: 1s}\n");
    let mut held = Vec::new();
    for _ in 0..40 {
        held.push(common::client(&cluster, "mon", "postgres").await);
    }
    let busy = common::admin(&cluster, "postgres").await;
    let evicts = tokio::spawn(async move {
        for n in 0_u64.. {
            let columns: Vec<String> = (0..=n % 400).map(|c| format!("{c} AS c{c}")).collect();
            busy.batch_execute(&format!("SELECT {}", columns.join(", "))).await.unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    let mut seen = 0.0;
    while seen < 1.0 {
        let dealloc = "SELECT dealloc::float8 FROM pg_stat_statements_info";
        seen = match held[0].query_one(dealloc, &[]).await {
            Ok(row) => row.get(0),
            // Version 13 does not count them.
            Err(_) => 1.0,
        };
    }
    let found = compare(&gate, "postgres").await;
    evicts.abort();
    assert!(found.contains("connections.pool"), "{found:?}");
    let version = "SELECT current_setting('server_version_num')::int4 >= 140000";
    let counts: bool = held[0].query_one(version, &[]).await.unwrap().get(0);
    assert_eq!(found.contains("statements.max"), counts, "{found:?}");
}
