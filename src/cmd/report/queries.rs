//! The section about benchmarked queries: `pgrunway bench`, run for the report.
//!
//! Must not: measure anything itself.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::document::{Block, Cell, Line, Mark, Table, figure, name, words};
use super::plot::{LatencySpread, Plot};
use crate::cmd::bench::{
    self, BenchEnded, BenchFormat, BenchOptions,
    document::{BenchDocument, Measured, Mode},
};
use crate::cmd::file;
use crate::config::Config;
use crate::derive::units::seconds;
use crate::findings;

/// What was measured.
#[derive(Debug, Clone)]
pub struct Benched {
    /// The benchmark's own document.
    pub document: BenchDocument,
    /// Round trips in seconds by name of the query and mode.
    pub samples: HashMap<(String, Mode), Vec<f64>>,
}

/// Runs the benchmark of a file.
///
/// # Errors
/// As [`bench::run`], but a missed target is none.
pub async fn measure(config: &Config, file: &Path) -> anyhow::Result<Benched> {
    let folder = file::private_folder("report")?;
    let raw = folder.path().join("samples");
    let options = options(file, &raw);
    let mut out = Vec::new();
    match bench::run(config, &options, &mut out, None, std::future::pending()).await {
        Ok(()) => {}
        // What could be measured is in the document all the same.
        Err(e) if e.is::<BenchEnded>() => {}
        Err(e) => return Err(e),
    }
    let document = serde_json::from_slice(&out).context("the benchmark's document")?;
    let samples = samples(&std::fs::read_to_string(&raw).context("the benchmark's samples")?);
    Ok(Benched { document, samples })
}

/// As many executions as give a p99, in both modes, nothing saved or compared.
fn options(file: &Path, raw: &Path) -> BenchOptions {
    BenchOptions {
        file: file.to_owned(),
        database: None,
        only: Vec::new(),
        modes: vec![Mode::Unprepared, Mode::Prepared],
        iterations: Some(400),
        duration: None,
        warmup: 20,
        rounds: 10,
        concurrency: 1,
        seed: 1,
        percentile: 95.0,
        read_write: false,
        timeout: Duration::from_secs(30),
        set: Vec::new(),
        save: None,
        compare: None,
        min_change: 0.1,
        confirm: 0,
        format: BenchFormat::Json,
        raw: Some(raw.to_owned()),
    }
}

/// Lines of query, mode, round and nanoseconds, below a head.
fn samples(text: &str) -> HashMap<(String, Mode), Vec<f64>> {
    let mut samples: HashMap<(String, Mode), Vec<f64>> = HashMap::new();
    for line in text.lines().skip(1) {
        let mut cells = line.rsplitn(4, ',');
        let nanos: Option<f64> = cells.next().and_then(|n| n.parse().ok());
        let mode = match cells.nth(1) {
            Some("prepared") => Mode::Prepared,
            _ => Mode::Unprepared,
        };
        if let (Some(nanos), Some(query)) = (nanos, cells.next()) {
            samples.entry((query.to_owned(), mode)).or_default().push(nanos / 1e9);
        }
    }
    samples
}

/// Of the table of which most partitions were left in the plan: how many, and how many it has.
fn planned(modes: &[Measured]) -> Option<(String, [f64; 2])> {
    let explain = modes.iter().find(|m| m.mode == Mode::Unprepared)?.explain.as_ref()?;
    let most = explain.partitions.iter().max_by_key(|p| p.scanned + p.unreached)?;
    Some((most.table.clone(), [(most.scanned + most.unreached) as f64, most.total as f64]))
}

impl Benched {
    /// For the rules: medians of both modes, and what the plan holds when it is made at each call.
    pub fn facts(&self) -> Vec<findings::BenchFacts> {
        let median = |modes: &[Measured], mode| {
            modes.iter().find(|m| m.mode == mode)?.round_trip.map(|r| r.p50)
        };
        let each = self.document.queries.iter().filter_map(|q| {
            Some(findings::BenchFacts {
                name: q.name.clone(),
                unprepared: median(&q.modes, Mode::Unprepared)?,
                prepared: median(&q.modes, Mode::Prepared)?,
                planned: planned(&q.modes),
            })
        });
        each.collect()
    }

    /// Lines for the summary: what missed its target or could not be run.
    pub fn verdicts(&self) -> Vec<(Mark, Line)> {
        let mut verdicts = Vec::new();
        for query in &self.document.queries {
            if let Some(failure) = &query.failure {
                let text = format!(" could not be run: {}.", failure.message);
                verdicts.push((Mark::Bad, Line::default().strong(query.name.as_str()).text(text)));
            }
            for m in &query.modes {
                if let Some(failure) = &m.failure {
                    let text = format!(" ({}) failed: {}.", m.mode, failure.message);
                    verdicts
                        .push((Mark::Bad, Line::default().strong(query.name.as_str()).text(text)));
                }
                if let (Some(false), Some(target), Some(trip)) =
                    (m.met, query.target_seconds, m.round_trip)
                {
                    let text = format!(
                        " ({}) misses its target: p95 {}, target {}.",
                        m.mode,
                        seconds(trip.judged),
                        seconds(target)
                    );
                    let line = Line::default().strong(query.name.as_str()).text(text);
                    verdicts.push((Mark::Warning, line));
                }
            }
        }
        verdicts
    }
}

