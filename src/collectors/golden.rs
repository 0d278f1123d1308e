//! Golden files for the collectors' unit tests: fixed rows in, exposition text out.
//!
//! Must not: be used outside tests, or hide what the sink refused.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::collector::Collector;
use crate::metric::{Family, Kind, Refused, Sink, Value};

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
    let text = text(families);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, golden, "{} differs; UPDATE_GOLDEN=1 rewrites it", path.display());
}

fn text(families: &[Family]) -> String {
    let mut out = String::new();
    for family in families {
        let metric = family.metric;
        let kind = match metric.kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
            Kind::Untyped => "untyped",
        };
        let help = metric.help.replace('\\', "\\\\").replace('\n', "\\n");
        writeln!(out, "# HELP {} {help}\n# TYPE {0} {kind}", metric.name).unwrap();
        for sample in &family.samples {
            let labels: Vec<String> = metric
                .labels
                .iter()
                .zip(&sample.labels)
                .map(|(name, value)| format!("{name}=\"{}\"", escape(value)))
                .collect();
            match &sample.value {
                Value::Number(value) => {
                    line(&mut out, metric.name, &labels, None, &number(*value));
                }
                Value::Histogram(h) => {
                    let bucket = format!("{}_bucket", metric.name);
                    let bounds = h.bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
                    for (le, count) in bounds.zip(h.cumulative.iter().chain([&h.count])) {
                        line(&mut out, &bucket, &labels, Some(le), &count.to_string());
                    }
                    line(&mut out, &format!("{}_sum", metric.name), &labels, None, &number(h.sum));
                    let count = h.count.to_string();
                    line(&mut out, &format!("{}_count", metric.name), &labels, None, &count);
                }
            }
        }
    }
    out
}

fn number(value: f64) -> String {
    if value == f64::INFINITY { "+Inf".into() } else { value.to_string() }
}

fn line(out: &mut String, name: &str, labels: &[String], le: Option<String>, value: &str) {
    let mut labels = labels.to_vec();
    labels.extend(le.map(|le| format!("le=\"{le}\"")));
    let labels =
        if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
    writeln!(out, "{name}{labels} {value}").unwrap();
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
