//! VerdictsView on indexes, foreign keys and tables that are read whole, with their evidence.
//!
//! Must not: recommend beyond what the rules found.

use std::collections::HashMap;

use maud::{Markup, html};
use serde::Serialize;

use super::figure::{Measure, duration, panel_age, sources};
use super::finds::{self, Found};
use super::icons::icon;
use super::read::{FigureOrigin, PLAIN, Reader};
use crate::collectors::index_health::{
    DuplicateIndex, ExpectedMissing, IndexBloat, IndexCoverage, IndexVerdicts, RedundantIndex,
    SeqScansDominate, UnindexedKey, UnusedIndex, UnusedWindow,
};
use crate::collectors::sizes::IndexSize;

/// Rows that are shown.
const MOST: usize = 200;

/// One verdict.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerdictRow {
    /// What is the matter.
    pub verdict: &'static str,
    /// Database.
    pub datname: String,
    /// Schema and table.
    pub table: String,
    /// Index or constraint; absent for a table.
    pub name: Option<String>,
    /// On what evidence.
    pub evidence: String,
    /// Bytes of the index.
    pub size_bytes: Option<f64>,
    /// Where it comes from.
    pub origin: FigureOrigin,
}

/// All of a target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerdictsView {
    /// Database, verdict, and how many have it.
    pub counts: Vec<(String, String, f64)>,
    /// The largest first.
    pub verdicts: Vec<VerdictRow>,
    /// All of them.
    pub total: usize,
    /// Database and seconds for which its statistics have counted.
    pub windows: Vec<(String, f64)>,
    /// What the rules found.
    pub findings: Vec<Found>,
    /// Where the figures come from.
    pub origins: Vec<FigureOrigin>,
}

/// Reads them.
pub fn verdicts(reader: &Reader<'_>) -> VerdictsView {
    let sizes: HashMap<[&str; 4], f64> = reader
        .all::<IndexSize<'_>>()
        .map(|s| ([s.datname, s.schemaname, s.relname, s.indexrelname], s.bytes))
        .collect();
    let windows: Vec<(&str, f64)> =
        reader.all::<UnusedWindow<'_>>().map(|w| (w.datname, w.seconds)).collect();
    let mut all = Vec::new();
    let mut push = |verdict: &'static str,
                    [datname, schema, table, name]: [&str; 4],
                    evidence: String,
                    origin: FigureOrigin| {
        all.push(VerdictRow {
            verdict,
            datname: datname.to_owned(),
            table: format!("{schema}.{table}"),
            name: (!name.is_empty()).then(|| name.to_owned()),
            evidence,
            size_bytes: sizes.get(&[datname, schema, table, name]).copied(),
            origin,
        });
    };
    for s in reader.all::<UnusedIndex<'_>>() {
        let window = windows.iter().find(|(d, _)| *d == s.datname);
        let evidence = window.map_or_else(
            || "no scan on this server since its statistics began".to_owned(),
            |(_, seconds)| format!("no scan on this server for {}", duration(*seconds)),
        );
        push(
            "unused",
            [s.datname, s.schemaname, s.relname, s.indexrelname],
            evidence,
            reader.origin::<UnusedIndex<'_>>(Some(s.datname), PLAIN),
        );
    }
    for s in reader.all::<DuplicateIndex<'_>>() {
        let evidence = format!("the same as {}", s.covered_by);
        push(
            "duplicate",
            [s.datname, s.schemaname, s.relname, s.indexrelname],
            evidence,
            reader.origin::<DuplicateIndex<'_>>(Some(s.datname), PLAIN),
        );
    }
    for s in reader.all::<RedundantIndex<'_>>() {
        let evidence = format!("{} serves what it serves", s.covered_by);
        push(
            "redundant",
            [s.datname, s.schemaname, s.relname, s.indexrelname],
            evidence,
            reader.origin::<RedundantIndex<'_>>(Some(s.datname), PLAIN),
        );
    }
    for s in reader.all::<IndexCoverage<'_>>().filter(|s| s.ratio < 1.0) {
        let evidence = format!("valid on {} of the partitions", Measure::Ratio.show(s.ratio));
        push(
            "not on all partitions",
            [s.datname, s.schemaname, s.relname, s.indexrelname],
            evidence,
            reader.origin::<IndexCoverage<'_>>(Some(s.datname), PLAIN),
        );
    }
    for s in reader.all::<IndexBloat<'_>>() {
        let size = sizes.get(&[s.datname, s.schemaname, s.relname, s.indexrelname]).copied();
        // What the rules take for bloat, they say; here it is a figure among others.
        if size.is_some_and(|size| s.bytes > size / 2.0 && s.bytes > f64::from(1 << 20)) {
            let evidence =
                format!("about {} more than if built anew", Measure::Bytes.show(s.bytes));
            push(
                "bloated",
                [s.datname, s.schemaname, s.relname, s.indexrelname],
                evidence,
                reader.origin::<IndexBloat<'_>>(Some(s.datname), PLAIN),
            );
        }
    }
    for s in reader.all::<UnindexedKey<'_>>() {
        let evidence = "no index begins with the columns of the foreign key".to_owned();
        push(
            "foreign key without an index",
            [s.datname, s.schemaname, s.relname, s.conname],
            evidence,
            reader.origin::<UnindexedKey<'_>>(Some(s.datname), PLAIN),
        );
    }
    for s in reader.all::<SeqScansDominate<'_>>() {
        let evidence = "read whole more often than by an index".to_owned();
        push(
            "sequential scans",
            [s.datname, s.schemaname, s.relname, ""],
            evidence,
            reader.origin::<SeqScansDominate<'_>>(Some(s.datname), PLAIN),
        );
    }
    for s in reader.all::<ExpectedMissing<'_>>().filter(|s| s.yes == 1.0) {
        let evidence = format!("expected by the configuration: {}", s.reason);
        push(
            "expected, not there",
            [s.datname, s.schemaname, s.relname, s.expected],
            evidence,
            reader.origin::<ExpectedMissing<'_>>(Some(s.datname), PLAIN),
        );
    }
    all.sort_by(|a, b| b.size_bytes.unwrap_or(0.0).total_cmp(&a.size_bytes.unwrap_or(0.0)));
    let total = all.len();
    all.truncate(MOST);
    let counts = reader.all::<IndexVerdicts<'_>>().filter(|c| c.count > 0.0);
    VerdictsView {
        counts: counts.map(|c| (c.datname.to_owned(), c.verdict.to_owned(), c.count)).collect(),
        verdicts: all,
        total,
        windows: windows.into_iter().map(|(d, s)| (d.to_owned(), s)).collect(),
        findings: finds::found(reader)
            .into_iter()
            .filter(|f| f.page == super::Page::Indexes.path())
            .collect(),
        origins: vec![
            reader.origin::<IndexVerdicts<'_>>(None, PLAIN),
            reader.origin::<UnusedIndex<'_>>(None, PLAIN),
            reader.origin::<RedundantIndex<'_>>(None, PLAIN),
            reader.origin::<DuplicateIndex<'_>>(None, PLAIN),
            reader.origin::<IndexSize<'_>>(None, PLAIN),
        ],
    }
}

