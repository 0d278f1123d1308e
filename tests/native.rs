//! Prometheus takes what it prefers: native histograms by protobuf, or OpenMetrics text; both answer
//! as the exporter's own gauges do.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::http::{self, value};
use common::process::Process;
use common::prometheus::Prometheus;

/// 2^(1/8): the width of a bucket of schema 3.
const BUCKET: f64 = 1.0905077326652577;

#[tokio::test]
async fn prometheus_stores_native_histograms_that_agree_with_the_gauges() {
    let cluster = common::server().await;
    let admin = common::admin(&cluster, "postgres").await;
    admin.batch_execute("CREATE DATABASE shop").await.unwrap();
    let process = Process::serve(&cluster.uri("mon", "postgres"), &[]).await;
    let at = [process.address];
    let feature = ["--enable-feature=native-histograms"];
    let native = Prometheus::start_with(&at, &[], 1, &feature).await;
    let classic = Prometheus::start(&at, &[]).await;
    let client = common::client(&cluster, "postgres", "shop").await;
    client.simple_query("SELECT 1").await.unwrap();
    let series = "pg_query_duration_seconds{datname=\"shop\"}";
    native.wait(&format!("histogram_count({series})")).await;
    classic.wait("pg_query_duration_seconds_count{datname=\"shop\"}").await;

    // Of 200 calls 70 % take 5 ms, 22 % take 30 ms, 8 % take 120 ms.
    let sleeps = client.prepare("SELECT pg_sleep($1)").await.unwrap();
    let mix: Vec<f64> = [(140, 0.005), (44, 0.030), (16, 0.120)]
        .into_iter()
        .flat_map(|(n, x)| std::iter::repeat_n(x, n))
        .collect();
    for i in 0..mix.len() {
        // A fixed permutation: 77 and 200 have no common factor.
        client.query(&sleeps, &[&mix[i * 77 % mix.len()]]).await.unwrap();
    }
    let all = format!("histogram_count({series}) >= 201");
    let count = native.wait(&all).await[0].1;
    let bucket = "pg_query_duration_seconds_bucket{datname=\"shop\"}";
    classic.wait("pg_query_duration_seconds_count{datname=\"shop\"} >= 201").await;
    let text = process.metrics().await;
    let ours = value(&text, "pg_query_duration_seconds_count", &[("datname", "shop")]).unwrap();
    assert_eq!(count, ours);
    // In the middle of each mode: between two the value is ill-defined. The estimator has seen nothing
    // before, so the truth is held to a factor of two; what is told in two ways must agree closely.
    for (quantile, low, high) in
        [("0.5", 0.005, 0.010), ("0.8", 0.030, 0.050), ("0.95", 0.12, 0.15)]
    {
        let q = format!("histogram_quantile({quantile}, increase({series}[1m]))");
        let got = native.query(&q).await[0].1;
        assert!((low / 2.0..high * 2.0).contains(&got), "native p{quantile}: {got}");
        let q = format!("histogram_quantile({quantile}, sum by (le) (increase({bucket}[1m])))");
        let coarse = classic.query(&q).await[0].1;
        assert!((low / 2.0..high * 2.0).contains(&coarse), "classic p{quantile}: {coarse}");
        let labels = [("datname", "shop"), ("window", "1m"), ("quantile", quantile)];
        if let Some(gauge) = value(&text, "pg_query_latency_seconds", &labels) {
            // One bucket for the resolution, one because native buckets hold whole calls.
            let (ratio, two) = (got / gauge, BUCKET * BUCKET);
            assert!((1.0 / two..two).contains(&ratio), "p{quantile}: {got}, gauge {gauge}");
        }
    }

    // Each was asked for by one of the two.
    let served =
        |format| value(&text, "pgrunway_expositions_total", &[("format", format)]).unwrap();
    assert!(served("protobuf") >= 3.0 && served("openmetrics") >= 3.0, "{text}");
    for prometheus in [&native, &classic] {
        assert_eq!(prometheus.query("min_over_time(up[1m])").await[0].1, 1.0);
    }
    // Only the text has units and creation times for Prometheus to read.
    let metadata = classic.api("metadata?metric=pg_query_duration_seconds").await;
    let metadata = &metadata["pg_query_duration_seconds"][0];
    assert_eq!((&metadata["type"], &metadata["unit"]), (&"histogram".into(), &"seconds".into()));
    let age = classic.query("time() - pg_query_duration_seconds_created{datname=\"shop\"}").await;
    assert!((3.0..120.0).contains(&age[0].1), "{age:?}");
    let counters = classic.query("pg_stat_statements_calls_total{datname=\"shop\"}").await;
    assert!(!counters.is_empty());
}

#[tokio::test]
async fn each_format_says_what_it_is() {
    let cluster = common::server().await;
    let process = Process::serve(&cluster.uri("mon", "postgres"), &[]).await;
    let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                    encoding=delimited";
    for (accept, content_type) in [
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,*/*;q=0.1",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
        (
            protobuf,
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; \
             encoding=delimited",
        ),
    ] {
        let mut bodies = Vec::new();
        for coding in ["identity", "gzip"] {
            let headers = [("Accept", accept), ("Accept-Encoding", coding)];
            let answer = http::request(process.address, "GET", "/metrics", &headers).await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.headers["content-type"], content_type);
            assert_eq!(answer.headers["vary"], "accept, accept-encoding");
            assert_eq!(answer.headers.contains_key("content-encoding"), coding == "gzip");
            bodies.push(answer.body);
        }
        assert!(bodies[1].starts_with(&[0x1f, 0x8b]) && bodies[1].len() < bodies[0].len());
        // Both are whole: text ends in a line, a message begins with its length and a name.
        let is_text = accept != protobuf;
        assert_eq!(bodies[0].ends_with(b"\n"), is_text, "{accept}");
        assert_eq!(bodies[0].ends_with(b"\n# EOF\n"), content_type.contains("openmetrics"));
    }
}
