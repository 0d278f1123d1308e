//! A run as text, Markdown, JUnit or JSON.
//!
//! Must not: work out a figure that is not in the document.

use std::fmt::{self, Write};

use super::document::{
    BenchChange, BenchDocument, BenchVerdict, BenchedQuery, Explain, Measured, Mode,
};

/// How the report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BenchFormat {
    Text,
    Markdown,
    Junit,
    Json,
}

/// The report.
///
/// # Errors
/// A figure is no number, which JSON cannot hold.
pub fn report(document: &BenchDocument, format: BenchFormat) -> anyhow::Result<String> {
    let mut out = String::new();
    match format {
        BenchFormat::Text => text(&mut out, document)?,
        BenchFormat::Markdown => markdown(&mut out, document)?,
        BenchFormat::Junit => junit(&mut out, document)?,
        BenchFormat::Json => {
            out = serde_json::to_string_pretty(document)?;
            out.push('\n');
        }
    }
    Ok(out)
}

/// Seconds for people: three figures, in the unit that fits.
fn time(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 1e-3 => (s * 1e6, "µs"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    let places = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.places$} {unit}")
}

fn percent(factor: f64) -> String {
    format!("{:+.1} %", (factor - 1.0) * 100.0)
}

fn verdict(query: &BenchedQuery, measured: &Measured) -> &'static str {
    match (measured.failure.is_some() || query.failure.is_some(), measured.met) {
        (true, _) => "ERROR",
        (_, Some(true)) => "PASS",
        (_, Some(false)) => "FAIL",
        (_, None) => "",
    }
}

fn word(change: &BenchChange) -> String {
    match change.verdict {
        BenchVerdict::Same => "same".to_owned(),
        BenchVerdict::Slower if change.confirmed > 0 => {
            format!("SLOWER, found again {} times", change.confirmed)
        }
        BenchVerdict::Slower => "SLOWER".to_owned(),
        BenchVerdict::Faster => "faster".to_owned(),
        BenchVerdict::Unclear => "too few measurements".to_owned(),
        BenchVerdict::Unconfirmed => {
            "slower at first, and not when measured again: same".to_owned()
        }
    }
}

fn against(change: &BenchChange) -> String {
    format!(
        "{} (99 % interval {} to {}{}; as measured {}, the machine {}): {}",
        percent(change.adjusted),
        percent(change.low),
        percent(change.high),
        if change.undisturbed { ", of the time that the backend ran or was blocked" } else { "" },
        percent(change.raw),
        percent(change.machine),
        word(change)
    )
}

/// What the head says, in sentences.
fn head(document: &BenchDocument) -> Vec<String> {
    let run = &document.run;
    let plural = |n: u64, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
    let each = match (run.iterations, run.duration_seconds) {
        (_, Some(duration)) => time(duration),
        (Some(count), None) => plural(count.into(), "execution"),
        (None, None) => String::new(),
    };
    let mut lines = vec![
        format!(
            "{}: {} in each mode over {} by {}, seed {}; PASS and FAIL by p{} of the round trip.",
            run.file,
            each,
            plural(run.rounds.into(), "round"),
            plural(run.concurrency.into(), "client"),
            run.seed,
            run.percentile,
        ),
        format!(
            "PostgreSQL {}, database {}, by {}; begun {}{}.",
            document.server.version,
            document.server.database,
            if run.connection == "unix" { "Unix socket" } else { "TCP" },
            document.taken_at,
            match document.machine.load {
                Some((before, after)) => format!("; load average {before:.1}, then {after:.1}"),
                None => String::new(),
            }
        ),
    ];
    if !run.set.is_empty() {
        let set: Vec<String> = run.set.iter().map(|(n, v)| format!("{n} = {v}")).collect();
        lines.push(format!("Set for the sessions: {}.", set.join(", ")));
    }
    if document.interrupted {
        lines.push("Interrupted: these figures are of a part of the run.".to_owned());
    }
    if let Some(at) = &document.compared_with {
        lines.push(format!("Compared with the baseline of {at}."));
    }
    lines.extend(document.notes.iter().map(|note| format!("Note: {note}.")));
    lines
}

