//! Golden files for the collectors' unit tests: fixed rows in, exposition text out.
//!
//! Must not: be used outside tests, or hide what the sink refused.

use std::path::PathBuf;

use crate::collector::Collector;
use crate::metric::{Family, Refused, Sink, Value};

/// Derives one poll; a refused sample fails the test.
pub(super) fn poll<C: Collector>(
    collector: &C,
    state: &mut C::State,
    rows: C::Rows,
) -> Vec<Family> {
    let mut sink = Sink::new(C::METRICS, 100_000);
    collector.derive(state, rows, &mut sink);
    let (families, refused) = sink.finish();
    assert_eq!(refused, Refused::default());
    families
}

/// The value of one series, `None` where there is no sample.
pub(super) fn value(families: &[Family], name: &str, labels: &[&str]) -> Option<f64> {
    let family = families.iter().find(|f| f.metric.name == name)?;
    let sample = family.samples.iter().find(|s| s.labels.iter().map(|l| &**l).eq(labels.to_vec()));
    match sample?.value {
        Value::Number(n) => Some(n),
        Value::Histogram(_) => None,
    }
}

/// Compares with `tests/golden/NAME.prom`, or rewrites it where `UPDATE_GOLDEN` is set.
pub(super) fn check(name: &str, families: &[Family]) {
    let path: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "tests", "golden", &format!("{name}.prom")].iter().collect();
    let text = crate::render::text_of(families).unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, golden, "{} differs; UPDATE_GOLDEN=1 rewrites it", path.display());
}
