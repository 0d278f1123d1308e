//! All of it as one JSON object.
//!
//! Must not: rename or drop a key; programs read them.

use serde_json::{Value, json};

use super::{Examined, an_hour, health, object, script};
use crate::findings::{Figure, Reported, Severity};
use crate::remedy::Remedy;
use crate::snapshot::Outcome;

pub(super) fn render(all: &[Examined]) -> anyhow::Result<String> {
    let targets: Vec<Value> = all.iter().map(target).collect();
    let count = |severity: Severity| {
        let found = all.iter().flat_map(|e| &e.found);
        found.filter(|f| f.finding.severity == severity).count()
    };
    let report = json!({
        "pgrunway": env!("CARGO_PKG_VERSION"),
        "verdict": health(all).word(),
        "counts": {
            "critical": count(Severity::Critical),
            "warnings": count(Severity::Warning),
            "infos": count(Severity::Info),
        },
        "targets": targets,
        "script": script::render(all),
    });
    let mut text = serde_json::to_string_pretty(&report)?;
    text.push('\n');
    Ok(text)
}

fn target(examined: &Examined) -> Value {
    let stages: Vec<Value> = examined
        .stages
        .iter()
        .map(|stage| {
            json!({
                "stage": stage.name,
                "state": stage.state.word(),
                "says": stage.says,
                "seconds": stage.took.map(|took| took.as_secs_f64()),
            })
        })
        .collect();
    let databases: Vec<Value> = examined
        .databases
        .iter()
        .map(|(datname, why)| json!({ "database": datname, "entered": why.is_none(), "why": why }))
        .collect();
    json!({
        "name": examined.name,
        "target": examined.target,
        "verdict": examined.health().word(),
        "stages": stages,
        "databases": databases,
        "collectors": examined.collectors.iter().map(collector).collect::<Vec<_>>(),
        "findings": examined.found.iter().map(finding).collect::<Vec<_>>(),
    })
}

fn collector(outcome: &Outcome) -> Value {
    let missing: Vec<&str> = outcome.missing.iter().map(|one| &*one.name).collect();
    json!({
        "collector": &*outcome.collector,
        "database": outcome.datname.as_deref(),
        "error": outcome.error.as_deref(),
        "seconds": outcome.duration.as_secs_f64(),
        "series": outcome.series,
        "interval_seconds": outcome.interval.as_secs_f64(),
        "seconds_an_hour": an_hour(outcome),
        "missing": missing,
    })
}

fn finding(found: &Reported) -> Value {
    let finding = &found.finding;
    let (kind, fix, run_as, database) = match &finding.remedy {
        Some(Remedy::Sql(script)) => {
            ("sql", Some(script.to_string()), Some(&script.head.role), Some(&script.head.database))
        }
        Some(Remedy::Shell(command)) => ("shell", Some(command.to_string()), None, None),
        Some(other @ Remedy::Prose(_)) => ("by hand", Some(other.text()), None, None),
        None => ("none", None, None, None),
    };
    let figures: Vec<Value> = finding.figures.iter().map(figure).collect();
    json!({
        "id": found.rule.id,
        "severity": finding.severity.word(),
        "subject": finding.subject.kind(),
        "object": object(found),
        "found": finding.evidence,
        "figures": figures,
        "title": found.rule.title,
        "why": found.rule.why,
        "advice": finding.advice,
        "fix": { "kind": kind, "text": fix, "run_as": run_as, "database": database },
    })
}

/// What is infinite is null.
fn figure(figure: &Figure) -> Value {
    json!({ "name": figure.name, "value": figure.value, "unit": figure.unit.word() })
}
