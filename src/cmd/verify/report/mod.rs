//! Reports of one run, in the forms that people and pipelines read.
//!
//! Must not: leave out a finding or what could not be looked at, or show a secret.

mod json;
mod junit;
mod markdown;
mod script;
mod text;

use super::check::{Severity, Status};
use super::{GateVerdict, VerifyFormat, VerifyRun};
use crate::cmd::words::counted;

/// The whole report.
///
/// # Errors
/// A value could not be written as JSON.
pub(super) fn render(
    run: &VerifyRun,
    format: VerifyFormat,
    colour: bool,
) -> anyhow::Result<String> {
    Ok(match format {
        VerifyFormat::Text => text::render(run, colour),
        VerifyFormat::Json => json::render(run)?,
        VerifyFormat::Junit => junit::render(run),
        VerifyFormat::Markdown => markdown::render(run),
        VerifyFormat::Sql => script::render(run),
    })
}

fn verdict(run: &VerifyRun) -> &'static str {
    match run.verdict() {
        GateVerdict::Passed => "passed",
        GateVerdict::Failed => "failed",
        GateVerdict::Unchecked => "unchecked",
    }
}

/// `2 critical, 1 warning, 3 remarks, 1 check not made, 20 passed, 2 skipped`; what there is none of is
/// left out, but for the first two.
fn counts(run: &VerifyRun) -> String {
    let mut parts = vec![
        format!("{} critical", run.findings(Severity::Critical)),
        counted(run.findings(Severity::Warning), "warning"),
    ];
    let remarks = run.findings(Severity::Info);
    if remarks > 0 {
        parts.push(counted(remarks, "remark"));
    }
    let unchecked = run.outcomes.iter().filter(|o| o.found.unchecked.is_some()).count();
    if unchecked > 0 {
        parts.push(format!("{} incomplete", counted(unchecked, "check")));
    }
    parts.push(format!("{} passed", run.count(Status::Passed)));
    let skipped = run.count(Status::Skipped);
    if skipped > 0 {
        parts.push(format!("{skipped} not applicable"));
    }
    parts.join(", ")
}
