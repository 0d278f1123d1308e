//! The section about statements: by p95 and by total time.
//!
//! Must not: show an estimate without saying so.

use super::document::{Block, Line, Table, figure, name, words};
use super::figures::{ReportFigures, within};
use super::gather::{Gathered, StatementRow};
use super::plot::{LatencySpread, Plot};
use crate::collectors::statements::published::Quantiles;
use crate::derive::units::seconds;
use crate::metric::Native;

/// Rows of a table.
const SHOWN: usize = 10;
const LENGTH: usize = 160;

/// The section.
pub fn section(gathered: &Gathered, figures: &ReportFigures<'_>, out: &mut Vec<Block>) {
    out.push(Block::Section("statements", "Statements"));
    let Some(all) = &gathered.statements else {
        out.push(Block::Text(Line::from(
            "Not known: `pg_stat_statements` could not be read, see Method.",
        )));
        return;
    };
    if all.is_empty() {
        out.push(Block::Text(Line::from("No statement ended while the server was watched.")));
        return;
    }
    let span = gathered.to - gathered.from;
    out.push(Block::Heading("By total time".to_owned()));
    let total: f64 = all.iter().map(|s| s.did.execution + s.did.planning).sum();
    let rows = all.iter().take(SHOWN).map(|s| {
        let time = s.did.execution + s.did.planning;
        vec![
            name(short(&s.text, &s.queryid)),
            words(s.datname.as_str()),
            figure(Some(format!("{:.1} %", time / total.max(f64::MIN_POSITIVE) * 100.0))),
            figure(Some(format!("{:.2}", s.did.calls / span))),
            figure(Some(seconds(s.did.execution / s.did.calls))),
            figure(s.did.plans.filter(|n| *n > 0.0).map(|n| seconds(s.did.planning / n))),
            figure(Some(format!("{:.1}", s.did.rows / s.did.calls))),
        ]
    });
    out.push(Block::Table(Table {
        head: vec![
            "statement",
            "database",
            "share of time",
            "calls/s",
            "mean execution",
            "mean planning",
            "rows a call",
        ],
        rows: rows.collect(),
    }));
    out.push(Block::Source(format!(
        "increments of pg_stat_statements over {}; planning only where track_planning is on",
        seconds(span)
    )));

    out.push(Block::Heading("By 95th percentile".to_owned()));
    let mut ranked: Vec<(&StatementRow, f64)> =
        all.iter().filter_map(|s| Some((s, figures.latency(s).p95?))).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked.truncate(SHOWN);
    if ranked.is_empty() {
        out.push(Block::Text(Line::from("Too few calls for percentiles.")));
        return;
    }
    let rows = ranked.iter().map(|(s, p95)| {
        vec![
            name(short(&s.text, &s.queryid)),
            words(s.datname.as_str()),
            figure(figures.latency(s).p50.map(seconds)),
            figure(Some(within(seconds(*p95), figures.latency(s).p95_off().map(seconds)))),
            figure(figures.latency(s).p99.map(seconds)),
            figure(Some(format!("{:.0}", s.did.calls))),
        ]
    });
    out.push(Block::Table(Table {
        head: vec!["statement", "database", "p50", "p95", "p99", "calls"],
        rows: rows.collect(),
    }));
    let target = gathered.objectives.latency;
    let spreads: Vec<LatencySpread> =
        ranked.iter().filter_map(|(s, _)| spread(figures, s, target)).collect();
    if !spreads.is_empty() {
        out.push(Block::Plot(Plot::Spreads {
            caption: "Estimated distribution of execution time; the dashed line is the objective"
                .to_owned(),
            rows: spreads,
        }));
    }
    out.push(Block::Source(
        "pg_statement_latency_seconds: estimated from increments of pg_stat_statements; ± holds in about nine \
         of ten cases, see docs/latency.md"
            .to_owned(),
    ));
}

fn spread(figures: &ReportFigures<'_>, row: &StatementRow, target: f64) -> Option<LatencySpread> {
    let Quantiles { p50, p95, p99, .. } = figures.latency(row);
    Some(LatencySpread {
        label: short(&row.text, &row.queryid),
        bins: figures.durations(row)?.native.as_ref().map(bins)?,
        quantiles: [p50?, p95?, p99?],
        target: Some(target),
    })
}

/// The share of calls by upper bound, empty bins between them included.
fn bins(native: &Native) -> Vec<(f64, f64)> {
    let all: u64 = native.zero_count + native.buckets.iter().map(|b| b.1).sum::<u64>();
    if all == 0 {
        return Vec::new();
    }
    let upper = |index: i32| 2_f64.powf(f64::from(index) / 2_f64.powi(native.schema));
    let mut bins = Vec::new();
    let mut last: Option<i32> = None;
    for (index, count) in &native.buckets {
        if last.is_none_or(|last| index - last > 1) {
            bins.push((upper(index - 1), 0.0));
        }
        // Counts of one report are far below 2^53.
        bins.push((upper(*index), *count as f64 / all as f64));
        last = Some(*index);
    }
    bins
}

/// A statement in one line.
pub(super) fn short(text: &str, queryid: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        return format!("queryid {queryid}");
    }
    match line.char_indices().nth(LENGTH) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}
