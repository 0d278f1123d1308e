//! The report for a terminal: the verdict first, failures before what passed.
//!
//! Must not: let a control character of a name through.

use super::super::VerifyRun;
use super::super::check::{CheckFinding, CheckOutcome, Severity, Status};
use super::{counts, verdict};
use crate::cmd::text_page::{BOLD, CYAN, DIM, GREEN, RED, TextPage, YELLOW};
use crate::remedy::Remedy;
use crate::remedy::text::{one_line, printable};

/// Lines of SQL that are shown for one finding.
const LONGEST: usize = 24;

pub(super) fn render(run: &VerifyRun, colour: bool) -> String {
    let mut page = TextPage::new(colour);
    let code = match verdict(run) {
        "passed" => GREEN,
        "failed" => RED,
        _ => YELLOW,
    };
    let word = page.paint(code, &verdict(run).to_uppercase());
    let head = page.paint(BOLD, "pgrunway verify:");
    page.line(&format!("{head} {word}, {}", counts(run)));
    let place = format!(
        "PostgreSQL {}, {}, {}, {:.1} s",
        run.server.version,
        run.target,
        match run.databases.as_slice() {
            [] => "no database".to_owned(),
            [one] => format!("database {one}"),
            several => format!("databases {}", several.join(", ")),
        },
        run.took.as_secs_f64()
    );
    let place = page.paint(DIM, &one_line(&place));
    page.line(&place);

    findings(&mut page, run, Status::Failed, "Failed");
    unchecked(&mut page, run);
    findings(&mut page, run, Status::Remarked, "Remarks");
    table(&mut page, run, Status::Passed, "Passed");
    table(&mut page, run, Status::Skipped, "Not applicable");
    page.out
}

/// Findings that fail, or those that do not, of all checks.
fn findings(page: &mut TextPage, run: &VerifyRun, status: Status, title: &str) {
    let fails = status == Status::Failed;
    let mut all: Vec<(&CheckOutcome, &CheckFinding)> = run
        .outcomes
        .iter()
        .flat_map(|o| o.found.findings.iter().map(move |f| (o, f)))
        .filter(|(_, f)| (f.severity >= run.fail_on) == fails)
        .collect();
    if all.is_empty() {
        return;
    }
    all.sort_by_key(|(_, f)| std::cmp::Reverse(f.severity));
    page.line("");
    let title = page.paint(BOLD, title);
    page.line(&title);
    for (outcome, finding) in all {
        let (code, word) = match finding.severity {
            Severity::Critical => (RED, "critical"),
            Severity::Warning => (YELLOW, "warning"),
            Severity::Info => (CYAN, "info"),
        };
        let word = page.paint(code, &format!("{word:8}"));
        let id = page.paint(BOLD, outcome.rule.id);
        page.line("");
        let object = one_line(&finding.object);
        let at = match &outcome.database {
            Some(database) => format!("{object} in {}", one_line(database)),
            None => object,
        };
        page.line(&format!("  {word}  {id}  {at}"));
        page.paragraph("           ", "", &format!("{}.", finding.found));
        page.paragraph("           ", "Why:  ", outcome.rule.why);
        if let Some(caution) = &finding.caution {
            page.paragraph("           ", "Note: ", caution);
        }
        if let Some(command) = &finding.command {
            let command = page.paint(CYAN, command);
            page.line(&format!("           Fix:  {command}"));
            continue;
        }
        if finding.fix.is_empty() {
            continue;
        }
        page.line("           Fix:");
        // What stands at the head of a script is for who runs it: --format sql has it.
        let sql = match &finding.remedy {
            Some(Remedy::Sql(script)) => script.body(),
            _ => finding.fix.join("\n"),
        };
        let sql = printable(&sql);
        let lines: Vec<&str> = sql.lines().collect();
        let shown = if lines.len() > LONGEST { LONGEST - 4 } else { lines.len() };
        for line in lines.iter().take(shown) {
            let line = page.paint(CYAN, line);
            page.line(&format!("             {line}"));
        }
        if shown < lines.len() {
            let more = lines.len() - shown;
            page.line(&format!("             ... and {more} lines more: --format sql prints them"));
        }
    }
}

/// What could not be looked at, whether or not the rest of the check failed.
fn unchecked(page: &mut TextPage, run: &VerifyRun) {
    let all: Vec<(&CheckOutcome, &String)> =
        run.outcomes.iter().filter_map(|o| Some((o, o.found.unchecked.as_ref()?))).collect();
    if all.is_empty() {
        return;
    }
    page.line("");
    let title = page.paint(BOLD, "Could not be checked");
    page.line(&title);
    for (outcome, why) in all {
        let id = page.paint(YELLOW, outcome.rule.id);
        let at = outcome.database.as_deref().map(|d| format!(" in {}", one_line(d)));
        page.line(&format!("  {id}{}", at.unwrap_or_default()));
        page.paragraph("           ", "", &format!("{why}."));
    }
}

fn table(page: &mut TextPage, run: &VerifyRun, status: Status, title: &str) {
    let rows: Vec<&CheckOutcome> =
        run.outcomes.iter().filter(|o| o.status(run.fail_on) == status).collect();
    if rows.is_empty() {
        return;
    }
    let width = |text: fn(&CheckOutcome) -> usize| rows.iter().map(|o| text(o)).max().unwrap_or(0);
    let (ids, databases) = (
        width(|o| o.rule.id.len()),
        width(|o| o.database.as_ref().map_or(0, |d| one_line(d).chars().count())),
    );
    page.line("");
    let title = page.paint(BOLD, title);
    page.line(&title);
    for outcome in rows {
        let id = format!("{:ids$}", outcome.rule.id);
        let id = if status == Status::Passed { page.paint(GREEN, &id) } else { id };
        let database = one_line(outcome.database.as_deref().unwrap_or_default());
        let what = outcome.found.skipped.as_ref().unwrap_or(&outcome.found.summary);
        page.line(&format!("  {id}  {database:databases$}  {}", one_line(what)));
    }
}
