//! Snapshot to exposition bytes, off the scrape path: text, OpenMetrics and protobuf. The only user
//! of the `prometheus` crate (its model, its text encoder, and its registry for what this process
//! counts about itself) and of `prost`.
//!
//! Must not: know HTTP, or decide what is in an exposition.

mod accept;
mod model;
mod openmetrics;
mod pages;
mod text;

use std::sync::Arc;

use prometheus::core::Collector as _;
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

pub use accept::{Choice, Format, choose};
pub use pages::{OnDemand, Pages, Publisher};
pub use text::text_of;

use crate::metric::{Dressed, Family, Metric, Sample, Value};
use crate::snapshot::Snapshot;

/// Metrics about this process beyond the process collector's, for the catalogue.
pub static METRICS: &[&Metric] = &[
    &BUILD_INFO,
    &HTTP_REQUESTS,
    &HTTP_CONNECTIONS,
    &HTTP_CLOSED,
    &HTTP_REFUSED,
    &TLS_FAILED,
    &WEB_CONFIG,
    &WEB_CERTIFICATE,
    &EXPOSITIONS,
];

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
static HTTP_CONNECTIONS: Metric =
    Metric::gauge("pgrunway_http_connections", &[], "HTTP connections that are open.");
static HTTP_CLOSED: Metric = Metric::counter(
    "pgrunway_http_connections_closed_total",
    &["reason"],
    "HTTP connections that the exporter closed, by reason: to let in another when the limit per address \
     (address), in all (total) or of open files (files) was met; a request's head (head) or the reading of \
     answers (answer) took too long, or nothing was asked (idle); slow readers kept too many bytes (memory).",
);
static HTTP_REFUSED: Metric = Metric::counter(
    "pgrunway_http_unauthorized_total",
    &["reason"],
    "HTTP requests refused by basic_auth_users: without a password (missing), with a wrong one (wrong), or \
     unchecked because too many were wrong before (limit).",
);
static TLS_FAILED: Metric = Metric::counter(
    "pgrunway_http_tls_handshakes_failed_total",
    &[],
    "TLS handshakes of the HTTP port that failed, those that took too long left out.",
);
static WEB_CONFIG: Metric = Metric::gauge(
    "pgrunway_web_config_last_reload_successful",
    &[],
    "Whether the file of --web.config.file, with the certificates that it names, could be read and used when it \
     last changed; the last good one stays in force.",
);
static WEB_CERTIFICATE: Metric = Metric::gauge(
    "pgrunway_web_certificate_not_after_timestamp_seconds",
    &[],
    "Unix time at which the certificate of the HTTP port ends, its notAfter.",
);
static EXPOSITIONS: Metric = Metric::counter(
    "pgrunway_expositions_total",
    &["format"],
    "Expositions served, by the format that the scraper asked for: text (0.0.4), openmetrics, or \
     protobuf, which alone has native histograms.",
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

/// Counters of the HTTP server, in the registry of this process.
#[derive(Clone)]
pub struct HttpCounters {
    requests: IntCounterVec,
    connections: IntGauge,
    closed: IntCounterVec,
    refused: IntCounterVec,
    handshakes: IntCounterVec,
    web_config: IntGaugeVec,
    web_certificate: IntGaugeVec,
}

impl HttpCounters {
    /// Counts one answer. `handler` comes from the router, never from the request.
    pub fn count(&self, handler: &str, code: u16) {
        self.requests.with_label_values(&[handler, code.to_string().as_str()]).inc();
    }

    /// So many connections are open.
    pub fn open(&self, connections: usize) {
        self.connections.set(i64::try_from(connections).unwrap_or(i64::MAX));
    }

    /// Shows each reason from the start, so that its first increase is seen.
    pub fn reasons(&self, reasons: impl IntoIterator<Item = &'static str>) {
        for reason in reasons {
            self.closed.with_label_values(&[reason]).inc_by(0);
        }
    }

    /// Shows what can be refused from the start.
    pub fn with_passwords(&self, reasons: impl IntoIterator<Item = &'static str>) {
        for reason in reasons {
            self.refused.with_label_values(&[reason]).inc_by(0);
        }
    }

    /// Counts a request that was refused for want of a password.
    pub fn refused(&self, reason: &'static str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    /// Counts so many handshakes that failed; 0 shows the metric.
    pub fn handshakes_failed(&self, count: u64) {
        self.handshakes.with_label_values::<&str>(&[]).inc_by(count);
    }

    /// Whether the web configuration is in force as it stands.
    pub fn web_config(&self, good: bool) {
        self.web_config.with_label_values::<&str>(&[]).set(i64::from(good));
    }

    /// When the port's certificate ends; absent where that is not known.
    pub fn web_certificate(&self, not_after: Option<u64>) {
        match not_after.and_then(|at| i64::try_from(at).ok()) {
            Some(at) => self.web_certificate.with_label_values::<&str>(&[]).set(at),
            None => self.web_certificate.reset(),
        }
    }

    /// Counts a connection that was closed by us.
    pub fn closed(&self, reason: &'static str) {
        self.closed.with_label_values(&[reason]).inc();
    }
}

/// Renders snapshots, together with what this process knows about itself.
pub struct Renderer {
    registry: Registry,
    http: HttpCounters,
    served: IntCounterVec,
}

impl Renderer {
    /// A renderer with a registry of its own.
    ///
    /// # Errors
    /// Never with the names above; the crate checks them at run time.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counter = |metric: &Metric| -> Result<IntCounterVec, prometheus::Error> {
            let counter = IntCounterVec::new(Opts::new(metric.name, metric.help), metric.labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let gauge = |metric: &Metric| -> Result<IntGaugeVec, prometheus::Error> {
            let gauge = IntGaugeVec::new(Opts::new(metric.name, metric.help), metric.labels)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let connections = IntGauge::new(HTTP_CONNECTIONS.name, HTTP_CONNECTIONS.help)?;
        registry.register(Box::new(connections.clone()))?;
        let http = HttpCounters {
            requests: counter(&HTTP_REQUESTS)?,
            connections,
            closed: counter(&HTTP_CLOSED)?,
            refused: counter(&HTTP_REFUSED)?,
            handshakes: counter(&TLS_FAILED)?,
            web_config: gauge(&WEB_CONFIG)?,
            web_certificate: gauge(&WEB_CERTIFICATE)?,
        };
        let served = counter(&EXPOSITIONS)?;
        let process = prometheus::process_collector::ProcessCollector::for_self();
        debug_assert!(!process.desc().is_empty());
        registry.register(Box::new(process))?;
        Ok(Self { registry, http, served })
    }

    /// The counters that the HTTP server increments.
    pub fn http_counters(&self) -> HttpCounters {
        self.http.clone()
    }

    /// Encodes a snapshot with what this process knows about itself.
    ///
    /// # Errors
    /// Only if the text encoder refuses a family, which [`crate::metric::Sink`] makes impossible.
    pub fn render(
        &self,
        snapshot: &Snapshot,
        format: Format,
    ) -> Result<Vec<u8>, prometheus::Error> {
        let build = build_info();
        let parts = own(snapshot);
        encode(dressed(&parts).chain([Dressed::from(&build)]), self.registry.gather(), format)
    }
}

/// Encodes a snapshot alone: this process is on the page of its own, not on that of each target.
fn render_alone(snapshot: &Snapshot, format: Format) -> Result<Vec<u8>, prometheus::Error> {
    encode(dressed(&own(snapshot)), Vec::new(), format)
}

/// Every target of a page, with what is known of it beside its families.
fn own(snapshot: &Snapshot) -> Vec<(&Snapshot, Vec<Family>)> {
    let all = std::iter::once(snapshot).chain(&snapshot.parts);
    all.map(|target| (target, target.own_families())).collect()
}

/// All families of a page.
fn dressed<'a>(parts: &'a [(&Snapshot, Vec<Family>)]) -> impl Iterator<Item = Dressed<'a>> {
    parts.iter().flat_map(|(target, own)| {
        let families = own.iter().chain(target.families.iter().map(Arc::as_ref));
        families.map(|family| Dressed { family, dress: &target.dress })
    })
}

fn encode<'a>(
    ours: impl Iterator<Item = Dressed<'a>>,
    gathered: Vec<prometheus::proto::MetricFamily>,
    format: Format,
) -> Result<Vec<u8>, prometheus::Error> {
    Ok(match format {
        Format::Text => text::encode(ours, gathered)?,
        Format::OpenMetrics => openmetrics::encode(&model::families(ours, &gathered)).into_bytes(),
        Format::Protobuf => model::encode(&model::families(ours, &gathered)),
    })
}

