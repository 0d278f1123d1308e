//! Why a series is missing: each collector in each place, with its state, its age and its cost; and each metric with
//! the collector that has it.
//!
//! Must not: guess: what is said is what the collector's last run said.

use maud::{Markup, html};
use serde::Serialize;

use super::figure::{age, duration};
use super::icons::icon;
use super::read::Reader;
use super::shell::Links;
use crate::collector::Scope;
use crate::collectors;
use crate::snapshot::{Of, Outcome};

/// A column, function or view that a collector does without.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissingName {
    /// Its name.
    pub name: String,
    /// `absent`, `forbidden` or `unsupported`.
    pub reason: &'static str,
}

/// What a collector does without, and why.
fn without(missing: &[MissingName]) -> String {
    let mut parts = Vec::new();
    for (reason, why) in [
        ("absent", "which the server does not have"),
        ("forbidden", "which its role may not read"),
        ("unsupported", "which the server refuses to everybody"),
    ] {
        let names = missing.iter().filter(|one| one.reason == reason);
        let names: Vec<&str> = names.map(|one| one.name.as_str()).collect();
        if !names.is_empty() {
            parts.push(format!("without {}, {why}", names.join(", ")));
        }
    }
    parts.join("; ")
}

/// One collector in one place.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CollectorRow {
    /// Its name.
    pub collector: String,
    /// Where it runs: a database, or none for the server.
    pub database: Option<String>,
    /// `ok`, `off`, `not supported`, `forbidden`, `limited`, `stale`, `failed` or `refused`.
    pub state: &'static str,
    /// Why.
    pub reason: Option<String>,
    /// Seconds since it last succeeded.
    pub age_seconds: Option<f64>,
    /// Seconds between two runs.
    pub interval_seconds: Option<f64>,
    /// Seconds that the last one took.
    pub took_seconds: Option<f64>,
    /// Series of the last run that succeeded.
    pub series: Option<usize>,
    /// Failed runs by kind, since the start.
    pub errors: Vec<(&'static str, u64)>,
    /// Runs left out because it was busy.
    pub skipped: u64,
    /// What beyond PostgreSQL's own catalogues is used.
    pub trusted: Option<String>,
    /// What the server does not have of what it reads.
    pub missing: Vec<MissingName>,
}

/// All of a target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Collecting {
    /// Those that need a look first.
    pub collectors: Vec<CollectorRow>,
    /// What was searched.
    pub search: String,
    /// Metrics that the search found: name, collector, help.
    pub metrics: Vec<(&'static str, &'static str, &'static str)>,
}

/// Metrics that a search may show.
const MOST_METRICS: usize = 30;

/// Collectors of views that older servers lack, and the major version that has them: on those they give nothing.
const SINCE: [(&str, i32); 2] = [("io", 16), ("lockwaits", 19)];

/// What a kind of error means to who misses a series.
fn named(kind: &str) -> &'static str {
    match kind {
        "permission" => "forbidden",
        "missing" => "not supported",
        "limit" => "limited",
        "query" | "collision" => "refused",
        _ => "failed",
    }
}

fn missing(outcome: &Outcome) -> Vec<MissingName> {
    let all = outcome.missing.iter();
    all.map(|one| MissingName { name: one.name.to_string(), reason: one.why.kind() }).collect()
}

/// Of the last run, by the error that was counted last where only one kind was.
fn state(reader: &Reader<'_>, outcome: &Outcome) -> (&'static str, Option<String>) {
    let age = reader.age(outcome);
    let interval = outcome.interval.as_secs_f64();
    match &outcome.error {
        Some(error) => {
            let text = reader.private(error).into_owned();
            let kind = outcome.kind.map_or("failed", named);
            (if reader.snapshot.up { kind } else { "stale" }, Some(text))
        }
        None if age.is_some_and(|age| age > 3.0 * interval.max(20.0)) => ("stale", None),
        None if outcome.refused.over_limit > 0 => {
            let text = format!(
                "{} series were left out by series_limit since the start",
                outcome.refused.over_limit
            );
            ("limited", Some(text))
        }
        None if outcome.too_long > 0 => {
            ("limited", Some(format!("{} texts are longer than 16 KiB", outcome.too_long)))
        }
        None => {
            let since = SINCE
                .iter()
                .find(|(name, _)| *name == &*outcome.collector)
                .map(|(_, since)| *since);
            let needs =
                since.filter(|since| reader.snapshot.major.is_some_and(|major| major < *since));
            match needs {
                Some(since) => ("not supported", Some(format!("needs PostgreSQL {since}"))),
                None => ("ok", None),
            }
        }
    }
}

fn rank(state: &str) -> u8 {
    match state {
        "failed" | "refused" | "forbidden" => 0,
        "not supported" | "limited" | "stale" => 1,
        "ok" => 2,
        _ => 3,
    }
}

