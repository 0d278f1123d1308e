//! One cause, one notification: which alerts the shipped Alertmanager configuration mutes, asked of a
//! real Alertmanager.
//!
//! Must not: judge by the text of the configuration.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;
mod rules;

use std::collections::BTreeSet;
use std::time::Duration;

use common::alertmanager::Alertmanager;
use common::http;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// A page, or a warning, the lesser alert of the same thing, and the labels besides `instance` by which
/// it is the same thing.
const PAIRS: &[(&str, &str, &[&str])] = &[
    (
        "PostgresPartitionNotCovered",
        "PostgresPartitionRunwayShort",
        &["datname", "schemaname", "relname"],
    ),
    ("PostgresConnectionsExhausted", "PostgresConnectionsNearLimit", &[]),
    ("PgBouncerPoolExhausted", "PgBouncerClientWaitLong", &["database", "user"]),
    ("PgBouncerPoolExhausted", "PgBouncerClientsWaiting", &["database", "user"]),
    ("PgBouncerClientWaitLong", "PgBouncerClientsWaiting", &["database", "user"]),
    ("PostgresQueryLatencyHigh", "PostgresQueryLatencyMayBeHigh", &["datname"]),
    ("PostgresLatencyBudgetBurnFast", "PostgresLatencyBudgetBurnSlow", &["datname"]),
    ("PostgresWraparoundImminent", "PostgresWraparoundRisk", &["datname"]),
    ("PostgresArchiverFailing", "PostgresArchivingBehind", &[]),
    ("PostgresSessionsBlocked", "PostgresLockWaitLong", &["datname"]),
    ("PostgresSessionsBlocked", "PostgresQueryRunningLong", &["datname"]),
    ("PostgresStatementsMissing", "PgrunwayCollectorFailing", &["collector"]),
];

/// Labels of an alert, and whether it is to be notified.
struct Alert {
    labels: Value,
    told: bool,
}

fn alert(name: &str, instance: &str, told: bool) -> Alert {
    Alert { labels: json!({"alertname": name, "instance": instance, "job": "pgrunway"}), told }
}

/// Fails unless Alertmanager, told of all at once, would notify those and mute the others.
async fn assert_told(alerts: &[Alert]) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = std::fs::read_to_string(path.join("alerts/alertmanager.example.yml")).unwrap();
    let alertmanager = Alertmanager::start(&config).await;
    let all: Value = alerts.iter().map(|a| json!({"labels": a.labels})).collect();
    let answer = http::post(alertmanager.address, "/api/v2/alerts", &all).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told: BTreeSet<String> =
        alerts.iter().filter(|a| a.told).map(|a| a.labels.to_string()).collect();
    // It learns of the sources by and by; what it says must stay for two seconds.
    let (end, mut steady) = (Instant::now() + Duration::from_secs(20), 0);
    while steady < 10 {
        let known = alertmanager.alerts().await;
        let active = known.iter().filter(|a| a["status"]["state"] == "active");
        let active: BTreeSet<String> = active.map(|a| a["labels"].to_string()).collect();
        steady = if known.len() == alerts.len() && active == told { steady + 1 } else { 0 };
        let late = Instant::now() > end;
        assert!(!late, "notified: {active:#?}, and should be: {told:#?}");
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_server_a_pooler_or_an_exporter_that_is_gone_is_told_once() {
    let all = rules::rules();
    let down = ["PostgresDown", "PgBouncerDown", "PgrunwayDown"];
    let stay = ["PostgresPartitionNotCovered", "PostgresPartitionRunwayShort"];
    for gone in down {
        let mut alerts = vec![alert(gone, "db1", true)];
        for rule in all.iter().filter(|r| !down.contains(&&*r.alert)) {
            let mut this = alert(&rule.alert, "db1", stay.contains(&&*rule.alert));
            // A table of its own, or it would mute the other that stays.
            if rule.alert == stay[0] {
                this.labels["relname"] = "orders".into();
            }
            alerts.push(this);
        }
        alerts.push(alert("PostgresCacheHitRatioLow", "db2", true));
        assert_told(&alerts).await;
    }
}

#[tokio::test]
async fn an_alert_mutes_the_lesser_one_of_the_same_thing_only() {
    let mut all = Vec::new();
    for (n, (greater, lesser, labels)) in PAIRS.iter().enumerate() {
        let (here, there) = (format!("db{n}"), format!("db{n}-standby"));
        let mut alerts = vec![
            alert(greater, &here, true),
            alert(lesser, &here, false),
            alert(lesser, &there, true),
        ];
        // The same but for one label.
        alerts.extend(labels.iter().map(|_| alert(lesser, &here, true)));
        for (i, this) in alerts.iter_mut().enumerate() {
            for (j, label) in labels.iter().enumerate() {
                this.labels[*label] = if i == j + 3 { "another" } else { "one" }.into();
            }
        }
        all.extend(alerts);
    }
    assert_told(&all).await;
}
