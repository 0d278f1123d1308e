//! How far the exported latencies are from the truth: `cargo bench --bench accuracy`.
//!
//! Options after `--`: `--minutes N` (20 if not given), `--short` (what CI runs: 3 minutes), `--csv FILE`
//! (every single estimate). What is run and compared: `tests/measure`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark may panic and prints")]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/measure/mod.rs"]
mod measure;

use measure::Plan;

#[tokio::main]
async fn main() {
    let (mut plan, mut csv) = (Plan::long(20), None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            // cargo's own
            "--bench" => {}
            "--short" => plan = Plan::short(),
            "--minutes" => plan = Plan::long(args.next().unwrap().parse().unwrap()),
            "--csv" => csv = args.next(),
            other => panic!("what is {other}? --short, --minutes N or --csv FILE"),
        }
    }
    let report = measure::run(&plan).await;
    println!("{}", report.text());
    if let Some(file) = csv {
        std::fs::write(file, report.csv()).unwrap();
    }
}
