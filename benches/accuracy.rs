//! How far the exported latencies are from the truth: `cargo bench --bench accuracy`.
//!
//! Options after `--`: `--minutes N` (20 if not given), `--short` (what CI runs: 3 minutes), `--csv FILE`
//! (every single estimate), `--calls FILE` (every execution). What is run and compared: `tests/measure`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark may panic and prints")]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/measure/mod.rs"]
mod measure;

use measure::Plan;
use measure::recipes::{Method, QUANTILES};

/// What the gauges are to reach over all statements and phases: median and 90th percentile.
const TARGETS: [(f64, Option<f64>); 3] = [(0.04, None), (0.04, Some(0.10)), (0.06, Some(0.25))];

#[tokio::main]
async fn main() {
    let (mut plan, mut csv, mut calls) = (Plan::long(20), None, None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            // cargo's own
            "--bench" => {}
            "--short" => plan = Plan::short(),
            "--minutes" => plan = Plan::long(args.next().unwrap().parse().unwrap()),
            "--csv" => csv = args.next(),
            "--calls" => calls = args.next(),
            other => panic!("what is {other}? --short, --minutes N, --csv FILE or --calls FILE"),
        }
    }
    let (report, bars, truth) = measure::run(&plan).await;
    println!("{}\n{}", report.text(), bars.text());
    assert!(report.truth_is_whole(), "the log and the view disagree: nothing above is sure");
    for (index, (_, label, _)) in QUANTILES.iter().enumerate() {
        let (median, p90) = report.pooled(Method::Gauge, index);
        let (most, most_p90) = TARGETS[index];
        let met = median <= most && most_p90.is_none_or(|most| p90 <= most);
        println!("target at {label}: {}", if met { "met" } else { "missed" });
    }
    if let Some(file) = csv {
        std::fs::write(file, report.csv()).unwrap();
    }
    if let Some(file) = calls {
        truth.write(&file).unwrap();
    }
}