/// What a plan tells, in sentences.
fn plan(measured: &Measured, explain: &Explain) -> Vec<String> {
    let kind = match (measured.mode, explain.generic) {
        (Mode::Prepared, Some(true)) => "generic plan",
        (Mode::Prepared, Some(false)) => "custom plan at each execution",
        (Mode::Prepared, None) => "plan",
        (Mode::Unprepared, _) => "plan",
    };
    let several = match explain.plans {
        0 | 1 => String::new(),
        n => format!(" ({n} different ones in {} runs; the last)", explain.runs),
    };
    let mut lines = vec![format!("{kind}{several}: {}", explain.plan)];
    if let Some(plans) = measured.plans {
        lines.push(format!(
            "of the first client's executions {} by a generic plan, {} by a custom one",
            plans.generic, plans.custom
        ));
    }
    for p in &explain.partitions {
        let unreached = match p.unreached {
            0 => String::new(),
            n => format!(", {n} in the plan and not reached"),
        };
        lines.push(format!(
            "partitions of {}: {} of {} scanned{unreached}, {} pruned",
            p.table, p.scanned, p.total, p.pruned
        ));
    }
    if let Some(first) = explain.first_planning_seconds {
        lines.push(format!(
            "planning as the first statement of a session: {}, at most {}",
            time(first.median),
            time(first.max)
        ));
    }
    let mut figures = vec![format!(
        "buffers: {} hit, {} read; planning {} hit, {} read",
        explain.buffers.hit,
        explain.buffers.read,
        explain.planning_buffers.hit,
        explain.planning_buffers.read
    )];
    figures.push(match (explain.temp_blocks_read, explain.temp_blocks_written) {
        (0.0, 0.0) => "no temp files".to_owned(),
        (read, written) => format!("temp blocks: {read} read, {written} written"),
    });
    figures.push(match explain.jit_functions {
        0.0 => "no JIT".to_owned(),
        n => format!("JIT: {n} functions, {}", time(explain.jit_seconds)),
    });
    lines.push(figures.join("; "));
    lines
}

const COLUMNS: [&str; 9] =
    ["p50", "p95", "p99", "max", "mean", "planning", "execution", "rows", "samples"];

fn cells(measured: &Measured) -> [String; 9] {
    let mut cells = [const { String::new() }; 9];
    if let Some(r) = &measured.round_trip {
        for (cell, value) in cells.iter_mut().zip([r.p50, r.p95, r.p99, r.max, r.mean]) {
            *cell = time(value);
        }
        cells[8] = r.samples.to_string();
    }
    if let Some(e) = &measured.explain {
        cells[5] = time(e.planning_seconds.median);
        cells[6] = time(e.execution_seconds.median);
        cells[7] = e.rows.to_string();
    }
    cells
}

fn target(query: &BenchedQuery) -> String {
    query.target_seconds.map_or_else(|| "none".to_owned(), time)
}

fn text(out: &mut String, document: &BenchDocument) -> fmt::Result {
    for line in head(document) {
        writeln!(out, "{line}")?;
    }
    let width = document.queries.iter().map(|q| q.name.chars().count()).max().unwrap_or(0).max(5);
    write!(out, "\n{:width$} {:10}", "query", "mode")?;
    for column in COLUMNS {
        write!(out, " {column:>9}")?;
    }
    writeln!(out, "    target")?;
    for query in &document.queries {
        for measured in &query.modes {
            write!(out, "{:width$} {:10}", query.name, measured.mode)?;
            for cell in cells(measured) {
                write!(out, " {cell:>9}")?;
            }
            writeln!(out, " {:>9} {}", target(query), verdict(query, measured))?;
        }
        if query.failure.is_some() {
            writeln!(out, "{:width$} ERROR", query.name)?;
        }
    }
    for query in &document.queries {
        writeln!(out, "\n{}", query.name)?;
        if let Some(failure) = &query.failure {
            writeln!(out, "  ERROR: {failure}")?;
        }
        for measured in &query.modes {
            writeln!(out, "  {}", measured.mode)?;
            for line in details(measured) {
                writeln!(out, "    {line}")?;
            }
        }
    }
    Ok(())
}

fn details(measured: &Measured) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(measured.failure.iter().map(|f| format!("ERROR: {f}")));
    if let Some(change) = &measured.change {
        lines.push(format!("median against the baseline: {}", against(change)));
        lines.push(format!("judged percentile, as measured: {}", percent(change.tail)));
        if let Some(before) = &change.plan_before {
            lines.push(format!("PLAN CHANGED; the baseline's was: {before}"));
        }
    }
    if let Some(undisturbed) = measured.undisturbed {
        lines.push(format!("backend, ran or blocked: {} (median)", time(undisturbed)));
    }
    lines.extend(measured.explain.iter().flat_map(|e| plan(measured, e)));
    lines
}

