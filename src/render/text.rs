//! The text format 0.0.4, by the encoder of the `prometheus` crate.
//!
//! Must not: trust the crate with what it does not check (duplicates, names and types are held by
//! [`crate::metric::Sink`]; an empty family would fail the whole encode).

use std::collections::BTreeMap;

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram as ProtoHistogram, LabelPair, Metric as ProtoMetric,
    MetricFamily, MetricType,
};
use prometheus::{Encoder, TextEncoder};

use crate::metric::{Dress, Dressed, Family, Kind, Metric, Sample, Value};

/// The text of families, ours and those of the registry.
///
/// # Errors
/// Only if the encoder refuses a family, which [`crate::metric::Sink`] makes impossible.
pub(super) fn encode<'a>(
    ours: impl IntoIterator<Item = impl Into<Dressed<'a>>>,
    gathered: Vec<MetricFamily>,
) -> Result<Vec<u8>, prometheus::Error> {
    let mut families = Families::default();
    ours.into_iter().for_each(|family| families.merge(family.into()));
    for family in gathered {
        families.0.insert(family.name().to_owned(), (false, family));
    }
    families.encode()
}

/// Families by name, each with whether it goes out untyped.
#[derive(Default)]
struct Families(BTreeMap<String, (bool, MetricFamily)>);

impl Families {
    /// Adds a family's samples to those of the same name (one family per database arrives).
    fn merge(&mut self, Dressed { family, dress }: Dressed<'_>) {
        let metric = family.metric;
        let name = dress.name(metric);
        let kind = match metric.kind {
            // The crate panics on its own UNTYPED; `encode` corrects the type line.
            Kind::Gauge | Kind::Untyped => MetricType::GAUGE,
            Kind::Counter => MetricType::COUNTER,
            Kind::Histogram => MetricType::HISTOGRAM,
        };
        let (_, into) = self.0.entry(name.clone().into_owned()).or_insert_with(|| {
            let mut new = MetricFamily::default();
            new.set_name(name.into_owned());
            new.set_help(metric.help.to_owned());
            new.set_field_type(kind);
            (metric.kind == Kind::Untyped, new)
        });
        // Of two targets on one page a query of the user's own may have another type.
        if into.get_field_type() != kind {
            return;
        }
        into.mut_metric().extend(family.samples.iter().map(|s| proto(metric, s, dress)));
    }

    fn encode(self) -> Result<Vec<u8>, prometheus::Error> {
        let encoder = TextEncoder::new();
        let mut text = Vec::new();
        for (name, (untyped, family)) in self.0 {
            // An empty family is an error to the encoder.
            if family.get_metric().is_empty() {
                continue;
            }
            let infinite =
                family.get_metric().iter().any(|m| m.get_gauge().get_value().is_infinite());
            let start = text.len();
            encoder.encode(std::slice::from_ref(&family), &mut text)?;
            if untyped {
                let (wrong, right) =
                    (format!("# TYPE {name} gauge\n"), format!("# TYPE {name} untyped\n"));
                replace(&mut text, start, &wrong, &right);
            }
            if infinite {
                // The crate writes Rust's `inf`; the format's own spelling is `+Inf`. Nothing but a
                // value can stand before a line end, since labels have theirs escaped.
                replace(&mut text, start, " inf\n", " +Inf\n");
                replace(&mut text, start, " -inf\n", " -Inf\n");
            }
        }
        Ok(text)
    }
}

/// Replaces each occurrence from `start` on.
fn replace(text: &mut Vec<u8>, start: usize, wrong: &str, right: &str) {
    let mut from = start;
    while let Some(at) = text[from..].windows(wrong.len()).position(|w| w == wrong.as_bytes()) {
        let at = from + at;
        text.splice(at..at + wrong.len(), right.bytes());
        from = at + right.len();
    }
}

fn proto(metric: &Metric, sample: &Sample, dress: &Dress) -> ProtoMetric {
    let own = metric.labels.iter().zip(&sample.labels).map(|(name, value)| (*name, &**value));
    let pairs = own.chain(dress.labels(metric)).map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    });
    let mut out = ProtoMetric::default();
    out.set_label(pairs.collect());
    match (&sample.value, metric.kind) {
        (Value::Number(value), Kind::Counter) => {
            let mut counter = Counter::default();
            counter.set_value(*value);
            out.set_counter(counter);
        }
        (Value::Number(value), _) => {
            let mut gauge = Gauge::default();
            gauge.set_value(*value);
            out.set_gauge(gauge);
        }
        (Value::Histogram(value), _) => {
            let mut histogram = ProtoHistogram::default();
            histogram.set_sample_count(value.count);
            histogram.set_sample_sum(value.sum);
            let buckets = value.bounds.iter().zip(&value.cumulative).map(|(bound, count)| {
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(*bound);
                bucket.set_cumulative_count(*count);
                bucket
            });
            histogram.set_bucket(buckets.collect());
            out.set_histogram(histogram);
        }
    }
    out
}

/// The exposition text of some families, for golden files.
///
/// # Errors
/// As [`super::Renderer::render`].
pub fn text_of(families: &[Family]) -> Result<String, prometheus::Error> {
    String::from_utf8(encode(families, Vec::new())?)
        .map_err(|e| prometheus::Error::Msg(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::{Histogram, Sink};
    use std::sync::Arc;

    static H: Metric = Metric::histogram("pg_h_seconds", &[], "H.");
    static U: Metric = Metric::untyped("pg_u_count", &[], "U.");
    static CATALOGUE: &[&Metric] = &[&H, &U];

    #[test]
    fn a_name_that_breaks_the_rules_for_its_type_goes_out_untyped() {
        let mut sink = Sink::new(CATALOGUE, 10);
        sink.number(&U, &[], 3.0);
        let text = text_of(&sink.finish().0).unwrap();
        assert_eq!(text, "# HELP pg_u_count U.\n# TYPE pg_u_count untyped\npg_u_count 3\n");
    }

    #[test]
    fn a_histogram_has_its_buckets_count_and_sum() {
        let mut sink = Sink::new(CATALOGUE, 10);
        let histogram = Histogram {
            bounds: Arc::from([0.01, 0.05]),
            cumulative: Box::from([2, 5]),
            count: 7,
            sum: 1.25,
            native: None,
            created: None,
        };
        sink.histogram(&H, &[], Arc::new(histogram));
        let text = text_of(&sink.finish().0).unwrap();
        let want = "# HELP pg_h_seconds H.\n# TYPE pg_h_seconds histogram\n\
                    pg_h_seconds_bucket{le=\"0.01\"} 2\npg_h_seconds_bucket{le=\"0.05\"} 5\n\
                    pg_h_seconds_bucket{le=\"+Inf\"} 7\npg_h_seconds_sum 1.25\n\
                    pg_h_seconds_count 7\n";
        assert_eq!(text, want);
    }
}
