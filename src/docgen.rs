//! Reference documentation from the code, so that it cannot disagree with it. `tests/docs.rs`
//! compares the files in `docs/` with it, and writes them with `UPDATE_DOCS=1`.
//!
//! Must not: hold a fact of its own.

use std::fmt::Write;

use crate::collector::Scope;
use crate::collectors::ALL;
use crate::metric::{Kind, Metric};
use crate::{render, snapshot};

/// Every metric that pgrunway may emit, except the process collector's.
pub fn catalogue() -> Vec<&'static Metric> {
    ALL.iter()
        .flat_map(|c| c.metrics())
        .chain(snapshot::METRICS)
        .chain(render::METRICS)
        .copied()
        .collect()
}

/// `docs/metrics.md`.
pub fn metrics() -> String {
    let mut out = String::from(
        "# Metrics\n\nGenerated from the code: `UPDATE_DOCS=1 cargo test --test docs` rewrites it.\n",
    );
    for collector in ALL {
        let per = match collector.scope() {
            Scope::Server => "once per server",
            Scope::Database => "once per database",
        };
        let _ = write!(
            out,
            "\n## Collector `{}`\n\n{} It runs {per}, every {} s unless it adapts or you say \
             otherwise, and is {} by default.\n\n",
            collector.name(),
            collector.help(),
            collector.default_interval().as_secs_f64(),
            if collector.default_on() { "on" } else { "off" },
        );
        table(&mut out, collector.metrics());
    }
    out.push_str("\n## About the target and the collectors\n\n");
    table(&mut out, snapshot::METRICS);
    out.push_str("\n## About this process\n\n");
    table(&mut out, render::METRICS);
    let process: Vec<String> = render::PROCESS_METRICS.iter().map(|n| format!("`{n}`")).collect();
    let _ = writeln!(out, "\nand, from /proc/self: {}.", process.join(", "));
    out
}

fn table(out: &mut String, metrics: &[&Metric]) {
    out.push_str("| metric | type | labels | what it is |\n|---|---|---|---|\n");
    for metric in metrics {
        let kind = match metric.kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
            Kind::Untyped => "untyped",
        };
        let labels: Vec<String> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
        let help = metric.help.replace('|', "\\|");
        let _ = writeln!(out, "| `{}` | {kind} | {} | {help} |", metric.name, labels.join(", "));
    }
}

/// The table of collectors in the README.
pub fn collectors() -> String {
    let mut out = String::from("| collector | default | what it reads |\n|---|---|---|\n");
    for c in ALL {
        let on = if c.default_on() { "on" } else { "off" };
        let _ = writeln!(
            out,
            "| `{}` | {on}, {} s | {} |",
            c.name(),
            c.default_interval().as_secs_f64(),
            c.help().replace('|', "\\|")
        );
    }
    out
}
