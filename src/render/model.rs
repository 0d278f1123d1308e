//! Families as Prometheus' own protobuf messages, and their delimited encoding.
//!
//! Must not: hold anything beside the generated types that is not a plain conversion.

use std::collections::BTreeMap;

use prost::Message;
use prost_types::Timestamp;

use self::client::{Bucket, BucketSpan, Counter, Gauge, Histogram, LabelPair, Untyped};
pub(super) use self::client::{Metric as Point, MetricFamily, MetricType};
use crate::metric::{self, Dress, Dressed, Kind, Native, Sample, Value};

/// Generated from `proto/` (see `tests/model.rs`).
mod client {
    include!(concat!(env!("CARGO_MANIFEST_DIR"), "/proto/io.prometheus.client.rs"));
}

/// Base units that a name may end in, as `UNIT` of OpenMetrics.
const UNITS: [&str; 3] = ["seconds", "bytes", "ratio"];

/// Families by name: ours (one family per database arrives) and those of the registry.
pub(super) fn families<'a>(
    ours: impl IntoIterator<Item = impl Into<Dressed<'a>>>,
    gathered: &[prometheus::proto::MetricFamily],
) -> Vec<MetricFamily> {
    let mut all: BTreeMap<String, MetricFamily> = BTreeMap::new();
    for Dressed { family, dress } in ours.into_iter().map(Into::into) {
        let metric = family.metric;
        let name = dress.name(metric);
        let kind = match metric.kind {
            Kind::Gauge => MetricType::Gauge,
            Kind::Counter => MetricType::Counter,
            Kind::Histogram => MetricType::Histogram,
            Kind::Untyped => MetricType::Untyped,
        };
        let into = all
            .entry(name.clone().into_owned())
            .or_insert_with(|| new_family(&name, metric.help, kind));
        // Of two targets on one page a query of the user's own may have another type.
        if into.r#type() == kind {
            into.metric.extend(family.samples.iter().map(|sample| point(metric, sample, dress)));
        }
    }
    for family in gathered {
        if let Some(family) = of_registry(family) {
            all.insert(family.name().to_owned(), family);
        }
    }
    all.into_values().filter(|family| !family.metric.is_empty()).collect()
}

/// The families one after the other, each with its length before it.
pub(super) fn encode(families: &[MetricFamily]) -> Vec<u8> {
    families.iter().flat_map(Message::encode_length_delimited_to_vec).collect()
}

