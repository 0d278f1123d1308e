//! Every dashboard is what Grafana imports and a reader needs: valid, titled, explained, with units,
//! its data source a variable, and its expressions ones that Prometheus parses.
//!
//! Must not: need a Grafana or a running Prometheus.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod boards;
mod promql;

use std::collections::{BTreeMap, BTreeSet};

use boards::{Probe, concrete, folder, generated, legend_labels, panels, probes, shipped};
use promql::labels::Catalogue;
use promql::{assert_parse, metrics};

#[test]
fn each_is_what_its_source_says() {
    let generated = generated();
    if std::env::var_os("UPDATE_DASHBOARDS").is_some() {
        for (name, text) in &generated {
            std::fs::write(folder().join(name), text).unwrap();
        }
    }
    for (name, text) in &generated {
        let there = std::fs::read_to_string(folder().join(name)).unwrap_or_default();
        assert!(
            there == *text,
            "{name} is stale: UPDATE_DASHBOARDS=1 cargo test --test dashboards"
        );
    }
    let names = |all: Vec<String>| all.into_iter().collect::<BTreeSet<_>>();
    assert_eq!(
        names(shipped().into_iter().map(|(n, _)| n).collect()),
        names(generated.into_iter().map(|(n, _)| n).collect()),
        "a dashboard without a source"
    );
}

