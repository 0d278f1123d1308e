//! The recommendations about the server that the exporter and the report give too.
//!
//! Must not: run unless asked for: they are advice, and no reason to hold a deployment up.

use super::super::check::{Check, Context, Found, Scope, Severity, When};
use super::counted;
use crate::cmd::advice;
use crate::error::CollectError;
use crate::findings;
use crate::remedy::Remedy;

static RECOMMENDED: Check = Check {
    id: "settings.recommended",
    severity: Severity::Critical,
    scope: Scope::Server,
    when: When::OnRequest,
    finds: "Settings that are dangerous, or do not suit what the server does: the rules of \
            docs/recommendations.md.",
    why: "Memory, checkpoints, logging and the rest decide how fast and how safe a server is; the rules give \
          their evidence.",
    locks: "none",
    run: Some(|cx| Box::pin(recommended(cx))),
};

pub(super) const CHECKS: &[&Check] = &[&RECOMMENDED];

async fn recommended(cx: &Context<'_>) -> Result<Found, CollectError> {
    let mut notes = Vec::new();
    let facts = advice::server(cx.session, None, &mut notes).await;
    let (mut findings, mut judged, mut unknown) = (Vec::new(), 0, Vec::new());
    for (rule, verdict) in findings::judge(&facts) {
        let Some(found) = verdict else {
            unknown.push(rule.id);
            continue;
        };
        judged += 1;
        for f in found {
            let sentence = f.evidence.trim_end_matches('.').to_owned();
            let mut finding = RECOMMENDED.finding(rule.id, sentence);
            finding = finding.severity(f.severity).caution(f.advice);
            if let Some(remedy) = f.remedy {
                finding = match remedy {
                    Remedy::Sql(script) => finding.remedy(*script),
                    other => finding.mend(other.text()),
                };
            }
            findings.push(finding);
        }
    }
    let mut summary = counted(judged, "rule", "asked");
    if !unknown.is_empty() {
        summary.push_str(&format!("; for lack of facts or time not: {}", unknown.join(", ")));
    }
    let unchecked = (!notes.is_empty()).then(|| notes.join("; "));
    Ok(Found { unchecked, ..Found::new(summary, findings) })
}
