//! The ways to a latency that are compared, all from what Prometheus stored but for the naive recipe
//! that reads the view's lifetime figures.
//!
//! Must not: know the truth.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;
use tokio_postgres::Client;

use super::truth::Key;
use super::{SCRAPE, WINDOW, Window};
use crate::common::http;
use crate::common::prometheus::Prometheus;

/// A way to a quantile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// `pg_statement_latency_seconds`, `pg_query_latency_seconds`.
    Gauge,
    /// `histogram_quantile` over the classic buckets.
    Classic,
    /// `histogram_quantile` over the native histogram.
    Native,
    /// Seconds by calls over the window.
    Mean,
    /// Lifetime mean and standard deviations above it.
    Normal,
}

pub const METHODS: [Method; 5] =
    [Method::Gauge, Method::Classic, Method::Native, Method::Mean, Method::Normal];

impl Method {
    pub fn name(self) -> &'static str {
        match self {
            Self::Gauge => "gauges",
            Self::Classic => "classic",
            Self::Native => "native",
            Self::Mean => "mean",
            Self::Normal => "mean + z sd",
        }
    }
}

/// Quantile, its label, and the standard normal's.
pub const QUANTILES: [(f64, &str, f64); 3] =
    [(0.5, "0.5", 0.0), (0.95, "0.95", 1.645), (0.99, "0.99", 2.326)];

/// Lifetime mean and standard deviation in seconds.
pub type View = BTreeMap<Key, (f64, f64)>;

/// One statement, or (`None`) the whole database.
pub type Subject = Option<Key>;

/// Seconds by number of window, subject, index into [`QUANTILES`] and method.
pub type Estimates = BTreeMap<(usize, Subject, usize, Method), f64>;

/// Reads what the naive recipe goes by.
pub async fn view(client: &Client) -> View {
    let sql = "SELECT r.rolname::text, s.queryid, s.mean_exec_time / 1e3, s.stddev_exec_time / 1e3 \
               FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|r| ((r.get(0), r.get(1)), (r.get(2), r.get(3)))).collect()
}

/// Finds the polls that the scrapes at the ends of a window show, and the interval in force.
pub async fn locate(prometheus: &Prometheus, window: &mut Window) {
    let polled = "pgrunway_collector_last_success_timestamp_seconds{collector=\"statements\"}";
    let interval = "pgrunway_collector_interval_seconds{collector=\"statements\"}";
    let end = at(window);
    window.polled.0 = prometheus.query_at(polled, end - WINDOW).await[0].1;
    window.polled.1 = prometheus.query_at(polled, end).await[0].1;
    window.interval = prometheus.query_at(interval, end).await[0].1;
}

/// A second after the last scrape: it is found there even if it came some milliseconds late.
fn at(window: &Window) -> f64 {
    window.scraped + 1.0
}

/// A second Prometheus that stores native histograms, once the exporter offers them. It does not
/// store the classic buckets of a histogram that is native, so it cannot be the first one.
pub struct Native(Prometheus);

impl Native {
    pub async fn start(exporter: SocketAddr) -> Option<Self> {
        let accept = "application/vnd.google.protobuf;\
                      proto=io.prometheus.client.MetricFamily;encoding=delimited";
        let answer = http::request(exporter, "GET", "/metrics", &[("Accept", accept)]).await;
        if !answer.headers.get("content-type")?.contains("protobuf") {
            return None;
        }
        let flags = ["--enable-feature=native-histograms"];
        Some(Self(Prometheus::start_with(&[exporter], &[], SCRAPE, &flags).await))
    }
}

pub fn subject(labels: &Value) -> Option<Subject> {
    if labels["datname"] != "trading" {
        return None;
    }
    let user = labels["usename"].as_str().or(labels["user"].as_str());
    let Some(user) = user else { return Some(None) };
    Some(Some((user.to_owned(), labels["queryid"].as_str()?.parse().ok()?)))
}

/// Every estimate there is.
pub async fn estimates(
    prometheus: &Prometheus,
    native: Option<&Native>,
    windows: &[Window],
) -> Estimates {
    let mut all = Estimates::new();
    // From scrape to scrape: a range that reaches a second beyond both ends.
    let range = format!("[{}s]", WINDOW + 2.0);
    for (number, window) in windows.iter().enumerate() {
        let time = at(window);
        for (index, (q, label, z)) in QUANTILES.iter().enumerate() {
            let mut asks = vec![
                (
                    Method::Mean,
                    format!(
                        "rate(pg_stat_statements_seconds_total{range}) / rate(pg_stat_statements_calls_total{range})"
                    ),
                ),
                (
                    Method::Mean,
                    format!(
                        "rate(pg_query_duration_seconds_sum{range}) / rate(pg_query_duration_seconds_count{range})"
                    ),
                ),
            ];
            for metric in ["pg_statement", "pg_query"] {
                asks.push((
                    Method::Gauge,
                    format!("{metric}_latency_seconds{{window=\"1m\", quantile=\"{label}\"}}"),
                ));
                asks.push((
                    Method::Classic,
                    format!(
                        "histogram_quantile({q}, rate({metric}_duration_seconds_bucket{range}))"
                    ),
                ));
                asks.push((
                    Method::Native,
                    format!("histogram_quantile({q}, rate({metric}_duration_seconds{range}))"),
                ));
            }
            for (method, expr) in asks {
                let from = match (method, native) {
                    (Method::Native, Some(native)) => &native.0,
                    (Method::Native, None) => continue,
                    _ => prometheus,
                };
                for (labels, value) in from.query_at(&expr, time).await {
                    if let Some(subject) = subject(&labels).filter(|_| value.is_finite()) {
                        all.insert((number, subject, index, method), value);
                    }
                }
            }
            for (key, (mean, sd)) in &window.view {
                let place = (number, Some(key.clone()), index, Method::Normal);
                all.insert(place, mean + z * sd);
            }
        }
    }
    all
}
