//! Percentiles with their error, held against the objective.
//!
//! Must not: estimate: what is shown was published, the error bars with it.

use std::collections::BTreeMap;

use maud::{Markup, html};
use serde::Serialize;

use super::figure::{ConsoleFigure, Measure, Objective, duration, panel_age, sources};
use super::icons::icon;
use super::load::meter;
use super::read::{FigureOrigin, PLAIN, Reader};
use crate::collectors::statements::published::{
    ExactRatio, LatencyObjective, QueryHigh, QueryLatency, QueryLow, SlowRatio,
};

/// The window that is drawn as a bar, and the one of the circle.
const WINDOWS: [&str; 2] = ["1m", "5m"];
/// Error bars that hold in about nine of ten cases, and those that hold always.
const LEVELS: [&str; 2] = ["likely", "certain"];
/// The percentile that the objective is for.
const HELD: &str = "0.95";

/// One percentile.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Percentile {
    /// `0.5`, `0.95` or `0.99`.
    pub quantile: String,
    /// Seconds, over the last minute.
    pub seconds: Option<f64>,
    /// Seconds, over the last five.
    pub seconds_5m: Option<f64>,
    /// Where it begins and ends in about nine of ten cases.
    pub likely: (Option<f64>, Option<f64>),
    /// Where it begins and ends whatever the distribution.
    pub certain: (Option<f64>, Option<f64>),
}

impl Percentile {
    /// Of the last minute, or else of the last five.
    pub fn best(&self) -> Option<f64> {
        self.seconds.or(self.seconds_5m)
    }

    /// The error bar that is there.
    pub fn bar(&self) -> Option<(f64, f64)> {
        let whole = |(low, high): (Option<f64>, Option<f64>)| low.zip(high);
        whole(self.likely).or_else(|| whole(self.certain))
    }
}

/// One database.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LatencyRow {
    /// Database.
    pub datname: String,
    /// p50, p95 and p99.
    pub percentiles: Vec<Percentile>,
    /// p95 against the objective.
    pub held: ConsoleFigure,
    /// Share of calls that took longer than the objective.
    pub slow: ConsoleFigure,
    /// Share of calls whose time was observed, not estimated.
    pub exact_ratio: Option<f64>,
}

/// All databases of a target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LatencyView {
    /// The slowest p95 first.
    pub databases: Vec<LatencyRow>,
    /// Seconds.
    pub objective_seconds: Option<f64>,
    /// Where the figures come from.
    pub origins: Vec<FigureOrigin>,
}

/// Gathers what was published of one percentile.
#[derive(Default)]
pub struct GatheredPercentiles(BTreeMap<String, Percentile>);

impl GatheredPercentiles {
    fn of(&mut self, quantile: &str) -> &mut Percentile {
        let one = self.0.entry(quantile.to_owned()).or_default();
        quantile.clone_into(&mut one.quantile);
        one
    }

    /// An estimate.
    pub fn take(&mut self, window: &str, quantile: &str, seconds: f64) {
        let of = self.of(quantile);
        if window == WINDOWS[0] {
            of.seconds = Some(seconds);
        } else if window == WINDOWS[1] {
            of.seconds_5m = Some(seconds);
        }
    }

    /// An end of an error bar.
    pub fn take_end(&mut self, low: bool, [window, quantile, level]: [&str; 3], seconds: f64) {
        let wanted = if self.of(quantile).seconds.is_some() { WINDOWS[0] } else { WINDOWS[1] };
        if window != wanted {
            return;
        }
        let of = self.of(quantile);
        let bar = if level == LEVELS[0] { &mut of.likely } else { &mut of.certain };
        *(if low { &mut bar.0 } else { &mut bar.1 }) = Some(seconds);
    }

    /// In order.
    pub fn finish(self) -> Vec<Percentile> {
        self.0.into_values().collect()
    }
}