/// Reads them; the search is part of a metric's name or of a collector's.
pub fn collecting(reader: &Reader<'_>, search: &str) -> Collecting {
    let wanted = search.trim().to_lowercase();
    let mut rows: Vec<CollectorRow> = reader
        .snapshot
        .outcomes
        .iter()
        .map(|outcome| {
            let (state, reason) = state(reader, outcome);
            CollectorRow {
                collector: outcome.collector.to_string(),
                database: outcome.datname.as_deref().map(str::to_owned),
                state,
                reason,
                age_seconds: reader.age(outcome),
                interval_seconds: Some(outcome.interval.as_secs_f64()),
                took_seconds: Some(outcome.duration.as_secs_f64()),
                series: Some(outcome.series),
                errors: outcome.errors.iter().map(|(kind, n)| (*kind, *n)).collect(),
                skipped: outcome.skipped,
                trusted: outcome.trusted.as_deref().map(str::to_owned),
                missing: missing(outcome),
            }
        })
        .collect();
    let runs = |name: &str| reader.snapshot.outcomes.iter().any(|o| *o.collector == *name);
    let for_this = |scope: Scope| match reader.snapshot.of {
        Of::Server => scope != Scope::Pooler,
        Of::Pooler => scope == Scope::Pooler,
        Of::Exporter => false,
    };
    for collector in collectors::ALL.iter().filter(|c| for_this(c.scope()) && !runs(c.name())) {
        let reason = if collector.compatible_only() {
            "it runs in postgres_exporter's profile only".to_owned()
        } else if reader.snapshot.up {
            format!("--collector.{} turns it on, or it was not due yet", collector.name())
        } else {
            "it has not run yet".to_owned()
        };
        rows.push(CollectorRow {
            collector: collector.name().to_owned(),
            database: None,
            state: "off",
            reason: Some(reason),
            age_seconds: None,
            interval_seconds: None,
            took_seconds: None,
            series: None,
            errors: Vec::new(),
            skipped: 0,
            trusted: None,
            missing: Vec::new(),
        });
    }
    let mut metrics = Vec::new();
    if !wanted.is_empty() {
        let of_it = |name: &str| {
            let has = |m: &&&'static crate::metric::Metric| m.name.contains(&wanted);
            let collector = collectors::by_name(name);
            name.contains(&wanted) || collector.is_some_and(|c| c.metrics().iter().any(|m| has(&m)))
        };
        rows.retain(|row| of_it(&row.collector));
        for collector in collectors::ALL {
            for metric in collector.metrics().iter().filter(|m| m.name.contains(&wanted)) {
                metrics.push((metric.name, collector.name(), metric.help));
            }
        }
        metrics.truncate(MOST_METRICS);
    }
    rows.sort_by(|a, b| {
        (rank(a.state), &a.collector, &a.database).cmp(&(rank(b.state), &b.collector, &b.database))
    });
    Collecting { collectors: rows, search: search.to_owned(), metrics }
}

/// The shape for a state.
fn shape(state: &str) -> &'static str {
    match state {
        "ok" => "ok",
        "off" => "off",
        "not supported" => "unk",
        "forbidden" => "lock",
        "limited" => "lim",
        "stale" => "stale",
        _ => "crit",
    }
}

/// The page.
pub fn page(view: &Collecting, links: &Links<'_>) -> Markup {
    let bad = view.collectors.iter().filter(|c| !matches!(c.state, "ok" | "off")).count();
    html! {
        section.panel aria-labelledby="why-h" {
            header { h2 id="why-h" { "Why is my series missing?" } }
            form.tools method="get" action="/collectors" role="search" {
                label for="q" { "Metric or collector" }
                input type="search" id="q" name="q" value=(view.search) placeholder="runway_seconds";
                @if let Some(target) = links.target { input type="hidden" name="target" value=(target); }
                button type="submit" { "Show" }
            }
            @if !view.metrics.is_empty() {
                dl.srcs.ans {
                    @for (name, collector, help) in &view.metrics { dt { a href=(links.metric(name)) { code { (name) } } " " small { "collector " (collector) } } dd { (help) } }
                }
            } @else if !view.search.is_empty() {
                p.none { "No metric of a collector has this in its name; those about pgrunway itself are always there." }
            }
        }
        section.panel aria-labelledby="collectors-h" {
            header {
                h2 id="collectors-h" { "Collectors" }
                small { @if bad == 0 { "none fails" } @else { (bad) " need a look" } }
            }
            div.scroll {
                table.cards {
                    caption.sr { "Collectors, those that need a look first" }
                    thead { tr {
                        th scope="col" { "Collector" } th scope="col" { "Where" } th scope="col" { "State" }
                        th.num scope="col" { "Age" } th.num scope="col" { "Every" } th.num scope="col" { "Took" } th.num scope="col" { "Series" }
                    } }
                    tbody { @for c in &view.collectors { (row(c)) } }
                }
            }
            p.note {
                "ok: its last run succeeded. off: the configuration, or the profile, leaves it out. not supported: the server lacks what it needs. \
                 forbidden: the role may not read it. limited: a bound cut it. stale: its last success is too long ago. refused: the server refused the query."
            }
        }
    }
}

fn row(c: &CollectorRow) -> Markup {
    let dash = || "\u{2014}".to_owned();
    html! {
        tr {
            th.f scope="row" { (c.collector) }
            td data-l="in" { @match &c.database { Some(datname) => { code { (datname) } }, None => { "server" } } }
            td.why.f {
                span class=(format!("sev {}", shape(c.state))) { (icon(shape(c.state))) " " (c.state) }
                @if let Some(reason) = &c.reason { " " (reason) }
                @if let Some(trusted) = &c.trusted { small { (trusted) } }
                @if !c.missing.is_empty() { small { (without(&c.missing)) } }
                @if !c.errors.is_empty() {
                    small { "failed since the start: " @for (i, (kind, n)) in c.errors.iter().enumerate() { @if i > 0 { ", " } (n) " \u{d7} " (kind) } }
                }
                @if c.skipped > 0 { small { (c.skipped) " runs were left out while it or its connection was busy" } }
            }
            td.num data-l="age" { (c.age_seconds.map_or_else(dash, age)) }
            td.num data-l="every" { (c.interval_seconds.map_or_else(dash, duration)) }
            td.num data-l="took" { (c.took_seconds.map_or_else(dash, duration)) }
            td.num data-l="series" { (c.series.map_or_else(dash, |n| n.to_string())) }
        }
    }
}
