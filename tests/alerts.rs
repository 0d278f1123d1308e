//! The shipped rules and examples are valid, every alert is tested to fire and to stay silent, and
//! leads to a runbook.
//!
//! Must not: pass where promtool or amtool is missing.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod promql;
mod rules;

use std::collections::BTreeSet;

use promql::{assert_exported, repo, tool};
use rules::{files, json, rules, standby, yaml};
use serde::Deserialize;
use serde_json::Value;

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

/// `tests/docs.rs` holds its text to the rules; here it is what the operator takes.
#[test]
fn the_manifest_holds_all_groups_and_nothing_else() {
    let manifest = json("alerts/prometheusrule.yml");
    assert_eq!(manifest["apiVersion"], "monitoring.coreos.com/v1");
    assert_eq!(manifest["kind"], "PrometheusRule");
    assert_eq!(manifest["metadata"]["name"], "pgrunway");
    let keys = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&manifest), ["apiVersion", "kind", "metadata", "spec"]);
    assert_eq!(keys(&manifest["spec"]), ["groups"]);
    let groups: Vec<Value> = files("alerts/rules")
        .iter()
        .flat_map(|f| json(f)["groups"].as_array().unwrap().clone())
        .collect();
    let same = manifest["spec"]["groups"] == Value::from(groups.clone());
    assert!(same, "the manifest is stale: UPDATE_DOCS=1 cargo test --test docs");
    // The operator refuses two groups of one name.
    let names: BTreeSet<&str> = groups.iter().map(|g| g["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), groups.len());

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("groups.yml");
    std::fs::write(&file, manifest["spec"].to_string()).unwrap();
    let checked = tool("promtool", &["check", "rules", file.to_str().unwrap()]);
    let found = format!("{} rules found", rules().len());
    assert!(checked.as_ref().is_ok_and(|said| said.contains(&found)), "{checked:?}");
}

#[test]
fn alertmanager_names_only_alerts_that_there_are() {
    let all: BTreeSet<String> = rules().into_iter().map(|r| r.alert).collect();
    let text = std::fs::read_to_string(repo("alerts/alertmanager.example.yml")).unwrap();
    let matchers = text.lines().filter(|l| l.contains("alertname ") && !l.contains("group_by"));
    let quoted = matchers.flat_map(|l| l.split('"').skip(1).step_by(2)).collect::<Vec<_>>();
    let named: BTreeSet<&str> = quoted.iter().flat_map(|q| q.split('|')).collect();
    assert!(named.len() > 10, "{named:?}");
    for name in named {
        assert!(all.contains(name), "{name}");
    }
}

#[test]
fn every_alert_is_routed_by_its_severity() {
    for rule in rules() {
        let severity = &rule.labels["severity"];
        let receiver = match severity.as_str() {
            "page" => "pager",
            "warning" => "team",
            _ => "notes",
        };
        let args = [
            "config",
            "routes",
            "test",
            "--config.file=alerts/alertmanager.example.yml",
            &format!("--verify.receivers={receiver}"),
            &format!("alertname={}", rule.alert),
            &format!("severity={severity}"),
        ];
        let routed = tool("amtool", &args);
        assert!(routed.is_ok(), "{}: {routed:?}", rule.alert);
    }
}

#[test]
fn every_rule_test_passes() {
    let files = files("alerts/tests");
    // promtool works through them one after the other, on one core.
    std::thread::scope(|scope| {
        let test = |file| scope.spawn(move || tool("promtool", &["test", "rules", file]));
        let tests: Vec<_> = files.iter().map(|file| (file, test(file))).collect();
        for (file, tested) in tests {
            let tested = tested.join().unwrap();
            assert!(tested.is_ok(), "{file}: {}", tested.unwrap_err());
        }
    });
}

/// Each case that fires, once more where the server is a standby.
#[test]
fn a_standby_is_never_paged_for_what_only_a_primary_can_do() {
    let own: BTreeSet<&str> = pgrunway::docgen::catalogue()
        .into_iter()
        .flat_map(|m| m.labels.iter().copied())
        .chain(["le", "kind"])
        .filter(|label| *label != "server")
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let mut asked = BTreeSet::new();
    let mut written = Vec::new();
    for file in files("alerts/tests") {
        let (test, alerts) = standby::on_a_standby(&json(&file), &own);
        asked.extend(alerts);
        let path = dir.path().join(file.rsplit('/').next().unwrap());
        std::fs::write(&path, test.to_string()).unwrap();
        written.push(path.to_str().unwrap().to_owned());
    }
    let all: BTreeSet<String> = rules().into_iter().map(|r| r.alert).collect();
    let listed: BTreeSet<String> = standby::ALERTS.iter().map(|(a, _)| (*a).to_owned()).collect();
    assert_eq!(listed, all, "tests/rules/standby.rs lists every alert");
    asked.insert("PostgresSplitBrain".to_owned());
    assert_eq!(asked, all);
    assert!(
        standby::ALERTS.iter().filter(|(_, on)| *on == standby::FromStandby::Never).count() > 20
    );
    std::thread::scope(|scope| {
        let test = |file| scope.spawn(move || tool("promtool", &["test", "rules", file]));
        let tests: Vec<_> = written.iter().map(|file| (file, test(file))).collect();
        for (file, tested) in tests {
            let tested = tested.join().unwrap();
            assert!(tested.is_ok(), "{file}: {}", tested.unwrap_err());
        }
    });
}

#[test]
fn every_alert_has_a_case_that_fires_and_one_that_must_not() {
    let (mut fires, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for file in files("alerts/tests") {
        for case in yaml::<TestFile>(&file).tests.into_iter().flat_map(|t| t.alert_rule_test) {
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
        for part in ["## Meaning", "## Urgency", "## Confirm", "## Fix", "## Silence", "## Tune"] {
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
const DO_WITHOUT: &[(&str, &str)] = &[
    ("PostgresStatementsEvicting", "pg_stat_statements_dealloc_total"),
    ("PostgresSubscriptionFailing", "pg_stat_subscription_errors_total"),
];

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
