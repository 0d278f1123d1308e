//! The dashboards' sources, `dashboards/source/*.yml`: what a reader of a dashboard should see, and
//! nothing of what Grafana wants besides. [`json`] makes the dashboards out of them.
//!
//! Must not: hold a query or a title of its own.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(dead_code, reason = "each test binary uses a part of it")]

mod json;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What all dashboards share.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Common {
    /// Where the runbooks are, as the rules have it; a name and `.md` follow.
    pub runbooks: String,
    /// Texts that queries refer to as `<name>`.
    pub define: BTreeMap<String, String>,
    pub annotations: Vec<Annotation>,
}

/// A line over all panels at the times that a query returns.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Annotation {
    pub name: String,
    /// Unix times in milliseconds; none for Grafana's own annotations with the tag `tag`.
    pub times: Option<String>,
    pub tag: Option<String>,
    #[serde(default)]
    pub text: String,
    pub color: String,
}

/// A dashboard.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    pub title: String,
    /// The question that it answers.
    pub about: String,
    /// Metric whose `relname` fills the variable `table`; no such variable if left out.
    pub tables: Option<String>,
    /// Metric whose `queryid` fills the variable `queryid`; no such variable if left out.
    pub statements: Option<String>,
    #[serde(default)]
    pub define: BTreeMap<String, String>,
    pub panels: Vec<Panel>,
}

/// What draws a panel.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Row,
    Stat,
    Time,
    Table,
    Heatmap,
    State,
}

/// A panel; they flow from left to right, and wrap at the grid's 24 columns.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panel {
    pub kind: Kind,
    pub title: String,
    #[serde(default)]
    pub about: String,
    /// Columns and rows of the grid.
    pub size: Option<[usize; 2]>,
    #[serde(default)]
    pub unit: String,
    /// What it says when its queries return nothing: what is then the case.
    #[serde(default)]
    pub none: String,
    pub decimals: Option<u8>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// The axis reaches at least this far, so that a flat zero looks like one.
    pub soft: Option<f64>,
    /// Of a stat: its one query.
    pub query: Option<String>,
    /// Of a stat: a query that returns something where the value is bad, by an exported objective.
    pub bad: Option<String>,
    /// Of a stat with `bad`: the words for good and bad.
    pub verdict: Option<[String; 2]>,
    /// Of a stat with `bad`: the colour of bad; red if left out.
    pub bad_color: Option<String>,
    /// Of a time series, heatmap or state timeline: the queries.
    #[serde(default)]
    pub queries: Vec<Query>,
    /// Of a table: the columns, and which one sorts it (`-` before it: descending).
    #[serde(default)]
    pub columns: Vec<Column>,
    #[serde(default)]
    pub sort: String,
    /// Colours by value: `green 0.8 orange 0.95 red`.
    #[serde(default)]
    pub steps: String,
    /// Texts, with their colours, for values: `{0: no/green, ">1e15": no end}`.
    #[serde(default)]
    pub words: BTreeMap<String, String>,
    /// Fixed colours by a series' name.
    #[serde(default)]
    pub colors: BTreeMap<String, String>,
    #[serde(default)]
    pub stack: bool,
    /// Legend as a table with these reducers, not as a list.
    #[serde(default)]
    pub legend: Vec<String>,
    /// Dashboard with the details.
    pub to: Option<String>,
    #[serde(default)]
    pub runbooks: Vec<String>,
}

/// A query of a panel with a legend.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    pub q: String,
    /// The legend; one that begins with `objective`, `required` or `limit` is drawn as a dashed line.
    pub r#as: String,
    /// Whether it is by `instance`, `datname` and `queryid`, and gets a label `text`: the beginning of
    /// the statement's text where the exporter has it, else the ID.
    #[serde(default)]
    pub statement: bool,
    /// The name of another one: what lies between the two is filled.
    pub down_to: Option<String>,
}

/// A column of a table: a label, or the value of a query.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    pub name: String,
    pub label: Option<String>,
    #[serde(default)]
    pub hide: bool,
    pub q: Option<String>,
    #[serde(default)]
    pub unit: String,
    /// In pixels; 0 takes what is left, as most do if it is left out.
    pub width: Option<u32>,
    pub decimals: Option<u8>,
    #[serde(default)]
    pub steps: String,
    #[serde(default)]
    pub words: BTreeMap<String, String>,
    /// Dashboard that a click on a table's name or a statement's identifier leads to, with the row's labels as its variables.
    pub to: Option<String>,
    /// Whether a click on an alert's name leads to its runbook.
    #[serde(default)]
    pub runbook: bool,
}

