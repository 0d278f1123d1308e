//! The section with the database's statistics: sizes, cache, growth, connections.
//!
//! Must not: judge.

use super::document::{Block, Line, Table, figure, name, words};
use super::figures::{ReportFigures, TableFigures, within};
use super::gather::Gathered;
use super::plot::{Plot, PlotUnit};
use crate::derive::units::{bytes, seconds};

/// The section.
pub fn section(gathered: &Gathered, figures: &ReportFigures<'_>, out: &mut Vec<Block>) {
    out.push(Block::Section("statistics", "Statistics"));
    let share = |ratio: Option<f64>| figure(ratio.map(|r| PlotUnit::Ratio.show(r)));
    let time = |seconds: Option<f64>| figure(seconds.map(|s| PlotUnit::Seconds.show(s)));
    let rows = figures.databases.iter().filter_map(|(datname, d)| {
        Some(vec![
            name(*datname),
            figure(Some(bytes(d.size?))),
            share(d.hit_ratio),
            time(d.latency.p50),
            figure(d.latency.p95.map(|p95| {
                within(
                    PlotUnit::Seconds.show(p95),
                    d.latency.p95_off().map(|x| PlotUnit::Seconds.show(x)),
                )
            })),
            time(d.latency.p99),
            share(d.exact),
        ])
    });
    out.push(Block::Table(Table {
        head: vec!["database", "size", "cache hits", "p50", "p95", "p99", "observed exactly"],
        rows: rows.collect(),
    }));
    out.push(Block::Source(
        "pg_database_size(); pg_stat_database.blks_hit and blks_read over the ratio window; percentiles \
         of execution time over 5 minutes at most, estimated from pg_stat_statements; ± holds in about nine of \
         ten cases"
            .to_owned(),
    ));
    out.push(Block::Plot(Plot::Lines {
        caption: "Cache hit ratio over time; the dashed line is the objective".to_owned(),
        unit: PlotUnit::Ratio,
        series: gathered
            .cache
            .iter()
            .map(|(name, points)| (name.clone(), points.clone()))
            .collect(),
        limit: Some(gathered.objectives.cache_hit_ratio),
    }));

    out.push(Block::Heading("Largest tables".to_owned()));
    let each = figures.tables.iter();
    let mut tables: Vec<([&str; 3], f64, &TableFigures)> =
        each.filter_map(|(of, t)| Some((*of, t.size?, t))).collect();
    tables.sort_by(|a, b| (b.1 + b.2.indexes).total_cmp(&(a.1 + a.2.indexes)));
    tables.truncate(15);
    let label = |[_, schema, table]: [&str; 3]| format!("{schema}.{table}");
    let rows = tables.iter().map(|(of, size, t)| {
        vec![
            name(label(*of)),
            words(of[0]),
            figure(Some(bytes(*size))),
            figure(Some(bytes(t.indexes))),
            share(t.hit_ratio),
            share(t.scan_ratio),
        ]
    });
    out.push(Block::Table(Table {
        head: vec![
            "table",
            "database",
            "table and TOAST",
            "indexes",
            "cache hits",
            "scans by index",
        ],
        rows: rows.collect(),
    }));
    out.push(Block::Plot(Plot::Bars {
        caption: "Bytes on disk of the largest tables with their indexes".to_owned(),
        unit: PlotUnit::Bytes,
        rows: tables.iter().map(|(of, size, t)| (label(*of), size + t.indexes)).collect(),
    }));
    out.push(Block::Source(
        "pg_table_size(), pg_indexes_size(), partitions added up; ratios over the ratio window"
            .to_owned(),
    ));

    growth(gathered, out);

    out.push(Block::Heading("Connections".to_owned()));
    let mut rows = Vec::new();
    let count = |value: Option<f64>| figure(value.map(|n| format!("{n:.0}")));
    if let Some(peak) = &gathered.facts.connections {
        rows.push(vec![words("most at once"), count(Some(peak.peak))]);
        rows.push(vec![words("most running a statement at once"), count(Some(peak.peak_active))]);
    }
    rows.push(vec![words("in use at the end"), count(figures.connections)]);
    let most = gathered.facts.number("max_connections");
    rows.push(vec![words("max_connections"), count(most)]);
    out.push(Block::Table(Table { head: vec!["connections", "number"], rows }));
    out.push(Block::Source("pg_stat_activity, seen at each poll; pg_settings".to_owned()));
}

/// Each table that is partitioned by time, and each database as a whole, as far ahead as a year.
fn growth(gathered: &Gathered, out: &mut Vec<Block>) {
    out.push(Block::Heading("Growth".to_owned()));
    let mut rows = Vec::new();
    let mut add = |what,
                   database: &str,
                   now: f64,
                   pace: [Option<String>; 2],
                   after: &dyn Fn(f64) -> f64| {
        let [per_day, span] = pace;
        let mut row =
            vec![what, words(database), figure(Some(bytes(now))), figure(per_day), figure(span)];
        row.extend([30.0, 90.0, 365.0].map(|days| figure(Some(bytes(after(days))))));
        rows.push(row);
    };
    for database in &gathered.databases {
        let Some(growth) = database.facts.growth.as_ref().filter(|g| !g.tables.is_empty()) else {
            continue;
        };
        for t in &growth.tables {
            let estimated = if t.estimated { ", sizes estimated" } else { "" };
            let pace = [Some(bytes(t.per_day)), Some(format!("{}{estimated}", seconds(t.span)))];
            add(name(t.name.display()), &database.name, t.bytes, pace, &|days| t.after(days));
        }
        let per_day = growth.tables.iter().map(|t| t.per_day).sum();
        let pace = [Some(bytes(per_day)), None];
        add(words("all tables and indexes"), &database.name, growth.bytes, pace, &|days| {
            growth.after(days)
        });
    }
    if rows.is_empty() {
        let none = "Not measured: this needs a table that is partitioned by time, gets rows now, and has \
                    complete partitions whose sizes can be read.";
        out.push(Block::Text(Line::from(none)));
        return;
    }
    out.push(Block::Table(Table {
        head: vec![
            "table",
            "database",
            "size",
            "a day",
            "measured over",
            "in 30 days",
            "in 90 days",
            "in 365 days",
        ],
        rows,
    }));
    out.push(Block::Source(
        "sizes of partitions with TOAST and indexes (pg_table_size(), or where it says so pg_class.relpages), \
         pg_class.relpartbound: bytes a day of those that were complete when the current one began, by the \
         time of their keys. The columns ahead are projections: the same growth goes on, what could not be \
         measured stays the same, and only what has a max_age is dropped"
            .to_owned(),
    ));
}