fn markdown(out: &mut String, document: &BenchDocument) -> fmt::Result {
    let safe = |text: &str| text.replace('|', "\\|");
    writeln!(out, "# Benchmark\n")?;
    for line in head(document) {
        writeln!(out, "- {}", safe(&line))?;
    }
    writeln!(out, "\n| query | mode | {} | target | verdict |", COLUMNS.join(" | "))?;
    writeln!(out, "|---|---|{}---|---|", "---:|".repeat(COLUMNS.len()))?;
    for query in &document.queries {
        for measured in &query.modes {
            let cells = cells(measured).join(" | ");
            let (name, target) = (&query.name, target(query));
            let verdict = verdict(query, measured);
            writeln!(out, "| {name} | {} | {cells} | {target} | {verdict} |", measured.mode)?;
        }
        if query.failure.is_some() {
            let empty = "| ".repeat(COLUMNS.len());
            writeln!(out, "| {} | {empty}| | {} | ERROR |", query.name, target(query))?;
        }
    }
    for query in &document.queries {
        writeln!(out, "\n## {}\n", query.name)?;
        if let Some(failure) = &query.failure {
            writeln!(out, "- ERROR: {failure}")?;
        }
        for measured in &query.modes {
            for line in details(measured) {
                writeln!(out, "- {}: {line}", measured.mode)?;
            }
        }
    }
    Ok(())
}

/// What XML 1.0 can hold, escaped.
fn xml(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push_str(&format!("&#{};", u32::from(c))),
            c if c.is_control() => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}

/// One test case for each query in each mode; a missed target and a regression are failures.
fn junit(out: &mut String, document: &BenchDocument) -> fmt::Result {
    let (mut cases, mut tests, mut failures, mut errors) = (String::new(), 0, 0, 0);
    let suite = xml(&document.run.file);
    for query in &document.queries {
        if let Some(failure) = &query.failure {
            (tests, errors) = (tests + 1, errors + 1);
            writeln!(
                cases,
                "  <testcase classname=\"{suite}\" name=\"{}\" time=\"0\">\n    \
                 <error message=\"{}\"/>\n  </testcase>",
                xml(&query.name),
                xml(&failure.to_string())
            )?;
        }
        for measured in &query.modes {
            tests += 1;
            let median = measured.round_trip.map_or(0.0, |r| r.p50);
            writeln!(
                cases,
                "  <testcase classname=\"{suite}\" name=\"{} {}\" time=\"{median:.6}\">",
                xml(&query.name),
                measured.mode
            )?;
            let mut faults = Vec::new();
            if measured.met == Some(false) {
                let judged = measured.round_trip.map_or(0.0, |r| r.judged);
                faults.push(format!(
                    "p{} {} is above the target of {}",
                    document.run.percentile,
                    time(judged),
                    target(query)
                ));
            }
            if let Some(change) =
                measured.change.as_ref().filter(|c| c.verdict == BenchVerdict::Slower)
            {
                faults.push(format!("median against the baseline: {}", against(change)));
            }
            if let Some(failure) = &measured.failure {
                errors += 1;
                writeln!(cases, "    <error message=\"{}\"/>", xml(&failure.to_string()))?;
            } else if !faults.is_empty() {
                failures += 1;
                writeln!(cases, "    <failure message=\"{}\"/>", xml(&faults.join("; ")))?;
            }
            let said = details(measured).join("\n");
            if !said.is_empty() {
                writeln!(cases, "    <system-out>{}</system-out>", xml(&said))?;
            }
            writeln!(cases, "  </testcase>")?;
        }
    }
    writeln!(
        out,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"pgrunway bench {suite}\" \
         tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" timestamp=\"{}\">\n{cases}</testsuite>",
        xml(&document.taken_at)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_rounded_for_people() {
        for (seconds, want) in [
            (0.000_001_234, "1.23 µs"),
            (0.000_045_67, "45.7 µs"),
            (0.004_5, "4.50 ms"),
            (0.123_4, "123 ms"),
            (2.5, "2.50 s"),
        ] {
            assert_eq!(time(seconds), want);
        }
        assert_eq!((percent(1.3).as_str(), percent(0.5).as_str()), ("+30.0 %", "-50.0 %"));
    }

    #[test]
    fn xml_holds_what_a_server_may_say() {
        assert_eq!(xml("a<b> & \"c\"\n\u{1}é"), "a&lt;b&gt; &amp; &quot;c&quot;&#10;\u{FFFD}é");
    }
}
