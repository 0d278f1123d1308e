//! Reads figures out of a snapshot, as a scraper would see them.
//!
//! Must not: derive one that the exporter does not publish.

use std::sync::Arc;

use crate::metric::{Histogram, Sample, Value};
use crate::snapshot::Snapshot;

/// A series: its labels by name, and its value.
#[derive(Clone, Copy)]
pub struct Series<'a> {
    names: &'static [&'static str],
    sample: &'a Sample,
}

impl<'a> Series<'a> {
    /// A label's value; empty where the metric has no such label.
    pub fn label(&self, name: &str) -> &'a str {
        let at = self.names.iter().position(|n| *n == name);
        at.and_then(|i| self.sample.labels.get(i)).map_or("", |value| value)
    }

    /// The value; `None` of a histogram.
    pub fn number(&self) -> Option<f64> {
        match self.sample.value {
            Value::Number(n) => Some(n),
            Value::Histogram(_) => None,
        }
    }

    /// The histogram.
    pub fn histogram(&self) -> Option<&'a Arc<Histogram>> {
        match &self.sample.value {
            Value::Histogram(h) => Some(h),
            Value::Number(_) => None,
        }
    }

    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(name, value)| self.label(name) == *value)
    }
}

/// All series of a metric with these labels.
pub fn series<'a>(
    snapshot: &'a Snapshot,
    metric: &'a str,
    labels: &'a [(&'a str, &'a str)],
) -> impl Iterator<Item = Series<'a>> {
    snapshot
        .families
        .iter()
        .filter(move |family| family.metric.name == metric)
        .flat_map(|family| {
            let names = family.metric.labels;
            family.samples.iter().map(move |sample| Series { names, sample })
        })
        .filter(move |series| series.has(labels))
}

/// The value of the one series with these labels.
pub fn number(snapshot: &Snapshot, metric: &str, labels: &[(&str, &str)]) -> Option<f64> {
    series(snapshot, metric, labels).next()?.number()
}