/// Reads them.
pub fn latencies(reader: &Reader<'_>) -> LatencyView {
    let mut all: BTreeMap<&str, GatheredPercentiles> = BTreeMap::new();
    for s in reader.all::<QueryLatency<'_>>() {
        all.entry(s.datname).or_default().take(s.window, s.quantile, s.seconds);
    }
    for s in reader.all::<QueryLow<'_>>() {
        all.entry(s.datname).or_default().take_end(
            true,
            [s.window, s.quantile, s.level],
            s.seconds,
        );
    }
    for s in reader.all::<QueryHigh<'_>>() {
        all.entry(s.datname).or_default().take_end(
            false,
            [s.window, s.quantile, s.level],
            s.seconds,
        );
    }
    let objective = reader.first::<LatencyObjective<'_>>().map(|o| o.seconds);
    let mut databases: Vec<LatencyRow> = all
        .into_iter()
        .map(|(datname, gathered)| {
            let percentiles = gathered.finish();
            let held = percentiles.iter().find(|p| p.quantile == HELD).and_then(Percentile::best);
            let slow = reader.all::<SlowRatio<'_>>().filter(|s| s.datname == datname).fold(
                [None; 2],
                |mut both, s| {
                    both[usize::from(s.window != WINDOWS[0])] = Some(s.ratio);
                    both
                },
            );
            let label =
                objective.map_or_else(String::new, |o| format!("Share over {}", duration(o)));
            LatencyRow {
                datname: datname.to_owned(),
                held: ConsoleFigure::new(
                    format!("p95 of {datname}"),
                    held,
                    Measure::Seconds,
                    reader.origin::<QueryLatency<'_>>(Some(datname), PLAIN),
                )
                .held_to(objective.map(Objective::AtMost)),
                slow: ConsoleFigure::new(
                    label,
                    slow[0].or(slow[1]),
                    Measure::Ratio,
                    reader.origin::<SlowRatio<'_>>(Some(datname), PLAIN),
                ),
                exact_ratio: reader
                    .all::<ExactRatio<'_>>()
                    .find(|e| e.datname == datname)
                    .map(|e| e.ratio),
                percentiles,
            }
        })
        .collect();
    databases.sort_by(|a, b| {
        b.held.value.partial_cmp(&a.held.value).unwrap_or(std::cmp::Ordering::Equal)
    });
    LatencyView {
        databases,
        objective_seconds: objective,
        origins: vec![
            reader.origin::<QueryLatency<'_>>(None, PLAIN),
            reader.origin::<QueryLow<'_>>(None, PLAIN),
            reader.origin::<QueryHigh<'_>>(None, PLAIN),
            reader.origin::<LatencyObjective<'_>>(None, PLAIN),
            reader.origin::<SlowRatio<'_>>(None, PLAIN),
        ],
    }
}

/// A logarithmic axis in whole powers of ten.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Decades {
    first: f64,
    last: f64,
}

impl Decades {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let (mut low, mut high): (f64, f64) = (1e-3, 1e-1);
        for v in values.filter(|v| *v > 0.0 && v.is_finite()) {
            (low, high) = (low.min(v), high.max(v));
        }
        Self { first: low.log10().floor().max(-7.0), last: high.log10().ceil().min(5.0) }
    }

    /// In per cent.
    fn at(self, seconds: f64) -> f64 {
        let at = seconds.max(1e-9).log10();
        ((at - self.first) / (self.last - self.first) * 100.0).clamp(0.0, 100.0)
    }

    fn marks(self) -> Vec<f64> {
        let mut marks = Vec::new();
        let mut at = self.first;
        while at <= self.last {
            marks.push(10_f64.powf(at));
            at += 1.0;
        }
        marks
    }
}

fn pc(value: f64) -> String {
    format!("{value:.2}%")
}

fn name(p: &Percentile) -> String {
    p.quantile.parse::<f64>().map_or_else(|_| p.quantile.clone(), |q| format!("p{:.0}", q * 100.0))
}

/// The panel: so many databases, the slowest first.
pub fn panel(latencies: &LatencyView, most: usize, link: Option<&str>, metrics: &str) -> Markup {
    let more = latencies.databases.len().saturating_sub(most);
    html! {
        section.panel id="latency" aria-labelledby="latency-h" {
            header { h2 id="latency-h" { "Query latency" } (panel_age(&latencies.origins)) }
            @if latencies.databases.is_empty() {
                p.none { "No calls were seen yet, or pg_stat_statements cannot be read: the collectors' page says which." }
            }
            @for row in latencies.databases.iter().take(most) { (database(row, latencies.objective_seconds)) }
            @if !latencies.databases.is_empty() {
                p.note {
                    "Bar: last minute with its error, which holds in nine of ten cases. Circle: last 5 minutes. Dashed: \
                     objective of p95. Executor time, not the client\u{2019}s. "
                    @if let Some(link) = link { @if more > 0 { (more) " more databases. " } a href=(link) { "Statements" } }
                }
                (sources(&latencies.origins, metrics))
            }
        }
    }
}

