//! The report as JUnit's XML, as Jenkins, GitLab and GitHub's actions read it: a suite per database,
//! a case per check.
//!
//! Must not: write a character that XML 1.0 forbids.

use std::fmt::Write;

use super::super::VerifyRun;
use super::super::check::{CheckFinding, CheckOutcome, Status};

/// Text with what XML gives a meaning escaped, and what it forbids replaced by U+FFFD. Line ends and
/// tabs in attributes stay what they are.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' | '\r' | '\t' => {
                let _ = write!(out, "&#{};", u32::from(c));
            }
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn describe(check: &CheckOutcome, findings: &[&CheckFinding]) -> String {
    let mut out = String::new();
    for finding in findings {
        let _ = writeln!(out, "{}: {}: {}", finding.severity.word(), finding.object, finding.found);
        if let Some(caution) = &finding.caution {
            let _ = writeln!(out, "Note: {caution}");
        }
        for statement in &finding.fix {
            let _ = writeln!(out, "{}", statement.trim_end());
        }
        out.push('\n');
    }
    let _ = write!(out, "Why: {}", check.rule.why);
    out
}

pub(super) fn render(run: &VerifyRun) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let count = |all: &[&CheckOutcome], status: Status| {
        all.iter().filter(|o| o.status(run.fail_on) == status).count()
    };
    let sums = |all: &[&CheckOutcome]| {
        format!(
            "tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\"",
            all.len(),
            count(all, Status::Failed),
            count(all, Status::Unchecked),
            count(all, Status::Skipped)
        )
    };
    let whole: Vec<&CheckOutcome> = run.outcomes.iter().collect();
    let _ = writeln!(
        out,
        "<testsuites name=\"pgrunway verify\" {} time=\"{:.3}\">",
        sums(&whole),
        run.took.as_secs_f64()
    );
    let mut suites: Vec<Option<&str>> = Vec::new();
    for outcome in &run.outcomes {
        let name = outcome.database.as_deref();
        if !suites.contains(&name) {
            suites.push(name);
        }
    }
    for suite in suites {
        let cases: Vec<&CheckOutcome> =
            whole.iter().copied().filter(|o| o.database.as_deref() == suite).collect();
        let took: f64 = cases.iter().map(|o| o.took.as_secs_f64()).sum();
        let name = suite.map_or_else(|| "server".to_owned(), |d| format!("database {d}"));
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" {} time=\"{took:.3}\" timestamp=\"{}\">",
            escape(&name),
            sums(&cases),
            timestamp(run.started)
        );
        for case in cases {
            one(&mut out, run, case, &name);
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

/// ISO 8601 without a zone, which is how the schema wants it; in UTC.
fn timestamp(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "jiff refuses what is out of range")]
    let at = jiff::Timestamp::from_second(seconds as i64).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

fn one(out: &mut String, run: &VerifyRun, case: &CheckOutcome, suite: &str) {
    let _ = writeln!(
        out,
        "    <testcase classname=\"pgrunway.verify.{}\" name=\"{}\" time=\"{:.3}\">",
        escape(suite),
        escape(case.rule.id),
        case.took.as_secs_f64()
    );
    let (failing, others): (Vec<&CheckFinding>, Vec<&CheckFinding>) =
        case.found.findings.iter().partition(|f| f.severity >= run.fail_on);
    if let Some(first) = failing.first() {
        let more = match failing.len() {
            1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        let message = format!("{}: {}{more}", first.object, first.found);
        let _ = writeln!(
            out,
            "      <failure message=\"{}\" type=\"{}\">{}</failure>",
            escape(&message),
            first.severity.word(),
            escape(&describe(case, &failing))
        );
    } else if let Some(why) = &case.found.unchecked {
        let _ =
            writeln!(out, "      <error message=\"{}\" type=\"unchecked\"></error>", escape(why));
    } else if let Some(why) = &case.found.skipped {
        let _ = writeln!(out, "      <skipped message=\"{}\"></skipped>", escape(why));
    }
    let mut said = case.found.summary.clone();
    if !failing.is_empty()
        && let Some(why) = &case.found.unchecked
    {
        let _ = write!(said, "\nIncomplete: {why}");
    }
    if !others.is_empty() {
        let _ = write!(said, "\n\n{}", describe(case, &others));
    }
    if !said.is_empty() {
        let _ = writeln!(out, "      <system-out>{}</system-out>", escape(&said));
    }
    out.push_str("    </testcase>\n");
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn nothing_that_xml_forbids_is_left() {
        assert_eq!(escape("a<b>&\"c'"), "a&lt;b&gt;&amp;&quot;c&apos;");
        assert_eq!(escape("\u{1b}[31m\n\u{0}\u{fffe}é"), "\u{fffd}[31m&#10;\u{fffd}\u{fffd}é");
    }
}
