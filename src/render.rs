//! Snapshot to exposition bytes, once per publish. The only user of the `prometheus` crate: its
//! model, its encoder, and its registry for what this process counts about itself.
//!
//! Must not: run on the scrape path, or trust the crate with what it does not check (duplicates,
//! names and types are held by [`crate::metric::Sink`]; an empty family would fail the whole encode).

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use prometheus::core::Collector as _;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram as ProtoHistogram, LabelPair, Metric as ProtoMetric,
    MetricFamily, MetricType,
};
use prometheus::{Encoder, IntCounterVec, Opts, Registry, TEXT_FORMAT, TextEncoder};

use crate::metric::{Family, Kind, Metric, Sample, Value};
use crate::snapshot::Snapshot;

/// `Content-Type` of [`Page::text`]; Prometheus 3 refuses a target that sends none.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics about this process beyond the process collector's, for the catalogue.
pub static METRICS: &[&Metric] = &[&BUILD_INFO, &HTTP_REQUESTS];

static BUILD_INFO: Metric = Metric::gauge(
    "pgrunway_build_info",
    &["version", "revision", "rustversion"],
    "Constant 1 with the version, the source revision and the compiler of this binary.",
);
static HTTP_REQUESTS: Metric = Metric::counter(
    "pgrunway_http_requests_total",
    &["handler", "code"],
    "HTTP requests answered, by handler and status code.",
);

/// Names that the `prometheus` crate's process collector emits (Linux, from /proc/self).
pub static PROCESS_METRICS: &[&str] = &[
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_threads",
    "process_virtual_memory_bytes",
];

/// One rendered exposition, shared by all scrapes until the next publish.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Text format 0.0.4.
    pub text: Bytes,
    /// The same, gzip'd.
    pub gzip: Bytes,
}

/// Counters of the HTTP server, in the registry of this process.
#[derive(Clone)]
pub struct HttpCounters(IntCounterVec);

impl HttpCounters {
    /// Counts one answer. `handler` comes from the router, never from the request.
    pub fn count(&self, handler: &str, code: u16) {
        self.0.with_label_values(&[handler, code.to_string().as_str()]).inc();
    }
}

/// Renders snapshots, together with what this process knows about itself.
pub struct Renderer {
    registry: Registry,
    http: HttpCounters,
}

impl Renderer {
    /// A renderer with a registry of its own.
    ///
    /// # Errors
    /// Never with the names above; the crate checks them at run time.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let opts = Opts::new(HTTP_REQUESTS.name, HTTP_REQUESTS.help);
        let http = IntCounterVec::new(opts, HTTP_REQUESTS.labels)?;
        registry.register(Box::new(http.clone()))?;
        let process = prometheus::process_collector::ProcessCollector::for_self();
        debug_assert!(!process.desc().is_empty());
        registry.register(Box::new(process))?;
        Ok(Self { registry, http: HttpCounters(http) })
    }

    /// The counters that the HTTP server increments.
    pub fn http_counters(&self) -> HttpCounters {
        self.http.clone()
    }

    /// Encodes a snapshot.
    ///
    /// # Errors
    /// Only if the encoder refuses a family, which [`crate::metric::Sink`] makes impossible.
    pub fn render(&self, snapshot: &Snapshot) -> Result<Page, prometheus::Error> {
        let mut families = Families::default();
        for family in
            snapshot.own_families().iter().chain(snapshot.families.iter().map(Arc::as_ref))
        {
            families.merge(family);
        }
        families.merge(&build_info());
        for family in self.registry.gather() {
            families.0.insert(family.name().to_owned(), (false, family));
        }
        let text = families.encode()?;
        debug_assert!(CONTENT_TYPE.starts_with(TEXT_FORMAT));
        // The fastest level: 3 times its time buys 15 % fewer bytes, and this runs every second.
        let mut gzip = GzEncoder::new(Vec::with_capacity(text.len() / 8), Compression::fast());
        gzip.write_all(&text)?;
        let gzip = gzip.finish()?;
        Ok(Page { text: text.into(), gzip: gzip.into() })
    }
}

