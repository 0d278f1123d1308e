//! How far the exported latencies are from the truth: `cargo bench --bench accuracy`.
//!
//! Options after `--`: `--minutes N` (20 if not given), `--short` (what CI runs: 3 minutes), `--csv FILE`
//! (every single estimate), `--record DIR` (what the view said and every execution), `--replay DIR` (what was recorded,
//! with two, four and six scans a poll: no run, and seconds). What is run and compared: `tests/measure`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark may panic and prints")]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/measure/mod.rs"]
mod measure;
#[path = "../tests/measure/replay.rs"]
mod replay;

use std::path::{Path, PathBuf};

use measure::Plan;
use measure::recipes::{Method, QUANTILES};

/// What the gauges are to reach over all statements and phases: median and 90th percentile.
const TARGETS: [(f64, Option<f64>); 3] = [(0.04, None), (0.04, Some(0.10)), (0.06, Some(0.25))];

#[tokio::main]
async fn main() {
    let (mut plan, mut csv, mut record) = (Plan::long(20), None, None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            // cargo's own
            "--bench" => {}
            "--short" => plan = Plan::short(),
            "--minutes" => plan = Plan::long(args.next().unwrap().parse().unwrap()),
            "--csv" => csv = args.next(),
            "--record" => record = args.next().map(PathBuf::from),
            "--replay" => return again(Path::new(&args.next().unwrap())),
            other => panic!(
                "what is {other}? --short, --minutes N, --csv FILE, --record or --replay DIR"
            ),
        }
    }
    if let Some(dir) = &record {
        std::fs::create_dir_all(dir).unwrap();
    }
    let (report, bars) = measure::run(&plan, record.as_deref()).await;
    println!("{}\n{}", report.text(), bars.text());
    assert!(report.truth_is_whole(), "the log and the view disagree: nothing above is sure");
    assert_eq!(bars.broken(), 0, "what is certain holds always");
    for (index, (_, label, _)) in QUANTILES.iter().enumerate() {
        let (median, p90) = report.pooled(Method::Gauge, index);
        let (most, most_p90) = TARGETS[index];
        let met = median <= most && most_p90.is_none_or(|most| p90 <= most);
        println!("target at {label}: {}", if met { "met" } else { "missed" });
    }
    if let Some(file) = csv {
        std::fs::write(file, report.csv()).unwrap();
    }
}

/// The scans of two, four and six a poll, by their places among those that are recorded; and two and six with one more at
/// half the period, which no poll has.
const SCANS: [(&str, &[usize], usize); 5] = [
    ("two scans", &[0, 3], 3),
    ("four scans", &[0, 1, 3, 5], 5),
    ("six scans", &[0, 1, 2, 3, 4, 5], 5),
    ("two, and one at half the period", &[0, 3, 7], 3),
    ("six, and one at half the period", &[0, 1, 2, 3, 4, 5, 7], 5),
];

fn again(dir: &Path) {
    let recording = replay::Recording::read(dir);
    for (name, places, looked_at) in SCANS {
        println!("{name}\n{}", recording.summary(&recording.replay(places, looked_at)));
    }
}