/// A path below the folder of the dashboards.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards")
}

fn read<T: DeserializeOwned>(name: &str) -> T {
    let path = folder().join("source").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
    serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"))
}

pub fn common() -> Common {
    read("common.yml")
}

/// File names and texts of all dashboards, as their sources say they should be.
pub fn generated() -> Vec<(String, String)> {
    let common = common();
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder().join("source")).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(".yml").filter(|s| *s != "common") else { continue };
        let uid = format!("pgrunway-{stem}");
        let board = json::dashboard(&uid, &read::<Board>(&name), &common);
        all.push((format!("{uid}.json"), serde_json::to_string_pretty(&board).unwrap() + "\n"));
    }
    all.sort();
    assert!(!all.is_empty(), "no dashboard found");
    all
}

/// The dashboards that are shipped: file names and contents.
pub fn shipped() -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "json") {
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let json = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
            all.push((name, json));
        }
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(!all.is_empty(), "no dashboard found");
    all
}

/// Panels with data, in their order on the dashboard.
pub fn panels(dashboard: &Value) -> Vec<&Value> {
    dashboard["panels"].as_array().unwrap().iter().filter(|p| p["type"] != "row").collect()
}

/// One query of a shipped dashboard and where it is.
pub struct Probe {
    /// Dashboard and panel, for messages.
    pub at: String,
    pub expr: String,
    /// The legend's template; empty in tables.
    pub legend: String,
    /// Labels that a table shows as columns.
    pub columns: Vec<String>,
    /// Of a time series: it is evaluated over a range.
    pub range: bool,
}

/// Every query of every shipped dashboard, those of annotations too.
pub fn probes() -> Vec<Probe> {
    let mut all = Vec::new();
    for (name, dashboard) in shipped() {
        let name = name.trim_end_matches(".json");
        for panel in panels(&dashboard) {
            let title = panel["title"].as_str().unwrap();
            let organize = panel["transformations"].as_array().into_iter().flatten();
            let columns: Vec<String> = organize
                .filter(|t| t["id"] == "organize")
                .flat_map(|t| t["options"]["indexByName"].as_object().unwrap().keys().cloned())
                .filter(|label| !label.starts_with("Value"))
                .collect();
            for target in panel["targets"].as_array().unwrap() {
                let table = target["format"] == "table";
                all.push(Probe {
                    at: format!("panel '{title}' of {name}"),
                    expr: target["expr"].as_str().unwrap().to_owned(),
                    legend: target["legendFormat"].as_str().unwrap().replace("__auto", ""),
                    columns: if table { columns.clone() } else { Vec::new() },
                    range: target["range"].as_bool().unwrap(),
                });
            }
        }
        for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
            if let Some(expr) = annotation["expr"].as_str() {
                all.push(Probe {
                    at: format!("annotation {} of {name}", annotation["name"]),
                    expr: expr.to_owned(),
                    legend: annotation["titleFormat"].as_str().unwrap().to_owned(),
                    columns: Vec::new(),
                    range: true,
                });
            }
        }
    }
    all
}

/// The queries of one panel, in their order.
pub fn queries(board: &str, title: &str) -> Vec<String> {
    let at = format!("panel '{title}' of pgrunway-{board}");
    let found: Vec<String> = probes().into_iter().filter(|p| p.at == at).map(|p| p.expr).collect();
    assert!(!found.is_empty(), "no {at}");
    found
}

/// Grafana's variables replaced; those of a dashboard by "all".
pub fn concrete(expression: &str, rate_interval: &str, range: &str) -> String {
    expression
        .replace("$__rate_interval", rate_interval)
        .replace("$__range", range)
        .replace("$__interval", "15s")
        .replace("\"$job\"", "\".*\"")
        .replace("\"$instance\"", "\".*\"")
        .replace("\"$database\"", "\".*\"")
        .replace("\"$table\"", "\".*\"")
        .replace("\"$queryid\"", "\".*\"")
}

/// The names in a legend's template.
pub fn legend_labels(template: &str) -> Vec<String> {
    let parts = template.split("{{").skip(1);
    parts.map(|p| p.split("}}").next().unwrap().trim().to_owned()).collect()
}
