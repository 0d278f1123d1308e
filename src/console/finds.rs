//! Findings as a person on call needs them: the worst first, each with its evidence and its remedy to copy.
//!
//! Must not: judge, or put a finding into other words than `verify` and `report` have for it.

use maud::{Markup, html};
use serde::Serialize;

use super::Page;
use super::figure::age;
use super::icons::icon;
use super::read::{HIDDEN, Reader};
use crate::collectors::activity::WaitRuleActive;
use crate::collectors::database_recommendations::DatabaseRuleActive;
use crate::collectors::pgbouncer::published::PoolerRuleActive;
use crate::collectors::recommendations::RuleActive;
use crate::findings::{Check, Part, Reported, Severity, Subject, Unit};
use crate::remedy::{Command, Remedy};
use crate::snapshot::Findings;

use super::figure::Measure;

/// Lines of a remedy that stand open.
const OPEN_LINES: usize = 8;

/// One figure of the evidence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvidenceFigure {
    /// What was measured, or what it is held against.
    pub name: &'static str,
    /// How much.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// For people.
    pub text: String,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FoundRemedy {
    /// `sql`, `shell` or `prose`.
    pub kind: &'static str,
    /// To be copied.
    pub text: String,
    /// Whether following it deletes rows.
    pub deletes: bool,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// `critical`, `warning` or `info`.
    pub severity: &'static str,
    /// The rule's id.
    pub rule: &'static str,
    /// What the rule recommends.
    pub title: &'static str,
    /// Where; absent for the server or the pooler.
    pub database: Option<String>,
    /// What kind of thing it is about.
    pub kind: &'static str,
    /// Its name.
    pub subject: Option<String>,
    /// What was measured, in sentences.
    pub evidence: String,
    /// The figures of that.
    pub figures: Vec<EvidenceFigure>,
    /// What to know and to do.
    pub advice: String,
    /// What does it.
    pub remedy: Option<FoundRemedy>,
    /// Why it matters.
    pub why: &'static str,
    /// Views and columns.
    pub source: &'static str,
    /// Alerts about the same.
    pub alerts: &'static [&'static str],
    /// The page that shows more.
    pub page: &'static str,
    /// Seconds since it was judged.
    pub age_seconds: Option<f64>,
    /// Prints all that is known.
    pub command: Option<String>,
}

/// How many rules said what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct FoundTally {
    /// Findings that put data or service at risk.
    pub critical: usize,
    /// Findings that cost.
    pub warning: usize,
    /// Findings worth knowing.
    pub info: usize,
    /// Rules that found nothing.
    pub passed: usize,
}

/// All of a target, the worst first.
pub fn found(reader: &Reader<'_>) -> Vec<Found> {
    let mut all: Vec<(Severity, Found)> = reader
        .snapshot
        .findings
        .iter()
        .flat_map(|place| {
            place.reported.iter().map(move |r| (r.finding.severity, one(reader, place, r)))
        })
        .collect();
    all.sort_by_key(|(severity, _)| std::cmp::Reverse(*severity));
    all.into_iter().map(|(_, found)| found).collect()
}

fn one(reader: &Reader<'_>, place: &Findings, Reported { rule, finding }: &Reported) -> Found {
    let names_users =
        matches!(finding.subject, Subject::Role(_) | Subject::Pool(..) | Subject::Statement(_));
    let hidden =
        reader.hides && (names_users || matches!(rule.part, Part::Settings | Part::Statements));
    let datname = place.datname.as_deref();
    let remedy = finding.remedy.as_ref().filter(|_| !hidden).map(|remedy| FoundRemedy {
        kind: match remedy {
            Remedy::Sql(_) => "sql",
            Remedy::Shell(_) => "shell",
            Remedy::Prose(_) => "prose",
        },
        text: remedy.text(),
        deletes: remedy.deletes(),
    });
    let kind_of_check = match rule.check {
        Check::Server(_) => reader.origin::<RuleActive<'_>>(None, super::read::PLAIN),
        Check::Database(_) => reader.origin::<DatabaseRuleActive<'_>>(datname, super::read::PLAIN),
        // Of access nothing is published: `doctor` asks those rules.
        Check::Waits(_) | Check::Access(_) => {
            reader.origin::<WaitRuleActive<'_>>(None, super::read::PLAIN)
        }
        Check::Pooler(_) => reader.origin::<PoolerRuleActive<'_>>(None, super::read::PLAIN),
    };
    let text = |text: &str| if hidden { HIDDEN.to_owned() } else { text.to_owned() };
    Found {
        severity: finding.severity.word(),
        rule: rule.id,
        title: rule.title,
        database: place.datname.as_deref().map(str::to_owned),
        kind: finding.subject.kind(),
        subject: finding.subject.name().map(|name| if names_users { text(&name) } else { name }),
        evidence: text(&finding.evidence),
        figures: finding
            .figures
            .iter()
            .map(|f| EvidenceFigure {
                name: f.name,
                value: f.value,
                unit: f.unit.word(),
                text: measure(f.unit).show(f.value),
            })
            .collect(),
        advice: text(&finding.advice),
        remedy,
        why: rule.why,
        source: rule.source,
        alerts: rule.alerts,
        page: page_of(rule.part).path(),
        age_seconds: kind_of_check.age_seconds,
        command: (!matches!(rule.check, Check::Pooler(_) | Check::Waits(_) | Check::Access(_)))
            .then(|| Command::verify(rule.id, datname).to_string()),
    }
}

