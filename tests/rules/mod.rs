//! The shipped alert rules as the tests read them, and what is generated from them: the manifest for
//! Prometheus' operator and the table of all alerts.
//!
//! Must not: know an alert that is not in `alerts/rules`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod standby;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct RuleFile {
    groups: Vec<Group>,
}

/// What is evaluated together.
#[derive(Deserialize)]
pub struct Group {
    pub name: String,
    pub rules: Vec<Rule>,
}

/// An alert.
#[derive(Deserialize)]
pub struct Rule {
    pub alert: String,
    pub expr: String,
    /// As it is written; how long the expression must hold.
    #[serde(default, rename = "for")]
    pub wait: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// The files of a folder, relative to the checkout.
pub fn files(folder: &str) -> Vec<String> {
    let mut files: Vec<String> = std::fs::read_dir(repo(folder))
        .unwrap()
        .map(|e| format!("{folder}/{}", e.unwrap().file_name().to_string_lossy()))
        .collect();
    files.sort();
    files
}

fn repo(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Reads YAML of the checkout.
pub fn yaml<T: serde::de::DeserializeOwned>(file: &str) -> T {
    let text = std::fs::read_to_string(repo(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
    serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// The groups of all files, in the order of the files' names.
pub fn groups() -> Vec<Group> {
    let all = files("alerts/rules").iter().flat_map(|f| yaml::<RuleFile>(f).groups).collect();
    let all: Vec<Group> = all;
    assert!(!all.is_empty());
    all
}

/// The file that an alert is in, as a whole path.
pub fn file_of(alert: &str) -> String {
    let has = |file: &String| {
        let groups = yaml::<RuleFile>(file).groups;
        groups.iter().any(|group| group.rules.iter().any(|rule| rule.alert == alert))
    };
    let file = files("alerts/rules").into_iter().find(has).unwrap_or_else(|| panic!("{alert}"));
    repo(&file).to_str().unwrap().to_owned()
}

/// The alerts of all groups.
pub fn rules() -> Vec<Rule> {
    groups().into_iter().flat_map(|g| g.rules).collect()
}

const HEAD: &str = "\
# Generated from the files in rules/, comments included: UPDATE_DOCS=1 cargo test --test docs
# rewrites it. Prometheus' operator takes it only with the labels that its Prometheus selects by
# (spec.ruleSelector): add yours to metadata.labels.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: pgrunway
  labels:
    app.kubernetes.io/name: pgrunway
spec:
  groups:
";

/// `alerts/prometheusrule.yml`: the files one after the other, two columns further in.
pub fn manifest() -> String {
    let mut out = HEAD.to_owned();
    for file in files("alerts/rules") {
        let text = std::fs::read_to_string(repo(&file)).unwrap();
        let (before, groups) = text.split_once("groups:\n").unwrap_or_else(|| panic!("{file}"));
        assert!(before.lines().all(|l| l.is_empty() || l.starts_with('#')), "{file}");
        for line in before.lines().chain(groups.lines()) {
            let indent = match line {
                "" => "",
                comment if comment.starts_with('#') => "    ",
                _ => "  ",
            };
            writeln!(out, "{indent}{line}").unwrap();
        }
    }
    out
}

/// What a template says of any alert: labels by their names, conditions taken for true.
fn in_general(template: &str) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, after) = after.split_once("}}").unwrap_or_else(|| panic!("{template}"));
        let before = if action.starts_with('-') { before.trim_end() } else { before };
        out.push_str(before);
        let action = action.trim_matches(['-', ' ']);
        if let Some(label) = action.strip_prefix("$labels.") {
            write!(out, "*{label}*").unwrap();
        } else {
            let silent = action.starts_with("if ") || action == "end";
            assert!(silent, "a summary needs no {action}: {template}");
        }
        rest = after;
    }
    out + rest.trim_end()
}

/// `docs/alerts.md`; `collectors` tells which collectors an expression rests on.
pub fn table(collectors: impl Fn(&str) -> BTreeSet<String>) -> String {
    let mut out = String::from(
        "# Alerts\n\nGenerated from [the rules](../alerts/rules): `UPDATE_DOCS=1 cargo test --test docs` \
         rewrites it.\n\nEach is notified once its expression held for the time in the column *for*: a \
         `page` goes to the pager, a `warning` to the team's channel, an `info` to where notes go. Without the collector that it \
         rests on, an alert is silent. What a primary alone can do something about never comes from a *standby*, as long \
         as the collector `replication` says that it is one: watch the primary too. How to install them is in [alerts/](../alerts/README.md).\n",
    );
    for group in groups() {
        let topic = group.name.strip_prefix("pgrunway-").unwrap_or(&group.name);
        write!(
            out,
            "\n## {}{}\n\n| alert and runbook | severity | for | from a standby | what it says | rests on |\n\
             |---|---|---|---|---|---|\n",
            topic[..1].to_uppercase(),
            &topic[1..]
        )
        .unwrap();
        for rule in &group.rules {
            let names: Vec<_> = collectors(&rule.expr).iter().map(|c| format!("`{c}`")).collect();
            let cells = [
                format!("[{0}](runbooks/{0}.md)", rule.alert),
                rule.labels["severity"].clone(),
                if rule.wait.is_empty() { "-".to_owned() } else { rule.wait.clone() },
                match standby::from_standby(&rule.alert) {
                    standby::FromStandby::Comes => "yes",
                    standby::FromStandby::Never => "never",
                    standby::FromStandby::Elsewhere => "-",
                }
                .to_owned(),
                in_general(&rule.annotations["summary"]).replace('|', "\\|"),
                names.join(", "),
            ];
            writeln!(out, "| {} |", cells.join(" | ")).unwrap();
        }
    }
    out
}

/// The whole of a YAML file as JSON.
pub fn json(file: &str) -> Value {
    yaml(file)
}
