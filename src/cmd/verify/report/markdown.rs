//! The report as Markdown, for the summary of a pipeline or a pull request.
//!
//! Must not: let a name end a table's cell, a code span or a fence.

use std::fmt::Write;

use super::super::VerifyRun;
use super::super::check::{CheckFinding, CheckOutcome, Status};
use super::{counts, verdict};
use crate::remedy::text::{one_line, printable};

/// Text in which nothing has a meaning to Markdown or HTML.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in one_line(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '!' | '@' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// A block of SQL in a fence that is longer than any inside it.
fn fenced(out: &mut String, sql: &str) {
    let sql = printable(sql);
    let mut longest = 2;
    let mut current = 0;
    for c in sql.chars() {
        current = if c == '`' { current + 1 } else { 0 };
        longest = longest.max(current);
    }
    let fence = "`".repeat(longest + 1);
    let _ = writeln!(out, "{fence}sql\n{}\n{fence}\n", sql.trim_end());
}

pub(super) fn render(run: &VerifyRun) -> String {
    let mut out = String::new();
    let sign = match verdict(run) {
        "passed" => "✅",
        "failed" => "❌",
        _ => "⚠️",
    };
    let _ = writeln!(out, "## {sign} pgrunway verify: {}\n", verdict(run));
    let _ = writeln!(
        out,
        "{}. PostgreSQL {}, {}.\n",
        counts(run),
        plain(&run.server.version),
        plain(&run.target)
    );
    let all: Vec<(&CheckOutcome, &CheckFinding)> =
        run.outcomes.iter().flat_map(|o| o.found.findings.iter().map(move |f| (o, f))).collect();
    for (title, fails) in [("Failed", true), ("Remarks", false)] {
        let mut some: Vec<_> =
            all.iter().filter(|(_, f)| (f.severity >= run.fail_on) == fails).collect();
        some.sort_by_key(|(_, f)| std::cmp::Reverse(f.severity));
        if some.is_empty() {
            continue;
        }
        let _ = writeln!(out, "### {title}\n");
        for (outcome, finding) in some {
            let at = match &outcome.database {
                Some(database) => format!("{} in {database}", finding.object),
                None => finding.object.clone(),
            };
            let _ = writeln!(
                out,
                "**{}** `{}` {}: {}. {}\n",
                finding.severity.word(),
                outcome.rule.id,
                plain(&at),
                plain(&finding.found),
                plain(outcome.rule.why)
            );
            if let Some(caution) = &finding.caution {
                let _ = writeln!(out, "*Note:* {}\n", plain(caution));
            }
            if !finding.fix.is_empty() {
                out.push_str("<details><summary>SQL that fixes it</summary>\n\n");
                fenced(&mut out, &finding.fix.join("\n"));
                out.push_str("</details>\n\n");
            }
        }
    }
    out.push_str("| check | database | result | what |\n|---|---|---|---|\n");
    for outcome in &run.outcomes {
        let status = outcome.status(run.fail_on);
        let found = &outcome.found;
        let what = match status {
            Status::Skipped => found.skipped.as_ref().unwrap_or(&found.summary),
            _ => found.unchecked.as_ref().unwrap_or(&found.summary),
        };
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} |",
            outcome.rule.id,
            plain(outcome.database.as_deref().unwrap_or("")),
            status.word(),
            plain(what)
        );
    }
    out
}