/// The page.
pub fn page(view: &VerdictsView, metrics: &str) -> Markup {
    html! {
        @if !view.findings.is_empty() {
            section aria-label="Findings about indexes" { ol.finds { (finds::list(&view.findings)) } }
        }
        section.panel aria-labelledby="verdicts-h" {
            header { h2 id="verdicts-h" { "VerdictsView" } (panel_age(&view.origins)) }
            @if !view.counts.is_empty() {
                p.tally { @for (datname, verdict, count) in &view.counts { span { b { (Measure::Count.show(*count)) } " " (verdict.replace('_', " ")) " in " code { (datname) } } } }
            }
            @if view.verdicts.is_empty() { p.none { "No index, key or table has a verdict." } } @else {
                div.scroll {
                    table.cards {
                        caption.sr { "VerdictsView, the largest index first" }
                        thead { tr { th scope="col" { "Index" } th scope="col" { "Verdict" } th scope="col" { "Evidence" } th.num scope="col" { "Size" } } }
                        tbody {
                            @for v in &view.verdicts {
                                tr title=(super::figure::hint(&v.origin)) {
                                    th.f scope="row" {
                                        code { bdi { (v.name.as_deref().unwrap_or(&v.table)) } }
                                        small { bdi { (v.table) } " \u{b7} " bdi { (v.datname) } }
                                    }
                                    td { span.sev.warn { (icon("info")) " " (v.verdict) } }
                                    td.why.f { bdi { (v.evidence) } }
                                    td.num data-l="size" { (v.size_bytes.map_or_else(|| "\u{2014}".to_owned(), |b| Measure::Bytes.show(b))) }
                                }
                            }
                        }
                    }
                }
                @if view.total > view.verdicts.len() { p.note { (view.total - view.verdicts.len()) " more." } }
            }
            p.note {
                "An index that this server never scanned may be used on a standby. Statistics have counted "
                @for (i, (datname, seconds)) in view.windows.iter().enumerate() { @if i > 0 { ", " } "in " code { (datname) } " for " (duration(*seconds)) }
                "."
            }
            (sources(&view.origins, metrics))
        }
    }
}
