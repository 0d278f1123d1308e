//! Finds the metrics that a PromQL expression reads, so that rules and dashboards can be held to
//! the catalogue, and asks promtool whether expressions parse.
//!
//! Must not: judge whether an expression is right; the rule tests do.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod labels;
#[allow(clippy::duplicate_mod, reason = "some test binaries have `common` too")]
#[path = "../common/tools.rs"]
mod tools;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use labels::Catalogue;

/// A path below the checkout.
pub fn repo(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs a tool that `scripts/deps test` installs; its output, stdout before stderr, on success.
pub fn tool(name: &str, args: &[&str]) -> Result<String, String> {
    let out: Output = Command::new(tools::program(name))
        .args(args)
        .current_dir(repo(""))
        .output()
        .unwrap_or_else(|e| panic!("cannot run {name}: {e}; `scripts/deps test` installs it"));
    let text =
        [out.stdout.as_slice(), &out.stderr].map(String::from_utf8_lossy).concat().to_string();
    if out.status.success() { Ok(text) } else { Err(text) }
}

/// Fails unless promtool parses every expression (Grafana's variables already replaced).
pub fn assert_parse(expressions: &BTreeSet<String>) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("expressions.yml");
    let rules: Vec<serde_json::Value> = expressions
        .iter()
        .enumerate()
        .map(|(i, e)| serde_json::json!({"record": format!("parsed:e{i}"), "expr": e}))
        .collect();
    let doc = serde_json::json!({"groups": [{"name": "parse", "rules": rules}]});
    // JSON is YAML.
    std::fs::write(&file, doc.to_string()).unwrap();
    let checked = tool("promtool", &["check", "rules", file.to_str().unwrap()]);
    assert!(checked.is_ok(), "{checked:?}");
}

/// Names of metrics in an expression: identifiers that are no function, keyword or label.
pub fn metrics(expression: &str) -> BTreeSet<String> {
    const KEYWORDS: &[&str] =
        &["and", "or", "unless", "bool", "offset", "start", "end", "inf", "nan", "atan2"];
    const LABEL_LISTS: &[&str] = &["by", "without", "on", "ignoring", "group_left", "group_right"];
    let text: Vec<char> = expression.chars().collect();
    let mut found = BTreeSet::new();
    let mut i = 0;
    let close = |from: usize, to: char| {
        let mut quote = None;
        (from..text.len())
            .find(|&j| match (quote, text[j]) {
                (Some(q), c) => {
                    if c == q && text[j - 1] != '\\' {
                        quote = None;
                    }
                    false
                }
                (None, c @ ('"' | '\'')) => {
                    quote = Some(c);
                    false
                }
                (None, c) => c == to,
            })
            .map_or(text.len(), |j| j + 1)
    };
    while i < text.len() {
        match text[i] {
            '{' => i = close(i + 1, '}'),
            '[' => i = close(i + 1, ']'),
            c @ ('"' | '\'') => {
                i = (i + 1..text.len())
                    .find(|&j| text[j] == c && text[j - 1] != '\\')
                    .map_or(text.len(), |j| j + 1);
            }
            c if c.is_ascii_digit() => {
                // A number with its exponent, or a duration.
                while i < text.len() && (text[i].is_ascii_alphanumeric() || text[i] == '.') {
                    i += 1;
                }
            }
            c if c.is_ascii_alphabetic() || c == '_' || c == ':' => {
                let start = i;
                while i < text.len()
                    && (text[i].is_ascii_alphanumeric() || text[i] == '_' || text[i] == ':')
                {
                    i += 1;
                }
                let word: String = text[start..i].iter().collect();
                let next = (i..text.len()).find(|&j| !text[j].is_whitespace());
                let called = next.is_some_and(|j| text[j] == '(');
                if LABEL_LISTS.contains(&word.as_str()) {
                    if called {
                        i = close(i, ')');
                    }
                    continue;
                }
                // `sum by (x) (...)`, `sum without (x) (...)`: the aggregation is no metric either.
                let aggregates = next.is_some_and(|j| {
                    let rest: String = text[j..].iter().take(8).collect();
                    rest.starts_with("by ") || rest.starts_with("without")
                });
                if !called && !aggregates && !KEYWORDS.contains(&word.to_lowercase().as_str()) {
                    found.insert(word);
                }
            }
            _ => i += 1,
        }
    }
    found
}

/// Fails unless we export every metric of an expression with the labels that it names; `others` are
/// Prometheus' own besides [`labels::PROMETHEUS`].
pub fn assert_exported(at: &str, expression: &str, others: &[&str]) {
    let faults = Catalogue::ours().with(others).faults(at, expression, &[]);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Name and expression of every shipped alert.
pub fn rules() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(repo("alerts/rules")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let file: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        for group in file["groups"].as_array().unwrap() {
            for rule in group["rules"].as_array().unwrap() {
                let text = |key: &str| rule[key].as_str().unwrap().to_owned();
                all.push((text("alert"), text("expr")));
            }
        }
    }
    assert!(!all.is_empty());
    all.sort();
    all
}

/// The collectors that an expression rests on, by name.
pub fn collectors(expression: &str) -> BTreeSet<String> {
    let known = Catalogue::ours();
    let series = metrics(expression);
    let used: BTreeSet<&str> = series.iter().filter_map(|s| known.family(s)).collect();
    let all = pgrunway::collectors::ALL.iter();
    let rests = all.filter(|c| c.metrics().iter().any(|m| used.contains(m.name)));
    rests.map(|c| c.name().to_owned()).collect()
}
