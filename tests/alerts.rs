//! The shipped rules and examples are valid, every alert is tested to fire and to stay silent, and
//! leads to a runbook.
//!
//! Must not: pass where promtool or amtool is missing.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod promql;

use std::collections::{BTreeMap, BTreeSet};

use promql::{assert_exported, repo, tool};
use serde::Deserialize;

#[derive(Deserialize)]
struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    alert: String,
    expr: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct TestFile {
    tests: Vec<RuleTest>,
}

#[derive(Deserialize)]
struct RuleTest {
    #[serde(default)]
    alert_rule_test: Vec<AlertTest>,
}

#[derive(Deserialize)]
struct AlertTest {
    alertname: String,
    exp_alerts: Vec<serde_json::Value>,
}

fn rules() -> Vec<Rule> {
    let mut rules = Vec::new();
    for file in files("alerts/rules") {
        let text = std::fs::read_to_string(repo(&file)).unwrap();
        let file: RuleFile =
            serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{file}: {e}"));
        rules.extend(file.groups.into_iter().flat_map(|g| g.rules));
    }
    assert!(!rules.is_empty());
    rules
}

/// The files of a folder, relative to the checkout.
fn files(folder: &str) -> Vec<String> {
    let mut files: Vec<String> = std::fs::read_dir(repo(folder))
        .unwrap()
        .map(|e| format!("{folder}/{}", e.unwrap().file_name().to_string_lossy()))
        .collect();
    files.sort();
    files
}

#[test]
fn promtool_and_amtool_accept_the_rules_and_the_examples() {
    for (name, args) in [
        ("promtool", ["check", "config", "alerts/prometheus.example.yml"].as_slice()),
        ("amtool", &["check-config", "alerts/alertmanager.example.yml"]),
    ] {
        let checked = tool(name, args);
        assert!(checked.is_ok(), "{args:?}: {checked:?}");
    }
    for file in files("alerts/rules") {
        let checked = tool("promtool", &["check", "rules", &file]);
        assert!(checked.is_ok(), "{file}: {checked:?}");
    }
}

#[test]
fn every_rule_test_passes() {
    for file in files("alerts/tests") {
        let tested = tool("promtool", &["test", "rules", &file]);
        assert!(tested.is_ok(), "{file}: {}", tested.unwrap_err());
    }
}

#[test]
fn every_alert_has_a_case_that_fires_and_one_that_must_not() {
    let (mut fires, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for file in files("alerts/tests") {
        let text = std::fs::read_to_string(repo(&file)).unwrap();
        let parsed: TestFile =
            serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{file}: {e}"));
        for case in parsed.tests.into_iter().flat_map(|t| t.alert_rule_test) {
            if case.exp_alerts.is_empty() { &mut silent } else { &mut fires }
                .insert(case.alertname);
        }
    }
    let all: BTreeSet<String> = rules().into_iter().map(|r| r.alert).collect();
    assert_eq!(fires, all);
    assert_eq!(silent, all);
}

#[test]
fn every_alert_says_what_how_bad_and_what_to_do() {
    for rule in rules() {
        let at = &rule.alert;
        assert!(["page", "warning", "info"].contains(&rule.labels["severity"].as_str()), "{at}");
        for key in ["summary", "description"] {
            assert!(rule.annotations[key].len() > 20, "{at}: {key}");
        }
        let page = format!("docs/runbooks/{at}.md");
        assert!(rule.annotations["runbook_url"].ends_with(&format!("/{page}")), "{at}");
        let text = std::fs::read_to_string(repo(&page)).unwrap_or_else(|e| panic!("{page}: {e}"));
        assert!(text.starts_with(&format!("# {at}\n")), "{page}");
        for part in ["## Meaning", "## Urgency", "## Confirm", "## Mend", "## Silence", "## Tune"] {
            assert!(text.contains(&format!("\n{part}\n")), "{page} has no {part}");
        }
    }
}

#[test]
fn every_runbook_belongs_to_an_alert() {
    let all: BTreeSet<String> = rules().into_iter().map(|r| format!("{}.md", r.alert)).collect();
    for entry in std::fs::read_dir(repo("docs/runbooks")).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(all.contains(&name), "{name}");
    }
}

/// Rules that read what some major of PostgreSQL lacks, and do without it there.
const DO_WITHOUT: &[(&str, &str)] =
    &[("PostgresStatementsEvicting", "pg_stat_statements_dealloc_total")];

#[test]
fn no_rule_rests_on_a_metric_that_a_major_lacks() {
    let bound = |help: &str| {
        let version =
            help.split("(PostgreSQL ").nth(1).or(help.split("(before PostgreSQL ").nth(1));
        version.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let bound: BTreeSet<&str> = pgrunway::docgen::catalogue()
        .into_iter()
        .filter(|m| bound(m.help))
        .map(|m| m.name)
        .collect();
    assert!(bound.len() > 20, "{bound:?}");
    let mut found = Vec::new();
    for rule in rules() {
        for metric in promql::metrics(&rule.expr) {
            if let Some(metric) = bound.get(metric.as_str()) {
                found.push((rule.alert.clone(), *metric));
            }
        }
    }
    let allowed: Vec<_> = DO_WITHOUT.iter().map(|(a, m)| ((*a).to_owned(), *m)).collect();
    assert_eq!(found, allowed);
}

#[test]
fn every_metric_is_one_that_we_export() {
    for rule in rules() {
        assert_exported(&rule.alert, &rule.expr, &["up"]);
    }
}
