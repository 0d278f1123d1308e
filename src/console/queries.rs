//! Which statements take the time, how it is spread, and what they wait for.
//!
//! Must not: show a text that the configuration did not ask for, or where names and texts are to be hidden.

use std::collections::HashMap;

use maud::{Markup, html};
use serde::Serialize;

use super::figure::{Measure, duration, panel_age, sources};
use super::latency::{self, GatheredPercentiles, LatencyView, Percentile};
use super::read::{FigureOrigin, PLAIN, RATE, Reader};
use crate::collectors::activity::StatementWaitSeconds;
use crate::collectors::statements::published::{
    PublishedStatementText, StatementCalls, StatementDuration, StatementHigh, StatementLatency,
    StatementLow, StatementSeconds,
};
use crate::metric::Histogram;

/// Statements that are listed.
const MOST: usize = 50;
/// Bins of a shape.
const BINS: usize = 24;

/// One statement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatementView {
    /// Database.
    pub datname: String,
    /// Role.
    pub usename: String,
    /// `pg_stat_statements.queryid`; `other` is all that have no series of their own.
    pub queryid: String,
    /// Its text, where the configuration publishes texts.
    pub text: Option<String>,
    /// Calls since the server's statistics began.
    pub calls: Option<f64>,
    /// Executor time of those, in seconds.
    pub seconds: Option<f64>,
    /// Share of the time of all.
    pub share: Option<f64>,
    /// p50, p95 and p99 with their errors.
    pub percentiles: Vec<Percentile>,
    /// Upper bound in seconds and share of the calls, of bins with equal ratios.
    pub shape: Vec<(f64, f64)>,
    /// What it waited for, as shares of the time in which it was seen active.
    pub waits: Vec<(String, f64)>,
}

/// All of a target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Queries {
    /// By database.
    pub latencies: LatencyView,
    /// Those that took most time first.
    pub statements: Vec<StatementView>,
    /// Statements with series of their own.
    pub total: usize,
    /// Where the figures come from.
    pub origins: Vec<FigureOrigin>,
}

type Key<'a> = [&'a str; 3];

/// Reads them.
pub fn queries(reader: &Reader<'_>) -> Queries {
    let mut all: HashMap<Key<'_>, StatementView> = HashMap::new();
    let fresh = |[datname, usename, queryid]: Key<'_>| StatementView {
        datname: datname.to_owned(),
        usename: reader.private(usename).into_owned(),
        queryid: queryid.to_owned(),
        text: None,
        calls: None,
        seconds: None,
        share: None,
        percentiles: Vec::new(),
        shape: Vec::new(),
        waits: Vec::new(),
    };
    for s in reader.all::<StatementSeconds<'_>>() {
        let key = [s.datname, s.user, s.queryid];
        all.entry(key).or_insert_with(|| fresh(key)).seconds = Some(s.seconds);
    }
    for s in reader.all::<StatementCalls<'_>>() {
        let key = [s.datname, s.user, s.queryid];
        all.entry(key).or_insert_with(|| fresh(key)).calls = Some(s.count);
    }
    let total = all.keys().filter(|k| k[2] != "other").count();
    let whole: f64 = all.values().filter_map(|s| s.seconds).sum();
    let mut rows: Vec<(Key<'_>, StatementView)> = all.into_iter().collect();
    rows.sort_by(|a, b| {
        b.1.seconds
            .unwrap_or(0.0)
            .total_cmp(&a.1.seconds.unwrap_or(0.0))
            .then_with(|| a.0.cmp(&b.0))
    });
    rows.truncate(MOST);
    let mut at: HashMap<Key<'_>, usize> = HashMap::new();
    for (i, (key, row)) in rows.iter_mut().enumerate() {
        at.insert(*key, i);
        row.share = row.seconds.filter(|_| whole > 0.0).map(|s| s / whole);
    }
    let mut gathered: Vec<GatheredPercentiles> =
        rows.iter().map(|_| GatheredPercentiles::default()).collect();
    for s in reader.all::<StatementLatency<'_>>() {
        if let Some(i) = at.get(&[s.datname, s.usename, s.queryid]) {
            gathered[*i].take(s.window, s.quantile, s.seconds);
        }
    }
    for s in reader.all::<StatementLow<'_>>() {
        if let Some(i) = at.get(&[s.datname, s.usename, s.queryid]) {
            gathered[*i].take_end(true, [s.window, s.quantile, s.level], s.seconds);
        }
    }
    for s in reader.all::<StatementHigh<'_>>() {
        if let Some(i) = at.get(&[s.datname, s.usename, s.queryid]) {
            gathered[*i].take_end(false, [s.window, s.quantile, s.level], s.seconds);
        }
    }
    for s in reader.all::<StatementDuration<'_>>() {
        if let Some(i) = at.get(&[s.datname, s.usename, s.queryid]) {
            rows[*i].1.shape = shape(s.histogram);
        }
    }
    if !reader.hides {
        for s in reader.all::<PublishedStatementText<'_>>() {
            if let Some(i) = at.get(&[s.datname, s.usename, s.queryid]) {
                rows[*i].1.text = Some(s.query.to_owned());
            }
        }
    }
    for s in reader.all::<StatementWaitSeconds<'_>>() {
        if let Some(i) = at.get(&[s.datname, s.usename, s.queryid]) {
            rows[*i].1.waits.push((s.wait_event_type.to_owned(), s.seconds));
        }
    }
    let statements = rows.into_iter().zip(gathered).map(|((_, mut row), gathered)| {
        row.percentiles = gathered.finish();
        let waited: f64 = row.waits.iter().map(|(_, s)| s).sum();
        row.waits.iter_mut().for_each(|(_, s)| *s /= waited.max(f64::MIN_POSITIVE));
        row.waits.sort_by(|a, b| b.1.total_cmp(&a.1));
        row
    });
    Queries {
        latencies: latency::latencies(reader),
        statements: statements.collect(),
        total,
        origins: vec![
            reader.origin::<StatementSeconds<'_>>(None, RATE),
            reader.origin::<StatementCalls<'_>>(None, RATE),
            reader.origin::<StatementLatency<'_>>(None, PLAIN),
            reader.origin::<StatementLow<'_>>(None, PLAIN),
            reader.origin::<StatementHigh<'_>>(None, PLAIN),
            reader.origin::<StatementDuration<'_>>(None, RATE),
            reader.origin::<StatementWaitSeconds<'_>>(None, RATE),
        ],
    }
}