fn measure(unit: Unit) -> Measure {
    match unit {
        Unit::Seconds => Measure::Seconds,
        Unit::UnixSeconds => Measure::UnixSeconds,
        Unit::Bytes => Measure::Bytes,
        Unit::BytesPerSecond => Measure::BytesPerSecond,
        Unit::Ratio => Measure::Ratio,
        Unit::Count => Measure::Count,
    }
}

/// Where more of it is shown.
fn page_of(part: Part) -> Page {
    match part {
        Part::Indexes | Part::Bloat | Part::Corruption | Part::Constraints | Part::Orphans => {
            Page::Indexes
        }
        Part::Partitions | Part::Siblings | Part::Jobs => Page::Partitions,
        Part::Statements | Part::Plans => Page::Queries,
        Part::Waits => Page::Activity,
        Part::Pooler => Page::Poolers,
        Part::Access
        | Part::Databases
        | Part::Settings
        | Part::Load
        | Part::Vacuum
        | Part::Ages
        | Part::Extensions
        | Part::Growth => Page::Server,
    }
}

/// How many there are of each.
pub fn tally(reader: &Reader<'_>) -> FoundTally {
    let mut tally = FoundTally::default();
    for reported in reader.snapshot.findings.iter().flat_map(|f| f.reported.iter()) {
        match reported.finding.severity {
            Severity::Critical => tally.critical += 1,
            Severity::Warning => tally.warning += 1,
            Severity::Info => tally.info += 1,
        }
    }
    let server = reader.all::<RuleActive<'_>>().map(|r| r.active);
    let inside = reader.all::<DatabaseRuleActive<'_>>().map(|r| r.active);
    let waits = reader.all::<WaitRuleActive<'_>>().map(|r| r.active);
    let pooler = reader.all::<PoolerRuleActive<'_>>().map(|r| r.active);
    tally.passed =
        server.chain(inside).chain(waits).chain(pooler).filter(|active| *active == 0.0).count();
    tally
}

/// The shape for a severity.
pub fn shape(severity: &str) -> &'static str {
    match severity {
        "critical" => "crit",
        "warning" => "warn",
        _ => "info",
    }
}

/// The list; notes are folded.
pub fn list(found: &[Found]) -> Markup {
    let (notes, rest): (Vec<&Found>, Vec<&Found>) =
        found.iter().partition(|f| f.severity == "info");
    html! {
        @for f in rest { (item(f)) }
        @if !notes.is_empty() {
            li.wide {
                details.wide {
                    summary {
                        (icon("info")) " " (notes.len()) @if notes.len() == 1 { " note" } @else { " notes" }
                    }
                    ol.finds.in { @for f in notes { (item(f)) } }
                }
            }
        }
    }
}

/// One.
fn item(f: &Found) -> Markup {
    let class = if f.severity == "critical" { "c" } else { "" };
    html! {
        li class=(class) {
            div {
                h2 {
                    span class=(format!("sev {}", shape(f.severity))) { (icon(shape(f.severity))) " " (f.severity) }
                    " "
                    span { @if let Some(name) = &f.subject { code { (name) } ": " } (f.title) }
                }
                p { (f.evidence) }
                @if !f.figures.is_empty() {
                    dl.ev { @for figure in &f.figures { div { dt { (figure.name) } dd { (figure.text) } } } }
                }
                p.by {
                    code { (f.rule) }
                    @if let Some(datname) = &f.database { " \u{b7} database " code { (datname) } }
                    @if let Some(seconds) = f.age_seconds { " \u{b7} " (age(seconds)) " old" }
                    @if !f.alerts.is_empty() { " \u{b7} alert " (f.alerts.join(", ")) }
                }
                details.src {
                    summary { "Why, and where this comes from" }
                    p { (f.why) }
                    p { "From " (f.source) "." }
                    @if let Some(command) = &f.command { p { "With all that is known: " code { (command) } } }
                }
            }
            div {
                @if !f.advice.is_empty() { p.do { (f.advice) } }
                @if let Some(remedy) = &f.remedy { (to_copy(remedy)) }
            }
        }
    }
}

fn to_copy(remedy: &FoundRemedy) -> Markup {
    let lines = remedy.text.lines().count();
    let what = match remedy.kind {
        "sql" => "SQL for psql",
        "shell" => "Command",
        _ => "What to do",
    };
    html! {
        @if remedy.deletes { p.do { strong { "Deletes rows." } } }
        @if remedy.kind == "prose" {
            p { (remedy.text) }
        } @else if lines > OPEN_LINES {
            details { summary { (what) ", " (lines) " lines" } (command(&remedy.text)) }
        } @else {
            (command(&remedy.text))
        }
    }
}

/// What can be copied.
pub fn command(text: &str) -> Markup {
    html! {
        div.cmd {
            button type="button" data-copy { "Copy" }
            pre tabindex="0" { (text) }
        }
    }
}