/// The section.
pub fn section(benched: Option<&Benched>, out: &mut Vec<Block>) {
    out.push(Block::Section("benchmarks", "Query benchmarks"));
    let Some(benched) = benched else {
        out.push(Block::Text(Line::from(
            "Not measured: name a file of queries with `--queries`, such as `examples/trading.sql`.",
        )));
        return;
    };
    let document = &benched.document;
    let mut rows = Vec::new();
    for query in &document.queries {
        for m in &query.modes {
            rows.push(row(&query.name, query.target_seconds, m));
        }
    }
    out.push(Block::Table(Table {
        head: vec![
            "query",
            "mode",
            "status",
            "target",
            "p50",
            "p95",
            "p99",
            "max",
            "planning",
            "execution",
            "rows",
        ],
        rows,
    }));
    let mut spreads = Vec::new();
    for query in &document.queries {
        for m in &query.modes {
            let samples = benched.samples.get(&(query.name.clone(), m.mode));
            if let (Some(trip), Some(samples)) = (m.round_trip, samples) {
                spreads.push(LatencySpread {
                    label: format!("{} ({})", query.name, m.mode),
                    bins: bins(samples),
                    quantiles: [trip.p50, trip.p95, trip.p99],
                    target: query.target_seconds,
                });
            }
        }
    }
    out.push(Block::Plot(Plot::Spreads {
        caption: "Round trips of every execution; the dashed line is the target".to_owned(),
        rows: spreads,
    }));
    let run = &document.run;
    out.push(Block::Source(format!(
        "round trips measured by pgrunway at {} over a {} socket, {} executions each at concurrency {}, \
         nothing explained meanwhile; planning, execution and rows are medians of EXPLAIN (ANALYZE) in \
         separate runs",
        document.taken_at,
        run.connection,
        run.iterations.map_or_else(|| "timed".to_owned(), |n| n.to_string()),
        run.concurrency
    )));
    out.push(Block::Heading("How they are executed".to_owned()));
    let mut rows = Vec::new();
    for query in &document.queries {
        for m in &query.modes {
            let Some(explain) = &m.explain else { continue };
            let partitions: Vec<String> = explain
                .partitions
                .iter()
                .map(|p| {
                    format!("{}: {} of {} read, {} pruned", p.table, p.scanned, p.total, p.pruned)
                })
                .collect();
            rows.push(vec![
                name(query.name.as_str()),
                words(m.mode.to_string()),
                name(explain.scans.join(", ")),
                words(partitions.join("; ")),
                figure(Some(format!("{:.0}", explain.buffers.hit))),
                figure(Some(format!("{:.0}", explain.buffers.read))),
                words(if explain.jit_functions > 0.0 { "compiled" } else { "no" }),
                figure(Some(format!("{:.0}", explain.temp_blocks_written))),
            ]);
        }
    }
    out.push(Block::Table(Table {
        head: vec![
            "query",
            "mode",
            "scans",
            "partitions",
            "blocks hit",
            "blocks read",
            "JIT",
            "temporary blocks",
        ],
        rows,
    }));
    out.push(Block::Source("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)".to_owned()));
}

fn row(query: &str, target: Option<f64>, m: &Measured) -> Vec<Cell> {
    let status = match (m.met, &m.failure) {
        (_, Some(_)) => Cell::Mark(Mark::Bad, "FAILED"),
        (Some(true), None) => Cell::Mark(Mark::Good, "PASS"),
        (Some(false), None) => Cell::Mark(Mark::Warning, "MISSED"),
        (None, None) => words("no target"),
    };
    let trip = |of: fn(&bench::document::RoundTrip) -> f64| {
        figure(m.round_trip.as_ref().map(|r| seconds(of(r))))
    };
    let explain = |of: fn(&bench::document::Explain) -> f64| m.explain.as_ref().map(of);
    vec![
        name(query),
        words(m.mode.to_string()),
        status,
        figure(target.map(seconds)),
        trip(|r| r.p50),
        trip(|r| r.p95),
        trip(|r| r.p99),
        trip(|r| r.max),
        figure(explain(|e| e.planning_seconds.median).map(seconds)),
        figure(explain(|e| e.execution_seconds.median).map(seconds)),
        figure(explain(|e| e.rows).map(|n| format!("{n:.0}"))),
    ]
}

/// The share of the samples by upper bound, twelve bins to a factor of ten.
fn bins(samples: &[f64]) -> Vec<(f64, f64)> {
    const PER_DECADE: f64 = 12.0;
    let mut counts = std::collections::BTreeMap::new();
    for sample in samples {
        #[expect(clippy::cast_possible_truncation, reason = "a handful of decades")]
        let bin = (sample.max(1e-9).log10() * PER_DECADE).ceil() as i32;
        *counts.entry(bin).or_insert(0_u32) += 1;
    }
    let upper = |bin: i32| 10_f64.powf(f64::from(bin) / PER_DECADE);
    let mut bins = Vec::new();
    let mut last = None;
    for (bin, count) in counts {
        if last != Some(bin - 1) {
            bins.push((upper(bin - 1), 0.0));
        }
        // Some thousands of samples.
        bins.push((upper(bin), f64::from(count) / samples.len() as f64));
        last = Some(bin);
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_and_binned() {
        let text = "query,mode,round,nanoseconds\na,prepared,1,1000000\na,prepared,2,1000000\n\
                    a,unprepared,1,20000000\n";
        let samples = samples(text);
        assert_eq!(samples[&("a".to_owned(), Mode::Prepared)], [0.001, 0.001]);
        assert_eq!(samples[&("a".to_owned(), Mode::Unprepared)], [0.02]);
        let bins = bins(&[0.001, 0.001, 0.02, 0.02]);
        assert_eq!(bins.iter().map(|b| b.1).collect::<Vec<_>>(), [0.0, 0.5, 0.0, 0.5]);
        assert!(bins.windows(2).all(|b| b[0].0 < b[1].0), "{bins:?}");
    }
}
