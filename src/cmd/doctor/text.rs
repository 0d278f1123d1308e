//! All of it for a terminal: the stages of each target, what is to be done, and the verdict last.
//!
//! Must not: let a control character of a name through.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Examined, Health, StageState, an_hour, health, object, sql};
use crate::cmd::text_page::{BOLD, CYAN, DIM, GREEN, RED, TextPage, YELLOW};
use crate::cmd::words::counted;
use crate::findings::{Reported, Severity};
use crate::remedy::Remedy;
use crate::remedy::text::{one_line, printable};
use crate::snapshot::Outcome;

/// Lines of SQL that are shown for one finding.
const LONGEST: usize = 16;

pub(super) fn render(all: &[Examined], colour: bool) -> String {
    let mut page = TextPage::new(colour);
    for examined in all {
        target(&mut page, examined);
        page.line("");
    }
    verdict(&mut page, all);
    page.out
}

fn target(page: &mut TextPage, examined: &Examined) {
    let title = format!("{}  {}", one_line(examined.title()), one_line(&examined.target));
    let title = page.paint(BOLD, &title);
    page.line(&title);
    for stage in &examined.stages {
        let (code, mark) = match stage.state {
            StageState::Passed => (GREEN, "ok"),
            StageState::Degraded => (YELLOW, "degraded"),
            StageState::Failed => (RED, "FAILED"),
            StageState::Skipped => (DIM, "-"),
        };
        let mark = page.paint(code, &format!("{mark:8}"));
        let took = stage.took.map(|took| format!(" ({})", time(took))).unwrap_or_default();
        page.line(&format!("  {:10}  {mark}  {}{took}", stage.name, one_line(&stage.says)));
    }
    collectors(page, &examined.collectors);
    let defects: Vec<&Reported> = examined.defects().collect();
    if !defects.is_empty() {
        page.line("");
        let title = page.paint(BOLD, "What to do");
        page.line(&format!("  {title}"));
    }
    defects.iter().for_each(|found| finding(page, found));
    let remarks: Vec<&Reported> = examined.remarks().collect();
    if !remarks.is_empty() {
        page.line("");
        page.line("  Could be better");
    }
    for found in remarks {
        let says = format!("{} {}", one_line(&object(found)), one_line(&found.finding.evidence));
        page.line(&format!("    {}: {says}", found.rule.id));
    }
}

/// A line a collector, over all databases.
fn collectors(page: &mut TextPage, outcomes: &[Outcome]) {
    if outcomes.is_empty() {
        return;
    }
    let mut all: BTreeMap<&str, Vec<&Outcome>> = BTreeMap::new();
    for outcome in outcomes {
        all.entry(&outcome.collector).or_default().push(outcome);
    }
    let width = all.keys().map(|name| name.len()).max().unwrap_or(0).max(9);
    page.line("");
    let head = format!(
        "  {:width$}  {:>9}  {:>9}  {:>9}  {:>7}  {:>9}",
        "collector", "databases", "every", "took", "series", "an hour"
    );
    let head = page.paint(DIM, &head);
    page.line(&head);
    for (name, outcomes) in all {
        let places = outcomes.iter().filter(|o| o.datname.is_some()).count();
        let places = if places == 0 { "server".to_owned() } else { places.to_string() };
        let took: Duration = outcomes.iter().map(|o| o.duration).sum();
        let every = outcomes.iter().map(|o| o.interval).max().unwrap_or_default();
        let series: usize = outcomes.iter().map(|o| o.series).sum();
        let cost: f64 = outcomes.iter().map(|o| an_hour(o)).sum();
        page.line(&format!(
            "  {name:width$}  {places:>9}  {:>9}  {:>9}  {series:>7}  {:>9}",
            time(every),
            time(took),
            time(Duration::from_secs_f64(cost))
        ));
        if let Some(error) = outcomes.iter().find_map(|o| o.error.as_ref()) {
            let failed = outcomes.iter().filter(|o| o.error.is_some()).count();
            let of = if outcomes.len() > 1 {
                format!("{failed} of {}: ", outcomes.len())
            } else {
                String::new()
            };
            let lead = page.paint(YELLOW, "failed: ");
            page.line(&format!("    {lead}{of}{}", one_line(error)));
        }
        let missing: Vec<&str> =
            outcomes.iter().flat_map(|o| &o.missing).map(|one| &*one.name).collect();
        if !missing.is_empty() {
            page.line(&format!("    this server lacks: {}", one_line(&missing.join(", "))));
        }
    }
}

fn finding(page: &mut TextPage, found: &Reported) {
    let finding = &found.finding;
    let (code, word) = match finding.severity {
        Severity::Critical => (RED, "critical"),
        Severity::Warning => (YELLOW, "warning"),
        Severity::Info => (CYAN, "info"),
    };
    let word = page.paint(code, &format!("{word:8}"));
    let id = page.paint(BOLD, found.rule.id);
    page.line("");
    page.line(&format!("    {word}  {id}  {}", one_line(&object(found))));
    let indent = "              ";
    page.paragraph(indent, "", &finding.evidence);
    page.paragraph(indent, "Why:  ", found.rule.why);
    if !finding.advice.is_empty() {
        page.paragraph(indent, "Note: ", &finding.advice);
    }
    match &finding.remedy {
        Some(Remedy::Sql(script)) => {
            let database = match script.head.database.as_str() {
                "" => "any database".to_owned(),
                name => format!("database {}", one_line(name)),
            };
            page.paragraph(indent, "Fix:  ", &format!("in {database}, as {}", script.head.role));
            let body = printable(&script.body());
            let lines: Vec<&str> = body.lines().collect();
            for line in lines.iter().take(LONGEST) {
                let line = page.paint(CYAN, line);
                page.line(&format!("{indent}  {line}"));
            }
            if lines.len() > LONGEST {
                let more = lines.len() - LONGEST;
                page.line(&format!(
                    "{indent}  ... and {more} lines more: --format sql prints them"
                ));
            }
        }
        Some(other) => page.paragraph(indent, "Fix:  ", &other.text()),
        None => {}
    }
}

fn verdict(page: &mut TextPage, all: &[Examined]) {
    let defects = all.iter().flat_map(Examined::defects);
    let (mut count, mut with_sql) = (0, 0);
    for found in defects {
        count += 1;
        with_sql += usize::from(sql(found).is_some());
    }
    let ill = all.iter().filter(|e| e.health() != Health::Well).count();
    let head = page.paint(BOLD, "pgrunway doctor:");
    let of = format!("{ill} of {}", counted(all.len(), "target"));
    let text = match health(all) {
        Health::Well => {
            let well = page.paint(GREEN, "nothing to do");
            format!("{head} {well}, {}", counted(all.len(), "target"))
        }
        Health::Degraded => {
            let word = page.paint(YELLOW, "DEGRADED");
            format!("{head} {word}, {} at {of}", counted(count, "defect"))
        }
        Health::Closed => {
            let word = page.paint(RED, "UNREACHABLE");
            format!("{head} {word}, {} at {of}", counted(count, "defect"))
        }
    };
    page.line(&text);
    if with_sql > 0 {
        page.line("`pgrunway doctor --format sql` prints one script for all that SQL fixes.");
    }
}

/// In a unit that suits it.
fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s if s < 600.0 => format!("{s:.0} s"),
        s => format!("{:.0} min", s / 60.0),
    }
}
