//! The report as one JSON object.
//!
//! Must not: rename or drop a key; programs read them.

use serde_json::{Value, json};

use super::super::VerifyRun;
use super::super::check::{Severity, Status};
use super::verdict;
use crate::findings::Figure;

pub(super) fn render(run: &VerifyRun) -> anyhow::Result<String> {
    let checks: Vec<Value> = run
        .outcomes
        .iter()
        .map(|o| {
            let findings: Vec<Value> = o
                .found
                .findings
                .iter()
                .map(|f| {
                    let figures: Vec<Value> = f.figures.iter().map(figure).collect();
                    json!({
                        "severity": f.severity.word(),
                        "subject": f.subject,
                        "object": f.object,
                        "found": f.found,
                        "figures": figures,
                        "fix": f.fix,
                        // Its former name, for one release.
                        "mend": f.fix,
                        "command": f.command,
                        "caution": f.caution,
                        "deletes": f.deletes,
                    })
                })
                .collect();
            json!({
                "id": o.rule.id,
                "database": o.database,
                "severity": o.rule.severity.word(),
                "status": o.status(run.fail_on).word(),
                "summary": o.found.summary,
                "title": o.rule.title,
                "why": o.rule.why,
                "source": o.rule.source,
                "unchecked": o.found.unchecked,
                "skipped": o.found.skipped,
                "seconds": o.took.as_secs_f64(),
                "findings": findings,
            })
        })
        .collect();
    let report = json!({
        "pgrunway": env!("CARGO_PKG_VERSION"),
        "verdict": verdict(run),
        "fail_on": run.fail_on.word(),
        "server": {
            "version": run.server.version,
            "version_num": run.server.version_num,
            "target": run.target,
            "databases": run.databases,
        },
        "started": run.started,
        "seconds": run.took.as_secs_f64(),
        "counts": {
            "critical": run.findings(Severity::Critical),
            // What "critical" was called before: for one release more.
            "errors": run.findings(Severity::Critical),
            "warnings": run.findings(Severity::Warning),
            "infos": run.findings(Severity::Info),
            "failed": run.count(Status::Failed),
            "unchecked": run.count(Status::Unchecked),
            "remarked": run.count(Status::Remarked),
            "passed": run.count(Status::Passed),
            "skipped": run.count(Status::Skipped),
        },
        "checks": checks,
    });
    let mut text = serde_json::to_string_pretty(&report)?;
    text.push('\n');
    Ok(text)
}

/// What is infinite is null.
fn figure(figure: &Figure) -> Value {
    json!({ "name": figure.name, "value": figure.value, "unit": figure.unit.word() })
}
