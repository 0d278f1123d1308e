//! The first page of a target: what is wrong, why, and what to do.
//!
//! Must not: say that a target is healthy; what was not asked is not known.

use maud::{Markup, html};
use serde::Serialize;

use super::Page;
use super::figure::{ConsoleFigure, age};
use super::finds::{self, Found, FoundTally};
use super::history::HourSeries;
use super::icons::{icon, sole};
use super::latency::{self, LatencyView};
use super::load::{self, LoadView};
use super::pools::{self, PoolsView};
use super::read::Reader;
use super::runway::{self, Runways};
use super::shell::Links;
use super::state::TargetState;
use super::{history::Hours, hour};

/// Rows of a panel.
const MOST: usize = 8;
/// Databases of the panel of latencies.
const MOST_DATABASES: usize = 2;

/// All that is on it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Overview {
    /// In one sentence.
    pub verdict: String,
    /// `critical`, `warning`, `info`, `ok`, `down` or `unknown`.
    pub state: &'static str,
    /// What the rules found.
    pub findings: Vec<Found>,
    /// Of the rules.
    pub tally: FoundTally,
    /// Figures on the wrong side of their objective.
    pub beyond: Vec<ConsoleFigure>,
    /// Collectors whose last run failed.
    pub failing: usize,
    /// Partitioned tables.
    pub runways: Runways,
    /// Percentiles.
    pub latencies: LatencyView,
    /// Cache, connections, sessions.
    pub load: LoadView,
    /// Of a pooler.
    pub pools: Option<PoolsView>,
    /// The last hour.
    pub hour: Vec<HourSeries>,
}

/// Reads it.
pub fn overview(reader: &Reader<'_>, state: &TargetState, hours: &Hours) -> Overview {
    let findings = finds::found(reader);
    let tally = finds::tally(reader);
    let (runways, latencies, load) =
        (runway::runways(reader), latency::latencies(reader), load::load(reader));
    let pools = (state.kind == "pooler").then(|| pools::pools(reader));
    let slow = latencies.databases.iter().map(|d| &d.held).filter(|f| f.beyond);
    let waits = pools.iter().flat_map(|p| p.figures.iter().filter(|f| f.beyond));
    let beyond: Vec<ConsoleFigure> = slow.chain(load.beyond()).chain(waits).cloned().collect();
    let failing = reader.snapshot.outcomes.iter().filter(|o| o.error.is_some()).count();
    let (verdict, worst) = verdict(state, &findings, &runways, &beyond);
    Overview {
        verdict,
        state: worst,
        tally,
        beyond,
        failing,
        runways,
        latencies,
        load,
        pools,
        hour: hours.of(reader),
        findings,
    }
}

/// State, subject, verb.
fn verdict(
    state: &TargetState,
    findings: &[Found],
    runways: &Runways,
    beyond: &[ConsoleFigure],
) -> (String, &'static str) {
    if state.state == "not tried yet" {
        return (format!("{} was not tried yet", state.title()), "unknown");
    }
    if state.state == "down" {
        let kind = state.trouble.as_ref().map_or("", |t| t.kind);
        return (format!("Down: {} cannot be reached ({kind})", state.title()), "down");
    }
    let said = |f: &Found| match &f.subject {
        Some(subject) => format!("{subject}: {}", f.title),
        None => f.title.to_owned(),
    };
    let refuses: Vec<_> =
        runways.tables.iter().filter(|t| t.state == "critical" && !t.has_default).collect();
    if let Some(first) = refuses.first() {
        let more = if refuses.len() > 1 {
            format!(", and {} more", refuses.len() - 1)
        } else {
            String::new()
        };
        return (
            format!(
                "Critical: inserts of now into {}.{}{more} fail",
                first.schemaname, first.relname
            ),
            "critical",
        );
    }
    match findings.first() {
        Some(f) if f.severity == "critical" => (format!("Critical: {}", said(f)), "critical"),
        _ if !beyond.is_empty() => {
            (format!("Warning: {} is beyond its objective", beyond[0].label), "warning")
        }
        Some(f) if f.severity == "warning" => (format!("Warning: {}", said(f)), "warning"),
        Some(f) => (format!("Nothing urgent. Worth knowing: {}", said(f)), "info"),
        None => ("Nothing was found by what could be asked".to_owned(), "ok"),
    }
}