/// Shares of the calls by bins of the native grid, merged to so many at most.
fn shape(histogram: &Histogram) -> Vec<(f64, f64)> {
    let Some(native) = &histogram.native else { return Vec::new() };
    let (Some(first), Some(last)) = (native.buckets.first(), native.buckets.last()) else {
        return Vec::new();
    };
    let all: u64 = native.buckets.iter().map(|(_, n)| n).sum();
    if all == 0 {
        return Vec::new();
    }
    let span = usize::try_from(last.0 - first.0 + 1).unwrap_or(usize::MAX);
    let per = span.div_ceil(BINS).max(1);
    let mut bins = vec![0_u64; span.div_ceil(per)];
    for (index, count) in &native.buckets {
        let place = usize::try_from(index - first.0).unwrap_or(0) / per;
        if let Some(bin) = bins.get_mut(place) {
            *bin += count;
        }
    }
    let per_factor = 2_f64.powi(native.schema);
    bins.iter()
        .enumerate()
        .map(|(i, count)| {
            let end = f64::from(first.0) + ((i + 1) * per - 1) as f64;
            (2_f64.powf(end / per_factor), *count as f64 / all as f64)
        })
        .collect()
}

/// The shape as bars.
fn bars(shape: &[(f64, f64)]) -> Markup {
    let most = shape.iter().map(|(_, share)| *share).fold(0.0, f64::max);
    let (low, high) = (shape.first().map_or(0.0, |b| b.0), shape.last().map_or(0.0, |b| b.0));
    html! {
        @if most > 0.0 {
            svg.shape height="26" viewBox=(format!("0 0 {} 26", shape.len())) preserveAspectRatio="none" role="img"
                aria-label=(format!("Calls from {} to {}", duration(low), duration(high))) {
                @for (i, (_, share)) in shape.iter().enumerate() {
                    @let height = (share / most * 24.0).max(if *share > 0.0 { 1.0 } else { 0.0 });
                    rect.cov2 x=(format!("{:.2}", i as f64 + 0.08)) y=(format!("{:.1}", 26.0 - height)) width=".84" height=(format!("{height:.1}")) {}
                }
            }
            small { (duration(low)) "\u{2013}" (duration(high)) }
        }
    }
}

/// The page.
pub fn page(view: &Queries, metrics: &str) -> Markup {
    html! {
        (latency::panel(&view.latencies, usize::MAX, None, metrics))
        section.panel aria-labelledby="statements-h" {
            header { h2 id="statements-h" { "Statements by their time" } (panel_age(&view.origins)) }
            @if view.statements.is_empty() {
                p.none { "None has a series: pg_stat_statements cannot be read, or nothing ran yet. The collectors\u{2019} page says which." }
            } @else {
                div.scroll {
                    table.cards {
                        caption.sr { "Statements, those that took most time first" }
                        thead { tr {
                            th scope="col" { "Statement" } th.num scope="col" { "Time" } th.num scope="col" { "Calls" }
                            th.num scope="col" { "p50" } th.num scope="col" { "p95" } th.num scope="col" { "p99" }
                            th scope="col" { "Shape" } th scope="col" { "Waits" }
                        } }
                        tbody { @for s in &view.statements { (row(s)) } }
                    }
                }
                p.note {
                    (view.total) " statements have series of their own, of which those that took most time are shown. Time and calls are since \
                     the server\u{2019}s statistics began; percentiles are of the last minute, or else of the last five, with their error."
                }
                (sources(&view.origins, metrics))
            }
        }
    }
}

fn row(s: &StatementView) -> Markup {
    html! {
        tr {
            th.f scope="row" {
                @match &s.text {
                    Some(text) => { code.sql title=(text) { bdi { (text) } } },
                    None => { code { @if s.queryid == "other" { "all others" } @else { "queryid " (s.queryid) } } },
                }
                small { bdi { (s.datname) } " \u{b7} " bdi { (s.usename) } @if s.text.is_some() { " \u{b7} " (s.queryid) } }
            }
            td.num data-l="time" {
                (s.seconds.map_or_else(|| "\u{2014}".to_owned(), duration))
                @if let Some(share) = s.share { small { (Measure::Ratio.show(share)) } }
            }
            td.num data-l="calls" { (s.calls.map_or_else(|| "\u{2014}".to_owned(), |c| Measure::Count.show(c))) }
            (latency::cells(&s.percentiles))
            td.shape data-l="shape" { (bars(&s.shape)) }
            td data-l="waits" {
                @for (name, share) in s.waits.iter().take(3) { div { (name) " " small.in { (Measure::Ratio.show(*share)) } } }
            }
        }
    }
}
