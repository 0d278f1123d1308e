//! The short form of `cargo bench --bench accuracy`: the exported latencies are about as near to the
//! truth as when `tests/accuracy.json` was recorded. `UPDATE_ACCURACY=1` records it anew.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;
mod measure;

use std::collections::BTreeMap;

use measure::Plan;
use measure::bars::LEVELS;
use measure::recipes::{Method, QUANTILES};

/// An error may be this many times the recorded one.
const FACTOR: f64 = 2.0;

/// Of the likely bars of all statements together, at least this part holds. They are made for nine of ten; the few
/// minutes of the short form are not many windows.
const LIKELY: f64 = 0.7;

/// Median and 90th percentile of the relative error, by method and quantile.
type Recorded = BTreeMap<String, BTreeMap<String, (f64, f64)>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latencies_are_as_near_to_the_truth_as_recorded() {
    let (report, bars) = measure::run(&Plan::short(), None).await;
    println!("{}\n{}", report.text(), bars.text());
    if let Some(file) = std::env::var_os("ACCURACY_CSV") {
        std::fs::write(file, report.csv()).unwrap();
    }
    assert!(report.truth_is_whole(), "the log and the view disagree");

    assert_eq!(bars.broken(), 0, "what is certain holds always");
    for (index, (_, label, _)) in QUANTILES.iter().enumerate() {
        let [likely, certain] = LEVELS.map(|level| bars.pooled(index, level).unwrap());
        assert!(likely.1[0] >= LIKELY, "p{label}: {:.3} of the likely bars hold", likely.1[0]);
        assert!(likely.2 <= certain.2, "p{label}: what is likely is wider than what is certain");
    }

    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/accuracy.json");
    let thousandths = |x: f64| (x * 1e3).round() / 1e3;
    let mut measured = Recorded::new();
    for method in [Method::Gauge, Method::Classic] {
        for (index, (_, label, _)) in QUANTILES.iter().enumerate() {
            let (median, p90) = report.pooled(method, index);
            let of = measured.entry(method.name().to_owned()).or_default();
            of.insert((*label).to_owned(), (thousandths(median), thousandths(p90)));
        }
    }
    if std::env::var_os("UPDATE_ACCURACY").is_some() {
        std::fs::write(file, serde_json::to_string_pretty(&measured).unwrap() + "\n").unwrap();
    }
    let recorded: Recorded = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(recorded.len(), measured.len());
    for (method, quantiles) in &recorded {
        for (quantile, (median, p90)) in quantiles {
            let now = measured[method][quantile];
            let place = format!("{method}, p{quantile}: {now:?}, recorded {:?}", (median, p90));
            assert!(now.0 <= FACTOR * median && now.1 <= FACTOR * p90, "{place}");
        }
    }
}