/// The page.
pub fn page(view: &Overview, state: &TargetState, links: &Links<'_>) -> Markup {
    let shape = match view.state {
        "down" => "down",
        "unknown" => "unk",
        "ok" => "ok",
        severity => finds::shape(severity),
    };
    let has_items = !view.findings.is_empty()
        || !view.beyond.is_empty()
        || state.trouble.is_some()
        || state.reads_all_stats == Some(false)
        || state.untested
        || (state.state == "up" && state.databases.iter().any(|d| d.trouble.is_some()));
    html! {
        section.verdict aria-label="Verdict" {
            (sole(shape, view.state))
            div { h1 { (view.verdict) } }
            (tally(view, links))
            (state.line())
        }
        @if has_items {
            section id="f" aria-label="Findings, worst first" {
                ol.finds {
                    (state.items(&view.findings))
                    @for f in &view.beyond { (beyond(f, links)) }
                    (finds::list(&view.findings))
                }
            }
        }
        @if let Some(pools) = &view.pools {
            (pools::panel(pools, links.metrics()))
        } @else if state.kind == "server" {
            div.two {
                (runway::panel(&view.runways, MOST, &links.page(Page::Partitions), links.metrics()))
                (latency::panel(&view.latencies, MOST_DATABASES, Some(&links.page(Page::Queries)), links.metrics()))
            }
            div.three {
                (load::panel("cache", "Cache and indexes", &view.load.cache, 4, links.metrics()))
                (load::panel("connections", "Connections", &view.load.connections, MOST, links.metrics()))
                (load::sessions_panel(&view.load, Some(&links.page(Page::Activity)), links.metrics()))
            }
        }
        @if state.kind != "exporter" { (hour::panel(&view.hour, links.metrics())) }
    }
}

fn tally(view: &Overview, links: &Links<'_>) -> Markup {
    let t = &view.tally;
    let counted = |n: usize, one: &str, many: &str| format!(" {}", if n == 1 { one } else { many });
    html! {
        p.tally {
            a href="#f" { (icon("crit")) " " b { (t.critical) } " critical" }
            a href="#f" { (icon("warn")) " " b { (t.warning + view.beyond.len()) } (counted(t.warning + view.beyond.len(), "warning", "warnings")) }
            a href="#f" { (icon("info")) " " b { (t.info) } (counted(t.info, "note", "notes")) }
            a href=(links.page(Page::Collectors)) { (icon("ok")) " " b { (t.passed) } (counted(t.passed, "check passed", "checks passed")) }
            @if view.failing > 0 {
                a href=(links.page(Page::Collectors)) { (icon("unk")) " " b { (view.failing) } (counted(view.failing, "collector fails", "collectors fail")) }
            }
        }
    }
}

/// A figure on the wrong side of its objective, as an item of the list.
fn beyond(f: &ConsoleFigure, links: &Links<'_>) -> Markup {
    html! {
        li {
            div {
                h2 { span.sev.warn { (icon("warn")) " warning" } " " span { (f.label) " is " (f.text()) @if let Some(limit) = f.limit() { "; its objective is " (limit) } } }
                p.by {
                    a href=(links.metric(&f.origin.metric)) { code { (f.origin.metric) } }
                    @if let Some(seconds) = f.origin.age_seconds { " \u{b7} " (age(seconds)) " old" }
                }
            }
            div { details.src { summary { "Source and PromQL" } p { (f.origin.source) } pre tabindex="0" { (f.origin.promql) } } }
        }
    }
}