#[test]
fn each_has_its_own_uid_and_unique_panels() {
    let mut uids = BTreeSet::new();
    for (name, dashboard) in shipped() {
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
fn each_panel_tells_what_it_shows_of_whom_and_what_nothing_means() {
    for (name, dashboard) in shipped() {
        for panel in panels(&dashboard) {
            let at = format!("{name}: {}", panel["title"]);
            let defaults = &panel["fieldConfig"]["defaults"];
            let unit = defaults["unit"].as_str();
            assert!(unit.is_some_and(|u| !u.is_empty()), "{at}: no unit");
            let nothing = defaults["noValue"].as_str();
            assert!(nothing.is_some_and(|n| !n.is_empty()), "{at}: would say No data");
            let description = panel["description"].as_str().unwrap_or_default();
            assert!(description.ends_with('.'), "{at}: no description");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{at}");
            let targets = panel["targets"].as_array().unwrap();
            assert!(!targets.is_empty(), "{at}: no query");
            for target in targets {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{at}");
                let expr = target["expr"].as_str().unwrap();
                let short =
                    |part: &str| part.starts_with(char::is_alphabetic) && part.contains('>');
                let left = expr.contains('@') || expr.split('<').skip(1).any(short);
                assert!(!left, "{at}: what the source abbreviates is not written out: {expr}");
                assert!(expr.contains(r#"job=~"$job""#), "{at}: not bound to the job: {expr}");
                assert!(expr.contains(r#"instance=~"$instance""#), "{at}: {expr}");
            }
        }
    }
}

#[test]
fn panels_do_not_overlap_and_stay_on_the_grid() {
    for (name, dashboard) in shipped() {
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
        // No holes either: every line of the grid is full.
        let lines = cells.iter().map(|(_, y)| y + 1).max().unwrap();
        assert_eq!(cells.len() as u64, lines * 24, "{name}: a hole between panels");
    }
}

#[test]
fn the_variables_are_there() {
    for (name, dashboard) in shipped() {
        let list = dashboard["templating"]["list"].as_array().unwrap();
        let names: Vec<&str> = list.iter().map(|v| v["name"].as_str().unwrap()).collect();
        assert_eq!(names[..4], ["datasource", "job", "instance", "database"], "{name}");
        assert_eq!(list[0]["type"], "datasource", "{name}");
        let panels = dashboard["panels"].to_string();
        let used = ["table", "queryid"].into_iter();
        let used: Vec<&str> =
            used.filter(|v| panels.contains(&format!("=~\\\"${v}\\\""))).collect();
        assert_eq!(names[4..], used, "{name}");
    }
}

#[test]
fn links_lead_to_dashboards_and_runbooks_that_exist() {
    let boards: BTreeSet<String> =
        shipped().iter().map(|(_, d)| d["uid"].as_str().unwrap().to_owned()).collect();
    let runbooks = boards::common().runbooks;
    let mut seen = BTreeSet::new();
    for (name, dashboard) in shipped() {
        let text = dashboard.to_string();
        for url in text.split(r#""url":""#).skip(1).map(|rest| rest.split('"').next().unwrap()) {
            if let Some(rest) = url.strip_prefix("/d/") {
                let uid = rest.split('?').next().unwrap();
                assert!(boards.contains(uid), "{name}: no dashboard {uid}");
                assert!(url.contains("${__url_time_range}"), "{name}: {url} forgets the time");
            } else if let Some(page) = url.strip_prefix(&runbooks) {
                let there = page.is_empty()
                    || page.starts_with('$')
                    || promql::repo("docs/runbooks").join(page).is_file();
                assert!(there, "{name}: no runbook {page}");
                seen.insert(page.to_owned());
            } else {
                assert_eq!(url, "", "{name}: leads elsewhere");
            }
        }
    }
    // A panel for each alert, so that who is paged finds the picture from the dashboard too.
    for (alert, _) in promql::rules() {
        assert!(seen.contains(&format!("{alert}.md")), "no panel leads to the runbook of {alert}");
    }
    let alert = std::fs::read_to_string(promql::repo("alerts/rules/health.yml")).unwrap();
    assert!(alert.contains(&runbooks), "the rules link to runbooks elsewhere");
}

#[test]
fn each_expression_parses() {
    let all = probes().iter().map(|p| concrete(&p.expr, "1m", "1h")).collect();
    assert_parse(&all);
}

/// The names that a panel shows: those of its legend, or its columns.
fn shown(probe: &Probe) -> Vec<String> {
    legend_labels(&probe.legend)
}

#[test]
fn each_metric_and_label_is_one_that_we_export() {
    let catalogue = Catalogue::ours();
    for probe in probes() {
        let faults =
            catalogue.faults(&probe.at, &concrete(&probe.expr, "1m", "1h"), &shown(&probe));
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}

#[test]
fn a_metric_that_is_gone_is_missed_by_name() {
    let catalogue = Catalogue::ours();
    let mut users: Vec<(String, String)> = promql::rules();
    users.extend(probes().into_iter().map(|p| (p.at, concrete(&p.expr, "1m", "1h"))));
    let mut used: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (at, expression) in &users {
        for series in metrics(expression) {
            if let Some(family) = catalogue.family(&series) {
                used.entry(family.to_owned()).or_default().insert(at);
            }
        }
    }
    assert!(used.len() > 60, "{}", used.len());
    for (metric, broken) in used {
        let without = catalogue.without(&metric);
        let faults: BTreeSet<String> =
            users.iter().flat_map(|(at, e)| without.faults(at, e, &[])).collect();
        for at in broken {
            let named = faults.iter().any(|f| f.starts_with(at) && f.contains(&metric));
            assert!(named, "without {metric} nothing is said of {at}: {faults:?}");
        }
    }
}

#[test]
fn a_label_that_is_not_there_is_found() {
    let faults = |e: &str, shown: &[&str]| {
        let shown: Vec<String> = shown.iter().map(|s| (*s).to_owned()).collect();
        Catalogue::ours().faults("here", e, &shown).len()
    };
    assert_eq!(
        faults("sum by (datname) (pg_database_size_bytes{datname=~\"a\"})", &["datname"]),
        0
    );
    assert_eq!(faults("sum by (relname) (pg_database_size_bytes)", &[]), 1);
    assert_eq!(faults("pg_database_size_bytes{relname=\"a\"}", &[]), 1);
    assert_eq!(faults("pg_database_size_bytes", &["relname"]), 1);
    assert_eq!(faults("pg_up * on (relname) pg_up", &[]), 1);
    assert_eq!(faults("sum by (le) (rate(pg_query_duration_seconds_bucket[5m]))", &["le"]), 0);
    assert_eq!(faults("sum by (le) (rate(pg_query_duration_seconds_count[5m]))", &[]), 1);
    assert_eq!(faults("label_replace(pg_up, \"new\", \"$1\", \"job\", \"(.*)\")", &["new"]), 0);
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
