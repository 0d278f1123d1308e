//! The SQL of all findings as a script for psql, each with what it is for.
//!
//! Must not: delete data unless somebody takes the comment away.

use std::fmt::Write;

use super::super::VerifyRun;
use super::counts;
use crate::remedy::Script;
use crate::remedy::text::one_line;

pub(super) fn render(run: &VerifyRun) -> String {
    let mut out = format!(
        "-- pgrunway verify on {}: {}.\n\
         -- Nothing has been executed. Read it, then run it as a superuser or as the tables' owner, not \
         inside\n-- a transaction: psql -X -v ON_ERROR_STOP=1 -f THIS_FILE\n",
        one_line(&run.target),
        counts(run)
    );
    let mut at: Option<&str> = None;
    for outcome in &run.outcomes {
        let datname = outcome.database.as_deref().unwrap_or(&run.server.datname);
        for finding in &outcome.found.findings {
            if !finding.fix.is_empty() && at != Some(datname) {
                // Control characters would end the line.
                let name = if one_line(datname) == datname {
                    Script::connect(datname)
                } else {
                    format!("-- Connect to {} by hand.\n\\quit", one_line(datname))
                };
                let _ = writeln!(out, "\n{name}");
                at = Some(datname);
            }
            let _ = writeln!(
                out,
                "\n-- {} {}: {}: {}.",
                finding.severity.word(),
                outcome.rule.id,
                one_line(&finding.object),
                one_line(&finding.found)
            );
            if let Some(caution) = &finding.caution {
                let _ = writeln!(out, "-- {}", one_line(caution));
            }
            for statement in &finding.fix {
                for line in statement.lines() {
                    let head = if finding.deletes { "-- " } else { "" };
                    let _ = writeln!(out, "{head}{line}");
                }
            }
        }
    }
    out
}