fn new_family(name: &str, help: &str, kind: MetricType) -> MetricFamily {
    let base = name.strip_suffix("_total").unwrap_or(name);
    let unit = UNITS
        .into_iter()
        .find(|unit| base.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_')));
    MetricFamily {
        name: Some(name.to_owned()),
        help: Some(help.to_owned()),
        r#type: Some(kind.into()),
        metric: Vec::new(),
        unit: unit.map(str::to_owned),
    }
}

fn label(name: &str, value: &str) -> LabelPair {
    LabelPair { name: Some(name.to_owned()), value: Some(value.to_owned()) }
}

fn point(metric: &metric::Metric, sample: &Sample, dress: &Dress) -> Point {
    let own = metric.labels.iter().zip(&sample.labels).map(|(name, value)| (*name, &**value));
    let labels = own.chain(dress.labels(metric));
    let mut point = Point { label: labels.map(|(n, v)| label(n, v)).collect(), ..Point::default() };
    match (&sample.value, metric.kind) {
        (Value::Histogram(value), _) => point.histogram = Some(histogram(value)),
        (Value::Number(value), Kind::Counter) => point.counter = Some(counter(*value)),
        (Value::Number(value), Kind::Untyped) => {
            point.untyped = Some(Untyped { value: Some(*value) });
        }
        (Value::Number(value), _) => point.gauge = Some(Gauge { value: Some(*value) }),
    }
    point
}

fn counter(value: f64) -> Counter {
    Counter { value: Some(value), ..Counter::default() }
}

fn histogram(value: &metric::Histogram) -> Histogram {
    let buckets = value.bounds.iter().zip(&value.cumulative);
    let mut out = Histogram {
        sample_count: Some(value.count),
        sample_sum: Some(value.sum),
        bucket: buckets
            .map(|(bound, count)| Bucket {
                cumulative_count: Some(*count),
                upper_bound: Some(*bound),
                ..Bucket::default()
            })
            .collect(),
        created_timestamp: value.created.map(timestamp),
        ..Histogram::default()
    };
    if let Some(native) = &value.native {
        out.schema = Some(native.schema);
        out.zero_threshold = Some(native.zero_threshold);
        out.zero_count = Some(native.zero_count);
        (out.positive_span, out.positive_delta) = sparse(native);
    }
    out
}

/// Runs of consecutive buckets, and the difference of each count to the one before.
fn sparse(native: &Native) -> (Vec<BucketSpan>, Vec<i64>) {
    let (mut spans, mut deltas) = (Vec::<BucketSpan>::new(), Vec::new());
    // The first offset counts from bucket 0.
    let (mut next, mut before) = (0, 0);
    for (index, count) in &native.buckets {
        match spans.last_mut() {
            Some(BucketSpan { length: Some(length), .. }) if *index == next => *length += 1,
            _ => spans.push(BucketSpan { offset: Some(index - next), length: Some(1) }),
        }
        next = index + 1;
        deltas.push(count.wrapping_sub(before).cast_signed());
        before = *count;
    }
    (spans, deltas)
}

#[expect(clippy::cast_possible_truncation, reason = "whole seconds, and nanoseconds below 1e9")]
fn timestamp(unix: f64) -> Timestamp {
    let seconds = unix.floor();
    Timestamp { seconds: seconds as i64, nanos: ((unix - seconds) * 1e9) as i32 }
}

/// What the registry holds: counters and gauges.
fn of_registry(family: &prometheus::proto::MetricFamily) -> Option<MetricFamily> {
    let kind = match family.get_field_type() {
        prometheus::proto::MetricType::COUNTER => MetricType::Counter,
        prometheus::proto::MetricType::GAUGE => MetricType::Gauge,
        _ => return None,
    };
    let mut out = new_family(family.name(), family.help(), kind);
    for metric in family.get_metric() {
        let label = metric.get_label().iter().map(|pair| label(pair.name(), pair.value()));
        let mut point = Point { label: label.collect(), ..Point::default() };
        if kind == MetricType::Counter {
            point.counter = Some(counter(metric.get_counter().get_value()));
        } else {
            point.gauge = Some(Gauge { value: Some(metric.get_gauge().get_value()) });
        }
        out.metric.push(point);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Sink;
    use proptest::prelude::*;
    use std::sync::Arc;

    static H: metric::Metric = metric::Metric::histogram("pg_h_seconds", &["datname"], "H.");
    static G: metric::Metric = metric::Metric::gauge("pg_g_bytes", &[], "G.");
    static C: metric::Metric = metric::Metric::counter("pg_c_seconds_total", &[], "C.");
    static U: metric::Metric = metric::Metric::untyped("pg_u_count", &[], "U.");
    static CATALOGUE: &[&metric::Metric] = &[&H, &G, &C, &U];

    fn decode(mut bytes: &[u8]) -> Vec<MetricFamily> {
        let mut out = Vec::new();
        while !bytes.is_empty() {
            out.push(MetricFamily::decode_length_delimited(&mut bytes).unwrap());
        }
        out
    }

    fn native(buckets: &[(i32, u64)], zero_count: u64) -> metric::Histogram {
        let count = zero_count + buckets.iter().map(|b| b.1).sum::<u64>();
        let buckets = buckets.into();
        metric::Histogram {
            bounds: Arc::from([0.5, 1.0]),
            cumulative: Box::from([zero_count, count]),
            count,
            sum: 1.25,
            native: Some(Native { schema: 3, zero_threshold: 1e-6, zero_count, buckets }),
            created: Some(1_700_000_000.25),
        }
    }

    /// The buckets as a reader of the message makes them out.
    fn read(histogram: &Histogram) -> Vec<(i32, u64)> {
        let (mut out, mut index, mut count) = (Vec::new(), 0, 0);
        let mut deltas = histogram.positive_delta.iter();
        for span in &histogram.positive_span {
            index += span.offset();
            for _ in 0..span.length() {
                count += deltas.next().unwrap();
                out.push((index, u64::try_from(count).unwrap()));
                index += 1;
            }
        }
        assert_eq!(deltas.next(), None);
        out
    }

    #[test]
    fn every_type_decodes_to_what_it_was() {
        let mut sink = Sink::new(CATALOGUE, 10);
        sink.histogram(&H, &["a\"é"], Arc::new(native(&[(-9, 3), (-8, 1), (5, 4)], 2)));
        sink.number(&G, &[], f64::INFINITY);
        sink.number(&C, &[], 7.5);
        sink.number(&U, &[], 3.0);
        let all = families(&sink.finish().0, &[]);
        let back = decode(&encode(&all));
        assert_eq!(back, all);
        let names: Vec<_> = back.iter().map(|f| (f.name(), f.r#type(), f.unit())).collect();
        let want = [
            ("pg_c_seconds_total", MetricType::Counter, "seconds"),
            ("pg_g_bytes", MetricType::Gauge, "bytes"),
            ("pg_h_seconds", MetricType::Histogram, "seconds"),
            ("pg_u_count", MetricType::Untyped, ""),
        ];
        assert_eq!(names, want);
        assert_eq!(back[0].metric[0].counter.as_ref().unwrap().value(), 7.5);
        assert_eq!(back[1].metric[0].gauge.unwrap().value(), f64::INFINITY);
        assert_eq!(back[3].metric[0].untyped.unwrap().value(), 3.0);
        let point = &back[2].metric[0];
        assert_eq!((point.label[0].name(), point.label[0].value()), ("datname", "a\"é"));
        let h = point.histogram.as_ref().unwrap();
        assert_eq!((h.sample_count(), h.sample_sum()), (10, 1.25));
        assert_eq!((h.schema(), h.zero_threshold(), h.zero_count()), (3, 1e-6, 2));
        assert_eq!(read(h), [(-9, 3), (-8, 1), (5, 4)]);
        assert_eq!(h.positive_delta, [3, -2, 3]);
        assert_eq!(h.bucket[1].cumulative_count(), 10);
        let created = h.created_timestamp.unwrap();
        assert_eq!((created.seconds, created.nanos), (1_700_000_000, 250_000_000));
    }

    proptest! {
        #[test]
        fn any_buckets_are_read_as_they_were(
            buckets in prop::collection::btree_map(-300i32..300, 1u64..u64::MAX / 1_000, 0..80)
        ) {
            let buckets: Vec<(i32, u64)> = buckets.into_iter().collect();
            prop_assert_eq!(read(&histogram(&native(&buckets, 1))), buckets);
        }
    }
}
