//! Every dashboard is what Grafana imports and a reader needs: valid, titled, explained, with units,
//! its data source a variable, and its expressions ones that Prometheus parses.
//!
//! Must not: need a Grafana or a running Prometheus.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod promql;

use std::collections::BTreeSet;

use promql::{assert_exported, assert_parse, metrics, repo};
use serde_json::Value;

fn dashboards() -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(repo("dashboards")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "json") {
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let json = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
            all.push((name, json));
        }
    }
    assert!(!all.is_empty(), "no dashboard found");
    all
}

/// Panels with data, those inside collapsed rows too.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let mut out = Vec::new();
    let mut todo: Vec<&Value> = dashboard["panels"].as_array().unwrap().iter().collect();
    while let Some(panel) = todo.pop() {
        todo.extend(panel["panels"].as_array().into_iter().flatten());
        if panel["type"] != "row" {
            out.push(panel);
        }
    }
    out
}

fn expressions(dashboard: &Value) -> BTreeSet<String> {
    panels(dashboard)
        .iter()
        .flat_map(|p| p["targets"].as_array().unwrap())
        .map(|t| t["expr"].as_str().unwrap().to_owned())
        .collect()
}

fn concrete(expression: &str) -> String {
    expression
        .replace("$__rate_interval", "1m")
        .replace("$__range", "1h")
        .replace("$__interval", "15s")
}

#[test]
fn each_has_its_own_uid_and_unique_panels() {
    let mut uids = BTreeSet::new();
    for (name, dashboard) in dashboards() {
        let uid = dashboard["uid"].as_str().unwrap();
        assert!(!uid.is_empty() && uid.len() <= 40, "{name}: Grafana takes at most 40 characters");
        assert!(uids.insert(uid.to_owned()), "{name}: uid {uid} twice");
        assert!(dashboard["id"].is_null(), "{name}: an id belongs to one Grafana only");
        let all = dashboard["panels"].as_array().unwrap();
        let ids: BTreeSet<u64> = all.iter().map(|p| p["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), all.len(), "{name}: two panels share an id");
        let titles: BTreeSet<&str> = all.iter().map(|p| p["title"].as_str().unwrap()).collect();
        assert_eq!(titles.len(), all.len(), "{name}: two panels share a title");
    }
}

#[test]
fn each_panel_has_a_unit_a_description_and_the_variable_as_its_source() {
    for (name, dashboard) in dashboards() {
        for panel in panels(&dashboard) {
            let at = format!("{name}: {}", panel["title"]);
            let unit = panel["fieldConfig"]["defaults"]["unit"].as_str();
            assert!(unit.is_some_and(|u| !u.is_empty()), "{at}: no unit");
            let description = panel["description"].as_str().unwrap_or_default();
            assert!(description.ends_with('.'), "{at}: no description");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{at}");
            let targets = panel["targets"].as_array().unwrap();
            assert!(!targets.is_empty(), "{at}: no query");
            for target in targets {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{at}");
                let expr = target["expr"].as_str().unwrap();
                assert!(expr.contains(r#"job=~"$job""#), "{at}: not bound to the job: {expr}");
                assert!(expr.contains(r#"instance=~"$instance""#), "{at}: {expr}");
            }
        }
    }
}

#[test]
fn panels_do_not_overlap_and_stay_on_the_grid() {
    for (name, dashboard) in dashboards() {
        let mut cells = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24, "{name}: {}", panel["title"]);
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(cells.insert((x, y)), "{name}: {} overlaps", panel["title"]);
                }
            }
        }
    }
}

#[test]
fn the_variables_are_there() {
    for (name, dashboard) in dashboards() {
        let list = dashboard["templating"]["list"].as_array().unwrap();
        let names: Vec<&str> = list.iter().map(|v| v["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["datasource", "job", "instance", "datname"], "{name}");
        assert_eq!(list[0]["type"], "datasource", "{name}");
    }
}

#[test]
fn each_expression_parses() {
    let all = dashboards().iter().flat_map(|(_, d)| expressions(d)).map(|e| concrete(&e)).collect();
    assert_parse(&all);
}

#[test]
fn each_metric_is_one_that_we_export() {
    for (name, dashboard) in dashboards() {
        for expression in expressions(&dashboard) {
            assert_exported(&name, &concrete(&expression), &["ALERTS"]);
        }
    }
}

#[test]
fn the_metrics_of_an_expression_are_found() {
    let found = |e: &str| metrics(e).into_iter().collect::<Vec<_>>();
    assert_eq!(
        found(
            r#"sum without (datid) (rate(a_total{b="}c", d=~'e'}[5m])) > 10e6
               and ignoring (window) x > ignoring (y) group_left (z) objective offset 5m"#
        ),
        ["a_total", "objective", "x"]
    );
    assert_eq!(found("sum by (state) (n) or vector(0) == -Inf"), ["n"]);
    assert_eq!(found("last_over_time(t[1h]) - time() < bool q"), ["q", "t"]);
}
