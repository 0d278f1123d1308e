//! The summary of a drive.
//!
//! Must not: work out what it prints.

use std::io::{self, Write};
use std::time::Duration;

use crate::cmd::trading::DurationHistogram;
use crate::cmd::trading::drive::Tally;

/// What a drive did: rate, missed, errors by kind, latencies.
pub fn drive(
    out: &mut dyn Write,
    tally: &Tally,
    rate: f64,
    took: Duration,
    stopped: bool,
) -> io::Result<()> {
    let latencies = tally.latencies();
    let word = if stopped { "stopped" } else { "driven" };
    let per_second = tally.queries() as f64 / took.as_secs_f64().max(1e-3);
    writeln!(
        out,
        "{word}: {} queries and {} inserts in {:.1} s: {per_second:.1} queries/s of {rate}/s",
        tally.queries(),
        tally.inserts(),
        took.as_secs_f64()
    )?;
    let errors = tally.errors();
    let failed: u64 = errors.values().sum();
    writeln!(
        out,
        "due: {} calls; answered {}, errors {failed}, missed {} (over 10 s late)",
        tally.due(),
        tally.queries() + tally.inserts(),
        tally.missed()
    )?;
    for (kind, count) in &errors {
        let kind: String = kind.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        writeln!(out, "  {count} errors: {kind}")?;
    }
    writeln!(
        out,
        "\n{:<28}{:>9}{:>12}{:>12}{:>12}{:>12}",
        "latency since due", "calls", "p50", "p95", "p99", "max"
    )?;
    for (name, histogram) in &latencies.calls {
        line(out, name, histogram)?;
    }
    line(out, "all, missed included", &latencies.all)?;
    writeln!(
        out,
        "Client round trips from when a call was due, not from when it was sent. Percentiles are from a \
         histogram, at most 0.8 % high; max is exact."
    )?;
    out.flush()
}

fn line(out: &mut dyn Write, name: &str, histogram: &DurationHistogram) -> io::Result<()> {
    let [p50, p95, p99] = [50.0, 95.0, 99.0].map(|p| histogram.percentile(p));
    let max = (histogram.count() > 0).then(|| histogram.max());
    let [p50, p95, p99, max] = [p50, p95, p99, max].map(|duration| {
        duration.map_or_else(|| "-".to_owned(), |d| format!("{:.2} ms", d.as_secs_f64() * 1e3))
    });
    writeln!(out, "{name:<28}{:>9}{p50:>12}{p95:>12}{p99:>12}{max:>12}", histogram.count())
}