fn build_info() -> Family {
    let labels = [env!("CARGO_PKG_VERSION"), env!("PGRUNWAY_REVISION"), env!("PGRUNWAY_RUSTC")];
    let sample = Sample { labels: labels.map(Arc::from).into(), value: Value::Number(1.0) };
    Family { metric: &BUILD_INFO, samples: vec![sample] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Sink;

    static G: Metric = Metric::gauge("pg_g", &["datname", "relname"], "G.");
    static CATALOGUE: &[&Metric] = &[&G];

    fn family(datname: &str, value: f64) -> Arc<Family> {
        let mut sink = Sink::new(CATALOGUE, 10);
        sink.number(&G, &[datname, "a\"b\\c\nd"], value);
        Arc::new(sink.finish().0.remove(0))
    }

    fn render(snapshot: &Snapshot, format: Format) -> Vec<u8> {
        Renderer::new().unwrap().render(snapshot, format).unwrap()
    }

    #[test]
    fn families_of_several_databases_are_one_family_with_escaped_labels() {
        let snapshot = Snapshot {
            families: vec![family("one", 1.5), family("two", f64::INFINITY)],
            ..Snapshot::default()
        };
        for format in [Format::Text, Format::OpenMetrics] {
            let text = String::from_utf8(render(&snapshot, format)).unwrap();
            assert_eq!(text.matches("# TYPE pg_g gauge").count(), 1);
            assert!(text.contains(r#"pg_g{datname="one",relname="a\"b\\c\nd"} 1.5"#), "{text}");
            assert!(text.contains(r#"pg_g{datname="two",relname="a\"b\\c\nd"} +Inf"#), "{text}");
            assert!(text.contains("process_resident_memory_bytes "));
        }
        let bytes = render(&snapshot, Format::Protobuf);
        assert_eq!(bytes.windows(6).filter(|w| w == b"\x0a\x04pg_g").count(), 1);
    }

    #[test]
    fn every_own_family_is_in_a_catalogue() {
        let text = String::from_utf8(render(&Snapshot::default(), Format::Text)).unwrap();
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
}