fn build_info() -> Family {
    let labels = [env!("CARGO_PKG_VERSION"), env!("PGRUNWAY_REVISION"), env!("PGRUNWAY_RUSTC")];
    let sample = Sample { labels: labels.map(Arc::from).into(), value: Value::Number(1.0) };
    Family { metric: &BUILD_INFO, samples: vec![sample] }
}

/// Families by name, each with whether it goes out untyped.
#[derive(Default)]
struct Families(BTreeMap<String, (bool, MetricFamily)>);

impl Families {
    /// Adds a family's samples to those of the same name (one family per database arrives).
    fn merge(&mut self, family: &Family) {
        let metric = family.metric;
        let (_, into) = self.0.entry(metric.name.to_owned()).or_insert_with(|| {
            let mut new = MetricFamily::default();
            new.set_name(metric.name.to_owned());
            new.set_help(metric.help.to_owned());
            new.set_field_type(match metric.kind {
                // The crate panics on its own UNTYPED; `encode` corrects the type line.
                Kind::Gauge | Kind::Untyped => MetricType::GAUGE,
                Kind::Counter => MetricType::COUNTER,
                Kind::Histogram => MetricType::HISTOGRAM,
            });
            (metric.kind == Kind::Untyped, new)
        });
        into.mut_metric().extend(family.samples.iter().map(|s| proto(metric, s)));
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

fn proto(metric: &Metric, sample: &Sample) -> ProtoMetric {
    let pairs = metric.labels.iter().zip(&sample.labels).map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value.as_ref().to_owned());
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

/// The exposition text of some families, for golden files and `pgrunway metrics`-like output.
///
/// # Errors
/// As [`Renderer::render`].
pub fn text_of(families: &[Family]) -> Result<String, prometheus::Error> {
    let mut merged = Families::default();
    families.iter().for_each(|family| merged.merge(family));
    let text = merged.encode()?;
    String::from_utf8(text).map_err(|e| prometheus::Error::Msg(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::{Histogram, Sink};
    use std::io::Read;

    static G: Metric = Metric::gauge("pg_g", &["datname", "relname"], "G.");
    static H: Metric = Metric::histogram("pg_h_seconds", &[], "H.");
    static U: Metric = Metric::untyped("pg_u_count", &[], "U.");
    static CATALOGUE: &[&Metric] = &[&G, &H, &U];

    fn family(datname: &str, value: f64) -> Arc<Family> {
        let mut sink = Sink::new(CATALOGUE, 10);
        sink.number(&G, &[datname, "a\"b\\c\nd"], value);
        Arc::new(sink.finish().0.remove(0))
    }

    #[test]
    fn families_of_several_databases_are_one_family_with_escaped_labels() {
        let snapshot = Snapshot {
            families: vec![family("one", 1.5), family("two", f64::INFINITY)],
            ..Snapshot::default()
        };
        let page = Renderer::new().unwrap().render(&snapshot).unwrap();
        let text = std::str::from_utf8(&page.text).unwrap();
        assert_eq!(text.matches("# TYPE pg_g gauge").count(), 1);
        assert!(text.contains(r#"pg_g{datname="one",relname="a\"b\\c\nd"} 1.5"#), "{text}");
        assert!(text.contains(r#"pg_g{datname="two",relname="a\"b\\c\nd"} +Inf"#), "{text}");
        assert!(text.contains("process_resident_memory_bytes"));
        let mut unzipped = String::new();
        flate2::read::GzDecoder::new(&page.gzip[..]).read_to_string(&mut unzipped).unwrap();
        assert_eq!(unzipped, text);
    }

    #[test]
    fn every_own_family_is_in_a_catalogue() {
        let page = Renderer::new().unwrap().render(&Snapshot::default()).unwrap();
        let text = std::str::from_utf8(&page.text).unwrap();
        let known: Vec<&str> = METRICS
            .iter()
            .chain(crate::snapshot::METRICS)
            .map(|m| m.name)
            .chain(PROCESS_METRICS.iter().copied())
            .collect();
        for name in text.lines().filter_map(|l| l.strip_prefix("# TYPE ")) {
            let name = name.split(' ').next().unwrap();
            assert!(known.contains(&name), "{name}");
        }
    }

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