fn database(row: &LatencyRow, objective: Option<f64>) -> Markup {
    let values = row.percentiles.iter().flat_map(|p| {
        [p.seconds, p.seconds_5m, p.bar().map(|b| b.0), p.bar().map(|b| b.1)].into_iter().flatten()
    });
    let scale = Decades::of(values.chain(objective));
    let limit = objective.map(|o| scale.at(o));
    html! {
        h3.db { code { (row.datname) } @if row.held.beyond { " " span.warn { (icon("warn")) " p95 over its objective" } } }
        ul.lat {
            @for p in &row.percentiles {
                li {
                    b { (name(p)) }
                    svg.tl width="100%" height="30" role="img" aria-label=(spoken(p, objective)) {
                        @if let Some(limit) = limit { rect.over x=(pc(limit)) width=(pc(100.0 - limit)) height="30" {} }
                        @for mark in scale.marks() { line.grid x1=(pc(scale.at(mark))) x2=(pc(scale.at(mark))) y2="30" {} }
                        @if let Some(limit) = limit { line.obj x1=(pc(limit)) x2=(pc(limit)) y2="30" {} }
                        @if let Some((low, high)) = p.bar() {
                            @let (x, end) = (scale.at(low), scale.at(high));
                            rect.err x=(pc(x)) y="9" width=(pc((end - x).max(0.2))) height="12" {}
                        }
                        @if let Some(at) = p.seconds.map(|s| pc(scale.at(s))) { line.mid x1=(at) x2=(at) y1="7" y2="23" {} }
                        @if let Some(at) = p.seconds_5m { circle.dot5 cx=(pc(scale.at(at))) cy="15" r="3" {} }
                    }
                    div.v title=(row.held.hint()) {
                        strong { (p.best().map_or_else(|| "\u{2014}".to_owned(), duration)) }
                        " " small { @if let Some((low, high)) = p.bar() { (duration(low)) "\u{2013}" (duration(high)) } }
                    }
                }
            }
            li {
                span {}
                svg.ax width="100%" height="16" aria-hidden="true" {
                    @let marks = scale.marks();
                    @for (i, mark) in marks.iter().enumerate() {
                        @let anchor = if i == 0 { "start" } else if i + 1 == marks.len() { "end" } else { "middle" };
                        text class=(if i % 2 == 1 { "dk" } else { "" }) x=(pc(scale.at(*mark))) y="11" text-anchor=(anchor) { (duration(*mark)) }
                    }
                }
                span {}
            }
        }
        @if row.slow.value.is_some() { ul.meters { (meter(&row.slow)) } }
        @if let Some(exact) = row.exact_ratio { p.note { (Measure::Ratio.show(exact)) " of the calls were timed exactly, the others estimated." } }
    }
}

fn spoken(p: &Percentile, objective: Option<f64>) -> String {
    let mut said = name(p);
    match p.best() {
        Some(best) => said.push_str(&format!(" {}", duration(best))),
        None => said.push_str(" not known"),
    }
    if let Some((low, high)) = p.bar() {
        said.push_str(&format!(", between {} and {}", duration(low), duration(high)));
    }
    if let Some(of_5m) = p.seconds_5m {
        said.push_str(&format!("; last 5 minutes {}", duration(of_5m)));
    }
    if let Some(objective) = objective {
        said.push_str(&format!("; objective of p95 {}", duration(objective)));
    }
    said
}

/// Three percentiles in a row of a table.
pub fn cells(percentiles: &[Percentile]) -> Markup {
    html! {
        @for wanted in ["0.5", "0.95", "0.99"] {
            @let p = percentiles.iter().find(|p| p.quantile == wanted);
            td.num data-l=(p.map_or_else(String::new, name)) {
                @match p.and_then(|p| p.best().map(|best| (p, best))) {
                    Some((p, best)) => {
                        (duration(best))
                        @if let Some((low, high)) = p.bar() { small { (duration(low)) "\u{2013}" (duration(high)) } }
                    },
                    None => { "\u{2014}" },
                }
            }
        }
    }
}
