//! The demo as its user sees it, scraped by a real Prometheus with the shipped rules: what
//! `/metrics` says agrees with the database, is clean, and pages where the report's own fault is
//! planted.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use common::demo::Demo;
use common::http::value;
use common::prometheus::Prometheus;
use common::tools::program;
use pgrunway::docgen;
use pgrunway::render::PROCESS_METRICS;
use tokio::time::{Instant, sleep};

const RUNWAY: &str = "pg_partition_runway_seconds";

fn table(relname: &str) -> [(&'static str, &str); 2] {
    [("schemaname", "public"), ("relname", relname)]
}

fn rules() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts/rules/*.yml")
}

/// Every series name of an exposition, `_bucket`, `_sum` and `_count` of histograms folded.
fn names(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|l| l.strip_prefix("# TYPE "))
        .map(|l| l.split(' ').next().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn the_demo_tells_the_truth_and_prometheus_stores_it() {
    let demo = Demo::start(&[]).await;
    let text = demo
        .wait("runway and latencies", |t| {
            value(t, RUNWAY, &table("trades")).is_some()
                && t.lines()
                    .filter(|l| {
                        l.starts_with("pg_statement_latency_seconds{")
                            && l.contains("quantile=\"0.95\"")
                            && l.contains("window=\"1m\"")
                    })
                    .count()
                    >= 5
        })
        .await;

    // The database's own answer: the last bound less now().
    let db = demo.database().await;
    for relname in ["orders", "trades"] {
        let sql = format!(
            "SELECT extract(epoch FROM max((regexp_match(pg_get_expr(c.relpartbound, c.oid), \
             'TO \\(''(.*?)''\\)'))[1]::timestamptz) - now())::float8 FROM pg_class c \
             JOIN pg_inherits i ON i.inhrelid = c.oid WHERE i.inhparent = '{relname}'::regclass"
        );
        let truth: f64 = db.query_one(&sql, &[]).await.unwrap().get(0);
        let ours = value(&text, RUNWAY, &table(relname)).unwrap();
        assert!((ours - truth).abs() < 60.0, "{relname}: {ours} is not {truth}");
    }
    let trades = value(&text, RUNWAY, &table("trades")).unwrap() / 86_400.0;
    assert!((29.0..=30.0).contains(&trades), "{trades} days");
    let indexes = text.lines().filter(|l| {
        l.starts_with("pg_index_size_bytes{")
            && (l.contains("relname=\"orders\"") || l.contains("relname=\"trades\""))
    });
    assert_eq!(indexes.count(), 19, "the report says 18");

    // Clean, and nothing that is not in the catalogue.
    let mut promtool = std::process::Command::new(program("promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is needed: scripts/deps test installs it");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let out = promtool.wait_with_output().unwrap();
    let findings = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success() && findings.is_empty(), "{findings}");
    let catalogue: BTreeSet<String> = docgen::catalogue()
        .iter()
        .map(|m| m.name.to_owned())
        .chain(PROCESS_METRICS.iter().map(|n| (*n).to_owned()))
        .collect();
    // One that ends in _ stands for all that begin so.
    let family = |name: &str| catalogue.iter().any(|n| n.ends_with('_') && name.starts_with(n));
    let unknown: Vec<_> =
        names(&text).into_iter().filter(|n| !catalogue.contains(n) && !family(n)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");

    let prometheus = Prometheus::start(&[demo.address], &[&rules()]).await;
    assert_eq!(prometheus.wait("up == 1").await.len(), 1);
    let stored = prometheus.wait("pg_partition_runway_seconds / 86400").await;
    assert_eq!(stored.len(), 2);
    assert!(stored.iter().all(|(_, days)| *days > 7.0), "{stored:?}");
    let rate = prometheus.wait("sum(rate(pg_query_duration_seconds_count[10s])) > 10").await;
    assert!(rate[0].1 < 500.0, "{rate:?}");
    let p95 = prometheus
        .wait("histogram_quantile(0.95, sum by (le) (rate(pg_query_duration_seconds_bucket[10s])))")
        .await;
    assert!(p95[0].1 > 0.0 && p95[0].1 < 1.0, "{p95:?}");
    // One scrape that a busy machine delays makes an alert pending for a moment.
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let firing = prometheus.query("ALERTS{severity=\"page\"}").await;
        assert!(firing.iter().all(|(l, _)| l["alertstate"] == "pending"), "it pages: {firing:?}");
        if firing.is_empty() {
            break;
        }
        assert!(Instant::now() < end, "a healthy demo is about to page: {firing:?}");
        sleep(Duration::from_millis(500)).await;
    }
    demo.stop().await;
}

#[tokio::test]
async fn the_reports_own_fault_is_paged() {
    let demo = Demo::start(&["--expire-orders"]).await;
    let text = demo.wait("runway", |t| value(t, RUNWAY, &table("orders")).is_some()).await;
    let days = value(&text, RUNWAY, &table("orders")).unwrap() / 86_400.0;
    assert!((-23.0..=-22.0).contains(&days), "{days} days");
    assert_eq!(value(&text, "pg_partition_covered", &table("orders")), Some(0.0));

    let prometheus = Prometheus::start(&[demo.address], &[&rules()]).await;
    let alerts = prometheus.wait("ALERTS{alertname=\"PostgresPartitionNotCovered\"}").await;
    assert_eq!(alerts.len(), 1);
    assert_eq!(alerts[0].0["relname"], "orders");
    assert_eq!(alerts[0].0["severity"], "page");
    let short = prometheus.wait("ALERTS{alertname=\"PostgresPartitionRunwayShort\"}").await;
    assert_eq!(short.len(), 1, "{short:?}");
    assert_eq!(short[0].0["relname"], "orders");
    demo.stop().await;
}
